package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * The upper triangular {@code U} with {@code U' U = (H + damping m I)^-1} of a Gram matrix H, where m is the mean of the
 * diagonal elements of H that are not 0: what SparseGPT (2301.00774, section 3.3) sweeps with. Inputs that were always 0
 * have a 1 on the diagonal first.
 *
 * <p>Computed in fp64 from one factorization: with {@code H = R R'} and R upper triangular, {@code U = R^-1}. R is the
 * Cholesky factor of H with rows and columns in reverse order, reversed again, so pivots come from the last input to the
 * first.
 *
 * @param gram F64 n x n as {@link Gram} leaves it; what is below the diagonal is not read
 * @param damping not negative
 * @param factor F32 n x n, overwritten; below the diagonal 0, and all 0 after a failure
 * @param status I64 1x1, overwritten: 0, or 1 + the input whose pivot was not positive
 */
public record InverseCholesky(View gram, double damping, View factor, View status) implements Op {
    public InverseCholesky {
        long size = gram.rows();
        Check.shape("inverse_cholesky", "gram", gram, DType.F64, size, size);
        Check.shape("inverse_cholesky", "factor", factor, DType.F32, size, size);
        Check.shape("inverse_cholesky", "status", status, DType.I64, 1, 1);
        Check.that(damping >= 0 && damping < Double.POSITIVE_INFINITY, "inverse_cholesky", "damping is " + damping);
        Check.apart("inverse_cholesky", factor, gram, status);
        Check.apart("inverse_cholesky", status, gram);
    }

    @Override
    public List<View> reads() {
        return List.of(gram);
    }

    @Override
    public List<View> writes() {
        return List.of(factor, status);
    }

    /** A third of n^3 multiply-adds, half of them to factor and half to invert. */
    @Override
    public long operations() {
        long size = gram.rows();
        return 2 * size * size * size / 3;
    }
}
