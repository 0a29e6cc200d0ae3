package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.util.BitSet;
import java.util.Optional;
import java.util.function.LongUnaryOperator;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.ObsSweep;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * SparseGPT (Frantar and Alistarh, 2301.00774): prunes block of columns by block of columns, and lets the columns to the right
 * make up for what went. With H the Gram matrix of the inputs, damped, and U the upper Cholesky factor of its inverse, removing
 * w_ij costs {@code w_ij^2 / U_jj^2} once the best change {@code -w_ij / U_jj * U_jk} of the weights at k > j is made.
 */
public final class SparseGpt {
    /** A multiple of this is a block, so that its mask begins with a word. */
    public static final int BLOCK_UNIT = 32;

    /** Columns that a block has at most. */
    public static final int LARGEST_BLOCK = 1 << 16;

    /** Times that {@link #factor} multiplies the damping by {@value #DAMPING_STEP} before it gives up. */
    private static final int RETRIES = 2;

    private static final double DAMPING_STEP = 10;

    private SparseGpt() {}

    /** Which weights of a block compete with each other, and how many of them go. */
    public sealed interface Budget {
        /**
         * All of a block: the smallest scores of all rows together, ties row-major.
         *
         * @param count how many go of the first so many weights in the order of blocks
         */
        record Layer(LongUnaryOperator count) implements Budget {}

        /**
         * Those of a row of a block, ties from the left.
         *
         * @param count how many go of the first so many columns
         */
        record Row(LongUnaryOperator count) implements Budget {}

        /** Of every {@code size} consecutive columns of a row {@code prune} go, chosen when the sweep reaches them. */
        record Groups(int prune, int size) implements Budget {}
    }

    /**
     * How to prune.
     *
     * @param block columns whose budget is spent at once, a multiple of {@value #BLOCK_UNIT}
     * @param damping share of the mean diagonal element of H that is added to all of them, in (0, 1]
     */
    public record Parameters(Budget budget, int block, double damping) {
        public Parameters {
            if (block < BLOCK_UNIT || block > LARGEST_BLOCK || block % BLOCK_UNIT != 0) {
                throw new IllegalArgumentException(
                        "block is a multiple of " + BLOCK_UNIT + " up to " + LARGEST_BLOCK + ", not " + block);
            }
            if (!(damping > 0 && damping <= 1)) {
                throw new IllegalArgumentException("damping is a share in (0, 1], not " + damping);
            }
            if (budget instanceof Budget.Groups(int prune, int size)
                    && !(prune >= 0 && prune <= size && size >= 1 && block % size == 0)) {
                throw new IllegalArgumentException(
                        "pattern " + prune + ":" + size + " does not divide a block of " + block + " columns");
            }
        }
    }

    /**
     * What the sites that read one activation share.
     *
     * @param inverse U, F32 columns x columns
     * @param scale 1 / U_jj, F32 1 x columns: a weight's score is {@code |w_ij| * scale_j}
     * @param dead inputs that were always 0
     * @param damping what it took
     */
    public record Factor(View inverse, View scale, BitSet dead, double damping) {}

    /**
     * Whether nothing overflowed: with a diagonal of finite numbers all others are finite, as no product of two columns
     * exceeds the larger of their squares.
     */
    public static boolean isFinite(Scope scope, View gram) {
        for (double value : diagonal(scope, gram)) {
            if (!Double.isFinite(value)) {
                return false;
            }
        }
        return true;
    }

    private static double[] diagonal(Scope scope, View square) {
        double[] values = new double[Math.toIntExact(square.rows())];
        try (Scope local = scope.child()) {
            View wide = local.matrix(DType.F64, square.rows(), 1);
            View diagonal =
                    new View(square.buffer(), square.offset(), square.rows(), 1, square.stride() + 1, square.dtype());
            local.backend().run(new Cast(diagonal, wide, false));
            local.backend().copyOut(wide, MemorySegment.ofArray(values));
        }
        return values;
    }

