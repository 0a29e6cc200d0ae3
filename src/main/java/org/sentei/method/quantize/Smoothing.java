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
 * Gives the channels of what layers with weights read ranges that one scale fits better (SmoothQuant, Xiao et al., arXiv
 * 2211.10438, section 4, for convolutions too): channel c is divided by s_c where it is made and multiplied by it where it is
 * read, {@code s_c = max |x_c|^a / max |w_c|^b}. Even activations make for uneven rows of weights, so that every value takes
 * those exponents of a few that make the least noise at its readers, as far as uniform rounding tells (ours):
 *
 * <pre>
 *   (range(x / s) / 255)^2 / 12  sum_oc (w_oc s_c)^2  +  sum_o (max_c |w_oc s_c| / 127)^2 / 12  sum_c E[x_c^2] / s_c^2
 * </pre>
 *
 * <p>Rows of weights, with a scale each, take the division for nothing, and so do constants that multiply all channels alike,
 * as learned affine maps behind an activation do; elsewhere, if asked for, a product is inserted where it saves enough noise.
 * Other than equalization it looks at what was seen, not at weights alone.
 */
final class Smoothing {
    /** Layers between a value and what scales it. */
    private static final int FAR = 8;
    /** Exponents of what activations span. */
    private static final double[] EXPONENTS = {0.25, 0.5, 0.75, 1};
    /** Noise that a product of its own has to leave at most, as a share. */
    private static final double WORTHWHILE = 0.7;
    /** A channel of less range than this share of the largest would be all zeros anyhow. */
    private static final double LEAST = 0x1p-12;

    private final boolean inserting;

    /** @param inserting whether a product of its own divides where nothing else can */
    Smoothing(boolean inserting) {
        this.inserting = inserting;
    }

    /**
     * A value whose channels can be scaled.
     *
     * @param divided layers whose constants take the division; none where a product has to
     * @param between values that are divided with it
     */
    private record Place(
            String value, List<WeightMatrix> readers, boolean image, List<Layer> divided, List<String> between) {
        int channels() {
            return readers.getFirst().allInputs();
        }

        /** Of a constant with a number for every channel. */
        Shape broadcast() {
            return image ? Shape.of(channels(), 1, 1) : Shape.of(channels());
        }
    }

