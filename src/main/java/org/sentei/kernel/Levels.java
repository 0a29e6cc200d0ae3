package org.sentei.kernel;

import org.sentei.tensor.DType;

/**
 * The 8-bit integers that a result is rounded to: {@code zero} stands for 0, and nothing beyond {@code low} to {@code high}
 * comes out. A ReLU behind an op is a {@code low} at the zero point, a ReLU6 a {@code high} besides.
 */
public record Levels(int zero, int low, int high) {
    /** All values of {@link DType#U8} or {@link DType#I8}. */
    public static Levels of(DType dtype, int zero) {
        return new Levels(zero, lowest(dtype), lowest(dtype) + 255);
    }

    /** The least value of U8 or I8: 0 or -128. */
    public static int lowest(DType dtype) {
        return switch (dtype) {
            case U8 -> 0;
            case I8 -> Byte.MIN_VALUE;
            default -> throw new IllegalArgumentException("8-bit integers are U8 or I8, not " + dtype);
        };
    }

    /**
     * The one rule by which results become integers: {@code clamp(rint(value) + zero, low, high)}, halves rounded to even
     * before the zero point is added, as ONNX Runtime does. NaN becomes {@code low}.
     */
    public int quantize(float value) {
        float least = low - zero;
        float most = high - zero;
        float clamped = value > least ? value : least;
        return (int) Math.rint(clamped < most ? clamped : most) + zero;
    }

    void check(String op, View y) {
        int lowest = bytes(op, "y", y, zero);
        Check.that(
                lowest <= low && low <= high && high <= lowest + 255,
                op,
                "levels " + low + " to " + high + " are no range of " + y.dtype());
    }

    /** Checks that a view holds 8-bit integers with this zero point, and gives the least of its type. */
    static int bytes(String op, String operand, View view, int zero) {
        Check.that(
                view.dtype() == DType.U8 || view.dtype() == DType.I8, op, operand + " must be U8 or I8, not " + view);
        int lowest = lowest(view.dtype());
        Check.that(
                lowest <= zero && zero <= lowest + 255,
                op,
                "the zero point " + zero + " of " + operand + " is no " + view.dtype());
        return lowest;
    }

    /** Checks that a factor is a normal positive number: one that underflowed would turn everything to zeros. */
    static void factor(String op, String name, float factor) {
        Check.that(
                factor >= Float.MIN_NORMAL && factor <= Float.MAX_VALUE,
                op,
                name + " must be a normal positive number, not " + factor);
    }
}
