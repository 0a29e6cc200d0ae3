package org.sentei.engine.training;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntToDoubleFunction;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;
import org.sentei.train.Rounding;
import org.sentei.train.TrainableGraph;
import org.sentei.train.TrainableGraph.Weights;

/**
 * A network whose layers with weights compute with few bits: the scales they begin with, nearest in the mean square, and the file
 * that comes out, with QuantizeLinear and DequantizeLinear.
 */
final class RoundedNetwork {
    /** First version of ONNX's operators that has scales for every output, and Clip with bounds of one element. */
    private static final long OPSET = 13;
    /** Scales that are tried, from this share of the largest on. */
    private static final int TRIED = 60;

    private static final double LEAST_SHARE = 0.2;

    private RoundedNetwork() {}

    /**
     * Layers with weights of their own.
     *
     * @throws ModelException when there are none, or the operators are too old
     */
    static List<Layer> layers(LayerGraph graph) {
        if (graph.opset() < OPSET) {
            throw new ModelException(graph.name() + " uses version " + graph.opset()
                    + " of ONNX's operators, and rounding needs " + OPSET + "; export it again");
        }
        List<Layer> found = graph.layers().stream()
                .filter(layer -> switch (Operation.of(graph, layer)) {
                    case Operation.Convolution _, Operation.Linear _ ->
                        graph.readers(layer.input(1)).size() == 1;
                    default -> false;
                })
                .toList();
        if (found.isEmpty()) {
            throw new ModelException(graph.name() + " has no layer with weights to round; give another model");
        }
        return found;
    }

    /**
     * Rounding of every layer, with scales of the least squared error.
     *
     * @param samples what each layer reads, by the name of the value
     * @param bits of the layers between the first and the last
     * @param ends of what the first reads, and of the last
     */
    static Map<String, Rounding> roundings(LayerGraph graph, Map<String, float[]> samples, int bits, int ends) {
        List<Layer> layers = layers(graph);
        Map<String, Rounding> roundings = new LinkedHashMap<>();
        for (Layer layer : layers) {
            boolean last = layer.equals(layers.getLast());
            int inputBits = last || layer.equals(layers.getFirst()) ? ends : bits;
            int weightBits = last ? ends : bits;
            float[] read = samples.get(layer.input(0));
            boolean unsigned = true;
            for (float value : read) {
                unsigned &= value >= 0;
            }
            Rounding sizes = new Rounding(inputBits, unsigned, 1, weightBits, List.of());
            float input = scale(read.length, i -> read[i], sizes.inputLow(), sizes.inputHigh());
            float[] weights = Floats.toArray(graph.constants().get(layer.input(1)));
            Outputs outputs = Outputs.of(graph, layer);
            List<Float> scales = new ArrayList<>();
            for (int o = 0; o < outputs.count(); o++) {
                int output = o;
                scales.add(scale(
                        outputs.each(), i -> weights[outputs.at(output, i)], -sizes.weightHigh(), sizes.weightHigh()));
            }
            roundings.put(layer.name(), new Rounding(inputBits, unsigned, input, weightBits, scales));
        }
        return roundings;
    }

    /** Where the weights of an output are. */
    private record Outputs(int count, int each, boolean last) {
        static Outputs of(LayerGraph graph, Layer layer) {
            Shape shape = graph.constants().get(layer.input(1)).shape();
            boolean last = axis(layer) == 1;
            int count = Math.toIntExact(shape.dimension(last ? 1 : 0));
            return new Outputs(count, Math.toIntExact(shape.elements() / count), last);
        }

        int at(int output, int i) {
            return last ? i * count + output : output * each + i;
        }
    }

    private static int axis(Layer layer) {
        return layer.is("MatMul") || (layer.is("Gemm") && layer.whole("transB", 0) == 0) ? 1 : 0;
    }

    private static float scale(int count, IntToDoubleFunction values, int low, int high) {
        double largest = 0;
        for (int i = 0; i < count; i++) {
            double value = values.applyAsDouble(i);
            largest = Math.max(largest, value < 0 ? value / low : value / high);
        }
        if (!(largest >= Float.MIN_NORMAL)) {
            return 1;
        }
        double best = largest;
        double least = Double.POSITIVE_INFINITY;
        for (int k = 0; k <= TRIED; k++) {
            double tried = largest * (LEAST_SHARE + (1 - LEAST_SHARE) * k / TRIED);
            double error = 0;
            for (int i = 0; i < count; i++) {
                double value = values.applyAsDouble(i);
                double rest = value - tried * Math.clamp(Math.rint(value / tried), low, high);
                error += rest * rest;
            }
            if (error <= least) {
                least = error;
                best = tried;
            }
        }
        return (float) best;
    }

