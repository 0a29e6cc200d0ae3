package org.sentei.method.easier;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.DoubleUnaryOperator;
import org.apache.commons.numbers.gamma.Erf;
import org.sentei.method.easier.Rectifier.Kind;
import org.sentei.method.easier.Rectifier.Units;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;

/**
 * The {@link Rectifier}s of a graph, however their exporter spelled them: layers that together are a function of one value,
 * element by element, are recognized by what that function does to numbers.
 *
 * @param all in the order they run
 * @param refused layers that look like one and cannot be taken, with the reason
 */
public record Rectifiers(List<Rectifier> all, Map<String, String> refused) {
    /** Layers that run nested graphs. */
    private static final Set<String> CONTROL_FLOW = Set.of("If", "Loop", "Scan", "SequenceMap");

    private static final String MICROSOFT = "com.microsoft";
    /** Steps back that a function is followed; GELU by tanh takes four. */
    private static final int REACH = 8;

    private static final double ROOT_2 = Math.sqrt(2);
    private static final double TANH_SCALE = Math.sqrt(2 / Math.PI);
    private static final double CUBIC = 0.044715;
    /** Nearer to a function than this is that function: GELU and its form by tanh are 5e-4 apart. */
    private static final double SAME = 1e-4;

    private static final double[] POINTS = {-8, -5, -4, -2.5, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 2.5, 4, 5, 8};

    /** Copies both. */
    public Rectifiers {
        all = List.copyOf(all);
        refused = Collections.unmodifiableMap(new LinkedHashMap<>(refused));
    }

    /** Finds those of a graph. */
    public static Rectifiers of(LayerGraph graph) {
        return new Finder(graph).find();
    }

    /** Where the units of a value are: behind a convolution its channels, behind a product with a matrix the last axis. */
    private static Optional<Units> units(LayerGraph graph, String value) {
        String at = value;
        for (Optional<Layer> layer = graph.producer(at); layer.isPresent(); layer = graph.producer(at)) {
            Layer maker = layer.get();
            switch (Operation.of(graph, maker)) {
                case Operation.Convolution conv -> {
                    return Optional.of(new Units.Channels(conv.kernel().size()));
                }
                case Operation.Linear _ -> {
                    return Optional.of(new Units.Last());
                }
                case Operation.Arithmetic _ ->
                    at = graph.weight(maker.input(0)).isPresent() ? maker.input(1) : maker.input(0);
                case Operation.Normalization _,
                        Operation.Activation _,
                        Operation.Pooling _,
                        Operation.Concatenation _,
                        Operation.Rearrangement(boolean _) -> {
                    if (Operation.of(graph, maker) instanceof Operation.Rearrangement(boolean keeps) && !keeps) {
                        return Optional.empty();
                    }
                    at = maker.input(0);
                }
                case Operation.Unknown _ -> {
                    return Optional.empty();
                }
            }
        }
        return Optional.empty();
    }

    private static final class Finder {
        private final LayerGraph graph;
        /** The nearest value that a value is a function of. */
        private final Map<String, String> sources = new HashMap<>();

        private final Set<Layer> claimed = new HashSet<>();
        private final List<Rectifier> found = new ArrayList<>();
        private final Map<String, String> refused = new LinkedHashMap<>();

        Finder(LayerGraph graph) {
            this.graph = graph;
        }

        Rectifiers find() {
            for (Layer layer : graph.layers()) {
                if (CONTROL_FLOW.contains(layer.operator())) {
                    refused.put(layer.name(), "runs nested graphs, whose activations stay as they are");
                }
                if (Elementwise.of(graph, layer).isPresent()) {
                    common(variables(layer)).ifPresent(source -> sources.put(layer.output(), source));
                }
            }
            // From the end: what is spelled out ends behind its parts, some of which look like one themselves.
            for (Layer layer : graph.layers().reversed()) {
                if (!layer.outputs().isEmpty() && sources.containsKey(layer.output()) && !claimed.contains(layer)) {
                    endingIn(layer);
                }
            }
            return new Rectifiers(found.reversed(), refused);
        }

