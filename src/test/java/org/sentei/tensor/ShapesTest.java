package org.sentei.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

/** Shapes, tensors and masks: sizes are exact or refused. */
class ShapesTest {
    @Test
    void aShapeCountsItsElementsExactly() {
        assertThat(Shape.of().elements()).isEqualTo(1);
        assertThat(Shape.of(3, 0, Long.MAX_VALUE).elements()).isZero();
        assertThat(Shape.of(70_000, 70_000).elements()).isEqualTo(4_900_000_000L);
        assertThat(Shape.of(2, 3)).isEqualTo(Shape.of(2, 3)).hasToString("2x3");
        assertThatThrownBy(() -> Shape.of(1L << 40, 1L << 40)).isInstanceOf(ArithmeticException.class);
        assertThatThrownBy(() -> Shape.of(2, -1)).isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void typesNarrowerThanAByteCountWholeBytesOnly() {
        assertThat(DType.F4.bytesFor(6)).isEqualTo(3);
        assertThatThrownBy(() -> DType.F4.bytesFor(5)).isInstanceOf(ArithmeticException.class);
        assertThatThrownBy(DType.F4::bytes).isInstanceOf(IllegalStateException.class);
    }

    @Test
    void aTensorHoldsExactlyItsBytesAndCannotBeWritten() {
        MemorySegment four = MemorySegment.ofArray(new byte[4]);
        assertThatThrownBy(() -> new Tensor("w", DType.F32, Shape.of(2), four))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("w")
                .hasMessageContaining("8 bytes");
        Tensor tensor = new Tensor("w", DType.F32, Shape.of(1), four);
        assertThatThrownBy(() -> tensor.data().set(ValueLayout.JAVA_BYTE, 0, (byte) 1))
                .isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void aMaskCountsItsBitsAndRefusesThoseBeyondItsColumns() {
        BitMask mask = BitMask.none(2, 33);
        assertThat(mask.count()).isZero();
        mask.set(0, 32);
        mask.set(1, 0);
        mask.set(1, 31);
        assertThat(mask.count()).isEqualTo(3);
        assertThat(mask.count(1)).isEqualTo(2);
        assertThat(mask.get(0, 32)).isTrue();
        assertThat(mask.get(0, 31)).isFalse();
        assertThat(mask.words()).containsExactly(0, 1, 0x8000_0001, 0);
        assertThatThrownBy(() -> mask.get(0, 33)).isInstanceOf(IndexOutOfBoundsException.class);
        assertThatThrownBy(() -> new BitMask(1, 33, new int[] {0, 2}))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("beyond column 33");
        assertThatThrownBy(() -> new BitMask(1, 33, new int[1])).isInstanceOf(IllegalArgumentException.class);
    }
}
