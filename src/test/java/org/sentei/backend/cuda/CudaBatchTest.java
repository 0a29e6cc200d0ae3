package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Many jobs on a device that is lost in the middle of one. */
class CudaBatchTest {
    @TempDir
    private Path folder;

    @Test
    void aDeviceThatIsLostTakesItsJobAlongAndIsOpenedAnewForTheOthers() throws Exception {
        EmulatedDriver driver = EmulatedDriver.build(folder.resolve("driver"));
        Path jobs = folder.resolve("jobs.jsonl");
        Files.write(
                jobs,
                IntStream.range(0, 4)
                        .mapToObj(i -> "{\"model\": \"src/test/resources/models/llama-variant\","
                                + " \"recipe\": \"magnitude-50\", \"out\": \"" + folder.resolve("out-" + i) + "\"}")
                        .toList());
        // In the second job: each has about 170 launches.
        EmulatedDriver.Outcome outcome = driver.run(
                List.of(),
                Map.of("SENTEI_EMULATED_FAILURE", "kernel:214:250"),
                "org.sentei.cli.Main",
                List.of("batch", jobs.toString(), "--backend", "cuda", "--json"));

        assertThat(outcome.exit()).as(outcome.errors()).isEqualTo(6);
        JsonNode document = new ObjectMapper().readTree(String.join("\n", outcome.lines()));
        assertThat(document.at("/counts/ok").asInt()).isEqualTo(3);
        assertThat(document.at("/counts/failed").asInt()).isEqualTo(1);
        assertThat(document.at("/jobs/1/exit_code").asInt()).isEqualTo(6);
        assertThat(document.at("/jobs/1/error").asText())
                .contains("CUDA_ERROR_ECC_UNCORRECTABLE", "the device is gone");
        assertThat(folder.resolve("out-1")).doesNotExist();
        for (int job : new int[] {2, 3}) {
            assertThat(folder.resolve("out-" + job + "/model.safetensors"))
                    .hasSameBinaryContentAs(folder.resolve("out-0/model.safetensors"));
        }
        assertThat(document.at("/devices/0/jobs").asInt()).isEqualTo(4);
    }
}
