package org.sentei.method.quantize;

import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/** Which versions of ONNX's operators are taken, and how older ones become those that scales per channel need. */
final class Opsets {
    /** First version in which Clip, Pad and Resize have the inputs they still have. */
    private static final long OLDEST = 11;

    /** Last version whose changes were looked through. */
    private static final long NEWEST = 23;

    /** First version with a scale for every channel. */
    static final long PER_CHANNEL = 13;

    private Opsets() {}

    /**
     * Refuses versions that would be misread.
     *
     * @throws ModelException naming the versions that are taken
     */
    static void check(LayerGraph graph) {
        if (graph.opset() < OLDEST || graph.opset() > NEWEST) {
            throw new ModelException(graph.name() + " uses version " + graph.opset()
                    + " of ONNX's operators; quantization takes " + OLDEST + " to " + NEWEST
                    + ": convert the model with onnx.version_converter");
        }
    }

    /** The same graph in a version that has scales per channel. */
    static LayerGraph raise(LayerGraph graph) {
        if (graph.opset() >= PER_CHANNEL) {
            return graph;
        }
        LayerGraph.Editor edit = graph.edit().opset(PER_CHANNEL);
        for (Layer layer : graph.layers()) {
            if (layer.is("Squeeze") || layer.is("Unsqueeze") || layer.is("ReduceSum")) {
                asInput(edit, layer, "axes");
            } else if (layer.is("Split")) {
                asInput(edit, layer, "split");
            } else if (layer.is("Softmax") || layer.is("LogSoftmax") || layer.is("Hardmax")) {
                flat(edit, layer);
            }
        }
        return edit.build();
    }

    private static void asInput(LayerGraph.Editor edit, Layer layer, String attribute) {
        List<Long> values = layer.wholes(attribute);
        Map<String, Attribute> others = new LinkedHashMap<>(layer.attributes());
        others.remove(attribute);
        Layer without = new Layer(
                layer.name(),
                layer.domain(),
                layer.operator(),
                layer.inputs(),
                layer.outputs(),
                others,
                layer.captures());
        if (!values.isEmpty()) {
            String constant = edit.constant(
                    layer.name() + "_" + attribute,
                    DType.I64,
                    Shape.of(values.size()),
                    MemorySegment.ofArray(
                            values.stream().mapToLong(Long::longValue).toArray()));
            without = without.withInput(1, constant);
        }
        edit.replace(layer, without);
    }

    /** Before version 13 all axes from the given one on were one; the default was the second. */
    private static void flat(LayerGraph.Editor edit, Layer layer) {
        long axis = layer.whole("axis", 1);
        if (axis == -1) {
            return;
        }
        String shape = edit.fresh(layer.output() + "_shape");
        String rows = edit.fresh(layer.output() + "_rows");
        String done = edit.fresh(layer.output() + "_done");
        String input = layer.input(0);
        edit.replace(
                layer,
                Layer.of(edit.fresh(layer.name() + "_shape"), "Shape", List.of(input), shape, Map.of()),
                Layer.of(
                        edit.fresh(layer.name() + "_rows"),
                        "Flatten",
                        List.of(input),
                        rows,
                        Map.of("axis", new Attribute.Whole(axis))),
                Layer.of(layer.name(), layer.operator(), List.of(rows), done, Map.of("axis", new Attribute.Whole(-1))),
                Layer.of(
                        edit.fresh(layer.name() + "_back"), "Reshape", List.of(done, shape), layer.output(), Map.of()));
    }
}
