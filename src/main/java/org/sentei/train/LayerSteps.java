package org.sentei.train;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.UnaryOperator;
import java.util.stream.LongStream;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** What layers of a graph do to PyTorch's arrays, checked as far as that is possible before they run. */
final class LayerSteps {
    private static final String REMEDY =
            "; train a model of convolutions, products with matrices, normalizations, activations, poolings, sums and"
                    + " reshapes, each in its usual form";
    /** A smaller scale would round to nothing but its bounds, and divide by nearly 0. */
    private static final float LEAST_SCALE = 1e-8f;

    private static final double SQRT_2_BY_PI = Math.sqrt(2 / Math.PI);
    /** Largest size, stride, dilation or padding of a window that is taken for one. */
    private static final long LARGEST = 1 << 16;

    private final LayerGraph graph;

    LayerSteps(LayerGraph graph) {
        this.graph = graph;
    }

    /** Values by name while a graph runs; integers are I64. */
    record Run(Map<String, PtNDArray> values, boolean training) {
        PtNDArray at(String name) {
            return values.get(name);
        }
    }

    /** One layer. */
    @FunctionalInterface
    interface Step {
        PtNDArray run(Run run);
    }

    /**
     * The step of a layer.
     *
     * @throws ModelException when there is none
     */
    Step of(Layer layer) {
        if (!layer.domain().isEmpty()
                || layer.outputs().stream().filter(output -> !output.isEmpty()).count() != 1
                || !layer.captures().isEmpty()) {
            throw refused(layer, "it is no operator of one output that can be differentiated here");
        }
        if (Operation.of(graph, layer) instanceof Operation.Activation activation) {
            return activation(layer, activation);
        }
        return switch (layer.operator()) {
            case "Conv" -> convolution(layer);
            case "BatchNormalization" -> batchNormalization(layer);
            case "LayerNormalization" -> layerNormalization(layer);
            case "MaxPool", "AveragePool" -> pooling(layer);
            case "GlobalAveragePool" -> unary(layer, x -> mean(x, spatial(x), true));
            case "Gemm" -> gemm(layer);
            case "MatMul" -> binary(layer, JniUtils::matmul);
            case "Tanh" -> unary(layer, JniUtils::tanh);
            case "Erf" -> unary(layer, JniUtils::erf);
            case "Sqrt" -> unary(layer, JniUtils::sqrt);
            case "Gelu" -> gelu(layer);
            case "Softmax" -> softmax(layer);
            case "Pow" -> binary(layer, JniUtils::pow);
            case "Add" -> binary(layer, JniUtils::add);
            case "Sub" -> binary(layer, JniUtils::sub);
            case "Mul" -> binary(layer, JniUtils::mul);
            case "Div" -> binary(layer, LayerSteps::quotient);
            case "ReduceMean" -> reduceMean(layer);
            case "Concat" -> concat(layer);
            case "Reshape" -> reshape(layer);
            case "Flatten" -> flatten(layer);
            case "Transpose" -> transpose(layer);
            case "Unsqueeze" -> unsqueeze(layer);
            case "Squeeze" -> squeeze(layer);
            case "Slice" -> slice(layer);
            case "Gather" -> gather(layer);
            case "Shape" -> shape(layer);
            case "Cast" -> cast(layer);
            case "Identity", "Dropout" -> unary(layer, x -> x);
            default -> throw refused(layer, "there is no gradient of it here");
        };
    }

    /**
     * The step of a layer that rounds its weights and what it reads.
     *
     * @throws ModelException when the layer has no weights, or others read them too
     */
    Step of(Layer layer, Rounding rounding) {
        Step step = of(layer);
        Optional<Tensor> weight = graph.weight(layer.input(1));
        boolean sole = graph.readers(layer.input(1)).size() == 1;
        int axis = outputs(layer);
        if (weight.isEmpty()
                || !sole
                || weight.get().shape().rank() < 2
                || weight.get().shape().dimension(axis)
                        != rounding.weightScales().size()) {
            throw refused(layer, "its weights cannot be rounded output by output");
        }
        int rank = weight.get().shape().rank();
        long[] broadcast = new long[rank];
        Arrays.fill(broadcast, 1);
        broadcast[axis] = rounding.weightScales().size();
        String input = layer.input(0);
        String inputScale = TrainableGraph.inputScale(layer.name());
        String weightScale = TrainableGraph.weightScale(layer.name());
        return run -> {
            PtNDArray x = run.at(input);
            PtNDArray w = run.at(layer.input(1));
            PtNDArray scales = JniUtils.reshape(run.at(weightScale), broadcast);
            Map<String, PtNDArray> rounded = new HashMap<>(run.values());
            rounded.put(input, round(x, run.at(inputScale), rounding.inputLow(), rounding.inputHigh(), x.size()));
            rounded.put(
                    layer.input(1),
                    round(
                            w,
                            scales,
                            -rounding.weightHigh(),
                            rounding.weightHigh(),
                            w.size() / rounding.weightScales().size()));
            return step.run(new Run(rounded, run.training()));
        };
    }

