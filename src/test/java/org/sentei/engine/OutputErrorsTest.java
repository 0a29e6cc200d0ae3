package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.engine.InputStatistics.Evidence;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Errors from Gram matrices and from rows against errors from outputs, token by token in fp64. */
class OutputErrorsTest {
    private static final int ROWS = 7;
    private static final int COLS = 33;
    /** The last of them is held out. */
    private static final int[] BATCHES = {40, 1, 23};

    private final SplittableRandom random = new SplittableRandom(5);
    private final float[][] tokens = tokens();
    private final float[] weight = values(ROWS * COLS, 1);
    private final BitMask pruned = everyThird();

    private static List<String> backends() {
        return AvailableBackends.names();
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aMaskCostsWhatTheOutputsSay(String backend) {
        for (Evidence evidence : List.of(Evidence.GRAM, Evidence.ROWS)) {
            assertThat(measured(backend, evidence, null, null, null))
                    .as("by %s", evidence)
                    .isCloseTo(expected(null, null, null), within(1e-6));
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void aNewBiasCounts(String backend) {
        float[] bias = values(ROWS, 1);
        float[] changed = values(ROWS, 1);
        for (Evidence evidence : List.of(Evidence.GRAM, Evidence.ROWS)) {
            assertThat(measured(backend, evidence, null, bias, changed))
                    .as("by %s", evidence)
                    .isCloseTo(expected(null, bias, changed), within(1e-6));
        }
    }

    @ParameterizedTest
    @MethodSource("backends")
    void newWeightsCount(String backend) {
        float[] updated = values(ROWS * COLS, 1);
        for (int i = 0; i < updated.length; i++) {
            if (pruned.get(i / COLS, i % COLS)) {
                updated[i] = 0;
            }
        }
        assertThat(measured(backend, Evidence.GRAM, updated, null, null))
                .isCloseTo(expected(updated, null, null), within(1e-6));
    }

    @Test
    void anEditThatChangesNothingHasNoErrorEvenWithoutOutputs() {
        float[] zeros = new float[ROWS * COLS];
        try (Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend)) {
            assertThat(error(zeros, Evidence.ROWS, new Edit(site(null), pruned, null, null), null, scope))
                    .isZero();
        }
    }

    private double measured(String name, Evidence evidence, float[] updated, float[] bias, float[] changed) {
        Edit edit = new Edit(
                site(bias),
                pruned,
                updated == null ? null : tensor("layer.weight", updated, Shape.of(ROWS, COLS)),
                changed == null ? null : tensor("layer.bias", changed, Shape.of(ROWS)));
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            return error(weight, evidence, edit, bias, scope);
        }
    }

    private double error(float[] dense, Evidence evidence, Edit edit, float[] bias, Scope scope) {
        InputStatistics input = InputStatistics.collect(
                        new Observed(scope), Map.of(edit.site(), evidence), scope, Progress.NONE)
                .get("x");
        LinearWeights linear = new LinearWeights(
                edit.site(), upload(dense, ROWS, scope), bias == null ? null : upload(bias, 1, scope));
        return OutputErrors.of(linear, edit, input, scope);
    }

    private double expected(float[] updated, float[] bias, float[] changed) {
        double difference = 0;
        double norm = 0;
        for (float[] token : tokens) {
            for (int i = 0; i < ROWS; i++) {
                double before = bias == null ? 0 : bias[i];
                double after = changed == null ? before : changed[i];
                for (int j = 0; j < COLS; j++) {
                    double kept = pruned.get(i, j) ? 0 : updated == null ? weight[i * COLS + j] : updated[i * COLS + j];
                    before += (double) weight[i * COLS + j] * token[j];
                    after += kept * token[j];
                }
                difference += (before - after) * (before - after);
                norm += before * before;
            }
        }
        return Math.sqrt(difference / norm);
    }

    private static Site site(float[] bias) {
        return new Site(
                "layer",
                "layer.weight",
                bias == null ? null : "layer.bias",
                ROWS,
                COLS,
                false,
                Site.Role.OTHER,
                0,
                "x");
    }

    /** Tokens whose means are far from zero. */
    private float[][] tokens() {
        float[][] made = new float[BATCHES[0] + BATCHES[1] + BATCHES[2]][];
        for (int t = 0; t < made.length; t++) {
            made[t] = values(COLS, 1);
            for (int j = 0; j < COLS; j++) {
                made[t][j] += j % 5;
            }
        }
        return made;
    }

    private float[] values(int count, double spread) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) (spread * random.nextGaussian());
        }
        return values;
    }

    private static BitMask everyThird() {
        int words = BitMask.wordsPerRow(COLS);
        int[] bits = new int[ROWS * words];
        for (int i = 0; i < ROWS; i++) {
            for (int j = i % 3; j < COLS; j += 3) {
                bits[i * words + j / 32] |= 1 << (j % 32);
            }
        }
        return new BitMask(ROWS, COLS, bits);
    }

    private static Tensor tensor(String name, float[] values, Shape shape) {
        return new Tensor(name, DType.F32, shape, MemorySegment.ofArray(values));
    }

    private static View upload(float[] values, int rows, Scope scope) {
        View view = scope.matrix(rows, values.length / rows);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    /** A group that reads the tokens in batches of different sizes. */
    private final class Observed implements Walk.Group {
        private final Scope scope;

        Observed(Scope scope) {
            this.scope = scope;
        }

        @Override
        public List<Site> sites() {
            return List.of(site(null));
        }

        @Override
        public LinearWeights weights(Site site) {
            throw new UnsupportedOperationException();
        }

        @Override
        public void observe(Walk.InputObserver observer) {
            int first = 0;
            for (int b = 0; b < BATCHES.length; b++) {
                try (Scope local = scope.child()) {
                    View rows = local.matrix(BATCHES[b], COLS);
                    for (int t = 0; t < BATCHES[b]; t++) {
                        scope.backend().copyIn(MemorySegment.ofArray(tokens[first + t]), rows.rows(t, t + 1));
                    }
                    observer.input("x", rows, b == BATCHES.length - 1, b);
                    scope.backend().sync();
                }
                first += BATCHES[b];
            }
        }

        @Override
        public void commit(List<Edit> edits) {}

        @Override
        public void close() {}
    }
}
