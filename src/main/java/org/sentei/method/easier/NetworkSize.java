package org.sentei.method.easier;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.Shape;

/**
 * How large and how deep a network is.
 *
 * @param depth layers with weights on the longest path from an input to an output
 * @param activations rectifiers on the path that has most of them
 * @param parameters numbers in constants of fp32, single ones left out
 * @param multiplications of layers with weights, for one sample
 */
public record NetworkSize(int depth, int activations, long parameters, long multiplications) {
    /**
     * Measures a graph.
     *
     * @param shapes of what layers with weights make, for one sample
     */
    public static NetworkSize of(LayerGraph graph, Map<String, Shape> shapes) {
        Set<String> rectified = new HashSet<>();
        Rectifiers.of(graph).all().forEach(rectifier -> rectified.add(rectifier.output()));
        Map<String, Integer> depths = new HashMap<>();
        Map<String, Integer> activations = new HashMap<>();
        long multiplications = 0;
        for (Layer layer : graph.layers()) {
            long weights = weights(graph, layer);
            int depth = longest(depths, layer) + (weights > 0 ? 1 : 0);
            int most = longest(activations, layer);
            for (String output : layer.outputs()) {
                depths.put(output, depth);
                activations.put(output, most + (rectified.contains(output) ? 1 : 0));
            }
            Shape shape = weights > 0 ? shapes.get(layer.output()) : null;
            if (shape != null) {
                multiplications += weights * shape.elements();
            }
        }
        long parameters = graph.constants().keySet().stream()
                .flatMap(value -> graph.weight(value).stream())
                .filter(tensor -> tensor.shape().rank() > 0)
                .mapToLong(tensor -> tensor.shape().elements())
                .sum();
        List<String> ends = graph.outputs().stream().map(LayerGraph.Port::name).toList();
        return new NetworkSize(most(depths, ends), most(activations, ends), parameters, multiplications);
    }

    private static int longest(Map<String, Integer> lengths, Layer layer) {
        return Math.max(most(lengths, layer.inputs()), most(lengths, layer.captures()));
    }

    private static int most(Map<String, Integer> lengths, List<String> values) {
        return values.stream()
                .mapToInt(value -> lengths.getOrDefault(value, 0))
                .max()
                .orElse(0);
    }

    /** Weights that an element of the output is a sum over; 0 for layers without any. */
    private static long weights(LayerGraph graph, Layer layer) {
        return switch (Operation.of(graph, layer)) {
            case Operation.Convolution _ -> {
                Shape shape = graph.weight(layer.input(1)).orElseThrow().shape();
                yield shape.elements() / shape.dimension(0);
            }
            case Operation.Linear(boolean inputsFirst) ->
                graph.weight(layer.input(1)).orElseThrow().shape().dimension(inputsFirst ? 0 : 1);
            default -> 0;
        };
    }
}
