package org.sentei.model;

import java.util.Collection;
import java.util.EnumMap;
import java.util.Map;

/**
 * One block's weights on the device, owned by the scope they were loaded into.
 *
 * @param index which block
 * @param queryNorm null for models that do not normalize heads
 * @param keyNorm null for models that do not normalize heads
 */
public record BlockWeights(
        int index,
        Map<Site.Role, LinearWeights> linears,
        NormWeights attentionNorm,
        NormWeights queryNorm,
        NormWeights keyNorm,
        NormWeights feedForwardNorm) {

    /** Copies the map. */
    public BlockWeights {
        linears = new EnumMap<>(linears);
    }

    /** The layer of this role, or null when the block has none. */
    public LinearWeights linear(Site.Role role) {
        return linears.get(role);
    }

    /** The same block with other weights or another bias at some sites. */
    public BlockWeights with(Collection<LinearWeights> edited) {
        Map<Site.Role, LinearWeights> changed = new EnumMap<>(linears);
        for (LinearWeights linear : edited) {
            LinearWeights old = linears.get(linear.site().role());
            if (old == null || !old.site().equals(linear.site())) {
                throw new IllegalArgumentException("site " + linear.site().name() + " is not in block " + index);
            }
            changed.put(linear.site().role(), linear);
        }
        return new BlockWeights(index, changed, attentionNorm, queryNorm, keyNorm, feedForwardNorm);
    }
}
