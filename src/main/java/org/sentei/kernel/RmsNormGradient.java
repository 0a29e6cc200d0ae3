package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * The gradient of an {@link RmsNorm} by its input, row by row: {@code s (gain d - s^2 mean(gain d x) x)} with
 * {@code s = 1 / sqrt(mean(x^2) + epsilon)} and d the gradient by its output.
 *
 * @param x F32 rows x cols, what the norm reads
 * @param gain F32 1 x cols
 * @param slope d, F32 rows x cols
 * @param gradient F32 rows x cols, overwritten; may be {@code slope} itself
 */
public record RmsNormGradient(View x, View gain, View slope, View gradient, float epsilon) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public RmsNormGradient {
        Check.dtype("rms_norm_gradient", "x", x, DType.F32);
        Check.shape("rms_norm_gradient", "gain", gain, DType.F32, 1, x.cols());
        Check.shape("rms_norm_gradient", "slope", slope, DType.F32, x.rows(), x.cols());
        Check.shape("rms_norm_gradient", "gradient", gradient, DType.F32, x.rows(), x.cols());
        Check.apart("rms_norm_gradient", gradient, x, gain);
        Check.sameOrApart("rms_norm_gradient", gradient, slope);
    }

    @Override
    public List<View> reads() {
        return List.of(x, gain, slope);
    }

    @Override
    public List<View> writes() {
        return List.of(gradient);
    }

    @Override
    public long operations() {
        return 9 * x.elements();
    }
}
