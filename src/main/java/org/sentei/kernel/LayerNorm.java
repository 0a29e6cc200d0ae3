package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * {@code y = (x - mean(x)) / sqrt(var(x) + epsilon) * gain + bias}, row by row, with the population variance.
 *
 * @param x F32 rows x cols
 * @param gain F32 1 x cols
 * @param bias F32 1 x cols
 * @param y F32 rows x cols; may be {@code x} itself
 */
public record LayerNorm(View x, View gain, View bias, View y, float epsilon) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public LayerNorm {
        Check.dtype("layer_norm", "x", x, DType.F32);
        Check.shape("layer_norm", "gain", gain, DType.F32, 1, x.cols());
        Check.shape("layer_norm", "bias", bias, DType.F32, 1, x.cols());
        Check.shape("layer_norm", "y", y, DType.F32, x.rows(), x.cols());
        Check.apart("layer_norm", y, gain, bias);
        Check.sameOrApart("layer_norm", y, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x, gain, bias);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 7 * x.elements();
    }
}
