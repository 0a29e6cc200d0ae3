package org.sentei.method.easier;

import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * A convolution over two axes in fp64, which can be merged with the one behind it. Over one axis it has a height of 1.
 *
 * <p>Output o at (y, x) is {@code bias[o] + sum of w[o, i, u, v] in[i, y stride - begin + u dilation, ...]} over the inputs i of
 * its group, and zero stands for what lies outside of the input.
 */
final class Kernel {
    /** Weights that a merged kernel has at most: 256 MiB of them in fp64. */
    private static final long MOST_WEIGHTS = 1L << 25;
    /** Taps, steps and zeros of a kernel along an axis at most. */
    private static final long LONGEST = 1024;

    private final int outputs;
    private final int inputs;
    private final int groups;
    private final Axis[] axes;
    private final double[] weights;
    private final double[] bias;

    /**
     * How it goes along an axis.
     *
     * @param size taps
     * @param begin zeros in front of the input
     * @param end zeros behind the input
     */
    record Axis(int size, int stride, int dilation, int begin, int end) {
        /** One number after the other as they are. */
        static final Axis POINT = new Axis(1, 1, 1, 0, 0);

        /** From the first tap to the last. */
        int extent() {
            return (size - 1) * dilation + 1;
        }

        /** Outputs over an input of so many elements; 0 where it is too small. */
        int outputs(int length) {
            int room = length + begin + end - extent();
            return room < 0 ? 0 : room / stride + 1;
        }

        boolean isPadded() {
            return begin != 0 || end != 0;
        }

        /** Whether it reads single elements and none outside of the input. */
        boolean isPoint() {
            return size == 1 && !isPadded();
        }

        /** Whether all of it is of a length that kernels have. */
        boolean isShort() {
            return (size - 1L) * dilation < LONGEST && stride <= LONGEST && begin <= LONGEST && end <= LONGEST;
        }

        /** This one and then the next: all taps of both, with a dilation of 1. */
        Axis then(Axis next) {
            int step = stride * next.dilation;
            int extent = extent() + (next.size - 1) * step;
            return new Axis(extent, stride * next.stride, 1, begin + stride * next.begin, end + stride * next.end);
        }

        /** Whether the taps of another one on the same input are taps of this one. */
        boolean covers(Axis other) {
            int shift = begin - other.begin;
            return stride == other.stride
                    && (dilation == 1 || size == 1)
                    && shift >= 0
                    && shift + other.extent() <= size;
        }

        /** With other zeros around. */
        Axis padded(int otherBegin, int otherEnd) {
            return new Axis(size, stride, dilation, otherBegin, otherEnd);
        }
    }

    /** All of a convolution but its numbers. */
    record Outline(int outputs, int inputs, int groups, Axis height, Axis width) {
        boolean isPadded() {
            return height.isPadded() || width.isPadded();
        }

        /** Whether it reads single elements and none outside of the input, so that it is its bias there. */
        boolean isPoint() {
            return height.isPoint() && width.isPoint();
        }

        /** Multiplications for an output of so many pixels. */
        long multiplications(long pixels) {
            return Math.multiplyExact((long) outputs * (inputs / groups) * height.size * width.size, pixels);
        }

        /** Whether {@link #then} can be asked for. */
        boolean canPrecede(Outline next) {
            return next.inputs == outputs
                    && height.then(next.height).isShort()
                    && width.then(next.width).isShort()
                    && then(next).multiplications(1) <= MOST_WEIGHTS;
        }

        /** That of {@link Kernel#then}. */
        Outline then(Outline next) {
            return new Outline(
                    next.outputs,
                    inputs,
                    common(groups, next.groups),
                    height.then(next.height),
                    width.then(next.width));
        }

        /** That of {@link Kernel#plusInput}. */
        Optional<Outline> plusInput() {
            return plus(identity(inputs));
        }

        /** That of {@link Kernel#plus}. */
        Optional<Outline> plus(Outline other) {
            return other.outputs == outputs
                            && other.inputs == inputs
                            && height.covers(other.height)
                            && width.covers(other.width)
                    ? Optional.of(new Outline(outputs, inputs, common(groups, other.groups), height, width))
                    : Optional.empty();
        }

        private static Outline identity(int channels) {
            return new Outline(channels, channels, channels, Axis.POINT, Axis.POINT);
        }
    }

    private Kernel(Outline outline, double[] weights, double[] bias) {
        this(
                outline.outputs(),
                outline.inputs(),
                outline.groups(),
                new Axis[] {outline.height(), outline.width()},
                weights,
                bias);
    }

    private Kernel(int outputs, int inputs, int groups, Axis[] axes, double[] weights, double[] bias) {
        this.outputs = outputs;
        this.inputs = inputs;
        this.groups = groups;
        this.axes = axes;
        this.weights = weights;
        this.bias = bias;
    }

