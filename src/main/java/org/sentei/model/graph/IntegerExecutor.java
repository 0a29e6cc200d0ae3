package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.sentei.kernel.Backend;
import org.sentei.kernel.CombineInt8;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.Int8Filters;
import org.sentei.kernel.Levels;
import org.sentei.kernel.Lookup;
import org.sentei.kernel.MaxPoolInt8;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.kernel.Window;
import org.sentei.model.ModelException;
import org.sentei.model.graph.IntegerImage.Order;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Runs a graph of quantized layers, as QDQ or with QLinearConv, on a backend: convolutions and products with constant matrices,
 * with what clamps them, sums, products, maxima and means of windows, values side by side along the channels and functions of
 * one number between integers are ops on integers, which all backends compute to the same bits. What is left, a product whose
 * result nothing rounds too, runs in float elsewhere, part by part; values between are exact either way. Images are NHWC on the
 * device and NCHW outside.
 */
public final class IntegerExecutor implements AutoCloseable {
    /** Runs parts of the graph in float. */
    public interface FloatParts {
        /** Makes a part ready to run; it is asked for once. */
        Part open(LayerGraph part);
    }

    /** A part of the graph in float. */
    public interface Part extends AutoCloseable {
        /** What comes out for the part's inputs. */
        Map<String, Tensor> run(List<Tensor> inputs, Collection<String> wanted);

        /** The type of an output. */
        DType dtype(String output);

        @Override
        void close();
    }

    private final LayerGraph graph;
    private final Backend backend;
    private final Scope weights;
    private final List<Part> opened = new ArrayList<>();
    private final List<Step> steps = new ArrayList<>();
    private final Map<String, Rounding> roundings = new HashMap<>();
    private final Set<String> done = new HashSet<>();
    /** Of values between float parts. */
    private final Map<String, DType> types = new HashMap<>();
    /** Values that products with matrices read. */
    private final Set<String> asRows = new HashSet<>();

    /** How an integer value stands for real ones. */
    private record Rounding(float scale, int zero, DType dtype) {}

    private sealed interface Step {}

    private record Rounded(String real, String integer) implements Step {}

    private record Convolved(Layer layer, String x, String y, Filters filters, Levels levels, List<Long> kernel)
            implements Step {}

    private record Multiplied(Layer layer, String x, String y, Filters filters, Levels levels) implements Step {}

    private record Filters(View weights, View bias, View scale, Int8Filters.Layout layout) {}

    private record Combined(Layer layer, String a, String b, String y, boolean sum) implements Step {}

    private record Pooled(Layer layer, String x, String y) implements Step {}

    private record Averaged(Layer layer, String x, String y, boolean global) implements Step {}

    /** A value of several side by side, and what its integers become. */
    private record Beside(String x, View table) {}

    private record Joined(Layer layer, List<Beside> parts, String y) implements Step {}

    private record Looked(String x, String y, View table) implements Step {}

    private record Moved(Layer layer, String x, String y) implements Step {}

    private record InFloat(Part part, LayerGraph graph) implements Step {}

