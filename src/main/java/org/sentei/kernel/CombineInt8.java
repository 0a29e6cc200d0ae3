package org.sentei.kernel;

import java.util.List;

/**
 * Sum or product of two 8-bit tensors, rounded once to 8 bits by {@link Levels#quantize}.
 *
 * <pre>
 * sum:     y = quantize(f32(f32(a - a zero) * a scale) + f32(f32(b - b zero) * b scale))
 * product: y = quantize(f32((a - a zero) * (b - b zero)) * scale)
 * </pre>
 *
 * <p>Each fp32 operation is rounded by itself, on all backends. ONNX Runtime's QLinearMul gives the same bits; its QLinearAdd
 * contracts a rounding and differs by 1 in some elements of a million.
 *
 * @param a U8 or I8, rows x cols
 * @param b U8 or I8, as many rows or a divisor of them: each row of b then goes with as many neighbouring rows of a, for
 *     example a factor a channel of every image; x cols
 * @param y U8 or I8, rows x cols; may be a or, where it has as many rows, b itself
 */
public record CombineInt8(View a, int aZero, View b, int bZero, View y, Levels levels, Rule rule) implements Op {
    /** How the two are combined. */
    public sealed interface Rule {
        /**
         * A sum.
         *
         * @param aScale scale of a / scale of y
         * @param bScale scale of b / scale of y
         */
        record Sum(float aScale, float bScale) implements Rule {}

        /**
         * A product.
         *
         * @param scale scale of a * scale of b / scale of y
         */
        record Product(float scale) implements Rule {}
    }

    /** Checks types, shapes and ranges; an {@link IllegalArgumentException} names what does not fit. */
    public CombineInt8 {
        Levels.bytes("combine_int8", "a", a, aZero);
        Levels.bytes("combine_int8", "b", b, bZero);
        levels.check("combine_int8", y);
        Check.shape("combine_int8", "y", y, y.dtype(), a.rows(), a.cols());
        Check.that(
                b.cols() == a.cols() && (b.rows() == a.rows() || (b.rows() > 0 && a.rows() % b.rows() == 0)),
                "combine_int8",
                "b must have the columns of a, " + a + ", and a divisor of its rows, not " + b);
        switch (rule) {
            case Rule.Sum(float aScale, float bScale) -> {
                Levels.factor("combine_int8", "the scale of a", aScale);
                Levels.factor("combine_int8", "the scale of b", bScale);
            }
            case Rule.Product(float scale) -> Levels.factor("combine_int8", "the scale of the product", scale);
        }
        inPlaceOrApart(y, a);
        inPlaceOrApart(y, b);
    }

    private static void inPlaceOrApart(View y, View read) {
        Check.that(
                !y.overlaps(read)
                        || (y.offset() == read.offset() && y.stride() == read.stride() && y.rows() == read.rows()),
                "combine_int8",
                "the output overlaps an input without being it");
    }

    /** Rows of a that go with one row of b. */
    public long shared() {
        return b.rows() == 0 ? 1 : a.rows() / b.rows();
    }

    @Override
    public List<View> reads() {
        return List.of(a, b);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 6 * y.elements();
    }
}
