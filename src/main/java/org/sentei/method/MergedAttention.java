package org.sentei.method;

import java.util.Arrays;
import java.util.List;
import org.sentei.tensor.BitMask;

/**
 * Attention-matrix pruning as its paper states it (2410.11261): one mask M over W, the product of query and key weights, so
 * that the rows of {@code G = softmax(s X (M o W) X^T)} stay near those of {@code F = softmax(s X W X^T)}.
 *
 * <p>{@code L(M) = 1/2 mean ||G - F||^2 + penalty/2 ||M||^2}, the mean over sequences. All of it in fp64 and as loops: models
 * have W_Q and W_K apart, and this is what a descent over their masks is held against.
 *
 * <p>Matrices are row-major arrays: a sequence tokens x width, W and M width x width.
 */
public final class MergedAttention {
    private final List<double[]> sequences;
    private final int tokens;
    private final int width;
    private final double[] weights;
    private final double scale;
    private final boolean causal;
    private final List<double[]> dense;

    /**
     * @param sequences tokens x width each, all of one length
     * @param weights W, width x width
     * @param scale s, positive
     * @param causal whether a token sees itself and what is before it alone
     * @throws IllegalArgumentException when sizes do not fit or a number is not finite
     */
    public MergedAttention(List<double[]> sequences, int width, double[] weights, double scale, boolean causal) {
        if (sequences.isEmpty() || width < 1 || weights.length != width * width) {
            throw new IllegalArgumentException("needs sequences, and weights of " + width + " x " + width);
        }
        int elements = sequences.getFirst().length;
        for (double[] sequence : sequences) {
            if (sequence.length != elements || elements == 0 || elements % width != 0) {
                throw new IllegalArgumentException("sequences are all of one length and " + width + " wide");
            }
            requireFinite(sequence);
        }
        requireFinite(weights);
        if (!(scale > 0 && scale < Double.POSITIVE_INFINITY)) {
            throw new IllegalArgumentException("the scale is positive, not " + scale);
        }
        this.sequences = List.copyOf(sequences);
        this.tokens = elements / width;
        this.width = width;
        this.weights = weights.clone();
        this.scale = scale;
        this.causal = causal;
        this.dense = sequences.stream().map(x -> attention(x, weights)).toList();
    }

    private static void requireFinite(double[] values) {
        for (double value : values) {
            if (!Double.isFinite(value)) {
                throw new IllegalArgumentException("sequences and weights are finite, not " + value);
            }
        }
    }

    /** Elements of W, and so of a mask. */
    public int size() {
        return weights.length;
    }

    /** Rows and columns of W. */
    public int width() {
        return width;
    }

    /**
     * L and its gradient: {@code dL/dM = s W o mean(X^T P X) + penalty M} with {@code P = G o R - diag((G o R) 1) G} and {@code R = G - F}.
     *
     * @param mask M
     * @param penalty weight of {@code ||M||^2 / 2}
     * @param gradient becomes dL/dM
     * @return L
     */
    public double gradient(double[] mask, double penalty, double[] gradient) {
        double[] masked = masked(mask);
        double[] sum = new double[size()];
        double loss = 0;
        for (int i = 0; i < sequences.size(); i++) {
            double[] x = sequences.get(i);
            double[] pruned = attention(x, masked);
            double[] target = dense.get(i);
            double[] p = new double[pruned.length];
            for (int query = 0; query < tokens; query++) {
                int row = query * tokens;
                double projected = 0;
                for (int key = 0; key < tokens; key++) {
                    double residual = pruned[row + key] - target[row + key];
                    loss += residual * residual / 2;
                    p[row + key] = pruned[row + key] * residual;
                    projected += p[row + key];
                }
                for (int key = 0; key < tokens; key++) {
                    p[row + key] -= projected * pruned[row + key];
                }
            }
            addTransposedProduct(x, product(p, tokens, tokens, x, width), sum);
        }
        double squares = 0;
        for (int j = 0; j < sum.length; j++) {
            gradient[j] = scale * weights[j] * sum[j] / sequences.size() + penalty * mask[j];
            squares += mask[j] * mask[j];
        }
        return loss / sequences.size() + penalty / 2 * squares;
    }

    /** L alone. */
    public double loss(double[] mask, double penalty) {
        double[] masked = masked(mask);
        double squares = Arrays.stream(mask).map(value -> value * value).sum();
        return squaredDistance(masked) / 2 / sequences.size() + penalty / 2 * squares;
    }

    /**
     * Relative distance of the attention matrices under other weights: {@code ||G - F|| / ||F||} over all sequences.
     *
     * @param other instead of W, width x width
     */
    public double error(double[] other) {
        double energy = 0;
        for (double[] target : dense) {
            for (double value : target) {
                energy += value * value;
            }
        }
        return Math.sqrt(squaredDistance(other) / energy);
    }