    /**
     * Packs the weights and opens the float parts.
     *
     * @param backend all integer ops run on it; must live as long
     * @throws ModelException when a convolution's sums might not fit 32 bits or a scale is no usable number
     */
    public IntegerExecutor(LayerGraph graph, Backend backend, FloatParts floats) {
        this.graph = graph;
        this.backend = backend;
        this.weights = new Scope(backend);
        try {
            plan(floats);
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    // ---- what runs where

    private void plan(FloatParts floats) {
        graph.inputs().forEach(input -> types.put(input.name(), input.dtype()));
        for (Layer layer : graph.layers()) {
            if (layer.is("QuantizeLinear")) {
                rounding(layer.output(), layer.input(1), layer.input(2));
            } else if (layer.is("QLinearConv")) {
                rounding(layer.output(), layer.input(6), layer.input(7));
            }
        }
        List<Layer> pending = new ArrayList<>();
        for (Layer layer : graph.layers()) {
            if (done.contains(layer.name()) || isOfConstants(layer)) {
                continue;
            }
            Optional<Step> step = integer(layer);
            if (step.isPresent()) {
                flush(pending, floats);
                steps.add(step.get());
            } else if (layer.is("QuantizeLinear")) {
                flush(pending, floats);
                steps.add(new Rounded(layer.input(0), layer.output()));
            } else if (!(layer.is("DequantizeLinear") && roundings.containsKey(layer.input(0)))) {
                pending.add(layer);
            }
        }
        flush(pending, floats);
    }

    private void rounding(String value, String scale, String zero) {
        Tensor zeros = graph.constants().get(zero);
        Optional<Float> factor = graph.scalar(scale);
        if (factor.isEmpty() || zeros == null || zeros.shape().elements() != 1) {
            throw new ModelException(graph.name() + ": value " + value
                    + " has no constant scale and zero point for all of it; quantize the model with one scale a value");
        }
        byte number = zeros.data().get(ValueLayout.JAVA_BYTE, 0);
        roundings.put(
                value, new Rounding(factor.get(), zeros.dtype() == DType.U8 ? number & 0xff : number, zeros.dtype()));
    }

    /** Weights behind a DequantizeLinear. */
    private boolean isOfConstants(Layer layer) {
        return layer.is("DequantizeLinear") && graph.constants().containsKey(layer.input(0));
    }

    /** The integer value that a real one was. */
    private Optional<String> integers(String real) {
        return graph.producer(real)
                .filter(layer -> layer.is("DequantizeLinear") && roundings.containsKey(layer.input(0)))
                .map(layer -> layer.input(0));
    }

    /** Layers behind one that its op takes along: a clamp, and the rounding. */
    private record End(String y, Operation.Activation clamp, List<Layer> along) {}

    private Optional<End> end(Layer layer, boolean clamps) {
        List<Layer> along = new ArrayList<>();
        Operation.Activation clamp = null;
        Optional<Layer> next = graph.onlyReader(layer.output());
        if (clamps
                && next.isPresent()
                && Operation.of(graph, next.get()) instanceof Operation.Activation activation
                && activation.low() == 0
                && (activation.function() == Operation.Function.RELU
                        || activation.function() == Operation.Function.CLIP)) {
            clamp = activation;
            along.add(next.get());
            next = graph.onlyReader(next.get().output());
        }
        if (next.isEmpty() || !next.get().is("QuantizeLinear")) {
            return Optional.empty();
        }
        along.add(next.get());
        return Optional.of(new End(next.get().output(), clamp, along));
    }

    private Optional<Step> integer(Layer layer) {
        if (layer.is("QLinearConv")) {
            return Optional.of(whole(layer));
        }
        Optional<Step> looked = looked(layer);
        if (looked.isPresent()) {
            return looked;
        }
        boolean weighted = layer.is("Conv") || layer.is("Gemm") || layer.is("MatMul");
        Optional<String> first = integers(layer.input(0));
        Optional<End> end = first.flatMap(_ -> end(layer, weighted));
        if (end.isEmpty()) {
            return Optional.empty();
        }
        Optional<Step> step = weighted
                ? multiplication(layer, first.get(), end.get())
                : withoutWeights(layer, first.get(), end.get().y());
        step.ifPresent(_ -> end.get().along().forEach(taken -> done.add(taken.name())));
        return step;
    }

    /**
     * A function of one number.
     *
     * @param of the value that it is applied to
     */
    private record OfOneNumber(String of, UnaryOperator<Float> function) {}

    private Optional<OfOneNumber> ofOneNumber(Layer layer) {
        return switch (Operation.of(graph, layer)) {
            case Operation.Activation activation -> Optional.of(new OfOneNumber(layer.input(0), activation::apply));
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind) -> {
                Optional<Float> left = number(layer.input(0));
                Optional<Float> right = number(layer.input(1));
                if (right.isPresent()) {
                    float number = right.get();
                    yield Optional.of(new OfOneNumber(layer.input(0), x -> apply(kind, x, number)));
                }
                yield left.map(number -> new OfOneNumber(layer.input(1), x -> apply(kind, number, x)));
            }
            default -> Optional.empty();
        };
    }

    /** A constant number that gives no value another rank. */
    private Optional<Float> number(String value) {
        return graph.scalar(value)
                .filter(_ -> graph.constants().get(value).shape().rank() <= 1);
    }

    private static float apply(Operation.Arithmetic.Kind kind, float a, float b) {
        return switch (kind) {
            case ADD -> a + b;
            case SUB -> a - b;
            case MUL -> a * b;
            case DIV -> a / b;
        };
    }

    /** Functions of one number, one behind the other between integers, are one table. */
    private Optional<Step> looked(Layer layer) {
        Optional<OfOneNumber> first = ofOneNumber(layer);
        Optional<String> x = first.flatMap(found -> integers(found.of()));
        if (x.isEmpty()) {
            return Optional.empty();
        }
        UnaryOperator<Float> all = first.get().function();
        List<Layer> along = new ArrayList<>();
        Optional<Layer> next = graph.onlyReader(layer.output());
        while (next.isPresent() && !next.get().is("QuantizeLinear")) {
            Optional<OfOneNumber> found = ofOneNumber(next.get());
            if (found.isEmpty()) {
                return Optional.empty();
            }
            UnaryOperator<Float> before = all;
            all = real -> found.get().function().apply(before.apply(real));
            along.add(next.get());
            next = graph.onlyReader(next.get().output());
        }
        if (next.isEmpty()) {
            return Optional.empty();
        }
        along.add(next.get());
        along.forEach(taken -> done.add(taken.name()));
        String y = next.get().output();
        return Optional.of(new Looked(x.get(), y, table(all, x.get(), y)));
    }

    private Optional<Step> withoutWeights(Layer layer, String x, String y) {
        boolean isSame = roundings.get(x).equals(roundings.get(y));
        return switch (Operation.of(graph, layer)) {
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind)
            when kind == Operation.Arithmetic.Kind.ADD || kind == Operation.Arithmetic.Kind.MUL ->
                integers(layer.input(1))
                        .map(other -> new Combined(layer, x, other, y, kind == Operation.Arithmetic.Kind.ADD));
            case Operation.Pooling(boolean maximum, boolean global)
            when maximum && !global && isSame && isOfImages(layer) -> Optional.of(new Pooled(layer, x, y));
            case Operation.Pooling(boolean maximum, boolean global)
            when !maximum && (global || (isOfImages(layer) && hasOneDivisor(layer))) ->
                Optional.of(new Averaged(layer, x, y, global));
            case Operation.Concatenation _ when layer.whole("axis", 0) == 1 -> joined(layer, y);
            case Operation.Rearrangement _
            when isSame && (layer.is("Flatten") || reshape(layer).isPresent()) -> Optional.of(new Moved(layer, x, y));
            default -> Optional.empty();
        };
    }

