package org.sentei.model.graph;

import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.sentei.tensor.Tensor;

/** What a layer computes, as far as quantization has to know it. */
public sealed interface Operation {
    /**
     * A convolution with a constant weight of outputs x inputs/groups x kernel, and at most a constant bias.
     *
     * @param padded whether cells outside of the input are read as zeros, or might be
     */
    record Convolution(
            int groups, List<Long> kernel, List<Long> strides, List<Long> dilations, List<Long> pads, boolean padded)
            implements Operation {
        /** Copies the lists. */
        public Convolution {
            kernel = List.copyOf(kernel);
            strides = List.copyOf(strides);
            dilations = List.copyOf(dilations);
            pads = List.copyOf(pads);
        }
    }

    /**
     * A product with a constant matrix: MatMul, or Gemm without alpha, beta and transA.
     *
     * @param inputsFirst whether the matrix is inputs x outputs
     */
    record Linear(boolean inputsFirst) implements Operation {}

    /** A batch normalization whose four parameters are constant. */
    record Normalization(float epsilon) implements Operation {}

    /** A function of one number, applied to every element. */
    enum Function {
        /** {@code max(x, 0)}. */
        RELU,
        /** {@code min(max(x, low), high)}. */
        CLIP,
        /** {@code x < 0 ? low x : x}. */
        LEAKY_RELU,
        /** {@code x clip(low x + high, 0, 1)}. */
        HARD_SWISH,
        /** {@code clip(low x + high, 0, 1)}. */
        HARD_SIGMOID,
        /** {@code 1 / (1 + e^-x)}. */
        SIGMOID
    }

    /**
     * A function of one number.
     *
     * @param low first parameter of the function
     * @param high second parameter of the function
     */
    record Activation(Function function, float low, float high) implements Operation {
        /** What becomes of a number, in fp32. */
        public float apply(float x) {
            return switch (function) {
                case RELU -> Math.max(x, 0);
                case CLIP -> Math.min(Math.max(x, low), high);
                case LEAKY_RELU -> x < 0 ? low * x : x;
                case HARD_SWISH -> x * Math.clamp(low * x + high, 0f, 1f);
                case HARD_SIGMOID -> Math.clamp(low * x + high, 0f, 1f);
                case SIGMOID -> (float) (1 / (1 + Math.exp(-x)));
            };
        }

        /** All smaller numbers become what this one becomes; minus infinity where there is none. */
        public double least() {
            return switch (function) {
                case RELU -> 0;
                case CLIP -> low;
                case HARD_SWISH, HARD_SIGMOID -> -high / (double) low;
                case LEAKY_RELU, SIGMOID -> Double.NEGATIVE_INFINITY;
            };
        }

        /** All larger numbers become what this one becomes; infinity where there is none. */
        public double most() {
            return switch (function) {
                case CLIP -> high;
                case HARD_SIGMOID -> (1 - high) / (double) low;
                case RELU, HARD_SWISH, LEAKY_RELU, SIGMOID -> Double.POSITIVE_INFINITY;
            };
        }

        /** Whether {@code f(s x) = s f(x)} for every positive s. */
        public boolean isHomogeneous() {
            return function == Function.RELU || function == Function.LEAKY_RELU;
        }
    }

    /** {@code a op b} with broadcasting. */
    record Arithmetic(Kind kind) implements Operation {
        /** Which of the four. */
        public enum Kind {
            ADD,
            SUB,
            MUL,
            DIV
        }
    }

    /** Values side by side. */
    record Concatenation() implements Operation {}

    /**
     * A pooling over windows or over everything.
     *
     * @param maximum of each window; otherwise its mean
     */
    record Pooling(boolean maximum, boolean global) implements Operation {}

    /**
     * The same numbers in another order or shape, with some of them left out or repeated.
     *
     * @param keepsChannels whether axis 1 stays what it is
     */
    record Rearrangement(boolean keepsChannels) implements Operation {}

    /** Anything else: it stays as it is. */
    record Unknown() implements Operation {}

