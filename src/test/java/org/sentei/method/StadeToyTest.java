package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.Floats;

/** The closed-form examples of one-shot pruning: one linear layer y = W x + b, small enough for pencil and paper. */
class StadeToyTest {
    /** Four tokens of three features; the second feature is constant. */
    private static final float[][] TOKENS = {{1, 2, 0}, {3, 2, 4}, {5, 2, 0}, {7, 2, 4}};

    private static final float[] WEIGHTS = {1, 100, -1.5f};
    private static final float BIAS = 0.5f;

    private static List<String> backends() {
        return AvailableBackends.names();
    }

    @ParameterizedTest
    @MethodSource("backends")
    void stadePrunesTheConstantFeatureWithoutAnyError(String backend) {
        with(backend, scope -> {
            Moments moments = moments(scope, TOKENS);
            assertThat(new double[] {moments.mean(0), moments.mean(1), moments.mean(2)})
                    .containsExactly(4, 2, 2);
            assertThat(moments.variance(0)).isCloseTo(20 / 3.0, within(1e-12));
            assertThat(moments.variance(1)).isZero();
            assertThat(moments.variance(2)).isCloseTo(16 / 3.0, within(1e-12));

            View weights = matrix(scope, new float[][] {WEIGHTS});
            BitMask mask = select(scope, weights, WeightScore.STADE, moments, 1);
            assertThat(pruned(mask)).containsExactly(1);

            float[] shift = Masking.biasShift(scope, weights, mask, moments.means());
            assertThat(BIAS + shift[0]).isEqualTo(200.5f);
            assertThat(meanSquaredError(mask, shift[0])).isZero();
        });
    }

    @ParameterizedTest
    @MethodSource("backends")
    void wandaPrunesTheCheapestFeatureWithoutBias(String backend) {
        with(backend, scope -> {
            Moments moments = moments(scope, TOKENS);
            View weights = matrix(scope, new float[][] {WEIGHTS});
            BitMask mask = select(scope, weights, WeightScore.WANDA, moments, 1);
            assertThat(pruned(mask)).containsExactly(2);
            assertThat(meanSquaredError(mask, 0)).isEqualTo(18);
            float[] shift = Masking.biasShift(scope, weights, mask, moments.means());
            assertThat(meanSquaredError(mask, shift[0])).isEqualTo(9);
        });
    }

    @ParameterizedTest
    @MethodSource("backends")
    void wandaAndStadeAgreeWhenEveryMeanIsZero(String backend) {
        with(backend, scope -> {
            SplittableRandom random = new SplittableRandom(3);
            float[][] tokens = new float[64][33];
            for (int i = 0; i < tokens.length; i += 2) {
                for (int j = 0; j < 33; j++) {
                    tokens[i][j] = random.nextInt(-8, 9) * (1 + j);
                    tokens[i + 1][j] = -tokens[i][j];
                }
            }
            Moments moments = moments(scope, tokens);
            View weights = matrix(scope, random(random, 7, 33));
            BitMask stade = select(scope, weights, WeightScore.STADE, moments, 16);
            assertThat(stade).isEqualTo(select(scope, weights, WeightScore.WANDA, moments, 16));
            assertThat(Masking.biasShift(scope, weights, stade, moments.means()))
                    .containsOnly(0);
        });
    }

