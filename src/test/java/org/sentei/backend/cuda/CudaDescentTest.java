package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The descent on attention's masks on the emulated driver, where a stretch of steps is a graph. */
class CudaDescentTest {
    @TempDir
    private static Path folder;

    @Test
    void theHostWaitsForNothingInsideOfAStretchOfSteps() throws Exception {
        EmulatedDriver.Outcome outcome = EmulatedDriver.build(folder).run(Map.of(), "descent");

        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        assertThat(outcome.of("failure")).isEmpty();
        assertThat(outcome.of("stretch")).containsExactly("waits 0", "waits 0", "waits 0");
        assertThat(outcome.of("same")).containsExactly("true");
        assertThat(outcome.count("waits")).as("between them it does").isPositive();
        assertThat(outcome.count("leaked")).isZero();
        assertThat(outcome.count("damaged")).isZero();
    }
}