    /** A convolution, or a batch normalization as one; empty for other layers and paddings that are not written down. */
    static Optional<Kernel> of(LayerGraph graph, Layer layer) {
        return switch (Operation.of(graph, layer)) {
            case Operation.Convolution conv -> convolution(graph, layer, conv);
            case Operation.Normalization(float epsilon) -> Optional.of(normalization(graph, layer, epsilon));
            default -> Optional.empty();
        };
    }

    private static Optional<Kernel> convolution(LayerGraph graph, Layer layer, Operation.Convolution conv) {
        int rank = conv.kernel().size();
        if (rank > 2 || !List.of("NOTSET", "VALID").contains(layer.text("auto_pad", "NOTSET"))) {
            return Optional.empty();
        }
        Axis[] axes = {Axis.POINT, Axis.POINT};
        for (int i = 0; i < rank; i++) {
            axes[2 - rank + i] = new Axis(
                    Math.toIntExact(conv.kernel().get(i)),
                    at(conv.strides(), i, 1),
                    at(conv.dilations(), i, 1),
                    at(conv.pads(), i, 0),
                    at(conv.pads(), rank + i, 0));
        }
        for (Axis axis : axes) {
            if (axis.stride < 1 || axis.dilation < 1 || axis.begin < 0 || axis.end < 0 || !axis.isShort()) {
                return Optional.empty();
            }
        }
        Shape shape = graph.weight(layer.input(1)).orElseThrow().shape();
        int outputs = Math.toIntExact(shape.dimension(0));
        double[] bias = layer.input(2).isEmpty()
                ? new double[outputs]
                : wide(graph.weight(layer.input(2)).orElseThrow());
        if (bias.length != outputs) {
            return Optional.empty();
        }
        return Optional.of(new Kernel(
                outputs,
                Math.toIntExact(shape.dimension(1) * conv.groups()),
                conv.groups(),
                axes,
                wide(graph.weight(layer.input(1)).orElseThrow()),
                bias));
    }

    private static int at(List<Long> values, int index, int otherwise) {
        return index < values.size() ? Math.clamp(values.get(index), Integer.MIN_VALUE, Integer.MAX_VALUE) : otherwise;
    }

    private static double[] wide(Tensor tensor) {
        float[] values = Floats.toArray(tensor);
        double[] wide = new double[values.length];
        for (int i = 0; i < values.length; i++) {
            wide[i] = values[i];
        }
        return wide;
    }

    /** {@code gamma (x - mean) / sqrt(variance + epsilon) + beta} a channel. */
    private static Kernel normalization(LayerGraph graph, Layer layer, float epsilon) {
        double[] gamma = wide(graph.weight(layer.input(1)).orElseThrow());
        double[] beta = wide(graph.weight(layer.input(2)).orElseThrow());
        double[] mean = wide(graph.weight(layer.input(3)).orElseThrow());
        double[] variance = wide(graph.weight(layer.input(4)).orElseThrow());
        int channels = gamma.length;
        double[] weights = new double[channels];
        double[] bias = new double[channels];
        for (int c = 0; c < channels; c++) {
            weights[c] = gamma[c] / Math.sqrt(variance[c] + epsilon);
            bias[c] = beta[c] - mean[c] * weights[c];
        }
        return new Kernel(channels, channels, channels, new Axis[] {Axis.POINT, Axis.POINT}, weights, bias);
    }

    int outputs() {
        return outputs;
    }

    int inputs() {
        return inputs;
    }

    int groups() {
        return groups;
    }

    Axis height() {
        return axes[0];
    }

    Axis width() {
        return axes[1];
    }

    double bias(int output) {
        return bias[output];
    }

    /** A weight of an output by input channel over all groups; 0 for those of other groups. */
    double weight(int output, int input, int u, int v) {
        int own = inputs / groups;
        int first = output / (outputs / groups) * own;
        return input < first || input >= first + own ? 0 : weights[index(output, input - first, u, v)];
    }

    private int index(int output, int inputOfGroup, int u, int v) {
        return ((output * (inputs / groups) + inputOfGroup) * axes[0].size + u) * axes[1].size + v;
    }

    Outline outline() {
        return new Outline(outputs, inputs, groups, axes[0], axes[1]);
    }

    boolean hasBias() {
        return Arrays.stream(bias).anyMatch(value -> value != 0);
    }

    private static int common(int a, int b) {
        return b == 0 ? a : common(b, a % b);
    }

