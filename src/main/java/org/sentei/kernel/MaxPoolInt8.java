package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * The largest 8-bit integer of every window, channel by channel. Padding does not count; where a window has nothing else, the
 * lowest value of the type comes out.
 *
 * @param x U8 or I8, images * height * width x channels, NHWC as {@link Window} says
 * @param y the same type, images * output height * output width x channels
 */
public record MaxPoolInt8(View x, View y, Window window) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public MaxPoolInt8 {
        Check.that(x.dtype() == DType.U8 || x.dtype() == DType.I8, "max_pool_int8", "x must be U8 or I8, not " + x);
        window.check("max_pool_int8", x, y);
        Check.shape("max_pool_int8", "y", y, x.dtype(), y.rows(), x.cols());
        Check.apart("max_pool_int8", y, x);
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
        return y.elements() * window.taps();
    }
}
