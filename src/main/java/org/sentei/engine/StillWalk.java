package org.sentei.engine;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.kernel.Scope;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;

/** Visits the sites block by block without any data: all that magnitude pruning needs. */
final class StillWalk implements Walk {
    private final List<List<Site>> groups;
    private final Iterator<List<Site>> remaining;
    private final TensorSource tensors;
    private final Scope scope;

    StillWalk(List<Site> sites, TensorSource tensors, Scope scope) {
        this.groups = byBlock(sites);
        this.remaining = groups.iterator();
        this.tensors = tensors;
        this.scope = scope;
    }

    /** Sites of one block stand together, in the order in which the blocks first occur. */
    static List<List<Site>> byBlock(List<Site> sites) {
        Map<Integer, List<Site>> blocks = new LinkedHashMap<>();
        for (Site site : sites) {
            blocks.computeIfAbsent(site.block(), _ -> new ArrayList<>()).add(site);
        }
        return List.copyOf(blocks.values());
    }

    @Override
    public int groups() {
        return groups.size();
    }

    @Override
    public Optional<Group> next() {
        return remaining.hasNext() ? Optional.of(new GroupWeights(remaining.next(), tensors, scope)) : Optional.empty();
    }

    @Override
    public void close() {}
}
