package org.sentei.method.quantize;

import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.sentei.tensor.Shape;

/**
 * The weights of a layer as signed bytes with zero point 0, so that pruned zeros stay exact, and its bias as 32-bit numbers in
 * units of input scale times weight scale.
 */
final class RoundedWeights {
    private static final int MOST = 127;
    /** Largest magnitude of a bias: half of what an accumulator holds. */
    private static final double BIAS_LIMIT = 0x1p30;
    /** Largest magnitude of an activation's number less its zero point. */
    private static final long ACTIVATION = 255;
    /** Ranges that the search for the least squared error tries, each one percent smaller. */
    private static final int SHRINKS = 80;

    private final WeightMatrix source;
    private final byte[] numbers;
    private final float[] scales;
    private final int[] bias;

    private RoundedWeights(WeightMatrix source, byte[] numbers, float[] scales, int[] bias) {
        this.source = source;
        this.numbers = numbers;
        this.scales = scales;
        this.bias = bias;
    }

    /**
     * Rounds a layer.
     *
     * @param inputScale of what it reads
     * @param notes where what is out of the ordinary is told
     * @return empty when 32 bits might not hold its sums
     */
    static Optional<RoundedWeights> of(WeightMatrix weights, Quantization how, float inputScale, List<String> notes) {
        int outputs = weights.outputs();
        float[] ranges = new float[outputs];
        for (int o = 0; o < outputs; o++) {
            ranges[o] = how.weightRange() == Quantization.WeightRange.MAX
                    ? weights.outputRange(o)
                    : range(weights, o, o + 1, how);
        }
        float largest = 0;
        for (float range : ranges) {
            largest = Math.max(largest, range);
        }
        if (how.weights() == Quantization.Weights.TENSOR) {
            largest = how.weightRange() == Quantization.WeightRange.MAX ? largest : range(weights, 0, outputs, how);
            Arrays.fill(ranges, largest);
        }
        float[] scales = new float[outputs];
        for (int o = 0; o < outputs; o++) {
            scales[o] = scale(ranges[o], largest, inputScale);
        }
        boolean integerBias = how.form() != Quantization.Form.TENSORRT;
        if (integerBias) {
            raise(weights, how, inputScale, scales, notes);
        }
        byte[] numbers = new byte[Math.toIntExact(weights.shape().elements())];
        boolean correct = how.weightCorrection() && weights.zeros() == 0;
        if (how.weightCorrection() && !correct) {
            notes.add("layer " + weights.layer().name()
                    + " has weights that are zero: their statistics are not corrected, which would change the zeros");
        }
        int[] bias = new int[outputs];
        for (int o = 0; o < outputs; o++) {
            double shift = round(weights, o, scales[o], 0, numbers, correct);
            if (correct && how.weights() == Quantization.Weights.CHANNEL) {
                double spread = spread(weights, o, scales[o], numbers);
                round(weights, o, scales[o], shift, numbers, false);
                scales[o] *= (float) spread;
            } else if (correct) {
                round(weights, o, scales[o], shift, numbers, false);
            }
            bias[o] = (int) Math.rint(weights.bias(o) / ((double) inputScale * scales[o]));
            if (!integerBias) {
                bias[o] = 0;
            }
            long sum = Math.abs((long) bias[o]);
            for (int tap = 0; tap < weights.fanIn(); tap++) {
                sum += ACTIVATION * Math.abs(numbers[weights.position(o, tap)]);
            }
            if (sum > Integer.MAX_VALUE) {
                notes.add("layer " + weights.layer().name() + " stays in float: its sums of " + weights.fanIn()
                        + " products might not fit into 32 bits");
                return Optional.empty();
            }
        }
        return Optional.of(new RoundedWeights(weights, numbers, scales, bias));
    }