    /** Whether a pool goes over rows and columns, and over whole windows alone. */
    private static boolean isOfImages(Layer layer) {
        return layer.wholes("kernel_shape").size() == 2 && layer.whole("ceil_mode", 0) == 0;
    }

    /** Whether a mean divides by the size of its window everywhere: it counts the padding, or there is none. */
    private static boolean hasOneDivisor(Layer layer) {
        return layer.whole("count_include_pad", 0) != 0
                || (!layer.text("auto_pad", "NOTSET").startsWith("SAME")
                        && layer.wholes("pads").stream().allMatch(pad -> pad == 0));
    }

    private Optional<Step> joined(Layer layer, String y) {
        List<Beside> parts = new ArrayList<>();
        for (String input : layer.inputs()) {
            Optional<String> x = integers(input);
            if (x.isEmpty()) {
                return Optional.empty();
            }
            parts.add(new Beside(x.get(), table(real -> real, x.get(), y)));
        }
        return Optional.of(new Joined(layer, List.copyOf(parts), y));
    }

    /** The constant shape that a Reshape gives. */
    private Optional<List<Long>> reshape(Layer layer) {
        return Optional.ofNullable(graph.constants().get(layer.input(1)))
                .filter(shape -> layer.is("Reshape") && shape.dtype() == DType.I64)
                .map(shape -> Arrays.stream(shape.data().toArray(ValueLayout.JAVA_LONG_UNALIGNED))
                        .boxed()
                        .toList());
    }

    // ---- weights

    /** A QLinearConv. */
    private Step whole(Layer layer) {
        Tensor weight = graph.constants().get(layer.input(3));
        Tensor scale = graph.constants().get(layer.input(4));
        Optional<float[]> scales =
                weight == null || scale == null || weight.shape().rank() != 4
                        ? Optional.empty()
                        : perOutput(scale, weight.shape().dimension(0), true);
        if (scales.isEmpty() || weight.dtype() != DType.I8 || !areZeros(layer.input(5))) {
            throw new ModelException(
                    graph.name() + ": layer " + layer.name() + " has no constant weights of images in I8"
                            + " with zero points 0 and a scale, or one an output; quantize the model with symmetric weights");
        }
        int[] bias = layer.input(8).isEmpty() ? null : numbers(layer.input(8));
        return convolution(layer, layer.input(0), new End(layer.output(), null, List.of()), weight, scales.get(), bias);
    }

    /** A convolution, or a product with a matrix, between integers; in float where its weights are none of ours. */
    private Optional<Step> multiplication(Layer layer, String x, End end) {
        Optional<Layer> found = symmetric(layer.input(1), DType.I8);
        if (found.isEmpty()) {
            return Optional.empty();
        }
        Tensor weight = graph.constants().get(found.get().input(0));
        boolean image = layer.is("Conv");
        boolean fits = weight.shape().rank() == (image ? 4 : 2)
                && weight.shape().elements() > 0
                && layer.whole("transA", 0) == 0
                && layer.number("alpha", 1) == 1
                && layer.number("beta", 1) == 1;
        if (!fits) {
            return Optional.empty();
        }
        int axis = image || layer.whole("transB", 0) != 0 ? 0 : 1;
        long outputs = weight.shape().dimension(axis);
        Optional<float[]> scales = perOutput(
                graph.constants().get(found.get().input(1)),
                outputs,
                Math.floorMod(found.get().whole("axis", 1), weight.shape().rank()) == axis);
        Optional<Layer> bias = symmetric(layer.input(2), DType.I32)
                .filter(numbers -> scales.isPresent() && isBias(numbers, roundings.get(x), scales.get()));
        if (scales.isEmpty() || (bias.isEmpty() && !layer.input(2).isEmpty())) {
            return Optional.empty();
        }
        int[] biases = bias.map(numbers -> numbers(numbers.input(0))).orElse(null);
        return Optional.of(
                image
                        ? convolution(layer, x, end, weight, scales.get(), biases)
                        : product(layer, x, end, weight, axis, scales.get(), biases));
    }

