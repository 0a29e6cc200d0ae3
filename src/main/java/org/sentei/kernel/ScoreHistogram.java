package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * Adds the score keys of a matrix (see {@link ScoreSelect#key}) to a histogram, one half of the key at a time: two passes
 * find the exact k-th smallest score of any number of matrices without sorting.
 *
 * <p>{@link Half#HIGH} counts the upper 16 bits of every 31-bit key. {@link Half#LOW} counts the lower 15 bits of the keys
 * whose upper half is {@code prefix}.
 *
 * @param weights F32 rows x cols
 * @param scale F32 1 x cols, or null for plain magnitudes
 * @param prefix upper half of the keys that LOW counts, 0 for HIGH
 * @param histogram I64 1 x {@code half.bins()}, added to
 */
public record ScoreHistogram(View weights, View scale, Half half, int prefix, View histogram) implements Op {
    /** Which bits of the 31-bit keys are counted. */
    public enum Half {
        /** The upper 16 bits of a key. */
        HIGH(1 << 16),
        /** The lower 15, of keys with a given upper half. */
        LOW(1 << 15);

        private final int bins;

        Half(int bins) {
            this.bins = bins;
        }

        /** Length of the histogram. */
        public int bins() {
            return bins;
        }
    }

    /** Bits below the upper half of a key. */
    public static final int LOW_BITS = 15;

    /**
     * Where a budget ends in a histogram.
     *
     * @param remaining what of the budget is left where the bin begins
     */
    public record Position(int bin, long remaining) {
        /** The first bin at which the running count exceeds {@code prune}; the last one where none does. */
        public static Position of(long[] counts, long prune) {
            long remaining = prune;
            for (int bin = 0; bin < counts.length - 1; bin++) {
                if (remaining < counts[bin]) {
                    return new Position(bin, remaining);
                }
                remaining -= counts[bin];
            }
            return new Position(counts.length - 1, remaining);
        }
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public ScoreHistogram {
        Check.dtype("score_histogram", "weights", weights, DType.F32);
        if (scale != null) {
            Check.shape("score_histogram", "scale", scale, DType.F32, 1, weights.cols());
        }
        Check.shape("score_histogram", "histogram", histogram, DType.I64, 1, half.bins());
        int highest = half == Half.HIGH ? 0 : Half.HIGH.bins() - 1;
        Check.that(
                prefix >= 0 && prefix <= highest,
                "score_histogram",
                "prefix must lie in [0, " + highest + "], not " + prefix);
        Check.apart("score_histogram", histogram, weights, scale);
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(weights, histogram));
        if (scale != null) {
            views.add(scale);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(histogram);
    }

    @Override
    public long operations() {
        return 3 * weights.elements();
    }
}
