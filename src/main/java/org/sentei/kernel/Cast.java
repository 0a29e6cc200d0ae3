package org.sentei.kernel;

import java.util.List;

/**
 * Converts between the floating types, to nearest with ties to even; with {@code transpose}, element (i, j) goes to
 * (j, i).
 *
 * @param source F64, F32, F16 or BF16, rows x cols
 * @param target F64, F32, F16 or BF16, of the same shape, or cols x rows when transposed
 */
public record Cast(View source, View target, boolean transpose) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Cast {
        Check.that(
                source.dtype().isFloating() && target.dtype().isFloating(),
                "cast",
                "floating types wanted, not " + source.dtype() + " to " + target.dtype());
        long rows = transpose ? source.cols() : source.rows();
        long cols = transpose ? source.rows() : source.cols();
        Check.shape("cast", "target", target, target.dtype(), rows, cols);
        Check.apart("cast", target, source);
    }

    @Override
    public List<View> reads() {
        return List.of(source);
    }

    @Override
    public List<View> writes() {
        return List.of(target);
    }

    @Override
    public long operations() {
        return source.elements();
    }
}
