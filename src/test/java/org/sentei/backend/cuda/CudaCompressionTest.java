package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.SyntheticLlama;

/** The command line on the emulated GPU, with the fatbins that nvcc built. */
class CudaCompressionTest {
    @TempDir
    private Path folder;

    @Test
    void aBudgetWithoutRoomForTwoBlocksIsSaidToKeepCopiesWaitingAndChangesNothingElse() throws Exception {
        EmulatedDriver driver = EmulatedDriver.build(folder.resolve("driver"));
        Path model = folder.resolve("synthetic");
        SyntheticLlama.TINY.write(model, 1, _ -> {});
        for (String memory : List.of("250000", "100000000")) {
            EmulatedDriver.Outcome outcome = driver.run(
                    List.of(),
                    Map.of(),
                    "org.sentei.cli.Main",
                    List.of(
                            "compress",
                            model.toString(),
                            "--recipe",
                            "magnitude-50",
                            "--backend",
                            "cuda",
                            "--device-memory",
                            memory,
                            "-v",
                            "--out",
                            folder.resolve(memory).toString()));
            assertThat(outcome.exit()).as(outcome.errors()).isZero();
            if (memory.equals("250000")) {
                assertThat(outcome.errors())
                        .containsOnlyOnce(
                                "weights do not fit the device's memory beside what the group before it needs");
            } else {
                assertThat(outcome.errors()).doesNotContain("do not fit");
            }
        }
        try (Stream<Path> files = Files.list(folder.resolve("250000"))) {
            for (Path file : files.filter(file -> !file.getFileName().toString().startsWith("report."))
                    .toList()) {
                assertThat(file)
                        .hasSameBinaryContentAs(folder.resolve("100000000").resolve(file.getFileName()));
            }
        }
    }

    @Test
    void aModelIsCompressedToTheBytesThatTheReferenceWrites() throws Exception {
        EmulatedDriver driver = EmulatedDriver.build(folder.resolve("driver"));
        for (String backend : List.of("cuda", "reference")) {
            EmulatedDriver.Outcome outcome = driver.run(
                    List.of(),
                    Map.of(),
                    "org.sentei.cli.Main",
                    List.of(
                            "compress",
                            "src/test/resources/models/llama-gqa-tied",
                            "--recipe",
                            "magnitude-50",
                            "--backend",
                            backend,
                            "--out",
                            folder.resolve(backend).toString()));
            assertThat(outcome.exit()).as(outcome.errors()).isZero();
        }

        assertThat(folder.resolve("cuda/model.safetensors"))
                .hasSameBinaryContentAs(folder.resolve("reference/model.safetensors"));
        assertThat(folder.resolve("cuda/report.json")).content().contains("emulated GPU");
    }
}
