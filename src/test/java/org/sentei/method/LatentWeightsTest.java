package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.kernel.SoftHistogram.Mass;
import org.sentei.tensor.BitMask;

/** Latent weights against toy values computed by hand in fp64, finite differences and distributions with known shares. */
class LatentWeightsTest {
    private static final Bins TOY = new Bins(-1, 1, 3, 1);
    private static final double[] QUARTERS = {0.25, 0.5, 0.25};
    private static final float[] FOUR = {-1, 0, 0.5f, 1};

    @Test
    void theDistanceOfAFilterFromItsBudgetFallsAgainstTheGradient() {
        float[] values = {-1.5f, -0.2f, 0, 0.5f, 0.75f, 2};
        double sharpness = 4;
        float[] gradient = new float[values.length];
        double distance = LatentWeights.distance(values, sharpness, 0.25, 3, gradient);
        double mean = 0;
        for (float value : values) {
            mean += Math.tanh(sharpness * value * value / 2) / values.length;
        }
        assertThat(distance).isCloseTo((mean - 0.25) * (mean - 0.25), within(1e-12));
        for (int i = 0; i < values.length; i++) {
            float[] more = values.clone();
            float[] less = values.clone();
            more[i] += 1f / 1024;
            less[i] -= 1f / 1024;
            double difference = LatentWeights.distance(more, sharpness, 0.25, 1, new float[values.length])
                    - LatentWeights.distance(less, sharpness, 0.25, 1, new float[values.length]);
            assertThat(gradient[i]).isCloseTo((float) (3 * 512 * difference), within(1e-5f));
        }
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void divergenceAndGradientOfTheToyAreThePapers(String name) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            LatentWeights latents = latents(scope, FOUR);
            float[] gradient = new float[4];
            LatentWeights.Alignment alignment = latents.align(TOY, Mass.BUMPS, QUARTERS, 1, gradient);
            boolean exact = name.equals("reference");
            assertThat(alignment.divergence()).isCloseTo(0.0273281237, within(exact ? 1e-9 : 1e-6));
            double[] expected = {-0.0239585130, 0.0444202179, 0.0717150811, 0.0283816178};
            for (int i = 0; i < 4; i++) {
                // Gradients are fp32.
                assertThat((double) gradient[i]).isCloseTo(expected[i], within(exact ? 5e-9 : 1e-6));
            }
            assertThat(alignment.outside()).isZero();
        }
    }

    @ParameterizedTest
    @EnumSource(Mass.class)
    void gradientsAgreeWithDifferences(Mass kind) {
        try (Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend)) {
            SplittableRandom random = new SplittableRandom(3);
            float[] values = new float[12];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) random.nextDouble(-1.3, 1.3);
            }
            LatentWeights latents = latents(scope, values);
            float[] gradient = new float[values.length];
            latents.align(TOY, kind, QUARTERS, 1, gradient);
            float step = 1f / 256;
            for (int i = 0; i < values.length; i++) {
                float center = values[i];
                values[i] = center + step;
                double above = divergence(latents, values, kind);
                values[i] = center - step;
                double below = divergence(latents, values, kind);
                double span = (double) (center + step) - (center - step);
                values[i] = center;
                assertThat((above - below) / span).isCloseTo(gradient[i], within(2e-5));
            }
        }
    }

    private static double divergence(LatentWeights latents, float[] values, Mass kind) {
        latents.set(values);
        return latents.align(TOY, kind, QUARTERS, 1, new float[values.length]).divergence();
    }

    @ParameterizedTest
    @CsvSource({"0.5, 0.1034004515, 0.5205900429", "1, 0.9899491861, 1.1690454965"})
    void theFilterPassesWhatThePaperSays(float latent, double share, double slope) {
        try (Backend backend = AvailableBackends.open("reference");
                Scope scope = new Scope(backend)) {
            LatentWeights latents = latents(scope, latent);
            float[] passed = new float[1];
            float[] rise = new float[1];
            latents.pass(new BandStop.Form.Sigmoid(0.7f), 9, passed, rise);
            assertThat((double) passed[0]).isCloseTo(latent * share, within(3e-7));
            assertThat((double) rise[0]).isCloseTo(slope, within(3e-7));
            if (latent == 0.5f) {
                latents.pass(new BandStop.Form.Tanh(), 4, passed, rise);
                assertThat((double) passed[0]).isCloseTo(0.5 * 0.4621171573, within(1e-7));
                assertThat((double) rise[0]).isCloseTo(1.2485648902, within(1e-7));
            }
        }
    }

    @ParameterizedTest
    @EnumSource(Prior.class)
    void transportReachesEveryRateFromABadStart(Prior prior) {
        float[] values = uniform(15_320);
        for (int step = 0; step < 60; step++) {
            float[] gradient = new float[values.length];
            LatentWeights.transport(values, prior, values.length / 4.0, gradient);
            for (int i = 0; i < values.length; i++) {
                values[i] -= gradient[i];
            }
        }
        for (double rate : new double[] {0.55, 0.8, 0.9, 0.95, 0.98, 0.99}) {
            assertThat(shareBelow(values, prior.threshold(rate))).isCloseTo(rate, within(1e-3));
        }
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void weightsOutOfReachAreCounted(String name) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            float[] values = uniform(15_320);
            LatentWeights latents = latents(scope, values);
            double edge = Math.sqrt(3);
            float spacing = (float) (2 * edge / 63);
            Bins bins = new Bins((float) -edge, spacing, 64, spacing);
            double outside = latents.align(
                            bins,
                            Mass.BUMPS,
                            latents.target(Prior.UNIFORM, bins, Mass.BUMPS),
                            1,
                            new float[values.length])
                    .outside();
            assertThat(outside).isEqualTo(1 - shareBelow(values, edge + spacing / 2), within(1e-3));
            assertThat(outside).isBetween(0.2, 0.35);
        }
    }

    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void exactlyTheBudgetGoesTiesByIndex(String name) {
        try (Backend backend = AvailableBackends.open(name);
                Scope scope = new Scope(backend)) {
            float[] values = new float[1000];
            for (int i = 0; i < values.length; i++) {
                values[i] = (i % 7 - 3) * 0.5f;
            }
            LatentWeights latents = latents(scope, values);
            for (int prune : new int[] {0, 1, 142, 143, 500, 999, 1000}) {
                BitMask mask = latents.smallest(prune);
                assertThat(mask.count()).isEqualTo(prune);
                int[] expected = IntStream.range(0, values.length)
                        .boxed()
                        .sorted((a, b) -> Float.compare(Math.abs(values[a]), Math.abs(values[b])))
                        .limit(prune)
                        .mapToInt(Integer::intValue)
                        .toArray();
                for (int index : expected) {
                    assertThat(mask.get(0, index)).as("%d of %d", index, prune).isTrue();
                }
            }
        }
    }

    private static float[] uniform(int count) {
        SplittableRandom random = new SplittableRandom(5);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextDouble(-2.5, 2.5);
        }
        return values;
    }

    private static double shareBelow(float[] values, double threshold) {
        return (double) IntStream.range(0, values.length)
                        .filter(i -> Math.abs(values[i]) <= threshold)
                        .count()
                / values.length;
    }

    private static LatentWeights latents(Scope scope, float... values) {
        LatentWeights latents = new LatentWeights(scope, List.of(new LatentWeights.Part(values.length, 1)));
        latents.set(values);
        return latents;
    }
}
