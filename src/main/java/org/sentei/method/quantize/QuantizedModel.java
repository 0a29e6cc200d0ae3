package org.sentei.method.quantize;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/** A float graph with the scales of its values and the bytes of its weights: all that a form of export needs. */
final class QuantizedModel {
    private final LayerGraph graph;
    private final Placement placement;
    private final Map<String, Quantizer> values;
    private final Map<String, RoundedWeights> weights;

    /**
     * @param graph in a version of operators that has scales per channel
     * @param values by name; some of the placement's
     * @param weights by layer
     */
    QuantizedModel(
            LayerGraph graph, Placement placement, Map<String, Quantizer> values, Map<String, RoundedWeights> weights) {
        this.graph = graph;
        this.placement = placement;
        this.values = new LinkedHashMap<>(values);
        this.weights = new LinkedHashMap<>(weights);
    }

    LayerGraph graph() {
        return graph;
    }

    Placement placement() {
        return placement;
    }

    Map<String, Quantizer> values() {
        return values;
    }

    Map<String, RoundedWeights> weights() {
        return weights;
    }

    /** The graph with its integers, in operators that ONNX Runtime and TensorRT know. */
    LayerGraph export(Quantization.Form form) {
        return new Export(form).build();
    }

    /** The value that readers get in place of one that becomes integers, in every form of export. */
    static String dequantized(String value) {
        return value + "_dequantized";
    }

    static String quantized(String value) {
        return value + "_quantized";
    }

    private final class Export {
        private final Quantization.Form form;
        private final LayerGraph.Editor edit = graph.edit();
        /** Layers to append, by the name of the one before them. */
        private final Map<String, List<Layer>> behind = new LinkedHashMap<>();

        private final List<Layer> first = new ArrayList<>();
        private final Map<String, String> scales = new HashMap<>();
        private final Map<String, String> zeros = new HashMap<>();

        Export(Quantization.Form form) {
            this.form = form;
        }

        LayerGraph build() {
            for (String value : values.keySet()) {
                for (Layer reader : graph.readers(value)) {
                    edit.change(reader, now -> now.name().equals(reader.name()) ? reading(now, value) : now);
                }
            }
            values.forEach(this::convert);
            weights.forEach(this::integers);
            behind.forEach((name, tail) -> edit.append(graph.layer(name).orElseThrow(), tail));
            return edit.prepend(first).build();
        }

        private static Layer reading(Layer layer, String value) {
            return layer.with(
                    layer.inputs().stream()
                            .map(input -> input.equals(value) ? dequantized(value) : input)
                            .toList(),
                    layer.outputs());
        }

        private void convert(String value, Quantizer quantizer) {
            String scale = edit.constant(
                    value + "_scale", DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {quantizer.scale()}));
            String zero = edit.constant(
                    value + "_zero",
                    quantizer.signed() ? DType.I8 : DType.U8,
                    Shape.of(),
                    MemorySegment.ofArray(new byte[] {(byte) quantizer.zero()}));
            scales.put(value, scale);
            zeros.put(value, zero);
            Layer quantize = Layer.of(
                    edit.fresh(value + "_QuantizeLinear"),
                    "QuantizeLinear",
                    List.of(value, scale, zero),
                    quantized(value),
                    Map.of());
            Layer dequantize = Layer.of(
                    edit.fresh(value + "_DequantizeLinear"),
                    "DequantizeLinear",
                    List.of(quantized(value), scale, zero),
                    dequantized(value),
                    Map.of());
            Optional<Layer> producer = graph.producer(value);
            if (producer.isEmpty()) {
                first.add(quantize);
                first.add(dequantize);
            } else {
                behind.computeIfAbsent(producer.get().name(), _ -> new ArrayList<>())
                        .addAll(List.of(quantize, dequantize));
            }
        }

