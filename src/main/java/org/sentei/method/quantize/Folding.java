package org.sentei.method.quantize;

import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntToDoubleFunction;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Folds into a layer's weights what follows it channel by channel: batch normalizations
 * ({@code W' = W g / sqrt(v + eps)}, {@code b' = beta + (b - mu) g / sqrt(v + eps)}), and sums and products with constants.
 * Reshaped constants become constants first, for exporters reshape biases in the graph.
 */
public final class Folding {
    private Folding() {}

    /** The graph with everything folded that can be. */
    public static LayerGraph fold(LayerGraph graph) {
        return fold(FloatGraph.of(graph)).graph();
    }

    static FloatGraph fold(FloatGraph given) {
        FloatGraph folded = given.with(foldConstants(given.graph()));
        for (boolean changed = true; changed; ) {
            changed = false;
            for (Layer layer : folded.graph().layers()) {
                Optional<FloatGraph> next = foldNext(folded, layer);
                if (next.isPresent()) {
                    folded = next.get();
                    changed = true;
                    break;
                }
            }
        }
        return folded;
    }

    /** Reshape, Squeeze, Unsqueeze, Flatten, Identity of a constant, and Transpose of a constant matrix. */
    private static LayerGraph foldConstants(LayerGraph given) {
        LayerGraph graph = given;
        for (boolean changed = true; changed; ) {
            changed = false;
            for (Layer layer : graph.layers()) {
                Optional<Tensor> source = layer.outputs().size() == 1 && !graph.isOutput(layer.output())
                        ? graph.weight(layer.input(0))
                        : Optional.empty();
                Optional<Tensor> result = source.flatMap(tensor -> rearranged(given, layer, tensor));
                if (result.isPresent()) {
                    Tensor made = result.get();
                    LayerGraph.Editor edit = graph.edit();
                    String name = edit.constant(layer.output() + "_constant", made.dtype(), made.shape(), made.data());
                    graph = edit.redirect(layer.output(), name).replace(layer).build();
                    changed = true;
                    break;
                }
            }
        }
        return graph;
    }

    private static Optional<Tensor> rearranged(LayerGraph graph, Layer layer, Tensor tensor) {
        if (layer.is("Identity")) {
            return Optional.of(tensor);
        }
        if (layer.is("Transpose") && tensor.shape().rank() == 2 && tensor.dtype() == DType.F32) {
            List<Long> order = layer.wholes("perm");
            if (!order.isEmpty() && !order.equals(List.of(1L, 0L))) {
                return Optional.empty();
            }
            int rows = Math.toIntExact(tensor.shape().dimension(0));
            int cols = Math.toIntExact(tensor.shape().dimension(1));
            float[] from = Floats.toArray(tensor);
            float[] to = new float[from.length];
            for (int i = 0; i < from.length; i++) {
                to[i % cols * rows + i / cols] = from[i];
            }
            return Optional.of(new Tensor(tensor.name(), DType.F32, Shape.of(cols, rows), MemorySegment.ofArray(to)));
        }
        Tensor sizes = layer.is("Reshape") ? graph.constants().get(layer.input(1)) : null;
        if (sizes == null || sizes.dtype() != DType.I64) {
            return Optional.empty();
        }
        long[] shape = sizes.data().toArray(JAVA_LONG_UNALIGNED);
        long elements = tensor.shape().elements();
        long known = 1;
        int free = -1;
        for (int i = 0; i < shape.length; i++) {
            if (shape[i] == 0 && i < tensor.shape().rank()) {
                shape[i] = tensor.shape().dimension(i);
            }
            if (shape[i] == -1 && free < 0) {
                free = i;
            } else if (shape[i] > 0 && shape[i] <= elements) {
                known = Math.multiplyExact(known, shape[i]);
            } else {
                return Optional.empty();
            }
        }
        if (free >= 0) {
            shape[free] = elements / known;
        }
        boolean fits = free >= 0 ? elements % known == 0 : elements == known;
        return fits
                ? Optional.of(new Tensor(tensor.name(), tensor.dtype(), Shape.of(shape), tensor.data()))
                : Optional.empty();
    }

