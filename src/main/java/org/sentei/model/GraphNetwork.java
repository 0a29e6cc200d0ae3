package org.sentei.model;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToIntFunction;

/**
 * A graph convolutional network, as data: its sizes and its parameters. What runs it or differentiates it reads this.
 *
 * <p>Matrices map rows in to columns out: {@code y = x W + b}.
 */
public sealed interface GraphNetwork {
    /** Parameters in their order. */
    List<Parameter> parameters();

    /** Scores that come out for an example. */
    int classes();

    /** How many prunable weights are 0 among {@code values}, which come in the parameters' order. */
    default long zeros(List<float[]> values) {
        long zeros = 0;
        for (int i = 0; i < values.size(); i++) {
            if (parameters().get(i).prunable()) {
                for (float weight : values.get(i)) {
                    zeros += weight == 0 ? 1 : 0;
                }
            }
        }
        return zeros;
    }

    /** The name of its architecture, as {@code config.json} has it. */
    String architecture();

    /** Its sizes by their names in {@code config.json}, in the order of the record. */
    Map<String, Integer> sizes();

    /**
     * The network of a configuration.
     *
     * @param sizes by name
     * @throws ModelException when there is no such architecture, or a size is missing or below 1
     */
    static GraphNetwork of(String architecture, Map<String, Integer> sizes) {
        ToIntFunction<String> size = name -> {
            Integer value = sizes.get(name);
            if (value == null) {
                throw new ModelException("graph network " + architecture + ": it has no integer " + name
                        + ", which its architecture needs");
            }
            return value;
        };
        return switch (architecture) {
            case Nodes.ARCHITECTURE ->
                new Nodes(size.applyAsInt("features"), size.applyAsInt("hidden"), size.applyAsInt("classes"));
            case Skeletons.ARCHITECTURE ->
                new Skeletons(
                        size.applyAsInt("joints"),
                        size.applyAsInt("chunks"),
                        size.applyAsInt("heads"),
                        size.applyAsInt("channels"),
                        size.applyAsInt("filters"),
                        size.applyAsInt("classes"));
            default ->
                throw new ModelException("graph network: architecture " + architecture + " is not known; it is "
                        + Nodes.ARCHITECTURE + " or " + Skeletons.ARCHITECTURE);
        };
    }

    /**
     * A parameter.
     *
     * @param prunable whether its single weights may go; biases stay
     * @param deviation standard deviation of its weights when a network begins
     */
    record Parameter(String name, int rows, int cols, boolean prunable, double deviation) {
        private static final int MOST = 1 << 28;

        /** Refuses what would not fit in an array. */
        public Parameter {
            if ((long) rows * cols > MOST) {
                throw new ModelException("graph network: " + name + " would have " + rows + " x " + cols
                        + " weights, more than the " + MOST + " that are supported; take a smaller network");
            }
        }

        /** Its weights. */
        public int count() {
            return rows * cols;
        }
    }

    /**
     * Two layers over one graph, a class for every node (1609.02907): {@code A relu(A X W0 + b0) W1 + b1}, with the adjacency A
     * normalized, self-loops included.
     *
     * @param features columns of X
     * @param hidden columns of W0
     */
    record Nodes(int features, int hidden, int classes) implements GraphNetwork {
        static final String ARCHITECTURE = "node-gcn";

        public Nodes {
            range("features", features, Integer.MAX_VALUE);
            range("hidden", hidden, Integer.MAX_VALUE);
            range("classes", classes, Integer.MAX_VALUE);
        }

        @Override
        public List<Parameter> parameters() {
            return List.of(
                    weight("layer0.weight", features, hidden, Math.sqrt(2.0 / (features + hidden))),
                    bias("layer0.bias", hidden),
                    weight("layer1.weight", hidden, classes, Math.sqrt(2.0 / (hidden + classes))),
                    bias("layer1.bias", classes));
        }

        @Override
        public String architecture() {
            return ARCHITECTURE;
        }

        @Override
        public Map<String, Integer> sizes() {
            Map<String, Integer> sizes = new LinkedHashMap<>();
            sizes.put("features", features);
            sizes.put("hidden", hidden);
            sizes.put("classes", classes);
            return sizes;
        }
    }

    /**
     * A class for a sequence of skeletons (2305.19343): joints are nodes, and how they hear each other is learned, every entry of
     * the adjacencies {@code A^k} a weight like others.
     *
     * <pre>
     *   H = relu(X E + e)      Z = relu(sum_k (A^k H) W^k + w)      scores = flatten(Z) F + f
     * </pre>
     *
     * @param joints nodes
     * @param chunks pieces of equal length that a sequence is cut into; a joint's signal is its mean place in each
     * @param heads adjacencies
     * @param channels columns of E
     * @param filters columns of W
     */
    record Skeletons(int joints, int chunks, int heads, int channels, int filters, int classes)
            implements GraphNetwork {
        /** Coordinates of a joint. */
        public static final int DIMENSIONS = 3;

        static final String ARCHITECTURE = "skeleton-gcn";

        private static final int MOST = 1 << 12;

        public Skeletons {
            range("joints", joints, MOST);
            range("chunks", chunks, MOST);
            range("heads", heads, MOST);
            range("channels", channels, MOST);
            range("filters", filters, MOST);
            range("classes", classes, MOST);
        }

        /** Numbers of a joint's signal. */
        public int signal() {
            return DIMENSIONS * chunks;
        }

        @Override
        public List<Parameter> parameters() {
            List<Parameter> parameters = new ArrayList<>();
            parameters.add(weight("encoder.weight", signal(), channels, Math.sqrt(2.0 / signal())));
            parameters.add(bias("encoder.bias", channels));
            for (int k = 0; k < heads; k++) {
                parameters.add(weight("head" + k + ".adjacency", joints, joints, Math.sqrt(1.0 / joints)));
                parameters.add(weight("head" + k + ".weight", channels, filters, Math.sqrt(2.0 / (channels * heads))));
            }
            parameters.add(bias("heads.bias", filters));
            int flat = joints * filters;
            parameters.add(weight("classifier.weight", flat, classes, Math.sqrt(1.0 / flat)));
            parameters.add(bias("classifier.bias", classes));
            return List.copyOf(parameters);
        }

        @Override
        public String architecture() {
            return ARCHITECTURE;
        }

        @Override
        public Map<String, Integer> sizes() {
            Map<String, Integer> sizes = new LinkedHashMap<>();
            sizes.put("joints", joints);
            sizes.put("chunks", chunks);
            sizes.put("heads", heads);
            sizes.put("channels", channels);
            sizes.put("filters", filters);
            sizes.put("classes", classes);
            return sizes;
        }
    }

    private static void range(String name, int value, int most) {
        if (value < 1 || value > most) {
            throw new ModelException(
                    "graph network: " + name + " goes from 1 to " + most + ", " + value + " is outside");
        }
    }

    private static Parameter weight(String name, int rows, int cols, double deviation) {
        return new Parameter(name, rows, cols, true, deviation);
    }

    private static Parameter bias(String name, int cols) {
        return new Parameter(name, 1, cols, false, 0);
    }
}
