package org.sentei.method.quantize;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.model.graph.Operation.Function;

/**
 * Which layers compute with integers, and which values become integers between them. A value has one scale, whoever reads it;
 * values that only change their order, or lie side by side, share it.
 */
final class Placement {
    private final LayerGraph graph;
    private final Quantization how;
    private final List<Layer> layers = new ArrayList<>();
    private final Set<String> values = new LinkedHashSet<>();
    private final Map<String, String> groups = new HashMap<>();
    private final Set<String> inInteger = new LinkedHashSet<>();

    /** @param targeted which layers with weights may change, by name */
    Placement(LayerGraph graph, Quantization how, Predicate<String> targeted) {
        this.graph = graph;
        this.how = how;
        List<Layer> weighted = graph.layers().stream()
                .filter(layer -> WeightMatrix.of(graph, layer).isPresent())
                .filter(layer -> graph.weight(layer.input(0)).isEmpty())
                .toList();
        for (Layer layer : weighted) {
            boolean kept = (how.firstInFloat() && layer.equals(weighted.getFirst()))
                    || (how.lastInFloat() && layer.equals(weighted.getLast()))
                    || !targeted.test(layer.name());
            if (!kept) {
                layers.add(layer);
                inInteger.add(layer.name());
            }
        }
        for (Layer layer : layers) {
            values.add(layer.input(0));
            if (Operation.of(graph, layer) instanceof Operation.Convolution) {
                take(fused(layer));
            }
        }
        for (Layer layer : graph.layers()) {
            spread(layer);
        }
        for (Layer layer : graph.layers()) {
            unify(layer);
        }
        for (Layer layer : layers) {
            String end = fused(layer);
            if (!end.equals(layer.output()) && values.contains(end)) {
                inInteger.add(graph.producer(end).orElseThrow().name());
            }
        }
    }

    private void take(String value) {
        if (!graph.isOutput(value)) {
            values.add(value);
        }
    }

    /** The value behind the Relu or Clip that a layer with weights can do itself, or its own. */
    String fused(Layer layer) {
        return graph.onlyReader(layer.output())
                .filter(next -> Operation.of(graph, next)
                                instanceof Operation.Activation(Function function, float low, float high)
                        && (function == Function.RELU || function == Function.CLIP)
                        && low == 0
                        && high > 0)
                .map(Layer::output)
                .orElse(layer.output());
    }

    /** Sums, products, pools and rearrangements of what are integers already. */
    private void spread(Layer layer) {
        boolean all = !layer.inputs().isEmpty()
                && layer.inputs().stream().limit(arity(layer)).allMatch(this::isNear);
        switch (Operation.of(graph, layer)) {
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind)
            when all && (kind == Operation.Arithmetic.Kind.ADD || kind == Operation.Arithmetic.Kind.MUL) -> add(layer);
            case Operation.Concatenation _ when all -> add(layer);
            case Operation.Pooling _ when all -> add(layer);
            case Operation.Rearrangement _ when values.contains(layer.input(0)) -> add(layer);
            default -> {}
        }
    }

    /** Inputs that are data; a Reshape's others say how. */
    private int arity(Layer layer) {
        return Operation.of(graph, layer) instanceof Operation.Rearrangement
                ? 1
                : layer.inputs().size();
    }

    private void add(Layer layer) {
        if (graph.isOutput(layer.output())) {
            return;
        }
        layer.inputs().stream().limit(arity(layer)).forEach(values::add);
        values.add(layer.output());
        inInteger.add(layer.name());
    }

    /** Whether a value is an integer, or a function of one number that is. */
    private boolean isNear(String value) {
        if (values.contains(value)) {
            return true;
        }
        Optional<Layer> producer = graph.producer(value);
        return producer.isPresent()
                && Operation.of(graph, producer.get()) instanceof Operation.Activation
                && values.contains(producer.get().input(0));
    }

    private void unify(Layer layer) {
        if (!inInteger.contains(layer.name())) {
            return;
        }
        switch (Operation.of(graph, layer)) {
            case Operation.Rearrangement _ -> join(layer.input(0), layer.output());
            case Operation.Pooling pooling when pooling.maximum() -> join(layer.input(0), layer.output());
            case Operation.Concatenation _
            when how.unify().contains(Quantization.Unify.CONCAT) ->
                layer.inputs().forEach(input -> join(input, layer.output()));
            case Operation.Arithmetic(Operation.Arithmetic.Kind kind)
            when kind == Operation.Arithmetic.Kind.ADD && how.unify().contains(Quantization.Unify.ADD) ->
                join(layer.input(0), layer.input(1));
            default -> {}
        }
    }

    private void join(String a, String b) {
        groups.put(root(a), root(b));
        groups.remove(root(b));
    }

    private String root(String value) {
        String root = value;
        while (groups.containsKey(root)) {
            root = groups.get(root);
        }
        return root;
    }

    /** Layers with weights that compute with integers, in the graph's order. */
    List<Layer> layers() {
        return layers;
    }

    /** Values that become integers, in the graph's order. */
    List<String> values() {
        return List.copyOf(values);
    }

    /** Values by the one that stands for all that share its scale. */
    Map<String, List<String>> shared() {
        Map<String, List<String>> shared = new LinkedHashMap<>();
        values.forEach(value ->
                shared.computeIfAbsent(root(value), _ -> new ArrayList<>()).add(value));
        return shared;
    }

    /** Layers that stay in float, with their operators. */
    List<Layer> inFloat() {
        return graph.layers().stream()
                .filter(layer -> !inInteger.contains(layer.name()))
                .toList();
    }
}
