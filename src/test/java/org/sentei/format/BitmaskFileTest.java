package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.tensor.DType;

class BitmaskFileTest {
    private static final long SEED = 20;

    private final Arena arena = Arena.ofConfined();

    @TempDir
    private Path folder;

    @AfterEach
    void unmap() {
        arena.close();
    }

    // ---- there and back

    /** Values of any bits: NaN with payloads, infinities, denormals and -0 among them. */
    @ParameterizedTest
    @EnumSource(names = {"F64", "F32", "F16", "BF16"})
    void everyBitComesBackWhateverTheWidth(DType dtype) throws IOException {
        int rows = 13;
        int cols = 131;
        byte[] weight = random(dtype, rows * cols, 0.5);
        int width = dtype.bytes();
        weight[width - 1] = (byte) 0x80; // -0, which is kept
        Arrays.fill(weight, 0, width - 1, (byte) 0);
        byte[] dense = new SafetensorsFile()
                .metadata("{\"format\": \"pt\",  \"note\":\"\\u00e9 é\"}")
                .tensor("z.weight", dtype, weight, rows, cols)
                .tensor("a.weight", dtype, random(dtype, 64, 0.9), 8, 8)
                .tensor("ids", DType.I64, new byte[64], 1, 8)
                .tensor("bias", dtype, new byte[8 * width], 8)
                .bytes();
        Path packed = packed(dense);

        assertThat(Files.size(packed)).isLessThan(dense.length);
        Safetensors file = Safetensors.map(packed, arena);
        assertThat(file.names()).containsExactly("z.weight", "a.weight", "ids", "bias");
        assertThat(file.packed()).hasSize(2);
        assertThat(file.tensor("z.weight").data().toArray(ValueLayout.JAVA_BYTE))
                .isEqualTo(weight);
        assertThat(file.denseBytes()).isEqualTo(dense.length);
        assertThat(unpacked(packed)).isEqualTo(dense);
    }

    @ParameterizedTest
    @CsvSource({"1,1", "1,7", "7,8", "9,9", "16,15", "3,64", "5,1000"})
    void everyShapeComesBack(int rows, int cols) throws IOException {
        for (double sparsity : new double[] {0, 0.1, 0.5, 0.99, 1}) {
            byte[] dense = new SafetensorsFile()
                    .tensor("w", DType.BF16, random(DType.BF16, rows * cols, sparsity), rows, cols)
                    .tensor("zeros", DType.F32, new byte[4 * rows * cols], rows, cols)
                    .bytes();
            assertThat(unpacked(packed(dense)))
                    .as("%d x %d, %s", rows, cols, sparsity)
                    .isEqualTo(dense);
        }
    }

    @Test
    void dataMayLieInAnyOrderAndTypesMayBeMixed() throws IOException {
        byte[] first = random(DType.F16, 3 * 5, 0.8);
        byte[] second = random(DType.F64, 4 * 4, 0.8);
        byte[] data = Arrays.copyOf(first, first.length + second.length);
        System.arraycopy(second, 0, data, first.length, second.length);
        byte[] dense = SafetensorsFile.file(
                "{" + SafetensorsFile.entry("b", "F64", "[4,4]", 30, 158) + " ,\n"
                        + SafetensorsFile.entry("a", "F16", "[3,5]", 0, 30) + "}   ",
                data);
        Path packed = packed(dense);

        assertThat(Safetensors.map(packed, arena).names()).containsExactly("b", "a");
        assertThat(unpacked(packed)).isEqualTo(dense);
        // what the file itself lists: wide types first, each tensor aligned
        assertThat(header(Files.readAllBytes(packed)))
                .startsWith("{\"__metadata__\":{\"format\":\"sentei-bitmask\"},\"b\":{\"dtype\":\"F64\"")
                .contains("\"a.bitmask\":{\"dtype\":\"U8\",\"shape\":[3,1]");
    }

