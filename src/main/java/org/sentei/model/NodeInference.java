package org.sentei.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/**
 * A trained {@link GraphNetwork.Nodes} over a graph, on a backend.
 *
 * <p>Biases are a last row of what is aggregated, which every node hears with weight 1. The compact form leaves out features
 * that no weight reads and hidden channels that no class reads.
 */
public final class NodeInference extends GraphInference {
    private final View scores;

    private NodeInference(Scope scope, List<Op> ops, View scores) {
        super(scope, ops);
        this.scores = scores;
    }

    /**
     * Uploads graph and network.
     *
     * @param scope owns the memory; close this before it
     * @param parameters in the network's order
     * @param compact whether rows and columns of zeros are left out
     * @throws ModelException when the network does not read this graph's features
     */
    public static NodeInference of(
            Scope scope, GraphNetwork.Nodes network, List<float[]> parameters, LabelledGraph graph, boolean compact) {
        if (graph.features() != network.features()) {
            throw new ModelException("graph network: it reads " + network.features() + " features, but nodes have "
                    + graph.features() + "; give the graph that it was trained on");
        }
        int nodes = graph.nodes();
        int hidden = network.hidden();
        int classes = network.classes();
        int[] read = compact ? rowsInUse(parameters.get(0), hidden) : all(network.features());
        int[] kept = compact ? rowsInUse(parameters.get(2), classes) : all(hidden);
        CompressedRows.Resident adjacency = adjacency(graph).upload(scope);
        CompressedRows.Resident features = features(graph, read).upload(scope);
        View first = filled(scope, read.length, kept.length, part(parameters.get(0), hidden, read, kept));
        View second = filled(scope, kept.length, classes, part(parameters.get(2), classes, kept, all(classes)));
        View said = scope.matrix(nodes + 1, kept.length);
        fill(scope, said.rows(nodes, nodes + 1), part(parameters.get(1), hidden, new int[] {0}, kept));
        View heard = scope.matrix(nodes, kept.length);
        View answered = scope.matrix(nodes + 1, classes);
        fill(scope, answered.rows(nodes, nodes + 1), parameters.get(3));
        View scores = scope.matrix(nodes, classes);
        List<Op> ops = new ArrayList<>();
        ops.add(features.times(first, said.rows(0, nodes)));
        ops.add(adjacency.times(said, heard));
        ops.add(new Activate(Activate.Function.RELU, heard, null, heard));
        ops.add(new Gemm(heard, second, false, null, answered.rows(0, nodes), false));
        ops.add(adjacency.times(answered, scores));
        return new NodeInference(scope, ops, scores);
    }

    /** Scores of all nodes, nodes x classes packed row by row. */
    public float[] scores() {
        run();
        return read(scores);
    }

    private static CompressedRows adjacency(LabelledGraph graph) {
        long[] starts = graph.starts();
        int[] neighbours = graph.neighbours();
        float[] weights = graph.weights();
        CompressedRows matrix = new CompressedRows(graph.nodes());
        for (int node = 0; node < graph.nodes(); node++) {
            for (int edge = (int) starts[node]; edge < starts[node + 1]; edge++) {
                matrix.add(neighbours[edge], weights[edge]);
            }
            matrix.add(graph.nodes(), 1);
            matrix.endRow();
        }
        return matrix;
    }

    /** The chosen features of nodes, numbered as they were chosen. */
    private static CompressedRows features(LabelledGraph graph, int[] chosen) {
        int[] place = new int[graph.features()];
        Arrays.fill(place, -1);
        for (int i = 0; i < chosen.length; i++) {
            place[chosen[i]] = i;
        }
        long[] starts = graph.featureStarts();
        int[] columns = graph.featureColumns();
        float[] weights = graph.featureWeights();
        CompressedRows matrix = new CompressedRows(graph.nodes());
        for (int node = 0; node < graph.nodes(); node++) {
            for (int i = (int) starts[node]; i < starts[node + 1]; i++) {
                if (place[columns[i]] >= 0) {
                    matrix.add(place[columns[i]], weights[i]);
                }
            }
            matrix.endRow();
        }
        return matrix;
    }

    private static int[] all(int count) {
        return IntStream.range(0, count).toArray();
    }

    /** Rows that are not all 0; the first where there is no other, for a matrix has at least one. */
    private static int[] rowsInUse(float[] values, int cols) {
        int[] rows = IntStream.range(0, values.length / cols)
                .filter(row -> IntStream.range(row * cols, (row + 1) * cols).anyMatch(i -> values[i] != 0))
                .toArray();
        return rows.length == 0 ? new int[1] : rows;
    }

    private static float[] part(float[] values, int stride, int[] rows, int[] cols) {
        float[] part = new float[rows.length * cols.length];
        for (int r = 0; r < rows.length; r++) {
            for (int c = 0; c < cols.length; c++) {
                part[r * cols.length + c] = values[rows[r] * stride + cols[c]];
            }
        }
        return part;
    }
}