        private void integers(String name, RoundedWeights rounded) {
            Layer layer = graph.layer(name).orElseThrow();
            int outputs = rounded.source().outputs();
            float[] perOutput = new float[outputs];
            boolean same = true;
            for (int o = 0; o < outputs; o++) {
                perOutput[o] = rounded.scale(o);
                same &= perOutput[o] == perOutput[0];
            }
            float[] scale = same ? new float[] {perOutput[0]} : perOutput;
            Shape vector = same ? Shape.of() : Shape.of(outputs);
            String numbers = edit.constant(
                    layer.input(1) + "_numbers", DType.I8, rounded.shape(), MemorySegment.ofArray(rounded.numbers()));
            String scaled = edit.constant(name + "_weight_scale", DType.F32, vector, MemorySegment.ofArray(scale));
            String zero = edit.constant(
                    name + "_weight_zero", DType.I8, vector, MemorySegment.ofArray(new byte[scale.length]));
            String input = layer.input(0);
            boolean biased = rounded.source().hasBias();
            if (biased && form == Quantization.Form.TENSORRT) {
                rounded.source().storeBias(edit, layer);
            }
            String bias = "";
            String biasScale = "";
            if (biased && form != Quantization.Form.TENSORRT) {
                int[] integers = new int[outputs];
                float[] units = new float[scale.length];
                for (int o = 0; o < outputs; o++) {
                    integers[o] = rounded.bias(o);
                    units[same ? 0 : o] = values.get(input).scale() * rounded.scale(o);
                }
                bias = edit.constant(
                        name + "_bias_numbers", DType.I32, Shape.of(outputs), MemorySegment.ofArray(integers));
                biasScale = edit.constant(name + "_bias_scale", DType.F32, vector, MemorySegment.ofArray(units));
            }
            if (form == Quantization.Form.QLINEAR && whole(layer, bias, numbers, scaled, zero)) {
                return;
            }
            String weight = edit.fresh(name + "_weight");
            Map<String, Attribute> axis = same
                    ? Map.of()
                    : Map.of("axis", new Attribute.Whole(rounded.source().outputAxis()));
            first.add(Layer.of(
                    edit.fresh(name + "_weight_DequantizeLinear"),
                    "DequantizeLinear",
                    List.of(numbers, scaled, zero),
                    weight,
                    axis));
            edit.change(layer, now -> now.name().equals(name) ? now.withInput(1, weight) : now);
            if (!bias.isEmpty()) {
                String made = edit.fresh(name + "_bias");
                first.add(Layer.of(
                        edit.fresh(name + "_bias_DequantizeLinear"),
                        "DequantizeLinear",
                        List.of(bias, biasScale),
                        made,
                        same ? Map.of() : Map.of("axis", new Attribute.Whole(0))));
                edit.change(layer, now -> now.name().equals(name) ? now.withInput(2, made) : now);
            }
        }

        /** Turns a convolution whose result becomes integers at once into one operator. */
        private boolean whole(Layer layer, String bias, String numbers, String scale, String zero) {
            String end = placement.fused(layer);
            Quantizer to = values.get(end);
            if (!(Operation.of(graph, layer) instanceof Operation.Convolution)
                    || to == null
                    || !isClamp(layer, end, to)) {
                return false;
            }
            List<String> inputs = new ArrayList<>(List.of(
                    quantized(layer.input(0)),
                    scales.get(layer.input(0)),
                    zeros.get(layer.input(0)),
                    numbers,
                    scale,
                    zero,
                    scales.get(end),
                    zeros.get(end)));
            if (!bias.isEmpty()) {
                inputs.add(bias);
            }
            Layer integer = Layer.of(layer.name(), "QLinearConv", inputs, quantized(end), layer.attributes());
            Layer last = graph.producer(end).orElseThrow();
            List<Layer> tail = behind.get(last.name());
            behind.put(
                    last.name(),
                    tail.stream()
                            .filter(next -> !next.output().equals(quantized(end)))
                            .toList());
            if (!end.equals(layer.output())) {
                edit.replace(last);
            }
            edit.replace(layer, integer);
            return true;
        }

        /** Whether the smallest and largest numbers are what the activation between would leave. */
        private boolean isClamp(Layer layer, String end, Quantizer to) {
            if (end.equals(layer.output())) {
                return true;
            }
            Operation.Activation activation = (Operation.Activation)
                    Operation.of(graph, graph.producer(end).orElseThrow());
            double largest = (double) to.scale() * (to.high() - to.zero());
            return to.zero() == to.low() && !(largest > activation.high() * (1 + 1e-6));
        }
    }
}