    /** The values whose channels can be scaled, and whether those are axis 1 of images; else they are the last axis. */
    Map<String, Boolean> values(LayerGraph graph) {
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
     * @param ranges of the values to be scaled
     */
    FloatGraph smooth(FloatGraph given, Map<String, ChannelRanges> ranges) {
        FloatGraph smoothed = given;
        for (Layer layer : given.graph().layers()) {
            ChannelRanges range = layer.outputs().isEmpty() ? null : ranges.get(layer.output());
            if (range != null) {
                smoothed = smooth(smoothed, layer.output(), range);
            }
        }
        return smoothed;
    }

    private FloatGraph smooth(FloatGraph given, String value, ChannelRanges range) {
        LayerGraph graph = given.graph();
        Place place = place(graph, value).orElseThrow();
        double[] scales = new Choice(place, range).scales();
        if (scales == null) {
            return given;
        }
        LayerGraph.Editor edit = graph.edit();
        for (WeightMatrix reader : place.readers()) {
            reader.scaleInputs(scales);
            reader.store(edit);
        }
        if (place.divided().isEmpty()) {
            insert(graph, edit, place, scales);
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

    private static void insert(LayerGraph graph, LayerGraph.Editor edit, Place place, double[] scales) {
        float[] factors = new float[scales.length];
        for (int c = 0; c < factors.length; c++) {
            factors[c] = (float) (1 / scales[c]);
        }
        String value = place.value();
        String smooth = edit.fresh(value + "_smooth");
        String factor =
                edit.constant(value + "_smoothing", DType.F32, place.broadcast(), MemorySegment.ofArray(factors));
        Layer product = Layer.of(edit.fresh(value + "_Smooth"), "Mul", List.of(value, factor), smooth, Map.of());
        edit.append(graph.producer(value).orElseThrow(), List.of(product));
        for (WeightMatrix reader : place.readers()) {
            Layer layer = reader.layer();
            edit.change(layer, now -> now.name().equals(layer.name()) ? now.withInput(0, smooth) : now);
        }
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
        String name =
                edit.constant(layer.name() + "_smooth", DType.F32, place.broadcast(), MemorySegment.ofArray(values));
        edit.change(layer, now -> now.name().equals(layer.name()) ? now.withInput(at, name) : now);
    }

    /** Finds the scales of a value's channels. */
    private static final class Choice {
        private final Place place;
        private final ChannelRanges seen;
        private final int channels;
        /** Largest magnitude of the weights that read a channel, and the sum of their squares. */
        private final double[] read;

        private final double[] energy;

        Choice(Place place, ChannelRanges seen) {
            this.place = place;
            this.seen = seen;
            channels = place.channels();
            read = new double[channels];
            energy = new double[channels];
            for (WeightMatrix reader : place.readers()) {
                for (int o = 0; o < reader.outputs(); o++) {
                    for (int tap = 0; tap < reader.fanIn(); tap++) {
                        int c = reader.channel(o, tap);
                        double weight = Math.abs(reader.get(o, tap));
                        read[c] = Math.max(read[c], weight);
                        energy[c] += weight * weight;
                    }
                }
            }
        }

        /** Those of least noise; null where they are as good as none. */
        double[] scales() {
            double[] ones = new double[channels];
            Arrays.fill(ones, 1);
            double before = noise(ones);
            double least = place.divided().isEmpty() ? WORTHWHILE * before : before;
            double[] best = null;
            for (double exponent : EXPONENTS) {
                for (double weights : new double[] {0, 1 - exponent}) {
                    double[] scales = scales(exponent, weights);
                    double noise = noise(scales);
                    if (noise < least) {
                        least = noise;
                        best = scales;
                    }
                }
            }
            return best;
        }

        private double[] scales(double exponent, double weights) {
            double mostSeen = seen.largest();
            double mostRead = Arrays.stream(read).max().orElse(0);
            double[] scales = new double[channels];
            double logs = 0;
            for (int c = 0; c < channels; c++) {
                scales[c] = Math.pow(Math.max(seen.range(c), LEAST * mostSeen), exponent)
                        / Math.pow(Math.max(read[c], LEAST * mostRead), weights);
                logs += Math.log(scales[c]) / channels;
            }
            // Only ratios matter; around 1 nothing overflows.
            double middle = Math.exp(logs);
            for (int c = 0; c < channels; c++) {
                scales[c] /= middle;
            }
            return scales;
        }

        /** NaN, which is less than no other, where nothing was seen or nothing reads it. */
        private double noise(double[] scales) {
            double low = 0;
            double high = 0;
            double weight = 0;
            for (int c = 0; c < channels; c++) {
                low = Math.min(low, seen.low(c) / scales[c]);
                high = Math.max(high, seen.high(c) / scales[c]);
                weight += energy[c] * scales[c] * scales[c];
            }
            double step = (high - low) / 255;
            double noise = step * step * weight;
            for (WeightMatrix reader : place.readers()) {
                for (int o = 0; o < reader.outputs(); o++) {
                    double largest = 0;
                    double signal = 0;
                    for (int tap = 0; tap < reader.fanIn(); tap++) {
                        int c = reader.channel(o, tap);
                        largest = Math.max(largest, Math.abs(reader.get(o, tap)) * scales[c]);
                        signal += seen.meanSquare(c) / (scales[c] * scales[c]);
                    }
                    noise += largest * largest / (127.0 * 127.0) * signal;
                }
            }
            return noise / 12;
        }
    }

    /** What reads a value, and what takes the division. */
    private Optional<Place> place(LayerGraph graph, String value) {
        List<Layer> reading = graph.readers(value);
        List<WeightMatrix> readers = reading.stream()
                .filter(layer ->
                        layer.inputs().indexOf(value) == 0 && layer.inputs().lastIndexOf(value) == 0)
                .flatMap(layer -> WeightMatrix.of(graph, layer).stream())
                .toList();
        if (readers.isEmpty()) {
            return Optional.empty();
        }
        int channels = readers.getFirst().allInputs();
        int rank = readers.getFirst().shape().rank();
        boolean alike = readers.stream()
                .allMatch(reader ->
                        reader.allInputs() == channels && reader.shape().rank() == rank);
        if (!alike || (rank != 4 && rank != 2)) {
            return Optional.empty();
        }
        Place place = new Place(value, readers, rank == 4, List.of(), List.of());
        Optional<Place> folded =
                readers.size() == reading.size() && !graph.isOutput(value) ? folded(graph, place) : Optional.empty();
        return folded.or(() -> inserting ? Optional.of(place) : Optional.empty());
    }

    /** A place with the layers before it that take the division. */
    private static Optional<Place> folded(LayerGraph graph, Place place) {
        int channels = place.channels();
        List<Layer> divided = new ArrayList<>();
        List<String> between = new ArrayList<>();
        String current = place.value();
        for (int step = 0; step < FAR; step++) {
            Optional<Layer> producer = graph.producer(current);
            if (producer.isEmpty()) {
                return Optional.empty();
            }
            Layer layer = producer.get();
            between.add(current);
            Optional<WeightMatrix> weights = WeightMatrix.of(graph, layer);
            boolean last = false;
            boolean passes = false;
            int next = 0;
            if (weights.isPresent()) {
                last = weights.get().outputs() == channels
                        && (weights.get().shape().rank() == 4) == place.image();
                divided.add(layer);
            } else {
                switch (Operation.of(graph, layer)) {
                    case Operation.Activation activation -> passes = activation.isHomogeneous();
                    case Operation.Pooling _ -> passes = place.image();
                    case Operation.Rearrangement rearrangement ->
                        passes = place.image() && rearrangement.keepsChannels();
                    case Operation.Arithmetic(Operation.Arithmetic.Kind kind) -> {
                        int at = constant(graph, layer);
                        if (at >= 0
                                && perChannel(graph, layer, at, channels, place.image())
                                        .isPresent()) {
                            divided.add(layer);
                            next = 1 - at;
                            last = kind == Operation.Arithmetic.Kind.MUL
                                    || (kind == Operation.Arithmetic.Kind.DIV && at == 1);
                            passes = kind == Operation.Arithmetic.Kind.ADD || kind == Operation.Arithmetic.Kind.SUB;
                        }
                    }
                    default -> {}
                }
            }
            if (last) {
                return Optional.of(new Place(
                        place.value(), place.readers(), place.image(), List.copyOf(divided), List.copyOf(between)));
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