    /** The axis of a layer's weights that is its outputs. */
    private static int outputs(Layer layer) {
        return layer.is("MatMul") || (layer.is("Gemm") && layer.whole("transB", 0) == 0) ? 1 : 0;
    }

    /**
     * {@code s (c + (rint(c) - c))} with {@code c = clamp(x / s)}, where the part in brackets has no gradient; that of the scale
     * is divided by {@code sqrt(count high)} (LSQ).
     */
    private static PtNDArray round(PtNDArray x, PtNDArray scale, int low, int high, long count) {
        PtNDArray positive = JniUtils.max(JniUtils.abs(scale), number(scale, LEAST_SCALE));
        float share = (float) (1 / Math.sqrt((double) count * high));
        PtNDArray slow = JniUtils.add(times(positive, share), JniUtils.detachGradient(times(positive, 1 - share)));
        PtNDArray clamped = JniUtils.clip(JniUtils.div(x, slow), (float) low, (float) high);
        PtNDArray rest = JniUtils.detachGradient(JniUtils.sub(JniUtils.round(clamped), clamped));
        return JniUtils.mul(JniUtils.add(clamped, rest), slow);
    }

    private ModelException refused(Layer layer, String fact) {
        return new ModelException(graph.name() + ": layer " + layer.name() + " (" + layer.operator()
                + ") cannot be trained: " + fact + REMEDY);
    }

    // ---- elements

    /**
     * A number that lives as long as the step. DJL's operators that take a Java number let go of it at once, though the gradient
     * reads it later.
     */
    private static PtNDArray number(PtNDArray beside, float value) {
        return (PtNDArray) beside.getManager().create(value);
    }

    private static PtNDArray times(PtNDArray x, float factor) {
        return JniUtils.mul(x, number(x, factor));
    }

    private static Step unary(Layer layer, UnaryOperator<PtNDArray> function) {
        String input = layer.input(0);
        return run -> function.apply(run.at(input));
    }

    @FunctionalInterface
    private interface Binary {
        PtNDArray of(PtNDArray a, PtNDArray b);
    }

    private static Step binary(Layer layer, Binary function) {
        String a = layer.input(0);
        String b = layer.input(1);
        return run -> function.of(run.at(a), run.at(b));
    }

    private static PtNDArray quotient(PtNDArray a, PtNDArray b) {
        boolean whole = a.getDataType() == DataType.INT64 && b.getDataType() == DataType.INT64;
        PtNDArray quotient = JniUtils.div(a, b);
        return whole ? JniUtils.to(JniUtils.trunc(quotient), DataType.INT64, a.getDevice()) : quotient;
    }

    private static Step activation(Layer layer, Operation.Activation activation) {
        float low = activation.low();
        float high = activation.high();
        return unary(
                layer,
                switch (activation.function()) {
                    case RELU -> JniUtils::relu;
                    case CLIP -> x -> JniUtils.clip(x, low, high);
                    case LEAKY_RELU -> x -> JniUtils.leakyRelu(x, low);
                    case HARD_SIGMOID -> x -> hardSigmoid(x, low, high);
                    case HARD_SWISH -> x -> JniUtils.mul(x, hardSigmoid(x, low, high));
                    case SIGMOID -> JniUtils::sigmoid;
                });
    }

    private static PtNDArray hardSigmoid(PtNDArray x, float slope, float shift) {
        return JniUtils.clip(JniUtils.add(times(x, slope), number(x, shift)), 0f, 1f);
    }

    private Step gelu(Layer layer) {
        return switch (layer.text("approximate", "none")) {
            case "none" -> unary(layer, JniUtils::gelu);
            case "tanh" ->
                unary(layer, x -> {
                    PtNDArray cubic = times(JniUtils.mul(JniUtils.mul(x, x), x), 0.044715f);
                    PtNDArray bent = JniUtils.tanh(times(JniUtils.add(x, cubic), (float) SQRT_2_BY_PI));
                    return times(JniUtils.mul(x, JniUtils.add(bent, number(x, 1))), 0.5f);
                });
            default -> throw refused(layer, "its approximation is neither none nor tanh");
        };
    }

