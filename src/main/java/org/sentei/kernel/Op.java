package org.sentei.kernel;

import java.util.List;

/**
 * One unit of work for a backend: a record whose constructor checks its contract once, so that a backend may trust it.
 *
 * <p>Every op reads and writes {@link View}s; unless a record says otherwise, what it writes overlaps nothing it reads.
 */
public sealed interface Op
        permits Activate,
                Aggregate,
                ApplyMask,
                Attention,
                AttentionResidual,
                BandStop,
                Cast,
                ColumnMoments,
                CombineInt8,
                Conv2dInt8,
                CountValues,
                Embedding,
                Gemm,
                Gemv,
                Gram,
                InverseCholesky,
                LayerNorm,
                Lookup,
                MaskDifference,
                MaskStep,
                MaxPoolInt8,
                ObsSweep,
                QuadraticForm,
                Quantize,
                RmsNorm,
                RmsNormGradient,
                Rotary,
                ScoreHistogram,
                ScoreSelect,
                SoftHistogram,
                SoftHistogramGradient,
                SparseGemv,
                StateCounts {

    /** The op's stem, shared by kernel files, entries and C symbols: {@code ColumnMoments} is {@code column_moments}. */
    default String name() {
        return stem(getClass());
    }

    /** The stem of an op's record. */
    static String stem(Class<? extends Op> op) {
        return OpStems.OF.get(op);
    }

    /** Views whose content matters, those that are updated included. */
    List<View> reads();

    /** Views whose content changes. */
    List<View> writes();

    /** Arithmetic operations, a multiply-add counted as two. */
    long operations();

    /** Bytes that must cross the memory bus at least: every view once for reading, once for writing. */
    default long bytes() {
        return reads().stream().mapToLong(View::bytes).sum()
                + writes().stream().mapToLong(View::bytes).sum();
    }
}