    /** The DequantizeLinear behind constants of a type whose zero points are 0. */
    private Optional<Layer> symmetric(String real, DType dtype) {
        return graph.producer(real)
                .filter(this::isOfConstants)
                .filter(layer -> graph.constants().get(layer.input(0)).dtype() == dtype
                        && graph.weight(layer.input(1)).isPresent()
                        && areZeros(layer.input(2)));
    }

    private boolean areZeros(String zeros) {
        if (zeros.isEmpty()) {
            return true;
        }
        Tensor tensor = graph.constants().get(zeros);
        if (tensor == null) {
            return false;
        }
        MemorySegment data = tensor.data();
        return data.mismatch(MemorySegment.ofArray(new byte[Math.toIntExact(data.byteSize())])) == -1;
    }

    /** One scale an output; empty where there are as many for something else. */
    private static Optional<float[]> perOutput(Tensor scale, long outputs, boolean alongOutputs) {
        float[] given = Floats.toArray(scale);
        if (given.length != 1 && !(alongOutputs && given.length == outputs)) {
            return Optional.empty();
        }
        float[] scales = new float[Math.toIntExact(outputs)];
        for (int output = 0; output < scales.length; output++) {
            scales[output] = given[given.length == 1 ? 0 : output];
        }
        return Optional.of(scales);
    }

    private int[] numbers(String constant) {
        return graph.constants().get(constant).data().toArray(ValueLayout.JAVA_INT_UNALIGNED);
    }

    /** Whether integers are one an output, in units of what sums of products count in. */
    private boolean isBias(Layer numbers, Rounding from, float[] scales) {
        Shape shape = graph.constants().get(numbers.input(0)).shape();
        boolean along = shape.rank() > 0
                && shape.dimension(shape.rank() - 1) == scales.length
                && shape.elements() == scales.length;
        Optional<float[]> units = perOutput(graph.constants().get(numbers.input(1)), scales.length, along);
        if (!along || units.isEmpty()) {
            return false;
        }
        for (int output = 0; output < scales.length; output++) {
            if (!(units.get()[output] == from.scale() * scales[output])) {
                return false;
            }
        }
        return true;
    }

    private Step convolution(Layer layer, String x, End end, Tensor weight, float[] scales, int[] bias) {
        Shape shape = weight.shape();
        int groups = Math.toIntExact(layer.whole("group", 1));
        Filters filters = filters(
                layer,
                () -> {
                    Int8Filters.Layout layout = new Int8Filters.Layout(
                            scales.length,
                            Math.toIntExact(shape.dimension(1) * groups),
                            groups,
                            Math.toIntExact(shape.dimension(2) * shape.dimension(3)));
                    return Int8Filters.pack(
                            layout, weight.data().toArray(ValueLayout.JAVA_BYTE), scales, bias, scales(x, end.y()));
                },
                weights);
        List<Long> kernel = List.of(shape.dimension(2), shape.dimension(3));
        return new Convolved(layer, x, end.y(), filters, levels(end), kernel);
    }

    /** A product with a matrix is a convolution of 1 x 1 over an image whose pixels are the rows. */
    private Step product(Layer layer, String x, End end, Tensor weight, int axis, float[] scales, int[] bias) {
        int inputs = Math.toIntExact(weight.shape().dimension(1 - axis));
        byte[] numbers = weight.data().toArray(ValueLayout.JAVA_BYTE);
        byte[] byOutput = new byte[numbers.length];
        for (int i = 0; i < numbers.length; i++) {
            byOutput[axis == 0 ? i : i % scales.length * inputs + i / scales.length] = numbers[i];
        }
        Filters filters = filters(
                layer,
                () -> Int8Filters.pack(
                        new Int8Filters.Layout(scales.length, inputs, 1, 1),
                        byOutput,
                        scales,
                        bias,
                        scales(x, end.y())),
                weights);
        asRows.add(x);
        return new Multiplied(layer, x, end.y(), filters, levels(end));
    }

    private Int8Filters.Scales scales(String x, String y) {
        Rounding from = roundings.get(x);
        return new Int8Filters.Scales(
                from.scale(),
                from.zero(),
                Levels.lowest(from.dtype()),
                roundings.get(y).scale());
    }

