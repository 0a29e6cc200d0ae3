package org.sentei.method.quantize;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;

/**
 * Cross-layer equalization and the absorption of high biases (Nagel et al., arXiv 1906.04721, sections 4.1 and 4.2): layers
 * that only a positively homogeneous function parts, {@code W2 f(W1 x + b1)}, share their ranges channel by channel.
 */
final class Equalization {
    /** Scales change less than this, as a logarithm, when nothing is left to do. */
    private static final double SETTLED = 1e-3;

    /** Deviations below the mean from which on a value is taken for positive. */
    private static final double DEVIATIONS = 3;

    private Equalization() {}

    /** Layers one behind the other, the middle one of three depthwise. */
    private record Chain(List<String> layers) {}

    /**
     * Equalizes pairs, {@code S = sqrt(r1/r2)}, and depthwise triples, {@code S12 = r1/c, S23 = c/r3, c = cbrt(r1 r2 r3)}, until
     * nothing changes any more. A channel without range keeps its scale.
     *
     * @param rounds at most
     */
    static FloatGraph equalize(FloatGraph given, int rounds) {
        List<Chain> chains = chains(given.graph());
        FloatGraph equalized = given;
        for (int round = 0; round < rounds; round++) {
            LayerGraph graph = equalized.graph();
            Map<String, WeightMatrix> weights = new HashMap<>();
            Map<String, double[]> scales = new HashMap<>();
            double change = 0;
            for (Chain chain : chains) {
                List<WeightMatrix> matrices = chain.layers().stream()
                        .map(name -> weights.computeIfAbsent(
                                name,
                                key -> WeightMatrix.of(graph, graph.layer(key).orElseThrow())
                                        .orElseThrow()))
                        .toList();
                change = Math.max(change, equalize(matrices, scales));
            }
            LayerGraph.Editor edit = graph.edit();
            weights.values().forEach(matrix -> matrix.store(edit));
            equalized = rescaled(equalized, edit.build(), scales);
            if (!(change > SETTLED)) {
                break;
            }
        }
        return equalized;
    }

    private static FloatGraph rescaled(FloatGraph before, LayerGraph graph, Map<String, double[]> scales) {
        Map<String, Gaussians> known = new HashMap<>();
        scales.forEach((value, scale) -> {
            Gaussians gaussians = before.known().get(value);
            if (gaussians != null) {
                known.put(value, gaussians.affine(c -> 1 / scale[c], _ -> 0));
            }
        });
        return before.with(graph).knowing(known);
    }

    /** @return largest change, as a logarithm */
    private static double equalize(List<WeightMatrix> chain, Map<String, double[]> scales) {
        WeightMatrix first = chain.getFirst();
        WeightMatrix last = chain.getLast();
        int channels = first.outputs();
        float[] lastRanges = last.inputRanges();
        double[][] s = new double[chain.size() - 1][channels];
        double change = 0;
        for (int c = 0; c < channels; c++) {
            double r1 = first.outputRange(c);
            double r3 = lastRanges[c];
            if (chain.size() == 2) {
                s[0][c] = usable(Math.sqrt(r1 / r3));
            } else {
                double r2 = chain.get(1).outputRange(c);
                double common = Math.cbrt(r1 * r2 * r3);
                boolean ranged = r1 > 0 && r2 > 0 && r3 > 0;
                s[0][c] = ranged ? usable(r1 / common) : 1;
                s[1][c] = ranged ? usable(common / r3) : 1;
            }
            for (double[] part : s) {
                change = Math.max(change, Math.abs(Math.log(part[c])));
            }
        }
        for (int i = 0; i + 1 < chain.size(); i++) {
            for (int c = 0; c < channels; c++) {
                chain.get(i).scaleOutput(c, 1 / s[i][c]);
            }
            chain.get(i + 1).scaleInputs(s[i]);
            double[] total = scales.computeIfAbsent(chain.get(i).layer().output(), _ -> ones(channels));
            for (int c = 0; c < channels; c++) {
                total[c] *= s[i][c];
            }
        }
        return change;
    }

    private static double[] ones(int count) {
        double[] ones = new double[count];
        Arrays.fill(ones, 1);
        return ones;
    }

    private static double usable(double scale) {
        return scale > 0x1p-40 && scale < 0x1p40 ? scale : 1;
    }

