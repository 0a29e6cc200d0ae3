package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.function.LongUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Gram;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.SparseGpt.Budget;
import org.sentei.method.SparseGpt.Factor;
import org.sentei.method.SparseGpt.Parameters;
import org.sentei.method.SparseGpt.Pruned;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/** SparseGPT against its definition: systems of linear equations in fp64, no factor of an inverse anywhere. */
class SparseGptTest {
    private static long half(long n) {
        return n / 2;
    }

    private static List<String> backends() {
        return AvailableBackends.names();
    }

    /** Inputs, tokens x columns, and weights, rows x columns. */
    private static final class Layer {
        private final float[][] x;
        private final float[][] w;

        Layer(float[][] x, float[][] w) {
            this.x = x;
            this.w = w;
        }

        /** Correlated inputs of very different sizes. */
        static Layer random(long seed, int tokens, int rows, int cols) {
            SplittableRandom random = new SplittableRandom(seed);
            float[][] x = new float[tokens][cols];
            for (float[] row : x) {
                for (int j = 0; j < cols; j++) {
                    row[j] = (float) (random.nextGaussian() * (1 + j % 5) + (j > 0 ? 0.6 * row[j - 1] : 0.5));
                }
            }
            float[][] w = new float[rows][cols];
            for (float[] row : w) {
                for (int j = 0; j < cols; j++) {
                    row[j] = (float) random.nextGaussian();
                }
            }
            return new Layer(x, w);
        }

        /** The damped Gram matrix in fp64. */
        double[][] hessian(double damping) {
            int cols = w[0].length;
            double[][] h = new double[cols][cols];
            double mean = 0;
            for (int i = 0; i < cols; i++) {
                for (int j = 0; j < cols; j++) {
                    for (float[] row : x) {
                        h[i][j] += (double) row[i] * row[j];
                    }
                }
                mean += h[i][i] / cols;
            }
            for (int i = 0; i < cols; i++) {
                h[i][i] += damping * mean;
            }
            return h;
        }
    }

    private static final class Result {
        private final BitMask mask;
        private final float[][] weights;
        private final double damping;

        Result(BitMask mask, float[][] weights, double damping) {
            this.mask = mask;
            this.weights = weights;
            this.damping = damping;
        }
    }

    private static Result prune(String name, Layer layer, Parameters parameters) {
        try (Backend backend = Backends.find(name).open(Backend.Options.defaults());
                Scope scope = new Scope(backend)) {
            int rows = layer.w.length;
            int cols = layer.w[0].length;
            View gram = gram(scope, layer.x);
            assertThat(SparseGpt.isFinite(scope, gram)).isTrue();
            Factor factor = SparseGpt.factor(scope, gram, parameters.damping()).orElseThrow();
            View weights = upload(scope, layer.w);
            Pruned pruned = SparseGpt.prune(scope, weights, factor, parameters);
            assertThat(download(weights, backend)).as("the dense weights").isDeepEqualTo(layer.w);
            float[][] after = download(pruned.weights(), backend);
            for (int i = 0; i < rows; i++) {
                for (int j = 0; j < cols; j++) {
                    if (pruned.mask().get(i, j)) {
                        assertThat(Float.floatToRawIntBits(after[i][j])).isZero();
                    }
                }
            }
            return new Result(pruned.mask(), after, factor.damping());
        }
    }

    private static View upload(Scope scope, float[][] rows) {
        View view = scope.matrix(rows.length, rows[0].length);
        for (int i = 0; i < rows.length; i++) {
            scope.backend().copyIn(MemorySegment.ofArray(rows[i]), view.rows(i, i + 1));
        }
        return view;
    }

    private static View gram(Scope scope, float[][] x) {
        int cols = x[0].length;
        View gram = scope.matrix(DType.F64, cols, cols);
        scope.backend().copyIn(MemorySegment.ofArray(new double[cols * cols]), gram);
        scope.backend().run(new Gram(upload(scope, x), gram));
        return gram;
    }

    private static float[][] download(View view, Backend backend) {
        float[][] rows = new float[Math.toIntExact(view.rows())][Math.toIntExact(view.cols())];
        for (int i = 0; i < rows.length; i++) {
            backend.copyOut(view.rows(i, i + 1), MemorySegment.ofArray(rows[i]));
        }
        return rows;
    }

