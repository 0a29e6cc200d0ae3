package org.sentei.method.quantize;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Random;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Small graphs for tests: layers one behind the other, from x on, with seeded constants. */
public final class Graphs {
    private final Random random = new Random(5);
    private final List<Layer> layers = new ArrayList<>();
    private final Map<String, Tensor> constants = new LinkedHashMap<>();
    private String last = "x";

    public static Graphs of() {
        return new Graphs();
    }

    public Graphs conv(int outputs, int inputs, int size, int groups, long pad) {
        String name = "conv" + layers.size();
        constant(name + ".w", Shape.of(outputs, inputs / groups, size, size), 0.5f);
        constant(name + ".b", Shape.of(outputs), 0.5f);
        return layer(
                name,
                "Conv",
                List.of(last, name + ".w", name + ".b"),
                Map.of(
                        "group",
                        new Attribute.Whole(groups),
                        "pads",
                        new Attribute.Wholes(List.of(pad, pad, pad, pad))));
    }

    public Graphs norm(int channels) {
        String name = "norm" + layers.size();
        for (String part : List.of(".gamma", ".beta", ".mean")) {
            constant(name + part, Shape.of(channels), 1);
        }
        float[] variance = new float[channels];
        for (int c = 0; c < channels; c++) {
            variance[c] = 0.5f + random.nextFloat();
        }
        constant(name + ".variance", Shape.of(channels), variance);
        return layer(
                name,
                "BatchNormalization",
                List.of(last, name + ".gamma", name + ".beta", name + ".mean", name + ".variance"),
                Map.of());
    }

    public Graphs then(String operator, float... scalars) {
        String name = operator + layers.size();
        List<String> inputs = new ArrayList<>(List.of(last));
        for (int i = 0; i < scalars.length; i++) {
            constant(name + "." + i, Shape.of(), scalars[i]);
            inputs.add(name + "." + i);
        }
        return layer(name, operator, inputs, Map.of());
    }

    public Graphs layer(String name, String operator, List<String> inputs, Map<String, Attribute> attributes) {
        layers.add(Layer.of(name, operator, inputs, name + ".y", attributes));
        last = name + ".y";
        return this;
    }

    public String last() {
        return last;
    }

    public Graphs constant(String name, Shape shape, float... values) {
        float[] all = new float[(int) shape.elements()];
        if (values.length == all.length) {
            System.arraycopy(values, 0, all, 0, all.length);
        } else {
            for (int i = 0; i < all.length; i++) {
                all[i] = (random.nextFloat() - 0.5f) * 2 * values[0];
            }
        }
        constants.put(name, new Tensor(name, DType.F32, shape, MemorySegment.ofArray(all)));
        return this;
    }

    public LayerGraph build(int channels, int size) {
        return new LayerGraph(
                "test",
                14,
                List.of(new LayerGraph.Port(
                        "x",
                        DType.F32,
                        List.of(
                                OptionalLong.of(1),
                                OptionalLong.of(channels),
                                OptionalLong.of(size),
                                OptionalLong.of(size)))),
                List.of(new LayerGraph.Port(last, DType.F32, List.of())),
                layers,
                constants);
    }
}
