package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Adds the rows of {@code x} to a Gram matrix, {@code sum += x' x}: the second-order statistics of a layer's input, up to a
 * factor the Hessian of its squared output error.
 *
 * <p>The matrix is symmetric; only its diagonal and what lies above it are kept. Products may be summed in fp32 within
 * {@value #CHUNK} rows, sums of them are fp64. Infinite or NaN elements, and squares that fp32 cannot hold, leave a diagonal
 * element that is not finite.
 *
 * @param x F32 tokens x columns
 * @param sum F64 columns x columns, added to on and above the diagonal; the rest is left alone
 */
public record Gram(View x, View sum) implements Op {
    /** Rows that may be summed in fp32. */
    public static final int CHUNK = 1024;

    public Gram {
        Check.dtype("gram", "x", x, DType.F32);
        Check.shape("gram", "sum", sum, DType.F64, x.cols(), x.cols());
        Check.apart("gram", sum, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x, sum);
    }

    @Override
    public List<View> writes() {
        return List.of(sum);
    }

    @Override
    public long operations() {
        return x.rows() * x.cols() * (x.cols() + 1);
    }
}
