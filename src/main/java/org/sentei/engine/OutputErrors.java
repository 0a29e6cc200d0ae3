package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.Moments;
import org.sentei.model.LinearWeights;
import org.sentei.tensor.DType;

/** What an edit does to the outputs of its site on the calibration data. */
final class OutputErrors {
    private OutputErrors() {}

    /**
     * The relative error {@code |Y - Y'| / |Y|} over all tokens, from the second moments of the inputs: an output's difference
     * is {@code d' x + e} with d that of the weights and e that of the bias, and its square sums up to
     * {@code d' G d + 2 e d' s + n e^2}.
     *
     * @param edited what {@link Edits#apply} makes of {@code dense}
     * @param input statistics of what the site reads, with its Gram matrix
     * @throws RunException when the error is not finite
     */
    static double of(LinearWeights dense, LinearWeights edited, InputStatistics input, Scope scope) {
        float[] before = bias(dense, scope);
        float[] change = bias(edited, scope);
        for (int i = 0; i < change.length; i++) {
            change[i] = before[i] - change[i];
        }
        double difference = energy(dense.weight(), edited.weight(), change, input, scope);
        double output = energy(dense.weight(), null, before, input, scope);
        double error = difference == 0 ? 0 : Math.sqrt(difference / output);
        if (!Double.isFinite(error)) {
            throw new RunException("site " + dense.site().name() + ": its output error is " + error
                    + " on the calibration data; its outputs are not finite or all zero");
        }
        return error;
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
