package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

class HuggingFaceFolderTest {
    @TempDir
    private Path folder;

    static Stream<String> models() {
        return Stream.concat(Models.GOLDEN.stream(), Stream.of("austen-llama", "austen-opt"));
    }

    @ParameterizedTest
    @MethodSource("models")
    void everyModelOfTheFixturesOpens(String name) {
        try (HuggingFaceFolder model = HuggingFaceFolder.open(Models.folder(name))) {
            assertThat(model.config().getStrings("architectures")).hasSize(1);
            assertThat(model.names()).hasSizeGreaterThan(10);
            for (String tensor : model.names()) {
                assertThat(Floats.toArray(model.tensor(tensor))).as(tensor).doesNotContain(Float.NaN);
            }
        }
    }

    @Test
    void theConfigurationIsReadWithItsNestedObjects() {
        try (HuggingFaceFolder model = HuggingFaceFolder.open(Models.folder("llama3-rope-scaled"))) {
            assertThat(model.config().getString("model_type")).isEqualTo("llama");
            assertThat(model.config().getObject("rope_parameters").orElseThrow().getString("rope_type"))
                    .isEqualTo("llama3");
        }
    }

    @Test
    void shardsAreReadAsOneModel() throws IOException {
        shardedModel();
        try (HuggingFaceFolder model = HuggingFaceFolder.open(folder)) {
            assertThat(model.names()).containsExactly("a", "b", "c");
            assertThat(model.contains("c")).isTrue();
            assertThat(model.index().orElseThrow().totalSize()).hasValue(14);
            assertThat(model.tensor("c").data().toArray(ValueLayout.JAVA_BYTE)).containsExactly(1, 2);
            assertThat(model.bytes()).isEqualTo(sizes(shard(1), shard(2)));
        }
    }

    @Test
    void anUnknownTensorIsNamed() throws IOException {
        shardedModel();
        try (HuggingFaceFolder model = HuggingFaceFolder.open(folder)) {
            assertThat(model.contains("z")).isFalse();
            assertThatThrownBy(() -> model.tensor("z"))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("no tensor z")
                    .hasMessageContaining(folder.toString());
        }
    }

    @Test
    void tensorsEndWithTheirFolder() throws IOException {
        shardedModel();
        HuggingFaceFolder model = HuggingFaceFolder.open(folder);
        Tensor tensor = model.tensor("a");
        model.close();
        model.close();
        assertThatThrownBy(() -> tensor.data().get(ValueLayout.JAVA_BYTE, 0)).isInstanceOf(IllegalStateException.class);
    }

    @Test
    void theHashIsThatOfTheWeightFiles() throws IOException {
        shardedModel();
        Files.writeString(folder.resolve("tokenizer.json"), "not part of it");
        Sha256 expected = new Sha256();
        expected.add(Files.readAllBytes(folder.resolve(shard(1)))).add(Files.readAllBytes(folder.resolve(shard(2))));
        try (HuggingFaceFolder model = HuggingFaceFolder.open(folder)) {
            assertThat(model.sha256()).isEqualTo(expected.hex()).hasSize(64);
        }
    }

