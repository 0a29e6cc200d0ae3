package org.sentei.bench;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.FormatException;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.w3c.dom.Document;

class BenchReportTest {
    private static final Ceilings CEILINGS = new Ceilings(40e9, 32e9, 200e9);
    private static final OpCase MOMENTS = find("column_moments/32768x4096");
    private static final OpCase GEMM = find("gemm/1024x1024x1024");

    @TempDir
    private Path folder;

    private static OpCase find(String name) {
        return OpCases.benchmarks().stream()
                .filter(opCase -> opCase.name().equals(name))
                .findFirst()
                .orElseThrow();
    }

    private static BenchReport.Result result(OpCase opCase, double seconds, double error) {
        return BenchReport.Result.of(
                opCase, "cpu", new Harness.Measurement(seconds, error, 10, Map.of()), 0.5, CEILINGS);
    }

    private static BenchReport report(BenchReport.Result... results) {
        return new BenchReport(
                "0.1.0",
                "2026-11-21T22:00:00Z",
                12.5,
                2,
                new Harness.Schedule(1, 3, 10, 0.2, List.of()),
                List.of(new BenchReport.Device("cpu", "A <processor> & more", "driver", "avx512", 40e9, 32e9, 200e9)),
                List.of(results),
                List.of());
    }

    @Test
    void aMemoryBoundOpIsHeldAgainstTheBandwidth() {
        long bytes = 32768L * 4096 * 4;
        BenchReport.Result result = result(MOMENTS, 2 * bytes / 40e9, 1e-4);
        assertThat(result.limit()).isEqualTo("memory");
        assertThat(result.ceilingPercent()).isCloseTo(50, within(0.1));
        assertThat(result.bandwidth()).isCloseTo(20e9, within(2e7));
        assertThat(result.bytesRead()).isGreaterThanOrEqualTo(bytes);
        assertThat(result.bytesWritten()).isEqualTo(3 * 4096 * 8 + 8);
    }

    @Test
    void aComputeBoundOpIsHeldAgainstTheArithmetic() {
        BenchReport.Result result = result(GEMM, 2 * Math.pow(1024, 3) / 100e9, Double.NaN);
        assertThat(result.limit()).isEqualTo("compute");
        assertThat(result.ceilingPercent()).isCloseTo(50, within(1e-6));
        assertThat(result.operationRate()).isCloseTo(100e9, within(1.0));
        assertThat(result.error()).isNull();
    }

    @Test
    void aCopyReachesItsOwnCeilingAndWritesAreNeverCheaperThanReads() {
        assertThat(CEILINGS.memorySeconds(1_000_000, 1_000_000)).isCloseTo(2e6 / 32e9, within(1e-12));
        Ceilings fastCopy = new Ceilings(40e9, 100e9, 200e9);
        assertThat(fastCopy.memorySeconds(0, 1_000_000)).isCloseTo(1e6 / 40e9, within(1e-12));
        assertThat(CEILINGS.or(fastCopy)).isEqualTo(new Ceilings(40e9, 100e9, 200e9));
    }

    @Test
    void ceilingsArePositiveAndFinite() {
        for (double bad : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
            assertThatIllegalArgumentException().isThrownBy(() -> new Ceilings(bad, 1, 1));
            assertThatIllegalArgumentException().isThrownBy(() -> new Ceilings(1, bad, 1));
            assertThatIllegalArgumentException().isThrownBy(() -> new Ceilings(1, 1, bad));
        }
    }

    @Test
    void whatIsWrittenIsReadAgain() {
        BenchReport report = report(result(MOMENTS, 0.02, 1e-3), result(GEMM, 0.01, Double.NaN));
        BenchFiles.write(folder, report);
        assertThat(BenchFiles.read(folder)).isEqualTo(report);
        assertThat(BenchFiles.read(folder.resolve("bench.json"))).isEqualTo(report);
    }

    @Test
    void theDocumentHasTheKeysThatScriptsReadAndTheTableOneRowACase() throws IOException {
        BenchFiles.write(folder, report(result(MOMENTS, 0.02, 1e-3), result(GEMM, 0.01, Double.NaN)));
        JsonNode document =
                new ObjectMapper().readTree(folder.resolve("bench.json").toFile());
        assertThat(document.fieldNames())
                .toIterable()
                .containsExactly(
                        "sentei", "started", "seconds", "threads", "schedule", "backends", "results", "failures");
        assertThat(document.get("results").get(0).fieldNames())
                .toIterable()
                .contains(
                        "op",
                        "case",
                        "backend",
                        "time",
                        "error",
                        "worst_error",
                        "bandwidth",
                        "operation_rate",
                        "ceiling_percent");
        assertThat(document.get("results").get(1).get("error").isNull()).isTrue();
        List<String> lines = Files.readAllLines(folder.resolve("bench.csv"));
        assertThat(lines).hasSize(3);
        assertThat(lines.get(0)).startsWith("op,case,backend,time,error,");
        assertThat(lines.get(1)).startsWith("column_moments,\"32768x4096\",cpu,0.02,0.001,");
        try (Stream<Path> files = Files.list(folder)) {
            assertThat(files).hasSize(3);
        }
    }

