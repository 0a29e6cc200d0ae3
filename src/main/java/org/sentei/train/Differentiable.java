package org.sentei.train;

import java.util.List;
import org.sentei.model.GraphNetwork;

/**
 * A network with the examples it is trained on. Parameters come with every call, each packed row by row, in the order of the
 * network's {@code parameters()}.
 *
 * <p>Belongs to the thread that made it. Closing frees its memory.
 */
public interface Differentiable extends AutoCloseable {
    /** The network. */
    GraphNetwork network();

    /**
     * The mean cross-entropy of some examples.
     *
     * @param parameters one array each
     * @param chosen examples, by index
     * @param dropped what is left out of this step
     * @param gradients as the parameters, each set to the loss's gradient by it
     * @return the loss; NaN or infinite when the network has diverged
     */
    double loss(List<float[]> parameters, int[] chosen, Dropout dropped, List<float[]> gradients);

    /** Scores of some examples, examples x classes packed row by row. */
    float[] scores(List<float[]> parameters, int[] chosen);

    @Override
    void close();

    /**
     * Inputs of a layer that a training step sets to zero, the others scaled up.
     *
     * @param share of the inputs, 0 for none
     * @param seed of this step
     */
    record Dropout(double share, long seed) {
        /** Nothing. */
        public static final Dropout NONE = new Dropout(0, 0);

        /** Refuses shares outside of 0..1 (exclusive of 1). */
        public Dropout {
            if (!(share >= 0 && share < 1)) {
                throw new IllegalArgumentException("a share of inputs lies in 0..1, not " + share);
            }
        }
    }
}