    /** Before version 13 all axes from the given one on are one. */
    private Step softmax(Layer layer) {
        boolean old = graph.opset() < 13;
        long axis = layer.whole("axis", old ? 1 : -1);
        return unary(layer, x -> {
            int rank = x.getShape().dimension();
            int from = axis(axis, rank);
            if (!old || from == rank - 1) {
                return JniUtils.softmax(x, from, DataType.FLOAT32);
            }
            long rows = x.getShape().slice(0, from).size();
            PtNDArray flat = JniUtils.reshape(x, new long[] {rows, -1});
            return JniUtils.reshape(
                    JniUtils.softmax(flat, 1, DataType.FLOAT32), x.getShape().getShape());
        });
    }

    // ---- layers with windows

    /** Where windows lie: PyTorch's own padding where it is the same on both sides, otherwise cells that are added. */
    private static final class Windows {
        private final long[] kernel;
        private final long[] strides;
        private final long[] dilations;
        private final long[] before;
        private final long[] after;
        private final String automatic;

        Windows(long[] kernel, long[] strides, long[] dilations, long[] before, long[] after, String automatic) {
            this.kernel = kernel;
            this.strides = strides;
            this.dilations = dilations;
            this.before = before;
            this.after = after;
            this.automatic = automatic;
        }

        /** The same with the padding that an input gets. */
        Windows over(Shape input) {
            if (automatic.equals("NOTSET")) {
                return this;
            }
            long[] first = new long[kernel.length];
            long[] last = new long[kernel.length];
            for (int i = 0; i < kernel.length && !automatic.equals("VALID"); i++) {
                long size = input.get(input.dimension() - kernel.length + i);
                long reach = (kernel[i] - 1) * dilations[i] + 1;
                long all = Math.max(0, (Math.ceilDiv(size, strides[i]) - 1) * strides[i] + reach - size);
                first[i] = automatic.equals("SAME_UPPER") ? all / 2 : all - all / 2;
                last[i] = all - first[i];
            }
            return new Windows(kernel, strides, dilations, first, last, "NOTSET");
        }

        boolean even() {
            return Arrays.equals(before, after);
        }

        boolean none() {
            return LongStream.concat(LongStream.of(before), LongStream.of(after))
                    .allMatch(pad -> pad == 0);
        }

        /** The input with cells of a value around it. */
        PtNDArray padded(PtNDArray x, double value) {
            if (none()) {
                return x;
            }
            long[] pads = new long[2 * before.length];
            for (int i = 0; i < before.length; i++) {
                int axis = before.length - 1 - i;
                pads[2 * i] = before[axis];
                pads[2 * i + 1] = after[axis];
            }
            return JniUtils.pad(x, pads, value);
        }
    }

    private Windows windows(Layer layer, long[] kernel) {
        int axes = kernel.length;
        long[] strides = numbers(layer, "strides", axes, 1);
        long[] dilations = numbers(layer, "dilations", axes, 1);
        long[] pads = numbers(layer, "pads", 2 * axes, 0);
        String automatic = layer.text("auto_pad", "NOTSET");
        boolean sizes = LongStream.of(kernel).allMatch(size -> size >= 1 && size <= LARGEST)
                && LongStream.of(strides).allMatch(size -> size >= 1 && size <= LARGEST)
                && LongStream.of(dilations).allMatch(size -> size >= 1 && size <= LARGEST)
                && LongStream.of(pads).allMatch(size -> size >= 0 && size <= LARGEST);
        if (axes < 1
                || axes > 3
                || !sizes
                || !List.of("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER").contains(automatic)) {
            throw refused(layer, "its window, strides, dilations or pads are out of range");
        }
        return new Windows(
                kernel,
                strides,
                dilations,
                Arrays.copyOf(pads, axes),
                Arrays.copyOfRange(pads, axes, 2 * axes),
                automatic);
    }

    private long[] numbers(Layer layer, String attribute, int count, long otherwise) {
        List<Long> given = layer.wholes(attribute);
        long[] numbers = new long[count];
        Arrays.fill(numbers, otherwise);
        if (!given.isEmpty() && given.size() != count) {
            throw refused(layer, attribute + " has " + given.size() + " numbers, not " + count);
        }
        for (int i = 0; i < given.size(); i++) {
            numbers[i] = given.get(i);
        }
        return numbers;
    }

