package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.sentei.tensor.BitMask;

class MergedAttentionTest {
    private static final int TOKENS = 7;
    private static final int WIDTH = 5;

    @Test
    void twoTokensWithOneWeightMatchTheClosedForm() {
        double[] identity = {1, 0, 0, 1};
        double[] weights = {0, 0, Math.log(3), 0};
        MergedAttention attention = new MergedAttention(List.of(identity), 2, weights, 1, true);

        double[] gradient = new double[4];
        double loss = attention.gradient(new double[] {1, 1, 0, 1}, 0, gradient);

        // the second row is (3/4, 1/4), and (1/2, 1/2) without the weight
        assertThat(loss).isCloseTo(1.0 / 16, within(1e-15));
        assertThat(gradient).containsExactly(new double[] {0, 0, -Math.log(3) / 8, 0}, within(1e-15));
        assertThat(attention.error(new double[] {0, 0, 0, 0}))
                .isCloseTo(Math.sqrt(2.0 / 16 / (1 + 10.0 / 16)), within(1e-15));
    }

    @Test
    void threeTokensMatchIndependentlyComputedValues() {
        double[] tokens = {1, 0, 0, 2, 1, 1};
        MergedAttention attention = new MergedAttention(List.of(tokens), 2, new double[] {1, -1, 0.5, 0.25}, 1, true);

        double[] gradient = new double[4];
        double loss = attention.gradient(new double[] {0.5, 1, 0, 0.25}, 0.1, gradient);

        assertThat(loss).isCloseTo(0.07116074364233171, within(1e-15));
        assertThat(gradient)
                .containsExactly(new double[] {0.0481730821, 0.1088324272, -0.0315209710, 0.0533994052}, within(5e-11));
    }

    @Test
    void theGradientIsTheSlopeOfTheLoss() {
        for (boolean causal : new boolean[] {true, false}) {
            Random random = new Random(1);
            MergedAttention attention = random(random, 3, causal, 0.7);
            double[] mask = uniform(random);
            double[] gradient = new double[mask.length];
            double loss = attention.gradient(mask, 0.2, gradient);
            double largest = Arrays.stream(gradient).map(Math::abs).max().orElseThrow();
            for (int i = 0; i < mask.length; i++) {
                double slope =
                        (attention.loss(moved(mask, i, 1e-5), 0.2) - attention.loss(moved(mask, i, -1e-5), 0.2)) / 2e-5;
                assertThat(gradient[i]).isCloseTo(slope, within(1e-6 * largest));
            }
            assertThat(loss).isCloseTo(attention.loss(mask, 0.2), within(1e-14));
        }
    }

    @Test
    void nothingIsLostWithoutPruning() {
        MergedAttention attention = random(new Random(2), 2, true, 1);
        double[] gradient = new double[WIDTH * WIDTH];
        assertThat(attention.gradient(ones(), 0.5, gradient)).isCloseTo(0.5 * WIDTH * WIDTH / 2, within(1e-14));
        assertThat(gradient).containsOnly(0.5);
        assertThat(attention.error(attention.pruned(BitMask.none(WIDTH, WIDTH))))
                .isZero();
    }

    @Test
    void aTokenAloneAttendsToItself() {
        MergedAttention attention =
                new MergedAttention(List.of(new double[] {3, -2}), 2, new double[] {1, 2, 3, 4}, 1, true);
        assertThat(attention.error(new double[] {-9, 0, 0, 7})).isZero();
    }

    @Test
    void aFeatureThatIsAlwaysZeroHasNoGradient() {
        Random random = new Random(3);
        List<double[]> sequences = sequences(random, 2);
        sequences.forEach(x -> IntStream.range(0, TOKENS).forEach(token -> x[token * WIDTH + 2] = 0));
        MergedAttention attention = new MergedAttention(sequences, WIDTH, normal(random, WIDTH * WIDTH), 1, false);
        double[] mask = uniform(random);
        double[] gradient = new double[mask.length];
        attention.gradient(mask, 0.25, gradient);
        for (int j = 0; j < WIDTH; j++) {
            assertThat(gradient[2 * WIDTH + j]).isEqualTo(0.25 * mask[2 * WIDTH + j]);
            assertThat(gradient[j * WIDTH + 2]).isEqualTo(0.25 * mask[j * WIDTH + 2]);
        }
        assertThat(gradient[0]).isNotEqualTo(0.25 * mask[0]);
    }

