package org.sentei.model.graph;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
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
import org.sentei.model.graph.IntegerPlan.Averaged;
import org.sentei.model.graph.IntegerPlan.Combined;
import org.sentei.model.graph.IntegerPlan.Convolved;
import org.sentei.model.graph.IntegerPlan.Filters;
import org.sentei.model.graph.IntegerPlan.InFloat;
import org.sentei.model.graph.IntegerPlan.Joined;
import org.sentei.model.graph.IntegerPlan.Looked;
import org.sentei.model.graph.IntegerPlan.Moved;
import org.sentei.model.graph.IntegerPlan.Multiplied;
import org.sentei.model.graph.IntegerPlan.Pooled;
import org.sentei.model.graph.IntegerPlan.Rounded;
import org.sentei.model.graph.IntegerPlan.Rounding;
import org.sentei.model.graph.IntegerPlan.Step;
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
    private final LayerGraph graph;
    private final Backend backend;
    private final IntegerPlan plan;

    /**
     * Packs the weights and opens the float parts.
     *
     * @param backend all integer ops run on it; must live as long
     * @throws ModelException when a convolution's sums might not fit 32 bits or a scale is no usable number
     */
    public IntegerExecutor(LayerGraph graph, Backend backend, FloatParts floats) {
        this.graph = graph;
        this.backend = backend;
        this.plan = new IntegerPlan(graph, backend, floats);
    }

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
            for (Step step : plan.steps()) {
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
                        images.put(y, from.as(moved(layer, from.shape()), plan.order(y), scope));
                    }
                    case InFloat(FloatParts.Part part, LayerGraph of) -> {
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
        convolve(step.layer(), from, plan.rounding(step.x()), step.filters(), to, step.levels(), window);
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
        IntegerImage to = IntegerImage.empty(plan.rounding(step.y()).dtype(), Shape.of(shape), Order.LAST, scope);
        if (from.view().rows() > 0) {
            Window window = new Window(1, Math.toIntExact(from.view().rows()), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0);
            convolve(step.layer(), from, plan.rounding(step.x()), step.filters(), to, step.levels(), window);
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
        Rounding rounding = plan.rounding(step.x());
        Rounding to = plan.rounding(step.y());
        Filters filters = plan.filters(
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
        IntegerImage to = IntegerImage.empty(plan.rounding(step.y()).dtype(), Shape.of(shape), Order.CHANNELS, scope);
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
        long[] wanted = plan.reshape(layer).orElseThrow().stream()
                .mapToLong(Long::longValue)
                .toArray();
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
        Rounding from = plan.rounding(first);
        Rounding other = plan.rounding(second);
        Rounding to = plan.rounding(step.y());
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
                plan.rounding(y).dtype(),
                Shape.of(from.shape().dimension(0), channels, window.outputHeight(), window.outputWidth()),
                Order.CHANNELS,
                scope);
    }

    private IntegerImage upload(Tensor real, String integer, Scope scope) {
        Rounding rounding = plan.rounding(integer);
        float[] values = Floats.toArray(real);
        Levels levels = Levels.of(rounding.dtype(), rounding.zero());
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < values.length; i++) {
            bytes[i] = (byte) levels.quantize(values[i] / rounding.scale());
        }
        return IntegerImage.upload(bytes, rounding.dtype(), real.shape(), plan.order(integer), scope);
    }

    private Tensor real(String value, Map<String, Tensor> reals, Map<String, IntegerImage> images) {
        Tensor known = reals.get(value);
        if (known != null) {
            return known;
        }
        String integer = plan.integers(value)
                .filter(images::containsKey)
                .orElseThrow(() -> new ModelException(
                        graph.name() + ": value " + value + " is not kept, or an input that was not given"));
        Tensor numbers = images.get(integer).download(integer, backend);
        Rounding rounding = plan.rounding(integer);
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
        plan.close();
    }
}