    private Step convolution(Layer layer) {
        if (!(Operation.of(graph, layer) instanceof Operation.Convolution convolution)) {
            throw refused(layer, "its weight or bias is no constant, or its groups do not divide it");
        }
        long[] kernel = convolution.kernel().stream().mapToLong(Long::longValue).toArray();
        Windows windows = windows(layer, kernel);
        String bias = layer.input(2);
        return run -> {
            PtNDArray x = run.at(layer.input(0));
            Windows fixed = windows.over(x.getShape());
            return JniUtils.convolution(
                    fixed.even() ? x : fixed.padded(x, 0),
                    run.at(layer.input(1)),
                    bias.isEmpty() ? null : run.at(bias),
                    new Shape(fixed.strides),
                    new Shape(fixed.even() ? fixed.before : new long[kernel.length]),
                    new Shape(fixed.dilations),
                    convolution.groups());
        };
    }

    private Step pooling(Layer layer) {
        boolean maximum = layer.is("MaxPool");
        Windows windows = windows(
                layer,
                layer.wholes("kernel_shape").stream().mapToLong(Long::longValue).toArray());
        boolean ceiling = layer.whole("ceil_mode", 0) == 1;
        boolean counted = layer.whole("count_include_pad", 0) == 1;
        if (LongStream.of(windows.dilations).anyMatch(size -> size != 1)) {
            throw refused(layer, "its windows have holes (dilations)");
        }
        Shape kernel = new Shape(windows.kernel);
        Shape strides = new Shape(windows.strides);
        Shape none = new Shape(new long[windows.kernel.length]);
        return run -> {
            PtNDArray x = run.at(layer.input(0));
            Windows fixed = windows.over(x.getShape());
            if (maximum) {
                return fixed.even()
                        ? JniUtils.maxPool(x, kernel, strides, new Shape(fixed.before), ceiling)
                        : JniUtils.maxPool(fixed.padded(x, Double.NEGATIVE_INFINITY), kernel, strides, none, ceiling);
            }
            PtNDArray mean = JniUtils.avgPool(fixed.padded(x, 0), kernel, strides, none, ceiling, true);
            if (counted || fixed.none()) {
                return mean;
            }
            PtNDArray cells = fixed.padded((PtNDArray) x.onesLike(), 0);
            return JniUtils.div(mean, JniUtils.avgPool(cells, kernel, strides, none, ceiling, true));
        };
    }

    // ---- normalizations and products

    private Step batchNormalization(Layer layer) {
        if (!(Operation.of(graph, layer) instanceof Operation.Normalization(float epsilon))) {
            throw refused(layer, "its scale, shift, mean or variance is no constant, or it is in training mode");
        }
        // Of the old statistics; PyTorch's momentum is that of the new ones.
        double momentum = 1 - layer.number("momentum", 0.9f);
        // The native function takes the statistics first, whatever DJL calls its parameters.
        return run -> JniUtils.batchNorm(
                run.at(layer.input(0)),
                run.at(layer.input(3)),
                run.at(layer.input(4)),
                run.at(layer.input(1)),
                run.at(layer.input(2)),
                run.training(),
                momentum,
                epsilon);
    }

    private Step layerNormalization(Layer layer) {
        long axis = layer.whole("axis", -1);
        double epsilon = layer.number("epsilon", 1e-5f);
        Optional<Tensor> scale = graph.weight(layer.input(1));
        if (scale.isEmpty()
                || (!layer.input(2).isEmpty() && graph.weight(layer.input(2)).isEmpty())) {
            throw refused(layer, "its scale or shift is no constant");
        }
        return run -> {
            PtNDArray x = run.at(layer.input(0));
            PtNDArray gamma = run.at(layer.input(1));
            PtNDArray beta = layer.input(2).isEmpty() ? (PtNDArray) gamma.zerosLike() : run.at(layer.input(2));
            Shape shape = x.getShape().slice(axis(axis, x.getShape().dimension()));
            return JniUtils.layerNorm(x, shape, gamma, beta, epsilon);
        };
    }

