package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.Masking;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Carries edits out on a device, and completes them to what a model's configuration can express. */
final class Edits {
    private Edits() {}

    /** The edited layer on the device; what is new of it belongs to {@code scope}. */
    static LinearWeights apply(Edit edit, LinearWeights dense, Scope scope) {
        return new LinearWeights(edit.site(), weight(edit, dense, scope), bias(edit, dense, scope));
    }

    /**
     * As {@link #apply}, in the place of the dense weight, which is lost: no second copy of it is needed. What is new
     * besides belongs to {@code scope}.
     */
    static LinearWeights replace(Edit edit, LinearWeights dense, Scope scope) {
        if (edit.weight() == null) {
            Masking.prune(scope, dense.weight(), edit.pruned());
        } else {
            scope.backend().copyIn(edit.weight().data(), dense.weight());
        }
        return new LinearWeights(edit.site(), dense.weight(), bias(edit, dense, scope));
    }

    private static View bias(Edit edit, LinearWeights dense, Scope scope) {
        if (edit.bias() == null) {
            return dense.bias();
        }
        View bias = scope.matrix(1, edit.site().rows());
        scope.backend().copyIn(edit.bias().data(), bias);
        return bias;
    }

    private static View weight(Edit edit, LinearWeights dense, Scope scope) {
        if (edit.weight() == null) {
            return Masking.pruned(scope, dense.weight(), edit.pruned());
        }
        View weight = scope.matrix(edit.site().rows(), edit.site().cols());
        scope.backend().copyIn(edit.weight().data(), weight);
        return weight;
    }

    /** The name that a site's bias has, or gets, in the file. */
    static String biasName(Site site) {
        return site.bias() == null ? site.name() + ".bias" : site.bias();
    }

    /** A bias under the name that it has, or gets, in the file. */
    static Tensor bias(Site site, float[] values) {
        return new Tensor(biasName(site), DType.F32, Shape.of(values.length), MemorySegment.ofArray(values));
    }

    /** Edits that a configuration can express, and the configuration keys that become true for them. */
    record Completed(List<Edit> edits, Set<String> flags) {}

    /**
     * A configuration key gives all its sites a bias or none: when one site gets a bias, the others get one of zeros.
     *
     * @param sites all sites of the model
     * @param flag the key that gives a site its bias; empty for sites whose bias no key decides
     */
    static Completed complete(List<Edit> edits, List<Site> sites, Function<Site, Optional<String>> flag) {
        Set<String> flags = edits.stream()
                .filter(edit -> edit.bias() != null && edit.site().bias() == null)
                .flatMap(edit -> flag.apply(edit.site()).stream())
                .collect(Collectors.toCollection(TreeSet::new));
        List<Edit> completed = new ArrayList<>();
        Set<Site> edited = new HashSet<>();
        for (Edit edit : edits) {
            edited.add(edit.site());
            completed.add(edit.bias() == null && lacks(edit.site(), flags, flag) ? withZeroBias(edit) : edit);
        }
        for (Site site : sites) {
            if (!edited.contains(site) && lacks(site, flags, flag)) {
                completed.add(withZeroBias(new Edit(site, BitMask.none(site.rows(), site.cols()), null)));
            }
        }
        return new Completed(completed, flags);
    }

    private static boolean lacks(Site site, Set<String> flags, Function<Site, Optional<String>> flag) {
        return site.bias() == null && flag.apply(site).filter(flags::contains).isPresent();
    }

    private static Edit withZeroBias(Edit edit) {
        float[] zeros = new float[Math.toIntExact(edit.site().rows())];
        return edit.withBias(bias(edit.site(), zeros));
    }
}
