package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Prunes one block of columns from left to right, and lets the weights to the right of a pruned one make up for it (optimal
 * brain surgeon in the form of SparseGPT, 2301.00774, algorithm 1). In every row, for j = 0, 1, ...: where (row, j) is
 * pruned,
 *
 * <pre>e = w_j / U_jj;   w_j = +0;   w_k -= e U_jk for the columns k > j of the block;   errors_j = -e</pre>
 *
 * <p>and elsewhere {@code errors_j = +0}, so that the columns to the right of the block follow by adding
 * {@code errors * U[block, right]}. Every division, product and difference is rounded to fp32 on its own: the result, and
 * with it the choice of groups, is the same on every backend.
 *
 * @param weights F32 rows x columns of the block, updated
 * @param factor F32 columns x columns of the block: the part of {@link InverseCholesky}'s U on its diagonal
 * @param mask I32 rows x {@link BitMask#wordsPerRow}: read when {@code groups} is null, otherwise overwritten
 * @param errors F32 rows x columns, overwritten
 * @param groups how to prune groups of consecutive columns, chosen when the sweep reaches a group; null when the mask is given
 */
public record ObsSweep(View weights, View factor, View mask, View errors, Groups groups) implements Op {
    /**
     * Of every {@code size} consecutive columns of a row the {@code prune} with the smallest {@link ScoreSelect#key} go.
     *
     * @param scale F32 1 x columns: 1 / U_jj, so that scores order like {@code w_j^2 / U_jj^2}
     */
    public record Groups(int prune, int size, View scale) {}

    public ObsSweep {
        long cols = weights.cols();
        Check.dtype("obs_sweep", "weights", weights, DType.F32);
        Check.shape("obs_sweep", "factor", factor, DType.F32, cols, cols);
        Check.shape("obs_sweep", "mask", mask, DType.I32, weights.rows(), BitMask.wordsPerRow(cols));
        Check.shape("obs_sweep", "errors", errors, DType.F32, weights.rows(), cols);
        View scale = null;
        if (groups != null) {
            scale = groups.scale();
            Check.shape("obs_sweep", "scale", scale, DType.F32, 1, cols);
            Check.that(
                    groups.prune() >= 0
                            && groups.size() >= 1
                            && groups.prune() <= groups.size()
                            && cols % groups.size() == 0,
                    "obs_sweep",
                    "cannot prune " + groups.prune() + " of every " + groups.size() + " in " + cols + " columns");
        }
        Check.apart("obs_sweep", weights, factor, mask, scale, errors);
        Check.apart("obs_sweep", errors, factor, mask, scale);
        Check.apart("obs_sweep", mask, factor, scale);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(weights, factor));
        views.add(groups == null ? mask : groups.scale());
        return views;
    }

    @Override
    public List<View> writes() {
        return groups == null ? List.of(weights, errors) : List.of(weights, errors, mask);
    }

    /** As if half of the weights went. */
    @Override
    public long operations() {
        return weights.elements() * weights.cols() / 2;
    }
}
