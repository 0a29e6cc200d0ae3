package org.sentei.method.quantize;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.data.Offset.offset;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.sentei.model.ModelException;

/** Histograms that stream, and the ranges that are found on them. */
class RangesTest {
    @Test
    void aHistogramCountsEverythingWhileItsRangeDoubles() {
        Histogram histogram = new Histogram("v");
        Random random = new Random(3);
        long negative = 0;
        for (int batch = 0; batch < 40; batch++) {
            float[] values = new float[1000];
            for (int i = 0; i < values.length; i++) {
                values[i] = i % 10 == 0 ? 0 : (float) (random.nextGaussian() * Math.pow(1.3, batch));
                negative += values[i] < 0 ? 1 : 0;
            }
            histogram.add(values);
        }
        long counted = 0;
        long below = 0;
        for (int bin = 0; bin < Histogram.BINS; bin++) {
            counted += histogram.count(bin);
            below += histogram.centre(bin) < 0 ? histogram.count(bin) : 0;
        }
        assertThat(counted).isEqualTo(40 * 900);
        assertThat(histogram.zeros()).isEqualTo(40 * 100);
        assertThat(below).isEqualTo(negative);
        assertThat(histogram.width() * Histogram.BINS / 2).isGreaterThanOrEqualTo(histogram.max());
        // at least 2048 bins for values of one sign
        assertThat(Math.max(histogram.max(), -histogram.min()) / histogram.width())
                .isGreaterThan(2048);
    }

    @Test
    void aHistogramOfPartsIsThatOfTheWhole() {
        float[] values = laplace(10_000, 4);
        Histogram whole = new Histogram("v");
        whole.add(values);
        Histogram parts = new Histogram("v");
        for (int i = 0; i < values.length; i += 100) {
            parts.add(Arrays.copyOfRange(values, i, i + 100));
        }
        for (int bin = 0; bin < Histogram.BINS; bin++) {
            assertThat(parts.count(bin)).isEqualTo(whole.count(bin));
        }
        assertThat(parts.max()).isEqualTo(whole.max());
    }

    @Test
    void numbersThatAreNotFiniteAreAnErrorWithTheValuesName() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
            assertThatThrownBy(() -> new Histogram("conv3").add(new float[] {1, bad}))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("conv3")
                    .hasMessageContaining("calibration data");
        }
    }

    @Test
    void quantilesAreThoseOfTheSortedNumbers() {
        float[] values = laplace(20_000, 9);
        Histogram histogram = new Histogram("v");
        histogram.add(values);
        Arrays.sort(values);
        for (double share : new double[] {0.001, 0.1, 0.5, 0.9, 0.999}) {
            int rank = (int) (share * values.length);
            assertThat(histogram.quantile(share))
                    .isBetween(values[rank - 1] - histogram.width(), values[rank] + histogram.width());
        }
    }

    @Test
    void clippingOfLaplaceAndGaussIsThatOfThePaper() {
        assertThat(Ranges.laplaceClip(2)).isEqualTo(2.83, offset(0.005));
        assertThat(Ranges.laplaceClip(3)).isEqualTo(3.90, offset(0.005));
        assertThat(Ranges.laplaceClip(4)).isEqualTo(5.03, offset(0.005));
        assertThat(Ranges.laplaceClip(8)).isEqualTo(9.897, offset(0.0005));
        assertThat(Ranges.gaussClip(2)).isEqualTo(1.71, offset(0.005));
        assertThat(Ranges.gaussClip(4)).isEqualTo(2.559, offset(0.0005));
        assertThat(Ranges.gaussClip(8)).isEqualTo(3.924, offset(0.0005));
    }

    @Test
    void theNormalDistributionIsExactEnough() {
        assertThat(Normal.cumulative(0)).isEqualTo(0.5);
        assertThat(Normal.cumulative(1.96)).isEqualTo(0.9750021048517795, offset(1e-14));
        assertThat(Normal.cumulative(-5)).isEqualTo(2.866515718791939e-7, offset(1e-19));
        assertThat(Normal.cumulative(-3.0001) - Normal.cumulative(-2.9999)).isLessThan(0);
        assertThat(Normal.cumulative(-50)).isZero();
    }

    @Test
    void outliersAreCutOffByEveryRuleButTheExtremes() {
        float[] values = laplace(200_000, 1);
        values[7] = 60;
        values[8] = -60;
        Histogram histogram = new Histogram("v");
        histogram.add(values);
        assertThat(Ranges.of(histogram, Quantization.ActivationRange.MINMAX, 99.99)
                        .max())
                .isEqualTo(60);
        for (Quantization.ActivationRange rule : Quantization.ActivationRange.values()) {
            Ranges.Range range = Ranges.of(histogram, rule, 99.99);
            if (rule != Quantization.ActivationRange.MINMAX && rule != Quantization.ActivationRange.MOVING) {
                // two outliers in 200,000 still weigh something in squares
                double most = rule == Quantization.ActivationRange.MSE ? 45 : 20;
                assertThat(range.max()).as(rule.name()).isBetween(6.0, most);
                assertThat(range.min()).as(rule.name()).isBetween(-most, -6.0);
            }
        }
        assertThat(Ranges.of(histogram, Quantization.ActivationRange.ACIQ, 99.99)
                        .max())
                .isEqualTo(9.9, offset(0.3));
    }

    @Test
    void theFastSearchOfDivergencesFindsWhatTheDefinitionDoes() {
        Random random = new Random(8);
        for (int trial = 0; trial < 12; trial++) {
            int levels = trial % 2 == 0 ? 128 : 16;
            long[] counts = new long[300 + 40 * trial];
            for (int i = 0; i < counts.length; i++) {
                double decay = Math.exp(-i / (20.0 + 10 * trial));
                counts[i] = random.nextInt(8) == 0 ? 0 : (long) (1e5 * decay * random.nextDouble());
            }
            counts[counts.length - 1] = 3;
            int fast = Ranges.klThreshold(counts, levels);
            double least = Double.POSITIVE_INFINITY;
            for (int kept = levels; kept <= counts.length; kept++) {
                least = Math.min(least, divergence(counts, kept, levels));
            }
            assertThat(divergence(counts, fast, levels)).isEqualTo(least, offset(1e-9));
        }
    }

    /** As the definition has it, array by array. */
    private static double divergence(long[] counts, int kept, int levels) {
        double[] p = new double[kept];
        double total = 0;
        for (int i = 0; i < counts.length; i++) {
            p[Math.min(i, kept - 1)] += counts[i];
            total += counts[i];
        }
        double[] q = new double[kept];
        double mass = 0;
        for (int level = 0; level < levels; level++) {
            int from = (int) ((long) level * kept / levels);
            int to = (int) ((long) (level + 1) * kept / levels);
            double held = 0;
            int used = 0;
            for (int i = from; i < to; i++) {
                held += counts[i];
                used += counts[i] > 0 ? 1 : 0;
            }
            for (int i = from; i < to; i++) {
                q[i] = counts[i] > 0 ? held / used : 0;
            }
            mass += held;
        }
        double divergence = 0;
        for (int i = 0; i < kept; i++) {
            if (p[i] > 0) {
                divergence +=
                        q[i] == 0 ? Double.POSITIVE_INFINITY : p[i] / total * Math.log(p[i] / total / (q[i] / mass));
            }
        }
        return divergence;
    }

    private static float[] laplace(int count, long seed) {
        Random random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            double u = random.nextDouble() - 0.5;
            values[i] = (float) (-Math.signum(u) * Math.log(1 - 2 * Math.abs(u)));
        }
        return values;
    }
}
