package org.sentei.model;

import org.sentei.kernel.View;

/** Sees what linear layers read, while it is on the device. */
@FunctionalInterface
public interface LinearObserver {
    /** Looks at nothing. */
    LinearObserver NONE = (linear, input) -> {};

    /**
     * A linear layer is about to run. Layers whose sites have equal {@link Site#input()} see the very same view.
     *
     * @param input F32 tokens x site.cols(), valid during the call; ops may read it but not write
     */
    void linear(LinearWeights linear, View input);

    /**
     * Another batch of those that pass through together begins.
     *
     * @param index counted from 0
     */
    default void batch(int index) {}
}
