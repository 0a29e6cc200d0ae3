package org.sentei.engine.recipe;

import java.util.List;
import org.sentei.method.easier.Entropy;
import org.sentei.method.easier.Linearization;

/**
 * The step that makes a network shallower: activations of low entropy become linear, and layers that are then next to each other
 * are merged.
 *
 * @param mode whether the network is trained in between
 * @param layers activations to make linear: exactly so many at once, or at most so many over all rounds
 * @param delta accuracy that may be lost, as a share; the loop stops at the first round that loses more
 * @param targets patterns over names of activations; empty means all
 * @param ignore patterns of activations that stay
 * @param linearise what takes an activation's place
 * @param entropy which counts decide
 * @param merge what happens to layers that become neighbours
 * @param order which activation is next
 * @param zeroEntropyAll whether a round makes all activations of entropy 0 linear, as the authors' code does
 * @param batch samples of a mini-batch
 * @param tuning how the network is trained in between
 */
public record Easier(
        Mode mode,
        int layers,
        double delta,
        List<String> targets,
        List<String> ignore,
        Linearization.Form linearise,
        Entropy.Rule entropy,
        Merging merge,
        Order order,
        boolean zeroEntropyAll,
        int batch,
        Tuning tuning) {
    /** The name in recipes and reports. */
    public static final String KEY = "easier";

    /** Whether the network is trained. */
    public enum Mode {
        /** Not at all: activations are measured once and made linear together. */
        ONE_SHOT,
        /** After every round, which makes one activation linear. */
        FINE_TUNE
    }

    /** Which activation becomes linear next. */
    public enum Order {
        /** That of the lowest entropy. */
        LOWEST,
        /** That of the highest, to see what the order is worth. */
        HIGHEST,
        /** Any, to see what the order is worth. */
        RANDOM
    }

    /** What happens to layers that become neighbours. */
    public enum Merging {
        /** Those are merged that are measured to be faster so, with exact borders. */
        AUTO,
        /**
         * As {@link #AUTO}, with the padding of neighbours moved to the first of them: the merged layer is smaller at the borders,
         * but the network computes something else there.
         */
        PAD_FIRST,
        /** They stay as they are. */
        OFF
    }

    /**
     * Training of a round, by stochastic gradient descent.
     *
     * @param epochs passes over the data in a round
     * @param learningRate at the start of a round
     * @param momentum of the descent
     * @param decay of the weights
     * @param schedule of the learning rate, begun again in every round
     * @param shift pixels that images are moved by at most
     * @param flip whether images are mirrored left to right every other time
     * @param samples images that are learned and counted, at most
     * @param valid images that are held out and decide when to stop
     */
    public record Tuning(
            int epochs,
            double learningRate,
            double momentum,
            double decay,
            Schedule schedule,
            int shift,
            boolean flip,
            int samples,
            int valid) {
        /** What a step without the keys gets. */
        public static final Tuning DEFAULT = new Tuning(3, 0.01, 0.9, 1e-4, Schedule.STEP, 2, true, 60_000, 5_000);

        /** Refuses what is out of range with a {@link RecipeException}. */
        public Tuning {
            if (!(learningRate > 0 && learningRate <= 10)) {
                throw new RecipeException(
                        "learning_rate " + learningRate + " is outside (0, 10]: give for example 0.01");
            }
            if (!(momentum >= 0 && momentum < 1)) {
                throw new RecipeException("momentum " + momentum + " is outside [0, 1): give for example 0.9");
            }
            if (!(decay >= 0 && decay <= 1)) {
                throw new RecipeException("decay " + decay + " is outside [0, 1]: give for example 0.0001");
            }
        }
    }

    /** Copies the lists; refuses what is out of range with a {@link RecipeException}. */
    public Easier {
        targets = List.copyOf(targets);
        ignore = List.copyOf(ignore);
        if (!(delta >= 0 && delta <= 1)) {
            throw new RecipeException(
                    "delta " + delta
                            + " is outside [0, 1]: give the share of accuracy that may be lost, for example 0.01 for one point");
        }
    }

    /** The same with another learning rate. */
    public Easier withLearningRate(double rate) {
        Tuning other = new Tuning(
                tuning.epochs,
                rate,
                tuning.momentum,
                tuning.decay,
                tuning.schedule,
                tuning.shift,
                tuning.flip,
                tuning.samples,
                tuning.valid);
        return new Easier(
                mode, layers, delta, targets, ignore, linearise, entropy, merge, order, zeroEntropyAll, batch, other);
    }

    /** Whether an activation may be made linear. */
    public boolean takes(String activation) {
        return (targets.isEmpty() || targets.stream().anyMatch(pattern -> Targets.matches(pattern, activation)))
                && ignore.stream().noneMatch(pattern -> Targets.matches(pattern, activation));
    }
}