    private Step gemm(Layer layer) {
        float alpha = layer.number("alpha", 1);
        float beta = layer.number("beta", 1);
        boolean firstTurned = layer.whole("transA", 0) != 0;
        boolean secondTurned = layer.whole("transB", 0) != 0;
        return run -> {
            PtNDArray a = turned(run.at(layer.input(0)), firstTurned);
            PtNDArray b = turned(run.at(layer.input(1)), secondTurned);
            PtNDArray product = JniUtils.matmul(a, b);
            PtNDArray scaled = alpha == 1 ? product : times(product, alpha);
            if (layer.input(2).isEmpty()) {
                return scaled;
            }
            PtNDArray c = run.at(layer.input(2));
            return JniUtils.add(scaled, beta == 1 ? c : times(c, beta));
        };
    }

    private static PtNDArray turned(PtNDArray matrix, boolean turned) {
        return turned ? JniUtils.transpose(matrix, 0, 1) : matrix;
    }

    private Step reduceMean(Layer layer) {
        List<Long> axes = axes(layer);
        boolean kept = layer.whole("keepdims", 1) == 1;
        return unary(layer, x -> {
            int rank = x.getShape().dimension();
            long[] which = axes.isEmpty()
                    ? LongStream.range(0, rank).toArray()
                    : axes.stream().mapToLong(axis -> axis(axis, rank)).toArray();
            return mean(x, which, kept);
        });
    }

    private static long[] spatial(PtNDArray x) {
        return LongStream.range(2, x.getShape().dimension()).toArray();
    }

    private static PtNDArray mean(PtNDArray x, long[] axes, boolean kept) {
        PtNDArray mean = x;
        for (long axis :
                LongStream.of(axes).sorted().map(axis -> -axis).sorted().toArray()) {
            mean = JniUtils.mean(mean, -axis, kept);
        }
        return mean;
    }

    // ---- order and shape

    /** Axes that are an attribute, or the constant second input. */
    private List<Long> axes(Layer layer) {
        return layer.input(1).isEmpty() ? layer.wholes("axes") : constants(layer, 1);
    }

    private List<Long> constants(Layer layer, int input) {
        Tensor tensor = graph.constants().get(layer.input(input));
        if (tensor != null && tensor.dtype() == DType.I64) {
            return LongStream.of(tensor.data().toArray(JAVA_LONG_UNALIGNED))
                    .boxed()
                    .toList();
        }
        if (tensor != null && tensor.dtype() == DType.I32) {
            return Arrays.stream(tensor.data().toArray(JAVA_INT_UNALIGNED))
                    .mapToObj(Long::valueOf)
                    .toList();
        }
        throw refused(layer, "its input " + input + " is no constant of whole numbers");
    }

    private static int axis(long axis, int rank) {
        if (axis < -rank || axis >= rank) {
            throw new IllegalArgumentException("axis " + axis + " of " + rank);
        }
        return (int) (axis < 0 ? axis + rank : axis);
    }

    private static Step concat(Layer layer) {
        long axis = layer.whole("axis", 0);
        return run -> {
            PtNDArray[] parts = layer.inputs().stream().map(run::at).toArray(PtNDArray[]::new);
            return JniUtils.cat(parts, axis(axis, parts[0].getShape().dimension()));
        };
    }

    private static Step reshape(Layer layer) {
        boolean zeroes = layer.whole("allowzero", 0) == 1;
        return run -> {
            PtNDArray x = run.at(layer.input(0));
            long[] shape = run.at(layer.input(1)).toLongArray();
            for (int i = 0; i < shape.length && !zeroes; i++) {
                shape[i] = shape[i] == 0 ? x.getShape().get(i) : shape[i];
            }
            return JniUtils.reshape(x, shape);
        };
    }

    private static Step flatten(Layer layer) {
        long axis = layer.whole("axis", 1);
        return unary(layer, x -> {
            Shape shape = x.getShape();
            long rows = shape.slice(0, axis == shape.dimension() ? shape.dimension() : axis(axis, shape.dimension()))
                    .size();
            return JniUtils.reshape(x, new long[] {rows, -1});
        });
    }

    private static Step transpose(Layer layer) {
        List<Long> order = layer.wholes("perm");
        return unary(layer, x -> {
            int rank = x.getShape().dimension();
            return JniUtils.permute(
                    x,
                    order.isEmpty()
                            ? LongStream.range(0, rank).map(i -> rank - 1 - i).toArray()
                            : order.stream().mapToLong(Long::longValue).toArray());
        });
    }

    private Step unsqueeze(Layer layer) {
        List<Long> axes = axes(layer);
        return unary(layer, x -> {
            int rank = x.getShape().dimension() + axes.size();
            PtNDArray wider = x;
            for (long axis :
                    axes.stream().mapToLong(axis -> axis(axis, rank)).sorted().toArray()) {
                wider = JniUtils.unsqueeze(wider, axis);
            }
            return wider;
        });
    }

