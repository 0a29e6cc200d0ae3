package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Rounds real values to 8-bit integers, {@code y = clamp(rint(f32(x / scale)) + zero, low, high)} as {@link Levels#quantize}
 * has it: ONNX's QuantizeLinear. Infinities become the ends of the range, NaN the low one; who must not have any counts them by
 * {@link CountValues}.
 *
 * @param x F32 rows x cols
 * @param scale normal and positive
 * @param y U8 or I8, rows x cols
 */
public record Quantize(View x, float scale, View y, Levels levels) implements Op {
    /** Checks types, shapes and ranges; an {@link IllegalArgumentException} names what does not fit. */
    public Quantize {
        Check.dtype("quantize", "x", x, DType.F32);
        levels.check("quantize", y);
        Check.shape("quantize", "y", y, y.dtype(), x.rows(), x.cols());
        Levels.factor("quantize", "the scale", scale);
        Check.apart("quantize", y, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 3 * y.elements();
    }
}