    @Test
    void theRooflineIsADocumentWithEveryCase() throws Exception {
        BenchFiles.write(folder, report(result(MOMENTS, 0.02, 1e-3), result(GEMM, 0.01, Double.NaN)));
        String svg = Files.readString(folder.resolve("roofline.svg"));
        Document document = DocumentBuilderFactory.newNSInstance()
                .newDocumentBuilder()
                .parse(new ByteArrayInputStream(svg.getBytes(StandardCharsets.UTF_8)));
        assertThat(document.getDocumentElement().getNamespaceURI()).isEqualTo("http://www.w3.org/2000/svg");
        assertThat(document.getDocumentElement().getTextContent())
                .contains("cpu on A <processor> & more, avx512")
                .contains("column_moments 32768x4096")
                .contains("gemm 1024x1024x1024")
                .contains("read 40 GB/s")
                .contains("prefers-color-scheme: dark");
        assertThat(document.getElementsByTagName("title").getLength()).isEqualTo(2);
    }

    @Test
    void aRooflineNeedsNoCeilingsAndNoArithmetic() {
        BenchReport.Result copied = BenchReport.Result.of(
                find("embedding/16384 tokens of 384"),
                "reference",
                new Harness.Measurement(0.1, Double.NaN, 1, Map.of()),
                0,
                null);
        BenchReport report = new BenchReport(
                "0.1.0",
                "",
                1,
                1,
                new Harness.Schedule(1, 0, 1, 1, List.of()),
                List.of(new BenchReport.Device("reference", "Java", "25", "", null, null, null)),
                List.of(copied),
                List.of());
        assertThat(copied.operations()).isZero();
        assertThat(Roofline.draw(report)).contains("embedding 16384 tokens of 384", "ceilings not measured");
    }

    @Test
    void aRatioIsSignificantOnlyWhenTheIntervalsAreApart() {
        BenchReport before = report(result(MOMENTS, 2.0, 0.1));
        assertThat(verdict(before, 1.0, 0.1)).isEqualTo(Comparison.Verdict.FASTER);
        assertThat(verdict(before, 3.0, 0.1)).isEqualTo(Comparison.Verdict.SLOWER);
        assertThat(verdict(before, 1.9, 0.1)).isEqualTo(Comparison.Verdict.SAME);
        assertThat(verdict(before, 1.0, 2.0)).isEqualTo(Comparison.Verdict.SAME);
        assertThat(verdict(before, 1.0, Double.NaN)).isEqualTo(Comparison.Verdict.UNKNOWN);
        Comparison.Case one = compare(before, 1.0, 0.1);
        assertThat(one.ratio()).isEqualTo(2);
        assertThat(one.ratioLow()).isCloseTo(1.9 / 1.1, within(1e-12));
        assertThat(one.ratioHigh()).isCloseTo(2.1 / 0.9, within(1e-12));
        assertThat(compare(before, 1.0, 2.0).ratioHigh()).isNull();
    }

    private static Comparison.Case compare(BenchReport before, double seconds, double error) {
        return Comparison.of(before, report(result(MOMENTS, seconds, error)))
                .cases()
                .getFirst();
    }

    private static Comparison.Verdict verdict(BenchReport before, double seconds, double error) {
        return compare(before, seconds, error).verdict();
    }

    @Test
    void casesThatOnlyOneHasAreNamed() {
        Comparison comparison = Comparison.of(report(result(MOMENTS, 1, 0)), report(result(GEMM, 1, 0)));
        assertThat(comparison.cases()).isEmpty();
        assertThat(comparison.onlyBefore()).containsExactly("column_moments/32768x4096 on cpu");
        assertThat(comparison.onlyAfter()).containsExactly("gemm/1024x1024x1024 on cpu");
    }

    @Test
    void whatIsNoResultIsRefused() throws IOException {
        refused("", "is no result");
        refused("{", "is no result");
        refused("null", "lacks");
        refused("{\"results\": [], \"backends\": null}", "is no result");
        refused("[1, 2]", "is no result");
        refused("[".repeat(100_000), "is no result");
        String good = Files.readString(written(report(result(MOMENTS, 0.02, 1e-3))));
        refused(good.replace("\"time\" : 0.02", "\"time\" : \"NaN\""), "lacks");
        refused(good.replace("\"time\" : 0.02", "\"time\" : -1"), "lacks");
        refused(good.replace("\"op\" : \"column_moments\"", "\"op\" : null"), "lacks");
        assertThatThrownBy(() -> BenchFiles.read(folder.resolve("absent")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("absent");
    }

    private Path written(BenchReport report) {
        BenchFiles.write(folder, report);
        return folder.resolve("bench.json");
    }

    private void refused(String text, String reason) throws IOException {
        Path file = Files.writeString(folder.resolve("bad.json"), text);
        assertThatThrownBy(() -> BenchFiles.read(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("bad.json")
                .hasMessageContaining(reason);
    }
}
