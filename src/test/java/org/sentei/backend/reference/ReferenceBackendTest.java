package org.sentei.backend.reference;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/** The oracle against values that were worked out on paper or are in every table. */
class ReferenceBackendTest {
    private final Backend backend = new ReferenceProvider().open(Backend.Options.defaults());
    private final Scope scope = new Scope(backend);

    @AfterEach
    void close() {
        scope.close();
        backend.close();
    }

    @Test
    void theErrorFunctionHasItsTabulatedValues() {
        double[][] table = {
            {0, 1},
            {0.5, 0.4795001221869535},
            {1, 0.15729920705028513},
            {2, 0.004677734981047266},
            {2.5, 0.000406952017444959},
            {3, 2.209049699858544e-5},
            {5, 1.537459794428035e-12},
            {-1, 1.842700792949715}
        };
        for (double[] entry : table) {
            assertThat(ErrorFunction.complement(entry[0])).isCloseTo(entry[1], within(1e-12 * entry[1]));
        }
    }

    @Test
    void activationsHaveTheirKnownValues() {
        assertThat(activate(Activate.Function.GELU, 1)).isCloseTo((float) 0.8413447460685429, within(1e-7f));
        assertThat(activate(Activate.Function.GELU_TANH, 1)).isCloseTo(0.841192f, within(1e-6f));
        assertThat(activate(Activate.Function.SILU, 1)).isCloseTo(0.7310586f, within(1e-7f));
        assertThat(activate(Activate.Function.RELU, -3)).isZero();
    }

    private float activate(Activate.Function function, float x) {
        View view = matrix(1, 1, x);
        backend.run(new Activate(function, view, null, view));
        return read(view)[0];
    }

    @Test
    void aProductWithBiasIsAddedToWhatStands() {
        View c = matrix(1, 2, 10, 20);
        backend.run(new Gemm(matrix(1, 2, 1, 2), matrix(2, 2, 3, 4, 5, 6), true, matrix(1, 2, 0.5f, -0.5f), c, true));
        assertThat(read(c)).containsExactly(10 + 11 + 0.5f, 20 + 17 - 0.5f);
    }

    @Test
    void normsCentreAndScale() {
        View y = scope.matrix(1, 2);
        backend.run(new RmsNorm(matrix(1, 2, 3, 4), matrix(1, 2, 1, 2), y, 0));
        assertThat(read(y)[0]).isCloseTo((float) (3 / Math.sqrt(12.5)), within(1e-7f));
        assertThat(read(y)[1]).isCloseTo((float) (8 / Math.sqrt(12.5)), within(1e-6f));
        backend.run(new LayerNorm(matrix(1, 2, 1, 3), matrix(1, 2, 2, 2), matrix(1, 2, 5, 5), y, 0));
        assertThat(read(y)).containsExactly(3, 7);
    }

    @Test
    void rotaryTurnsEachPairByItsAngle() {
        View x = matrix(2, 2, 1, 0, 1, 0);
        backend.run(new Rotary(x, matrix(2, 1, 1, 0), matrix(2, 1, 0, 1), 1));
        assertThat(read(x)).containsExactly(1, 0, 0, 1);
    }

    @Test
    void causalAttentionMixesWhatIsSeen() {
        // Logits of the second token: 0 and ln 3, so weights 1/4 and 3/4.
        View output = scope.matrix(2, 1);
        float logit = (float) Math.log(3);
        backend.run(new Attention(
                matrix(2, 1, 1, 1),
                matrix(2, 1, 0, logit),
                matrix(2, 1, 8, 4),
                null,
                output,
                new Attention.Geometry(1, 1, 1, 2, 1, true, 0)));
        assertThat(read(output)[0]).isEqualTo(8);
        assertThat(read(output)[1]).isCloseTo(5, within(1e-6f));
    }