    private double squaredDistance(double[] other) {
        double sum = 0;
        for (int i = 0; i < sequences.size(); i++) {
            double[] changed = attention(sequences.get(i), other);
            double[] target = dense.get(i);
            for (int j = 0; j < changed.length; j++) {
                double residual = changed[j] - target[j];
                sum += residual * residual;
            }
        }
        return sum;
    }

    /**
     * Attention saliency: the diagonal of the Hessian of L at M = 1 without penalty, {@code s^2 h} with
     * {@code h_ij = W_ij^2 mean(sum_q x_qi^2 sum_k F_qk^2 (x_kj - xbar_qj)^2)} and {@code xbar_q = sum_k F_qk x_k}. The
     * smallest may go first, without any descent.
     */
    public double[] saliency() {
        double[] sum = new double[size()];
        for (int i = 0; i < sequences.size(); i++) {
            double[] x = sequences.get(i);
            double[] target = dense.get(i);
            double[] mean = product(target, tokens, tokens, x, width);
            double[] spread = new double[tokens * width];
            for (int query = 0; query < tokens; query++) {
                for (int key = 0; key < tokens; key++) {
                    double share = target[query * tokens + key] * target[query * tokens + key];
                    for (int j = 0; j < width; j++) {
                        double away = x[key * width + j] - mean[query * width + j];
                        spread[query * width + j] += share * away * away;
                    }
                }
            }
            double[] squares = Arrays.stream(x).map(value -> value * value).toArray();
            addTransposedProduct(squares, spread, sum);
        }
        for (int j = 0; j < sum.length; j++) {
            sum[j] *= scale * scale * weights[j] * weights[j] / sequences.size();
        }
        return sum;
    }

    /**
     * A bound of the gradient's Lipschitz constant: {@code penalty + 2 s^2 max|W|^2 mean(sigma_max(X)^4)}. Steps of its
     * inverse let L fall each time, slowly. sigma_max is bounded in turn by the Frobenius norm of {@code X^T X}.
     */
    public double lipschitz(double penalty) {
        double fourths = 0;
        for (double[] x : sequences) {
            double[] gram = new double[size()];
            addTransposedProduct(x, x, gram);
            fourths += Arrays.stream(gram).map(value -> value * value).sum();
        }
        double largest = Arrays.stream(weights).map(Math::abs).max().orElseThrow();
        return penalty + 2 * scale * scale * largest * largest * fourths / sequences.size();
    }

    /** W without what a mask prunes. */
    public double[] pruned(BitMask mask) {
        return masked(kept(mask));
    }

    /** Ones, and zeros for what a mask prunes. */
    static double[] kept(BitMask mask) {
        double[] kept = new double[Math.toIntExact(mask.rows() * mask.cols())];
        for (int j = 0; j < kept.length; j++) {
            kept[j] = mask.get(j / mask.cols(), j % mask.cols()) ? 0 : 1;
        }
        return kept;
    }

    /** M o W. */
    private double[] masked(double[] mask) {
        if (mask.length != size()) {
            throw new IllegalArgumentException("a mask has " + size() + " elements, not " + mask.length);
        }
        double[] masked = new double[size()];
        for (int j = 0; j < masked.length; j++) {
            masked[j] = mask[j] * weights[j];
        }
        return masked;
    }

    /** Rows of softmax(s X other X^T), 0 where a token does not see another. */
    private double[] attention(double[] x, double[] other) {
        double[] projected = product(x, tokens, width, other, width);
        double[] rows = new double[tokens * tokens];
        for (int query = 0; query < tokens; query++) {
            int seen = causal ? query + 1 : tokens;
            int row = query * tokens;
            double largest = Double.NEGATIVE_INFINITY;
            for (int key = 0; key < seen; key++) {
                double logit = 0;
                for (int j = 0; j < width; j++) {
                    logit += projected[query * width + j] * x[key * width + j];
                }
                rows[row + key] = scale * logit;
                largest = Math.max(largest, rows[row + key]);
            }
            double sum = 0;
            for (int key = 0; key < seen; key++) {
                rows[row + key] = Math.exp(rows[row + key] - largest);
                sum += rows[row + key];
            }
            for (int key = 0; key < seen; key++) {
                rows[row + key] /= sum;
            }
        }
        return rows;
    }

    /** a (rows x inner) times b (inner x cols). */
    private static double[] product(double[] a, int rows, int inner, double[] b, int cols) {
        double[] c = new double[rows * cols];
        for (int row = 0; row < rows; row++) {
            for (int k = 0; k < inner; k++) {
                double factor = a[row * inner + k];
                for (int col = 0; col < cols; col++) {
                    c[row * cols + col] += factor * b[k * cols + col];
                }
            }
        }
        return c;
    }

    /** Adds aᵀ b (a and b tokens x width) to a sum of width x width. */
    private void addTransposedProduct(double[] a, double[] b, double[] sum) {
        for (int token = 0; token < tokens; token++) {
            for (int i = 0; i < width; i++) {
                double factor = a[token * width + i];
                for (int j = 0; j < width; j++) {
                    sum[i * width + j] += factor * b[token * width + j];
                }
            }
        }
    }
}
