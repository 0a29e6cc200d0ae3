package org.sentei.kernel;

import java.util.List;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.kernel.SoftHistogram.Mass;
import org.sentei.tensor.DType;

/**
 * The gradient of a function of a {@link SoftHistogram} by its values, from that by its bins: with
 * {@code t_ik = -2 (v_i - c_k) / bandwidth^2} and {@code l_k = dL/dS_k}
 *
 * <pre>
 *   dL/dv_i = sum_k l_k e_ik t_ik                                                      {@link Mass#BUMPS}
 *   dL/dv_i = sum_k l_k a_ik t_ik - (sum_k a_ik t_ik)(sum_k l_k a_ik)                  {@link Mass#SHARES}, a = e / sum e
 * </pre>
 *
 * over the bins that the value touches. The gradient by a value that is not finite is 0.
 *
 * @param values F32 rows x cols
 * @param slope F32 1 x bins, l
 * @param gradient F32 rows x cols
 */
public record SoftHistogramGradient(View values, Bins bins, Mass kind, View slope, View gradient) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public SoftHistogramGradient {
        Check.dtype("soft_histogram_gradient", "values", values, DType.F32);
        Check.shape("soft_histogram_gradient", "slope", slope, DType.F32, 1, bins.count());
        Check.shape("soft_histogram_gradient", "gradient", gradient, DType.F32, values.rows(), values.cols());
        Check.apart("soft_histogram_gradient", gradient, values, slope);
    }

    @Override
    public List<View> reads() {
        return List.of(values, slope);
    }

    @Override
    public List<View> writes() {
        return List.of(gradient);
    }

    @Override
    public long operations() {
        return (20L + 8 * (2L * bins.reach() + 1)) * values.elements();
    }
}
