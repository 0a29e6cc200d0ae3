package org.sentei.engine.report;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
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
                0.12);
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
            assertThat(html).contains("<title>" + site.name() + "\n4 × 6, stade\nzeros 54.2 %");
        }
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
                List.of());
        assertThat(ReportPage.render(bare, Recipes.load("magnitude-50"))).endsWith("</html>\n");
        assertThat(ReportWriter.json(bare)).contains("\"calibration\" : null");
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
                        "layer", "stade", 4, 6, 0.5, 12, 11, 24, null, 0, 0.5, "2:4", null, null, null))
                .isInstanceOf(IllegalArgumentException.class);
    }
}
