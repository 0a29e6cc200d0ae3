package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * {@code y = f(x)}, or {@code y = f(x) * multiplier} for gated layers, element by element.
 *
 * @param x F32
 * @param multiplier F32 of the same shape, or null
 * @param y F32 of the same shape; may be {@code x} itself
 */
public record Activate(Function function, View x, View multiplier, View y) implements Op {
    /** The activation functions of the supported models. */
    public enum Function {
        /** max(x, 0); NaN stays NaN. */
        RELU,
        /** x * Phi(x) with the exact Gauss error function. */
        GELU,
        /** GELU by the tanh approximation, {@code gelu_new} in transformers. */
        GELU_TANH,
        /** x / (1 + exp(-x)). */
        SILU
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Activate {
        Check.dtype("activate", "x", x, DType.F32);
        Check.shape("activate", "y", y, DType.F32, x.rows(), x.cols());
        Check.sameOrApart("activate", y, x);
        if (multiplier != null) {
            Check.shape("activate", "multiplier", multiplier, DType.F32, x.rows(), x.cols());
            Check.apart("activate", y, multiplier);
        }
    }

    @Override
    public List<View> reads() {
        return multiplier == null ? List.of(x) : List.of(x, multiplier);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return (function == Function.RELU ? 1 : 8) * x.elements();
    }
}
