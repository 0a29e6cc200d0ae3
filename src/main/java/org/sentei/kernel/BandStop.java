package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * Weights from latent ones that a band-stop filter lets through, and how they change with them (2305.19343): small latent
 * weights are held back, large ones pass,
 *
 * <pre>
 *   w = gain v psi(v)        slope = gain d(v psi(v))/dv
 * </pre>
 *
 * with psi even, in 0..1 and growing with |v|. An infinite latent passes as it is, with the slope {@code gain}.
 *
 * @param latents F32 rows x cols, v
 * @param weights F32 rows x cols, w
 * @param slope F32 rows x cols, or null for the weights alone
 * @param form the filter
 * @param sharpness sigma, positive: the larger, the nearer the filter is to a step
 * @param gain positive, the weights' scale
 */
public record BandStop(View latents, View weights, View slope, Form form, float sharpness, float gain) implements Op {
    /** A shape of the filter. */
    public sealed interface Form {
        /**
         * {@code psi = 1 / (1 + exp(-sharpness (v^2 - threshold^2)))}: one half at the threshold whatever the sharpness, a step
         * there in the limit.
         *
         * @param threshold at least 0, finite
         */
        record Sigmoid(float threshold) implements Form {
            /** Checks the range. */
            public Sigmoid {
                Check.that(
                        threshold >= 0 && Float.isFinite(threshold),
                        "band_stop",
                        "the threshold must be at least 0, not " + threshold);
            }
        }

        /** {@code psi = tanh(sharpness v^2 / 2)}, which has no threshold. */
        record Tanh() implements Form {}
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public BandStop {
        Check.dtype("band_stop", "latents", latents, DType.F32);
        Check.shape("band_stop", "weights", weights, DType.F32, latents.rows(), latents.cols());
        Check.apart("band_stop", weights, latents);
        if (slope != null) {
            Check.shape("band_stop", "slope", slope, DType.F32, latents.rows(), latents.cols());
            Check.apart("band_stop", slope, latents, weights);
        }
        Check.that(
                sharpness > 0 && Float.isFinite(sharpness),
                "band_stop",
                "the sharpness must be positive, not " + sharpness);
        Check.that(gain > 0 && Float.isFinite(gain), "band_stop", "the gain must be positive, not " + gain);
    }

    /** The square of the threshold, rounded once; 0 for a form without. */
    public float squaredThreshold() {
        return switch (form) {
            case Form.Sigmoid(float threshold) -> threshold * threshold;
            case Form.Tanh() -> 0;
        };
    }

    @Override
    public List<View> reads() {
        return List.of(latents);
    }

    @Override
    public List<View> writes() {
        return slope == null ? List.of(weights) : List.of(weights, slope);
    }

    @Override
    public long operations() {
        return (slope == null ? 12 : 18) * latents.elements();
    }
}