    @ParameterizedTest
    @MethodSource("backends")
    void theBiasUpdateCentresTheErrorAndItsGainIsTheSquaredShift(String backend) {
        with(backend, scope -> {
            SplittableRandom random = new SplittableRandom(4);
            float[][] tokens = random(random, 50, 12);
            float[][] rows = random(random, 5, 12);
            for (float[] token : tokens) {
                for (int j = 0; j < token.length; j++) {
                    token[j] += j;
                }
            }
            Moments moments = moments(scope, tokens);
            View weights = matrix(scope, rows);
            BitMask mask = select(scope, weights, WeightScore.STADE, moments, 6);
            float[] shift = Masking.biasShift(scope, weights, mask, moments.means());
            for (int row = 0; row < rows.length; row++) {
                double meanError = 0;
                double without = 0;
                double with = 0;
                for (float[] token : tokens) {
                    double removed = 0;
                    for (int j = 0; j < token.length; j++) {
                        removed += mask.get(row, j) ? rows[row][j] * token[j] : 0;
                    }
                    meanError += (shift[row] - removed) / tokens.length;
                    without += removed * removed / tokens.length;
                    with += (removed - shift[row]) * (removed - shift[row]) / tokens.length;
                }
                assertThat(meanError).isCloseTo(0, within(1e-5));
                assertThat(without - with).isCloseTo((double) shift[row] * shift[row], within(1e-4 * without));
                assertThat(with)
                        .isCloseTo(quadraticForm(rows[row], mask, row, tokens, moments), within(1e-5 * without));
            }
            assertThat(Masking.lowersError(shift, shift)).isTrue();
        });
    }

    /** w_S^T Cov_SS w_S with the population covariance of the pruned inputs. */
    private static double quadraticForm(float[] weights, BitMask mask, int row, float[][] tokens, Moments moments) {
        double sum = 0;
        for (int a = 0; a < weights.length; a++) {
            for (int b = 0; b < weights.length; b++) {
                if (mask.get(row, a) && mask.get(row, b)) {
                    double covariance = 0;
                    for (float[] token : tokens) {
                        covariance += (token[a] - moments.mean(a)) * (token[b] - moments.mean(b)) / tokens.length;
                    }
                    sum += weights[a] * covariance * weights[b];
                }
            }
        }
        return sum;
    }

    @ParameterizedTest
    @MethodSource("backends")
    void scoresDoNotChangeWhenAnInputIsScaledAndItsWeightUnscaled(String backend) {
        with(backend, scope -> {
            SplittableRandom random = new SplittableRandom(5);
            float[][] tokens = random(random, 40, 24);
            float[][] rows = random(random, 6, 24);
            float[][] scaledTokens = Arrays.stream(tokens).map(float[]::clone).toArray(float[][]::new);
            float[][] scaledRows = Arrays.stream(rows).map(float[]::clone).toArray(float[][]::new);
            for (int j = 0; j < 24; j++) {
                // Powers of two are exact in binary floating point.
                float factor = Math.scalb(1f, random.nextInt(-6, 7));
                for (float[] token : scaledTokens) {
                    token[j] *= factor;
                }
                for (float[] row : scaledRows) {
                    row[j] /= factor;
                }
            }
            BitMask plain = select(scope, matrix(scope, rows), WeightScore.STADE, moments(scope, tokens), 12);
            BitMask scaled =
                    select(scope, matrix(scope, scaledRows), WeightScore.STADE, moments(scope, scaledTokens), 12);
            assertThat(scaled).isEqualTo(plain);
        });
    }