    /** Packs filters and brings them to the device, for as long as the scope. */
    private Filters filters(Layer layer, Supplier<Int8Filters> pack, Scope scope) {
        Int8Filters packed;
        try {
            packed = pack.get();
        } catch (IllegalArgumentException e) {
            throw new ModelException(
                    graph.name() + ": layer " + layer.name() + ": " + e.getMessage() + "; leave it in float (ignore)",
                    e);
        }
        Int8Filters.Layout layout = packed.layout();
        View matrix = scope.matrix(DType.I8, layout.rows(), layout.cols());
        View shift = scope.matrix(DType.I32, 1, layout.filters());
        View factor = scope.matrix(1, layout.filters());
        backend.copyIn(packed.weights(), matrix);
        backend.copyIn(packed.bias(), shift);
        backend.copyIn(packed.scale(), factor);
        return new Filters(matrix, shift, factor, layout);
    }

    /** What a clamp leaves of an output's integers. */
    private Levels levels(End end) {
        Rounding to = roundings.get(end.y());
        Levels all = Levels.of(to.dtype(), to.zero());
        Operation.Activation clamp = end.clamp();
        if (clamp == null) {
            return all;
        }
        int high = clamp.high() == Float.POSITIVE_INFINITY
                ? all.high()
                : (int) Math.min(all.high(), Math.rint(clamp.high() / to.scale()) + to.zero());
        return new Levels(to.zero(), to.zero(), high);
    }

    /** What a function makes of every integer of x, as integers of y. */
    private View table(UnaryOperator<Float> function, String x, String y) {
        Rounding from = roundings.get(x);
        Rounding to = roundings.get(y);
        Levels levels = Levels.of(to.dtype(), to.zero());
        byte[] entries = new byte[Lookup.ENTRIES];
        for (int i = 0; i < entries.length; i++) {
            float real = from.scale() * (i + Levels.lowest(from.dtype()) - from.zero());
            entries[i] = (byte) levels.quantize(function.apply(real) / to.scale());
        }
        View table = weights.matrix(to.dtype(), 1, Lookup.ENTRIES);
        backend.copyIn(MemorySegment.ofArray(entries), table);
        return table;
    }

    private void flush(List<Layer> pending, FloatParts floats) {
        if (pending.isEmpty()) {
            return;
        }
        Set<String> made = new HashSet<>();
        pending.forEach(layer -> made.addAll(layer.outputs()));
        Set<Layer> inside = new LinkedHashSet<>(pending);
        Map<String, Tensor> constants = new LinkedHashMap<>();
        Set<String> inputs = new LinkedHashSet<>();
        List<Layer> layers = new ArrayList<>();
        for (Layer layer : pending) {
            for (String value : layer.inputs()) {
                Optional<Layer> constant = graph.producer(value).filter(this::isOfConstants);
                if (constant.isPresent() && layers.stream().noneMatch(known -> known.equals(constant.get()))) {
                    layers.add(constant.get());
                    constant.get()
                            .inputs()
                            .forEach(part ->
                                    constants.put(part, graph.constants().get(part)));
                } else if (graph.constants().containsKey(value)) {
                    constants.put(value, graph.constants().get(value));
                } else if (!value.isEmpty() && !made.contains(value) && constant.isEmpty()) {
                    inputs.add(value);
                }
            }
            layers.add(layer);
        }
        List<LayerGraph.Port> outputs = made.stream()
                .filter(value -> !value.isEmpty())
                .filter(value -> graph.isOutput(value)
                        || graph.readers(value).stream().anyMatch(reader -> !inside.contains(reader)))
                .map(value -> new LayerGraph.Port(value, null, List.of()))
                .toList();
        LayerGraph part = new LayerGraph(
                graph.name(),
                graph.opset(),
                inputs.stream()
                        .map(value -> new LayerGraph.Port(value, types.getOrDefault(value, DType.F32), List.of()))
                        .toList(),
                outputs,
                layers,
                constants);
        Part open = floats.open(part);
        outputs.forEach(output -> types.put(output.name(), open.dtype(output.name())));
        opened.add(open);
        steps.add(new InFloat(open, part));
        pending.clear();
    }

    // ---- running

