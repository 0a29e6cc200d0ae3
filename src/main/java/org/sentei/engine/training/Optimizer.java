package org.sentei.engine.training;

import java.util.List;

/** Moves numbers against their gradients; a step is deterministic, and what it remembers can be kept. */
interface Optimizer {
    /** What it remembers, to be kept and filled again. */
    List<float[]> moments();

    /**
     * Moves the values against their gradients.
     *
     * @param done steps before this one
     */
    void step(int done, List<float[]> values, List<float[]> gradients, double rate);
}
