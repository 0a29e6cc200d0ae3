package org.sentei.engine.report;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;

class ReportTest {
    private static final String HOSTILE = "</title></style><script>alert('x')</script>&\"\u0000";

    private static Report.SiteResult site(String name, Double error, double seconds) {
        return new Report.SiteResult(
                name,
                "stade",
                4,
                6,
                0.5,
                12,
                13,
                24,
                error,
                seconds,
                13.0 / 24,
                "unstructured",
                "stade",
                "updated",
                0.12,
                null);
    }

    /** One weight in every third bin, half of them zero afterwards. */
    private static Report.Weights weights(String name, double limit, long total) {
        List<Long> before = new ArrayList<>();
        List<Long> after = new ArrayList<>();
        for (int i = 0; i < Report.Weights.BINS; i++) {
            before.add(i % 3 == 0 ? 1L : 0L);
            after.add(i % 6 == 0 ? 1L : 0L);
        }
        return new Report.Weights(name, limit, total - 22, total - 11, before, after);
    }

    /** Those of attention and of entropies. */
    private static final int OTHER_FIGURES = 5;

    private static Report.Attention attention(String text) {
        return new Report.Attention(
                text,
                text,
                "straight-through",
                "saliency",
                5,
                List.of(0.3, 0.25, 0.2),
                List.of(new Report.Look(0, 0.3), new Report.Look(5, 0.21)),
                List.of(new Report.MethodError("wanda", 0.4), new Report.MethodError(text, 0.21)),
                List.of(0.5, 0.25),
                List.of(0.5),
                new Report.Picture(1, 2, List.of(new Report.Panel("dense", "f0a5"), new Report.Panel(text, "f087"))));
    }

    private static Report report(String text, List<Report.SiteResult> sites) {
        return new Report(
                "0.1.0",
                Instant.parse("2026-01-02T03:04:05Z"),
                71.5,
                7,
                new Report.Model("models/" + text, "ab".repeat(32), "BertModel " + text, 22_713_216, 90_000_000),
                new Report.Calibration(text, "cd".repeat(32), 128, 32_768),
                List.of(new Report.Binding("score_select", "cpu", "Some CPU " + text)),
                sites,
                new Report.Totals(22_713_216, 5_308_416, 5_308_416.0 / 22_713_216, 90_868_864, 90_868_864),
                new Report.Storage("dense", 0, 0, 0, 90_868_864, List.of(new Report.Reader(text, text))),
                List.of(new Report.Measure("mrr", 0.515, 0.49), new Report.Measure(text, 1, 0.97)),
                new Report.Depth(
                        "one-shot",
                        "affine",
                        "default",
                        List.of(
                                new Report.Activation(text, "relu", 8, 0.25, 10, 90, 0, true),
                                new Report.Activation("second", "gelu", 8, 0.75, 50, 40, 10, false)),
                        List.of(
                                new Report.LayerMerge(text, "bias-map", 100, 60, 2e-3, 1e-3, true, text),
                                new Report.LayerMerge("b", null, 0, 0, null, null, false, "no way")),
                        new Report.Size(5, 2, 1000, 2000, 3e-3),
                        new Report.Size(4, 1, 900, 1800, 2e-3),
                        2.9e-3,
                        List.of(
                                new Report.Round(0, List.of(), List.of(), 2, 0.9, 0.91, true, 3e-3),
                                new Report.Round(1, List.of(text), List.of(0.25), 1, 0.89, 0.9, true, 2.9e-3),
                                new Report.Round(2, List.of("second"), List.of(0.75), 0, 0.7, 0.71, false, null))),
                new Report.Quantization(
                        "qdq",
                        List.of(new Report.QuantizedLayer(text, "Conv", 8, 27, 3, 5, 31.5)),
                        List.of(new Report.Pass("float", null, null), new Report.Pass(text, 25.9, 0.94)),
                        List.of(text),
                        new Report.Paired(280, 2, 3, 16),
                        new Report.Executor(text, 300, 0.94, 0.943, 0.99)),
                sites.stream().map(site -> weights(site.name(), 0.25, 24)).toList(),
                List.of(attention(text)),
                List.of(text));
    }

