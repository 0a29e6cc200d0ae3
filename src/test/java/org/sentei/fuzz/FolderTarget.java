package org.sentei.fuzz;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.sentei.format.Models;

/** A model folder of which one file is damaged: the configuration, the weights or the index of shards. */
final class FolderTarget implements FuzzTarget {
    private static final List<String> MODELS = List.of(
            "bert-variant",
            "gpt2-variant",
            "llama-variant",
            "llama3-rope-scaled",
            "mistral-window",
            "opt-variant",
            "qwen2-bias",
            "qwen3-variant");
    private static final int PREFIX_BYTES = 8;

    /** The file that is damaged. */
    enum Part {
        CONFIG("config.json"),
        SAFETENSORS("model.safetensors"),
        INDEX("model.safetensors.index.json");

        private final String file;

        Part(String file) {
            this.file = file;
        }
    }

    /** A sound model in a folder of its own. */
    private static final class Seed {
        private final Path folder;
        private final boolean packed;
        private final byte[] bytes;
        private final JsonMutator.Node json;

        Seed(Path folder, boolean packed, byte[] bytes, JsonMutator.Node json) {
            this.folder = folder;
            this.packed = packed;
            this.bytes = bytes;
            this.json = json;
        }
    }

    private final Part part;
    private final List<Seed> seeds = new ArrayList<>();
    private final List<String> dictionary;

    FolderTarget(Part part) {
        this.part = part;
        this.dictionary = switch (part) {
            case CONFIG -> configDictionary();
            case SAFETENSORS ->
                List.of(
                        "\"F32\"",
                        "\"F16\"",
                        "\"BF16\"",
                        "\"F4\"",
                        "\"F6_E2M3\"",
                        "\"C64\"",
                        "\"BOOL\"",
                        "\"F64\"",
                        "\"I64\"",
                        "\"__metadata__\"",
                        "\"dtype\"",
                        "\"shape\"",
                        "\"data_offsets\"",
                        "[0,0]",
                        "[]",
                        "[4,4]",
                        "[9223372036854775807,9223372036854775807]",
                        "[2,0,9223372036854775807]",
                        "[0,4]");
            case INDEX ->
                List.of(
                        "\"one.safetensors\"",
                        "\"two.safetensors\"",
                        "\"model.safetensors\"",
                        "\"..\"",
                        "\".\"",
                        "\"a/b\"",
                        "\"\\\\\"",
                        "\"con:\"",
                        "\"weight_map\"",
                        "\"metadata\"",
                        "\"total_size\"",
                        "{\"total_size\":-1}",
                        "{\"total_size\":1e300}",
                        "{\"total_size\":NaN}",
                        "\"config.json\"");
        };
    }