    /**
     * Runs the graph once.
     *
     * @param inputs by name, fp32
     * @param wanted outputs of the graph, or integer values by their names, which come as U8 or I8
     * @throws ModelException when shapes do not fit, or a value is asked for that is not kept
     */
    public Map<String, Tensor> run(List<Tensor> inputs, Collection<String> wanted) {
        Map<String, Tensor> reals = new HashMap<>();
        inputs.forEach(input -> reals.put(input.name(), input));
        Map<String, IntegerImage> images = new HashMap<>();
        try (Scope scope = new Scope(backend)) {
            for (Step step : steps) {
                switch (step) {
                    case Rounded(String real, String integer) ->
                        images.put(integer, upload(real(real, reals, images), integer, scope));
                    case Convolved convolved -> convolve(convolved, images, scope);
                    case Multiplied multiplied -> multiply(multiplied, images, scope);
                    case Combined combined -> combine(combined, images, scope);
                    case Pooled(Layer layer, String x, String y) -> {
                        IntegerImage from = images.get(x).in(Order.CHANNELS, scope);
                        Window window = window(layer, from.shape(), layer.wholes("kernel_shape"));
                        IntegerImage to = image(from, from.view().cols(), window, y, scope);
                        run(layer, () -> new MaxPoolInt8(from.view(), to.view(), window));
                        images.put(y, to);
                    }
                    case Averaged averaged -> average(averaged, images, scope);
                    case Joined joined -> join(joined, images, scope);
                    case Looked(String x, String y, View table) -> {
                        IntegerImage from = images.get(x);
                        IntegerImage to = IntegerImage.empty(table.dtype(), from.shape(), from.order(), scope);
                        backend.run(new Lookup(from.view(), table, to.view()));
                        images.put(y, to);
                    }
                    case Moved(Layer layer, String x, String y) -> {
                        IntegerImage from = images.get(x);
                        Order order = asRows.contains(y) ? Order.LAST : Order.CHANNELS;
                        images.put(y, from.as(moved(layer, from.shape()), order, scope));
                    }
                    case InFloat(Part part, LayerGraph of) -> {
                        List<Tensor> fed = of.inputs().stream()
                                .map(port -> real(port.name(), reals, images))
                                .toList();
                        reals.putAll(part.run(
                                fed,
                                of.outputs().stream().map(LayerGraph.Port::name).toList()));
                    }
                }
            }
            Map<String, Tensor> results = new LinkedHashMap<>();
            for (String value : wanted) {
                results.put(
                        value,
                        images.containsKey(value)
                                ? images.get(value).download(value, backend)
                                : real(value, reals, images));
            }
            return results;
        }
    }

    /** Makes an op of what only this run knows. */
    private interface Made {
        Op op();
    }

    private void run(Layer layer, Made made) {
        Op op;
        try {
            op = made.op();
        } catch (IllegalArgumentException e) {
            throw new ModelException(
                    graph.name() + ": layer " + layer.name() + ": " + e.getMessage() + "; check the input's shape", e);
        }
        backend.run(op);
    }

    private void convolve(Convolved step, Map<String, IntegerImage> images, Scope scope) {
        IntegerImage from = images.get(step.x()).in(Order.CHANNELS, scope);
        Window window = window(step.layer(), from.shape(), step.kernel());
        IntegerImage to = image(from, step.filters().layout().filters(), window, step.y(), scope);
        convolve(step.layer(), from, roundings.get(step.x()), step.filters(), to, step.levels(), window);
        images.put(step.y(), to);
    }

    private void convolve(
            Layer layer,
            IntegerImage from,
            Rounding rounding,
            Filters filters,
            IntegerImage to,
            Levels levels,
            Window window) {
        run(
                layer,
                () -> new Conv2dInt8(
                        from.view(),
                        rounding.zero(),
                        filters.weights(),
                        filters.bias(),
                        filters.scale(),
                        null,
                        to.view(),
                        levels,
                        window,
                        filters.layout().groups()));
    }

    private void multiply(Multiplied step, Map<String, IntegerImage> images, Scope scope) {
        IntegerImage from = images.get(step.x()).in(Order.LAST, scope);
        Int8Filters.Layout layout = step.filters().layout();
        long[] shape = from.shape().toArray();
        if (shape.length == 0 || from.view().cols() != layout.channels()) {
            throw new ModelException(graph.name() + ": layer " + step.layer().name() + " reads " + from.shape()
                    + ", but multiplies rows of " + layout.channels() + "; check the input's shape");
        }
        shape[shape.length - 1] = layout.filters();
        IntegerImage to = IntegerImage.empty(roundings.get(step.y()).dtype(), Shape.of(shape), Order.LAST, scope);
        if (from.view().rows() > 0) {
            Window window = new Window(1, Math.toIntExact(from.view().rows()), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0);
            convolve(step.layer(), from, roundings.get(step.x()), step.filters(), to, step.levels(), window);
        }
        images.put(step.y(), to);
    }