    @Test
    void whatIsAddedToAllLogitsOfARowChangesNothing() {
        Random random = new Random(4);
        List<double[]> sequences = sequences(random, 2);
        // one more feature, the same for all tokens: weights that read it on the key side shift rows
        List<double[]> wider =
                sequences.stream().map(MergedAttentionTest::withOnes).toList();
        double[] weights = normal(random, (WIDTH + 1) * (WIDTH + 1));
        double[] shifted = weights.clone();
        for (int i = 0; i <= WIDTH; i++) {
            shifted[i * (WIDTH + 1) + WIDTH] += random.nextGaussian();
        }
        MergedAttention attention = new MergedAttention(wider, WIDTH + 1, weights, 1, true);
        assertThat(attention.error(shifted)).isLessThan(1e-14);
    }

    @Test
    void theSaliencyIsTheCurvatureAtOnes() {
        MergedAttention attention = random(new Random(5), 3, true, 0.8);
        double[] saliency = attention.saliency();
        double largest = Arrays.stream(saliency).max().orElseThrow();
        for (int i = 0; i < saliency.length; i++) {
            double curvature =
                    (slope(attention, moved(ones(), i, 1e-5), i) - slope(attention, moved(ones(), i, -1e-5), i)) / 2e-5;
            assertThat(saliency[i]).isCloseTo(curvature, within(1e-7 * largest));
        }
    }

    @Test
    void stepsOfTheInverseLipschitzConstantDescend() {
        Random random = new Random(6);
        MergedAttention attention = random(random, 2, false, 0.5);
        double[] mask = uniform(random);
        double constant = attention.lipschitz(0.01);
        for (int step = 0; step < 20; step++) {
            double[] gradient = new double[mask.length];
            double loss = attention.gradient(mask, 0.01, gradient);
            double norm = Arrays.stream(gradient).map(value -> value * value).sum();
            for (int i = 0; i < mask.length; i++) {
                mask[i] -= gradient[i] / constant;
            }
            assertThat(attention.loss(mask, 0.01)).isLessThanOrEqualTo(loss - norm / constant / 2);
        }
    }

    @Test
    void whatDoesNotFitIsRefused() {
        double[] square = {1, 2, 3, 4};
        assertThatThrownBy(() -> new MergedAttention(List.of(), 2, square, 1, true))
                .isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> new MergedAttention(List.of(new double[3]), 2, square, 1, true))
                .hasMessageContaining("2 wide");
        assertThatThrownBy(() -> new MergedAttention(List.of(square), 2, new double[] {1, 2, Double.NaN, 4}, 1, true))
                .hasMessageContaining("NaN");
        assertThatThrownBy(() -> new MergedAttention(List.of(square), 2, square, Double.NaN, true))
                .hasMessageContaining("positive");
        MergedAttention attention = new MergedAttention(List.of(square), 2, square, 1, true);
        assertThatThrownBy(() -> attention.loss(new double[3], 0)).hasMessageContaining("4 elements");
    }

    private static double slope(MergedAttention attention, double[] mask, int index) {
        double[] gradient = new double[mask.length];
        attention.gradient(mask, 0, gradient);
        return gradient[index];
    }

    private static MergedAttention random(Random random, int count, boolean causal, double scale) {
        return new MergedAttention(sequences(random, count), WIDTH, normal(random, WIDTH * WIDTH), scale, causal);
    }

    private static List<double[]> sequences(Random random, int count) {
        List<double[]> sequences = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            sequences.add(normal(random, TOKENS * WIDTH));
        }
        return sequences;
    }

    private static double[] normal(Random random, int size) {
        return IntStream.range(0, size).mapToDouble(_ -> random.nextGaussian()).toArray();
    }

    private static double[] uniform(Random random) {
        return random.doubles((long) WIDTH * WIDTH).toArray();
    }

    private static double[] ones() {
        double[] mask = new double[WIDTH * WIDTH];
        Arrays.fill(mask, 1);
        return mask;
    }

    private static double[] moved(double[] mask, int index, double by) {
        double[] moved = mask.clone();
        moved[index] += by;
        return moved;
    }

    private static double[] withOnes(double[] sequence) {
        double[] wider = new double[TOKENS * (WIDTH + 1)];
        for (int token = 0; token < TOKENS; token++) {
            System.arraycopy(sequence, token * WIDTH, wider, token * (WIDTH + 1), WIDTH);
            wider[token * (WIDTH + 1) + WIDTH] = 1;
        }
        return wider;
    }
}
