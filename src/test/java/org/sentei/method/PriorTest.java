package org.sentei.method;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Thresholds of the priors for the rates of the paper's tables. */
class PriorTest {
    @ParameterizedTest
    @CsvSource({
        "0.55, 0.755415, 0.564630", "0.80, 1.281552, 1.138044", "0.90, 1.644854, 1.628174",
        "0.95, 1.959964, 2.118303", "0.98, 2.326348, 2.766218", "0.99, 2.575829, 3.256347"
    })
    void thresholdsAreQuantiles(double rate, double gaussian, double laplace) {
        assertThat(Prior.GAUSSIAN.threshold(rate)).isCloseTo(gaussian, within(1e-6 * gaussian));
        assertThat(Prior.LAPLACE.threshold(rate)).isCloseTo(laplace, within(1e-6 * laplace));
        assertThat(Prior.UNIFORM.threshold(rate)).isCloseTo(rate * Math.sqrt(3), within(1e-12));
    }

    @ParameterizedTest
    @CsvSource({"GAUSSIAN", "LAPLACE", "UNIFORM"})
    void quantilesAreOddAndOfUnitVariance(Prior prior) {
        double square = 0;
        int count = 100_000;
        for (int i = 0; i < count; i++) {
            double probability = (i + 0.5) / count;
            double quantile = prior.quantile(probability);
            assertThat(prior.quantile(1 - probability)).isCloseTo(-quantile, within(1e-9));
            square += quantile * quantile / count;
        }
        assertThat(square).isCloseTo(1, within(1e-3));
        assertThat(prior.threshold(0)).isZero();
    }
}