    @Test
    void aLostLogitCostsASixteenthAndPointsBack() {
        // Weights of the second token: 1/4 and 3/4 become 1/2 and 1/2, for the loss is 1/2 (1/16 + 1/16).
        float logit = (float) Math.log(3);
        View loss = scope.matrix(DType.F64, 1, 1);
        backend.copyIn(MemorySegment.ofArray(new double[1]), loss);
        View queryGradient = scope.matrix(2, 1);
        View keyGradient = scope.matrix(2, 1);
        backend.run(new AttentionResidual(
                matrix(2, 1, 1, logit),
                matrix(2, 1, 1, 0),
                matrix(2, 1, 0, -logit),
                matrix(2, 1, 0, 0),
                null,
                loss,
                queryGradient,
                keyGradient,
                new Attention.Geometry(1, 1, 1, 2, 1, true, 0)));
        double[] total = new double[1];
        backend.copyOut(loss, MemorySegment.ofArray(total));
        assertThat(total[0]).isCloseTo(1.0 / 16, within(1e-7));
        // dL/dq = P (R - P R) k, with P = 1/2, R = -1/4 and +1/4; times the weight ln 3, the gradient of the mask.
        assertThat(read(queryGradient)).containsExactly(0, -0.125f);
        assertThat(read(keyGradient)).containsExactly(0, 0);
    }

    @Test
    void aSoftStepFollowsTheWeightedGradientAndStaysInRange() {
        View mask = matrix(1, 4, 1, 0.5f, 0.25f, 0.75f);
        View difference = scope.matrix(1, 4);
        View invalid = scope.matrix(DType.I64, 1, 1);
        backend.copyIn(MemorySegment.ofArray(new long[] {2}), invalid);
        backend.run(new MaskStep(
                matrix(1, 4, 2, -2, 4, 1),
                matrix(1, 4, -1, -0.5f, 1, Float.NaN),
                mask,
                invalid,
                new MaskStep.Rule.Soft(0.125f, 1, difference)));
        // 1 - (-2 + 1) / 8 and 0.5 - (1 + 0.5) / 8 and 0.25 - (4 + 0.25) / 8; the last has no gradient.
        assertThat(read(mask)).containsExactly(1, 0.3125f, 0, 0.75f);
        assertThat(read(difference)).containsExactly(0, 1.375f, -4, -0.25f);
        assertThat(count(invalid)).isEqualTo(3);
    }

    @Test
    void theFirstStepOfAdamIsTheRate() {
        View scores = matrix(1, 4, 1, 1, 0.01f, 1);
        View first = matrix(1, 4, 0, 0, 0, 0);
        View second = matrix(1, 4, 0, 0, 0, 0);
        View invalid = scope.matrix(DType.I64, 1, 1);
        backend.copyIn(MemorySegment.ofArray(new long[1]), invalid);
        backend.run(new MaskStep(
                matrix(1, 4, 2, 1, 1, 1e20f),
                matrix(1, 4, 3, -0.001f, 5, 1),
                scores,
                invalid,
                new MaskStep.Rule.Adam(
                        0.9f,
                        0.999f,
                        matrix(1, 4, MaskStep.Rule.Adam.numbers(0.02f, 0.9f, 0.999f, 1e-12f, 1)),
                        first,
                        second)));
        assertThat(read(scores)[0]).isCloseTo(0.98f, within(1e-6f));
        assertThat(read(scores)[1]).isCloseTo(1.02f, within(1e-6f));
        assertThat(read(scores)[2]).isZero();
        assertThat(read(scores)[3]).isEqualTo(1);
        assertThat(read(first)[0]).isCloseTo(0.6f, within(1e-6f));
        assertThat(read(second)[0]).isCloseTo(0.036f, within(1e-6f));
        assertThat(read(second)[3]).isZero();
        assertThat(count(invalid)).isEqualTo(1);
    }

    private long count(View view) {
        long[] values = new long[1];
        backend.copyOut(view, MemorySegment.ofArray(values));
        return values[0];
    }

    private View matrix(long rows, long cols, float... values) {
        View view = scope.matrix(rows, cols);
        backend.copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private float[] read(View view) {
        float[] values = new float[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(values));
        return values;
    }
}
