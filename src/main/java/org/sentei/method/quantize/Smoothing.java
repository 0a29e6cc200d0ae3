package org.sentei.method.quantize;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/**
 * Gives the channels of what layers with weights read ranges that one scale fits (SmoothQuant, Xiao et al., arXiv 2211.10438,
 * equation 4, for convolutions too): channel c is divided by s_c where it is made and multiplied by it where it is read,
 *
 * <pre>
 *   s_c = max |x_c|                           all readers depthwise: their weights have a scale for every channel
 *   s_c = max |x_c|^a / max |w_c|^(1 - a)     else, for a row of weights holds all channels; a = 0.5
 * </pre>
 *
 * <p>Rows of weights, with a scale each, take the division for nothing, and so do constants that multiply all channels alike,
 * as learned affine maps behind an activation do. Other than equalization it looks at what was seen, not at weights alone.
 */
final class Smoothing {
    /** Layers between a value and what scales it. */
    private static final int FAR = 8;
    /** A channel of less range than this share of the largest would be all zeros anyhow. */
    private static final double LEAST = 0x1p-12;

    private Smoothing() {}

    /**
     * A value whose channels can be scaled.
     *
     * @param divided layers whose constants take the division
     * @param between values that are divided with it
     */
    private record Place(
            String value, List<WeightMatrix> readers, boolean image, List<Layer> divided, List<String> between) {
        int channels() {
            return readers.getFirst().allInputs();
        }

        boolean isDepthwise() {
            return readers.stream().allMatch(WeightMatrix::isDepthwise);
        }
    }

    /** The values whose channels can be scaled, and whether those are axis 1 of images; else they are the last axis. */
    static Map<String, Boolean> values(LayerGraph graph) {
        Map<String, Boolean> values = new HashMap<>();
        for (Layer layer : graph.layers()) {
            if (!layer.outputs().isEmpty()) {
                place(graph, layer.output()).ifPresent(place -> values.put(place.value(), place.image()));
            }
        }
        return values;
    }

    /**
     * Scales channels.
     *
     * @param ranges largest magnitude of every channel, of the values to be scaled
     */
    static FloatGraph smooth(FloatGraph given, Map<String, float[]> ranges) {
        FloatGraph smoothed = given;
        for (Layer layer : given.graph().layers()) {
            float[] range = layer.outputs().isEmpty() ? null : ranges.get(layer.output());
            if (range != null) {
                smoothed = smooth(smoothed, layer.output(), range);
            }
        }
        return smoothed;
    }

    private static FloatGraph smooth(FloatGraph given, String value, float[] range) {
        LayerGraph graph = given.graph();
        Place place = place(graph, value).orElseThrow();
        double[] scales = scales(place, range);
        LayerGraph.Editor edit = graph.edit();
        for (WeightMatrix reader : place.readers()) {
            reader.scaleInputs(scales);
            reader.store(edit);
        }
        for (Layer layer : place.divided()) {
            Optional<WeightMatrix> weights = WeightMatrix.of(graph, layer);
            if (weights.isPresent()) {
                for (int c = 0; c < scales.length; c++) {
                    weights.get().scaleOutput(c, 1 / scales[c]);
                }
                weights.get().store(edit);
            } else {
                divideConstant(graph, edit, layer, place, scales);
            }
        }
        Map<String, Gaussians> known = new HashMap<>();
        for (String divided : place.between()) {
            Gaussians gaussians = given.known().get(divided);
            if (gaussians != null) {
                known.put(divided, gaussians.affine(c -> 1 / scales[c], _ -> 0));
            }
        }
        return given.with(edit.build()).knowing(known);
    }

    private static void divideConstant(
            LayerGraph graph, LayerGraph.Editor edit, Layer layer, Place place, double[] scales) {
        int at = constant(graph, layer);
        float[] values = perChannel(graph, layer, at, place.channels(), place.image())
                .orElseThrow()
                .clone();
        boolean divisor = layer.is("Div");
        for (int c = 0; c < values.length; c++) {
            values[c] = (float) (divisor ? values[c] * scales[c] : values[c] / scales[c]);
        }
        Shape shape = place.image() ? Shape.of(values.length, 1, 1) : Shape.of(values.length);
        String name = edit.constant(layer.name() + "_smooth", DType.F32, shape, MemorySegment.ofArray(values));
        edit.change(layer, now -> now.name().equals(layer.name()) ? now.withInput(at, name) : now);
    }