    /**
     * A mean is a convolution of every channel with weights of 1, and its scale that of the input over that of the output times
     * the size of the window, as in ONNX Runtime's QLinearGlobalAveragePool.
     */
    private void average(Averaged step, Map<String, IntegerImage> images, Scope scope) {
        IntegerImage from = images.get(step.x()).in(Order.CHANNELS, scope);
        Shape shape = from.shape();
        int channels = Math.toIntExact(from.view().cols());
        if (shape.elements() == 0 || shape.rank() < 3 || (step.layer().is("ReduceMean") && shape.rank() != 4)) {
            throw new ModelException(graph.name() + ": layer " + step.layer().name() + " takes the mean of " + shape
                    + ", which are no images; check the input's shape");
        }
        int pixels = Math.toIntExact(from.view().rows() / shape.dimension(0));
        Window window = step.global()
                ? new Window(1, pixels, 1, pixels, 1, 1, 1, 1, 0, 0, 0, 0)
                : window(step.layer(), shape, step.layer().wholes("kernel_shape"));
        Rounding rounding = roundings.get(step.x());
        Rounding to = roundings.get(step.y());
        Filters filters = filters(
                step.layer(),
                () -> {
                    byte[] ones = new byte[Math.multiplyExact(channels, window.taps())];
                    float[] scales = new float[channels];
                    Arrays.fill(ones, (byte) 1);
                    Arrays.fill(scales, rounding.scale() / (to.scale() * window.taps()));
                    return Int8Filters.pack(
                            new Int8Filters.Layout(channels, channels, channels, window.taps()),
                            ones,
                            scales,
                            null,
                            new Int8Filters.Scales(1, rounding.zero(), Levels.lowest(rounding.dtype()), 1));
                },
                scope);
        long[] one = shape.toArray();
        Arrays.fill(one, 2, one.length, 1);
        IntegerImage made = step.global()
                ? IntegerImage.empty(to.dtype(), Shape.of(one), Order.CHANNELS, scope)
                : image(from, channels, window, step.y(), scope);
        convolve(step.layer(), from, rounding, filters, made, Levels.of(to.dtype(), to.zero()), window);
        images.put(step.y(), made);
    }

    private void join(Joined step, Map<String, IntegerImage> images, Scope scope) {
        List<IntegerImage> parts = step.parts().stream()
                .map(part -> images.get(part.x()).in(Order.CHANNELS, scope))
                .toList();
        long[] shape = parts.getFirst().shape().toArray();
        long channels = 0;
        for (IntegerImage part : parts) {
            long[] other = part.shape().toArray();
            if (other.length > 1 && other.length == shape.length) {
                shape[1] = other[1];
            }
            if (other.length < 2 || !Arrays.equals(other, shape)) {
                throw new ModelException(
                        graph.name() + ": layer " + step.layer().name() + " puts " + part.shape() + " beside "
                                + parts.getFirst().shape() + "; check the input's shape");
            }
            channels += other[1];
        }
        shape[1] = channels;
        IntegerImage to = IntegerImage.empty(roundings.get(step.y()).dtype(), Shape.of(shape), Order.CHANNELS, scope);
        long at = 0;
        for (int i = 0; i < parts.size(); i++) {
            View x = parts.get(i).view();
            backend.run(new Lookup(x, step.parts().get(i).table(), to.view().cols(at, at + x.cols())));
            at += x.cols();
        }
        images.put(step.y(), to);
    }

    /** What a Flatten or a Reshape makes of a shape. */
    private Shape moved(Layer layer, Shape shape) {
        if (layer.is("Flatten")) {
            long axis = layer.whole("axis", 1);
            long first = 1;
            for (int i = 0; i < (axis < 0 ? axis + shape.rank() : axis); i++) {
                first *= shape.dimension(i);
            }
            return Shape.of(first, first == 0 ? 0 : shape.elements() / first);
        }
        long[] wanted =
                reshape(layer).orElseThrow().stream().mapToLong(Long::longValue).toArray();
        long known = 1;
        int open = -1;
        for (int i = 0; i < wanted.length; i++) {
            if (wanted[i] == 0 && layer.whole("allowzero", 0) == 0 && i < shape.rank()) {
                wanted[i] = shape.dimension(i);
            }
            if (wanted[i] == -1) {
                open = i;
            } else {
                known *= wanted[i];
            }
        }
        if (open >= 0) {
            wanted[open] = known == 0 ? 0 : shape.elements() / known;
            known *= wanted[open];
        }
        if (known != shape.elements()) {
            throw new ModelException(graph.name() + ": layer " + layer.name() + " cannot make "
                    + Arrays.toString(wanted) + " of " + shape + "; check the input's shape");
        }
        return Shape.of(wanted);
    }

    private void combine(Combined step, Map<String, IntegerImage> images, Scope scope) {
        boolean swapped = images.get(step.a()).shape().elements()
                < images.get(step.b()).shape().elements();
        String first = swapped ? step.b() : step.a();
        String second = swapped ? step.a() : step.b();
        boolean same = images.get(first).shape().equals(images.get(second).shape());
        IntegerImage a = same ? images.get(first) : images.get(first).in(Order.CHANNELS, scope);
        IntegerImage b = images.get(second).in(a.order(), scope);
        if (!same && !areShared(b.shape(), a.shape())) {
            throw new ModelException(graph.name() + ": layer " + step.layer().name() + " combines " + a.shape()
                    + " and "
                    + b.shape() + ", but the smaller one must have all channels and 1 along the last axes; leave what"
                    + " makes it in float (ignore)");
        }
        Rounding from = roundings.get(first);
        Rounding other = roundings.get(second);
        Rounding to = roundings.get(step.y());
        IntegerImage y = IntegerImage.empty(to.dtype(), a.shape(), a.order(), scope);
        CombineInt8.Rule rule = step.sum()
                ? new CombineInt8.Rule.Sum(from.scale() / to.scale(), other.scale() / to.scale())
                : new CombineInt8.Rule.Product(from.scale() * other.scale() / to.scale());
        run(
                step.layer(),
                () -> new CombineInt8(
                        a.view(),
                        from.zero(),
                        b.view(),
                        other.zero(),
                        y.view(),
                        Levels.of(to.dtype(), to.zero()),
                        rule));
        images.put(step.y(), y);
    }

