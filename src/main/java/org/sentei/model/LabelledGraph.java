package org.sentei.model;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * A graph whose nodes have features, of which most are 0, and labels. Edges have no direction; an edge that is given twice
 * counts once.
 */
public final class LabelledGraph implements LabelledExamples {
    private final int features;
    private final int classes;
    private final int[] labels;
    private final Split[] splits;
    private final long[] starts;
    private final int[] neighbours;
    private final float[] weights;
    private final long[] featureStarts;
    private final int[] featureColumns;

    /**
     * Builds the graph. Numbers must be in range: readers check them where they can name the line.
     *
     * @param sources one end of every edge
     * @param targets the other
     * @param featureStarts where a node's features begin, and behind the last node their number
     * @param featureColumns which features a node has
     * @param labels from 0, one a node, or -1 for none
     */
    public LabelledGraph(
            int features,
            int classes,
            int[] sources,
            int[] targets,
            long[] featureStarts,
            int[] featureColumns,
            int[] labels,
            Split[] splits) {
        this.features = features;
        this.classes = classes;
        this.featureStarts = featureStarts.clone();
        this.featureColumns = featureColumns.clone();
        this.labels = labels.clone();
        this.splits = splits.clone();
        int nodes = labels.length;
        long[] pairs = new long[2 * sources.length + nodes];
        for (int i = 0; i < sources.length; i++) {
            pairs[2 * i] = pair(sources[i], targets[i]);
            pairs[2 * i + 1] = pair(targets[i], sources[i]);
        }
        for (int node = 0; node < nodes; node++) {
            pairs[2 * sources.length + node] = pair(node, node);
        }
        long[] unique = Arrays.stream(pairs).sorted().distinct().toArray();
        starts = new long[nodes + 1];
        neighbours = new int[unique.length];
        for (int i = 0; i < unique.length; i++) {
            starts[(int) (unique[i] >>> 32) + 1]++;
            neighbours[i] = (int) unique[i];
        }
        for (int node = 0; node < nodes; node++) {
            starts[node + 1] += starts[node];
        }
        weights = new float[unique.length];
        for (int i = 0; i < unique.length; i++) {
            weights[i] = (float) (1 / Math.sqrt((double) degree((int) (unique[i] >>> 32)) * degree(neighbours[i])));
        }
    }

    private static long pair(int from, int to) {
        return (long) from << 32 | to;
    }

    /** Neighbours of a node, itself included. */
    public int degree(int node) {
        return (int) (starts[node + 1] - starts[node]);
    }

    /** Nodes there are. */
    public int nodes() {
        return labels.length;
    }

    /** Features that a node may have. */
    public int features() {
        return features;
    }

    @Override
    public int classes() {
        return classes;
    }

    @Override
    public int label(int node) {
        return labels[node];
    }

    @Override
    public int[] members(Split split) {
        return IntStream.range(0, nodes()).filter(node -> splits[node] == split).toArray();
    }

    /** Row starts of the normalized adjacency {@code D^-1/2 (A + I) D^-1/2}. */
    public long[] starts() {
        return starts.clone();
    }

    /** Its columns, ascending within a row. */
    public int[] neighbours() {
        return neighbours.clone();
    }

    /** Its elements. */
    public float[] weights() {
        return weights.clone();
    }

    /** Where the features of a node begin among {@link #featureColumns}, and behind the last node their number. */
    public long[] featureStarts() {
        return featureStarts.clone();
    }

    /** Values of the features that nodes have: those of a node share 1 equally. */
    public float[] featureWeights() {
        float[] shares = new float[featureColumns.length];
        for (int node = 0; node < nodes(); node++) {
            Arrays.fill(
                    shares,
                    (int) featureStarts[node],
                    (int) featureStarts[node + 1],
                    1f / Math.max(1, featureStarts[node + 1] - featureStarts[node]));
        }
        return shares;
    }

    /** Features that nodes have, those of a node together. */
    public int[] featureColumns() {
        return featureColumns.clone();
    }
}
