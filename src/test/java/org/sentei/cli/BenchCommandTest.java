package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;
import static org.sentei.cli.CliTest.sentei;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.kernel.AvailableBackends;

class BenchCommandTest {
    @TempDir
    private Path folder;

    @Test
    void wrongArgumentsEndInTwo() {
        sentei("bench", "--op", "colum_moments")
                .refuses(ExitCode.SYNTAX, "--op colum_moments", "the nearest is column_moments");
        sentei("bench", "--op", "gemm", "--case", "1024x1024")
                .refuses(ExitCode.SYNTAX, "--case 1024x1024", "the nearest is 1024x1024x1024");
        sentei("bench", "--op", "gemm", "--case", "cast/*").refuses(ExitCode.SYNTAX, "--case cast/*");
        sentei("bench", "--forks", "-1").refuses(ExitCode.SYNTAX, "--forks -1");
        sentei("bench", "--warmup", "few").refuses(ExitCode.SYNTAX, "--warmup");
        sentei("bench", "--iterations", "0").refuses(ExitCode.SYNTAX, "--iterations 0: give 1 or more");
        sentei("bench", "--time", "NaN").refuses(ExitCode.SYNTAX, "--time");
        sentei("bench", "--time", "0").refuses(ExitCode.SYNTAX, "--time");
        sentei("bench", "--limit", "0").refuses(ExitCode.SYNTAX, "--limit 0");
        sentei("bench", "--threads", "0").refuses(ExitCode.SYNTAX, "--threads 0");
        sentei("bench", "--compare", "one").refuses(ExitCode.SYNTAX, "--compare");
        sentei("bench", "--compare", "a", "b", "--op", "gemm").refuses(ExitCode.SYNTAX, "--compare times nothing");
    }

    @Test
    void aBackendThatIsNotThereEndsInFour() {
        sentei("bench", "--backend", "cqu").refuses(ExitCode.BACKEND, "cqu", "cpu");
    }

    @Test
    void aFolderThatCannotBeMadeIsFoundBeforeTiming() throws Exception {
        Path file = Files.writeString(folder.resolve("file"), "");
        sentei("bench", "--op", "gemm", "--out", file.resolve("below").toString())
                .refuses(ExitCode.INPUT, "--out");
    }

    /** RMSNorm as somebody else would write it, in plain OpenCL: a group a row. */
    private static String rmsNorm(String mean) {
        return """
            __kernel void rms_norm_f32(
                __global const float *x, long x_first, long x_stride, int cols,
                __global const float *gain, long gain_first, long gain_stride,
                __global float *y, long y_first, long y_stride, float epsilon) {
                __local double part[256];
                const int me = get_local_id(0);
                const long row = get_group_id(0);
                double sum = 0;
                for (int c = me; c < cols; c += 256) {
                    const double value = x[x_first + row * x_stride + c];
                    sum += value * value;
                }
                part[me] = sum;
                barrier(CLK_LOCAL_MEM_FENCE);
                double total = 0;
                for (int i = 0; i < 256; i++) {
                    total += part[i];
                }
                const double scale = 1 / sqrt(%s + epsilon);
                for (int c = me; c < cols; c += 256) {
                    y[y_first + row * y_stride + c] =
                        (float)(x[x_first + row * x_stride + c] * scale * gain[gain_first + c]);
                }
            }
            """.formatted(mean);
    }

    private String kernel(String name, String source) throws IOException {
        return Files.writeString(folder.resolve(name), source).toString();
    }

    @Test
    void aUsersKernelGetsARowBesideOurs() throws Exception {
        assumeThat(AvailableBackends.names()).contains("opencl");
        CliTest.Outcome outcome = sentei(
                "bench",
                "--kernel",
                kernel("rms_norm_mine.cl", rmsNorm("total / cols")),
                "--forks",
                "0",
                "--warmup",
                "0",
                "--iterations",
                "1",
                "--time",
                "0.01",
                "--json");
        assertThat(outcome.code()).as(outcome.err()).isZero();
        JsonNode document = outcome.document();
        assertThat(document.get("results").findValuesAsText("backend")).contains("opencl rms_norm_mine.cl", "opencl");
        assertThat(document.get("results").findValuesAsText("op")).containsOnly("rms_norm");
        assertThat(document.get("backends").findValuesAsText("name"))
                .containsExactly("opencl rms_norm_mine.cl", "opencl");
    }

    @Test
    void aUsersKernelThatIsWrongIsNotTimedAndTheFirstCaseIsNamed() throws Exception {
        assumeThat(AvailableBackends.names()).contains("opencl");
        sentei("bench", "--kernel", kernel("mine.cl", rmsNorm("total / (cols + 1)")), "--op", "rms_norm")
                .refuses(ExitCode.BACKEND, "mine.cl", "it computes wrong: rms_norm/", "y[0, 0] is", "instead of");
    }