    /** Of some outputs together. */
    private static float range(WeightMatrix weights, int from, int to, Quantization how) {
        int fanIn = weights.fanIn();
        float[] values = new float[(to - from) * fanIn];
        for (int o = from; o < to; o++) {
            for (int tap = 0; tap < fanIn; tap++) {
                values[(o - from) * fanIn + tap] = Math.abs(weights.get(o, tap));
            }
        }
        Arrays.sort(values);
        float largest = values[values.length - 1];
        if (how.weightRange() == Quantization.WeightRange.PERCENTILE) {
            return values[(int) Math.min(values.length - 1.0, Math.floor(values.length * how.percentile() / 100))];
        }
        float best = largest;
        double least = Double.POSITIVE_INFINITY;
        for (int i = 0; i < SHRINKS && largest > 0; i++) {
            double range = largest * (1 - i / 100.0);
            double scale = range / MOST;
            double error = 0;
            for (float value : values) {
                double off = value - scale * Math.min(MOST, Math.rint(value / scale));
                error += off * off;
            }
            if (error < least) {
                least = error;
                best = (float) range;
            }
        }
        return best;
    }

    /** A channel without weights has the scale of the largest, for its bias is rounded to that too. */
    private static float scale(float range, float largest, float inputScale) {
        float least = Math.max(Float.MIN_NORMAL, Float.MIN_NORMAL / inputScale);
        float scale = range / MOST;
        float usual = largest / MOST;
        return scale >= least ? scale : usual >= least ? usual : Math.max(1, least);
    }

    private static void raise(
            WeightMatrix weights, Quantization how, float inputScale, float[] scales, List<String> notes) {
        float most = 0;
        int raised = 0;
        for (int o = 0; o < scales.length; o++) {
            float needed = (float) (Math.abs((double) weights.bias(o)) / inputScale / BIAS_LIMIT);
            if (needed > scales[o]) {
                scales[o] = needed;
                raised++;
            }
            most = Math.max(most, scales[o]);
        }
        if (raised > 0) {
            notes.add("layer " + weights.layer().name() + ": " + raised
                    + " biases are so large beside the weights that 32 bits need a coarser scale of the weights");
            if (how.weights() == Quantization.Weights.TENSOR) {
                Arrays.fill(scales, most);
            }
        }
    }

    /** @return mean of what rounding lost, where it is wanted */
    private static double round(
            WeightMatrix weights, int output, float scale, double shift, byte[] numbers, boolean measure) {
        double lost = 0;
        for (int tap = 0; tap < weights.fanIn(); tap++) {
            double weight = weights.get(output, tap);
            int number = (int) Math.clamp(Math.rint((weight + shift) / scale), -MOST, MOST);
            numbers[weights.position(output, tap)] = (byte) number;
            if (measure) {
                lost += weight - (double) scale * number;
            }
        }
        return lost / weights.fanIn();
    }

    /** Standard deviation of the weights over that of the rounded ones; 1 where either is 0. */
    private static double spread(WeightMatrix weights, int output, float scale, byte[] numbers) {
        int count = weights.fanIn();
        double sum = 0;
        double squares = 0;
        double roundedSum = 0;
        double roundedSquares = 0;
        for (int tap = 0; tap < count; tap++) {
            double weight = weights.get(output, tap);
            double rounded = (double) scale * numbers[weights.position(output, tap)];
            sum += weight;
            squares += weight * weight;
            roundedSum += rounded;
            roundedSquares += rounded * rounded;
        }
        double variance = squares / count - sum / count * (sum / count);
        double rounded = roundedSquares / count - roundedSum / count * (roundedSum / count);
        return variance > 0 && rounded > 0 ? Math.sqrt(variance / rounded) : 1;
    }

    WeightMatrix source() {
        return source;
    }

    Shape shape() {
        return source.shape();
    }

    /** In the order of the file's tensor. */
    byte[] numbers() {
        return numbers.clone();
    }

    /** One an output. */
    float scale(int output) {
        return scales[output];
    }

    int bias(int output) {
        return bias[output];
    }

    /** What a weight comes out as. */
    double rounded(int output, int tap) {
        return (double) scales[output] * numbers[source.position(output, tap)];
    }

    long zeros() {
        long zeros = 0;
        for (byte number : numbers) {
            zeros += number == 0 ? 1 : 0;
        }
        return zeros;
    }
}
