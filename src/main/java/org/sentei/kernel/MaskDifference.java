package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * What a hard mask takes from the weights: {@code -w} where a weight is pruned, +0 where it is kept.
 *
 * @param weights F32 rows x cols
 * @param mask I32 rows x {@link BitMask#wordsPerRow}, a set bit is pruned
 * @param difference of the shape of the weights
 */
public record MaskDifference(View weights, View mask, View difference) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public MaskDifference {
        Check.dtype("mask_difference", "weights", weights, DType.F32);
        Check.shape("mask_difference", "mask", mask, DType.I32, weights.rows(), BitMask.wordsPerRow(weights.cols()));
        Check.shape("mask_difference", "difference", difference, DType.F32, weights.rows(), weights.cols());
        Check.apart("mask_difference", difference, weights, mask);
    }

    @Override
    public List<View> reads() {
        return List.of(weights, mask);
    }

    @Override
    public List<View> writes() {
        return List.of(difference);
    }

    @Override
    public long operations() {
        return weights.elements();
    }
}
