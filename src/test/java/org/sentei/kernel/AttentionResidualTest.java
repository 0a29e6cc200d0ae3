package org.sentei.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.IntUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.tensor.DType;

/** What attention residuals are by their mathematics, whatever computes them; values are those of the conformance cases. */
class AttentionResidualTest {
    private static final Attention.Geometry CAUSAL = new Attention.Geometry(4, 2, 8, 24, 0.35f, true, 0);
    private static final Attention.Geometry BOTH_WAYS = new Attention.Geometry(3, 3, 16, 19, 0.25f, false, 0);

    @SuppressWarnings("ArrayRecordComponent") // compared by nobody
    private record Operands(float[] query, float[] key, float[] queryDifference, float[] keyDifference) {
        float[] at(int index) {
            return index == 0 ? queryDifference : keyDifference;
        }
    }

    @SuppressWarnings("ArrayRecordComponent") // compared by nobody
    private record Result(double[] loss, float[] queryGradient, float[] keyGradient) {
        double total() {
            return Arrays.stream(loss).sum();
        }

        float[] gradient(int index) {
            return index == 0 ? queryGradient : keyGradient;
        }
    }

    @Test
    void theGradientIsThatOfTheLoss() {
        for (Attention.Geometry geometry : new Attention.Geometry[] {CAUSAL, BOTH_WAYS}) {
            Operands operands = random(geometry, 2, 0.3, 5);
            Result result = run("reference", geometry, operands, null);
            // Fourth order: what the steps leave out is some 1e-9 of the gradient, what the loss rounds 1e-13.
            float step = 0x1p-8f;
            for (int operand = 0; operand < 2; operand++) {
                float[] moved = operands.at(operand);
                double error = 0;
                double norm = 0;
                for (int i = 0; i < moved.length; i += 7) {
                    float value = moved[i];
                    double[] losses = new double[5];
                    for (int j : new int[] {-2, -1, 1, 2}) {
                        moved[i] = value + j * step;
                        losses[j + 2] =
                                run("reference", geometry, operands, null).total();
                    }
                    moved[i] = value;
                    double slope = (8 * (losses[3] - losses[1]) - (losses[4] - losses[0])) / (12 * step);
                    error += Math.pow(slope - result.gradient(operand)[i], 2);
                    norm += slope * slope;
                }
                assertThat(Math.sqrt(error)).isLessThanOrEqualTo(1e-6 * Math.sqrt(norm));
                assertThat(norm).isPositive();
            }
        }
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void residualsKeepTheirDigitsFromAllButDenseToAHardHalf(String backend) {
        Attention.Geometry geometry = new Attention.Geometry(2, 2, 32, 96, (float) (1 / Math.sqrt(32)), true, 0);
        for (double moved : new double[] {0.05, 1e-3, 1e-5, 0}) {
            Operands operands = pruned(geometry, moved);
            Result expected = run("reference", geometry, operands, null);
            Result actual = run(backend, geometry, operands, null);
            assertThat(expected.total()).isPositive();
            assertThat(actual.total())
                    .as("loss at %s", moved)
                    .isCloseTo(expected.total(), within(1e-5 * expected.total()));
            for (int operand = 0; operand < 2; operand++) {
                assertThat(distance(actual.gradient(operand), expected.gradient(operand)))
                        .as("gradient %s at %s", operand, moved)
                        .isLessThanOrEqualTo(2e-5);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void noDifferenceGivesNoLossAndNoGradient(String backend) {
        Result result = run(backend, CAUSAL, random(CAUSAL, 2, 0, 1), null);
        assertThat(result.loss()).containsOnly(0);
        assertThat(result.queryGradient()).containsOnly(0);
        assertThat(result.keyGradient()).containsOnly(0);
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void aTokenAloneHasNoResidual(String backend) {
        Attention.Geometry alone = new Attention.Geometry(2, 1, 8, 1, 1, true, 0);
        Result result = run(backend, alone, random(alone, 5, 1, 1), null);
        assertThat(result.loss()).containsOnly(0);
        assertThat(result.queryGradient()).containsOnly(0);
        assertThat(result.keyGradient()).containsOnly(0);
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void whatMovesAllLogitsOfARowChangesNothing(String backend) {
        Operands operands = random(BOTH_WAYS, 2, 0.2, 3);
        Result before = run(backend, BOTH_WAYS, operands, null);
        int width = BOTH_WAYS.keyHeads() * BOTH_WAYS.headSize();
        for (int i = 0; i < operands.keyDifference().length; i++) {
            operands.keyDifference()[i] += 0.25f * (i % width % 5);
        }
        Result after = run(backend, BOTH_WAYS, operands, null);
        assertThat(after.total()).isCloseTo(before.total(), within(1e-4 * before.total()));
        assertThat(distance(after.queryGradient(), before.queryGradient())).isLessThan(1e-4);
        assertThat(distance(after.keyGradient(), before.keyGradient())).isLessThan(1e-4);
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void aSharedKeyHeadIsWorthItsCopies(String backend) {
        int heads = CAUSAL.heads();
        int size = CAUSAL.headSize();
        int group = heads / CAUSAL.keyHeads();
        Operands shared = random(CAUSAL, 2, 0.2, 9);
        Attention.Geometry apart = new Attention.Geometry(heads, heads, size, CAUSAL.length(), CAUSAL.scale(), true, 0);
        Operands copied = new Operands(
                shared.query(),
                spread(shared.key(), heads, size, group),
                shared.queryDifference(),
                spread(shared.keyDifference(), heads, size, group));
        Result one = run(backend, CAUSAL, shared, null);
        Result many = run(backend, apart, copied, null);
        for (int head = 0; head < heads; head++) {
            assertThat(one.loss()[head]).isCloseTo(many.loss()[head], within(1e-6 * many.loss()[head]));
        }
        assertThat(distance(one.queryGradient(), many.queryGradient())).isLessThan(1e-6);
        float[] sums = new float[one.keyGradient().length];
        for (int i = 0; i < many.keyGradient().length; i++) {
            sums[i / (heads * size) * (heads / group) * size + i % (heads * size) / size / group * size + i % size] +=
                    many.keyGradient()[i];
        }
        assertThat(distance(one.keyGradient(), sums)).isLessThan(1e-6);
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void paddingMayHoldAnythingAndNothingElseIsHidden(String backend) {
        int length = Math.toIntExact(BOTH_WAYS.length());
        int width = BOTH_WAYS.keyHeads() * BOTH_WAYS.headSize();
        Operands operands = random(BOTH_WAYS, 2, 0.2, 4);
        int[] visible = new int[2 * length];
        Arrays.fill(visible, 1);
        visible[5] = 0;
        Result clean = run(backend, BOTH_WAYS, operands, visible);
        operands.key()[5 * width + 1] = Float.NaN;
        operands.queryDifference()[5 * width + 20] = Float.POSITIVE_INFINITY;
        Result padded = run(backend, BOTH_WAYS, operands, visible);
        assertThat(padded.loss()).isEqualTo(clean.loss());
        assertThat(padded.queryGradient()).isEqualTo(clean.queryGradient());
        assertThat(padded.keyGradient()).isEqualTo(clean.keyGradient());
        assertThat(Arrays.copyOfRange(padded.queryGradient(), 5 * width, 6 * width))
                .containsOnly(0);
        Result seen = run(backend, BOTH_WAYS, operands, null);
        assertThat(seen.loss()[0]).isNaN();
        assertThat(seen.loss()[1]).isNaN();
        assertThat(seen.loss()[2]).isFinite();
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void theLossAloneIsTheSame(String backend) {
        Operands operands = random(CAUSAL, 2, 0.2, 8);
        double[] expected = run(backend, CAUSAL, operands, null).loss();
        try (Backend opened = AvailableBackends.open(backend);
                Scope scope = new Scope(opened)) {
            View[] views = views(scope, CAUSAL, operands);
            View loss = scope.matrix(DType.F64, 1, CAUSAL.heads());
            double[] before = {1, 2, 3, 4};
            opened.copyIn(MemorySegment.ofArray(before), loss);
            opened.run(new AttentionResidual(views[0], views[1], views[2], views[3], null, loss, null, null, CAUSAL));
            double[] added = new double[4];
            opened.copyOut(loss, MemorySegment.ofArray(added));
            for (int head = 0; head < added.length; head++) {
                assertThat(added[head]).isEqualTo(before[head] + expected[head]);
            }
        }
    }

    @Test
    void anOperandThatDoesNotFitIsNamed() {
        try (Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend)) {
            View[] views = views(scope, CAUSAL, random(CAUSAL, 2, 0.2, 8));
            View loss = scope.matrix(DType.F64, 1, CAUSAL.heads());
            assertThatThrownBy(() -> new AttentionResidual(
                            views[0], views[1], views[2], views[2], null, loss, null, null, CAUSAL))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("attention_residual: key difference must be F32 48x16");
            assertThatThrownBy(() -> new AttentionResidual(
                            views[0], views[1], views[2], views[3], null, loss, views[0], null, CAUSAL))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("attention_residual: the gradients come together");
        }
    }

    /** Dense operands of spread 1 and differences of another, all of them multiples of 2^-12. */
    private static Operands random(Attention.Geometry geometry, int sequences, double spread, long seed) {
        SplittableRandom random = new SplittableRandom(seed);
        int tokens = Math.toIntExact(sequences * geometry.length());
        int width = geometry.heads() * geometry.headSize();
        int keyWidth = geometry.keyHeads() * geometry.headSize();
        return new Operands(
                normal(random, tokens * width, 1),
                normal(random, tokens * keyWidth, 1),
                normal(random, tokens * width, spread),
                normal(random, tokens * keyWidth, spread));
    }

    private static float[] normal(SplittableRandom random, int count, double spread) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) (Math.rint(spread * random.nextGaussian() * 4096) / 4096);
        }
        return values;
    }

    /** What masks do to queries and keys: uniform in (1 - moved)..1, or, where that is 0, hard ones that drop half of the weights. */
    private static Operands pruned(Attention.Geometry geometry, double moved) {
        SplittableRandom random = new SplittableRandom(17);
        int inputs = 48;
        int tokens = Math.toIntExact(geometry.length());
        int width = geometry.heads() * geometry.headSize();
        double[][] x = new double[tokens][inputs];
        for (double[] row : x) {
            Arrays.setAll(row, _ -> random.nextGaussian());
        }
        float[][] dense = new float[2][tokens * width];
        float[][] difference = new float[2][tokens * width];
        for (int side = 0; side < 2; side++) {
            for (int column = 0; column < width; column++) {
                for (int input = 0; input < inputs; input++) {
                    double weight = random.nextGaussian() / Math.sqrt(inputs);
                    double lost = moved == 0 ? random.nextInt(2) : moved * random.nextDouble();
                    for (int token = 0; token < tokens; token++) {
                        dense[side][token * width + column] += (float) (x[token][input] * weight);
                        difference[side][token * width + column] -= (float) (x[token][input] * weight * lost);
                    }
                }
            }
        }
        return new Operands(dense[0], dense[1], difference[0], difference[1]);
    }

    /** Columns of key heads, once for each query head of theirs. */
    private static float[] spread(float[] keys, int heads, int size, int group) {
        float[] copies = new float[keys.length * group];
        IntUnaryOperator source =
                i -> i / (heads * size) * (heads / group) * size + i % (heads * size) / size / group * size + i % size;
        for (int i = 0; i < copies.length; i++) {
            copies[i] = keys[source.applyAsInt(i)];
        }
        return copies;
    }

    private static View[] views(Scope scope, Attention.Geometry geometry, Operands operands) {
        float[][] values = {operands.query(), operands.key(), operands.queryDifference(), operands.keyDifference()};
        View[] views = new View[values.length];
        for (int i = 0; i < views.length; i++) {
            int width = (i % 2 == 0 ? geometry.heads() : geometry.keyHeads()) * geometry.headSize();
            views[i] = scope.matrix(values[i].length / width, width);
            scope.backend().copyIn(MemorySegment.ofArray(values[i]), views[i]);
        }
        return views;
    }

    private static Result run(String name, Attention.Geometry geometry, Operands operands, int[] visible) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            View[] views = views(scope, geometry, operands);
            View seen = visible == null
                    ? null
                    : scope.matrix(DType.I32, visible.length / geometry.length(), geometry.length());
            if (visible != null) {
                backend.copyIn(MemorySegment.ofArray(visible), seen);
            }
            double[] loss = new double[geometry.heads()];
            float[] queryGradient = new float[operands.query().length];
            float[] keyGradient = new float[operands.key().length];
            View lossView = scope.matrix(DType.F64, 1, loss.length);
            View queryView = scope.matrix(views[0].rows(), views[0].cols());
            View keyView = scope.matrix(views[1].rows(), views[1].cols());
            backend.copyIn(MemorySegment.ofArray(loss), lossView);
            backend.run(new AttentionResidual(
                    views[0], views[1], views[2], views[3], seen, lossView, queryView, keyView, geometry));
            backend.copyOut(lossView, MemorySegment.ofArray(loss));
            backend.copyOut(queryView, MemorySegment.ofArray(queryGradient));
            backend.copyOut(keyView, MemorySegment.ofArray(keyGradient));
            return new Result(loss, queryGradient, keyGradient);
        }
    }

    /** Of two vectors, relative to the second. */
    private static double distance(float[] actual, float[] expected) {
        double error = 0;
        double norm = 0;
        for (int i = 0; i < expected.length; i++) {
            error += Math.pow((double) actual[i] - expected[i], 2);
            norm += Math.pow(expected[i], 2);
        }
        return Math.sqrt(error / norm);
    }
}
