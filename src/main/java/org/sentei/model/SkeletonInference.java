package org.sentei.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;

/** A trained {@link GraphNetwork.Skeletons} on a backend, for batches of one size. */
public final class SkeletonInference extends GraphInference {
    private final Scope scope;
    private final GraphNetwork.Skeletons network;
    private final int batch;
    private final Layout layout;
    private final View scores;

    /** How a batch of signals lies on the backend. */
    private enum Layout {
        /** A row for each joint of each sequence, rows of a joint together. */
        ROWS,
        /** A row for each number of a joint's signal, and a column for each sequence. */
        COLUMNS
    }

    private final View signals;

    private SkeletonInference(
            Scope scope,
            GraphNetwork.Skeletons network,
            int batch,
            Layout layout,
            View signals,
            List<Op> ops,
            View scores) {
        super(scope, ops);
        this.scope = scope;
        this.network = network;
        this.batch = batch;
        this.layout = layout;
        this.signals = signals;
        this.scores = scores;
    }

    /**
     * The network with all of its weights, zeros too, as matrix products.
     *
     * @param scope owns the memory; close this before it
     * @param parameters in the network's order
     * @param batch sequences at a time
     */
    public static SkeletonInference dense(
            Scope scope, GraphNetwork.Skeletons network, List<float[]> parameters, int batch) {
        int joints = network.joints();
        int channels = network.channels();
        int filters = network.filters();
        long rows = (long) joints * batch;
        List<View> weights = new ArrayList<>();
        for (int i = 0; i < parameters.size(); i++) {
            GraphNetwork.Parameter parameter = network.parameters().get(i);
            weights.add(filled(scope, parameter.rows(), parameter.cols(), parameters.get(i)));
        }
        View signals = scope.matrix(rows, network.signal());
        View encoded = scope.matrix(rows, channels);
        View heard = scope.matrix(rows, channels);
        View filtered = scope.matrix(rows, filters);
        View scores = scope.matrix(batch, network.classes());
        int heads = 2 + 2 * network.heads();
        List<Op> ops = new ArrayList<>();
        ops.add(new Gemm(signals, weights.get(0), false, weights.get(1), encoded, false));
        ops.add(new Activate(Activate.Function.RELU, encoded, null, encoded));
        for (int k = 0; k < network.heads(); k++) {
            ops.add(new Gemm(
                    weights.get(2 + 2 * k),
                    encoded.reshape(joints, (long) batch * channels),
                    false,
                    null,
                    heard.reshape(joints, (long) batch * channels),
                    false));
            View bias = k == 0 ? weights.get(heads) : null;
            ops.add(new Gemm(heard, weights.get(3 + 2 * k), false, bias, filtered, k > 0));
        }
        ops.add(new Activate(Activate.Function.RELU, filtered, null, filtered));
        for (int j = 0; j < joints; j++) {
            ops.add(new Gemm(
                    filtered.rows((long) j * batch, (j + 1L) * batch),
                    weights.get(heads + 1).rows((long) j * filters, (j + 1L) * filters),
                    false,
                    j == 0 ? weights.get(heads + 2) : null,
                    scores,
                    j > 0));
        }
        return new SkeletonInference(scope, network, batch, Layout.ROWS, signals, ops, scores);
    }

    /**
     * The network with the weights that are not 0: each layer is one sparse matrix over the flattened signal, the bias a column
     * that reads a row of ones. A path from channel c of joint i through head k to filter f of joint j has the weight
     * {@code sum_k A^k_ji W^k_cf}; of a network that kept a share p of its weights about {@code heads p^2} of these are left.
     *
     * @param scope owns the memory; close this before it
     * @param parameters in the network's order
     * @param batch sequences at a time
     */
    public static SkeletonInference sparse(
            Scope scope, GraphNetwork.Skeletons network, List<float[]> parameters, int batch) {
        int joints = network.joints();
        int heads = 2 + 2 * network.heads();
        View signals = rows(scope, joints * network.signal(), batch);
        View encoded = rows(scope, joints * network.channels(), batch);
        View filtered = rows(scope, joints * network.filters(), batch);
        View scores = scope.matrix(network.classes(), batch);
        List<Op> ops = new ArrayList<>();
        layer(ops, encoder(network, parameters.get(0), parameters.get(1)).upload(scope), signals, encoded);
        layer(ops, attention(network, parameters).upload(scope), encoded, filtered);
        ops.add(classifier(network, parameters.get(heads + 1), parameters.get(heads + 2))
                .upload(scope)
                .times(filtered, scores));
        return new SkeletonInference(scope, network, batch, Layout.COLUMNS, signals, ops, scores);
    }

