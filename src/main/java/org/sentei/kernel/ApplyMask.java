package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Sets pruned weights to +0 and, where a bias is given, adds what the pruned inputs contributed on average:
 * {@code bias_i += sum over pruned j of w_ij * mean_j}, summed in fp64 and rounded once (STADE 2503.22451, optimal bias).
 *
 * @param weights F32 rows x cols, updated
 * @param mask I32 rows x {@link BitMask#wordsPerRow}
 * @param mean F32 1 x cols, or null together with {@code bias}
 * @param bias F32 1 x rows, updated, or null
 */
public record ApplyMask(View weights, View mask, View mean, View bias) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public ApplyMask {
        Check.dtype("apply_mask", "weights", weights, DType.F32);
        Check.shape("apply_mask", "mask", mask, DType.I32, weights.rows(), BitMask.wordsPerRow(weights.cols()));
        Check.that((mean == null) == (bias == null), "apply_mask", "mean and bias come together");
        if (mean != null) {
            Check.shape("apply_mask", "mean", mean, DType.F32, 1, weights.cols());
            Check.shape("apply_mask", "bias", bias, DType.F32, 1, weights.rows());
            Check.apart("apply_mask", bias, weights, mask, mean);
        }
        Check.apart("apply_mask", weights, mask, mean);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(weights, mask));
        if (mean != null) {
            views.add(mean);
            views.add(bias);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return bias == null ? List.of(weights) : List.of(weights, bias);
    }

    @Override
    public long operations() {
        return (bias == null ? 1 : 3) * weights.elements();
    }
}
