package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
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
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Runs a graph of quantized layers, as QDQ or with QLinearConv, on a backend: convolutions with what clamps them, sums, products,
 * maxima and functions of one number between integers are ops on integers, which all backends compute to the same bits. What
 * is left runs in float elsewhere, part by part; values between are exact either way. Images are NHWC on the device and NCHW
 * outside.
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

    /** How an integer value stands for real ones. */
    private record Rounding(float scale, int zero, DType dtype) {}

    /** A value on the device: {@code rows} of all images' pixels, {@code cols} channels, and its shape outside. */
    private record Image(View view, Shape shape) {}

    private sealed interface Step {}

    private record Rounded(String real, String integer) implements Step {}

    private record Convolved(Layer layer, String x, String y, Filters filters, Levels levels) implements Step {}

    private record Filters(View weights, View bias, View scale, Int8Filters.Layout layout) {}

    private record Combined(Layer layer, String a, String b, String y, boolean sum) implements Step {}

    private record Pooled(Layer layer, String x, String y) implements Step {}

    private record Looked(String x, String y, View table) implements Step {}

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
            return Optional.of(convolution(
                    layer, layer.input(0), layer.output(), null, layer.input(3), layer.input(4), layer.input(8)));
        }
        Optional<String> first = integers(layer.input(0));
        Optional<End> end = first.flatMap(_ -> end(layer, layer.is("Conv")));
        if (end.isEmpty()) {
            return Optional.empty();
        }
        Optional<String> second = integers(layer.input(1));
        Optional<Step> step = switch (Operation.of(graph, layer)) {
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind)
            when second.isPresent()
                    && (kind == Operation.Arithmetic.Kind.ADD || kind == Operation.Arithmetic.Kind.MUL) ->
                Optional.of(new Combined(
                        layer, first.get(), second.get(), end.get().y(), kind == Operation.Arithmetic.Kind.ADD));
            case Operation.Pooling(boolean maximum, boolean global)
            when maximum
                    && !global
                    && layer.whole("ceil_mode", 0) == 0
                    && roundings.get(first.get()).equals(roundings.get(end.get().y())) ->
                Optional.of(new Pooled(layer, first.get(), end.get().y()));
            case Operation.Activation activation ->
                Optional.of(new Looked(
                        first.get(),
                        end.get().y(),
                        table(activation, first.get(), end.get().y())));
            default -> layer.is("Conv") ? dequantized(layer, first.get(), end.get()) : Optional.empty();
        };
        step.ifPresent(_ -> end.get().along().forEach(taken -> done.add(taken.name())));
        return step;
    }

    private Optional<Step> dequantized(Layer layer, String x, End end) {
        Optional<Layer> weight = graph.producer(layer.input(1)).filter(this::isOfConstants);
        Optional<Layer> bias = graph.producer(layer.input(2)).filter(this::isOfConstants);
        boolean images = weight.isPresent()
                && graph.constants().get(weight.get().input(0)).shape().rank() == 4;
        if (!images || (bias.isEmpty() && !layer.input(2).isEmpty())) {
            return Optional.empty();
        }
        return Optional.of(convolution(
                layer,
                x,
                end.y(),
                end.clamp(),
                weight.get().input(0),
                weight.get().input(1),
                bias.map(found -> found.input(0)).orElse("")));
    }

    private Step convolution(
            Layer layer, String x, String y, Operation.Activation clamp, String weight, String scale, String bias) {
        Tensor tensor = graph.constants().get(weight);
        int filters = Math.toIntExact(tensor.shape().dimension(0));
        int groups = Math.toIntExact(layer.whole("group", 1));
        int channels = Math.toIntExact(tensor.shape().dimension(1) * groups);
        int taps = Math.toIntExact(
                tensor.shape().elements() / filters / tensor.shape().dimension(1));
        float[] given = Floats.toArray(graph.constants().get(scale));
        float[] scales = new float[filters];
        for (int filter = 0; filter < filters; filter++) {
            scales[filter] = given[given.length == 1 ? 0 : filter];
        }
        int[] biases =
                bias.isEmpty() ? null : graph.constants().get(bias).data().toArray(ValueLayout.JAVA_INT_UNALIGNED);
        Rounding from = roundings.get(x);
        Rounding to = roundings.get(y);
        Int8Filters packed;
        try {
            packed = Int8Filters.pack(
                    new Int8Filters.Layout(filters, channels, groups, taps),
                    tensor.data().toArray(ValueLayout.JAVA_BYTE),
                    scales,
                    biases,
                    new Int8Filters.Scales(from.scale(), from.zero(), Levels.lowest(from.dtype()), to.scale()));
        } catch (IllegalArgumentException e) {
            throw new ModelException(
                    graph.name() + ": layer " + layer.name() + ": " + e.getMessage() + "; leave it in float (ignore)",
                    e);
        }
        View matrix =
                weights.matrix(DType.I8, packed.layout().rows(), packed.layout().cols());
        View shift = weights.matrix(DType.I32, 1, filters);
        View factor = weights.matrix(1, filters);
        backend.copyIn(packed.weights(), matrix);
        backend.copyIn(packed.bias(), shift);
        backend.copyIn(packed.scale(), factor);
        Levels all = Levels.of(to.dtype(), to.zero());
        int high = clamp == null || clamp.high() == Float.POSITIVE_INFINITY
                ? all.high()
                : (int) Math.min(all.high(), Math.rint(clamp.high() / to.scale()) + to.zero());
        Levels levels = new Levels(to.zero(), clamp == null ? all.low() : to.zero(), high);
        return new Convolved(layer, x, y, new Filters(matrix, shift, factor, packed.layout()), levels);
    }

    private View table(Operation.Activation activation, String x, String y) {
        Rounding from = roundings.get(x);
        Rounding to = roundings.get(y);
        Levels levels = Levels.of(to.dtype(), to.zero());
        byte[] entries = new byte[Lookup.ENTRIES];
        for (int i = 0; i < entries.length; i++) {
            float real = from.scale() * (i + Levels.lowest(from.dtype()) - from.zero());
            entries[i] = (byte) levels.quantize(activation.apply(real) / to.scale());
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
        Map<String, Image> images = new HashMap<>();
        try (Scope scope = new Scope(backend)) {
            for (Step step : steps) {
                switch (step) {
                    case Rounded(String real, String integer) ->
                        images.put(integer, upload(real(real, reals, images), roundings.get(integer), scope));
                    case Convolved convolved -> convolve(convolved, images, scope);
                    case Combined combined -> combine(combined, images, scope);
                    case Pooled(Layer layer, String x, String y) -> {
                        Image from = images.get(x);
                        Window window = window(layer, from.shape(), layer.wholes("kernel_shape"));
                        Image to = image(
                                from.shape().dimension(0),
                                from.view().cols(),
                                window,
                                from.view().dtype(),
                                scope);
                        run(layer, () -> new MaxPoolInt8(from.view(), to.view(), window));
                        images.put(y, to);
                    }
                    case Looked(String x, String y, View table) -> {
                        Image from = images.get(x);
                        View to = scope.matrix(
                                table.dtype(), from.view().rows(), from.view().cols());
                        backend.run(new Lookup(from.view(), table, to));
                        images.put(y, new Image(to, from.shape()));
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
                        images.containsKey(value) ? download(value, images.get(value)) : real(value, reals, images));
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

    private void convolve(Convolved step, Map<String, Image> images, Scope scope) {
        Image from = images.get(step.x());
        List<Long> kernel = step.layer().wholes("kernel_shape");
        Window window = window(step.layer(), from.shape(), kernel.isEmpty() ? kernelOf(step) : kernel);
        Image to = image(
                from.shape().dimension(0),
                step.filters().layout().filters(),
                window,
                roundings.get(step.y()).dtype(),
                scope);
        run(
                step.layer(),
                () -> new Conv2dInt8(
                        from.view(),
                        roundings.get(step.x()).zero(),
                        step.filters().weights(),
                        step.filters().bias(),
                        step.filters().scale(),
                        null,
                        to.view(),
                        step.levels(),
                        window,
                        step.filters().layout().groups()));
        images.put(step.y(), to);
    }

    private List<Long> kernelOf(Convolved step) {
        String weight = step.layer().is("QLinearConv")
                ? step.layer().input(3)
                : graph.producer(step.layer().input(1)).orElseThrow().input(0);
        Shape shape = graph.constants().get(weight).shape();
        return List.of(shape.dimension(2), shape.dimension(3));
    }

    private void combine(Combined step, Map<String, Image> images, Scope scope) {
        boolean swapped =
                images.get(step.a()).view().rows() < images.get(step.b()).view().rows();
        String first = swapped ? step.b() : step.a();
        String second = swapped ? step.a() : step.b();
        Image a = images.get(first);
        Image b = images.get(second);
        Rounding from = roundings.get(first);
        Rounding other = roundings.get(second);
        Rounding to = roundings.get(step.y());
        View y = scope.matrix(to.dtype(), a.view().rows(), a.view().cols());
        CombineInt8.Rule rule = step.sum()
                ? new CombineInt8.Rule.Sum(from.scale() / to.scale(), other.scale() / to.scale())
                : new CombineInt8.Rule.Product(from.scale() * other.scale() / to.scale());
        run(
                step.layer(),
                () -> new CombineInt8(
                        a.view(), from.zero(), b.view(), other.zero(), y, Levels.of(to.dtype(), to.zero()), rule));
        images.put(step.y(), new Image(y, a.shape()));
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

    private static Image image(long count, long channels, Window window, DType dtype, Scope scope) {
        return new Image(
                scope.matrix(dtype, count * window.outputPixels(), channels),
                Shape.of(count, channels, window.outputHeight(), window.outputWidth()));
    }

    /** Channels and pixels of a value: axis 1, and all axes behind it. */
    private static long[] extent(Shape shape) {
        long channels = shape.rank() > 1 ? shape.dimension(1) : 1;
        long count = shape.rank() > 0 ? shape.dimension(0) : 1;
        return new long[] {count, channels, count * channels == 0 ? 0 : shape.elements() / count / channels};
    }

    private Image upload(Tensor real, Rounding rounding, Scope scope) {
        float[] values = Floats.toArray(real);
        long[] extent = extent(real.shape());
        Levels levels = Levels.of(rounding.dtype(), rounding.zero());
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[position(i, extent)] = (byte) levels.quantize(values[i] / rounding.scale());
        }
        View view = scope.matrix(rounding.dtype(), extent[0] * extent[2], extent[1]);
        backend.copyIn(MemorySegment.ofArray(bytes), view);
        return new Image(view, real.shape());
    }

    /** Where an element of NCHW is in NHWC. */
    private static int position(int index, long[] extent) {
        long pixel = index % extent[2];
        long channel = index / extent[2] % extent[1];
        long image = index / extent[2] / extent[1];
        return (int) ((image * extent[2] + pixel) * extent[1] + channel);
    }

    private Tensor real(String value, Map<String, Tensor> reals, Map<String, Image> images) {
        Tensor known = reals.get(value);
        if (known != null) {
            return known;
        }
        String integer = integers(value)
                .filter(images::containsKey)
                .orElseThrow(() -> new ModelException(
                        graph.name() + ": value " + value + " is not kept, or an input that was not given"));
        Tensor numbers = download(integer, images.get(integer));
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

    private Tensor download(String value, Image image) {
        byte[] device = new byte[Math.toIntExact(image.view().elements())];
        backend.copyOut(image.view(), MemorySegment.ofArray(device));
        byte[] outside = new byte[device.length];
        long[] extent = extent(image.shape());
        for (int i = 0; i < outside.length; i++) {
            outside[i] = device[position(i, extent)];
        }
        return new Tensor(value, image.view().dtype(), image.shape(), MemorySegment.ofArray(outside));
    }

    @Override
    public void close() {
        try (weights) {
            opened.forEach(Part::close);
        }
    }
}