    /** Whether integers are the same for neighbouring rows on the device: those along the last axes, or all. */
    private static boolean areShared(Shape few, Shape many) {
        boolean fits = few.rank() == many.rank() && few.rank() > 1 && few.dimension(1) == many.dimension(1);
        boolean ended = false;
        for (int axis = 0; fits && axis < few.rank(); axis++) {
            if (axis != 1) {
                ended |= few.dimension(axis) != many.dimension(axis);
                fits = !ended || few.dimension(axis) == 1;
            }
        }
        return fits;
    }

    private Window window(Layer layer, Shape shape, List<Long> kernel) {
        if (shape.rank() != 4 || kernel.size() != 2) {
            throw new ModelException(
                    graph.name() + ": layer " + layer.name() + " reads " + shape
                            + ", but integers are computed over images of batch, channels, rows and columns; leave it in float");
        }
        List<Long> strides = layer.wholes("strides").isEmpty() ? List.of(1L, 1L) : layer.wholes("strides");
        List<Long> dilations = layer.wholes("dilations").isEmpty() ? List.of(1L, 1L) : layer.wholes("dilations");
        int[] pads = new int[4];
        String automatic = layer.text("auto_pad", "NOTSET");
        for (int axis = 0; axis < 2; axis++) {
            if (automatic.startsWith("SAME")) {
                long size = shape.dimension(2 + axis);
                long reach = (kernel.get(axis) - 1) * dilations.get(axis) + 1;
                long total =
                        Math.max(0, (Math.ceilDiv(size, strides.get(axis)) - 1) * strides.get(axis) + reach - size);
                pads[axis] = Math.toIntExact(automatic.equals("SAME_UPPER") ? total / 2 : total - total / 2);
                pads[2 + axis] = Math.toIntExact(total) - pads[axis];
            } else if (!layer.wholes("pads").isEmpty()) {
                pads[axis] = Math.toIntExact(layer.wholes("pads").get(axis));
                pads[2 + axis] = Math.toIntExact(layer.wholes("pads").get(2 + axis));
            }
        }
        return new Window(
                Math.toIntExact(shape.dimension(2)),
                Math.toIntExact(shape.dimension(3)),
                Math.toIntExact(kernel.get(0)),
                Math.toIntExact(kernel.get(1)),
                Math.toIntExact(strides.get(0)),
                Math.toIntExact(strides.get(1)),
                Math.toIntExact(dilations.get(0)),
                Math.toIntExact(dilations.get(1)),
                pads[0],
                pads[1],
                pads[2],
                pads[3]);
    }

    private IntegerImage image(IntegerImage from, long channels, Window window, String y, Scope scope) {
        return IntegerImage.empty(
                roundings.get(y).dtype(),
                Shape.of(from.shape().dimension(0), channels, window.outputHeight(), window.outputWidth()),
                Order.CHANNELS,
                scope);
    }

    private IntegerImage upload(Tensor real, String integer, Scope scope) {
        Rounding rounding = roundings.get(integer);
        float[] values = Floats.toArray(real);
        Levels levels = Levels.of(rounding.dtype(), rounding.zero());
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) levels.quantize(values[i] / rounding.scale());
        }
        Order order = asRows.contains(integer) ? Order.LAST : Order.CHANNELS;
        return IntegerImage.upload(bytes, rounding.dtype(), real.shape(), order, scope);
    }

    private Tensor real(String value, Map<String, Tensor> reals, Map<String, IntegerImage> images) {
        Tensor known = reals.get(value);
        if (known != null) {
            return known;
        }
        String integer = integers(value)
                .filter(images::containsKey)
                .orElseThrow(() -> new ModelException(
                        graph.name() + ": value " + value + " is not kept, or an input that was not given"));
        Tensor numbers = images.get(integer).download(integer, backend);
        Rounding rounding = roundings.get(integer);
        float[] values = new float[Math.toIntExact(numbers.shape().elements())];
        for (int i = 0; i < values.length; i++) {
            byte number = numbers.data().get(ValueLayout.JAVA_BYTE, i);
            int whole = rounding.dtype() == DType.U8 ? number & 0xff : number;
            values[i] = rounding.scale() * (whole - rounding.zero());
        }
        Tensor made = new Tensor(value, DType.F32, numbers.shape(), MemorySegment.ofArray(values));
        reals.put(value, made);
        return made;
    }

    @Override
    public void close() {
        try (weights) {
            opened.forEach(Part::close);
        }
    }
}
