package org.sentei.method;

import java.lang.foreign.MemorySegment;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/** Carries masks out on a backend, and makes up for what they remove. */
public final class Masking {
    private Masking() {}

    /** A copy of the weights, F32 rows x cols, with the pruned ones set to zero; it belongs to {@code scope}. */
    public static View pruned(Scope scope, View weights, BitMask mask) {
        View copy = copy(scope, weights);
        prune(scope, copy, mask);
        return copy;
    }

    /** Sets the pruned weights, F32 rows x cols, to zero where they are. */
    public static void prune(Scope scope, View weights, BitMask mask) {
        try (Scope local = scope.child()) {
            scope.backend().run(new ApplyMask(weights, upload(local, mask), null, null));
            scope.backend().sync();
        }
    }

    /**
     * STADE's bias update: what the pruned inputs of each output contributed on average,
     * {@code shift_i = sum over pruned j of w_ij * mean_j} (2503.22451; the closed form of the optimal bias).
     *
     * @param weights F32 rows x cols, dense
     * @param means of the inputs, cols values
     */
    public static float[] biasShift(Scope scope, View weights, BitMask mask, float[] means) {
        Backend backend = scope.backend();
        float[] shift = new float[Math.toIntExact(weights.rows())];
        try (Scope local = scope.child()) {
            View mean = local.matrix(1, weights.cols());
            View bias = local.matrix(1, weights.rows());
            backend.copyIn(MemorySegment.ofArray(means), mean);
            backend.copyIn(MemorySegment.ofArray(shift), bias);
            backend.run(new ApplyMask(copy(local, weights), upload(local, mask), mean, bias));
            backend.copyOut(bias, MemorySegment.ofArray(shift));
        }
        return shift;
    }

    /**
     * Whether a bias shift found on some data lowers the squared output error on other data, without running the layer
     * again: with d the shift and h the mean of what was removed there, the error of a row of outputs changes by
     * {@code sum_i (d_i^2 - 2 d_i h_i)} on average.
     *
     * @param shift {@link #biasShift} by the means of the first data
     * @param heldOut {@link #biasShift} by the means of the other data
     */
    public static boolean lowersError(float[] shift, float[] heldOut) {
        double change = 0;
        for (int i = 0; i < shift.length; i++) {
            change += (double) shift[i] * (shift[i] - 2.0 * heldOut[i]);
        }
        return change < 0;
    }

    private static View copy(Scope scope, View weights) {
        View copy = scope.matrix(weights.rows(), weights.cols());
        scope.backend().run(new Cast(weights, copy, false));
        return copy;
    }

    private static View upload(Scope scope, BitMask mask) {
        View view = scope.matrix(DType.I32, mask.rows(), BitMask.wordsPerRow(mask.cols()));
        scope.backend().copyIn(MemorySegment.ofArray(mask.words()), view);
        return view;
    }
}
