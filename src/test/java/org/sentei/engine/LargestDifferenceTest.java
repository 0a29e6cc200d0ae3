package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class LargestDifferenceTest {
    @Test
    void itIsAShareOfTheLargestNumber() {
        LargestDifference difference = new LargestDifference();
        assertThat(difference.relative()).isZero();
        difference.add(new float[] {1, -7}, new float[] {1, -8});
        difference.add(new float[] {2.5f}, new float[] {2});
        assertThat(difference.relative()).isEqualTo(1 / 8.0);
    }

    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY})
    void whatIsNoNumberIsNotForgotten(float wrong) {
        LargestDifference difference = new LargestDifference();
        difference.add(new float[] {wrong, 1}, new float[] {1, 1});
        difference.add(new float[] {1}, new float[] {1});
        assertThat(difference.relative() <= Double.MAX_VALUE).isFalse();
        LargestDifference both = new LargestDifference();
        both.add(new float[] {wrong}, new float[] {wrong});
        both.add(new float[] {1}, new float[] {1});
        assertThat(both.relative() <= Double.MAX_VALUE).isFalse();
    }

    @Test
    void otherSizesAreNoAgreement() {
        LargestDifference difference = new LargestDifference();
        difference.add(new float[] {1, 2}, new float[] {1});
        difference.add(new float[] {1}, new float[] {1});
        assertThat(difference.relative()).isNaN();
    }
}