    private static List<Chain> chains(LayerGraph graph) {
        List<Chain> chains = new ArrayList<>();
        List<String> middles = new ArrayList<>();
        for (Layer layer : graph.layers()) {
            Optional<WeightMatrix> first = WeightMatrix.of(graph, layer);
            Optional<WeightMatrix> second = first.flatMap(matrix -> next(graph, matrix));
            if (second.isEmpty() || middles.contains(layer.name())) {
                continue;
            }
            List<String> names =
                    new ArrayList<>(List.of(layer.name(), second.get().layer().name()));
            if (second.get().isDepthwise()) {
                next(graph, second.get()).ifPresent(third -> {
                    middles.add(names.getLast());
                    names.add(third.layer().name());
                });
            }
            chains.add(new Chain(List.copyOf(names)));
        }
        return chains;
    }

    /** The layer that alone reads what another gives, through homogeneous functions that keep channels apart. */
    private static Optional<WeightMatrix> next(LayerGraph graph, WeightMatrix from) {
        if (!from.takesBias()) {
            return Optional.empty();
        }
        String value = from.layer().output();
        for (int step = 0; step < 8; step++) {
            Optional<Layer> reader = graph.onlyReader(value);
            if (reader.isEmpty() || !reader.get().input(0).equals(value)) {
                return Optional.empty();
            }
            Optional<WeightMatrix> matrix = WeightMatrix.of(graph, reader.get());
            if (matrix.isPresent()) {
                return matrix.filter(next -> next.allInputs() == from.outputs());
            }
            boolean passes = switch (Operation.of(graph, reader.get())) {
                case Operation.Activation activation -> activation.isHomogeneous();
                case Operation.Pooling _ -> true;
                case Operation.Rearrangement rearrangement -> rearrangement.keepsChannels();
                default -> false;
            };
            if (!passes) {
                return Optional.empty();
            }
            value = reader.get().output();
        }
        return Optional.empty();
    }

    /**
     * Moves what a channel surely has into the next bias: {@code c = max(0, beta - 3 |gamma|)}, {@code b1 -= c},
     * {@code b2 += W2 c}, where a batch normalization tells beta and gamma and only a Relu parts the layers. The next layer
     * must not pad: its zeros would have to become {@code -c}.
     */
    static FloatGraph absorb(FloatGraph given) {
        FloatGraph absorbed = given;
        for (String name : given.graph().layers().stream().map(Layer::name).toList()) {
            absorbed = absorb(absorbed, name);
        }
        return absorbed;
    }

    private static FloatGraph absorb(FloatGraph given, String name) {
        LayerGraph graph = given.graph();
        Layer layer = graph.layer(name).orElseThrow();
        Gaussians known = layer.outputs().isEmpty() ? null : given.known().get(layer.output());
        Optional<WeightMatrix> first = known == null ? Optional.empty() : WeightMatrix.of(graph, layer);
        Optional<Layer> relu =
                first.flatMap(_ -> graph.onlyReader(layer.output())).filter(next -> next.is("Relu"));
        Optional<Layer> reader = relu.flatMap(next -> graph.onlyReader(next.output()));
        Optional<WeightMatrix> second = reader.filter(next -> !isPadded(graph, next))
                .flatMap(next -> WeightMatrix.of(graph, next))
                .filter(WeightMatrix::takesBias)
                .filter(next -> next.layer().input(0).equals(relu.get().output()))
                .filter(next -> next.allInputs() == first.get().outputs());
        if (second.isEmpty()) {
            return given;
        }
        double[] absorbed = new double[known.channels()];
        boolean any = false;
        for (int c = 0; c < absorbed.length; c++) {
            absorbed[c] = Math.max(0, known.mean(c) - DEVIATIONS * known.deviation(c));
            any |= absorbed[c] > 0;
        }
        if (!any) {
            return given;
        }
        WeightMatrix from = first.get();
        WeightMatrix to = second.get();
        for (int c = 0; c < absorbed.length; c++) {
            from.setBias(c, from.bias(c) - absorbed[c]);
        }
        for (int o = 0; o < to.outputs(); o++) {
            double sum = 0;
            for (int tap = 0; tap < to.fanIn(); tap++) {
                sum += to.get(o, tap) * absorbed[to.channel(o, tap)];
            }
            to.setBias(o, to.bias(o) + sum);
        }
        LayerGraph.Editor edit = graph.edit();
        from.storeBias(edit);
        to.storeBias(edit);
        return given.with(edit.build()).knowing(Map.of(layer.output(), known.affine(_ -> 1, c -> -absorbed[c])));
    }

    private static boolean isPadded(LayerGraph graph, Layer layer) {
        return Operation.of(graph, layer) instanceof Operation.Convolution conv && conv.padded();
    }
}
