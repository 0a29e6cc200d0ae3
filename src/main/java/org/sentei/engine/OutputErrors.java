package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SquaredError;
import org.sentei.kernel.View;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.tensor.DType;

/** What edits do to the outputs of their sites, measured on the calibration data. */
final class OutputErrors {
    private OutputErrors() {}

    /**
     * The relative error {@code |Y - Y'| / |Y|} of every edited site: one more dense pass through the group, each site run
     * with its old and its new weights beside each other.
     *
     * @throws RunException when an error is not finite
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it
     */
    static Map<Site, Double> measure(Walk.Group group, List<Edit> edits, Scope scope, Progress progress) {
        Backend backend = scope.backend();
        try (Scope local = scope.child()) {
            Map<String, List<Trial>> trials = edits.stream()
                    .map(edit -> trial(group.weights(edit.site()), edit, local))
                    .collect(Collectors.groupingBy(trial -> trial.dense().site().input()));
            group.observe((key, rows, _) -> {
                progress.stopIfCancelled("errors");
                for (Trial trial : trials.getOrDefault(key, List.of())) {
                    try (Scope batch = local.child()) {
                        View expected = output(trial.dense(), rows, batch);
                        View actual = output(trial.edited(), rows, batch);
                        backend.run(new SquaredError(expected, actual, trial.sums()));
                        backend.sync();
                    }
                }
            });
            return trials.values().stream()
                    .flatMap(List::stream)
                    .collect(Collectors.toMap(trial -> trial.dense().site(), trial -> relative(trial, backend)));
        }
    }

    /** @param sums of SquaredError: squared differences, squared outputs */
    private record Trial(LinearWeights dense, LinearWeights edited, View sums) {}

    private static Trial trial(LinearWeights dense, Edit edit, Scope scope) {
        View sums = scope.matrix(DType.F64, 1, 2);
        scope.backend().copyIn(MemorySegment.ofArray(new double[2]), sums);
        return new Trial(dense, Edits.apply(edit, dense, scope), sums);
    }

    private static View output(LinearWeights linear, View input, Scope scope) {
        View output = scope.matrix(input.rows(), linear.site().rows());
        scope.backend().run(new Gemm(input, linear.weight(), true, linear.bias(), output, false));
        return output;
    }

    private static double relative(Trial trial, Backend backend) {
        double[] sums = new double[2];
        backend.copyOut(trial.sums(), MemorySegment.ofArray(sums));
        double error = sums[0] == 0 ? 0 : Math.sqrt(sums[0] / sums[1]);
        if (!Double.isFinite(error)) {
            throw new RunException("site " + trial.dense().site().name() + ": its output error is " + error
                    + " on the calibration data; its outputs are not finite or all zero");
        }
        return error;
    }
}
