package org.sentei.kernel;

import org.sentei.tensor.DType;

/** The checks that op constructors share. Every message names the op and the operand. */
final class Check {
    private Check() {}

    static void that(boolean condition, String op, String fact) {
        if (!condition) {
            throw new IllegalArgumentException(op + ": " + fact);
        }
    }

    static void shape(String op, String operand, View view, DType dtype, long rows, long cols) {
        that(
                view.dtype() == dtype && view.rows() == rows && view.cols() == cols,
                op,
                operand + " must be " + dtype + " " + rows + "x" + cols + ", not " + view);
    }

    static void dtype(String op, String operand, View view, DType dtype) {
        that(view.dtype() == dtype, op, operand + " must be " + dtype + ", not " + view);
    }

    static void apart(String op, View written, View... read) {
        for (View view : read) {
            that(view == null || !written.overlaps(view), op, "the output overlaps an input");
        }
    }

    /** The output is either the very same view as {@code read} or lies apart from it. */
    static void sameOrApart(String op, View written, View read) {
        that(written.equals(read) || !written.overlaps(read), op, "the output overlaps the input without being it");
    }
}
