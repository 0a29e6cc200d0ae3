package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreHistogram;
import org.sentei.kernel.ScoreHistogram.Half;
import org.sentei.kernel.ScoreHistogram.Position;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Turns scores into masks: exactly the requested number of weights, the smallest scores first, equal scores by lower index.
 */
public final class Selector {
    private Selector() {}

    /** Weights and their scales on a backend, as long as they are needed. */
    @FunctionalInterface
    public interface Source {
        /**
         * Loads one matrix into the scope.
         *
         * @param index position in the list that a budget spans
         */
        Scored load(int index, Scope scope);
    }

    /**
     * A matrix with the scale of its scores.
     *
     * @param weights F32 rows x cols
     * @param scale F32 1 x cols, or null
     */
    public record Scored(View weights, View scale) {}

    /** How many weights of a matrix go, and which compete for staying. */
    public sealed interface Budget {
        /** The {@code prune} smallest scores of every row. */
        record Row(long prune) implements Budget {}

        /** The {@code prune} smallest scores of every {@code size} consecutive columns of a row. */
        record Groups(int prune, int size) implements Budget {}

        /** The {@code prune} smallest scores of the matrix, ties row-major. */
        record Layer(long prune) implements Budget {}

        /** How many go of a matrix of this size. */
        default long pruned(long rows, long cols) {
            return switch (this) {
                case Row(long prune) -> rows * prune;
                case Groups(int prune, int size) -> rows * (cols / size) * prune;
                case Layer(long prune) -> prune;
            };
        }

        /** The selection that spends the budget. */
        default Selection selection() {
            return switch (this) {
                case Row(long prune) -> new Selection.Row(prune);
                case Groups(int prune, int size) -> new Selection.Groups(prune, size);
                case Layer(long prune) -> new Selection.Matrix(prune);
            };
        }
    }

    /** The mask of a selection. */
    public static BitMask select(Scope scope, Scored scored, Selection selection) {
        Backend backend = scope.backend();
        View weights = scored.weights();
        int[] words = new int[Math.toIntExact(weights.rows() * BitMask.wordsPerRow(weights.cols()))];
        try (Scope local = scope.child()) {
            View mask = local.matrix(DType.I32, weights.rows(), BitMask.wordsPerRow(weights.cols()));
            backend.run(new ScoreSelect(weights, scored.scale(), mask, selection));
            backend.copyOut(mask, MemorySegment.ofArray(words));
        }
        return new BitMask(weights.rows(), weights.cols(), words);
    }

    /**
     * The selections that together prune the {@code prune} smallest scores of {@code count} matrices, ties by order of the
     * matrices, then row-major: two counting passes find the cut, no sort, one matrix loaded at a time.
     *
     * @return one {@link Selection.Cut} a matrix
     */
    public static List<Selection.Cut> cuts(Scope scope, int count, Source source, long prune) {
        long[] high = new long[Half.HIGH.bins()];
        for (int i = 0; i < count; i++) {
            add(high, histogram(scope, source, i, Half.HIGH, 0));
        }
        Position prefix = Position.of(high, prune);
        List<long[]> low = new ArrayList<>();
        long[] total = new long[Half.LOW.bins()];
        for (int i = 0; i < count; i++) {
            low.add(histogram(scope, source, i, Half.LOW, prefix.bin()));
            add(total, low.get(i));
        }
        Position suffix = Position.of(total, prefix.remaining());
        int key = (prefix.bin() << ScoreHistogram.LOW_BITS) | suffix.bin();
        long ties = suffix.remaining();
        List<Selection.Cut> cuts = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            long here = Math.min(ties, low.get(i)[suffix.bin()]);
            cuts.add(new Selection.Cut(key, here));
            ties -= here;
        }
        return List.copyOf(cuts);
    }

    private static long[] histogram(Scope scope, Source source, int index, Half half, int prefix) {
        Backend backend = scope.backend();
        long[] counts = new long[half.bins()];
        try (Scope local = scope.child()) {
            Scored scored = source.load(index, local);
            View histogram = local.matrix(DType.I64, 1, half.bins());
            backend.copyIn(MemorySegment.ofArray(counts), histogram);
            backend.run(new ScoreHistogram(scored.weights(), scored.scale(), half, prefix, histogram));
            backend.copyOut(histogram, MemorySegment.ofArray(counts));
        }
        return counts;
    }

    private static void add(long[] sum, long[] counts) {
        for (int bin = 0; bin < sum.length; bin++) {
            sum[bin] += counts[bin];
        }
    }
}