    @Test
    void takesNineSixteenthsOfHalfEmptyBfloat16() throws IOException {
        int rows = 64;
        int cols = 256;
        byte[] weight = new byte[2 * rows * cols];
        for (int i = 0; i < rows * cols; i += 2) {
            weight[2 * i + (i % 4) / 2] = 1;
        }
        Safetensors file = Safetensors.map(
                packed(new SafetensorsFile()
                        .tensor("w", DType.BF16, weight, rows, cols)
                        .bytes()),
                arena);
        assertThat(file.packed())
                .singleElement()
                .satisfies(tensor -> assertThat(tensor.bytes() * 16).isEqualTo(weight.length * 9L));
    }

    // ---- what stays dense

    @Test
    void whatWouldNotGetSmallerStaysAsItIs() throws IOException {
        Path dense = write(new SafetensorsFile()
                .tensor("full", DType.BF16, random(DType.BF16, 64, 0), 8, 8)
                .tensor("vector", DType.BF16, new byte[128], 64)
                .tensor("cube", DType.BF16, new byte[128], 4, 4, 4)
                .tensor("numbers", DType.I32, new byte[256], 8, 8)
                .tensor("empty", DType.F32, new byte[0], 0, 8)
                .bytes());
        assertThat(BitmaskFile.pack(dense, folder.resolve("packed"))).isFalse();
        assertThat(folder.resolve("packed")).doesNotExist();
    }