    /** What a layer of a graph computes. */
    static Operation of(LayerGraph graph, Layer layer) {
        if (!layer.domain().isEmpty() || layer.outputs().isEmpty()) {
            return new Unknown();
        }
        return switch (layer.operator()) {
            case "Conv" -> convolution(graph, layer);
            case "MatMul" ->
                matrix(graph, layer).<Operation>map(_ -> new Linear(true)).orElse(new Unknown());
            case "Gemm" ->
                matrix(graph, layer)
                        .filter(_ -> layer.whole("transA", 0) == 0
                                && layer.number("alpha", 1) == 1
                                && layer.number("beta", 1) == 1
                                && (layer.input(2).isEmpty()
                                        || graph.weight(layer.input(2)).isPresent()))
                        .<Operation>map(_ -> new Linear(layer.whole("transB", 0) == 0))
                        .orElse(new Unknown());
            case "BatchNormalization" ->
                layer.inputs().stream()
                                        .skip(1)
                                        .allMatch(value -> graph.weight(value).isPresent())
                                && layer.outputs().stream().skip(1).allMatch(String::isEmpty)
                                && layer.whole("training_mode", 0) == 0
                        ? new Normalization(layer.number("epsilon", 1e-5f))
                        : new Unknown();
            case "Relu" -> new Activation(Function.RELU, 0, Float.POSITIVE_INFINITY);
            case "Clip" -> clip(graph, layer);
            case "LeakyRelu" -> new Activation(Function.LEAKY_RELU, layer.number("alpha", 0.01f), 0);
            case "HardSwish" -> new Activation(Function.HARD_SWISH, 1f / 6, 0.5f);
            case "HardSigmoid" ->
                new Activation(Function.HARD_SIGMOID, layer.number("alpha", 0.2f), layer.number("beta", 0.5f));
            case "Sigmoid" -> new Activation(Function.SIGMOID, 0, 0);
            case "Add" -> new Arithmetic(Arithmetic.Kind.ADD);
            case "Sub" -> new Arithmetic(Arithmetic.Kind.SUB);
            case "Mul" -> new Arithmetic(Arithmetic.Kind.MUL);
            case "Div" -> new Arithmetic(Arithmetic.Kind.DIV);
            case "Concat" -> new Concatenation();
            case "MaxPool" -> layer.outputs().size() == 1 ? new Pooling(true, false) : new Unknown();
            case "AveragePool" -> new Pooling(false, false);
            case "GlobalAveragePool" -> new Pooling(false, true);
            case "GlobalMaxPool" -> new Pooling(true, true);
            case "ReduceMean" ->
                layer.whole("keepdims", 1) == 1
                                && (layer.wholes("axes").equals(List.of(2L, 3L))
                                        || layer.wholes("axes").equals(List.of(-2L, -1L)))
                        ? new Pooling(false, true)
                        : new Unknown();
            case "Identity", "Dropout" -> layer.outputs().size() == 1 ? new Rearrangement(true) : new Unknown();
            case "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze" -> new Rearrangement(false);
            case "Resize", "Upsample" ->
                layer.text("mode", "nearest").equals("nearest") ? new Rearrangement(true) : new Unknown();
            default -> new Unknown();
        };
    }

    private static Optional<Tensor> matrix(LayerGraph graph, Layer layer) {
        return graph.weight(layer.input(1))
                .filter(weight -> weight.shape().rank() == 2
                        && weight.shape().elements() > 0
                        && graph.weight(layer.input(0)).isEmpty());
    }

    private static Operation convolution(LayerGraph graph, Layer layer) {
        Optional<Tensor> weight = graph.weight(layer.input(1));
        boolean constantBias =
                layer.input(2).isEmpty() || graph.weight(layer.input(2)).isPresent();
        if (weight.isEmpty()
                || weight.get().shape().rank() < 3
                || weight.get().shape().elements() == 0
                || !constantBias) {
            return new Unknown();
        }
        long groups = layer.whole("group", 1);
        if (groups < 1 || weight.get().shape().dimension(0) % groups != 0) {
            return new Unknown();
        }
        long[] shape = weight.get().shape().toArray();
        List<Long> kernel = Arrays.stream(shape).skip(2).boxed().toList();
        List<Long> pads = layer.wholes("pads");
        String automatic = layer.text("auto_pad", "NOTSET");
        boolean padded = automatic.startsWith("SAME")
                ? kernel.stream().anyMatch(k -> k != 1)
                : pads.stream().anyMatch(pad -> pad != 0);
        return new Convolution(
                Math.toIntExact(groups), kernel, layer.wholes("strides"), layer.wholes("dilations"), pads, padded);
    }

    private static Operation clip(LayerGraph graph, Layer layer) {
        Optional<Float> low = bound(graph, layer, 1, "min", Float.NEGATIVE_INFINITY);
        Optional<Float> high = bound(graph, layer, 2, "max", Float.POSITIVE_INFINITY);
        if (low.isEmpty() || high.isEmpty()) {
            return new Unknown();
        }
        return low.get() == 0 && high.get() == Float.POSITIVE_INFINITY
                ? new Activation(Function.RELU, 0, high.get())
                : new Activation(Function.CLIP, low.get(), high.get());
    }

    private static Optional<Float> bound(LayerGraph graph, Layer layer, int input, String attribute, float none) {
        return layer.input(input).isEmpty()
                ? Optional.of(layer.number(attribute, none))
                : graph.scalar(layer.input(input));
    }
}
