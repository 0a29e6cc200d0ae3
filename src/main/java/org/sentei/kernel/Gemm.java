package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * Matrix product {@code c = a * op(b) + bias}, all fp32; with {@code accumulate} it is added to {@code c}.
 *
 * <p>A linear layer with weights out x in is {@code a} = tokens x in, {@code b} = weights, {@code transposeB} = true.
 *
 * @param a m x k
 * @param b k x n, or n x k with {@code transposeB}
 * @param bias 1 x n, added to every row, or null
 * @param c m x n
 */
public record Gemm(View a, View b, boolean transposeB, View bias, View c, boolean accumulate) implements Op {
    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public Gemm {
        long m = a.rows();
        long k = a.cols();
        long n = transposeB ? b.rows() : b.cols();
        Check.dtype("gemm", "a", a, DType.F32);
        Check.shape("gemm", "b", b, DType.F32, transposeB ? n : k, transposeB ? k : n);
        Check.shape("gemm", "c", c, DType.F32, m, n);
        if (bias != null) {
            Check.shape("gemm", "bias", bias, DType.F32, 1, n);
        }
        Check.apart("gemm", c, a, b, bias);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(a, b));
        if (bias != null) {
            views.add(bias);
        }
        if (accumulate) {
            views.add(c);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(c);
    }

    @Override
    public long operations() {
        return 2 * a.rows() * a.cols() * c.cols();
    }
}
