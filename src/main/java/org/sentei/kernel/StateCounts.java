package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Adds up how often each unit of a layer is on, off and at zero, the counts that the entropy of a rectifier is made of
 * (2404.18949). A unit is one of {@code counts.cols()} equal blocks of every row: a channel of images in NCHW order, or a column
 * where the units are the last axis. Counts are integers, so any split into batches or devices gives the same ones.
 *
 * @param x F32 samples x (units * elements of a unit), what goes into the rectifier
 * @param counts I64 4 x units, added to: elements above 0, elements below 0, zeros of either sign, and NaNs, which are in no
 *     state
 */
public record StateCounts(View x, View counts) implements Op {
    /** Row of {@link #counts} of elements above 0, infinity included. */
    public static final int ON = 0;
    /** Row of {@link #counts} of elements below 0, infinity included. */
    public static final int OFF = 1;
    /** Row of {@link #counts} of zeros. */
    public static final int ZERO = 2;
    /** Row of {@link #counts} of NaNs. */
    public static final int NAN = 3;
    /** Rows of {@link #counts}. */
    public static final int STATES = 4;

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public StateCounts {
        Check.dtype("state_counts", "x", x, DType.F32);
        Check.shape("state_counts", "counts", counts, DType.I64, STATES, counts.cols());
        Check.that(
                counts.cols() == 0 ? x.cols() == 0 : x.cols() % counts.cols() == 0,
                "state_counts",
                counts.cols() + " units do not divide the " + x.cols() + " columns of x");
        Check.apart("state_counts", counts, x);
    }

    /** Units of the layer. */
    public long units() {
        return counts.cols();
    }

    /** Elements of a unit in a row of {@link #x}. */
    public long inner() {
        return units() == 0 ? 0 : x.cols() / units();
    }

    @Override
    public List<View> reads() {
        return List.of(x, counts);
    }

    @Override
    public List<View> writes() {
        return List.of(counts);
    }

    @Override
    public long operations() {
        return 3 * x.elements();
    }
}
