package org.sentei.engine.recipe;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class ScheduleTest {
    @ParameterizedTest
    @CsvSource({
        "CONSTANT, 159, 1",
        "STEP, 0, 1",
        "STEP, 79, 1",
        "STEP, 80, 0.1",
        "STEP, 119, 0.1",
        "STEP, 120, 0.01",
        "STEP, 159, 0.01",
        "COSINE, 0, 1",
        "COSINE, 40, 0.8535533906",
        "COSINE, 80, 0.5",
        "COSINE, 120, 0.1464466094"
    })
    void ofThoseStepsTheFactorIsThis(Schedule schedule, int step, double factor) {
        assertThat(schedule.factor(step, 160)).isCloseTo(factor, within(1e-10));
    }

    @ParameterizedTest
    @EnumSource
    void noRateGrowsOrReachesZero(Schedule schedule) {
        double[] factors = IntStream.range(0, 37)
                .mapToDouble(step -> schedule.factor(step, 37))
                .toArray();
        assertThat(factors[0]).isEqualTo(1);
        for (int i = 1; i < factors.length; i++) {
            assertThat(factors[i]).isPositive().isLessThanOrEqualTo(factors[i - 1]);
        }
    }

    @Test
    void aTrainingOfOneStepHasItsWholeRate() {
        for (Schedule schedule : Schedule.values()) {
            assertThat(schedule.factor(0, 1)).isEqualTo(1);
        }
    }
}
