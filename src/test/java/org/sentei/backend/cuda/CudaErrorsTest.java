package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a driver can answer, one process an answer: one clear exception, nothing left open, never the end of the process. */
class CudaErrorsTest {
    @TempDir
    private static Path folder;

    private static EmulatedDriver driver;

    @BeforeAll
    static void build() throws IOException, InterruptedException {
        driver = EmulatedDriver.build(folder);
    }

    @Test
    void withoutFailuresAllCopiesAndLaunchesArrive() throws Exception {
        for (int seed = 0; seed < 3; seed++) {
            EmulatedDriver.Outcome outcome = driver.run(Map.of("SENTEI_EMULATED_SEED", "" + seed), "work");

            assertThat(outcome.of("failure")).isEmpty();
            assertThat(outcome.of("zeros")).containsExactly("1472", "5888");
            assertThat(outcome.of("mismatch")).containsExactly("-1");
            assertThat(outcome.count("launches")).isEqualTo(8);
            nothingIsLeft(outcome);
        }
    }

    @Test
    void theDeviceIsMeasuredAndGivesItsMemoryBack() throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.run(Map.of("SENTEI_EMULATED_MEMORY", String.valueOf(16 << 20)), "ceilings");

        // The record holds that each figure is positive and finite.
        assertThat(outcome.of("ceilings"))
                .as(outcome.errors())
                .singleElement()
                .satisfies(line -> assertThat(line).startsWith("Ceilings[readBandwidth="));
        nothingIsLeft(outcome);
    }

    /** Every call that can fail, at a time when much is open. */
    @ParameterizedTest
    @CsvSource({
        "cuDevicePrimaryCtxRetain, 2, 1, OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY",
        "cuStreamCreate, 2, 2, OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY",
        "cuEventCreate, 2, 2, OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY",
        "cuMemAlloc_v2, 2, 1, OUT_OF_MEMORY, 4 bytes",
        "cuMemAlloc_v2, 2, 2, OUT_OF_MEMORY, 25600 bytes",
        "cuMemHostAlloc, 2, 2, OUT_OF_MEMORY, cuMemHostAlloc of 33554432 bytes",
        "cuMemcpy2DAsync_v2, 1, 1, INTERNAL, CUDA_ERROR_INVALID_VALUE",
        "cuMemcpyDtoHAsync_v2, 700, 1, LAUNCH, CUDA_ERROR_ILLEGAL_ADDRESS",
        "cuModuleLoadData, 200, 1, COMPILE, the kernels of count_values",
        "cuModuleLoadData, 218, 1, COMPILE, CUDA_ERROR_INVALID_PTX",
        "cuModuleGetFunction, 500, 2, COMPILE, count_values_total_i64",
        "cuLaunchKernel, 719, 2, LAUNCH, launching count_values_total_i64",
        "kernel, 719, 1, LAUNCH, CUDA_ERROR_LAUNCH_FAILED",
        "kernel, 700, 3, LAUNCH, CUDA_ERROR_ILLEGAL_ADDRESS",
        "cuStreamSynchronize, 214, 3, LOST, CUDA_ERROR_ECC_UNCORRECTABLE",
        "cuEventSynchronize, 214, 5, LOST, CUDA_ERROR_ECC_UNCORRECTABLE",
        "cuStreamBeginCapture_v2, 2, 1, OUT_OF_MEMORY, cuStreamBeginCapture",
        "cuStreamEndCapture, 2, 1, OUT_OF_MEMORY, cuStreamEndCapture",
        "cuGraphInstantiateWithFlags, 2, 1, OUT_OF_MEMORY, cuGraphInstantiate",
        "cuGraphLaunch, 719, 2, LAUNCH, cuGraphLaunch"
    })
    void aFailingCallIsOneExceptionAndNothingIsLeft(String call, int code, int turn, String kind, String fact)
            throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.run(Map.of("SENTEI_EMULATED_FAILURE", call + ":" + code + ":" + turn), "work");

        assertThat(outcome.of("failure"))
                .as(outcome.errors())
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .startsWith(kind + " cuda: ")
                        .contains("failed with code " + code + ": CUDA_ERROR_", fact, "; "));
        assertThat(outcome.of("suppressed")).isEmpty();
        nothingIsLeft(outcome);
    }

    @Test
    void memoryThatTheDeviceDoesNotHaveIsAnErrorWithTheSize() throws Exception {
        EmulatedDriver.Outcome outcome = driver.run(Map.of("SENTEI_EMULATED_MEMORY", "20000"), "work");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line ->
                        assertThat(line).contains("OUT_OF_MEMORY", "cuMemAlloc of 25600 bytes", "use a smaller batch"));
        nothingIsLeft(outcome);
    }

    @ParameterizedTest
    @CsvSource({
        "SENTEI_EMULATED_FAILURE, cuInit:999:1, code 999",
        "SENTEI_EMULATED_DEVICES, 0, CUDA_ERROR_NO_DEVICE",
        "SENTEI_EMULATED_VERSION, 12080, 'is for CUDA 12.8, the kernels of this build need CUDA 13'",
        "SENTEI_EMULATED_CAPABILITY, 75, its compute capability is 7.5"
    })
    void aDriverOrDeviceThatDoesNotFitIsUnsupported(String variable, String value, String fact) throws Exception {
        EmulatedDriver.Outcome outcome = driver.run(Map.of(variable, value), "work");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line ->
                        assertThat(line).startsWith("UNSUPPORTED cuda: ").contains(fact));
        nothingIsLeft(outcome);
    }

    @ParameterizedTest
    @CsvSource({"cuGraphLaunch", "cuMemcpy2DAsync_v2"})
    void aDriverWithoutAFunctionIsRefusedBeforeAnythingIsCalled(String function, @TempDir Path own) throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.without(own, function).run(Map.of("SENTEI_EMULATED_FAILURE", "cuInit:999:1"), "work");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .startsWith("UNSUPPORTED cuda: ")
                        .contains("has no " + function, "install a newer one"));
    }

    @Test
    void anImageThatIsNotWhatWasBuiltIsNotLoaded(@TempDir Path own) throws Exception {
        EmulatedDriver damaged = EmulatedDriver.build(own);
        Path image = own.resolve("org/sentei/backend/cuda/kernels/count_values.fatbin");
        byte[] content = Files.readAllBytes(image);
        content[9] ^= 1;
        Files.write(image, content);

        EmulatedDriver.Outcome outcome = damaged.run(Map.of(), "work");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .contains(
                                "COMPILE",
                                "the kernels of count_values",
                                "their SHA-256 is",
                                "build or install Sentei again"));
        nothingIsLeft(outcome);
    }

    @Test
    void kernelsWithADamagedListAreNotAvailable(@TempDir Path own) throws Exception {
        EmulatedDriver damaged = EmulatedDriver.build(own);
        Files.writeString(own.resolve("org/sentei/backend/cuda/kernels/kernels.properties"), "toolkit=");

        EmulatedDriver.Outcome outcome = damaged.run(Map.of(), "work");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .contains("UNSUPPORTED", "kernels.properties", "build or install Sentei again"));
    }

    @Test
    void theCommandLineRunsTheBackendAndSaysWhyNotWithExitCode4() throws Exception {
        List<String> doctor = List.of("doctor", "--backend", "cuda");
        EmulatedDriver.Outcome gone =
                driver.run(List.of(), Map.of("SENTEI_EMULATED_DEVICES", "0"), "org.sentei.cli.Main", doctor);

        assertThat(gone.exit()).isEqualTo(4);
        assertThat(gone.lines()).isEmpty();
        assertThat(gone.errors()).contains("cuda", "CUDA_ERROR_NO_DEVICE", "nvidia-smi");
    }

    private static void nothingIsLeft(EmulatedDriver.Outcome outcome) {
        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        for (String kind : List.of("contexts", "damaged", "leaked")) {
            assertThat(outcome.count(kind)).as(kind).isZero();
        }
    }
}