    @Test
    void writesTheKeysScriptsRelyOn() throws IOException {
        String json = ReportWriter.json(report("m", List.of(site("a.0.q", 0.25, 1.5), site("a.1.q", null, 1.5))));
        JsonNode root = new ObjectMapper().readTree(json);
        assertThat(root.fieldNames())
                .toIterable()
                .containsExactly(
                        "sentei",
                        "started",
                        "seconds",
                        "seed",
                        "model",
                        "calibration",
                        "backends",
                        "sites",
                        "totals",
                        "storage",
                        "quality",
                        "depth",
                        "quantization",
                        "weights",
                        "attention",
                        "warnings");
        assertThat(root.get("model").fieldNames())
                .toIterable()
                .containsExactly("path", "sha256", "architecture", "parameters", "bytes");
        assertThat(root.get("calibration").fieldNames())
                .toIterable()
                .containsExactly("source", "sha256", "samples", "tokens");
        assertThat(root.get("backends").get(0).fieldNames()).toIterable().containsExactly("op", "backend", "device");
        assertThat(root.get("sites").get(0).fieldNames())
                .toIterable()
                .startsWith(
                        "name",
                        "method",
                        "rows",
                        "cols",
                        "requested",
                        "pruned",
                        "zeros",
                        "parameters",
                        "error",
                        "seconds")
                .contains("sparsity", "pattern", "score", "bias", "mean_energy");
        assertThat(root.get("totals").fieldNames())
                .toIterable()
                .containsExactly("parameters", "zeros", "sparsity", "bytes_before", "bytes_after");
        assertThat(root.get("quality").get(0).fieldNames()).toIterable().containsExactly("metric", "before", "after");
        assertThat(root.get("started").asText()).isEqualTo("2026-01-02T03:04:05Z");
        assertThat(root.get("sites").get(1).get("error").isNull()).isTrue();
    }

