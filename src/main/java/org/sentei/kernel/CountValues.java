package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Counts zeros (of either sign), NaNs and infinities.
 *
 * @param x F32
 * @param counts I64 1x3: zeros, NaNs, infinities; overwritten
 */
public record CountValues(View x, View counts) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public CountValues {
        Check.dtype("count_values", "x", x, DType.F32);
        Check.shape("count_values", "counts", counts, DType.I64, 1, 3);
        Check.apart("count_values", counts, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x);
    }

    @Override
    public List<View> writes() {
        return List.of(counts);
    }

    @Override
    public long operations() {
        return 3 * x.elements();
    }
}
