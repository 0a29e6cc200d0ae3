package org.sentei.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.math.BigDecimal;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class FloatsTest {
    @Test
    void everyBfloat16SurvivesTheWayThroughFp32() {
        for (int bits = 0; bits <= 0xffff; bits++) {
            float value = Floats.fromBfloat16((short) bits);
            if (Float.isNaN(value)) {
                assertThat(Floats.fromBfloat16(Floats.toBfloat16(value))).isNaN();
            } else {
                assertThat(Floats.toBfloat16(value)).isEqualTo((short) bits);
            }
        }
    }

    @Test
    void roundingToBfloat16TakesTheNearestAndBreaksTiesToEven() {
        SplittableRandom random = new SplittableRandom(11);
        for (int i = 0; i < 100_000; i++) {
            int bits = i % 4 == 0 ? random.nextInt() & 0xffff_8000 : random.nextInt();
            float value = Float.intBitsToFloat(bits);
            if (!Float.isFinite(value)) {
                continue;
            }
            float below = Float.intBitsToFloat(bits & 0xffff_0000);
            float above = Float.intBitsToFloat((bits & 0xffff_0000) + 0x1_0000);
            float rounded = Floats.fromBfloat16(Floats.toBfloat16(value));
            if (Float.isInfinite(above)) {
                assertThat(rounded).isIn(below, above);
                continue;
            }
            int nearer = distance(value, below).compareTo(distance(value, above));
            boolean belowIsEven = ((bits >>> 16) & 1) == 0;
            float expected = nearer < 0 || (nearer == 0 && belowIsEven) ? below : above;
            assertThat(rounded).isEqualTo(expected);
        }
    }

    private static BigDecimal distance(float a, float b) {
        return new BigDecimal(a).subtract(new BigDecimal(b)).abs();
    }

    @Test
    void everyFloatingTypeReadsBackWhatItCanHold() {
        MemorySegment data = MemorySegment.ofArray(new byte[64]);
        for (DType dtype : new DType[] {DType.F64, DType.F32, DType.F16, DType.BF16}) {
            for (double value : new double[] {0, -1.5, 0.25, 96, Double.POSITIVE_INFINITY}) {
                Floats.set(dtype, data, 3, value);
                assertThat(Floats.get(dtype, data, 3)).isEqualTo(value);
            }
            Floats.set(dtype, data, 3, Double.NaN);
            assertThat(Floats.get(dtype, data, 3)).isNaN();
        }
        assertThatThrownBy(() -> Floats.get(DType.I32, data, 0)).isInstanceOf(IllegalArgumentException.class);
    }
}