    /**
     * This convolution and then the next as one, as if this one's output went on outside of its image: exact but for what the
     * next one's padding replaces by zeros there.
     *
     * <pre>
     *   W[o, i, u d2 s1 + p d1] = sum over u, p, m of W2[o, m, u] W1[m, i, p]
     *   b[o] = b2[o] + sum over m, u of W2[o, m, u] b1[m]
     * </pre>
     */
    Kernel then(Kernel next) {
        Outline both = outline().then(next.outline());
        int own = inputs / both.groups();
        double[] sums = new double[Math.toIntExact(both.multiplications(1))];
        double[] biases = next.bias.clone();
        Kernel result = new Kernel(both, sums, biases);
        int between = next.inputs / next.groups;
        for (int o = 0; o < next.outputs; o++) {
            int firstMiddle = o / (next.outputs / next.groups) * between;
            int firstInput = o / (next.outputs / both.groups()) * own;
            for (int m = 0; m < between; m++) {
                int middle = firstMiddle + m;
                int firstOfMiddle = middle / (outputs / groups) * (inputs / groups);
                for (int y = 0; y < next.axes[0].size; y++) {
                    for (int x = 0; x < next.axes[1].size; x++) {
                        double factor = next.weights[next.index(o, m, y, x)];
                        biases[o] += factor * bias[middle];
                        int down = y * next.axes[0].dilation * axes[0].stride;
                        int right = x * next.axes[1].dilation * axes[1].stride;
                        for (int i = 0; i < inputs / groups; i++) {
                            for (int u = 0; u < axes[0].size; u++) {
                                for (int v = 0; v < axes[1].size; v++) {
                                    int at = result.index(
                                            o,
                                            firstOfMiddle + i - firstInput,
                                            down + u * axes[0].dilation,
                                            right + v * axes[1].dilation);
                                    sums[at] += factor * weights[index(middle, i, u, v)];
                                }
                            }
                        }
                    }
                }
            }
        }
        return result;
    }

    /** With the input added to the output; empty where an output pixel has no tap on the input's pixel. */
    Optional<Kernel> plusInput() {
        double[] ones = new double[inputs];
        Arrays.fill(ones, 1);
        return plus(new Kernel(Outline.identity(inputs), ones, new double[inputs]));
    }

    /** The sum with another convolution of the same input; empty where the other's taps are none of this one's. */
    Optional<Kernel> plus(Kernel other) {
        Optional<Outline> both = outline().plus(other.outline());
        if (both.isEmpty()) {
            return Optional.empty();
        }
        int[] shift = {axes[0].begin - other.axes[0].begin, axes[1].begin - other.axes[1].begin};
        int all = both.get().groups();
        int own = inputs / all;
        double[] sums = new double[Math.toIntExact(both.get().multiplications(1))];
        double[] biases = new double[outputs];
        Kernel sum = new Kernel(both.get(), sums, biases);
        for (int o = 0; o < outputs; o++) {
            biases[o] = bias[o] + other.bias[o];
            int first = o / (outputs / all) * own;
            for (int i = 0; i < own; i++) {
                for (int u = 0; u < axes[0].size; u++) {
                    for (int v = 0; v < axes[1].size; v++) {
                        sums[sum.index(o, i, u, v)] += weight(o, first + i, u, v);
                    }
                }
                for (int u = 0; u < other.axes[0].size; u++) {
                    for (int v = 0; v < other.axes[1].size; v++) {
                        int at = sum.index(
                                o, i, shift[0] + u * other.axes[0].dilation, shift[1] + v * other.axes[1].dilation);
                        sums[at] += other.weight(o, first + i, u, v);
                    }
                }
            }
        }
        return Optional.of(sum);
    }

    /** With other zeros around the input. */
    Kernel padded(int top, int bottom, int left, int right) {
        return new Kernel(
                outputs,
                inputs,
                groups,
                new Axis[] {axes[0].padded(top, bottom), axes[1].padded(left, right)},
                weights,
                bias);
    }

    /** What it makes of an image, channel by channel and row by row. */
    double[] apply(double[] image, int height, int width) {
        int tall = axes[0].outputs(height);
        int wide = axes[1].outputs(width);
        double[] made = new double[outputs * tall * wide];
        int own = inputs / groups;
        for (int o = 0; o < outputs; o++) {
            int first = o / (outputs / groups) * own;
            for (int y = 0; y < tall; y++) {
                for (int x = 0; x < wide; x++) {
                    double sum = bias[o];
                    for (int u = 0; u < axes[0].size; u++) {
                        int row = y * axes[0].stride - axes[0].begin + u * axes[0].dilation;
                        if (row < 0 || row >= height) {
                            continue;
                        }
                        for (int v = 0; v < axes[1].size; v++) {
                            int col = x * axes[1].stride - axes[1].begin + v * axes[1].dilation;
                            if (col < 0 || col >= width) {
                                continue;
                            }
                            for (int i = 0; i < own; i++) {
                                sum += weights[index(o, i, u, v)] * image[((first + i) * height + row) * width + col];
                            }
                        }
                    }
                    made[(o * tall + y) * wide + x] = sum;
                }
            }
        }
        return made;
    }

    /** The weights as a file holds them. */
    float[] roundedWeights() {
        return rounded(weights);
    }

    /** The biases as a file holds them. */
    float[] roundedBias() {
        return rounded(bias);
    }

    static float[] rounded(double[] values) {
        float[] rounded = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            rounded[i] = (float) values[i];
        }
        return rounded;
    }
}
