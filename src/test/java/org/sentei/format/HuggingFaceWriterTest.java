package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class HuggingFaceWriterTest {
    @TempDir
    private Path folder;

    private Path model;
    private Path target;

    @BeforeEach
    void makeFolders() throws IOException {
        model = Files.createDirectory(folder.resolve("model"));
        target = folder.resolve("out");
    }

    static Stream<String> models() {
        return HuggingFaceFolderTest.models();
    }

    @ParameterizedTest
    @MethodSource("models")
    void withoutEditsTheCopyIsIdentical(String name) throws IOException {
        assertThat(write(Models.folder(name), List.of(), Map.of())).isEmpty();
        assertSameFiles(Models.folder(name), target, List.of());
    }

    @ParameterizedTest
    @CsvSource({"F64,false", "F32,false", "F16,false", "BF16,false", "F64,true", "F32,true", "F16,true", "BF16,true"})
    void prunedWeightsBecomeZeroAndOthersKeepTheirBits(DType dtype, boolean transposed) throws IOException {
        int rows = 37;
        int cols = 611;
        Random random = new Random(5);
        byte[] weight = new byte[Math.toIntExact(dtype.bytesFor((long) rows * cols))];
        random.nextBytes(weight);
        long[] shape = transposed ? new long[] {cols, rows} : new long[] {rows, cols};
        single(new SafetensorsFile()
                .tensor("before", DType.U8, SafetensorsFile.counting(8), 8)
                .tensor("w", dtype, weight, shape)
                .tensor("after", DType.F16, SafetensorsFile.counting(6), 3));
        BitMask mask = BitMask.none(rows, cols);
        byte[] expected = weight.clone();
        for (int row = 0; row < rows; row++) {
            for (int col = 0; col < cols; col++) {
                if (random.nextInt(3) == 0) {
                    mask.set(row, col);
                    int at = dtype.bytes() * (transposed ? col * rows + row : row * cols + col);
                    Arrays.fill(expected, at, at + dtype.bytes(), (byte) 0);
                }
            }
        }

        write(model, List.of(new Edit(site("w", null, rows, cols, transposed), mask, null)), Map.of());

        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            assertThat(bytes(output, "w")).isEqualTo(expected);
            assertThat(bytes(output, "before")).isEqualTo(SafetensorsFile.counting(8));
            assertThat(bytes(output, "after")).isEqualTo(SafetensorsFile.counting(6));
        }
        assertThat(header(target)).isEqualTo(header(model));
    }

    @ParameterizedTest
    @CsvSource({"F64,false", "F32,false", "F16,false", "BF16,false", "F64,true", "F32,true", "F16,true", "BF16,true"})
    void newWeightsAreRoundedToTheFilesTypeAndPrunedOnesAreZero(DType dtype, boolean transposed) throws IOException {
        int rows = 31;
        int cols = 45;
        long[] shape = transposed ? new long[] {cols, rows} : new long[] {rows, cols};
        byte[] old = new byte[Math.toIntExact(dtype.bytesFor((long) rows * cols))];
        Arrays.fill(old, (byte) 0x7f);
        single(new SafetensorsFile().tensor("w", dtype, old, shape).tensor("after", DType.U8, new byte[3], 3));
        Random random = new Random(6);
        BitMask mask = BitMask.none(rows, cols);
        float[] values = new float[rows * cols];
        for (int i = 0; i < values.length; i++) {
            if (random.nextBoolean()) {
                mask.set(i / cols, i % cols);
            } else {
                values[i] = (float) random.nextGaussian();
            }
        }

        write(model, List.of(withWeight(site("w", null, rows, cols, transposed), mask, values)), Map.of());

        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            float[] written = Floats.toArray(output.tensor("w"));
            float[] expected = rounded(values, dtype);
            for (int i = 0; i < values.length; i++) {
                int at = transposed ? i % cols * rows + i / cols : i;
                assertThat(Float.floatToRawIntBits(written[at])).isEqualTo(Float.floatToRawIntBits(expected[i]));
            }
        }
        assertThat(header(target)).isEqualTo(header(model));
    }

    @Test
    void newWeightsThatDoNotFitAreRefused() throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F16, new byte[4], 1, 2));
        Site site = site("w", null, 1, 2, false);
        BitMask first = BitMask.none(1, 2);
        first.set(0, 0);
        assertRefused(withWeight(site, first, 0, 70_000f), "weight w of site w has the value 70000.0 at 1, which F16");
        assertThatThrownBy(() -> withWeight(site, first, 1, 2)).hasMessageContaining("which its mask prunes");
        assertThatThrownBy(() -> withWeight(site, first, -0f, 2)).hasMessageContaining("which its mask prunes");
        Tensor turned = new Tensor("w", DType.F32, Shape.of(2, 1), MemorySegment.ofArray(new float[2]));
        assertThatThrownBy(() -> new Edit(site, first, turned, null))
                .hasMessageContaining("needs a weight w of F32 [1, 2]");
    }

    @Test
    void weightsLongerThanAChunkArePrunedEverywhere() throws IOException {
        int rows = 3;
        int cols = 1_000_003;
        byte[] weight = new byte[2 * rows * cols];
        Arrays.fill(weight, (byte) 0x3f);
        single(new SafetensorsFile().tensor("w", DType.BF16, weight, rows, cols));
        BitMask mask = BitMask.none(rows, cols);
        for (int row = 0; row < rows; row++) {
            for (int col = row; col < cols; col += 7) {
                mask.set(row, col);
            }
        }

        write(model, List.of(new Edit(site("w", null, rows, cols, false), mask, null)), Map.of());

        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            MemorySegment data = output.tensor("w").data();
            for (int row = 0; row < rows; row++) {
                for (int col = 0; col < cols; col++) {
                    short bits = data.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, (long) row * cols + col);
                    if (bits != (mask.get(row, col) ? 0 : 0x3f3f)) {
                        throw new AssertionError("row " + row + ", column " + col + ": " + bits);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"F64", "F32", "F16", "BF16"})
    void anExistingBiasIsRoundedToItsOwnType(DType dtype) throws IOException {
        float[] bias = {1.0001f, -3.14159f, 1e-3f};
        single(new SafetensorsFile()
                .tensor("b", dtype, new byte[Math.toIntExact(dtype.bytesFor(3))], 3)
                .tensor("w", DType.F32, new byte[24], 3, 2));

        write(model, List.of(edit(site("w", "b", 3, 2, false), "b", bias)), Map.of());

        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            assertThat(output.tensor("b").dtype()).isEqualTo(dtype);
            assertThat(Floats.toArray(output.tensor("b"))).isEqualTo(rounded(bias, dtype));
        }
        assertThat(header(target)).isEqualTo(header(model));
    }

    @Test
    void aNewBiasTakesTheTypeOfItsWeightAndLeavesTheRestOfTheHeader() throws IOException {
        single(new SafetensorsFile()
                .metadata("{\"format\": \"pt\",  \"note\":\"\\u00e9\"}")
                .tensor("w", DType.BF16, SafetensorsFile.counting(8), 2, 2)
                .tensor("v", DType.F32, SafetensorsFile.counting(8), 1, 2));
        float[] bias = {1.0001f, -7.3f};

        write(
                model,
                List.of(
                        edit(site("w", null, 2, 2, false), "w.bias", bias),
                        edit(site("v", null, 1, 2, false), "v.bias", 0.25f)),
                Map.of("attention_bias", true));

        String before = header(model).strip();
        String after = header(target);
        assertThat(after).startsWith(before.substring(0, before.length() - 1) + ",\"v.bias\":{\"dtype\":\"F32\"");
        assertThat((8 + after.length()) % 8).isZero();
        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            assertThat(output.names()).containsExactly("w", "v", "v.bias", "w.bias");
            assertThat(output.tensor("w.bias").dtype()).isEqualTo(DType.BF16);
            assertThat(output.tensor("w.bias").shape()).isEqualTo(Shape.of(2));
            assertThat(Floats.toArray(output.tensor("w.bias"))).isEqualTo(rounded(bias, DType.BF16));
            assertThat(Floats.toArray(output.tensor("v.bias"))).containsExactly(0.25f);
            assertThat(bytes(output, "w")).isEqualTo(SafetensorsFile.counting(8));
            assertThat(bytes(output, "v")).isEqualTo(SafetensorsFile.counting(8));
        }
        assertThat(target.resolve("config.json"))
                .hasContent("{\n  \"unknown\": [1.50, Infinity],\n  \"attention_bias\": true\n}\n");
    }

    @Test
    void aNewBiasOfAShardIsAddedToTheIndex() throws IOException {
        sharded();

        write(model, List.of(edit(site("b", null, 2, 1, false), "b.bias", 1, 2)), Map.of());

        assertThat(target.resolve(HuggingFaceFolder.INDEX))
                .hasContent(Files.readString(model.resolve(HuggingFaceFolder.INDEX))
                        .replace("\"total_size\": 16.0", "\"total_size\": 20")
                        .replace("\"b\": \"s2\"", "\"b\": \"s2\",\n    \"b.bias\": \"s2\""));
        assertThat(target.resolve("s1")).hasSameBinaryContentAs(model.resolve("s1"));
        try (HuggingFaceFolder output = HuggingFaceFolder.open(target)) {
            assertThat(output.names()).containsExactly("a", "b", "b.bias");
            assertThat(output.tensor("b.bias").dtype()).isEqualTo(DType.F16);
            assertThat(Floats.toArray(output.tensor("b.bias"))).containsExactly(1, 2);
        }
    }

    @Test
    void otherFilesAreCopiedAndOtherWeightsAreNamed() throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F32, new byte[4], 1, 1));
        Files.createDirectories(model.resolve("sub/deep"));
        Files.writeString(model.resolve("sub/deep/note.txt"), "kept");
        Files.writeString(model.resolve("tokenizer.json"), "{}");
        Files.writeString(model.resolve("pytorch_model.bin"), "dense");
        Files.createSymbolicLink(model.resolve("link.txt"), Path.of("sub/deep/note.txt"));

        List<String> warnings = write(model, List.of(edit(site("w", null, 1, 1, false), "w.bias", 1)), Map.of("a", 1));

        assertThat(warnings).singleElement().asString().contains("pytorch_model.bin");
        assertSameFiles(model, target, List.of("config.json", "model.safetensors"));
        assertThat(target.resolve("link.txt")).hasContent("kept");
    }

    @Test
    void editsThatDoNotFitAreRefusedBeforeAnythingIsWritten() throws IOException {
        single(new SafetensorsFile()
                .tensor("w", DType.F32, new byte[24], 2, 3)
                .tensor("q", DType.I8, new byte[6], 2, 3)
                .tensor("b", DType.F32, new byte[12], 3));
        Site site = site("w", "b", 2, 3, false);
        assertRefused(edit(site("w", null, 3, 2, false), "c", 1, 2, 3), "tensor w has shape 2x3");
        assertRefused(edit(site("w", null, 2, 3, true), "c", 1, 2), "tensor w has shape 2x3");
        assertRefused(edit(site("z", null, 2, 3, false), "c", 1, 2), "no tensor z");
        assertRefused(edit(site("q", null, 2, 3, false), "c", 1, 2), "tensor q is I8");
        assertRefused(edit(site, "b", 1, 2), "bias b has 3 elements");
        assertRefused(edit(site, "c", 1, Float.NaN), "bias c of site w has the value NaN");
        Edit twice = edit(site, "c", 1, 2);
        assertThatThrownBy(() -> write(model, List.of(twice, twice), Map.of()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("edited twice");
        assertThat(folder.toFile().list()).containsExactly("model");
    }

    @Test
    void aBiasThatItsTypeCannotHoldIsRefused() throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F16, new byte[2], 1, 1));
        assertRefused(edit(site("w", null, 1, 1, false), "b", 70_000f), "F16 cannot hold");
    }

    @Test
    void aBiasThatCannotBeAlignedIsRefused() throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F32, new byte[4], 1, 1).tensor("odd", DType.U8, new byte[3], 3));
        assertThatThrownBy(() -> write(model, List.of(edit(site("w", null, 1, 1, false), "b", 1f)), Map.of()))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("odd byte 7");
        assertThat(folder.toFile().list()).containsExactly("model");
    }

    @Test
    void aFailureOnTheWayLeavesNothing(@TempDir Path elsewhere) throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F32, new byte[4], 1, 1));
        Files.createSymbolicLink(model.resolve("stolen"), Files.writeString(elsewhere.resolve("secret"), "x"));
        assertThatThrownBy(() -> write(model, List.of(), Map.of()))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("leads out of the folder");
        assertThat(folder.toFile().list()).containsExactly("model");

        Files.delete(model.resolve("stolen"));
        Files.createDirectory(model.resolve("sub"));
        Files.createSymbolicLink(model.resolve("folder"), Path.of("sub"));
        assertThatThrownBy(() -> write(model, List.of(), Map.of()))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("links to what is no file");
        assertThat(folder.toFile().list()).containsExactly("model");
    }

    @Test
    void theOutputMayNotLieInsideOfTheModel() throws IOException {
        single(new SafetensorsFile().tensor("w", DType.F32, new byte[4], 1, 1));
        target = model.resolve("out");
        assertThatThrownBy(() -> write(model, List.of(), Map.of()))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("inside of the model's own folder");
        assertThat(model.toFile().list()).containsExactlyInAnyOrder("config.json", "model.safetensors");
    }

    private void single(SafetensorsFile weights) throws IOException {
        Files.writeString(model.resolve("config.json"), "{\n  \"unknown\": [1.50, Infinity]\n}\n");
        weights.write(model.resolve("model.safetensors"));
    }

    private void sharded() throws IOException {
        Files.writeString(model.resolve("config.json"), "{}");
        new SafetensorsFile()
                .tensor("a", DType.F32, SafetensorsFile.counting(12), 3)
                .write(model.resolve("s1"));
        new SafetensorsFile()
                .tensor("b", DType.F16, SafetensorsFile.counting(4), 2, 1)
                .write(model.resolve("s2"));
        Files.writeString(model.resolve(HuggingFaceFolder.INDEX), """
                {
                  "metadata": {
                    "total_size": 16.0
                  },
                  "weight_map": {
                    "a": "s1",
                    "b": "s2"
                  }
                }
                """);
    }

    private List<String> write(Path source, List<Edit> edits, Map<String, ?> configChanges) throws IOException {
        try (HuggingFaceFolder input = HuggingFaceFolder.open(source);
                OutputFolder output = OutputFolder.create(target)) {
            List<String> warnings =
                    HuggingFaceWriter.write(input, edits, configChanges, Storage.DENSE, output, _ -> {});
            output.commit();
            return warnings;
        }
    }

    private void assertRefused(Edit edit, String fact) {
        assertThatThrownBy(() -> write(model, List.of(edit), Map.of()))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining(fact);
        assertThat(folder.toFile().list()).containsExactly("model");
    }

    private static Site site(String weight, String bias, long rows, long cols, boolean transposed) {
        return new Site(weight, weight, bias, rows, cols, transposed, Site.Role.OTHER, 0, "x");
    }

    private static Edit edit(Site site, String biasName, float... bias) {
        Tensor tensor = new Tensor(biasName, DType.F32, Shape.of(bias.length), MemorySegment.ofArray(bias));
        return new Edit(site, BitMask.none(site.rows(), site.cols()), tensor);
    }

    private static Edit withWeight(Site site, BitMask mask, float... values) {
        Shape shape = Shape.of(site.rows(), site.cols());
        return new Edit(site, mask, new Tensor("w", DType.F32, shape, MemorySegment.ofArray(values)), null);
    }

    private static float[] rounded(float[] values, DType dtype) {
        float[] result = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            result[i] = switch (dtype) {
                case F16 -> Float.float16ToFloat(Float.floatToFloat16(values[i]));
                case BF16 -> Floats.fromBfloat16(Floats.toBfloat16(values[i]));
                default -> values[i];
            };
        }
        return result;
    }

    private static byte[] bytes(HuggingFaceFolder model, String tensor) {
        return model.tensor(tensor).data().toArray(ValueLayout.JAVA_BYTE);
    }

    private static String header(Path model) throws IOException {
        try (RandomAccessFile file =
                new RandomAccessFile(model.resolve("model.safetensors").toFile(), "r")) {
            byte[] header = new byte[Math.toIntExact(Long.reverseBytes(file.readLong()))];
            file.readFully(header);
            return new String(header, StandardCharsets.UTF_8);
        }
    }

    private static void assertSameFiles(Path expected, Path actual, List<String> except) throws IOException {
        List<Path> names = names(expected);
        assertThat(names(actual)).isEqualTo(names);
        for (Path name : names) {
            if (Files.isRegularFile(expected.resolve(name)) && !except.contains(name.toString())) {
                assertThat(actual.resolve(name)).hasSameBinaryContentAs(expected.resolve(name));
            }
        }
    }

    private static List<Path> names(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            return files.map(folder::relativize).sorted().toList();
        }
    }
}
