package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Adds {@code sum (expected - actual)^2} and {@code sum expected^2} to {@code sums}, in fp64: the two halves of the
 * relative error of a layer's output.
 *
 * @param expected F32
 * @param actual F32 of the same shape
 * @param sums F64 1x2, added to
 */
public record SquaredError(View expected, View actual, View sums) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public SquaredError {
        Check.dtype("squared_error", "expected", expected, DType.F32);
        Check.shape("squared_error", "actual", actual, DType.F32, expected.rows(), expected.cols());
        Check.shape("squared_error", "sums", sums, DType.F64, 1, 2);
        Check.apart("squared_error", sums, expected, actual);
    }

    @Override
    public List<View> reads() {
        return List.of(expected, actual, sums);
    }

    @Override
    public List<View> writes() {
        return List.of(sums);
    }

    @Override
    public long operations() {
        return 5 * expected.elements();
    }
}
