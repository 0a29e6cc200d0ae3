package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.kernel.SoftHistogram.Mass;
import org.sentei.method.LatentWeights;
import org.sentei.method.Prior;

/** What the divergence does on its own: from a start of another shape, Adam brings the latent weights to the prior. */
class AlignmentTest {
    private static final int COUNT = 15_320;

    @ParameterizedTest
    @EnumSource(
            value = Prior.class,
            names = {"GAUSSIAN", "LAPLACE"})
    void theDivergenceAloneReachesEveryRate(Prior prior) {
        double reach = prior == Prior.LAPLACE ? 5 : 4;
        float spacing = (float) (2 * reach / 63);
        Bins bins = new Bins((float) -reach, spacing, 64, spacing);
        SplittableRandom random = new SplittableRandom(5);
        float[] values = new float[COUNT];
        for (int i = 0; i < COUNT; i++) {
            values[i] = (float) random.nextDouble(-2.5, 2.5);
        }
        double before = rate(values, prior, 0.9);
        try (Backend backend = AvailableBackends.open("cpu");
                Scope scope = new Scope(backend)) {
            LatentWeights latents = new LatentWeights(scope, List.of(new LatentWeights.Part(COUNT, 1)));
            double[] target = latents.target(prior, bins, Mass.BUMPS);
            Adam adam = new Adam(List.of(values));
            float[] gradient = new float[COUNT];
            for (int step = 0; step < 400; step++) {
                Arrays.fill(gradient, 0);
                latents.set(values);
                latents.align(bins, Mass.BUMPS, target, 10, gradient);
                adam.step(step, List.of(values), List.of(gradient), 0.02);
            }
        }
        assertThat(before).isNotCloseTo(0.9, within(0.1));
        for (double rate : new double[] {0.55, 0.8, 0.9, 0.95, 0.98, 0.99}) {
            assertThat(rate(values, prior, rate)).as("%s", rate).isCloseTo(rate, within(0.006));
        }
    }

    private static double rate(float[] values, Prior prior, double rate) {
        double threshold = prior.threshold(rate);
        return (double) IntStream.range(0, values.length)
                        .filter(i -> Math.abs(values[i]) <= threshold)
                        .count()
                / values.length;
    }
}
