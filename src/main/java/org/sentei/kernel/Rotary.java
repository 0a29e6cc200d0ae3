package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Rotary position embedding (2104.09864) in the rotate-half layout, in place: within each head, components j and
 * j + half turn by the angle of their position.
 *
 * <p>The position of row i is {@code i % cosine.rows()}: sequences of equal length stand one below the other.
 *
 * @param x F32 tokens x (heads * head dimension), updated
 * @param cosine F32 length x half, half = head dimension / 2
 * @param sine F32 length x half
 */
public record Rotary(View x, View cosine, View sine, int heads) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Rotary {
        Check.dtype("rotary", "x", x, DType.F32);
        Check.that(
                heads >= 1 && x.cols() % (2L * heads) == 0,
                "rotary",
                x.cols() + " columns are not " + heads + " heads of even size");
        long half = x.cols() / (2L * heads);
        Check.shape("rotary", "cosine", cosine, DType.F32, cosine.rows(), half);
        Check.shape("rotary", "sine", sine, DType.F32, cosine.rows(), half);
        Check.that(
                cosine.rows() >= 1 && x.rows() % cosine.rows() == 0,
                "rotary",
                x.rows() + " rows are not whole sequences of " + cosine.rows());
        Check.apart("rotary", x, cosine, sine);
    }

    @Override
    public List<View> reads() {
        return List.of(x, cosine, sine);
    }

    @Override
    public List<View> writes() {
        return List.of(x);
    }

    @Override
    public long operations() {
        return 3 * x.elements();
    }
}