    /**
     * Factors the inverse of a finite Gram matrix. Where rounding leaves no positive pivot, it is damped ten and a hundred
     * times as much.
     *
     * @param scope owner of the factor
     * @return empty when that is not enough either
     */
    public static Optional<Factor> factor(Scope scope, View gram, double damping) {
        Backend backend = scope.backend();
        View inverse = scope.matrix(gram.rows(), gram.cols());
        double used = damping;
        for (int retry = 0; retry <= RETRIES; retry++, used *= DAMPING_STEP) {
            long[] status = new long[1];
            try (Scope local = scope.child()) {
                View failed = local.matrix(DType.I64, 1, 1);
                backend.run(new InverseCholesky(gram, used, inverse, failed));
                backend.copyOut(failed, MemorySegment.ofArray(status));
            }
            if (status[0] == 0) {
                return Optional.of(factor(scope, gram, inverse, used));
            }
        }
        return Optional.empty();
    }

    private static Factor factor(Scope scope, View gram, View inverse, double damping) {
        double[] energy = diagonal(scope, gram);
        double[] diagonal = diagonal(scope, inverse);
        float[] scale = new float[diagonal.length];
        BitSet dead = new BitSet();
        for (int j = 0; j < scale.length; j++) {
            scale[j] = (float) (1 / diagonal[j]);
            dead.set(j, energy[j] == 0);
        }
        View scales = scope.matrix(1, scale.length);
        scope.backend().copyIn(MemorySegment.ofArray(scale), scales);
        return new Factor(inverse, scales, dead, damping);
    }

    /**
     * What is left.
     *
     * @param weights F32 rows x cols, +0 where pruned
     */
    public record Pruned(BitMask mask, View weights) {}

    /**
     * Prunes one matrix. Weights of dead inputs become 0 first, whether or not the mask takes them.
     *
     * @param scope owner of the new weights
     * @param weights F32 rows x cols, left as they are
     */
    public static Pruned prune(Scope scope, View weights, Factor factor, Parameters parameters) {
        Backend backend = scope.backend();
        long rows = weights.rows();
        long cols = weights.cols();
        View changing = Masking.pruned(scope, weights, maskOf(factor.dead(), rows, cols));
        int[] words = new int[Math.toIntExact(rows * BitMask.wordsPerRow(cols))];
        try (Scope local = scope.child()) {
            View mask = local.matrix(DType.I32, rows, BitMask.wordsPerRow(cols));
            View errors = local.matrix(rows, Math.min(cols, parameters.block()));
            for (long begin = 0; begin < cols; begin += parameters.block()) {
                long end = Math.min(cols, begin + parameters.block());
                View block = changing.cols(begin, end);
                View scale = factor.scale().cols(begin, end);
                View maskOfBlock = mask.cols(begin / BLOCK_UNIT, BitMask.wordsPerRow(end));
                ObsSweep.Groups groups = null;
                switch (parameters.budget()) {
                    case Budget.Layer(LongUnaryOperator count) -> {
                        long prune = count.applyAsLong(rows * end) - count.applyAsLong(rows * begin);
                        backend.run(
                                new ScoreSelect(block, scale, maskOfBlock, new ScoreSelect.Selection.Matrix(prune)));
                    }
                    case Budget.Row(LongUnaryOperator count) -> {
                        long prune = count.applyAsLong(end) - count.applyAsLong(begin);
                        backend.run(new ScoreSelect(block, scale, maskOfBlock, new ScoreSelect.Selection.Row(prune)));
                    }
                    case Budget.Groups(int prune, int size) -> groups = new ObsSweep.Groups(prune, size, scale);
                }
                View errorsOfBlock = errors.cols(0, end - begin);
                View triangle = factor.inverse().rows(begin, end);
                backend.run(new ObsSweep(block, triangle.cols(begin, end), maskOfBlock, errorsOfBlock, groups));
                if (end < cols) {
                    backend.run(new Gemm(
                            errorsOfBlock, triangle.cols(end, cols), false, null, changing.cols(end, cols), true));
                }
            }
            backend.copyOut(mask, MemorySegment.ofArray(words));
        }
        return new Pruned(new BitMask(rows, cols, words), changing);
    }

    private static BitMask maskOf(BitSet pruned, long rows, long cols) {
        BitMask mask = BitMask.none(rows, cols);
        pruned.stream().forEach(col -> {
            for (long row = 0; row < rows; row++) {
                mask.set(row, col);
            }
        });
        return mask;
    }
}
