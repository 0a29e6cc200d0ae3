package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * One step of gradient descent on what decides which weights are kept. The gradient of an element is {@code d = w g}, rounded to
 * fp32, where g is the loss's gradient by the masked weight. An element whose d, or with Adam d^2, is not finite in fp32 stays
 * as it is and is counted.
 *
 * @param weights F32 rows x cols
 * @param gradient of the loss by the masked weights, of the same shape
 * @param state the mask or the scores, of the same shape, updated
 * @param invalid I64 1x1: elements without a finite gradient, added to
 */
public record MaskStep(View weights, View gradient, View state, View invalid, Rule rule) implements Op {
    /** What a step does. */
    public sealed interface Rule {
        /**
         * Projected gradient descent on a mask in 0..1 (2410.11261): {@code m <- clip(m - rate (d + decay m), 0, 1)}.
         *
         * @param difference (m - 1) w after the step, what the mask takes from the weights; of the shape of the weights
         */
        record Soft(float rate, float decay, View difference) implements Rule {
            /** The rate must be positive and the decay not negative. */
            public Soft {
                Check.that(rate > 0 && Float.isFinite(rate), "mask_step", "the rate must be positive, not " + rate);
                Check.that(decay >= 0 && Float.isFinite(decay), "mask_step", "decay must be at least 0, not " + decay);
            }
        }

        /**
         * Adam (1412.6980) on scores whose largest are kept, the gradient of the hard mask passed straight through:
         *
         * <pre>
         *   f &lt;- beta1 f + (1 - beta1) d        v &lt;- beta2 v + (1 - beta2) d^2
         *   s &lt;- max(0, s - rate c1 f / (sqrt(c2 v) + epsilon))     with c = 1 / (1 - beta^step)
         * </pre>
         *
         * Scores stay at or above 0 because a selection takes magnitudes.
         *
         * @param numbers F32 1x4 from {@link #numbers}, read when the step runs: a prepared step runs again with others
         * @param first the moving mean f of the shape of the weights, updated
         * @param second the moving mean square v of the shape of the weights, updated
         */
        record Adam(float beta1, float beta2, View numbers, View first, View second) implements Rule {
            /** How many numbers differ from step to step. */
            public static final int NUMBERS = 4;

            /** The betas must be in 0..1, exclusive of 1. */
            public Adam {
                Check.that(
                        beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1,
                        "mask_step",
                        "betas must be at least 0 and below 1, not " + beta1 + " and " + beta2);
            }

            /**
             * What differs from step to step: the rate, the corrections c of both means, and epsilon.
             *
             * @param rate above 0
             * @param epsilon above 0
             * @param step number of the step, 1 for the first
             */
            public static float[] numbers(float rate, float beta1, float beta2, float epsilon, long step) {
                Check.that(rate > 0 && Float.isFinite(rate), "mask_step", "the rate must be positive, not " + rate);
                Check.that(
                        epsilon > 0 && Float.isFinite(epsilon),
                        "mask_step",
                        "epsilon must be positive, not " + epsilon);
                Check.that(step >= 1, "mask_step", "steps count from 1, not from " + step);
                return new float[] {rate, correction(beta1, step), correction(beta2, step), epsilon};
            }

            private static float correction(double beta, long step) {
                return (float) (1 / (1 - Math.pow(beta, (double) step)));
            }
        }
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public MaskStep {
        same("weights", weights, weights);
        same("gradient", gradient, weights);
        same("state", state, weights);
        Check.shape("mask_step", "invalid", invalid, DType.I64, 1, 1);
        List<View> written = new ArrayList<>(List.of(state, invalid));
        switch (rule) {
            case Rule.Soft soft -> {
                same("difference", soft.difference, weights);
                written.add(soft.difference);
            }
            case Rule.Adam adam -> {
                Check.shape("mask_step", "numbers", adam.numbers, DType.F32, 1, Rule.Adam.NUMBERS);
                same("first", adam.first, weights);
                same("second", adam.second, weights);
                written.add(adam.first);
                written.add(adam.second);
            }
        }
        for (int i = 0; i < written.size(); i++) {
            Check.apart("mask_step", written.get(i), weights, gradient, numbers(rule));
            Check.apart("mask_step", written.get(i), written.subList(0, i).toArray(View[]::new));
        }
    }

    /** Null where there are none. */
    private static View numbers(Rule rule) {
        return rule instanceof Rule.Adam adam ? adam.numbers : null;
    }

    private static void same(String operand, View view, View weights) {
        Check.shape("mask_step", operand, view, DType.F32, weights.rows(), weights.cols());
    }

    @Override
    public List<View> reads() {
        return switch (rule) {
            case Rule.Soft _ -> List.of(weights, gradient, state, invalid);
            case Rule.Adam adam -> List.of(weights, gradient, adam.numbers, state, invalid, adam.first, adam.second);
        };
    }

    @Override
    public List<View> writes() {
        return switch (rule) {
            case Rule.Soft soft -> List.of(state, invalid, soft.difference);
            case Rule.Adam adam -> List.of(state, invalid, adam.first, adam.second);
        };
    }

    @Override
    public long operations() {
        return weights.elements()
                * switch (rule) {
                    case Rule.Soft _ -> 8;
                    case Rule.Adam _ -> 16;
                };
    }
}