    /** Rows of values, and one of ones behind them. */
    private static View rows(Scope scope, int count, int batch) {
        View view = scope.matrix(count + 1L, batch);
        float[] ones = new float[batch];
        Arrays.fill(ones, 1);
        fill(scope, view.rows(count, count + 1L), ones);
        return view;
    }

    private static void layer(List<Op> ops, CompressedRows.Resident matrix, View x, View y) {
        View values = y.rows(0, y.rows() - 1);
        ops.add(matrix.times(x, values));
        ops.add(new Activate(Activate.Function.RELU, values, null, values));
    }

    private static CompressedRows encoder(GraphNetwork.Skeletons network, float[] weights, float[] bias) {
        int signal = network.signal();
        CompressedRows matrix = new CompressedRows(network.joints() * network.channels());
        for (int joint = 0; joint < network.joints(); joint++) {
            for (int c = 0; c < network.channels(); c++) {
                for (int s = 0; s < signal; s++) {
                    matrix.add(joint * signal + s, weights[s * network.channels() + c]);
                }
                matrix.add(network.joints() * signal, bias[c]);
                matrix.endRow();
            }
        }
        return matrix;
    }

    private static CompressedRows attention(GraphNetwork.Skeletons network, List<float[]> parameters) {
        int joints = network.joints();
        int channels = network.channels();
        int filters = network.filters();
        float[] bias = parameters.get(2 + 2 * network.heads());
        CompressedRows matrix = new CompressedRows(joints * filters);
        double[] row = new double[joints * channels];
        for (int joint = 0; joint < joints; joint++) {
            for (int f = 0; f < filters; f++) {
                Arrays.fill(row, 0);
                for (int k = 0; k < network.heads(); k++) {
                    float[] adjacency = parameters.get(2 + 2 * k);
                    float[] weights = parameters.get(3 + 2 * k);
                    for (int other = 0; other < joints; other++) {
                        double heard = adjacency[joint * joints + other];
                        for (int c = 0; heard != 0 && c < channels; c++) {
                            row[other * channels + c] += heard * weights[c * filters + f];
                        }
                    }
                }
                for (int i = 0; i < row.length; i++) {
                    matrix.add(i, (float) row[i]);
                }
                matrix.add(row.length, bias[f]);
                matrix.endRow();
            }
        }
        return matrix;
    }

    private static CompressedRows classifier(GraphNetwork.Skeletons network, float[] weights, float[] bias) {
        int flat = network.joints() * network.filters();
        int classes = network.classes();
        CompressedRows matrix = new CompressedRows(classes);
        for (int c = 0; c < classes; c++) {
            for (int i = 0; i < flat; i++) {
                matrix.add(i, weights[i * classes + c]);
            }
            matrix.add(flat, bias[c]);
            matrix.endRow();
        }
        return matrix;
    }

    /**
     * Scores of a batch.
     *
     * @param given batch x joints x signal
     * @return batch x classes
     */
    public float[] scores(float[] given) {
        load(given);
        run();
        float[] raw = read(scores);
        return layout == Layout.ROWS ? raw : transposed(raw, network.classes(), batch);
    }

    /** Brings a batch to the backend, batch x joints x signal. */
    public void load(float[] given) {
        int joints = network.joints();
        int signal = network.signal();
        if (given.length != batch * joints * signal) {
            throw new IllegalArgumentException("a batch of " + batch + " sequences has " + batch * joints * signal
                    + " numbers, not " + given.length);
        }
        if (layout == Layout.COLUMNS) {
            fill(scope, signals.rows(0, (long) joints * signal), transposed(given, batch, joints * signal));
            return;
        }
        float[] byJoint = new float[given.length];
        for (int b = 0; b < batch; b++) {
            for (int j = 0; j < joints; j++) {
                System.arraycopy(given, (b * joints + j) * signal, byJoint, (j * batch + b) * signal, signal);
            }
        }
        fill(scope, signals, byJoint);
    }

    private static float[] transposed(float[] values, int rows, int cols) {
        float[] turned = new float[values.length];
        for (int r = 0; r < rows; r++) {
            for (int c = 0; c < cols; c++) {
                turned[c * rows + r] = values[r * cols + c];
            }
        }
        return turned;
    }
}