        private List<String> variables(Layer layer) {
            return layer.inputs().stream()
                    .filter(value -> !value.isEmpty() && graph.scalar(value).isEmpty())
                    .toList();
        }

        /** The nearest value that all of these are functions of, or are. */
        private Optional<String> common(List<String> values) {
            if (values.isEmpty()) {
                return Optional.empty();
            }
            Set<String> shared = new LinkedHashSet<>(origins(values.getFirst()));
            values.forEach(value -> shared.retainAll(origins(value)));
            return shared.stream().findFirst();
        }

        /** A value, what it is a function of, and so on. */
        private List<String> origins(String value) {
            List<String> origins = new ArrayList<>();
            for (String at = value; at != null && origins.size() <= REACH; at = sources.get(at)) {
                origins.add(at);
            }
            return origins;
        }

        private void endingIn(Layer last) {
            for (String input :
                    origins(last.output()).subList(1, origins(last.output()).size())) {
                List<Layer> layers = between(input, last);
                if (layers.stream().anyMatch(claimed::contains)) {
                    return;
                }
                Optional<Kind> kind = kind(z -> evaluate(layers, input, last.output(), z));
                // A clamp of a shifted value is part of a gate, a hard sigmoid.
                if (kind.isPresent() && !(kind.get() == Kind.RELU6 && isShifted(input))) {
                    claimed.addAll(layers);
                    take(kind.get(), input, last, layers);
                    return;
                }
            }
        }

        private boolean isShifted(String value) {
            return sources.containsKey(value)
                    && graph.producer(value).orElseThrow().operator().equals("Add");
        }

        private void take(Kind kind, String input, Layer last, List<Layer> layers) {
            for (Layer inner : layers) {
                String value = inner.output();
                Optional<Layer> stranger = graph.readers(value).stream()
                        .filter(reader -> !layers.contains(reader))
                        .findFirst();
                if (!inner.equals(last) && (stranger.isPresent() || graph.isOutput(value))) {
                    refused.put(
                            last.name(),
                            "shares " + value + " with "
                                    + stranger.map(Layer::name).orElse("the outputs of the model")
                                    + ", which needs it as it is");
                    return;
                }
            }
            Optional<Units> units = units(graph, input);
            if (units.isEmpty()) {
                refused.put(
                        last.name(),
                        "has no convolution or product with a matrix before it that says what its units are");
                return;
            }
            found.add(new Rectifier(last.name(), kind, input, last.output(), layers, units.get()));
        }

        /** The layers from a value to the last one, in their order. */
        private List<Layer> between(String input, Layer last) {
            Set<Layer> layers = new HashSet<>();
            List<Layer> open = new ArrayList<>(List.of(last));
            while (!open.isEmpty()) {
                Layer layer = open.removeLast();
                if (layers.add(layer)) {
                    for (String value : variables(layer)) {
                        if (!value.equals(input)) {
                            open.add(graph.producer(value).orElseThrow());
                        }
                    }
                }
            }
            return graph.layers().stream().filter(layers::contains).toList();
        }

        private double evaluate(List<Layer> layers, String input, String output, double z) {
            Map<String, Double> values = new HashMap<>(Map.of(input, z));
            for (Layer layer : layers) {
                double[] operands = layer.inputs().stream()
                        .filter(value -> !value.isEmpty())
                        .mapToDouble(value -> values.containsKey(value)
                                ? values.get(value)
                                : (double) graph.scalar(value).orElseThrow())
                        .toArray();
                values.put(
                        layer.output(),
                        Elementwise.of(graph, layer).orElseThrow().apply(operands));
            }
            return values.get(output);
        }
    }

    /** What a function is, if it passes what is far above zero and stops what is far below. */
    private static Optional<Kind> kind(DoubleUnaryOperator f) {
        for (double z : new double[] {4, 5}) {
            boolean passes = Math.abs(f.applyAsDouble(z) - z) <= 0.1 * z;
            boolean stops = Math.abs(f.applyAsDouble(-z)) <= 0.35 * z;
            if (!passes || !stops || !(Math.abs(f.applyAsDouble(0)) <= 1e-3)) {
                return Optional.empty();
            }
        }
        double slope = -f.applyAsDouble(-1);
        for (Kind kind : Kind.values()) {
            if (kind == Kind.OTHER || isSame(f, of(kind, slope))) {
                return Optional.of(kind);
            }
        }
        throw new IllegalStateException("OTHER is the last");
    }

