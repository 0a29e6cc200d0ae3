package org.sentei.method.quantize;

import java.util.List;

/**
 * What a quantization does, pass by pass; {@link Quantize} runs it in the order of the components.
 *
 * @param keep which passes stay when they were judged
 * @param fold folds batch normalizations and constants into weights
 * @param relu6 takes away the upper bounds of activations
 * @param equalize equalizes the ranges of successive layers
 * @param absorb moves high biases into the next layer; needs what folding learns
 * @param smooth where channels of activations get like ranges; takes weights with a scale an output
 * @param weights which weights share a scale
 * @param weightRange how a weight's scale is found
 * @param weightCorrection restores mean and spread of rounded weights; not for layers with zeros
 * @param activations numbers that activations become
 * @param activationRange how an activation's range is found
 * @param percentile percent of the numbers that a range by percentile holds, of weights and activations
 * @param unify which operators' inputs share one scale
 * @param biasCorrection how the mean error of a layer's outputs is taken out of its bias
 * @param firstInFloat whether the first layer with weights stays as it is
 * @param lastInFloat whether the last one does
 * @param form how the file says it
 */
public record Quantization(
        Keep keep,
        boolean fold,
        boolean relu6,
        boolean equalize,
        boolean absorb,
        Smooth smooth,
        Weights weights,
        WeightRange weightRange,
        boolean weightCorrection,
        ActivationKind activations,
        ActivationRange activationRange,
        double percentile,
        List<Unify> unify,
        BiasCorrection biasCorrection,
        boolean firstInFloat,
        boolean lastInFloat,
        Form form) {

    /** Copies the list; an {@link IllegalArgumentException} names what is out of range. */
    public Quantization {
        unify = List.copyOf(unify);
        if (!(percentile > 50 && percentile <= 100)) {
            throw new IllegalArgumentException("percentile " + percentile + " is outside (50, 100]: for example 99.99");
        }
        if (form == Form.TENSORRT && activations != ActivationKind.SYMMETRIC) {
            throw new IllegalArgumentException(
                    "format tensorrt needs activations: symmetric, for TensorRT takes no zero"
                            + " point but 0; write both");
        }
    }

    /** The recommended order of passes and their settings. */
    public static final Quantization RECOMMENDED = new Quantization(
            Keep.HELPFUL,
            true,
            true,
            true,
            true,
            Smooth.FOLDED,
            Weights.CHANNEL,
            WeightRange.MAX,
            false,
            ActivationKind.AFFINE,
            ActivationRange.MINMAX,
            99.99,
            List.of(Unify.CONCAT),
            BiasCorrection.EMPIRICAL,
            false,
            false,
            Form.QDQ);

    /** Which passes stay. */
    public enum Keep {
        /**
         * Those that do not lower the outputs' signal to noise on held-out samples: taking bounds away and equalizing together,
         * absorbing, smoothing. A correction of biases stays: it takes away what all samples have in common, which weighs more in
         * predictions than in that figure.
         */
        HELPFUL,
        /** All that are asked for. */
        ALL
    }

    /** Where channels of activations are divided by what evens their ranges. */
    public enum Smooth {
        /** Nowhere. */
        OFF,
        /** Where weights or constants take the division. */
        FOLDED,
        /** There, and everywhere else by a product of its own, which costs time. */
        INSERTED
    }

    /** Which weights share a scale. */
    public enum Weights {
        /** Those of an output channel. */
        CHANNEL,
        /** All of a layer. */
        TENSOR
    }

    /** How a weight's scale is found. */
    public enum WeightRange {
        /** The largest magnitude. */
        MAX,
        /** The magnitude, in steps of one percent, that makes the least squared error. */
        MSE,
        /** The magnitude that a percentage of the weights does not exceed. */
        PERCENTILE
    }

    /** Numbers that activations become. */
    public enum ActivationKind {
        /** Unsigned bytes with a zero point. */
        AFFINE,
        /** Signed bytes around zero. */
        SYMMETRIC
    }

    /** How an activation's range is found. */
    public enum ActivationRange {
        /** All that was seen. */
        MINMAX,
        /** Extremes of batches, averaged. */
        MOVING,
        /** A percentage of what was seen. */
        PERCENTILE,
        /** Least divergence of the distributions. */
        KL,
        /** Least squared error. */
        MSE,
        /** Least expected squared error under the distribution that fits. */
        ACIQ
    }

    /** Operators whose inputs can share one scale. */
    public enum Unify {
        /** Sums. */
        ADD,
        /** Values side by side, which then need no rescaling. */
        CONCAT
    }

    /** How the mean error of outputs is corrected. */
    public enum BiasCorrection {
        /** Not at all. */
        OFF,
        /** By the inputs' means that batch normalizations imply. */
        ANALYTIC,
        /** By the means on calibration data, layer after layer. */
        EMPIRICAL
    }

    /** How the file says it. */
    public enum Form {
        /** QuantizeLinear and DequantizeLinear around float operators; weights and biases as integers. */
        QDQ,
        /** The same as TensorRT takes it: signed, zero points 0, biases in float. */
        TENSORRT,
        /** Convolutions as QLinearConv, everything else as QDQ. */
        QLINEAR
    }
}
