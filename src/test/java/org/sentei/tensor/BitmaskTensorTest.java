package org.sentei.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class BitmaskTensorTest {
    private static final Arena ARENA = Arena.ofAuto();

    @ParameterizedTest
    @EnumSource(DType.class)
    void unpackingGivesBackEveryByteOfAnyTypeAndWidth(DType dtype) {
        if (dtype.bits() < 8) {
            assertThatThrownBy(() -> BitmaskTensor.pack(zeros(dtype, 4, 4), ARENA))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("not whole bytes");
            return;
        }
        SplittableRandom random = new SplittableRandom(17);
        for (long cols : new long[] {1, 7, 8, 9, 63, 64, 65, 130}) {
            Tensor dense = random(random, dtype, 2, 3, cols);
            BitmaskTensor packed = BitmaskTensor.pack(dense, ARENA);
            assertThat(packed.rows()).isEqualTo(6);
            assertThat(packed.cols()).isEqualTo(cols);
            assertThat(packed.mask().byteSize()).isEqualTo(6 * ((cols + 7) / 8));
            assertThat(packed.unpack(ARENA).data().mismatch(dense.data())).isEqualTo(-1);
        }
    }

    /** A third of the elements zero, the others random bits: every NaN payload can occur. */
    private static Tensor random(SplittableRandom random, DType dtype, long... dimensions) {
        Tensor zeros = zeros(dtype, dimensions);
        byte[] bytes = zeros.data().toArray(ValueLayout.JAVA_BYTE);
        random.nextBytes(bytes);
        int width = dtype.bytes();
        for (int i = 0; i < bytes.length; i++) {
            int element = i / width;
            bytes[i] = element % 3 == element / 50 % 3 ? 0 : bytes[i];
        }
        return new Tensor(zeros.name(), dtype, zeros.shape(), MemorySegment.ofArray(bytes));
    }

    private static Tensor zeros(DType dtype, long... dimensions) {
        Shape shape = Shape.of(dimensions);
        return new Tensor("w", dtype, shape, ARENA.allocate(dtype.bytesFor(shape.elements())));
    }

    @Test
    void theLayoutIsKeptValuesInRowMajorOrderAndBitsFromTheLowEndOfEveryRowsBytes() {
        float[] values = {0, 1, 0, 0, 2, 0, 0, 0, 3, 0, /* second row */ 4, 0, 0, 0, 0, 0, 0, 5, 0, 6};
        BitmaskTensor packed =
                BitmaskTensor.pack(new Tensor("w", DType.F32, Shape.of(2, 10), MemorySegment.ofArray(values)), ARENA);

        assertThat(packed.mask().toArray(ValueLayout.JAVA_BYTE))
                .containsExactly(0b0001_0010, 0b01, (byte) 0b1000_0001, 0b10);
        assertThat(packed.values().toArray(ValueLayout.JAVA_FLOAT)).containsExactly(1, 2, 3, 4, 5, 6);
        assertThat(packed.rowStarts()).containsExactly(0, 3, 6);
        assertThat(packed.kept()).isEqualTo(6);
        assertThat(packed.bytes()).isEqualTo(28);
    }

    @Test
    void onlyPositiveZeroIsDropped() {
        float[] values = {-0f, 0f, Float.intBitsToFloat(0x7fc0_1234), Float.MIN_VALUE};
        BitmaskTensor packed =
                BitmaskTensor.pack(new Tensor("w", DType.F32, Shape.of(4), MemorySegment.ofArray(values)), ARENA);

        assertThat(packed.kept()).isEqualTo(3);
        assertThat(packed.unpack(ARENA).data().toArray(ValueLayout.JAVA_INT))
                .containsExactly(0x8000_0000, 0, 0x7fc0_1234, 1);
    }

    @Test
    void halfOfABf16TensorTakesNineSixteenths() {
        short[] values = new short[64 * 128];
        for (int i = 0; i < values.length; i += 2) {
            values[i] = Floats.toBfloat16(i + 1);
        }
        Tensor dense = new Tensor("w", DType.BF16, Shape.of(64, 128), MemorySegment.ofArray(values));

        assertThat(BitmaskTensor.pack(dense, ARENA).bytes() * 16)
                .isEqualTo(dense.data().byteSize() * 9);
    }

    @Test
    void scalarsAndTensorsWithoutElementsCanBePacked() {
        Tensor scalar = new Tensor("s", DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {7}));
        assertThat(BitmaskTensor.pack(scalar, ARENA).unpack(ARENA).data().toArray(ValueLayout.JAVA_FLOAT))
                .containsExactly(7);
        for (long[] dimensions : new long[][] {{0}, {3, 0}, {0, 3}}) {
            BitmaskTensor packed = BitmaskTensor.pack(zeros(DType.BF16, dimensions), ARENA);
            assertThat(packed.bytes()).isZero();
            assertThat(packed.rowStarts()).containsExactly(0);
            assertThat(packed.unpack(ARENA).shape()).isEqualTo(Shape.of(dimensions));
        }
    }

    @Test
    void aMaskThatDoesNotFitItsValuesIsRefused() {
        MemorySegment mask = MemorySegment.ofArray(new byte[] {0b011, 0b101});
        Shape shape = Shape.of(2, 3);

        assertThat(tensor(shape, mask, 4).kept()).isEqualTo(4);
        for (int values : new int[] {0, 3, 5}) {
            assertThatThrownBy(() -> tensor(shape, mask, values))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("the mask of w keeps 4 F32 elements, which are 16 bytes")
                    .hasMessageContaining("have " + values * 4);
        }
        assertThatThrownBy(() -> tensor(Shape.of(2, 9), mask, 4))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("has 2 bytes; 2x9 elements need 4");
        assertThatThrownBy(() -> tensor(Shape.of(2, 2), mask, 4))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("bits beyond column 2 in row 1");
    }

    private static BitmaskTensor tensor(Shape shape, MemorySegment mask, int values) {
        return new BitmaskTensor("w", DType.F32, shape, mask, MemorySegment.ofArray(new float[values]));
    }
}
