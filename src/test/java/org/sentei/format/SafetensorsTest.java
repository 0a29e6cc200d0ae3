package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.SafetensorsFile.entry;
import static org.sentei.format.SafetensorsFile.file;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class SafetensorsTest {
    private static final byte[] NOTHING = {};

    private final Arena arena = Arena.ofConfined();

    @TempDir
    private Path folder;

    @AfterEach
    void unmap() {
        arena.close();
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void everyDtypeIsCarriedThrough(DType dtype) throws IOException {
        byte[] bytes = SafetensorsFile.counting(Math.toIntExact(dtype.bytesFor(8)));
        Safetensors file = map(new SafetensorsFile()
                .tensor("first", DType.U8, new byte[] {9}, 1)
                .tensor("it", dtype, bytes, 2, 4)
                .bytes());

        Tensor tensor = file.tensor("it");

        assertThat(tensor.name()).isEqualTo("it");
        assertThat(tensor.dtype()).isEqualTo(dtype);
        assertThat(tensor.shape()).isEqualTo(Shape.of(2, 4));
        assertThat(tensor.data().toArray(ValueLayout.JAVA_BYTE)).isEqualTo(bytes);
        assertThat(tensor.data().isReadOnly()).isTrue();
    }

    @Test
    void scalarsAndEmptyTensorsHaveTheirPlace() throws IOException {
        Safetensors file = map(new SafetensorsFile()
                .metadata("{\"format\":\"pt\"}")
                .tensor("scalar", DType.F32, new byte[] {0, 0, 0x20, 0x40})
                .tensor("empty", DType.F16, NOTHING, 3, 0)
                .tensor("last", DType.U8, new byte[] {7}, 1)
                .bytes());

        assertThat(file.names()).containsExactly("scalar", "empty", "last");
        assertThat(Floats.toArray(file.tensor("scalar"))).containsExactly(2.5f);
        assertThat(file.tensor("empty").data().byteSize()).isZero();
        assertThat(file.tensor("last").data().get(ValueLayout.JAVA_BYTE, 0)).isEqualTo((byte) 7);
    }

    @Test
    void tensorsInArraysOfAnyTypeAreWritten() throws IOException {
        Path path = folder.resolve("written.safetensors");
        MemorySegment floats = MemorySegment.ofArray(new float[] {1.5f, -2});
        SafetensorsWriter.write(path, List.of(new Tensor("floats", DType.F32, Shape.of(2), floats)));

        assertThat(Floats.toArray(map(Files.readAllBytes(path)).tensor("floats")))
                .containsExactly(1.5f, -2f);
    }

    @Test
    void tensorsMayBeListedInAnyOrder() throws IOException {
        Safetensors file = map(file(
                "{" + entry("b", "U8", "[1]", 1, 2) + "," + entry("a", "U8", "[1]", 0, 1) + "}", new byte[] {1, 2}));

        assertThat(file.names()).containsExactly("b", "a");
        assertThat(file.tensor("b").data().get(ValueLayout.JAVA_BYTE, 0)).isEqualTo((byte) 2);
    }

    @Test
    void unknownFieldsOfATensorAreIgnored() throws IOException {
        String header = "{\"a\":{\"note\":{\"x\":[1,2]},\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
        assertThat(map(file(header, new byte[] {5})).names()).containsExactly("a");
    }

    @Test
    void aFileWithoutTensorsIsAFile() throws IOException {
        assertThat(map(file("{}", NOTHING)).names()).isEmpty();
    }

    @Test
    void elementsBeyondTwoGibibytesAreRead() throws IOException {
        long elements = (1L << 31) + 5;
        String header = "{" + entry("big", "F16", "[" + elements + "]", 0, 2 * elements) + "}";
        Path path = Files.write(folder.resolve("big.safetensors"), file(header, NOTHING));
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(file.length() + 2 * elements);
            file.seek(file.length() - 2);
            file.write(new byte[] {0x00, 0x3e});
        }

        Tensor big = Safetensors.map(path, arena).tensor("big");

        assertThat(big.shape().elements()).isEqualTo(elements);
        assertThat(Floats.get(DType.F16, big.data(), elements - 1)).isEqualTo(1.5);
        assertThat(Floats.get(DType.F16, big.data(), elements - 2)).isEqualTo(0.0);
    }

    @Test
    void truncationAnywhereIsRefused() throws IOException {
        byte[] whole = new SafetensorsFile()
                .metadata("{\"format\":\"pt\"}")
                .tensor("a", DType.F32, SafetensorsFile.counting(8), 2)
                .tensor("b", DType.BF16, SafetensorsFile.counting(4), 1, 2)
                .bytes();
        for (int length = 0; length < whole.length; length++) {
            byte[] part = SafetensorsFile.truncated(whole, length);
            assertThatThrownBy(() -> map(part))
                    .as("first %d of %d bytes", length, whole.length)
                    .isInstanceOf(FormatException.class);
        }
        assertThat(map(whole).names()).hasSize(2);
    }

    @ParameterizedTest
    @ValueSource(longs = {Long.MIN_VALUE, -1, Long.MAX_VALUE, Long.MAX_VALUE - 7, 100_000_001})
    void absurdHeaderLengthsAreRefused(long length) {
        assertRefused(file(length, "{}", NOTHING), "no safetensors file");
    }

    @Test
    void aHeaderLongerThanTheFileIsRefused() {
        assertRefused(file(3, "{}", NOTHING), "is truncated");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                " ",
                "[]",
                "null",
                "7",
                "\"x\"",
                "{",
                "{}}",
                "{}{}",
                "{} x",
                "{\"a\":1}",
                "{\"a\":null}",
                "{\"a\":{}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}",
                "{\"a\":{\"shape\":[0],\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":7,\"shape\":[0],\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":0,\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0.0],\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[\"0\"],\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[[0]],\"data_offsets\":[0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0,0]}}",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,99999999999999999999]}}",
                "{\"__metadata__\":7}",
                "{\"__metadata__\":{\"a\":1}}",
                "{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}",
            })
    void headersOfAnotherFormAreRefused(String header) {
        assertRefused(file(header, NOTHING), "");
    }

    @Test
    void unknownDtypesAreRefused() {
        assertRefused(file("{" + entry("a", "F31", "[1]", 0, 4) + "}", new byte[4]), "unknown dtype F31");
        assertRefused(file("{" + entry("a", "f32", "[1]", 0, 4) + "}", new byte[4]), "unknown dtype f32");
    }

    @Test
    void impossibleShapesAreRefused() {
        assertRefused(file("{" + entry("a", "U8", "[-1]", 0, 1) + "}", new byte[1]), "negative");
        assertRefused(file("{" + entry("a", "U8", "[-1,-1]", 0, 1) + "}", new byte[1]), "negative");
        assertRefused(file("{" + entry("a", "F4", "[3]", 0, 1) + "}", new byte[1]), "whole number of bytes");
        assertRefused(file("{" + entry("a", "U8", "[4294967296,4294967296]", 0, 0) + "}", NOTHING), "overflow");
        assertRefused(file("{" + entry("a", "F64", "[1152921504606846976]", 0, 0) + "}", NOTHING), "overflow");
        assertRefused(
                file("{" + entry("a", "U8", "[" + "1,".repeat(64) + "1]", 0, 1) + "}", new byte[1]), "more than 64");
    }

    @Test
    void offsetsThatDoNotFitTheTensorAreRefused() {
        for (long[] offsets : new long[][] {{0, 3}, {0, 5}, {-4, 0}, {4, 0}, {Long.MIN_VALUE, Long.MIN_VALUE + 4}}) {
            assertRefused(
                    file("{" + entry("a", "F32", "[1]", offsets[0], offsets[1]) + "}", new byte[4]),
                    "data_offsets are");
        }
        assertRefused(file("{" + entry("a", "U8", "[0]", -1, -1) + "}", NOTHING), "data_offsets are");
    }

    @Test
    void overlapsGapsAndForeignBytesAreRefused() {
        String first = entry("a", "U8", "[4]", 0, 4);
        assertRefused(file("{" + first + "," + entry("b", "U8", "[4]", 2, 6) + "}", new byte[6]), "overlap");
        assertRefused(file("{" + first + "," + entry("b", "U8", "[4]", 0, 4) + "}", new byte[4]), "overlap");
        assertRefused(file("{" + first + "," + entry("b", "U8", "[0]", 2, 2) + "}", new byte[4]), "overlap");
        assertRefused(file("{" + first + "," + entry("b", "U8", "[4]", 5, 9) + "}", new byte[9]), "gaps");
        assertRefused(file("{" + entry("b", "U8", "[4]", 1, 5) + "}", new byte[5]), "the header ends at 0");
        assertRefused(file("{" + first + "}", new byte[3]), "truncated");
        assertRefused(file("{" + first + "}", new byte[5]), "belong to no tensor");
        assertRefused(file("{" + entry("a", "U8", "[0]", 1L << 60, 1L << 60) + "}", NOTHING), "gaps");
    }

    @Test
    void duplicateKeysAreRefused() {
        String a = entry("a", "U8", "[1]", 0, 1);
        assertRefused(file("{" + a + "," + a + "}", new byte[1]), "twice");
        assertRefused(file("{" + a + "," + a.replace("\"a\"", "\"\\u0061\"") + "}", new byte[1]), "twice");
        assertRefused(
                file("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", new byte[1]),
                "twice");
    }

    @Test
    void deepNestingIsRefused() {
        int depth = 1_000_000;
        String nested = "[".repeat(depth) + "]".repeat(depth);
        assertRefused(file("{\"a\":{\"x\":" + nested + "}}", NOTHING), "nests too deeply");
        assertRefused(file("{\"a\":".repeat(depth), NOTHING), "");
    }

    @Test
    void namesThatAreEmptyLongOrHoldControlCharactersAreRefused() {
        assertRefused(file("{" + entry("", "U8", "[0]", 0, 0) + "}", NOTHING), "name");
        assertRefused(file("{" + entry("a\\u001b[2J", "U8", "[0]", 0, 0) + "}", NOTHING), "control characters");
        assertRefused(file("{" + entry("a".repeat(2000), "U8", "[0]", 0, 0) + "}", NOTHING), "1024");
    }

    @Test
    void whatIsNoFileIsRefused() throws IOException {
        assertThatThrownBy(() -> Safetensors.map(folder, arena))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no regular file");
        assertThatThrownBy(() -> Safetensors.map(folder.resolve("nowhere"), arena))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("does not exist");
        assertRefused(NOTHING, "truncated");
    }

    @Test
    void anUnknownTensorIsNamed() throws IOException {
        Safetensors file = map(file("{}", NOTHING));
        assertThatThrownBy(() -> file.tensor("x"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no tensor x");
    }

    @Test
    void damagedFilesEndInOneTypedError() throws IOException {
        byte[] whole = new SafetensorsFile()
                .metadata("{\"format\":\"pt\"}")
                .tensor("model.a", DType.F32, SafetensorsFile.counting(16), 2, 2)
                .tensor("model.b", DType.BF16, SafetensorsFile.counting(8), 4)
                .tensor("model.c", DType.U8, NOTHING, 0)
                .bytes();
        byte[] telling = "0123456789-+.eE{}[]\",:\\ntu_\0\u007f".getBytes(StandardCharsets.US_ASCII);
        int refused = 0;
        for (int seed = 0; seed < 4000; seed++) {
            Random random = new Random(seed);
            byte[] damaged = whole.clone();
            for (int change = random.nextInt(3); change >= 0; change--) {
                int at = random.nextInt(damaged.length);
                damaged[at] = random.nextBoolean()
                        ? telling[random.nextInt(telling.length)]
                        : (byte) (damaged[at] ^ (1 << random.nextInt(8)));
            }
            if (random.nextInt(4) == 0) {
                damaged = SafetensorsFile.truncated(damaged, random.nextInt(2 * damaged.length));
            }
            Path path = Files.write(folder.resolve("damaged"), damaged);
            try (Arena mapping = Arena.ofConfined()) {
                Safetensors file = Safetensors.map(path, mapping);
                for (String name : file.names()) {
                    assertThat(file.tensor(name).data().toArray(ValueLayout.JAVA_BYTE))
                            .isNotNull();
                }
            } catch (FormatException e) {
                refused++;
                assertThat(e).hasMessageContaining("damaged");
            } catch (RuntimeException | Error e) {
                throw new AssertionError("seed " + seed, e);
            }
        }
        assertThat(refused).isBetween(1000, 3999);
    }

    private Safetensors map(byte[] bytes) throws IOException {
        return Safetensors.map(Files.write(folder.resolve("x.safetensors"), bytes), arena);
    }

    private void assertRefused(byte[] bytes, String fact) {
        assertThatThrownBy(() -> map(bytes))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("x.safetensors")
                .hasMessageContaining(fact);
    }
}
