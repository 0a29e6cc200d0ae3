package org.sentei.format;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.ShortBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.LongConsumer;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;

/**
 * Synthetic checkpoints in the shapes of Llama models: random weights that behave like a model's, for measuring speed and
 * memory where no real model of the size is at hand. What they compute means nothing.
 *
 * <p>A tensor's bytes depend on the seed, its name and its shape alone. Weights are normally distributed with the variance
 * {@code 1 / inputs}, divided by twice the number of blocks where they write to the residual stream, so that activations
 * keep their scale at any depth. The tokenizer has one token a byte.
 */
public enum SyntheticLlama {
    /** A few hundred kilobytes in several shards, for tests. */
    TINY("tiny", 64, 176, 3, 4, 2, 512, 128, 1 << 17),
    /** The shape of TinyLlama 1.1B (2401.02385). */
    B1("1b", 2048, 5632, 22, 32, 4, 32_000, 2048, 1_000_000_000L),
    /** The shape of Llama 2 7B (2307.09288). */
    B7("7b", 4096, 11_008, 32, 32, 32, 32_000, 4096, 5_000_000_000L),
    /** The shape of Llama 2 70B (2307.09288). */
    B70("70b", 8192, 28_672, 80, 64, 8, 32_000, 4096, 5_000_000_000L);

    private static final DType DTYPE = DType.BF16;
    private static final int CHUNK = 1 << 19;
    private static final int LANES = Long.BYTES / Short.BYTES;
    /** Bytes are tokens, and each needs a character that text may hold: those that have none get one from here on. */
    private static final int FIRST_SPARE_CHARACTER = 256;

    private final String key;
    private final int width;
    private final int inner;
    private final int blocks;
    private final int heads;
    private final int keyHeads;
    private final int vocabulary;
    private final int positions;
    private final long shardBytes;

    SyntheticLlama(
            String key,
            int width,
            int inner,
            int blocks,
            int heads,
            int keyHeads,
            int vocabulary,
            int positions,
            long shardBytes) {
        this.key = key;
        this.width = width;
        this.inner = inner;
        this.blocks = blocks;
        this.heads = heads;
        this.keyHeads = keyHeads;
        this.vocabulary = vocabulary;
        this.positions = positions;
        this.shardBytes = shardBytes;
    }

    /**
     * A tensor to be drawn.
     *
     * @param mean of its elements
     * @param deviation their standard deviation
     */
    private record Drawn(String name, Shape shape, double mean, double deviation) {
        long bytes() {
            return DTYPE.bytesFor(shape.elements());
        }
    }

    /** Name of the shape as the command line takes it, for example {@code 7b}. */
    public String key() {
        return key;
    }

    /** Elements of all tensors. */
    public long parameters() {
        return tensors().stream().mapToLong(tensor -> tensor.shape().elements()).sum();
    }

    /** Bytes of all tensors. */
    public long bytes() {
        return DTYPE.bytesFor(parameters());
    }

    /**
     * Writes a checkpoint as a Hugging Face folder: configuration, tokenizer, index and shards. Takes a few megabytes of
     * memory, whatever the shape.
     *
     * @param target absent or empty; nothing appears there unless everything went well
     * @param written hears from time to time how many bytes of tensors are done; may throw to end the work
     * @throws FormatException when the target is not free
     * @throws IOException when it cannot be written, for example because the disk is full
     */
    public void write(Path target, long seed, LongConsumer written) throws IOException {
        try (OutputFolder output = OutputFolder.create(target)) {
            List<List<Drawn>> shards = shards();
            Map<String, String> weightMap = new LinkedHashMap<>();
            Writer writer = new Writer(seed, written);
            for (int shard = 0; shard < shards.size(); shard++) {
                String name = String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", shard + 1, shards.size());
                shards.get(shard).forEach(tensor -> weightMap.put(tensor.name(), name));
                writer.write(shards.get(shard), output.path().resolve(name));
            }
            put(
                    output,
                    HuggingFaceFolder.INDEX,
                    Map.of("metadata", Map.of("total_size", bytes()), "weight_map", weightMap));
            put(output, "tokenizer.json", tokenizer());
            put(output, HuggingFaceFolder.CONFIG, config(seed));
            output.commit();
        }
    }

    private static void put(OutputFolder output, String name, Map<String, ?> document) throws IOException {
        Files.writeString(output.path().resolve(name), Json.text(document) + "\n");
    }

    private List<Drawn> tensors() {
        List<Drawn> tensors = new ArrayList<>();
        long keyWidth = (long) width / heads * keyHeads;
        double residual = 1 / Math.sqrt(2.0 * blocks);
        tensors.add(new Drawn("model.embed_tokens.weight", Shape.of(vocabulary, width), 0, 1));
        for (int block = 0; block < blocks; block++) {
            String base = "model.layers." + block + ".";
            tensors.add(norm(base + "input_layernorm"));
            tensors.add(linear(base + "self_attn.q_proj", width, width, 1));
            tensors.add(linear(base + "self_attn.k_proj", keyWidth, width, 1));
            tensors.add(linear(base + "self_attn.v_proj", keyWidth, width, 1));
            tensors.add(linear(base + "self_attn.o_proj", width, width, residual));
            tensors.add(norm(base + "post_attention_layernorm"));
            tensors.add(linear(base + "mlp.gate_proj", inner, width, 1));
            tensors.add(linear(base + "mlp.up_proj", inner, width, 1));
            tensors.add(linear(base + "mlp.down_proj", width, inner, residual));
        }
        tensors.add(norm("model.norm"));
        tensors.add(linear("lm_head", vocabulary, width, 1));
        return tensors;
    }

