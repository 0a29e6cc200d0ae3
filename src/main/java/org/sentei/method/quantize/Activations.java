package org.sentei.method.quantize;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.model.graph.Operation.Arithmetic.Kind;
import org.sentei.model.graph.Operation.Function;
import org.sentei.tensor.Floats;

/** Rewrites activations: those that exporters spell out as sums and products, and those with an upper bound. */
final class Activations {
    /** First version with HardSwish. */
    private static final long HARD_SWISH_OPSET = 14;

    private static final float TOLERANCE = 1e-5f;

    private Activations() {}

    /** Gives Add/Clip/Mul/Div the names they have together: HardSigmoid and HardSwish. */
    static FloatGraph recognize(FloatGraph given) {
        LayerGraph graph = given.graph();
        for (Optional<LayerGraph> next = Optional.of(graph); next.isPresent(); ) {
            graph = next.get();
            next = recognizeOne(graph);
        }
        return given.with(graph);
    }

    private static Optional<LayerGraph> recognizeOne(LayerGraph graph) {
        for (Layer layer : graph.layers()) {
            Optional<LayerGraph> changed = spelled(graph, layer).or(() -> swish(graph, layer));
            if (changed.isPresent()) {
                return changed;
            }
        }
        return Optional.empty();
    }

    /** {@code clip(x + c, 0, h)}, divided by h at once or after a product with x. */
    private static Optional<LayerGraph> spelled(LayerGraph graph, Layer clip) {
        if (!(Operation.of(graph, clip) instanceof Operation.Activation(Function function, float low, float high))
                || function != Function.CLIP
                || low != 0
                || !Float.isFinite(high)) {
            return Optional.empty();
        }
        Optional<Layer> add = graph.producer(clip.input(0)).filter(layer -> is(graph, layer, Kind.ADD));
        Optional<Float> shift = add.flatMap(layer -> constant(graph, layer));
        Optional<Layer> reader = graph.onlyReader(clip.output());
        if (shift.isEmpty()
                || reader.isEmpty()
                || graph.onlyReader(add.get().output()).isEmpty()) {
            return Optional.empty();
        }
        String x = variable(graph, add.get());
        Layer next = reader.get();
        if (dividesBy(graph, next, high)) {
            Layer sigmoid = Layer.of(
                    next.name(),
                    "HardSigmoid",
                    List.of(x),
                    next.output(),
                    Map.of(
                            "alpha",
                            new Attribute.Decimal(1 / high),
                            "beta",
                            new Attribute.Decimal(shift.get() / high)));
            return Optional.of(graph.edit()
                    .replace(add.get())
                    .replace(clip)
                    .replace(next, sigmoid)
                    .build());
        }
        Optional<Layer> divided = is(graph, next, Kind.MUL) && next.inputs().contains(x)
                ? graph.onlyReader(next.output()).filter(layer -> dividesBy(graph, layer, high))
                : Optional.empty();
        if (divided.isEmpty() || high != 6 || shift.get() != 3) {
            return Optional.empty();
        }
        return Optional.of(graph.edit()
                .replace(add.get())
                .replace(clip)
                .replace(next)
                .replace(divided.get(), hardSwish(divided.get(), x))
                .opset(Math.max(HARD_SWISH_OPSET, graph.opset()))
                .build());
    }

    /** {@code x HardSigmoid(x)} with a slope of 1/6. */
    private static Optional<LayerGraph> swish(LayerGraph graph, Layer product) {
        if (!is(graph, product, Kind.MUL)) {
            return Optional.empty();
        }
        for (int i = 0; i < 2; i++) {
            String x = product.input(i);
            Optional<Layer> gate = graph.producer(product.input(1 - i))
                    .filter(layer -> layer.input(0).equals(x))
                    .filter(layer -> graph.onlyReader(layer.output()).isPresent())
                    .filter(layer -> Operation.of(graph, layer)
                                    instanceof Operation.Activation(Function function, float low, float high)
                            && function == Function.HARD_SIGMOID
                            && Math.abs(low * 6 - 1) < TOLERANCE
                            && high == 0.5f);
            if (gate.isPresent()) {
                return Optional.of(graph.edit()
                        .replace(gate.get())
                        .replace(product, hardSwish(product, x))
                        .opset(Math.max(HARD_SWISH_OPSET, graph.opset()))
                        .build());
            }
        }
        return Optional.empty();
    }

    private static Layer hardSwish(Layer last, String x) {
        return Layer.of(last.name(), "HardSwish", List.of(x), last.output(), Map.of());
    }

    private static boolean is(LayerGraph graph, Layer layer, Kind kind) {
        return Operation.of(graph, layer) instanceof Operation.Arithmetic(Kind found) && found == kind;
    }

    private static Optional<Float> constant(LayerGraph graph, Layer layer) {
        return graph.scalar(layer.input(1)).or(() -> graph.scalar(layer.input(0)));
    }

    private static String variable(LayerGraph graph, Layer layer) {
        return layer.input(graph.scalar(layer.input(1)).isPresent() ? 0 : 1);
    }

    private static boolean dividesBy(LayerGraph graph, Layer layer, float divisor) {
        if (is(graph, layer, Kind.DIV)) {
            return graph.scalar(layer.input(1)).equals(Optional.of(divisor));
        }
        return is(graph, layer, Kind.MUL)
                && constant(graph, layer)
                        .filter(factor -> Math.abs(factor * divisor - 1) < TOLERANCE)
                        .isPresent();
    }

    /**
     * Takes away the upper bound of Clip(0, high), and of Min behind a Relu, where a layer with weights is before: what is
     * positively homogeneous can be equalized. Values beyond the bound come out different.
     */
    static FloatGraph unbound(FloatGraph given) {
        LayerGraph graph = given.graph();
        LayerGraph.Editor edit = graph.edit();
        for (Layer layer : graph.layers()) {
            boolean behindWeights = graph.producer(layer.input(0))
                    .filter(source -> WeightMatrix.of(graph, source).isPresent())
                    .isPresent();
            if (behindWeights
                    && Operation.of(graph, layer)
                            instanceof Operation.Activation(Function function, float low, float high)
                    && function == Function.CLIP
                    && low == 0
                    && high > 0) {
                edit.replace(layer, Layer.of(layer.name(), "Relu", List.of(layer.input(0)), layer.output(), Map.of()));
            } else if (layer.is("Min") && layer.inputs().size() == 2 && !graph.isOutput(layer.output())) {
                dropBound(graph, edit, layer);
            }
        }
        return given.with(edit.build());
    }

    private static void dropBound(LayerGraph graph, LayerGraph.Editor edit, Layer min) {
        boolean positive = graph.weight(min.input(1)).stream().anyMatch(bound -> {
            for (float value : Floats.toArray(bound)) {
                if (!(value > 0)) {
                    return false;
                }
            }
            return true;
        });
        if (positive
                && graph.producer(min.input(0))
                        .filter(layer -> layer.is("Relu"))
                        .isPresent()) {
            edit.redirect(min.output(), min.input(0)).replace(min);
        }
    }
}