    private Step squeeze(Layer layer) {
        List<Long> axes = axes(layer);
        return unary(layer, x -> {
            if (axes.isEmpty()) {
                return JniUtils.squeeze(x);
            }
            int rank = x.getShape().dimension();
            List<Long> kept = new ArrayList<>();
            List<Integer> gone = axes.stream().map(axis -> axis(axis, rank)).toList();
            for (int i = 0; i < rank; i++) {
                if (!gone.contains(i)) {
                    kept.add(x.getShape().get(i));
                }
            }
            return JniUtils.reshape(x, kept.stream().mapToLong(Long::longValue).toArray());
        });
    }

    private Step slice(Layer layer) {
        boolean old = layer.inputs().size() == 1;
        List<Long> starts = old ? layer.wholes("starts") : constants(layer, 1);
        List<Long> ends = old ? layer.wholes("ends") : constants(layer, 2);
        List<Long> given = old ? layer.wholes("axes") : layer.input(3).isEmpty() ? List.of() : constants(layer, 3);
        List<Long> axes =
                given.isEmpty() ? LongStream.range(0, starts.size()).boxed().toList() : given;
        List<Long> steps = layer.input(4).isEmpty() ? List.of() : constants(layer, 4);
        if (ends.size() != starts.size()
                || axes.size() != starts.size()
                || (!steps.isEmpty() && steps.size() != starts.size())
                || steps.stream().anyMatch(step -> step < 1)) {
            throw refused(layer, "its starts, ends, axes and steps do not fit together, or a step goes backwards");
        }
        return unary(layer, x -> {
            PtNDArray part = x;
            for (int i = 0; i < starts.size(); i++) {
                int axis = axis(axes.get(i), x.getShape().dimension());
                long size = part.getShape().get(axis);
                long start = within(starts.get(i), size);
                long end = Math.max(start, within(ends.get(i), size));
                part = JniUtils.slice(part, axis, start, end, steps.isEmpty() ? 1 : steps.get(i));
            }
            return part;
        });
    }

    private static long within(long position, long size) {
        return Math.clamp(position < 0 ? position + size : position, 0, size);
    }

    /** Rows of a matrix, with the axis in front and all others behind it. */
    private static Step gather(Layer layer) {
        long axis = layer.whole("axis", 0);
        return run -> {
            PtNDArray table = run.at(layer.input(0));
            PtNDArray chosen = run.at(layer.input(1));
            Shape shape = table.getShape();
            int rank = shape.dimension();
            int along = axis(axis, rank);
            long[] indices = chosen.toLongArray();
            for (int i = 0; i < indices.length; i++) {
                indices[i] += indices[i] < 0 ? shape.get(along) : 0;
            }
            PtNDArray rows = JniUtils.reshape(
                    JniUtils.transpose(table, 0, along),
                    new long[] {shape.get(along), shape.size() / shape.get(along)});
            PtNDArray index = (PtNDArray) table.getManager().create(indices);
            PtNDArray picked = JniUtils.embedding(index, rows, false);
            // The axis changed places with the first one.
            long[] others = shape.getShape();
            others[along] = others[0];
            others[0] = indices.length;
            PtNDArray turned = JniUtils.transpose(JniUtils.reshape(picked, others), 0, along);
            List<Long> result = new ArrayList<>();
            for (int i = 0; i < rank; i++) {
                if (i == along) {
                    LongStream.of(chosen.getShape().getShape()).forEach(result::add);
                } else {
                    result.add(shape.get(i));
                }
            }
            return JniUtils.reshape(
                    turned, result.stream().mapToLong(Long::longValue).toArray());
        };
    }

    private Step shape(Layer layer) {
        if (layer.attributes().containsKey("start") || layer.attributes().containsKey("end")) {
            throw refused(layer, "it takes a part of a shape");
        }
        return unary(layer, x -> (PtNDArray) x.getManager().create(x.getShape().getShape()));
    }

    private Step cast(Layer layer) {
        DataType type = switch ((int) layer.whole("to", 0)) {
            case 1 -> DataType.FLOAT32;
            case 6, 7 -> DataType.INT64;
            default -> throw refused(layer, "training computes in fp32 and int64 alone");
        };
        return unary(layer, x -> JniUtils.to(x, type, x.getDevice()));
    }
}