    /** The network as ONNX Runtime computes it: integers of 8 bits that stay within the bits of their layer. */
    static LayerGraph exported(TrainableGraph net, Map<String, Rounding> roundings, Weights weights) {
        LayerGraph graph = net.with(weights);
        LayerGraph.Editor edit = graph.edit();
        for (Layer layer : graph.layers()) {
            Rounding rounding = roundings.get(layer.name());
            if (rounding == null) {
                continue;
            }
            Map<String, float[]> scales = new HashMap<>();
            for (int i = 0; i < net.parameters().size(); i++) {
                scales.put(net.parameters().get(i), weights.parameters().get(i));
            }
            float input = positive(scales.get(TrainableGraph.inputScale(layer.name()))[0]);
            String name = layer.name();
            List<Layer> front = new ArrayList<>();
            String read = input(edit, front, name, layer.input(0), rounding, input);
            String weight =
                    weight(edit, front, graph, layer, rounding, scales.get(TrainableGraph.weightScale(layer.name())));
            List<Layer> all = new ArrayList<>(front);
            all.add(layer.withInput(0, read).withInput(1, weight));
            edit.replace(layer, all.toArray(Layer[]::new));
        }
        return edit.build();
    }

    private static float positive(float scale) {
        return Math.max(Math.abs(scale), 1e-8f);
    }

    private static String input(
            LayerGraph.Editor edit, List<Layer> front, String name, String value, Rounding rounding, float scale) {
        DType dtype = rounding.unsigned() ? DType.U8 : DType.I8;
        String read = value;
        if (rounding.inputBits() < 8) {
            String low = constant(edit, name + ".low", scale * rounding.inputLow());
            String high = constant(edit, name + ".high", scale * rounding.inputHigh());
            String clipped = edit.fresh(name + ".clipped");
            front.add(Layer.of(edit.fresh(name + ".clip"), "Clip", List.of(read, low, high), clipped, Map.of()));
            read = clipped;
        }
        String step = constant(edit, name + ".input_scale", scale);
        String zero = edit.constant(name + ".zero", dtype, Shape.of(), MemorySegment.ofArray(new byte[1]));
        String integers = edit.fresh(name + ".integers");
        String rounded = edit.fresh(name + ".rounded");
        front.add(Layer.of(
                edit.fresh(name + ".quantize"), "QuantizeLinear", List.of(read, step, zero), integers, Map.of()));
        front.add(Layer.of(
                edit.fresh(name + ".dequantize"),
                "DequantizeLinear",
                List.of(integers, step, zero),
                rounded,
                Map.of()));
        return rounded;
    }

    private static String weight(
            LayerGraph.Editor edit,
            List<Layer> front,
            LayerGraph graph,
            Layer layer,
            Rounding rounding,
            float[] scales) {
        Tensor tensor = graph.constants().get(layer.input(1));
        float[] values = Floats.toArray(tensor);
        byte[] integers = new byte[values.length];
        Outputs outputs = Outputs.of(graph, layer);
        float[] steps = new float[scales.length];
        for (int o = 0; o < outputs.count(); o++) {
            steps[o] = positive(scales[o]);
            for (int i = 0; i < outputs.each(); i++) {
                int at = outputs.at(o, i);
                integers[at] = (byte)
                        Math.clamp(Math.rint(values[at] / steps[o]), -rounding.weightHigh(), rounding.weightHigh());
            }
        }
        String name = layer.name();
        String kept = edit.constant(name + ".weight", DType.I8, tensor.shape(), MemorySegment.ofArray(integers));
        String step =
                edit.constant(name + ".weight_scale", DType.F32, Shape.of(steps.length), MemorySegment.ofArray(steps));
        String zero = edit.constant(
                name + ".weight_zero", DType.I8, Shape.of(steps.length), MemorySegment.ofArray(new byte[steps.length]));
        String weight = edit.fresh(name + ".weight_rounded");
        front.add(Layer.of(
                edit.fresh(name + ".weight_dequantize"),
                "DequantizeLinear",
                List.of(kept, step, zero),
                weight,
                Map.of("axis", new Attribute.Whole(axis(layer)))));
        return weight;
    }

    private static String constant(LayerGraph.Editor edit, String name, float value) {
        return edit.constant(name, DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {value}));
    }
}
