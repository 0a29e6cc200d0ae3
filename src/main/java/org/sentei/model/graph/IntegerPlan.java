package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
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
import org.sentei.kernel.Int8Filters;
import org.sentei.kernel.Levels;
import org.sentei.kernel.Lookup;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.ModelException;
import org.sentei.model.graph.IntegerImage.Order;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Which steps run a quantized graph, in order, and what they need: packed weights and tables on the device, opened float parts.
 * An op takes along what clamps its result and what rounds it.
 */
final class IntegerPlan implements AutoCloseable {
    private final LayerGraph graph;
    private final Backend backend;
    private final Scope weights;
    private final List<FloatParts.Part> opened = new ArrayList<>();
    private final List<Step> steps = new ArrayList<>();
    private final Map<String, Rounding> roundings = new HashMap<>();
    private final Set<String> done = new HashSet<>();
    /** Of values between float parts. */
    private final Map<String, DType> types = new HashMap<>();
    /** Values that products with matrices read. */
    private final Set<String> asRows = new HashSet<>();

    /** How an integer value stands for real ones. */
    record Rounding(float scale, int zero, DType dtype) {}

    sealed interface Step {}

    record Rounded(String real, String integer) implements Step {}

    record Convolved(Layer layer, String x, String y, Filters filters, Levels levels, List<Long> kernel)
            implements Step {}

    record Multiplied(Layer layer, String x, String y, Filters filters, Levels levels) implements Step {}

    record Filters(View weights, View bias, View scale, Int8Filters.Layout layout) {}

    record Combined(Layer layer, String a, String b, String y, boolean sum) implements Step {}

    record Pooled(Layer layer, String x, String y) implements Step {}

    record Averaged(Layer layer, String x, String y, boolean global) implements Step {}

    /** A value of several side by side, and what its integers become. */
    record Beside(String x, View table) {}

    record Joined(Layer layer, List<Beside> parts, String y) implements Step {}

    record Looked(String x, String y, View table) implements Step {}

    record Moved(Layer layer, String x, String y) implements Step {}

    record InFloat(FloatParts.Part part, LayerGraph graph) implements Step {}

    IntegerPlan(LayerGraph graph, Backend backend, FloatParts floats) {
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

    List<Step> steps() {
        return steps;
    }

    /** Of a value that a layer rounds; null for others. */
    Rounding rounding(String integer) {
        return roundings.get(integer);
    }

    /** How an integer value is laid out where nothing else decides. */
    Order order(String integer) {
        return asRows.contains(integer) ? Order.LAST : Order.CHANNELS;
    }

    @Override
    public void close() {
        try (weights) {
            opened.forEach(FloatParts.Part::close);
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
        if (zeros.dtype() != DType.U8 && zeros.dtype() != DType.I8) {
            throw new ModelException(graph.name() + ": value " + value + " is rounded to " + zeros.dtype()
                    + ", but integers have 8 bits here; quantize the model to U8 or I8");
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
    Optional<String> integers(String real) {
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
    Optional<List<Long>> reshape(Layer layer) {
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
        int[] bias = null;
        if (!layer.input(8).isEmpty()) {
            Tensor given = graph.constants().get(layer.input(8));
            if (given == null || given.dtype() != DType.I32) {
                throw new ModelException(graph.name() + ": layer " + layer.name()
                        + " has a bias that is no constant of I32; quantize the model with int32 biases");
            }
            bias = numbers(layer.input(8));
        }
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
    Filters filters(Layer layer, Supplier<Int8Filters> pack, Scope scope) {
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
        FloatParts.Part open = floats.open(part);
        outputs.forEach(output -> types.put(output.name(), open.dtype(output.name())));
        opened.add(open);
        steps.add(new InFloat(open, part));
        pending.clear();
    }
}
