package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * What a layer's outputs sum up to over all tokens, from the Gram matrix of its inputs: with {@code d} the difference of a row
 * of {@code a} and one of {@code b}, {@code d' G d} is the sum of {@code (d' x)^2} and {@code d' s} that of {@code d' x}.
 *
 * <p>Products may be made and summed in fp32 within {@code d' G}; what is summed over {@code d} is fp64.
 *
 * @param a F32 rows x columns, for example weights
 * @param b F32 of the same shape, or null for zeros
 * @param gram F64 columns x columns as a Gram op leaves it: symmetric, read on and above the diagonal alone
 * @param sum F64 1 x columns, {@code s}, the sum of all inputs
 * @param forms F64 rows x 2: {@code d' G d} and {@code d' s} of every row
 */
public record QuadraticForm(View a, View b, View gram, View sum, View forms) implements Op {
    public QuadraticForm {
        Check.dtype("quadratic_form", "a", a, DType.F32);
        if (b != null) {
            Check.shape("quadratic_form", "b", b, DType.F32, a.rows(), a.cols());
        }
        Check.shape("quadratic_form", "gram", gram, DType.F64, a.cols(), a.cols());
        Check.shape("quadratic_form", "sum", sum, DType.F64, 1, a.cols());
        Check.shape("quadratic_form", "forms", forms, DType.F64, a.rows(), 2);
        Check.apart("quadratic_form", forms, a, b, gram, sum);
    }

    @Override
    public List<View> reads() {
        return b == null ? List.of(a, gram, sum) : List.of(a, b, gram, sum);
    }

    @Override
    public List<View> writes() {
        return List.of(forms);
    }

    @Override
    public long operations() {
        return a.elements() * (2 * a.cols() + 4);
    }
}
