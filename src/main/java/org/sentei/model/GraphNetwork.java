package org.sentei.model;

import java.util.ArrayList;
import java.util.List;

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

    /**
     * A parameter.
     *
     * @param prunable whether its single weights may go; biases stay
     * @param deviation standard deviation of its weights when a network begins
     */
    record Parameter(String name, int rows, int cols, boolean prunable, double deviation) {
        /** Its weights. */
        public int count() {
            return Math.multiplyExact(rows, cols);
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
        public Nodes {
            atLeastOne("features", features);
            atLeastOne("hidden", hidden);
            atLeastOne("classes", classes);
        }

        @Override
        public List<Parameter> parameters() {
            return List.of(
                    weight("layer0.weight", features, hidden, Math.sqrt(2.0 / (features + hidden))),
                    bias("layer0.bias", hidden),
                    weight("layer1.weight", hidden, classes, Math.sqrt(2.0 / (hidden + classes))),
                    bias("layer1.bias", classes));
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

        public Skeletons {
            atLeastOne("joints", joints);
            atLeastOne("chunks", chunks);
            atLeastOne("heads", heads);
            atLeastOne("channels", channels);
            atLeastOne("filters", filters);
            atLeastOne("classes", classes);
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
            int flat = Math.multiplyExact(joints, filters);
            parameters.add(weight("classifier.weight", flat, classes, Math.sqrt(1.0 / flat)));
            parameters.add(bias("classifier.bias", classes));
            return List.copyOf(parameters);
        }
    }

    private static void atLeastOne(String name, int value) {
        if (value < 1) {
            throw new ModelException("graph network: " + name + " must be at least 1, not " + value);
        }
    }

    private static Parameter weight(String name, int rows, int cols, double deviation) {
        return new Parameter(name, rows, cols, true, deviation);
    }

    private static Parameter bias(String name, int cols) {
        return new Parameter(name, 1, cols, false, 0);
    }
}