    @Test
    void thePageIsSelfContainedAndEscapesEverything(@TempDir Path folder) throws IOException {
        Report report = report(HOSTILE, List.of(site(HOSTILE, 0.25, 1.5)));
        Recipe recipe =
                Recipes.parse("# " + HOSTILE.replace("\u0000", "") + "\nsteps: [{method: wanda, sparsity: 0.5}]");
        ReportWriter.write(folder, report, recipe);
        String html = Files.readString(folder.resolve("report.html"));
        assertThat(html).doesNotContain("<script").doesNotContain("\u0000").contains("&lt;script&gt;");
        assertThat(html).doesNotContain("http:").doesNotContain("https:").doesNotContain("src=");
        assertThat(html).contains("<svg").contains("0.515").contains("score_select");
        assertThat(Files.readString(folder.resolve("recipe.yaml"))).isEqualTo(recipe.text());
        try (var files = Files.list(folder)) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .containsExactlyInAnyOrder("recipe.yaml", "report.json", "report.html");
        }
    }

    @Test
    void everySiteHasABarWithItsFigures() {
        List<Report.SiteResult> sites = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            sites.add(site("layers." + i + ".attention.q_proj", 0.01 * (i + 1), 0.1));
        }
        String html = ReportPage.render(report("m", sites), Recipes.load("stade-50"));
        for (Report.SiteResult site : sites) {
            assertThat(html).contains("<title>" + site.name() + "\n4 × 6, stade\nzeros 54.2\u00a0%");
        }
    }

    @Test
    void thePageHasEverySection() {
        String html = ReportPage.render(
                report("m", List.of(site("a.0.q", 0.25, 1.5), site("a.1.q", null, 1.5), site("a.1.k", 0.5, 1))),
                Recipes.load("stade-50"));
        assertThat(html.lines().filter(line -> line.startsWith("<h2")).map(line -> line.replaceAll("<[^>]*>", "")))
                .containsExactly(
                        "One warning",
                        "Quality before and after",
                        "Depth",
                        "Rounds",
                        "Entropy of the activations",
                        "Merged layers",
                        "What every pass is worth",
                        "Layers in integers",
                        "Layers, kind by kind",
                        "Attention matrices",
                        "Every layer",
                        "Files, and what reads them",
                        "Which backend ran what",
                        "Provenance",
                        "Recipe");
        assertThat(html.lines().filter(line -> line.startsWith("<h3")).map(line -> line.replaceAll("<[^>]*>", "")))
                .containsExactly("q", "k", "m", "Head 1 of m");
        // each kind: error, zeros, weights
        assertThat(html.split("<figure>", -1)).hasSize(1 + 2 * 3 + OTHER_FIGURES);
        assertThat(html.split("role=\"img\" aria-label=\"[^\"]", -1).length)
                .isEqualTo(html.split("role=\"img\"", -1).length)
                .isGreaterThan(6);
    }

    /** Manifold kinds share one set of charts, and the page of a thousand layers stays small. */
    @Test
    void aThousandLayersStayReadable() {
        List<Report.SiteResult> sites = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            for (String kind : List.of("q_proj", "k_proj", "v_proj", "o_proj", "up_proj")) {
                sites.add(site("model.layers." + i + ".self_attn." + kind, 0.01, 0.1));
            }
        }
        String html = ReportPage.render(report("m", sites), Recipes.load("stade-50"));
        assertThat(html.split("<figure>", -1)).hasSize(1 + 5 * 3 + OTHER_FIGURES);
        assertThat(html).contains("block 199").hasSizeLessThan(1_000_000);

        List<Report.SiteResult> motley = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            motley.add(site("onnx::MatMul_" + i, 0.01, 0.1));
        }
        assertThat(ReportPage.render(report("m", motley), Recipes.load("stade-50"))
                        .split("<figure>", -1))
                .hasSize(1 + 3 + OTHER_FIGURES);
    }

    /** Every figure of the table is that of report.json, rounded to the digits that are shown. */
    @Test
    void thePageAndTheJsonSayTheSame() throws IOException {
        List<Report.SiteResult> sites = new ArrayList<>();
        for (double error : new double[] {0.123456, 0.00098765, 1.5, 12.3456, 123.456, 2.5e-7, 0}) {
            sites.add(site("layer." + sites.size(), error, 0.123 + 10 * error));
        }
        Report report = report("m", sites);
        String html = ReportPage.render(report, Recipes.load("stade-50"));
        JsonNode json = new ObjectMapper().readTree(ReportWriter.json(report));
        for (JsonNode site : json.get("sites")) {
            String name = site.get("name").asText();
            String row = html.lines()
                    .filter(line -> line.startsWith("<tr>") && line.contains("<code>" + name + "</code>"))
                    .findFirst()
                    .orElseThrow();
            String[] cells =
                    row.replaceAll("</t[hd]>", "|").replaceAll("<[^>]*>", "").split("\\|", -1);
            assertThat(cells[2]).isEqualTo(site.get("rows") + " × " + site.get("cols"));
            assertShows(cells[3], 100 * site.get("requested").asDouble());
            assertShows(cells[4], 100 * site.get("sparsity").asDouble());
            assertShows(cells[5], site.get("error").asDouble());
        }
        JsonNode totals = json.get("totals");
        assertThat(html)
                .contains("%,d of %,d"
                        .formatted(
                                totals.get("zeros").asLong(),
                                totals.get("parameters").asLong()))
                .contains("%,d bytes; %,d before"
                        .formatted(
                                totals.get("bytes_after").asLong(),
                                totals.get("bytes_before").asLong()));
        for (JsonNode measure : json.get("quality")) {
            assertThat(html)
                    .contains("before: " + measure.get("before").asDouble())
                    .contains("after: " + measure.get("after").asDouble());
        }
    }

    private static void assertShows(String shown, double value) {
        String digits = shown.replaceAll("[^-0-9.e]", "");
        BigDecimal number = new BigDecimal(digits);
        double half = number.ulp().doubleValue() / 2;
        assertThat(number.doubleValue()).as(shown).isBetween(value - half * 1.000001, value + half * 1.000001);
    }

    @Test
    void histogramsOfSeveralSitesAddUpBinByBin() {
        Report.Weights narrow = weights("narrow", 0.25, 100);
        Report.Weights wide = weights("wide", 1, 50);
        Report.Weights sum = Report.Weights.sum("both", List.of(narrow, wide));
        assertThat(sum.limit()).isEqualTo(1);
        assertThat(sum.total()).isEqualTo(150);
        assertThat(sum.zerosBefore()).isEqualTo(78 + 28);
        assertThat(sum.zerosAfter()).isEqualTo(89 + 39);
        // four bins of the narrow one lie in each of the middle sixteen of the wide one
        for (int bin = 0; bin < Report.Weights.BINS; bin++) {
            long expected = wide.before().get(bin);
            for (int i = 0; i < 4 && bin >= 24 && bin < 40; i++) {
                expected += narrow.before().get((bin - 24) * 4 + i);
            }
            assertThat(sum.before().get(bin)).as("bin %d", bin).isEqualTo(expected);
        }
        assertThatThrownBy(() -> new Report.Weights("w", 1, 0, 1, narrow.before(), narrow.before()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("22 and 23 weights");
    }

    @Test
    void aRunWithoutSitesQualityOrCalibrationHasAPageToo() {
        Report full = report("m", List.of());
        Report bare = new Report(
                full.sentei(),
                full.started(),
                0,
                0,
                full.model(),
                null,
                List.of(),
                List.of(),
                full.totals(),
                full.storage(),
                List.of(),
                null,
                null,
                List.of(),
                List.of(),
                List.of());
        assertThat(ReportPage.render(bare, Recipes.load("magnitude-50"))).endsWith("</html>\n");
        assertThat(ReportWriter.json(bare)).contains("\"calibration\" : null", "\"quantization\" : null");
    }

    @ParameterizedTest
    @ValueSource(doubles = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY})
    void refusesNumbersThatAreNotFinite(double bad) {
        assertThatThrownBy(() -> site("layer", bad, 1))
                .hasMessageContaining("layer")
                .hasMessageContaining("error");
        assertThatThrownBy(() -> site("layer", 1.0, bad)).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> new Report.Measure("mrr", 1, bad)).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> new Report.Measure("mrr", bad, 1)).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> new Report.Totals(1, 0, bad, 1, 1)).isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void refusesCountsThatDoNotFit() {
        assertThatThrownBy(() -> new Report.SiteResult(
                        "layer", "stade", 4, 6, 0.5, 12, 11, 24, null, 0, 0.5, "2:4", null, null, null, null))
                .isInstanceOf(IllegalArgumentException.class);
    }
}