    private static boolean isSame(DoubleUnaryOperator f, DoubleUnaryOperator known) {
        for (double z : POINTS) {
            if (!(Math.abs(f.applyAsDouble(z) - known.applyAsDouble(z)) <= SAME)) {
                return false;
            }
        }
        return true;
    }

    private static DoubleUnaryOperator of(Kind kind, double slope) {
        return switch (kind) {
            case RELU -> z -> Math.max(z, 0);
            case RELU6 -> z -> Math.clamp(z, 0, 6);
            case LEAKY_RELU -> z -> z < 0 ? slope * z : z;
            case GELU -> Rectifiers::gelu;
            case GELU_TANH -> Rectifiers::geluByTanh;
            case SILU -> z -> z / (1 + Math.exp(-z));
            case HARD_SWISH -> z -> z * Math.clamp(z + 3, 0, 6) / 6;
            case OTHER -> throw new IllegalArgumentException("no function of its own");
        };
    }

    private static double gelu(double z) {
        return z * (1 + Erf.value(z / ROOT_2)) / 2;
    }

    private static double geluByTanh(double z) {
        return z * (1 + Math.tanh(TANH_SCALE * (z + CUBIC * z * z * z))) / 2;
    }

    /** A layer as a function of numbers. */
    @FunctionalInterface
    private interface Elementwise {
        double apply(double... operands);

        /** Empty for layers that are none. */
        static Optional<Elementwise> of(LayerGraph graph, Layer layer) {
            if (layer.outputs().size() != 1) {
                return Optional.empty();
            }
            if (layer.domain().equals(MICROSOFT)) {
                return switch (layer.operator()) {
                    case "Gelu" -> Optional.of(x -> gelu(x[0]));
                    case "FastGelu" ->
                        layer.inputs().size() == 1 ? Optional.of(x -> geluByTanh(x[0])) : Optional.empty();
                    case "QuickGelu" -> {
                        double alpha = layer.number("alpha", 1.702f);
                        yield Optional.of(x -> x[0] / (1 + Math.exp(-alpha * x[0])));
                    }
                    default -> Optional.empty();
                };
            }
            return switch (Operation.of(graph, layer)) {
                case Operation.Activation activation -> Optional.of(x -> activation.apply((float) x[0]));
                case Operation.Arithmetic(Operation.Arithmetic.Kind kind) ->
                    Optional.of(
                            switch (kind) {
                                case ADD -> x -> x[0] + x[1];
                                case SUB -> x -> x[0] - x[1];
                                case MUL -> x -> x[0] * x[1];
                                case DIV -> x -> x[0] / x[1];
                            });
                case Operation.Unknown _ when layer.domain().isEmpty() -> other(layer);
                default -> Optional.empty();
            };
        }

        private static Optional<Elementwise> other(Layer layer) {
            return switch (layer.operator()) {
                case "Gelu" -> {
                    boolean tanh = layer.text("approximate", "none").equals("tanh");
                    yield Optional.of(x -> tanh ? geluByTanh(x[0]) : gelu(x[0]));
                }
                case "Erf" -> Optional.of(x -> Erf.value(x[0]));
                case "Tanh" -> Optional.of(x -> Math.tanh(x[0]));
                case "Exp" -> Optional.of(x -> Math.exp(x[0]));
                case "Softplus" -> Optional.of(x -> Math.log1p(Math.exp(x[0])));
                case "Neg" -> Optional.of(x -> -x[0]);
                case "Pow" -> Optional.of(x -> Math.pow(x[0], x[1]));
                case "Max" -> layer.inputs().size() == 2 ? Optional.of(x -> Math.max(x[0], x[1])) : Optional.empty();
                case "Min" -> layer.inputs().size() == 2 ? Optional.of(x -> Math.min(x[0], x[1])) : Optional.empty();
                default -> Optional.empty();
            };
        }
    }
}
