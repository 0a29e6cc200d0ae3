package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Merges the rows of {@code x} into the running moments of each column by the pairwise update of Chan, Golub and LeVeque
 * (1983), so that any split into batches gives the same statistics up to rounding:
 *
 * <pre>d = mean_B - mean;  mean += d n_B/(n+n_B);  M2 += M2_B + d^2 n n_B/(n+n_B);  n += n_B</pre>
 *
 * <p>Relative error of M2 at most 1e-5 for |mean|/std up to 100 and 1e-3 at 1000.
 *
 * @param x F32, tokens x columns
 * @param count I64 1x1: rows merged so far, updated
 * @param moments F64 3 x columns: mean, M2 (sum of squared deviations) and sum of squares, updated
 */
public record ColumnMoments(View x, View count, View moments) implements Op {
    /** Row of {@link #moments} that holds the mean. */
    public static final int MEAN = 0;
    /** Row of {@link #moments} that holds the sum of squared deviations from the mean. */
    public static final int M2 = 1;
    /** Row of {@link #moments} that holds the sum of squares. */
    public static final int SUM_OF_SQUARES = 2;

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public ColumnMoments {
        Check.dtype("column_moments", "x", x, DType.F32);
        Check.shape("column_moments", "count", count, DType.I64, 1, 1);
        Check.shape("column_moments", "moments", moments, DType.F64, 3, x.cols());
        Check.apart("column_moments", moments, x, count);
        Check.apart("column_moments", count, x);
    }

    @Override
    public List<View> reads() {
        return List.of(x, count, moments);
    }

    @Override
    public List<View> writes() {
        return List.of(count, moments);
    }

    @Override
    public long operations() {
        return 6 * x.elements();
    }
}
