package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.sentei.kernel.Backend;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.DType;

/**
 * Count, mean, M2 and sum of squares of every column of an activation: mergeable in any order, all in fp64.
 *
 * <p>Derived statistics are computed here once, in fp64 on the host, and rounded to fp32, so that every backend scores with
 * the same numbers.
 */
public final class Moments {
    private final long count;
    private final double[] mean;
    private final double[] m2;
    private final double[] sumOfSquares;

    /**
     * Moments that were collected before.
     *
     * @param state 3 x columns, rows as {@link ColumnMoments} has them
     */
    public static Moments of(long count, double[] state) {
        int cols = state.length / 3;
        return new Moments(
                count,
                row(state, ColumnMoments.MEAN, cols),
                row(state, ColumnMoments.M2, cols),
                row(state, ColumnMoments.SUM_OF_SQUARES, cols));
    }

    /** Moments of no rows. */
    public static Moments none(int cols) {
        return of(0, new double[3 * cols]);
    }

    private static double[] row(double[] state, int row, int cols) {
        return Arrays.copyOfRange(state, row * cols, (row + 1) * cols);
    }

    private Moments(long count, double[] mean, double[] m2, double[] sumOfSquares) {
        this.count = count;
        this.mean = mean;
        this.m2 = m2;
        this.sumOfSquares = sumOfSquares;
    }

    /** Collects moments on a backend, batch by batch; its memory belongs to the scope it was created with. */
    public static final class Collector {
        private final Backend backend;
        private final View count;
        private final View moments;

        /** Starts with no rows. */
        public Collector(Scope scope, long cols) {
            backend = scope.backend();
            count = scope.matrix(DType.I64, 1, 1);
            moments = scope.matrix(DType.F64, 3, cols);
            clear();
        }

        /** Starts anew with no rows. */
        public void clear() {
            backend.copyIn(MemorySegment.ofArray(new long[1]), count);
            backend.copyIn(MemorySegment.ofArray(new double[Math.toIntExact(moments.elements())]), moments);
        }

        /** Merges the rows of {@code x}, F32 rows x cols. */
        public void add(View x) {
            backend.run(new ColumnMoments(x, count, moments));
        }

        /** What has been collected so far. */
        public Moments moments() {
            long[] rows = new long[1];
            double[] state = new double[Math.toIntExact(moments.elements())];
            backend.copyOut(count, MemorySegment.ofArray(rows));
            backend.copyOut(moments, MemorySegment.ofArray(state));
            return of(rows[0], state);
        }
    }

    /** Statistics of the rows of both, by the pairwise update of Chan, Golub and LeVeque (1983). */
    public Moments merge(Moments other) {
        if (other.mean.length != mean.length) {
            throw new IllegalArgumentException(
                    "moments of " + mean.length + " and " + other.mean.length + " columns cannot be merged");
        }
        long total = count + other.count;
        if (other.count == 0 || count == 0) {
            return count == 0 ? other : this;
        }
        int cols = mean.length;
        Moments merged = new Moments(total, new double[cols], new double[cols], new double[cols]);
        double share = (double) other.count / total;
        for (int j = 0; j < cols; j++) {
            double difference = other.mean[j] - mean[j];
            merged.mean[j] = mean[j] + difference * share;
            merged.m2[j] = m2[j] + other.m2[j] + difference * difference * count * share;
            merged.sumOfSquares[j] = sumOfSquares[j] + other.sumOfSquares[j];
        }
        return merged;
    }

    /** Sum of the squares of all elements. */
    public double energy() {
        return Arrays.stream(sumOfSquares).sum();
    }

    /** What {@link #of} takes: 3 x columns. */
    public double[] state() {
        int cols = mean.length;
        double[] state = new double[3 * cols];
        System.arraycopy(mean, 0, state, ColumnMoments.MEAN * cols, cols);
        System.arraycopy(m2, 0, state, ColumnMoments.M2 * cols, cols);
        System.arraycopy(sumOfSquares, 0, state, ColumnMoments.SUM_OF_SQUARES * cols, cols);
        return state;
    }

    /** Rows seen. */
    public long count() {
        return count;
    }

    /** Columns that it describes. */
    public int cols() {
        return mean.length;
    }

    /** Mean of a column. */
    public double mean(int col) {
        return mean[col];
    }

    /** Sample variance, M2 / (n - 1). */
    public double variance(int col) {
        return m2[col] / (count - 1);
    }

    /** Mean of every column. */
    public float[] means() {
        float[] means = new float[mean.length];
        for (int j = 0; j < means.length; j++) {
            means[j] = (float) mean[j];
        }
        return means;
    }

    /** Sample standard deviation of every column; needs at least two rows. */
    public float[] standardDeviations() {
        if (count < 2) {
            throw new IllegalStateException("a standard deviation needs at least 2 rows, not " + count);
        }
        float[] deviations = new float[mean.length];
        for (int j = 0; j < deviations.length; j++) {
            deviations[j] = (float) Math.sqrt(variance(j));
        }
        return deviations;
    }

    /** Root of the mean square of every column; needs at least one row. */
    public float[] rootMeanSquares() {
        if (count < 1) {
            throw new IllegalStateException("a root mean square needs at least 1 row");
        }
        float[] roots = new float[mean.length];
        for (int j = 0; j < roots.length; j++) {
            roots[j] = (float) Math.sqrt(sumOfSquares[j] / count);
        }
        return roots;
    }

    /**
     * Share of the energy that lies in the means, {@code sum mean^2 / sum E[x^2]}: 0 when Wanda and STADE rank alike, 1 for
     * constant inputs; 0 for all-zero inputs.
     */
    public double meanEnergyShare() {
        double means = 0;
        double energy = 0;
        for (int j = 0; j < mean.length; j++) {
            means += mean[j] * mean[j];
            energy += sumOfSquares[j] / count;
        }
        return energy == 0 ? 0 : means / energy;
    }

    /** Whether every statistic is a finite number, and sums of squares are not negative. */
    public boolean isPlausible() {
        return isFinite()
                && Arrays.stream(m2).allMatch(sum -> sum >= 0)
                && Arrays.stream(sumOfSquares).allMatch(sum -> sum >= 0);
    }

    /** Whether every statistic is a finite number. */
    public boolean isFinite() {
        for (int j = 0; j < mean.length; j++) {
            if (!Double.isFinite(mean[j]) || !Double.isFinite(m2[j]) || !Double.isFinite(sumOfSquares[j])) {
                return false;
            }
        }
        return true;
    }
}