    private Drawn norm(String base) {
        return new Drawn(base + ".weight", Shape.of(width), 1, 0.1);
    }

    private static Drawn linear(String base, long rows, long cols, double scale) {
        return new Drawn(base + ".weight", Shape.of(rows, cols), 0, scale / Math.sqrt((double) cols));
    }

    private List<List<Drawn>> shards() {
        List<List<Drawn>> shards = new ArrayList<>();
        long bytes = Long.MAX_VALUE;
        for (Drawn tensor : tensors()) {
            if (bytes > shardBytes - tensor.bytes()) {
                shards.add(new ArrayList<>());
                bytes = 0;
            }
            shards.getLast().add(tensor);
            bytes += tensor.bytes();
        }
        return shards;
    }

    private Map<String, Object> config(long seed) {
        Map<String, Object> config = new LinkedHashMap<>();
        config.put("architectures", List.of("LlamaForCausalLM"));
        config.put("model_type", "llama");
        config.put("synthetic", Map.of("shape", key, "seed", seed));
        config.put("hidden_size", width);
        config.put("intermediate_size", inner);
        config.put("num_hidden_layers", blocks);
        config.put("num_attention_heads", heads);
        config.put("num_key_value_heads", keyHeads);
        config.put("vocab_size", vocabulary);
        config.put("max_position_embeddings", positions);
        config.put("hidden_act", "silu");
        config.put("rms_norm_eps", 1e-5);
        config.put("rope_theta", 10_000.0);
        config.put("attention_bias", false);
        config.put("mlp_bias", false);
        config.put("tie_word_embeddings", false);
        config.put("torch_dtype", "bfloat16");
        return config;
    }

    /** Byte pairs without any pair: text becomes its bytes, each by the character that stands for it. */
    private static Map<String, Object> tokenizer() {
        Map<String, Integer> vocabulary = new LinkedHashMap<>();
        int spare = FIRST_SPARE_CHARACTER;
        for (int value = 0; value < 256; value++) {
            boolean printable = (value > ' ' && value < 0x7f) || (value > 0xa0 && value != 0xad);
            vocabulary.put(Character.toString(printable ? value : spare++), value);
        }
        Map<String, Object> bytes = Map.of("type", "ByteLevel", "add_prefix_space", false, "trim_offsets", true);
        Map<String, Object> document = new LinkedHashMap<>();
        document.put("version", "1.0");
        document.put("added_tokens", List.of());
        document.put("pre_tokenizer", bytes);
        document.put("decoder", bytes);
        document.put("model", Map.of("type", "BPE", "vocab", vocabulary, "merges", List.of()));
        return document;
    }

    /** Draws tensors by a table of normally distributed numbers: a draw of its own for each takes five times as long. */
    private static final class Writer {
        private final long seed;
        private final LongConsumer written;
        private final double[] normal = new double[1 << Short.SIZE];
        private final short[] table = new short[normal.length];
        private final ByteBuffer chunk =
                ByteBuffer.allocateDirect(CHUNK * Short.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        private final short[] values = new short[CHUNK];
        private long done;

        Writer(long seed, LongConsumer written) {
            this.seed = seed;
            this.written = written;
            SplittableRandom random = new SplittableRandom(seed);
            for (int i = 0; i < normal.length; i++) {
                normal[i] = random.nextGaussian();
            }
        }

        void write(List<Drawn> tensors, Path file) throws IOException {
            Map<String, Object> header = new LinkedHashMap<>();
            header.put(Safetensors.METADATA, Map.of("format", "pt"));
            long end = 0;
            for (Drawn tensor : tensors) {
                end = SafetensorsWriter.addEntry(header, tensor.name(), DTYPE, tensor.shape(), end);
            }
            byte[] padded = SafetensorsWriter.padded(Json.text(header).getBytes(StandardCharsets.UTF_8));
            try (FileChannel out = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                SafetensorsWriter.writeHeader(out, ByteBuffer.wrap(padded));
                for (Drawn tensor : tensors) {
                    draw(tensor, out);
                }
            }
        }

        private void draw(Drawn tensor, FileChannel out) throws IOException {
            for (int i = 0; i < table.length; i++) {
                table[i] = Floats.toBfloat16((float) (tensor.mean() + tensor.deviation() * normal[i]));
            }
            SplittableRandom random =
                    new SplittableRandom(seed ^ ((long) tensor.name().hashCode() << Integer.SIZE));
            for (long first = 0; first < tensor.shape().elements(); first += CHUNK) {
                int count = (int) Math.min(CHUNK, tensor.shape().elements() - first);
                for (int i = 0; i < count; i += LANES) {
                    long bits = random.nextLong();
                    for (int lane = 0; lane < LANES && i + lane < count; lane++) {
                        values[i + lane] = table[(int) (bits >>> (lane * Short.SIZE)) & 0xffff];
                    }
                }
                ShortBuffer target = chunk.clear().asShortBuffer();
                target.put(values, 0, count);
                SafetensorsWriter.writeFully(out, chunk.limit(count * Short.BYTES));
                done += (long) count * Short.BYTES;
                written.accept(done);
            }
        }
    }
}
