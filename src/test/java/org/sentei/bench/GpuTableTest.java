package org.sentei.bench;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.FormatException;
import org.sentei.kernel.OpCases;

class GpuTableTest {
    private static final String DOCTOR = """
            {"part":"doctor","backend":"cuda","exit_code":0,"result":{"backends":[
            {"name":"cuda","available":true,"device":"GPU 0","driver":"CUDA 13.0","cases":300,"failures":[],
             "ops":[{"op":"apply_mask","cases":10,"worst_error":0.5}]}]}}""";
    private static final String NO_OPENCL = """
            {"part":"doctor","backend":"opencl","exit_code":4,"result":{"error":"there is no OpenCL loader","exit_code":4}}""";
    private static final String CEILINGS = """
            {"part":"ceilings","exit_code":0,"result":{"ceilings":[
            {"name":"read","unit":"GB/s","value":4000,"how":"sum"},{"name":"copy","unit":"GB/s","value":4000,"how":"copy"},
            {"name":"fp32","unit":"TFLOP/s","value":50,"how":"product"},{"name":"int8","reason":"no such operator"}]}}""";
    private static final String LAUNCH = """
            {"part":"launch","backend":"cuda","exit_code":0,"result":{"ceilings":[
            {"name":"launch by FFM","unit":"ns","value":2500.5,"error":9.5,"how":"5 samples"}]}}""";
    private static final String MEASURED = """
            {"part":"bench","backend":"cuda","op":"apply_mask","exit_code":0,"result":{"results":[
            {"op":"apply_mask","case":"4096x4096","backend":"cuda","time":5e-5,"bytes_read":60000000,"bytes_written":60000000,
             "operations":0,"bandwidth":2.4e12,"operation_rate":0}]}}""";
    private static final String WRONG = """
            {"part":"bench","backend":"cuda","op":"gemm","exit_code":4,"result":{"error":"it computes wrong","exit_code":4}}""";
    private static final String SKIPPED = """
            {"part":"bench","backend":"opencl","exit_code":0,"reason":"no backend opencl here"}""";
    private static final String PEERS = """
            {"part":"peers","exit_code":0,"result":{"times":{"apply_mask/4096x4096":{"torch mul_":1e-4}},
            "failed":{"apply_mask/4096x4096":{"other":"out of memory"}}}}""";

    @TempDir
    private Path folder;

    private String table(String... parts) throws IOException {
        Path file = folder.resolve("gpu.jsonl");
        Files.write(
                file,
                List.of(parts).stream().map(part -> part.replace("\n", "")).toList());
        return GpuTable.of(file);
    }

    @Test
    void holdsTimesAgainstCeilingsAndPeers() throws IOException {
        assertThat(table(DOCTOR, CEILINGS, LAUNCH, MEASURED, PEERS))
                .contains("| conformance | cuda | GPU 0, CUDA 13.0: 300 cases, all right |")
                .contains("| read | 4000 GB/s | sum |", "| int8 | - | no such operator |")
                .contains("| launch | cuda | done |", "| launch by FFM | 2501 ns | 5 samples |")
                .contains("| apply_mask | 4096x4096 | cuda | 0.0500 | 2400 | 0.0000 | 60 % of memory"
                        + " | torch mul_ 0.1000, **2.00**; other failed: out of memory | 0.5000 |");
    }

    @Test
    void everyCaseThatDidNotRunHasItsReason() throws IOException {
        String table = table(DOCTOR, NO_OPENCL, MEASURED, WRONG, SKIPPED);
        assertThat(table)
                .contains("| conformance | opencl | there is no OpenCL loader |")
                .contains("| gemm | 1024x1024x1024 | cuda | - | - | - | - | - | it computes wrong |")
                .contains("| gemm | 1024x1024x1024 | opencl | - | - | - | - | - | no backend opencl here |")
                .contains("| not measured: the run did not come so far |");
        assertThat(table.lines().filter(line -> line.contains("| cuda |") || line.contains("| opencl |")))
                .hasSizeGreaterThanOrEqualTo(2 * OpCases.benchmarks().size());
        assertThat(table()).contains("| all | - | not measured: the run did not come so far |");
    }

    @Test
    void anotherFileIsRefused() {
        assertThatThrownBy(() -> table("{")).isInstanceOf(FormatException.class).hasMessageContaining("gpu.jsonl");
        assertThatThrownBy(() -> table("[1]"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no JSON object");
        assertThatThrownBy(() -> GpuTable.of(folder.resolve("absent")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("cannot be read");
    }
}
