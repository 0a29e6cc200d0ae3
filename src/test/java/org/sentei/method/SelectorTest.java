package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;

/** Budgets over a whole layer or model, against the definition by a stable sort. */
class SelectorTest {
    private static final int[][] SHAPES = {{5, 33}, {1, 7}, {12, 64}};

    private static List<String> backends() {
        return AvailableBackends.names();
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aGlobalBudgetEqualsOneStableSortOverAllLayers(String backend) {
        check(backend, random -> (float) random.nextGaussian());
    }

    @ParameterizedTest
    @MethodSource("backends")
    void tiesAcrossLayersArePrunedInOrder(String backend) {
        check(backend, random -> random.nextInt(-2, 3));
    }

    @ParameterizedTest
    @MethodSource("backends")
    void equalWeightsEverywhereArePrunedFromTheFirstOn(String backend) {
        check(backend, _ -> 0.25f);
    }

    @ParameterizedTest
    @MethodSource("backends")
    void theSameStatisticsGiveTheSameMasksAsTheReference(String name) {
        SplittableRandom random = new SplittableRandom(4);
        int rows = 37;
        int cols = 232;
        float[] weights = new float[rows * cols];
        float[] inputs = new float[300 * cols];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) random.nextGaussian();
        }
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = (float) random.nextGaussian(i % cols, 1 + i % cols);
        }
        try (Backend reference = AvailableBackends.open("reference");
                Backend backend = AvailableBackends.open(name);
                Scope oracle = new Scope(reference);
                Scope scope = new Scope(backend)) {
            Moments.Collector collector = new Moments.Collector(oracle, cols);
            collector.add(upload(oracle, inputs, cols));
            Moments moments = collector.moments();
            for (WeightScore score : WeightScore.values()) {
                float[] scale = score.scale(moments);
                for (Selection selection :
                        List.of(new Selection.Row(cols / 2), new Selection.Groups(2, 4), new Selection.Groups(4, 8))) {
                    assertThat(Selector.select(scope, scored(scope, weights, scale, cols), selection))
                            .as("%s, %s", score, selection)
                            .isEqualTo(Selector.select(oracle, scored(oracle, weights, scale, cols), selection));
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void theCutOfOneMatrixIsTheSameOnTheDevice(String name) {
        SplittableRandom random = new SplittableRandom(6);
        int rows = 61;
        int cols = 301;
        float[] weights = new float[rows * cols];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = random.nextInt(40) == 0 ? 0.5f : (float) random.nextGaussian();
        }
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            Selector.Scored scored = scored(scope, weights, null, cols);
            for (long prune : new long[] {0, 1, weights.length / 3, weights.length / 2, weights.length}) {
                Selection cut = Selector.cuts(scope, 1, (_, _) -> scored, prune).getFirst();
                assertThat(Selector.select(scope, scored, new Selector.Budget.Layer(prune).selection()))
                        .as("%d of %d", prune, weights.length)
                        .isEqualTo(Selector.select(scope, scored, cut));
            }
        }
    }

    private static Selector.Scored scored(Scope scope, float[] weights, float[] scale, int cols) {
        return new Selector.Scored(upload(scope, weights, cols), scale == null ? null : upload(scope, scale, cols));
    }

    private static View upload(Scope scope, float[] values, int cols) {
        View view = scope.matrix(values.length / cols, cols);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private interface Draw {
        float from(SplittableRandom random);
    }

    private static void check(String name, Draw draw) {
        SplittableRandom random = new SplittableRandom(9);
        int total = Arrays.stream(SHAPES).mapToInt(shape -> shape[0] * shape[1]).sum();
        float[] all = new float[total];
        for (int i = 0; i < total; i++) {
            all[i] = draw.from(random);
        }
        int[] order = IntStream.range(0, total)
                .boxed()
                .sorted(Comparator.comparingInt(i -> ScoreSelect.key(all[i], 1)))
                .mapToInt(Integer::intValue)
                .toArray();
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            Selector.Source source = (index, local) -> load(local, all, index);
            for (long prune : new long[] {0, 1, total / 3, total / 2, total - 1, total}) {
                boolean[] expected = new boolean[total];
                for (int rank = 0; rank < prune; rank++) {
                    expected[order[rank]] = true;
                }
                List<Selection.Cut> cuts = Selector.cuts(scope, SHAPES.length, source, prune);
                boolean[] actual = new boolean[total];
                for (int i = 0; i < SHAPES.length; i++) {
                    try (Scope local = scope.child()) {
                        BitMask mask = Selector.select(local, load(local, all, i), cuts.get(i));
                        for (int e = 0; e < SHAPES[i][0] * SHAPES[i][1]; e++) {
                            actual[start(i) + e] = mask.get(e / SHAPES[i][1], e % SHAPES[i][1]);
                        }
                    }
                }
                assertThat(actual).as("prune %d", prune).isEqualTo(expected);
            }
        }
    }

    private static Selector.Scored load(Scope scope, float[] all, int index) {
        View weights = scope.matrix(SHAPES[index][0], SHAPES[index][1]);
        scope.backend().copyIn(MemorySegment.ofArray(all).asSlice(4L * start(index), weights.bytes()), weights);
        return new Selector.Scored(weights, null);
    }

    private static int start(int index) {
        return Arrays.stream(SHAPES)
                .limit(index)
                .mapToInt(shape -> shape[0] * shape[1])
                .sum();
    }
}
