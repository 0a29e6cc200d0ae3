package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The benchmark of launches, every way to the driver, for a moment: whether it runs, not how fast. */
class LaunchBenchmarkTest {
    @Test
    void everyWayToLaunchIsTimed(@TempDir Path folder) throws Exception {
        EmulatedDriver driver = EmulatedDriver.build(folder);

        EmulatedDriver.Outcome outcome = driver.run(
                List.of("--sun-misc-unsafe-memory-access=allow"),
                Map.of("SENTEI_EMULATED_STUB", "1"),
                "org.openjdk.jmh.Main",
                List.of("cuda.LaunchBenchmark", "-f", "0", "-wi", "0", "-i", "1", "-r", "20ms", "-foe", "true"));

        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        for (String way : List.of("device", "ffm", "ffmCritical", "jcuda")) {
            assertThat(outcome.of("LaunchBenchmark." + way))
                    .singleElement()
                    .satisfies(line -> assertThat(line).matches(" *avgt +[0-9.]+ +ns/op"));
        }
    }
}
