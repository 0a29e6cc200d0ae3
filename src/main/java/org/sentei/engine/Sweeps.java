package org.sentei.engine;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.sentei.engine.recipe.Recipe.Step;
import org.sentei.kernel.Cast;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.SparseGpt;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** SparseGPT on the sites of one group; those that read the same input share its factor. */
final class Sweeps {
    private final Scope scope;
    private final Map<Input, SparseGpt.Factor> factors = new HashMap<>();

    private record Input(String key, double damping) {}

    /** @param scope owner of the factors */
    Sweeps(Scope scope) {
        this.scope = scope;
    }

    /**
     * A site's edit.
     *
     * @param zeros among the new weights
     * @param damping what the factorization took
     */
    record Swept(Edit edit, long zeros, double damping) {}

    /**
     * Prunes one site.
     *
     * @param gram second moments of its input, as a {@link org.sentei.kernel.Gram} leaves them
     * @param stored the type of its weight in the file: what runs on from here equals what will be written
     * @throws RunException when its input is not finite, or has no factor, or a new weight does not fit
     */
    Swept prune(LinearWeights dense, Step step, View gram, DType stored) {
        Site site = dense.site();
        SparseGpt.Parameters parameters = step.sparseGpt();
        SparseGpt.Factor factor = factors.computeIfAbsent(
                new Input(site.input(), parameters.damping()), input -> factor(site, gram, input.damping()));
        try (Scope local = scope.child()) {
            SparseGpt.Pruned pruned = SparseGpt.prune(local, dense.weight(), factor, parameters);
            View rounded = local.matrix(stored, site.rows(), site.cols());
            local.backend().run(new Cast(pruned.weights(), rounded, false));
            local.backend().run(new Cast(rounded, pruned.weights(), false));
            ValueCounts counts = ValueCounts.of(pruned.weights(), local);
            if (counts.notFinite() != 0) {
                throw new RunException("site " + site.name() + ": " + counts.notFinite()
                        + " of its new weights are not finite as " + stored
                        + ", the type of the file; give it more damping or prune it by another method");
            }
            Edit edit = new Edit(site, pruned.mask(), tensor(site, pruned.weights(), local), null);
            return new Swept(edit, counts.zeros(), factor.damping());
        }
    }

    private SparseGpt.Factor factor(Site site, View gram, double damping) {
        if (!SparseGpt.isFinite(scope, gram)) {
            throw new RunException("site " + site.name() + ": the second moments of its input are not finite;"
                    + " look for overflow in the layers before it, or calibrate on other data");
        }
        return SparseGpt.factor(scope, gram, damping)
                .orElseThrow(() -> new RunException("site " + site.name()
                        + ": the second moments of its input have no Cholesky factor, even when damped 100 times as much"
                        + " as by " + damping + "; raise damping or calibrate on more data"));
    }

    /** Off the heap: all edits of a model live until it is written. */
    private static Tensor tensor(Site site, View weights, Scope scope) {
        MemorySegment host;
        try {
            host = Arena.ofAuto().allocate(weights.bytes(), Float.BYTES);
        } catch (OutOfMemoryError e) {
            throw new DeviceException(
                    scope.backend().info().backend(),
                    "keeping the new weights of site " + site.name(),
                    "the host has no " + weights.bytes() + " bytes of memory left; prune fewer sites at once",
                    DeviceException.Kind.OUT_OF_MEMORY,
                    e);
        }
        scope.backend().copyOut(weights, host);
        return new Tensor(site.weight(), DType.F32, Shape.of(site.rows(), site.cols()), host);
    }

    /** Device memory for the factors of these sites' inputs, and for the largest factorization or sweep. */
    static long memoryBytes(List<Site> sites) {
        Map<String, Long> widths =
                sites.stream().collect(Collectors.toMap(Site::input, Site::cols, (first, same) -> first));
        long kept = widths.values().stream()
                .mapToLong(cols -> cols * cols * Float.BYTES)
                .sum();
        long largest = sites.stream()
                .mapToLong(
                        site -> Math.max(site.cols() * site.cols() * Double.BYTES, 3 * site.parameters() * Float.BYTES))
                .max()
                .orElse(0);
        return kept + largest;
    }
}
