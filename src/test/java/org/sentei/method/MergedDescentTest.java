package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.sentei.tensor.BitMask;

class MergedDescentTest {
    private static final int WIDTH = 12;
    private static final int TOKENS = 24;

    /** Features that share factors, so that what one weight does another can do. */
    private static MergedAttention attention(int seed, int sequences) {
        Random weights = new Random(7);
        double[] shares = normal(weights, 2 * WIDTH);
        double[] w = normal(weights, WIDTH * WIDTH);
        Random random = new Random(seed);
        List<double[]> list = new ArrayList<>();
        for (int i = 0; i < sequences; i++) {
            double[] x = normal(random, TOKENS * WIDTH);
            for (int token = 0; token < TOKENS; token++) {
                double[] factors = normal(random, 2);
                for (int j = 0; j < WIDTH; j++) {
                    x[token * WIDTH + j] += factors[0] * shares[j] + factors[1] * shares[WIDTH + j];
                }
            }
            list.add(x);
        }
        return new MergedAttention(list, WIDTH, w, 0.05, true);
    }

    private static double[] normal(Random random, int size) {
        return random.doubles(size, -1, 1).map(value -> 2 * value).toArray();
    }

    @Test
    void aHardMaskHasExactlySoManyZerosAndTiesGoByIndex() {
        BitMask mask = MergedDescent.hard(new double[] {3, 1, 1, 1}, 2, 2);
        assertThat(mask.count()).isEqualTo(2);
        assertThat(mask.get(0, 1)).isTrue();
        assertThat(mask.get(1, 0)).isTrue();
        assertThat(MergedDescent.hard(new double[] {3, 1, 0, 0}, 2, 0).count()).isZero();
    }

    @Test
    void straightThroughBeatsTheSaliencyItStartsFrom() {
        MergedAttention calibration = attention(1, 16);
        MergedAttention test = attention(3, 16);
        double[] saliency = calibration.saliency();
        for (int prune : new int[] {43, 72, 100}) {
            MergedDescent.Found found =
                    new MergedDescent(calibration, attention(2, 8), prune).straightThrough(saliency, 60, 0.005);
            assertThat(found.mask().count()).isEqualTo(prune);
            assertThat(found.step()).isPositive();
            assertThat(found.losses()).hasSize(60);
            assertThat(test.error(test.pruned(found.mask())))
                    .isLessThan(test.error(test.pruned(MergedDescent.hard(saliency, WIDTH, prune))));
        }
    }

    @Test
    void theSoftMaskDescendsEveryStep() {
        MergedAttention calibration = attention(1, 8);
        BitMask start = MergedDescent.hard(calibration.saliency(), WIDTH, 72);
        MergedDescent.Found found = new MergedDescent(calibration, attention(2, 8), 72).soft(start, 40, 0.3);
        assertThat(found.losses()).hasSizeGreaterThan(5);
        for (int i = 1; i < found.losses().size(); i++) {
            assertThat(found.losses().get(i)).isLessThan(found.losses().get(i - 1));
        }
        assertThat(found.mask().count()).isEqualTo(72);
    }

    @Test
    void aStartThatNothingBeatsIsKept() {
        MergedAttention calibration = attention(1, 4);
        // Judged by what is calibrated on, at the mask that an earlier descent ended with.
        BitMask good = new MergedDescent(calibration, calibration, 72)
                .straightThrough(calibration.saliency(), 100, 0.005)
                .mask();
        MergedDescent.Found found = new MergedDescent(calibration, calibration, 72).soft(good, 3, 0.3);
        assertThat(found.step()).isZero();
        assertThat(found.mask()).isEqualTo(good);
    }

    @Test
    void theSameInputGivesTheSameMask() {
        MergedAttention calibration = attention(1, 4);
        MergedDescent descent = new MergedDescent(calibration, attention(2, 4), 72);
        assertThat(descent.straightThrough(calibration.saliency(), 20, 0.005))
                .usingRecursiveComparison()
                .isEqualTo(descent.straightThrough(calibration.saliency(), 20, 0.005));
    }

    @Test
    void aBudgetThatLeavesNothingIsRefused() {
        MergedAttention calibration = attention(1, 2);
        assertThatThrownBy(() -> new MergedDescent(calibration, calibration, WIDTH * WIDTH))
                .hasMessage("cannot prune 144 of 144 and 144 weights");
    }
}
