package org.sentei.method.quantize;

import java.util.Arrays;
import org.sentei.model.ModelException;

/**
 * How often a value has which size: bins of one width from {@code -limit} to {@code limit}, in memory that does not grow with
 * the data. The limit is a power of two that doubles, merging pairs of bins, whenever something lies beyond, so that values
 * of one sign fill between a quarter and a half of the bins. Exact zeros, of which a Relu makes many, are counted apart.
 */
final class Histogram {
    /** At least 2048 bins hold values of one sign. */
    static final int BINS = 8192;

    private static final int HALF = BINS / 2;
    /** Weight of a new batch in the moving average, as in ONNX Runtime's quantizer. */
    private static final double MOVING = 0.01;

    private final String value;
    private final long[] counts = new long[BINS];
    private long zeros;
    private long total;
    private int exponent = Integer.MIN_VALUE;
    private double min;
    private double max;
    private double movingMin;
    private double movingMax;
    private double sum;
    private double squares;

    /** @param value what messages call it */
    Histogram(String value) {
        this.value = value;
    }

    /**
     * Counts a batch.
     *
     * @throws ModelException when a number is NaN or infinite
     */
    void add(float[] batch) {
        if (batch.length == 0) {
            return;
        }
        float least = Float.POSITIVE_INFINITY;
        float most = Float.NEGATIVE_INFINITY;
        for (float x : batch) {
            if (!Float.isFinite(x)) {
                throw new ModelException(
                        "value \"" + value + "\" is " + x
                                + " on calibration data: its scale would mean nothing; check the data, or the model for overflow");
            }
            least = Math.min(least, x);
            most = Math.max(most, x);
        }
        boolean first = total == 0;
        min = first ? least : Math.min(min, least);
        max = first ? most : Math.max(max, most);
        movingMin = first ? least : movingMin + MOVING * (least - movingMin);
        movingMax = first ? most : movingMax + MOVING * (most - movingMax);
        cover(Math.max(-least, most));
        double perUnit = exponent == Integer.MIN_VALUE ? 0 : Math.scalb(HALF, -exponent);
        for (float x : batch) {
            if (x == 0) {
                zeros++;
            } else {
                counts[Math.min(BINS - 1, HALF + (int) Math.floor(x * perUnit))]++;
                sum += x;
                squares += (double) x * x;
            }
        }
        total += batch.length;
    }

    private void cover(float magnitude) {
        if (magnitude == 0) {
            return;
        }
        int needed = Math.getExponent(magnitude) + 1;
        if (exponent == Integer.MIN_VALUE) {
            exponent = needed;
        }
        for (; exponent < needed; exponent++) {
            for (int bin = 0; bin < HALF / 2; bin++) {
                counts[HALF + bin] = counts[HALF + 2 * bin] + counts[HALF + 2 * bin + 1];
                counts[HALF - 1 - bin] = counts[HALF - 1 - 2 * bin] + counts[HALF - 2 - 2 * bin];
            }
            for (int bin = HALF / 2; bin < HALF; bin++) {
                counts[HALF + bin] = 0;
                counts[HALF - 1 - bin] = 0;
            }
        }
    }

    /** Numbers that were counted. */
    long total() {
        return total;
    }

    double min() {
        return min;
    }

    double max() {
        return max;
    }

    double movingMin() {
        return movingMin;
    }

    double movingMax() {
        return movingMax;
    }

    double mean() {
        return sum / total;
    }

    /** Mean of the squares. */
    double meanSquare() {
        return squares / total;
    }

    double width() {
        return exponent == Integer.MIN_VALUE ? 1.0 / HALF : Math.scalb(1.0, exponent) / HALF;
    }

    long zeros() {
        return zeros;
    }

    long count(int bin) {
        return counts[bin];
    }

    /** The middle of a bin. */
    double centre(int bin) {
        return (bin - HALF + 0.5) * width();
    }

    /** Counts of |x| in bins from 0 on, without exact zeros, as far as there are any. */
    long[] magnitudes() {
        long[] folded = new long[HALF];
        int last = 0;
        for (int bin = 0; bin < HALF; bin++) {
            folded[bin] = counts[HALF + bin] + counts[HALF - 1 - bin];
            last = folded[bin] > 0 ? bin : last;
        }
        return Arrays.copyOf(folded, last + 1);
    }

    /** The number that a share of all numbers does not exceed, to the width of a bin. */
    double quantile(double share) {
        double wanted = share * total;
        double seen = 0;
        for (int bin = 0; bin < BINS; bin++) {
            if (bin == HALF && zeros > 0) {
                seen += zeros;
                if (seen >= wanted) {
                    return 0;
                }
            }
            seen += counts[bin];
            if (counts[bin] > 0 && seen >= wanted) {
                return Math.clamp((bin - HALF + 1) * width(), min, max);
            }
        }
        return max;
    }

    /** Mean distance from a point. */
    double meanDeviation(double from) {
        double distance = zeros * Math.abs(from);
        for (int bin = 0; bin < BINS; bin++) {
            distance += counts[bin] * Math.abs(centre(bin) - from);
        }
        return distance / total;
    }
}
