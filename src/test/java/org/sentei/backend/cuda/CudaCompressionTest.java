package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The command line on the emulated GPU, with the fatbins that nvcc built. */
class CudaCompressionTest {
    @TempDir
    private Path folder;

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