    private static Optional<FloatGraph> foldNext(FloatGraph folded, Layer layer) {
        LayerGraph graph = folded.graph();
        Operation operation = Operation.of(graph, layer);
        boolean foldable = operation instanceof Operation.Convolution
                || (operation instanceof Operation.Linear && layer.is("Gemm"));
        Optional<Layer> reader =
                foldable && layer.outputs().size() == 1 ? graph.onlyReader(layer.output()) : Optional.empty();
        if (reader.isEmpty()
                || reader.get().outputs().isEmpty()
                || !reader.get().captures().isEmpty()) {
            return Optional.empty();
        }
        WeightMatrix weights = WeightMatrix.of(graph, layer).orElseThrow();
        Layer next = reader.get();
        return affine(graph, layer.output(), next, weights.outputs(), operation instanceof Operation.Convolution)
                .map(affine -> {
                    for (int o = 0; o < weights.outputs(); o++) {
                        weights.scaleOutput(o, affine.scale().applyAsDouble(o));
                        weights.setBias(o, weights.bias(o) + affine.shift().applyAsDouble(o));
                    }
                    LayerGraph.Editor edit = graph.edit();
                    weights.store(edit);
                    edit.change(layer, now -> now.withOutput(next.output()));
                    edit.replace(next);
                    Map<String, Gaussians> known = new HashMap<>();
                    Gaussians before = folded.known().get(layer.output());
                    if (affine.gaussians() != null) {
                        known.put(next.output(), affine.gaussians());
                    } else if (before != null) {
                        known.put(next.output(), before.affine(affine.scale(), affine.shift()));
                    }
                    return folded.with(edit.build()).knowing(known);
                });
    }

    /** {@code y = scale x + shift} channel by channel; the Gaussians are null where nothing is known of y. */
    private record Affine(IntToDoubleFunction scale, IntToDoubleFunction shift, Gaussians gaussians) {}

    private static Optional<Affine> affine(
            LayerGraph graph, String value, Layer next, int channels, boolean convolution) {
        return switch (Operation.of(graph, next)) {
            case Operation.Normalization(float epsilon)
            when next.input(0).equals(value) -> normalization(graph, next, channels, epsilon);
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind) -> {
                boolean first = next.input(0).equals(value);
                yield graph.weight(next.input(first ? 1 : 0))
                        .flatMap(tensor -> perChannel(tensor, channels, convolution))
                        .flatMap(constant -> arithmetic(kind, first, constant));
            }
            default -> Optional.empty();
        };
    }

    private static Optional<Affine> normalization(LayerGraph graph, Layer next, int channels, float epsilon) {
        float[] gamma = Floats.toArray(graph.weight(next.input(1)).orElseThrow());
        float[] beta = Floats.toArray(graph.weight(next.input(2)).orElseThrow());
        float[] mean = Floats.toArray(graph.weight(next.input(3)).orElseThrow());
        float[] variance = Floats.toArray(graph.weight(next.input(4)).orElseThrow());
        if (gamma.length != channels
                || beta.length != channels
                || mean.length != channels
                || variance.length != channels) {
            return Optional.empty();
        }
        IntToDoubleFunction scale = c -> gamma[c] / Math.sqrt((double) variance[c] + epsilon);
        return Optional.of(new Affine(
                scale,
                c -> beta[c] - mean[c] * scale.applyAsDouble(c),
                new Gaussians(channels, c -> beta[c], c -> Math.abs(gamma[c]))));
    }

    /** @param first whether the constant is the second operand */
    private static Optional<Affine> arithmetic(Operation.Arithmetic.Kind kind, boolean first, float[] constant) {
        return switch (kind) {
            case ADD -> Optional.of(new Affine(_ -> 1, c -> constant[c], null));
            case MUL -> Optional.of(new Affine(c -> constant[c], _ -> 0, null));
            case SUB ->
                first
                        ? Optional.of(new Affine(_ -> 1, c -> -constant[c], null))
                        : Optional.of(new Affine(_ -> -1, c -> constant[c], null));
            case DIV -> first ? Optional.of(new Affine(c -> 1 / (double) constant[c], _ -> 0, null)) : Optional.empty();
        };
    }

    /** A constant's value for every channel, if it broadcasts along all other axes of images, or rows. */
    static Optional<float[]> perChannel(Tensor tensor, int channels, boolean image) {
        float[] values = Floats.toArray(tensor);
        if (values.length == 1 && tensor.shape().rank() <= (image ? 4 : 2)) {
            float[] all = new float[channels];
            Arrays.fill(all, values[0]);
            return Optional.of(all);
        }
        long[] shape = tensor.shape().toArray();
        int axis = shape.length - (image ? 3 : 1);
        return values.length == channels && axis >= 0 && axis <= 1 && shape[axis] == channels
                ? Optional.of(values)
                : Optional.empty();
    }
}