    // ---- by hand

    /** Second moments [[4, 2], [2, 3]]; damped by 2/7 of their mean 3.5 they are [[5, 2], [2, 4]]. */
    private static Layer byHand(float first, float second) {
        return new Layer(new float[][] {{1, 1}, {1, 1}, {1, 0}, {1, 0}, {0, 1}}, new float[][] {{first, second}});
    }

    @ParameterizedTest
    @MethodSource("backends")
    void twoWeightsMakeUpForEachOtherFromLeftToRight(String backend) {
        Parameters parameters = new Parameters(new Budget.Row(SparseGptTest::half), 32, 2.0 / 7);
        // costs w1^2 (5 - 2*2/4) = 4 and w2^2 4 = 36; the second weight takes up 2/4 of the first
        Result result = prune(backend, byHand(1, 3), parameters);
        assertThat(result.weights).isDeepEqualTo(new float[][] {{0, 3.5f}});
        assertThat(result.damping).isEqualTo(2.0 / 7);
        // costs 36 and 4; nothing stands to the right of the second
        assertThat(prune(backend, byHand(3, 1), parameters).weights).isDeepEqualTo(new float[][] {{3, 0}});
    }

    @ParameterizedTest
    @MethodSource("backends")
    void uncorrelatedInputsOfOneSizeGiveMagnitudePruningAndTiesGoByIndex(String backend) {
        int cols = 70;
        float[][] x = new float[cols][cols];
        for (int i = 0; i < cols; i++) {
            x[i][i] = 3;
        }
        SplittableRandom random = new SplittableRandom(9);
        float[][] w = new float[3][cols];
        for (float[] row : w) {
            for (int j = 0; j < cols; j++) {
                row[j] = random.nextInt(1, 4) * (random.nextBoolean() ? 1 : -1);
            }
        }
        Result result = prune(backend, new Layer(x, w), new Parameters(new Budget.Layer(n -> n / 3), 32, 0.01));
        for (int begin = 0; begin < cols; begin += 32) {
            int end = Math.min(cols, begin + 32);
            List<int[]> places = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                for (int j = begin; j < end; j++) {
                    places.add(new int[] {i, j});
                }
            }
            places.sort(Comparator.comparingDouble(place -> Math.abs(w[place[0]][place[1]])));
            for (int rank = 0; rank < places.size(); rank++) {
                int[] at = places.get(rank);
                boolean goes = rank < end - begin; // a third of three rows
                assertThat(result.mask.get(at[0], at[1])).isEqualTo(goes);
                assertThat(result.weights[at[0]][at[1]]).isEqualTo(goes ? 0 : w[at[0]][at[1]]);
            }
        }
    }

    // ---- against the definition

    @ParameterizedTest
    @MethodSource("backends")
    void everyBudgetFollowsTheDefinition(String backend) {
        Layer layer = Layer.random(1, 150, 6, 70);
        for (Budget budget : List.of(new Budget.Layer(n -> n * 37 / 100), new Budget.Row(n -> n * 37 / 100))) {
            check(layer, budget, prune(backend, layer, new Parameters(budget, 32, 0.02)), 0.02);
        }
        Layer even = Layer.random(2, 100, 6, 72);
        for (int[] pattern : new int[][] {{2, 4}, {4, 8}, {1, 2}, {3, 4}}) {
            Budget budget = new Budget.Groups(pattern[0], pattern[1]);
            check(even, budget, prune(backend, even, new Parameters(budget, 32, 0.02)), 0.02);
        }
    }

    /** Plays the sweep in fp64; where it prunes is part of what is checked. */
    private static void check(Layer layer, Budget budget, Result actual, double damping) {
        double[][] h = layer.hessian(damping);
        int rows = layer.w.length;
        int cols = layer.w[0].length;
        // What removing a weight costs when those to its right may change, and what they change by.
        double[] cost = new double[cols];
        double[][] takes = new double[cols][];
        for (int j = 0; j < cols; j++) {
            takes[j] = solve(h, j);
            cost[j] = h[j][j];
            for (int k = j + 1; k < cols; k++) {
                cost[j] -= takes[j][k] * h[k][j];
            }
        }
        double[][] w = new double[rows][cols];
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                w[i][j] = layer.w[i][j];
            }
        }
        boolean[][] goes = new boolean[rows][cols];
        for (int j = 0; j < cols; j++) {
            for (List<int[]> rivals : rivals(budget, j, rows, cols)) {
                rivals.sort(Comparator.comparingDouble(at -> w[at[0]][at[1]] * w[at[0]][at[1]] * cost[at[1]]));
                long prune = count(budget, j, rows, cols);
                for (int rank = 0; rank < prune; rank++) {
                    goes[rivals.get(rank)[0]][rivals.get(rank)[1]] = true;
                }
            }
            for (int i = 0; i < rows; i++) {
                if (goes[i][j]) {
                    for (int k = j + 1; k < cols; k++) {
                        w[i][k] += takes[j][k] * w[i][j];
                    }
                    w[i][j] = 0;
                }
            }
        }
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                assertThat(actual.mask.get(i, j))
                        .as("%s at %d, %d", budget, i, j)
                        .isEqualTo(goes[i][j]);
                assertThat(Math.abs(actual.weights[i][j] - w[i][j]) <= 2e-5 * (1 + Math.abs(w[i][j])))
                        .as("%s at %d, %d: %s instead of %s", budget, i, j, actual.weights[i][j], w[i][j])
                        .isTrue();
            }
        }
    }

    /** Which weights compete when the sweep reaches column j. */
    private static List<List<int[]>> rivals(Budget budget, int j, int rows, int cols) {
        List<List<int[]>> all = new ArrayList<>();
        int width = budget instanceof Budget.Groups(int _, int size) ? size : 32;
        if (j % width != 0) {
            return all;
        }
        for (int i = 0; i < rows; i++) {
            if (i == 0 || !(budget instanceof Budget.Layer)) {
                all.add(new ArrayList<>());
            }
            for (int k = j; k < Math.min(cols, j + width); k++) {
                all.getLast().add(new int[] {i, k});
            }
        }
        return all;
    }

    private static long count(Budget budget, int j, int rows, int cols) {
        long end = Math.min(cols, j + 32);
        return switch (budget) {
            case Budget.Layer(LongUnaryOperator share) ->
                share.applyAsLong(rows * end) - share.applyAsLong((long) rows * j);
            case Budget.Row(LongUnaryOperator share) -> share.applyAsLong(end) - share.applyAsLong(j);
            case Budget.Groups(int prune, int _) -> prune;
        };
    }

    /** How the inputs behind j best stand in for j: H[F, F] t = H[F, j] by elimination, F the columns behind j. */
    private static double[] solve(double[][] h, int j) {
        int cols = h.length;
        double[][] a = new double[cols][cols + 1];
        for (int r = j + 1; r < cols; r++) {
            System.arraycopy(h[r], 0, a[r], 0, cols);
            a[r][cols] = h[r][j];
        }
        for (int p = j + 1; p < cols; p++) {
            for (int r = j + 1; r < cols; r++) {
                double share = r == p ? 0 : a[r][p] / a[p][p];
                for (int c = p; share != 0 && c <= cols; c++) {
                    a[r][c] -= share * a[p][c];
                }
            }
        }
        double[] t = new double[cols];
        for (int r = j + 1; r < cols; r++) {
            t[r] = a[r][cols] / a[r][r];
        }
        return t;
    }

    @ParameterizedTest
    @MethodSource("backends")
    void theErrorIsBelowThatOfTheMaskAlone(String backend) {
        Layer layer = Layer.random(3, 200, 9, 96);
        for (Budget budget : List.of(
                new Budget.Layer(SparseGptTest::half),
                new Budget.Row(SparseGptTest::half),
                new Budget.Groups(2, 4),
                new Budget.Groups(4, 8))) {
            Result result = prune(backend, layer, new Parameters(budget, 32, 1e-4));
            double swept = 0;
            double masked = 0;
            for (float[] x : layer.x) {
                for (int i = 0; i < layer.w.length; i++) {
                    double left = 0;
                    double gone = 0;
                    for (int j = 0; j < x.length; j++) {
                        left += x[j] * ((double) layer.w[i][j] - result.weights[i][j]);
                        gone += result.mask.get(i, j) ? (double) x[j] * layer.w[i][j] : 0;
                    }
                    swept += left * left;
                    masked += gone * gone;
                }
            }
            assertThat(swept).as("%s", budget).isLessThan(masked / 2);
        }
    }

    @Test
    void backendsChooseTheSameWeights() {
        Layer layer = Layer.random(4, 300, 20, 160);
        for (Budget budget : List.of(new Budget.Layer(SparseGptTest::half), new Budget.Groups(2, 4))) {
            Parameters parameters = new Parameters(budget, 64, 0.01);
            BitMask expected = prune("reference", layer, parameters).mask;
            for (String name : backends()) {
                assertThat(prune(name, layer, parameters).mask).as(name).isEqualTo(expected);
            }
        }
    }

    // ---- inputs that are always 0, and matrices without a factor

    @ParameterizedTest
    @MethodSource("backends")
    void deadInputsLoseTheirWeightsAndChangeNothingElse(String backend) {
        Layer whole = Layer.random(5, 90, 4, 64);
        for (float[] row : whole.x) {
            for (int j = 1; j < 64; j += 2) {
                row[j] = 0;
            }
        }
        float[][] halfX = new float[90][32];
        float[][] halfW = new float[4][32];
        for (int j = 0; j < 32; j++) {
            for (int t = 0; t < 90; t++) {
                halfX[t][j] = whole.x[t][2 * j];
            }
            for (int i = 0; i < 4; i++) {
                halfW[i][j] = whole.w[i][2 * j];
            }
        }
        // the mask takes a quarter of each group, less than is dead
        Result result = prune(backend, whole, new Parameters(new Budget.Groups(1, 4), 32, 0.01));
        Result row = prune(backend, whole, new Parameters(new Budget.Row(n -> 3 * n / 4), 64, 0.01));
        Result live =
                prune(backend, new Layer(halfX, halfW), new Parameters(new Budget.Row(SparseGptTest::half), 32, 0.01));
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 32; j++) {
                assertThat(result.weights[i][2 * j + 1]).isZero();
                assertThat(result.weights[i][2 * j]).isEqualTo(halfW[i][j]);
                assertThat(row.weights[i][2 * j + 1]).isZero();
                assertThat(Math.abs(row.weights[i][2 * j] - live.weights[i][j]) < 1e-5)
                        .isTrue();
            }
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void dampingRisesTwiceBeforeThereIsNoFactor(String name) {
        // [[4, 4], [4, 4]]: added to 4, less than 4.4e-16 is nothing
        float[][] x = {{1, 1}, {1, 1}, {1, 1}, {1, 1}};
        try (Backend backend = Backends.find(name).open(Backend.Options.defaults());
                Scope scope = new Scope(backend)) {
            View gram = gram(scope, x);
            Optional<Factor> found = SparseGpt.factor(scope, gram, 1e-17);
            assertThat(found.orElseThrow().damping()).isBetween(0.99e-15, 1.01e-15);
            assertThat(SparseGpt.factor(scope, gram, 0.01).orElseThrow().damping())
                    .isEqualTo(0.01);
            assertThat(SparseGpt.factor(scope, gram, 1e-18)).isEmpty();
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void seesInputsThatAreNotFinite(String name) {
        for (float value : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
            try (Backend backend = Backends.find(name).open(Backend.Options.defaults());
                    Scope scope = new Scope(backend)) {
                View gram = gram(scope, new float[][] {{1, 2, 3}, {1, value, 3}});
                assertThat(SparseGpt.isFinite(scope, gram)).isFalse();
            }
        }
    }

    @Test
    void refusesParametersOutOfRange() {
        Budget budget = new Budget.Row(SparseGptTest::half);
        for (int block : new int[] {0, 16, 100, -32, 1 << 17}) {
            assertThatThrownBy(() -> new Parameters(budget, block, 0.01)).hasMessageContaining("multiple of 32");
        }
        for (double damping : new double[] {0, -1, 1.01, Double.NaN}) {
            assertThatThrownBy(() -> new Parameters(budget, 128, damping)).hasMessageContaining("(0, 1]");
        }
        assertThatThrownBy(() -> new Parameters(new Budget.Groups(1, 3), 128, 0.01))
                .hasMessageContaining("does not divide");
        assertThatThrownBy(() -> new Parameters(new Budget.Groups(5, 4), 128, 0.01))
                .isInstanceOf(IllegalArgumentException.class);
    }
}
