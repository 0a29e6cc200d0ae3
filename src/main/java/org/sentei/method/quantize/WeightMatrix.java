package org.sentei.method.quantize;

import java.lang.foreign.MemorySegment;
import java.util.Optional;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * The weight and bias of a convolution or linear layer, in fp32, by output and input channel whatever the file's order. Input
 * channels are counted within an output's group, or over all groups where a method says so.
 */
final class WeightMatrix {
    private final Layer layer;
    private final Shape shape;
    private final int outputs;
    private final int inputs;
    private final int groups;
    private final int window;
    private final boolean inputsFirst;
    private final float[] weight;
    private final float[] bias;
    private final boolean biased;

    private WeightMatrix(LayerGraph graph, Layer layer, int groups, boolean inputsFirst) {
        Tensor tensor = graph.weight(layer.input(1)).orElseThrow();
        this.layer = layer;
        this.shape = tensor.shape();
        this.groups = groups;
        this.inputsFirst = inputsFirst;
        this.outputs = Math.toIntExact(shape.dimension(inputsFirst ? 1 : 0));
        this.inputs = Math.toIntExact(shape.dimension(inputsFirst ? 0 : 1));
        this.weight = Floats.toArray(tensor);
        this.window = weight.length / outputs / inputs;
        this.biased = !layer.input(2).isEmpty();
        this.bias = biased ? biasOf(graph) : new float[outputs];
        for (float value : weight) {
            if (!Float.isFinite(value)) {
                throw new ModelException(graph.name() + ": layer " + layer.name()
                        + " has a weight that is NaN or infinite; the file is damaged or its training diverged");
            }
        }
    }

    private WeightMatrix(WeightMatrix other) {
        this.layer = other.layer;
        this.shape = other.shape;
        this.outputs = other.outputs;
        this.inputs = other.inputs;
        this.groups = other.groups;
        this.window = other.window;
        this.inputsFirst = other.inputsFirst;
        this.weight = other.weight.clone();
        this.bias = other.bias.clone();
        this.biased = other.biased;
    }

    WeightMatrix copy() {
        return new WeightMatrix(this);
    }

    private float[] biasOf(LayerGraph graph) {
        float[] given = Floats.toArray(graph.weight(layer.input(2)).orElseThrow());
        if (given.length != outputs && given.length != 1) {
            throw new ModelException(graph.name() + ": layer " + layer.name() + " has " + outputs
                    + " outputs, but a bias of " + given.length + "; export the model again");
        }
        float[] values = new float[outputs];
        for (int o = 0; o < outputs; o++) {
            values[o] = given[given.length == 1 ? 0 : o];
            if (!Float.isFinite(values[o])) {
                throw new ModelException(graph.name() + ": layer " + layer.name()
                        + " has a bias that is NaN or infinite; the file is damaged or its training diverged");
            }
        }
        return values;
    }

    /** The weights of a layer; empty for layers without constant ones. */
    static Optional<WeightMatrix> of(LayerGraph graph, Layer layer) {
        return switch (Operation.of(graph, layer)) {
            case Operation.Convolution conv -> Optional.of(new WeightMatrix(graph, layer, conv.groups(), false));
            case Operation.Linear linear -> Optional.of(new WeightMatrix(graph, layer, 1, linear.inputsFirst()));
            default -> Optional.empty();
        };
    }

    Layer layer() {
        return layer;
    }

    /** Of the tensor in the file. */
    Shape shape() {
        return shape;
    }

    int outputs() {
        return outputs;
    }

    /** Input channels that one output reads. */
    int inputs() {
        return inputs;
    }

    /** Input channels of all groups. */
    int allInputs() {
        return inputs * groups;
    }

    /** Weights between an input and an output channel. */
    int window() {
        return window;
    }

    /** Weights that one output reads. */
    int fanIn() {
        return inputs * window;
    }

    boolean isDepthwise() {
        return groups > 1 && inputs == 1 && outputs == groups;
    }

    /** Whether there is an input for a bias, or one can be appended: MatMul has none. */
    boolean takesBias() {
        return !layer.is("MatMul");
    }

    /** The axis of the file's tensor that counts outputs. */
    int outputAxis() {
        return inputsFirst ? 1 : 0;
    }

    private int index(int output, int tap) {
        return inputsFirst ? tap * outputs + output : output * inputs * window + tap;
    }

    /** One of the {@link #fanIn} weights of an output. */
    float get(int output, int tap) {
        return weight[index(output, tap)];
    }

    void set(int output, int tap, double value) {
        weight[index(output, tap)] = (float) value;
    }

    float bias(int output) {
        return bias[output];
    }

    void setBias(int output, double value) {
        bias[output] = (float) value;
    }

    /** Where a weight of an output is in the file's tensor. */
    int position(int output, int tap) {
        return index(output, tap);
    }

    /** The input channel, over all groups, that a weight of an output reads. */
    int channel(int output, int tap) {
        return output / (outputs / groups) * inputs + tap / window;
    }

    /** Largest |w| of an output. */
    float outputRange(int output) {
        float range = 0;
        for (int tap = 0; tap < fanIn(); tap++) {
            range = Math.max(range, Math.abs(get(output, tap)));
        }
        return range;
    }

    /** Largest |w| of every input channel of all groups. */
    float[] inputRanges() {
        float[] ranges = new float[allInputs()];
        for (int output = 0; output < outputs; output++) {
            for (int tap = 0; tap < fanIn(); tap++) {
                int channel = channel(output, tap);
                ranges[channel] = Math.max(ranges[channel], Math.abs(get(output, tap)));
            }
        }
        return ranges;
    }

    /** Multiplies what an output gives. */
    void scaleOutput(int output, double factor) {
        for (int tap = 0; tap < fanIn(); tap++) {
            set(output, tap, get(output, tap) * factor);
        }
        bias[output] = (float) (bias[output] * factor);
    }

    /** Multiplies what each input channel, over all groups, counts. */
    void scaleInputs(double[] factors) {
        for (int output = 0; output < outputs; output++) {
            for (int tap = 0; tap < fanIn(); tap++) {
                set(output, tap, get(output, tap) * factors[channel(output, tap)]);
            }
        }
    }

    long zeros() {
        long zeros = 0;
        for (float value : weight) {
            zeros += value == 0 ? 1 : 0;
        }
        return zeros;
    }

    /** Puts weight, and bias where there is one now, under names of their own into a changed graph. */
    void store(LayerGraph.Editor edit) {
        String name =
                edit.constant(layer.input(1) + "_rewritten", DType.F32, shape, MemorySegment.ofArray(weight.clone()));
        edit.change(layer, now -> now.name().equals(layer.name()) ? now.withInput(1, name) : now);
        storeBias(edit);
    }

    /** Puts the bias alone into a changed graph. */
    void storeBias(LayerGraph.Editor edit) {
        if (hasBias()) {
            storeBias(edit, layer);
        }
    }

    /** Puts the bias into a changed graph, where the layer may be another than here. */
    void storeBias(LayerGraph.Editor edit, Layer there) {
        String added = edit.constant(
                layer.name() + "_bias", DType.F32, Shape.of(outputs), MemorySegment.ofArray(bias.clone()));
        edit.change(there, now -> now.name().equals(layer.name()) ? now.withInput(2, added) : now);
    }

    /** Whether the layer has a bias, or needs one by now. */
    boolean hasBias() {
        boolean needed = biased;
        for (float value : bias) {
            needed |= value != 0;
        }
        return needed;
    }
}