    @Test
    void whatIsNoModelFolderIsRefusedWithARemedy() throws IOException {
        assertRefused(folder.resolve("nowhere"), "does not exist");
        Path file = Files.writeString(folder.resolve("file"), "x");
        assertRefused(file, "is no folder");
        assertRefused(folder, "has no config.json");
        Files.writeString(folder.resolve("config.json"), "{}");
        assertRefused(folder, "neither model.safetensors nor model.safetensors.index.json; fetch the weights");
        Files.writeString(folder.resolve("pytorch_model.bin"), "x");
        assertRefused(folder, "pytorch_model.bin: convert it");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "[]",
                "null",
                "{",
                "{} {}",
                "{\"a\":1,\"a\":2}",
                "{\"a\":{\"b\":1,\"b\":1}}",
                "{a:1}",
                "{\"a\":01}",
                "\u00ef\u00bb\u00bf{}",
            })
    void aDamagedConfigurationIsRefused(String json) throws IOException {
        Files.write(folder.resolve("config.json"), json.getBytes(StandardCharsets.ISO_8859_1));
        assertRefused(folder, "config.json");
    }

    @Test
    void aDeepOrLongConfigurationIsRefused() throws IOException {
        Files.writeString(folder.resolve("config.json"), "{\"a\":" + "[".repeat(100_000));
        assertRefused(folder, "nests too deeply");
        Files.writeString(folder.resolve("config.json"), "{}" + " ".repeat(5 << 20));
        assertRefused(folder, "longer than");
        Files.delete(folder.resolve("config.json"));
        Files.createDirectory(folder.resolve("config.json"));
        assertRefused(folder, "no regular file");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../x.safetensors",
                "/x.safetensors",
                "sub/x.safetensors",
                "..",
                ".",
                "",
                "a\\\\b",
                "a\\u0000b",
                "a\\ud800b"
            })
    void shardsOutsideOfTheFolderAreRefused(String shard) throws IOException {
        Files.writeString(folder.resolve("config.json"), "{}");
        index("{\"weight_map\":{\"a\":\"" + shard + "\"}}");
        assertRefused(folder, "no plain file name");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{}",
                "[]",
                "{\"weight_map\":{}}",
                "{\"weight_map\":[]}",
                "{\"weight_map\":{\"a\":1}}",
                "{\"weight_map\":{\"a\":\"s\",\"a\":\"s\"}}",
                "{\"weight_map\":{}} x",
                "{\"weight_map\"",
                "{\"metadata\":1}",
                "{\"metadata\":{\"total_size\":-1}}",
                "{\"metadata\":{\"total_size\":1e300}}",
            })
    void aDamagedIndexIsRefused(String json) throws IOException {
        Files.writeString(folder.resolve("config.json"), "{}");
        index(json);
        assertRefused(folder, HuggingFaceFolder.INDEX);
    }

    @Test
    void anIndexThatDoesNotFitItsShardsIsRefused() throws IOException {
        shardedModel();
        index(shardedIndex().replace("\"b\":", "\"z\":"));
        assertRefused(folder, "holds tensor z, but it does not");
        index(shardedIndex().replace("\"b\": \"" + shard(1) + "\",", ""));
        assertRefused(folder, "holds tensor b, which");
        index(shardedIndex().replace(shard(2), "model-00003.safetensors"));
        assertRefused(folder, "not in the folder");
    }

    @Test
    void linksMayNotLeadOutOfTheFolder(@TempDir Path elsewhere) throws IOException {
        Path outside = new SafetensorsFile().write(elsewhere.resolve("model.safetensors"));
        Files.writeString(folder.resolve("config.json"), "{}");
        Path link = folder.resolve("model.safetensors");
        Files.createSymbolicLink(link, outside);
        assertRefused(folder, "leads out of the folder");

        Files.delete(link);
        Files.move(outside, folder.resolve("real"));
        Files.createSymbolicLink(link, folder.resolve("real"));
        HuggingFaceFolder.open(folder).close();
    }

    @Test
    void aSnapshotOfTheDownloadCacheMayLinkToItsBlobs() throws IOException {
        Path blobs = Files.createDirectory(folder.resolve("blobs"));
        Path snapshot = Files.createDirectories(folder.resolve("snapshots/0123"));
        Files.writeString(blobs.resolve("c"), "{}");
        new SafetensorsFile().write(blobs.resolve("w"));
        Files.createSymbolicLink(snapshot.resolve("config.json"), Path.of("../../blobs/c"));
        Files.createSymbolicLink(snapshot.resolve("model.safetensors"), Path.of("../../blobs/w"));
        HuggingFaceFolder.open(snapshot).close();
    }

    @Test
    void damagedFoldersEndInOneTypedError() throws IOException {
        shardedModel();
        String[] names = {"config.json", HuggingFaceFolder.INDEX, shard(1)};
        int refused = 0;
        for (int seed = 0; seed < 2000; seed++) {
            Random random = new Random(seed);
            Path file = folder.resolve(names[random.nextInt(names.length)]);
            byte[] whole = Files.readAllBytes(file);
            byte[] damaged = whole.clone();
            damaged[random.nextInt(damaged.length)] = (byte) random.nextInt(256);
            damaged[random.nextInt(damaged.length)] ^= (byte) (1 << random.nextInt(8));
            Files.write(file, damaged);
            try (HuggingFaceFolder model = HuggingFaceFolder.open(folder)) {
                assertThat(model.names()).isNotEmpty();
            } catch (FormatException e) {
                refused++;
            } catch (RuntimeException | Error e) {
                throw new AssertionError("seed " + seed, e);
            }
            Files.write(file, whole);
        }
        assertThat(refused).isBetween(500, 1999);
    }

    private static String shard(int number) {
        return "model-0000" + number + "-of-00002.safetensors";
    }

    private static String shardedIndex() {
        return """
                {
                  "metadata": {
                    "total_size": 14
                  },
                  "weight_map": {
                    "a": "%1$s",
                    "b": "%1$s",
                    "c": "%2$s"
                  }
                }
                """.formatted(shard(1), shard(2));
    }

    private void shardedModel() throws IOException {
        Files.writeString(folder.resolve("config.json"), "{\"model_type\": \"test\"}");
        new SafetensorsFile()
                .tensor("a", DType.F32, SafetensorsFile.counting(8), 2)
                .tensor("b", DType.F16, SafetensorsFile.counting(4), 2)
                .write(folder.resolve(shard(1)));
        new SafetensorsFile()
                .tensor("c", DType.U8, SafetensorsFile.counting(2), 2)
                .write(folder.resolve(shard(2)));
        index(shardedIndex());
    }

    private void index(String json) throws IOException {
        Files.writeString(folder.resolve(HuggingFaceFolder.INDEX), json);
    }

    private long sizes(String... names) throws IOException {
        long sum = 0;
        for (String name : names) {
            sum += Files.size(folder.resolve(name));
        }
        return sum;
    }

    private static void assertRefused(Path folder, String fact) {
        assertThatThrownBy(() -> HuggingFaceFolder.open(folder).close())
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(fact);
    }
}