    @Test
    void aUsersKernelThatCannotBeCompiledOrIsNoneOfTheOpsIsRefused() throws Exception {
        assumeThat(AvailableBackends.names()).contains("opencl");
        sentei("bench", "--kernel", kernel("rms_norm.cl", rmsNorm("no_such_name")))
                .refuses(ExitCode.RUN_FAILED, "no_such_name");
        sentei("bench", "--kernel", kernel("gram.cl", rmsNorm("total / cols")))
                .refuses(ExitCode.RUN_FAILED, "gram.cl", "none of the entries of gram", "gram_f32");
        sentei("bench", "--kernel", kernel("rms_norm.txt", "")).refuses(ExitCode.SYNTAX, ".cl or CUDA as .cu");
        sentei("bench", "--kernel", kernel("mine.cl", "")).refuses(ExitCode.SYNTAX, "of which op");
        sentei("bench", "--kernel", folder.resolve("rms_norm_absent.cl").toString())
                .refuses(ExitCode.INPUT, "rms_norm_absent.cl", "cannot be read");
        sentei("bench", "--kernel", kernel("rms_norm.cl", ""), "--backend", "cpu")
                .refuses(ExitCode.SYNTAX, "runs on opencl, not on cpu");
    }

    @Test
    void casesAreListedAndTheLargeOnesOnlyWhenAskedFor() {
        CliTest.Outcome usual = sentei("bench", "--list", "--op", "score_select");
        assertThat(usual.code()).isZero();
        assertThat(usual.out()).contains("score_select/2:4 of 11008x4096\n").doesNotContain("8192x28672", "gemm");
        assertThat(sentei("bench", "--list", "--op", "score_select", "--model-shapes")
                        .out())
                .contains("score_select/2:4 of 11008x4096\n", "score_select/50 % of 8192x28672\n");
    }

    @Test
    void whatIsNotTimedWithinTheLimitIsListedAsAFailure() throws Exception {
        CliTest.Outcome outcome = sentei(
                "bench", "--case", "attention/512*", "--backend", "cpu", "--forks", "0", "--limit", "1e-6", "--json");
        assertThat(outcome.code()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(outcome.err()).contains("not timed: attention/512 tokens, 8 heads of 64 on cpu: the time was over");
        assertThat(outcome.document().get("results")).isEmpty();
        assertThat(outcome.document().get("failures").get(0).get("reason").asText())
                .isEqualTo("the time was over");
    }

    @Test
    void timesChecksWritesAndComparesOneCase() throws Exception {
        String[] line = {
            "bench",
            "--case",
            "attention/512*",
            "--backend",
            "cpu",
            "--forks",
            "0",
            "--warmup",
            "0",
            "--iterations",
            "1",
            "--time",
            "0.01",
            "--out",
            folder.toString(),
            "--json"
        };
        CliTest.Outcome outcome = sentei(line);
        assertThat(outcome.code()).as(outcome.err()).isZero();
        JsonNode document = outcome.document();
        JsonNode backend = document.get("backends").get(0);
        assertThat(backend.get("name").asText()).isEqualTo("cpu");
        for (String ceiling : new String[] {"read_bandwidth", "copy_bandwidth", "operation_rate"}) {
            assertThat(backend.get(ceiling).asDouble()).as(ceiling).isBetween(1e7, 1e15);
        }
        assertThat(document.get("results")).hasSize(1);
        JsonNode result = document.get("results").get(0);
        assertThat(result.get("op").asText()).isEqualTo("attention");
        assertThat(result.get("case").asText()).isEqualTo("512 tokens, 8 heads of 64");
        assertThat(result.get("time").asDouble()).isPositive().isLessThan(60);
        assertThat(result.get("samples").asInt()).isEqualTo(1);
        assertThat(result.get("worst_error").asDouble()).isBetween(0.0, 1.0);
        assertThat(result.get("ceiling_percent").asDouble()).isPositive().isLessThan(1000);
        assertThat(outcome.err()).contains("100 %");
        assertThat(folder.resolve("bench.json")).exists();
        assertThat(folder.resolve("bench.csv")).exists();
        assertThat(folder.resolve("roofline.svg")).exists();

        CliTest.Outcome compared = sentei("bench", "--compare", folder.toString(), folder.toString());
        assertThat(compared.code()).isZero();
        assertThat(compared.out()).contains("attention", "1.000", "of unknown error");
        assertThat(sentei("bench", "--compare", folder.toString(), folder + "/bench.json", "--json")
                        .document()
                        .get("cases")
                        .get(0)
                        .get("verdict")
                        .asText())
                .isEqualTo("UNKNOWN");
        sentei("bench", "--compare", folder.toString(), folder + "/other").refuses(ExitCode.INPUT, "other");
    }
}