    private static double[] scales(Place place, float[] range) {
        int channels = place.channels();
        double[] read = new double[channels];
        for (WeightMatrix reader : place.readers()) {
            float[] ranges = reader.inputRanges();
            for (int c = 0; c < channels; c++) {
                read[c] = Math.max(read[c], ranges[c]);
            }
        }
        double mostSeen = 0;
        for (float seen : range) {
            mostSeen = Math.max(mostSeen, seen);
        }
        double mostRead = Arrays.stream(read).max().orElse(0);
        double[] scales = new double[channels];
        Arrays.fill(scales, 1);
        if (!(mostSeen > 0) || !(mostRead > 0)) {
            return scales;
        }
        double logs = 0;
        for (int c = 0; c < channels; c++) {
            double seen = Math.max(range[c], LEAST * mostSeen);
            scales[c] = place.isDepthwise() ? seen : Math.sqrt(seen / Math.max(read[c], LEAST * mostRead));
            logs += Math.log(scales[c]) / channels;
        }
        // Only ratios matter; around 1 nothing overflows.
        double middle = Math.exp(logs);
        for (int c = 0; c < channels; c++) {
            scales[c] /= middle;
        }
        return scales;
    }

    /** What reads a value, and what takes the division. */
    private static Optional<Place> place(LayerGraph graph, String value) {
        List<Layer> reading = graph.readers(value);
        List<WeightMatrix> readers = reading.stream()
                .filter(layer ->
                        layer.inputs().indexOf(value) == 0 && layer.inputs().lastIndexOf(value) == 0)
                .flatMap(layer -> WeightMatrix.of(graph, layer).stream())
                .toList();
        if (readers.isEmpty() || readers.size() < reading.size() || graph.isOutput(value)) {
            return Optional.empty();
        }
        int channels = readers.getFirst().allInputs();
        boolean image = readers.getFirst().shape().rank() == 4;
        boolean alike = readers.stream()
                .allMatch(reader -> reader.allInputs() == channels
                        && reader.shape().rank() == readers.getFirst().shape().rank());
        if (!alike || !(image || readers.getFirst().shape().rank() == 2)) {
            return Optional.empty();
        }
        List<Layer> divided = new ArrayList<>();
        List<String> between = new ArrayList<>();
        String current = value;
        for (int step = 0; step < FAR; step++) {
            Optional<Layer> producer = graph.producer(current);
            if (producer.isEmpty()) {
                return Optional.empty();
            }
            Layer layer = producer.get();
            between.add(current);
            Optional<WeightMatrix> weights = WeightMatrix.of(graph, layer);
            if (weights.isPresent()) {
                divided.add(layer);
                boolean fits = weights.get().outputs() == channels
                        && weights.get().shape().rank()
                                == readers.getFirst().shape().rank();
                return fits
                        ? Optional.of(new Place(value, readers, image, List.copyOf(divided), List.copyOf(between)))
                        : Optional.empty();
            }
            int next = 0;
            boolean passes = false;
            switch (Operation.of(graph, layer)) {
                case Operation.Activation activation -> passes = activation.isHomogeneous();
                case Operation.Pooling _ -> passes = image;
                case Operation.Rearrangement rearrangement -> passes = image && rearrangement.keepsChannels();
                case Operation.Arithmetic(Operation.Arithmetic.Kind kind) -> {
                    int at = constant(graph, layer);
                    if (at < 0 || perChannel(graph, layer, at, channels, image).isEmpty()) {
                        return Optional.empty();
                    }
                    divided.add(layer);
                    next = 1 - at;
                    passes = kind == Operation.Arithmetic.Kind.ADD || kind == Operation.Arithmetic.Kind.SUB;
                    if (kind == Operation.Arithmetic.Kind.MUL || (kind == Operation.Arithmetic.Kind.DIV && at == 1)) {
                        return Optional.of(
                                new Place(value, readers, image, List.copyOf(divided), List.copyOf(between)));
                    }
                }
                default -> {}
            }
            if (!passes || graph.onlyReader(layer.input(next)).isEmpty()) {
                return Optional.empty();
            }
            current = layer.input(next);
        }
        return Optional.empty();
    }

    /** Which input of a sum or product is constant; -1 where none or both are. */
    private static int constant(LayerGraph graph, Layer layer) {
        boolean first = graph.weight(layer.input(0)).isPresent();
        boolean second = graph.weight(layer.input(1)).isPresent();
        return first == second ? -1 : first ? 0 : 1;
    }

    private static Optional<float[]> perChannel(LayerGraph graph, Layer layer, int at, int channels, boolean image) {
        return graph.weight(layer.input(at)).flatMap(tensor -> Folding.perChannel(tensor, channels, image));
    }
}
