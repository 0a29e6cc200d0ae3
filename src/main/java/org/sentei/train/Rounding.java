package org.sentei.train;

import java.util.List;

/**
 * How a layer with weights sees its numbers while it is trained for few bits: {@code x' = s clamp(rint(x / s), low, high)}, where
 * the gradient takes rint for the identity, so that it reaches scales too (LSQ, 1902.08153).
 *
 * @param inputBits of what the layer reads
 * @param unsigned whether that is never negative
 * @param inputScale the scale it begins with
 * @param weightBits of its weights, symmetric around 0
 * @param weightScales one for every output, to begin with
 */
public record Rounding(int inputBits, boolean unsigned, float inputScale, int weightBits, List<Float> weightScales) {
    /** Copies the scales; refuses bits outside of 2..8 and scales that are not positive. */
    public Rounding {
        weightScales = List.copyOf(weightScales);
        if (inputBits < 2 || inputBits > 8 || weightBits < 2 || weightBits > 8) {
            throw new IllegalArgumentException("bits go from 2 to 8, not " + inputBits + " and " + weightBits);
        }
        if (!(inputScale > 0 && inputScale < Float.POSITIVE_INFINITY)
                || weightScales.stream().anyMatch(scale -> !(scale > 0 && scale < Float.POSITIVE_INFINITY))) {
            throw new IllegalArgumentException("scales are positive and finite");
        }
    }

    /** Least integer of an input. */
    public int inputLow() {
        return unsigned ? 0 : -(1 << (inputBits - 1));
    }

    /** Largest integer of an input. */
    public int inputHigh() {
        return unsigned ? (1 << inputBits) - 1 : (1 << (inputBits - 1)) - 1;
    }

    /** Largest integer of a weight; the least is its opposite. */
    public int weightHigh() {
        return (1 << (weightBits - 1)) - 1;
    }
}
