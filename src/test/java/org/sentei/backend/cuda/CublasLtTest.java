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

/** Products by an emulated cuBLASLt that holds every call against what it knows of the others, one process an answer. */
class CublasLtTest {
    @TempDir
    private static Path folder;

    private static EmulatedDriver driver;
    private static String blas;

    @BeforeAll
    static void build() throws IOException, InterruptedException {
        driver = EmulatedDriver.build(folder);
        blas = EmulatedDriver.blas().toString();
    }

    @Test
    void productsAgreeWithTheReference() throws Exception {
        EmulatedDriver.Outcome outcome = driver.run(blas, Map.of(), "conformance", "gemm", "quadratic_form");

        assertThat(outcome.of("failure")).as(outcome.errors()).isEmpty();
        assertThat(outcome.of("checked")).hasSize(2);
        assertThat(outcome.count("products")).isGreaterThan(20);
        nothingIsLeft(outcome);
    }

    @Test
    void aProductRunsAloneAndInASequence() throws Exception {
        for (int seed = 0; seed < 3; seed++) {
            EmulatedDriver.Outcome outcome = driver.run(blas, Map.of("SENTEI_EMULATED_SEED", "" + seed), "products");

            assertThat(outcome.of("failure")).as(outcome.errors()).isEmpty();
            assertThat(outcome.of("driver")).containsExactly("CUDA 13.0, cuBLASLt 13.0.2");
            assertThat(outcome.of("product")).containsExactly("203.0", "204.0", "9181.0");
            assertThat(outcome.count("products")).isEqualTo(5);
            nothingIsLeft(outcome);
        }
    }

    @Test
    void withoutTheLibraryProductsRunByTheKernelsOfThisBuild() throws Exception {
        EmulatedDriver.Outcome outcome = driver.run("none", Map.of(), "products");

        assertThat(outcome.of("driver"))
                .containsExactly("CUDA 13.0, own matrix products, as sentei.cublaslt or SENTEI_CUBLASLT says");
        assertThat(outcome.of("product")).containsExactly("203.0", "204.0", "9181.0");
    }

    @ParameterizedTest
    @CsvSource({
        "cublasLtMatmulDescCreate, 3, 1, OUT_OF_MEMORY, CUBLAS_STATUS_ALLOC_FAILED",
        "cublasLtMatmulDescSetAttribute, 7, 2, INTERNAL, CUBLAS_STATUS_INVALID_VALUE",
        "cublasLtMatrixLayoutCreate, 3, 3, OUT_OF_MEMORY, CUBLAS_STATUS_ALLOC_FAILED",
        "cublasLtMatmulPreferenceCreate, 14, 1, INTERNAL, CUBLAS_STATUS_INTERNAL_ERROR",
        "cublasLtMatmulPreferenceSetAttribute, 7, 3, INTERNAL, CUBLAS_STATUS_INVALID_VALUE",
        "cublasLtMatmulAlgoGetHeuristic, 14, 2, INTERNAL, 20x30 times 30x40",
        "cublasLtMatmul, 13, 1, LAUNCH, 20x100 times 100x30",
        "cublasLtMatmul, 8, 2, UNSUPPORTED, CUBLAS_STATUS_ARCH_MISMATCH",
        "cublasLtMatmul, 77, 1, INTERNAL, an unknown status"
    })
    void aFailingCallIsOneExceptionAndNothingIsLeft(String call, int code, int turn, String kind, String fact)
            throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.run(blas, Map.of("SENTEI_EMULATED_FAILURE", call + ":" + code + ":" + turn), "products");

