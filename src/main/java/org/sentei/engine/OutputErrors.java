package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.Masking;
import org.sentei.method.Moments;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;

/** What an edit does to the outputs of its site on the calibration data. */
final class OutputErrors {
    /** Tokens whose outputs are held at once. */
    private static final long ROWS_AT_ONCE = 512;

    private OutputErrors() {}

    /**
     * The relative error {@code |Y - Y'| / |Y|}: over all tokens where there is a Gram matrix, over the first ones that were
     * kept otherwise.
     *
     * <p>From the second moments of the inputs: an output's difference is {@code d' x + e} with d that of the weights and e
     * that of the bias, and its square sums up to {@code d' G d + 2 e d' s + n e^2}. From rows of the inputs: the difference
     * runs as a layer of its own.
     *
     * @param edit of the weights by its mask alone unless there is a Gram matrix
     * @param input statistics of what the site reads
     * @throws RunException when the error is not finite
     */
    static double of(LinearWeights dense, Edit edit, InputStatistics input, Scope scope) {
        float[] before = bias(dense, scope);
        float[] change = new float[before.length];
        if (edit.bias() != null) {
            float[] after = Floats.toArray(edit.bias());
            for (int i = 0; i < change.length; i++) {
                change[i] = before[i] - after[i];
            }
        }
        double difference;
        double output;
        if (input.gram() == null) {
            difference = difference(dense, edit, change, input, scope);
            output = energy(dense.weight(), before, input.rows(), scope);
        } else {
            try (Scope local = scope.child()) {
                View edited = Edits.apply(edit, dense, local).weight();
                difference = energy(dense.weight(), edited, change, input, local);
            }
            output = energy(dense.weight(), null, before, input, scope);
        }
        double error = difference == 0 ? 0 : Math.sqrt(difference / output);
        if (!Double.isFinite(error)) {
            throw new RunException("site " + dense.site().name() + ": its output error is " + error
                    + " on the calibration data; its outputs are not finite or all zero");
        }
        return error;
    }

    private static double difference(
            LinearWeights dense, Edit edit, float[] change, InputStatistics input, Scope scope) {
        if (edit.weight() != null) {
            throw new IllegalArgumentException("site " + dense.site().name() + " has new weights, but no Gram matrix");
        }
        try (Scope local = scope.child()) {
            View removed = Masking.pruned(local, dense.weight(), edit.pruned().inverse());
            return energy(removed, change, input.rows(), local);
        }
    }

    /** The sum of squares of {@code w x + e} over these tokens and all outputs. */
    private static double energy(View w, float[] e, List<View> tokens, Scope scope) {
        try (Scope local = scope.child()) {
            View bias = local.matrix(1, e.length);
            local.backend().copyIn(MemorySegment.ofArray(e), bias);
            Moments.Collector outputs = new Moments.Collector(local, w.rows());
            for (View rows : tokens) {
                for (long first = 0; first < rows.rows(); first += ROWS_AT_ONCE) {
                    try (Scope part = local.child()) {
                        View x = rows.rows(first, Math.min(rows.rows(), first + ROWS_AT_ONCE));
                        View y = part.matrix(x.rows(), w.rows());
                        part.backend().run(new Gemm(x, w, true, bias, y, false));
                        outputs.add(y);
                    }
                }
            }
            return outputs.moments().energy();
        }
    }

    /** The sum of squares of {@code (a - b) x + e} over all tokens and outputs; rounding can make it no less than zero. */
    private static double energy(View a, View b, float[] e, InputStatistics input, Scope scope) {
        Moments moments = input.all();
        double[] sum = new double[moments.cols()];
        Arrays.setAll(sum, col -> moments.mean(col) * moments.count());
        double[] forms = new double[2 * e.length];
        try (Scope local = scope.child()) {
            View total = local.matrix(DType.F64, 1, sum.length);
            View result = local.matrix(DType.F64, e.length, 2);
            local.backend().copyIn(MemorySegment.ofArray(sum), total);
            local.backend().run(new QuadraticForm(a, b, input.gram(), total, result));
            local.backend().copyOut(result, MemorySegment.ofArray(forms));
        }
        double energy = 0;
        for (int i = 0; i < e.length; i++) {
            energy += forms[2 * i] + e[i] * (2 * forms[2 * i + 1] + moments.count() * (double) e[i]);
        }
        return Math.max(0, energy);
    }

    private static float[] bias(LinearWeights linear, Scope scope) {
        float[] bias = new float[Math.toIntExact(linear.site().rows())];
        if (linear.bias() != null) {
            scope.backend().copyOut(linear.bias(), MemorySegment.ofArray(bias));
        }
        return bias;
    }
}