    private static List<String> configDictionary() {
        List<String> words =
                new ArrayList<>(List.of("\"linear\"", "\"llama3\"", "\"dynamic\"", "\"gelu\"", "\"silu\""));
        for (String model : MODELS) {
            try {
                new ObjectMapper()
                        .readTree(Files.readString(Models.folder(model).resolve("config.json")))
                        .properties()
                        .forEach(entry -> {
                            words.add("\"" + entry.getKey() + "\"");
                            words.add(entry.getValue().toString());
                        });
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
        return words;
    }

    private void prepare(Path folder) throws IOException {
        ModelUse.prepare(Files.createDirectories(folder));
        for (String model : MODELS) {
            Path copy = Files.createDirectories(folder.resolve(model));
            Path source = Models.folder(model);
            Files.copy(source.resolve("config.json"), copy.resolve("config.json"));
            if (part == Part.INDEX) {
                shard(source, copy);
            } else {
                Files.copy(source.resolve("model.safetensors"), copy.resolve("model.safetensors"));
            }
            byte[] bytes = Files.readAllBytes(copy.resolve(part.file));
            String text = part == Part.SAFETENSORS ? header(bytes) : new String(bytes, StandardCharsets.UTF_8);
            seeds.add(new Seed(copy, false, bytes, JsonMutator.parse(text)));
        }
        if (part == Part.SAFETENSORS) {
            for (String model : List.of("llama-variant", "bert-variant", "opt-variant")) {
                Path packed = folder.resolve("packed-" + model);
                ModelUse.pack(folder.resolve(model), packed);
                byte[] bytes = Files.readAllBytes(packed.resolve(part.file));
                seeds.add(new Seed(packed, true, bytes, JsonMutator.parse(header(bytes))));
            }
        }
    }

    private static String header(byte[] file) {
        int length = (int) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong();
        return new String(file, PREFIX_BYTES, length, StandardCharsets.UTF_8);
    }

    private static byte[] file(String header, byte[] data, int begin, int end) {
        byte[] text = header.getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(PREFIX_BYTES + text.length + end - begin)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(text.length)
                .put(text)
                .put(data, begin, end - begin)
                .array();
    }

    /** Lays the tensors of a model into two files with an index. */
    private static void shard(Path source, Path target) throws IOException {
        ObjectMapper mapper = new ObjectMapper();
        byte[] whole = Files.readAllBytes(source.resolve("model.safetensors"));
        String header = header(whole);
        int dataBegin = PREFIX_BYTES + header.getBytes(StandardCharsets.UTF_8).length;
        Map<String, String> placed = new LinkedHashMap<>();
        List<Map<String, Object>> headers = List.of(new LinkedHashMap<>(), new LinkedHashMap<>());
        int[] ends = new int[2];
        byte[][] data = {new byte[whole.length], new byte[whole.length]};
        mapper.readTree(header).properties().forEach(entry -> {
            if (entry.getKey().equals("__metadata__")) {
                return;
            }
            int shard = placed.size() % 2;
            int begin = entry.getValue().at("/data_offsets/0").asInt();
            int length = entry.getValue().at("/data_offsets/1").asInt() - begin;
            System.arraycopy(whole, dataBegin + begin, data[shard], ends[shard], length);
            headers.get(shard)
                    .put(
                            entry.getKey(),
                            Map.of(
                                    "dtype",
                                    entry.getValue().get("dtype"),
                                    "shape",
                                    entry.getValue().get("shape"),
                                    "data_offsets",
                                    List.of(ends[shard], ends[shard] + length)));
            ends[shard] += length;
            placed.put(entry.getKey(), shard == 0 ? "one.safetensors" : "two.safetensors");
        });
        for (int shard = 0; shard < 2; shard++) {
            Files.write(
                    target.resolve(shard == 0 ? "one.safetensors" : "two.safetensors"),
                    file(mapper.writeValueAsString(headers.get(shard)), data[shard], 0, ends[shard]));
        }
        Map<String, Object> index = new LinkedHashMap<>();
        index.put("metadata", Map.of("total_size", ends[0] + ends[1]));
        index.put("weight_map", placed);
        Files.writeString(target.resolve(Part.INDEX.file), mapper.writeValueAsString(index));
    }

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        if (seeds.isEmpty()) {
            prepare(folder);
        }
        Seed seed = seeds.get(random.nextInt(seeds.size()));
        byte[] damaged;
        if (random.nextInt(4) == 0) {
            // the interesting bytes of a weights file are those before its data, unless the data hold masks
            int reach = part == Part.SAFETENSORS && !seed.packed && random.nextInt(8) != 0
                    ? PREFIX_BYTES + header(seed.bytes).length()
                    : seed.bytes.length;
            byte[] head = ByteMutator.mutate(Arrays.copyOf(seed.bytes, reach), random);
            damaged = Arrays.copyOf(head, head.length + seed.bytes.length - reach);
            System.arraycopy(seed.bytes, reach, damaged, head.length, seed.bytes.length - reach);
        } else {
            String text = JsonMutator.mutate(seed.json, random, dictionary);
            damaged = part == Part.SAFETENSORS
                    ? file(text, seed.bytes, PREFIX_BYTES + header(seed.bytes).length(), seed.bytes.length)
                    : text.getBytes(StandardCharsets.UTF_8);
        }
        Path input = seed.folder.resolve(part.file);
        Files.write(input, damaged);
        return new Case(input, List.of(seed.folder.getFileName().toString(), "tensor ", "site ", "calibration"), () -> {
            ModelUse.folder(seed.folder, random);
            if (seed.packed && random.nextInt(4) == 0) {
                ModelUse.unpack(seed.folder);
            }
        });
    }
}
