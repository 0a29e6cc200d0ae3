package org.sentei.method.quantize;

import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;

/**
 * What is known of a value's channels without data: behind a batch normalization channel c is distributed like a Gaussian of
 * mean beta and deviation |gamma| (arXiv 1906.04721, section 4.2).
 */
final class Gaussians {
    private final double[] means;
    private final double[] deviations;

    Gaussians(int channels, IntToDoubleFunction mean, IntToDoubleFunction deviation) {
        this.means = IntStream.range(0, channels).mapToDouble(mean).toArray();
        this.deviations = IntStream.range(0, channels).mapToDouble(deviation).toArray();
    }

    int channels() {
        return means.length;
    }

    double mean(int channel) {
        return means[channel];
    }

    double deviation(int channel) {
        return deviations[channel];
    }

    /** Of {@code a x + d}. */
    Gaussians affine(IntToDoubleFunction a, IntToDoubleFunction d) {
        return new Gaussians(
                channels(),
                c -> a.applyAsDouble(c) * means[c] + d.applyAsDouble(c),
                c -> Math.abs(a.applyAsDouble(c)) * deviations[c]);
    }

    /** The mean of {@code min(max(x, low), high)}, as in AIMET's analytic bias correction. */
    double clippedMean(int channel, double low, double high) {
        double mean = means[channel];
        double deviation = deviations[channel];
        if (deviation == 0) {
            return Math.clamp(mean, low, high);
        }
        double from = (low - mean) / deviation;
        double to = (high - mean) / deviation;
        double below = low == Double.NEGATIVE_INFINITY ? 0 : low * Normal.cumulative(from);
        double above = high == Double.POSITIVE_INFINITY ? 0 : high * Normal.cumulative(-to);
        return deviation * (Normal.density(from) - Normal.density(to))
                + mean * (Normal.cumulative(to) - Normal.cumulative(from))
                + below
                + above;
    }
}
