package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Product of a weight matrix with a few vectors, {@code y = x * transposed weights + bias}: a linear layer on one token or a
 * handful, where reading the weights takes the time. {@link Gemm} is for many; this one takes bf16 weights as they are.
 *
 * @param weights outputs x inputs, BF16 or F32
 * @param x vectors x inputs, F32; eight are multiplied at a time, more cost further reads of the weights
 * @param bias 1 x outputs, F32, or null
 * @param y vectors x outputs, F32
 */
public record Gemv(View weights, View x, View bias, View y) implements Op {
    public Gemv {
        check("gemv", weights, "weights", weights.rows(), weights.cols(), x, bias, y);
    }

    /** What holds for stored and dense weights alike. */
    static void check(String op, View weights, String name, long rows, long cols, View x, View bias, View y) {
        Check.that(
                weights.dtype() == DType.BF16 || weights.dtype() == DType.F32,
                op,
                name + " must be BF16 or F32, not " + weights);
        Check.shape(op, "x", x, DType.F32, x.rows(), cols);
        Check.shape(op, "y", y, DType.F32, x.rows(), rows);
        if (bias != null) {
            Check.shape(op, "bias", bias, DType.F32, 1, rows);
        }
        Check.apart(op, y, weights, x, bias);
    }

    @Override
    public List<View> reads() {
        return bias == null ? List.of(weights, x) : List.of(weights, x, bias);
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 2 * weights.elements() * x.rows();
    }
}