        assertThat(outcome.of("failure"))
                .as(outcome.errors())
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .startsWith(kind + " cuda: " + call)
                        .contains("failed with code " + code + ": ", fact, "SENTEI_CUBLASLT to none"));
        assertThat(outcome.of("suppressed")).isEmpty();
        nothingIsLeft(outcome);
    }

    @ParameterizedTest
    @CsvSource({"no algorithm:1:1, it has none", "cublasLtMatmulAlgoGetHeuristic:15:1, it has none"})
    void aProductThatTheLibraryHasNoAlgorithmForIsUnsupported(String failure, String fact) throws Exception {
        EmulatedDriver.Outcome outcome = driver.run(blas, Map.of("SENTEI_EMULATED_FAILURE", failure), "products");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .contains("UNSUPPORTED", "20x100 times 100x30", fact, "SENTEI_CUBLASLT to none"));
        nothingIsLeft(outcome);
    }

    @Test
    void aDeviceWithoutRoomForTheWorkspaceSaysSo() throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.run(blas, Map.of("SENTEI_EMULATED_MEMORY", String.valueOf(32 << 20)), "products");

        assertThat(outcome.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line)
                        .contains("OUT_OF_MEMORY", "33554432 bytes for cuBLASLt", "CUDA_ERROR_OUT_OF_MEMORY"));
        nothingIsLeft(outcome);
    }

    @Test
    void aNamedLibraryThatCannotBeUsedIsAnError(@TempDir Path own) throws Exception {
        String lacking = EmulatedDriver.blasWithout(own, "cublasLtMatmul").toString();
        Map<String, List<String>> facts = Map.of(
                own.resolve("absent.so").toString(),
                List.of("no such library"),
                lacking,
                List.of("has no cublasLtMatmul"));
        for (Map.Entry<String, List<String>> fact : facts.entrySet()) {
            EmulatedDriver.Outcome outcome = driver.run(fact.getKey(), Map.of(), "products");

            assertThat(outcome.of("failure"))
                    .singleElement()
                    .satisfies(line -> assertThat(line)
                            .startsWith("UNSUPPORTED cuda: loading " + fact.getKey())
                            .contains(fact.getValue())
                            .contains("SENTEI_CUBLASLT"));
            assertThat(outcome.count("contexts")).isZero();
            assertThat(outcome.count("leaked")).isZero();
        }
        EmulatedDriver.Outcome broken =
                driver.run(blas, Map.of("SENTEI_EMULATED_FAILURE", "cublasLtCreate:1:1"), "products");
        assertThat(broken.of("failure"))
                .singleElement()
                .satisfies(line -> assertThat(line).contains("UNSUPPORTED", "CUBLAS_STATUS_NOT_INITIALIZED"));
        nothingIsLeft(broken);
    }

    @Test
    void theSystemsLibraryIsFoundByName(@TempDir Path own) throws Exception {
        EmulatedDriver.Outcome found = driver.run(
                "", Map.of("LD_LIBRARY_PATH", EmulatedDriver.blas().getParent().toString()), "products");
        assertThat(found.of("driver")).containsExactly("CUDA 13.0, cuBLASLt 13.0.2");

        EmulatedDriver.blasWithout(own, "cublasLtMatmul");
        EmulatedDriver.Outcome lacking = driver.run("", Map.of("LD_LIBRARY_PATH", own.toString()), "products");
        assertThat(lacking.of("driver"))
                .singleElement()
                .satisfies(line -> assertThat(line).contains("own matrix products: ", "has no cublasLtMatmul"));
        assertThat(lacking.of("product")).containsExactly("203.0", "204.0", "9181.0");
    }

    @Test
    void aLibraryThatTheProcessHasComesFirst(@TempDir Path own) throws Exception {
        Path loaded = Files.copy(EmulatedDriver.blas(), own.resolve("libcublasLt.so.12"));
        Files.createSymbolicLink(
                own.resolve("libcuda.so.1"), EmulatedDriver.blas().resolveSibling("libcuda.so.1"));
        Path other = Files.createDirectory(own.resolve("other"));
        EmulatedDriver.blasWithout(other, "cublasLtMatmul");

        EmulatedDriver.Outcome outcome = driver.run(
                "", Map.of("LD_PRELOAD", loaded.toString(), "LD_LIBRARY_PATH", other.toString()), "products");

        assertThat(outcome.of("driver")).as(outcome.errors()).containsExactly("CUDA 13.0, cuBLASLt 13.0.2");
        assertThat(outcome.of("product")).containsExactly("203.0", "204.0", "9181.0");
    }

    private static void nothingIsLeft(EmulatedDriver.Outcome outcome) {
        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        for (String kind : List.of("contexts", "damaged", "leaked", "open")) {
            assertThat(outcome.count(kind)).as(kind).isZero();
        }
    }
}
