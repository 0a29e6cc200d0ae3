package org.sentei.method.quantize;

import java.util.function.DoubleUnaryOperator;

/** Which range of an activation gets the 256 numbers. */
final class Ranges {
    private static final int BITS = 8;
    /** Ranges that the search for the least squared error tries. */
    private static final int CANDIDATES = 100;
    /** Mean deviation over standard deviation: {@code 1/sqrt(2)} for Laplace, {@code sqrt(2/pi)} for Gauss. */
    private static final double BETWEEN = (Math.sqrt(0.5) + Math.sqrt(2 / Math.PI)) / 2;

    private Ranges() {}

    /** A range. */
    record Range(double min, double max) {
        /** What of it lies in another, or 0. */
        Range within(Range other) {
            double from = Math.min(0, Math.max(min, other.min));
            double to = Math.max(0, Math.min(max, other.max));
            return new Range(from, to);
        }

        Range hull(Range other) {
            return new Range(Math.min(min, other.min), Math.max(max, other.max));
        }
    }

    /**
     * The range that a rule takes from what was seen.
     *
     * @param percent for {@link Quantization.ActivationRange#PERCENTILE}
     */
    static Range of(Histogram seen, Quantization.ActivationRange rule, double percent) {
        Range all = new Range(Math.min(0, seen.min()), Math.max(0, seen.max()));
        return switch (rule) {
            case MINMAX -> all;
            case MOVING -> new Range(Math.min(0, seen.movingMin()), Math.max(0, seen.movingMax()));
            case PERCENTILE -> percentile(seen, all, percent);
            case KL -> clipped(all, klThreshold(seen.magnitudes(), all.min() < 0 ? 128 : 256) * seen.width());
            case MSE -> leastSquares(seen, all);
            case ACIQ -> aciq(seen, all);
        };
    }

    private static Range clipped(Range all, double threshold) {
        return all.within(new Range(-threshold, threshold));
    }

    /** The same share is cut off, on one side of values of one sign, else half of it on either. */
    private static Range percentile(Histogram seen, Range all, double percent) {
        double cut = 1 - percent / 100;
        if (all.min() == 0) {
            return new Range(0, Math.max(0, seen.quantile(1 - cut)));
        }
        if (all.max() == 0) {
            return new Range(Math.min(0, seen.quantile(cut)), 0);
        }
        return new Range(Math.min(0, seen.quantile(cut / 2)), Math.max(0, seen.quantile(1 - cut / 2)));
    }

    /**
     * How many bins of magnitudes to keep, so that the kept and clipped distribution P and its version Q of a few levels differ
     * least, {@code sum P log(P/Q)} (Migacz, GTC 2017, S7310). P has what is beyond in its last bin; Q has it not, and spreads
     * each level evenly over its bins that are not empty. With prefix sums of the counts, of the bins that are not empty
     * and of {@code n log n} a candidate costs as much as there are levels. Ties go to the wider range.
     */
    static int klThreshold(long[] counts, int levels) {
        int bins = counts.length;
        if (bins <= levels) {
            return bins;
        }
        long[] mass = new long[bins + 1];
        int[] used = new int[bins + 1];
        double[] entropy = new double[bins + 1];
        for (int i = 0; i < bins; i++) {
            mass[i + 1] = mass[i] + counts[i];
            used[i + 1] = used[i] + (counts[i] > 0 ? 1 : 0);
            entropy[i + 1] = entropy[i] + xlogx((double) counts[i]);
        }
        double total = (double) mass[bins];
        int best = bins;
        double least = Double.POSITIVE_INFINITY;
        for (int kept = levels; kept <= bins; kept++) {
            long tail = mass[bins] - mass[kept];
            if (mass[kept] == 0 || (tail > 0 && counts[kept - 1] == 0)) {
                continue;
            }
            double last = (double) counts[kept - 1];
            double sum = entropy[kept] - xlogx(last) + xlogx(last + tail) - total * Math.log(total);
            double cross = 0;
            for (int level = 0; level < levels; level++) {
                int from = (int) ((long) level * kept / levels);
                int to = (int) ((long) (level + 1) * kept / levels);
                double held = (double) (mass[to] - mass[from]);
                if (held > 0) {
                    double here = held + (to == kept ? tail : 0);
                    cross += here * Math.log(held / (used[to] - used[from]));
                }
            }
            double divergence = (sum - cross) / total + Math.log((double) mass[kept]);
            if (divergence <= least) {
                least = divergence;
                best = kept;
            }
        }
        return best;
    }

    private static double xlogx(double x) {
        return x == 0 ? 0 : x * Math.log(x);
    }

    /** The share of the full range, in steps of one percent, that makes the least squared error on the histogram. */
    private static Range leastSquares(Histogram seen, Range all) {
        Range best = all;
        double least = Double.POSITIVE_INFINITY;
        for (int step = CANDIDATES; step >= 1; step--) {
            double share = (double) step / CANDIDATES;
            Range candidate = new Range(all.min() * share, all.max() * share);
            Quantizer quantizer = Quantizer.affine(candidate.min(), candidate.max());
            double error = 0;
            for (int bin = 0; bin < Histogram.BINS; bin++) {
                if (seen.count(bin) > 0) {
                    double x = seen.centre(bin);
                    double off = quantizer.round(x) - x;
                    error += seen.count(bin) * off * off;
                }
            }
            if (error < least) {
                least = error;
                best = candidate;
            }
        }
        return best;
    }

    /**
     * Analytic clipping (Banner et al., arXiv 1810.05723): the distribution, Laplace or Gauss, whose ratio of mean and standard
     * deviation is nearer. Values of one sign are half of a distribution around 0 and have one bit more.
     */
    private static Range aciq(Histogram seen, Range all) {
        boolean half = all.min() == 0 || all.max() == 0;
        double centre = half ? 0 : seen.mean();
        double laplace = seen.meanDeviation(centre);
        double gauss = Math.sqrt(Math.max(0, seen.meanSquare() - (half ? 0 : centre * centre)));
        if (gauss == 0) {
            return all;
        }
        int bits = half ? BITS + 1 : BITS;
        double threshold = laplace / gauss < BETWEEN ? laplace * laplaceClip(bits) : gauss * gaussClip(bits);
        return all.within(new Range(centre - threshold, centre + threshold));
    }

    /** Least {@code 2 exp(-a) + a^2 / (3 4^M)}, in units of b. */
    static double laplaceClip(int bits) {
        double step = 2 / (3 * Math.pow(4, bits));
        return root(a -> step * a - 2 * Math.exp(-a));
    }

    /** Least {@code 2 (1 + a^2) (1 - Phi(a)) - 2 a phi(a) + a^2 / (3 4^M)}, in units of sigma. */
    static double gaussClip(int bits) {
        double step = 2 / (3 * Math.pow(4, bits));
        return root(a -> step * a - 4 * (Normal.density(a) - a * Normal.cumulative(-a)));
    }

    /** Where an increasing function between 0 and 64 changes its sign. */
    private static double root(DoubleUnaryOperator function) {
        double low = 0;
        double high = 64;
        for (int i = 0; i < 100; i++) {
            double middle = (low + high) / 2;
            if (function.applyAsDouble(middle) < 0) {
                low = middle;
            } else {
                high = middle;
            }
        }
        return high;
    }
}
