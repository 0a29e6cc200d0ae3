package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Marks the weights with the smallest scores {@code |w| * scale} as pruned; equal scores are pruned by lower index first,
 * so the mask equals that of a stable ascending sort, bit for bit.
 *
 * <p>Sources: Wanda (2306.11695, section 3) and STADE (2503.22451) for the scores, |W| * std instead of W^2 * var so that
 * small weights do not underflow.
 *
 * @param weights F32 rows x cols
 * @param scale F32 1 x cols, non-negative, or null for plain magnitudes
 * @param mask I32 rows x {@link BitMask#wordsPerRow}, laid out as in {@link BitMask}; overwritten
 */
public record ScoreSelect(View weights, View scale, View mask, Selection selection) implements Op {
    /** Which weights compete with each other, and how many of them lose. */
    public sealed interface Selection {
        /** The {@code prune} smallest scores of every row. */
        record Row(long prune) implements Selection {}

        /** The {@code prune} smallest scores of every {@code size} consecutive columns of a row. */
        record Groups(int prune, int size) implements Selection {}

        /** The {@code prune} smallest scores of the matrix, equal ones in row-major order. */
        record Matrix(long prune) implements Selection {}

        /**
         * Every score with a key below {@code key}, and the first {@code ties} in row-major order of those equal to it:
         * the second half of a selection over several matrices, after {@link ScoreHistogram} found the key.
         */
        record Cut(int key, long ties) implements Selection {}
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public ScoreSelect {
        Check.dtype("score_select", "weights", weights, DType.F32);
        if (scale != null) {
            Check.shape("score_select", "scale", scale, DType.F32, 1, weights.cols());
        }
        Check.shape("score_select", "mask", mask, DType.I32, weights.rows(), BitMask.wordsPerRow(weights.cols()));
        Check.apart("score_select", mask, weights, scale);
        switch (selection) {
            case Selection.Row(long prune) ->
                Check.that(
                        prune >= 0 && prune <= weights.cols(),
                        "score_select",
                        "cannot prune " + prune + " of " + weights.cols() + " columns");
            case Selection.Groups(int prune, int size) ->
                Check.that(
                        size >= 1 && prune >= 0 && prune <= size && weights.cols() % size == 0,
                        "score_select",
                        "cannot prune " + prune + " of every " + size + " in " + weights.cols() + " columns");
            case Selection.Matrix(long prune) ->
                Check.that(
                        prune >= 0 && prune <= weights.elements(),
                        "score_select",
                        "cannot prune " + prune + " of " + weights.elements() + " weights");
            case Selection.Cut(int key, long ties) ->
                Check.that(key >= 0 && ties >= 0, "score_select", "negative key or number of ties");
        }
    }

    /**
     * The order of scores as an integer: the bits of the non-negative fp32 product {@code |weight| * scale}, which rise
     * with it; every NaN has the largest key of all.
     */
    public static int key(float weight, float scale) {
        int bits = Float.floatToRawIntBits(Math.abs(weight) * scale) & 0x7fff_ffff;
        return bits > 0x7f80_0000 ? 0x7fff_ffff : bits;
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(weights));
        if (scale != null) {
            views.add(scale);
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(mask);
    }

    @Override
    public long operations() {
        return 4 * weights.elements();
    }
}