    @ParameterizedTest
    @MethodSource("backends")
    void permutingTokensOrSplittingThemDifferentlyChangesNoMask(String backend) {
        with(backend, scope -> {
            SplittableRandom random = new SplittableRandom(6);
            float[][] tokens = random(random, 97, 40);
            View weights = matrix(scope, random(random, 8, 40));
            BitMask once = select(scope, weights, WeightScore.STADE, moments(scope, tokens), 20);
            float[][] reversed = new float[tokens.length][];
            for (int i = 0; i < tokens.length; i++) {
                reversed[i] = tokens[tokens.length - 1 - i];
            }
            assertThat(select(scope, weights, WeightScore.STADE, moments(scope, reversed), 20))
                    .isEqualTo(once);
            Moments split = moments(scope, Arrays.copyOfRange(tokens, 0, 10))
                    .merge(moments(scope, Arrays.copyOfRange(tokens, 10, 11)))
                    .merge(moments(scope, Arrays.copyOfRange(tokens, 11, 97)));
            assertThat(select(scope, weights, WeightScore.STADE, split, 20)).isEqualTo(once);
        });
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aConstantOnTheKeysChangesNoAttentionWithoutRotaryPositions(String backend) {
        with(backend, scope -> {
            SplittableRandom random = new SplittableRandom(7);
            float[][] query = random(random, 9, 8);
            float[][] key = random(random, 9, 8);
            float[][] value = random(random, 9, 8);
            float[] before = attend(scope, query, key, value);
            float[] shift = random(random, 1, 8)[0];
            for (float[] row : key) {
                for (int j = 0; j < row.length; j++) {
                    row[j] += shift[j];
                }
            }
            float[] after = attend(scope, query, key, value);
            for (int i = 0; i < before.length; i++) {
                assertThat(after[i]).isCloseTo(before[i], within(1e-5f));
            }
        });
    }

    private static float[] attend(Scope scope, float[][] query, float[][] key, float[][] value) {
        View output = scope.matrix(9, 8);
        scope.backend()
                .run(new Attention(
                        matrix(scope, query),
                        matrix(scope, key),
                        matrix(scope, value),
                        null,
                        output,
                        new Attention.Geometry(2, 2, 4, 9, 0.5f, true, 0)));
        float[] values = new float[72];
        scope.backend().copyOut(output, MemorySegment.ofArray(values));
        return values;
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aBiasRoundedToBfloat16IsOffByHalfAUnitInTheLastPlaceAtMost(String backend) {
        with(backend, scope -> {
            Moments moments = moments(scope, TOKENS);
            View weights = matrix(scope, new float[][] {{1.2345f, 100.7f, -1.5f}});
            BitMask mask = select(scope, weights, WeightScore.STADE, moments, 1);
            float exact = BIAS + Masking.biasShift(scope, weights, mask, moments.means())[0];
            float rounded = Floats.fromBfloat16(Floats.toBfloat16(exact));
            float unit = Math.ulp(exact) * (1 << 16);
            assertThat(Math.abs((double) rounded - exact)).isLessThanOrEqualTo(unit / 2.0);
        });
    }

    private static void with(String backend, Consumer<Scope> body) {
        try (Backend device = AvailableBackends.open(backend);
                Scope scope = new Scope(device)) {
            body.accept(scope);
        }
    }

    private static Moments moments(Scope scope, float[][] tokens) {
        Moments.Collector collector = new Moments.Collector(scope, tokens[0].length);
        collector.add(matrix(scope, tokens));
        return collector.moments();
    }

    private static BitMask select(Scope scope, View weights, WeightScore score, Moments moments, long prune) {
        View scale = matrix(scope, new float[][] {score.scale(moments)});
        return Selector.select(scope, new Selector.Scored(weights, scale), new Selection.Row(prune));
    }

    private static View matrix(Scope scope, float[][] rows) {
        View view = scope.matrix(rows.length, rows[0].length);
        float[] packed = new float[rows.length * rows[0].length];
        for (int i = 0; i < rows.length; i++) {
            System.arraycopy(rows[i], 0, packed, i * rows[0].length, rows[0].length);
        }
        scope.backend().copyIn(MemorySegment.ofArray(packed), view);
        return view;
    }

    private static float[][] random(SplittableRandom random, int rows, int cols) {
        float[][] values = new float[rows][cols];
        for (float[] row : values) {
            for (int j = 0; j < cols; j++) {
                row[j] = (float) random.nextGaussian();
            }
        }
        return values;
    }

    private static int[] pruned(BitMask mask) {
        return IntStream.range(0, (int) mask.cols())
                .filter(col -> mask.get(0, col))
                .toArray();
    }

    /** Mean over {@link #TOKENS} of (y' - y)^2 of the one output. */
    private static double meanSquaredError(BitMask mask, double shift) {
        double sum = 0;
        for (float[] token : TOKENS) {
            double error = shift;
            for (int j = 0; j < token.length; j++) {
                error -= mask.get(0, j) ? WEIGHTS[j] * token[j] : 0;
            }
            sum += error * error;
        }
        return sum / TOKENS.length;
    }
}