    @Test
    void namesThatAreTakenAreRespected() throws IOException {
        byte[] dense = new SafetensorsFile()
                .tensor("w", DType.F32, new byte[256], 8, 8)
                .tensor("w.bitmask", DType.U8, SafetensorsFile.counting(8), 8, 1)
                .tensor("v", DType.F32, new byte[256], 8, 8)
                .bytes();
        Path packed = packed(dense);
        assertThat(Safetensors.map(packed, arena).packed())
                .singleElement()
                .satisfies(tensor -> assertThat(tensor.name()).isEqualTo("v"));
        assertThat(unpacked(packed)).isEqualTo(dense);

        Path own = write(new SafetensorsFile()
                .tensor("sentei.dense_header", DType.F32, new byte[256], 8, 8)
                .bytes());
        assertThatThrownBy(() -> BitmaskFile.pack(own, folder.resolve("never")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("use storage: dense");
    }

    // ---- damaged and hostile files

    private static final String DENSE = "{" + SafetensorsFile.entry("w", "F16", "[2,3]", 0, 12) + "}";

    /** A file whose parts can be wrong one at a time. */
    private static byte[] file(String dense, SafetensorsFile parts) {
        return parts.metadata("{\"format\":\"sentei-bitmask\"}")
                .tensor(
                        "sentei.dense_header",
                        DType.U8,
                        dense.getBytes(StandardCharsets.UTF_8),
                        dense.getBytes(StandardCharsets.UTF_8).length)
                .bytes();
    }

    private static SafetensorsFile values(int count) {
        return new SafetensorsFile().tensor("w", DType.F16, SafetensorsFile.counting(2 * count), count);
    }

    private static byte[] mask(int... bytes) {
        byte[] mask = new byte[bytes.length];
        for (int i = 0; i < mask.length; i++) {
            mask[i] = (byte) bytes[i];
        }
        return mask;
    }

    @Test
    void aSoundFileIsRead() {
        byte[] sound = file(DENSE, values(3).tensor("w.bitmask", DType.U8, mask(0b101, 0b010), 2, 1));
        assertThat(Safetensors.map(write(sound), arena).tensor("w").data().toArray(ValueLayout.JAVA_BYTE))
                .containsExactly(1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 0, 0);
    }

    @Test
    void partsThatDoNotFitAreRefused() {
        refuses(file(DENSE, values(3).tensor("w.bitmask", DType.U8, mask(0b101, 0b011), 2, 1)), "keeps 4 F16 elements");
        refuses(file(DENSE, values(3).tensor("w.bitmask", DType.U8, mask(0b101, 0b1000), 2, 1)), "beyond column 3");
        refuses(file(DENSE, values(3).tensor("w.bitmask", DType.U8, mask(5, 2), 2)), "w.bitmask is 2, the mask of 2x3");
        refuses(file(DENSE, values(3).tensor("w.bitmask", DType.U8, mask(5, 2, 0), 3, 1)), "w.bitmask is 3x1");
        refuses(file(DENSE, values(3).tensor("w.bitmask", DType.I8, mask(5, 2), 2, 1)), "neither the dense 2x3 nor");
        refuses(file(DENSE, values(3)), "neither the dense 2x3 nor");
        refuses(
                file(DENSE, new SafetensorsFile().tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1)),
                "has no tensor w of F16");
        refuses(
                file(
                        DENSE,
                        new SafetensorsFile()
                                .tensor("w", DType.BF16, SafetensorsFile.counting(6), 3)
                                .tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1)),
                "has no tensor w of F16");
        refuses(
                file(
                        DENSE,
                        new SafetensorsFile()
                                .tensor("w", DType.F16, SafetensorsFile.counting(6), 3, 1)
                                .tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1)),
                "neither the dense 2x3 nor");
    }

    @Test
    void tensorsThatAreNoPartOrTwiceThereAreRefused() {
        SafetensorsFile more =
                values(3).tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1).tensor("w.values", DType.U8, mask(1), 1);
        refuses(file(DENSE, more), "w.values that is no part");
        SafetensorsFile denseToo = new SafetensorsFile()
                .tensor("w", DType.F16, new byte[12], 2, 3)
                .tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1);
        refuses(file(DENSE, denseToo), "w.bitmask that is no part");
        for (String both : List.of(
                "{" + SafetensorsFile.entry("w", "F16", "[2,3]", 0, 12) + ","
                        + SafetensorsFile.entry("w.bitmask", "U8", "[2,1]", 12, 14) + "}",
                "{" + SafetensorsFile.entry("w.bitmask", "U8", "[2,1]", 12, 14) + ","
                        + SafetensorsFile.entry("w", "F16", "[2,3]", 0, 12) + "}")) {
            refuses(file(both, values(3).tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1)), "w.bitmask");
        }
        String itself = "{" + SafetensorsFile.entry("sentei.dense_header", "U8", "[2]", 0, 2) + "}";
        refuses(file(itself, new SafetensorsFile()), "has no tensor sentei.dense_header");
    }

    @Test
    void aDenseHeaderThatIsNoneIsRefused() {
        byte[] without = new SafetensorsFile()
                .metadata("{\"format\":\"sentei-bitmask\"}")
                .tensor("w", DType.F16, new byte[4], 1, 2)
                .bytes();
        refuses(without, "holds no header of the dense file");
        SafetensorsFile parts = values(3).tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1);
        refuses(file("{", parts), "no valid JSON");
        refuses(file("[]", values(3)), "JSON object");
        refuses(file(DENSE.replace("0,12", "4,16"), values(3)), "starts at byte 4");
        refuses(file(DENSE.replace("0,12", "0,14"), values(3)), "takes 12 bytes");
        refuses(
                file(DENSE.replace("[2,3]", "[4611686018427387904,4]"), values(3)),
                "cannot have shape [4611686018427387904, 4]");
        refuses(
                file(DENSE.replace("{\"w\"", "{\"__metadata__\":{\"format\":\"sentei-bitmask\"},\"w\""), values(3)),
                "says format sentei-bitmask again");
        refuses(file("{}", values(3)), "w that is no part");
    }

    /** A tensor that claims to be enormous needs a mask to match, which the file cannot have. */
    @Test
    void nothingIsAllocatedForWhatTheFileDoesNotHold() {
        String huge = "{" + SafetensorsFile.entry("w", "F16", "[1000000000,3]", 0, 6_000_000_000L) + "}";
        refuses(
                file(huge, values(3).tensor("w.bitmask", DType.U8, mask(5, 2), 2, 1)),
                "the mask of 1000000000x3 elements is 1000000000x1");
    }

    /** One to three bytes changed anywhere: the file is read, or refused with one clear error. */
    @ParameterizedTest
    @ValueSource(ints = {0, 1})
    void randomDamageEndsInAFormatExceptionOrAReadableFile(int where) throws IOException {
        byte[] sound = Files.readAllBytes(packed(new SafetensorsFile()
                .tensor("a.weight", DType.BF16, random(DType.BF16, 9 * 21, 0.5), 9, 21)
                .tensor("b.weight", DType.F32, random(DType.F32, 8 * 8, 0.7), 8, 8)
                .tensor("b.bias", DType.F32, random(DType.F32, 8, 0), 8)
                .bytes()));
        int headerEnd = 8 + header(sound).length();
        int refused = 0;
        for (int seed = 0; seed < 1500; seed++) {
            SplittableRandom random = new SplittableRandom(seed);
            byte[] damaged = sound.clone();
            for (int change = random.nextInt(1, 4); change > 0; change--) {
                // where 0: the header and the dense header; 1: anywhere
                int at = where == 0 ? 8 + random.nextInt(headerEnd - 8) : random.nextInt(damaged.length);
                damaged[at] = random.nextBoolean() ? (byte) random.nextInt(256) : (byte) (damaged[at] ^ 1);
            }
            try (Arena own = Arena.ofConfined()) {
                Safetensors file = Safetensors.map(write(damaged), own);
                for (String name : file.names()) {
                    assertThat(file.tensor(name).data().byteSize())
                            .isEqualTo(file.entry(name).bytes());
                }
            } catch (FormatException expected) {
                refused++;
            } catch (RuntimeException | StackOverflowError | OutOfMemoryError other) {
                throw new AssertionError("seed " + seed + " of where " + where, other);
            }
        }
        assertThat(refused).isBetween(100, 1499);
    }

    @Test
    void truncationAnywhereIsRefused() throws IOException {
        byte[] whole = Files.readAllBytes(packed(new SafetensorsFile()
                .tensor("w", DType.BF16, random(DType.BF16, 5 * 9, 0.5), 5, 9)
                .bytes()));
        for (int length = 0; length < whole.length; length++) {
            refuses(SafetensorsFile.truncated(whole, length), "");
        }
    }

    // ---- helpers

    private void refuses(byte[] file, String fact) {
        assertThatThrownBy(() -> Safetensors.map(write(file), arena))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(fact);
    }

    private Path write(byte[] file) {
        try {
            return Files.write(Files.createTempFile(folder, "file", ".safetensors"), file);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    /** The dense file in bitmask storage. */
    private Path packed(byte[] dense) throws IOException {
        Path target = folder.resolve("packed-" + new SplittableRandom().nextLong());
        if (!BitmaskFile.pack(write(dense), target)) {
            return write(dense);
        }
        return target;
    }

    /** What unpacking makes of a file. */
    private byte[] unpacked(Path packed) throws IOException {
        Path model = Files.createTempDirectory(folder, "model");
        Files.writeString(model.resolve("config.json"), "{}");
        Files.copy(packed, model.resolve("model.safetensors"));
        Path target = model.resolveSibling(model.getFileName() + "-dense");
        try (HuggingFaceFolder input = HuggingFaceFolder.open(model);
                OutputFolder output = OutputFolder.create(target)) {
            HuggingFaceWriter.write(input, List.of(), Map.of(), Storage.DENSE, output, _ -> {});
            output.commit();
        }
        return Files.readAllBytes(target.resolve("model.safetensors"));
    }

    private static String header(byte[] file) {
        int length = Byte.toUnsignedInt(file[0]) + 256 * Byte.toUnsignedInt(file[1]);
        return new String(file, 8, length, StandardCharsets.UTF_8);
    }

    /** Elements of random bits, a share of them zero. */
    private static byte[] random(DType dtype, int elements, double sparsity) {
        SplittableRandom random = new SplittableRandom(SEED);
        byte[] bytes = new byte[elements * dtype.bytes()];
        for (int i = 0; i < elements; i++) {
            if (random.nextDouble() >= sparsity) {
                for (int b = 0; b < dtype.bytes(); b++) {
                    bytes[i * dtype.bytes() + b] = (byte) random.nextInt();
                }
            }
        }
        return bytes;
    }
}
