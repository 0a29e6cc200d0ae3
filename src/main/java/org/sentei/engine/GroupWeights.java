package org.sentei.engine;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.kernel.Scope;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.Uploads;

/** A group whose weights are loaded when they are first asked for; on its own it has no data to observe. */
class GroupWeights implements Walk.Group {
    private final List<Site> sites;
    private final TensorSource tensors;
    private final Map<Site, LinearWeights> loaded = new HashMap<>();
    private final Uploads uploads;
    private final Scope scope;

    /** @param uploads of some of the sites' tensors; closed with the group */
    GroupWeights(List<Site> sites, TensorSource tensors, Uploads uploads, Scope parent) {
        this.sites = sites;
        this.tensors = tensors;
        this.uploads = uploads;
        this.scope = parent.child();
    }

    @Override
    public List<Site> sites() {
        return sites;
    }

    @Override
    public LinearWeights weights(Site site) {
        return loaded.computeIfAbsent(site, wanted -> LinearWeights.load(wanted, tensors, uploads, scope));
    }

    Scope scope() {
        return scope;
    }

    @Override
    public void observe(Walk.InputObserver observer) {
        throw new IllegalStateException("there is no calibration data");
    }

    @Override
    public void commit(List<Edit> edits) {}

    @Override
    public void close() {
        try (scope) {
            uploads.close();
        }
    }
}
