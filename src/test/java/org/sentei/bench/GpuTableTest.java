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
            {"op":"apply_mask","case":"4096x4096","backend":"cuda","time":5e-5,"worst_error":0.5}]}}""";
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
        String table = GpuTable.of(file);
        assertWellFormed(table);
        return table;
    }

    /** Every row of a table has as many cells as its heading, and none is empty but the last of a must. */
    private static void assertWellFormed(String table) {
        int cells = 0;
        for (String line : table.lines().toList()) {
            if (!line.startsWith("|")) {
                cells = 0;
                continue;
            }
            assertThat(line)
                    .endsWith(" |".substring(line.startsWith("|---") ? 1 : 0))
                    .doesNotContain("| NaN", "Infinity");
            int count = line.replace("\\|", "").split("\\|", -1).length;
            cells = cells == 0 ? count : cells;
            assertThat(count).as(line).isEqualTo(cells);
        }
    }

    /** A timed case, as {@code sentei bench --json} writes it within a part. */
    private static String timed(String op, String label, String time) {
        return """
                {"part":"bench","backend":"cuda","op":"%s","cases":["%s/%s"],"exit_code":0,"result":{"results":[
                {"op":"%s","case":"%s","backend":"cuda","time":%s,"worst_error":0.25}]}}""".formatted(op, op, label, op, label, time);
    }

    @Test
    void holdsTimesAgainstCeilingsAndPeers() throws IOException {
        assertThat(table(DOCTOR, CEILINGS, LAUNCH, MEASURED, PEERS))
                .contains("| conformance | cuda | GPU 0, CUDA 13.0: 300 cases, all right |")
                .contains("| read | 4000 GB/s | sum |", "| int8 | - | no such operator |")
                .contains("| launch | cuda | done |", "| launch by FFM | 2501 ns | 5 samples |")
                .contains("| apply_mask | 4096x4096 | cuda | 0.0500 | 2726 | 0.3355 | 68 % of memory"
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
    void wholeCompressionsSayWhatOfTheirCopiesLiesUnderKernels() throws IOException {
        String part = """
                {"part":"throughput","backend":"cuda","exit_code":0,"result":{"model":"synthetic-1b","throughput":[
                {"method":"stade","calibration_tokens":32768,"seconds":2.5,"host_to_host_seconds":2,"file_seconds":0.5,
                 "copy_seconds":0.25,"copy_hidden_share":0.95},
                {"method":"wanda","calibration_tokens":0,"seconds":2.5,"host_to_host_seconds":2,"file_seconds":0.5}]}}""";
        assertThat(table(DOCTOR, part.replace("\n", "")))
                .contains("| synthetic-1b | stade | 32768 | 2.50 | 2.00 | 0.5000 | 0.2500 | 95.00 % |")
                .contains("| synthetic-1b | wanda | 0 | 2.50 | 2.00 | 0.5000 | - | - |");
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

    @Test
    void mustsAreMetOrMissedByTheCeilingsAndPeersOfTheSameRun() throws IOException {
        String peers = """
                {"part":"peers","exit_code":0,"result":{"times":{
                "column_moments/32768x4096":{"torch.var_mean":1.65e-4},
                "score_select/50 % of 4096x4096":{"torch.sort":5e-4,"torch.kthvalue":1e-4}}}}""";
        String more = """
                {"part":"peers","exit_code":0,"result":{"times":{"write_back/50 % of 4096x4096":{"Triton":1e-4}}}}""";
        String launch = """
                {"part":"launch","backend":"cuda","exit_code":0,"result":{"ceilings":[
                {"name":"launch by FFM, refused by the driver","unit":"ns","value":40}]}}""";
        assertThat(table(
                        CEILINGS,
                        launch,
                        timed("column_moments", "32768x4096", "1.5e-4"),
                        timed("score_select", "50 % of 4096x4096", "2e-5"),
                        timed("apply_mask", "4096x4096 bias", "6e-5"),
                        timed("score_select", "2:4 of 4096x4096 lognormal", "4e-5"),
                        peers,
                        more))
                .contains("| of the read ceiling | column_moments/32768x4096 | >= 85.00 % | 89.51 % | met |")
                .contains("| times as fast as torch.var_mean | column_moments/32768x4096 | >= 1.20 | 1.10 | MISSED |")
                .contains("| of the copy ceiling | score_select/50 % of 4096x4096 | >= 45.00 % | 86.53 % | met |")
                .contains("| times as fast as torch.sort | score_select/50 % of 4096x4096 | >= 10.00 | 25.00 | met |")
                .contains("| times as fast as torch.kthvalue | score_select/50 % of 4096x4096 | >= 4.00 | 5.00 | met |")
                .contains("| of the copy ceiling | write_back/50 % of 4096x4096 | >= 65.00 % | 42.60 % | MISSED |")
                .contains(
                        "| of the copy ceiling | score_select/2:4 of 4096x4096 lognormal | >= 80.00 % | 43.26 % | MISSED |")
                .contains(
                        "| binding cost of a launch by FFM | with the driver's refusal | <= 100 ns | 40.00 ns | met |")
                .contains(
                        "| write_back | 50 % of 4096x4096 | cuda | 0.0800 | 1704 | - | 42.60 % of copy | Triton 0.1000, **1.25** |")
                .contains("| of the read ceiling | column_moments/262144x4096 | >= 85.00 % | - | not measured: ");
    }

    @Test
    void whatIsNoNumberAboveZeroIsNeverMet() throws IOException {
        String ceilings = """
                {"part":"ceilings","exit_code":0,"result":{"ceilings":[{"name":"read","unit":"GB/s","value":NaN,"how":"sum"},
                {"name":"copy","unit":"GB/s","value":-4000,"how":"copy"},{"name":"fp32","unit":"TFLOP/s"}]}}""";
        String peers = """
                {"part":"peers","exit_code":0,"result":{"times":{
                "score_select/50 % of 4096x4096":{"torch.sort":NaN,"torch.kthvalue":-1}}}}""";
        assertThat(table(
                        ceilings,
                        timed("column_moments", "32768x4096", "NaN"),
                        timed("column_moments", "262144x4096", "-1"),
                        timed("score_select", "50 % of 4096x4096", "2e-5"),
                        timed("score_select", "2:4 of 4096x4096 lognormal", "null"),
                        peers))
                .contains("| read | - | sum |", "| copy | - | copy |", "| fp32 | - |")
                .contains("| column_moments | 32768x4096 | cuda | - | - | - | - | - | its time is no time: NaN |")
                .contains("| column_moments | 262144x4096 | cuda | - | - | - | - | - | its time is no time: -1 |")
                .contains("| >= 45.00 % | - | no ceiling was measured |")
                .contains("| >= 10.00 | - | the peer has no time (")
                .contains("torch.sort failed: its time is no time; torch.kthvalue failed: its time is no time")
                .doesNotContain("| met |", "| MISSED |");
    }

    @Test
    void aCaseHasTheReasonOfThePartThatWasToRunIt() throws IOException {
        String stopped = """
                {"part":"bench","backend":"cuda","op":"score_select","cases":["score_select/50 % of 4096x4096"],"exit_code":124,
                "reason":"stopped after 9 s"}""";
        String failed = """
                {"part":"bench","backend":"cuda","op":"score_select","cases":["score_select/60 % of 4096x4096",
                "score_select/75 % of 4096x4096"],"exit_code":6,"result":{"results":[],"failures":[
                {"op":"score_select","case":"60 % of 4096x4096","backend":"cuda","reason":"it computes wrong"}]}}""";
        assertThat(table(stopped, failed))
                .contains("| score_select | 50 % of 4096x4096 | cuda | - | - | - | - | - | stopped after 9 s |")
                .contains("| score_select | 60 % of 4096x4096 | cuda | - | - | - | - | - | it computes wrong |")
                .contains("| score_select | 75 % of 4096x4096 | cuda | - | - | - | - | - | exit code 6 |")
                .contains("| write_back | 50 % of 4096x4096 | cuda | - | - | - | - | - | stopped after 9 s |")
                .contains(
                        "| 50 % of 11008x4096 | cuda | - | - | - | - | - | not measured: the run did not come so far |");
    }
}
