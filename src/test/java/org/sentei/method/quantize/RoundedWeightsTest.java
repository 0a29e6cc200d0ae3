package org.sentei.method.quantize;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

/** Scales and bytes of weights. */
class RoundedWeightsTest {
    private final List<String> notes = new ArrayList<>();

    @Test
    void everyChannelHasTheScaleOfItsLargestWeight() {
        RoundedWeights rounded = round(how(), 1, 0, new float[] {1, -2, 0.5f, 127, 63.5f, 0}, 0, 0)
                .orElseThrow();
        assertThat(rounded.scale(0)).isEqualTo(2 / 127f);
        assertThat(rounded.scale(1)).isEqualTo(1);
        // 63.5 is a tie, which goes to the even number
        assertThat(rounded.numbers()).containsExactly(64, -127, 32, 127, 64, 0);
    }

    @Test
    void aLayerWithOneScaleRoundsSmallChannelsAway() {
        Quantization tensor = how(Quantization.Weights.TENSOR, Quantization.WeightRange.MAX, false);
        RoundedWeights rounded = round(tensor, 1, 0, new float[] {1e-3f, 1e-3f, 1e-3f, 127, 1, 1}, 0, 0)
                .orElseThrow();
        assertThat(rounded.numbers()).containsExactly(0, 0, 0, 127, 1, 1);
    }

    @Test
    void aChannelOfZerosStaysZeroAndKeepsItsBias() {
        RoundedWeights rounded = round(how(), 0.5f, 0, new float[] {0, 0, 0, 127, 1, 1}, 3.25f, 0)
                .orElseThrow();
        assertThat(rounded.numbers()).startsWith(0, 0, 0);
        assertThat(rounded.bias(0) * 0.5f * rounded.scale(0)).isEqualTo(3.25f, offset(0.25f));
    }

    @Test
    void theSearchForSquaredErrorBeatsTheLargestWeight() {
        float[] weights = new float[20_000];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (float) Math.sin(i * 1.7) * 0.1f;
        }
        weights[5] = 1;
        double byMax = error(round(how(), 1, 1, weights, 0).orElseThrow(), weights);
        double byError = error(
                round(how(Quantization.Weights.CHANNEL, Quantization.WeightRange.MSE, false), 1, 1, weights, 0)
                        .orElseThrow(),
                weights);
        assertThat(byError).isLessThan(byMax);
    }

    @Test
    void weightStatisticsAreRestoredButNotOfPrunedLayers() {
        float[] weights = new float[64];
        for (int i = 0; i < 64; i++) {
            weights[i] = 0.004f + (float) Math.sin(i * 1.7) * 0.003f;
        }
        weights[5] = 1;
        Quantization correcting = how(Quantization.Weights.CHANNEL, Quantization.WeightRange.MAX, true);
        RoundedWeights plain = round(how(), 1, 1, weights, 0).orElseThrow();
        RoundedWeights corrected = round(correcting, 1, 1, weights, 0).orElseThrow();
        assertThat(Math.abs(spread(corrected, 64) / spread(weights) - 1))
                .isLessThan(Math.abs(spread(plain, 64) / spread(weights) - 1) + 1e-12);

        weights[9] = 0;
        RoundedWeights pruned = round(correcting, 1, 1, weights, 0).orElseThrow();
        assertThat(pruned.numbers())
                .containsExactly(round(how(), 1, 1, weights, 0).orElseThrow().numbers());
        assertThat(notes).anyMatch(note -> note.contains("statistics are not corrected"));
    }

    @Test
    void biasesThatWouldOverflowMakeTheWeightsCoarser() {
        RoundedWeights rounded = round(how(), 1e-6f, 0, new float[] {1e-6f, 1e-6f, 0, 1, 1, 1}, 100, 0)
                .orElseThrow();
        assertThat(rounded.bias(0)).isPositive();
        assertThat(rounded.bias(0) * 1e-6 * rounded.scale(0)).isEqualTo(100, offset(0.01));
        assertThat(notes).anyMatch(note -> note.contains("coarser scale"));
    }

    @Test
    void sumsThatMightNotFitLeaveTheLayerInFloat() {
        float[] weights = new float[70_000];
        Arrays.fill(weights, 1);
        assertThat(round(how(), 1, 1, weights, 0)).isEmpty();
        assertThat(notes).anyMatch(note -> note.contains("stays in float"));
        assertThat(round(how(), 1, 1, Arrays.copyOf(weights, 66_000), 0)).isPresent();
    }

    private static double error(RoundedWeights rounded, float[] weights) {
        double error = 0;
        for (int i = 0; i < weights.length; i++) {
            error += Math.pow(rounded.rounded(0, i) - weights[i], 2);
        }
        return error;
    }

    private static double spread(RoundedWeights rounded, int count) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) rounded.rounded(0, i);
        }
        return spread(values);
    }

    private static double spread(float[] values) {
        double mean = 0;
        double squares = 0;
        for (float value : values) {
            mean += value / values.length;
            squares += (double) value * value / values.length;
        }
        return Math.sqrt(squares - mean * mean);
    }

    /** A 1x1 convolution; {@code outputs} 0 means as many as biases. */
    private Optional<RoundedWeights> round(
            Quantization how, float inputScale, int outputs, float[] weights, float... biases) {
        int rows = outputs == 0 ? biases.length : outputs;
        int inputs = weights.length / rows;
        LayerGraph graph = Graphs.of()
                .conv(rows, inputs, 1, 1, 0)
                .constant("conv0.w", Shape.of(rows, inputs, 1, 1), weights)
                .constant("conv0.b", Shape.of(rows), biases)
                .build(inputs, 1);
        return RoundedWeights.of(
                WeightMatrix.of(graph, graph.layers().getFirst()).orElseThrow(), how, inputScale, notes);
    }

    private static Quantization how() {
        return how(Quantization.Weights.CHANNEL, Quantization.WeightRange.MAX, false);
    }

    static Quantization how(Quantization.Weights weights, Quantization.WeightRange range, boolean correction) {
        return new Quantization(
                Quantization.Keep.ALL,
                true,
                true,
                true,
                true,
                Quantization.Smooth.INSERTED,
                weights,
                range,
                correction,
                Quantization.ActivationKind.AFFINE,
                Quantization.ActivationRange.MINMAX,
                99.99,
                List.of(Quantization.Unify.CONCAT),
                Quantization.BiasCorrection.OFF,
                false,
                false,
                Quantization.Form.QDQ);
    }
}
