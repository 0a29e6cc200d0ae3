package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * {@code y = x / sqrt(mean(x^2) + epsilon) * gain}, row by row.
 *
 * @param x F32 rows x cols
 * @param gain F32 1 x cols
 * @param y F32 rows x cols; may be {@code x} itself
 */
public record RmsNorm(View x, View gain, View y, float epsilon) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public RmsNorm {
        Check.dtype("rms_norm", "x", x, DType.F32);
        Check.shape("rms_norm", "gain", gain, DType.F32, 1, x.cols());
        Check.shape("rms_norm", "y", y, DType.F32, x.rows(), x.cols());
        Check.apart("rms_norm", y, gain);
        Check.sameOrApart("rms_norm", y, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x, gain);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 4 * x.elements();
    }
}
