package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.Models;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.ScoreSelect;
import org.sentei.model.Site;

/** What is in the folder that a compression leaves: budgets, kept bits, untouched bytes, and whether it runs. */
class CompressionTest {
    @TempDir
    private Path folder;

    static List<String> backends() {
        return AvailableBackends.names();
    }

    // ---- budgets

    @ParameterizedTest
    @ValueSource(strings = {"0.5", "0.3", "0.999", "0"})
    void everyRowLosesExactlyItsShare(String sparsity) {
        Path output = folder.resolve("out");
        Report report = Runs.run(
                CompressionRequest.of(
                        Runs.model("austen-llama"),
                        Recipes.parse("steps: [{method: magnitude, sparsity: " + sparsity + "}]")),
                output);
        Map<String, boolean[][]> masks = Runs.masks(Runs.model("austen-llama"), output, report);
        masks.forEach((site, mask) -> {
            long expected = new BigDecimal(sparsity)
                    .multiply(BigDecimal.valueOf(mask[0].length))
                    .longValue();
            assertThat(Arrays.stream(mask).mapToLong(CompressionTest::count))
                    .as(site)
                    .containsOnly(expected);
        });
        assertThat(masks).hasSize(28);
        report.sites().forEach(site -> assertThat(site.requested()).isEqualTo(Double.parseDouble(sparsity)));
    }

    @ParameterizedTest
    @CsvSource({"1,3", "2,4", "4,8", "7,8"})
    void everyGroupLosesExactlyN(int removed, int of) {
        Path output = folder.resolve("out");
        String targets = of == 3 ? ", targets: [\"*_proj\"], ignore: [\"*down_proj\"]" : "";
        Report report = Runs.run(
                CompressionRequest.of(
                        Runs.model("austen-llama"),
                        Recipes.parse(
                                "steps: [{method: magnitude, pattern: \"%d:%d\"%s}]".formatted(removed, of, targets))),
                output);
        Map<String, boolean[][]> masks = Runs.masks(Runs.model("austen-llama"), output, report);
        assertThat(masks).isNotEmpty();
        masks.forEach((site, mask) -> {
            for (boolean[] row : mask) {
                for (int group = 0; group < row.length; group += of) {
                    if (count(Arrays.copyOfRange(row, group, group + of)) != removed) {
                        throw new AssertionError(
                                site + " has a group with another number of zeros: " + Arrays.toString(row));
                    }
                }
            }
        });
        report.sites().forEach(site -> assertThat(site.pattern()).isEqualTo(removed + ":" + of));
    }

    @ParameterizedTest
    @MethodSource("backends")
    void budgetsOfLayersAndModelsAreExactAndTakeTheSmallest(String backend) {
        for (String scope : List.of("layer", "global")) {
            Path model = Runs.model("gpt2");
            Path output = folder.resolve(scope);
            Report report = Runs.run(
                    CompressionRequest.of(
                                    model,
                                    Recipes.parse("steps: [{method: magnitude, sparsity: 0.37, scope: " + scope + "}]"))
                            .on(backend, Backend.Options.defaults()),
                    output);
            Map<String, boolean[][]> masks = Runs.masks(model, output, report);
            List<float[][]> weights = new ArrayList<>();
            List<boolean[][]> actual = new ArrayList<>();
            try (HuggingFaceFolder source = HuggingFaceFolder.open(model)) {
                for (Site site : Runs.sites(model)) {
                    weights.add(Runs.weights(source, site));
                    actual.add(masks.get(site.name()));
                }
            }
            if (scope.equals("global")) {
                assertSmallest(weights, actual, 0.37);
            } else {
                for (int i = 0; i < weights.size(); i++) {
                    assertSmallest(weights.subList(i, i + 1), actual.subList(i, i + 1), 0.37);
                }
            }
        }
    }

    /** Against one stable sort of everything that shares the budget. */
    private static void assertSmallest(List<float[][]> weights, List<boolean[][]> actual, double sparsity) {
        List<int[]> places = new ArrayList<>();
        for (int matrix = 0; matrix < weights.size(); matrix++) {
            for (int row = 0; row < weights.get(matrix).length; row++) {
                for (int col = 0; col < weights.get(matrix)[row].length; col++) {
                    places.add(new int[] {matrix, row, col});
                }
            }
        }
        places.sort(Comparator.comparingDouble(place -> Math.abs(weights.get(place[0])[place[1]][place[2]])));
        for (int rank = 0; rank < places.size(); rank++) {
            int[] place = places.get(rank);
            if (actual.get(place[0])[place[1]][place[2]] != rank < (int) (places.size() * sparsity)) {
                throw new AssertionError("matrix, row and column " + Arrays.toString(place) + " of rank " + rank);
            }
        }
    }

    /** Each step has its own budget, and what no step takes stays as it is. */
    @Test
    void stepsDivideTheModel() {
        Path output = folder.resolve("out");
        Report report = Runs.run(Runs.request(Runs.model("austen-opt"), """
                        steps:
                          - {method: magnitude, targets: ["*.fc1", "*.fc2"], ignore: ["*.3.*"], sparsity: 0.6, scope: global}
                          - {method: wanda, targets: ["*.out_proj"], pattern: "2:4"}
                        calibration: {samples: 4, length: 32}
                        """), output);
        Map<String, boolean[][]> masks = Runs.masks(Runs.model("austen-opt"), output, report);
        assertThat(masks.keySet())
                .hasSize(6 + 4)
                .noneMatch(name -> name.contains("_proj") && !name.endsWith("out_proj"));
        long spanned = masks.entrySet().stream()
                .filter(entry -> entry.getKey().contains(".fc"))
                .mapToLong(entry -> Arrays.stream(entry.getValue())
                        .mapToLong(CompressionTest::count)
                        .sum())
                .sum();
        assertThat(spanned).isEqualTo((long) (6 * 192 * 768 * 0.6));
    }

    @Test
    void tiedHeadsAreNoSiteAndUntiedOnesAreOnlyTakenByName() {
        assertThat(Runs.sites(Runs.model("austen-llama"))).noneMatch(site -> site.role() == Site.Role.HEAD);
        Path output = folder.resolve("out");
        Report report = Runs.run(
                CompressionRequest.of(
                        Runs.model("qwen2-bias"),
                        Recipes.parse("steps: [{method: magnitude, targets: [\"lm_head\"], sparsity: 0.5}]")),
                output);
        assertThat(Runs.masks(Runs.model("qwen2-bias"), output, report)).containsOnlyKeys("lm_head");
        Report usual = Runs.run(
                CompressionRequest.of(Runs.model("qwen2-bias"), Recipes.load("magnitude-50")), folder.resolve("usual"));
        assertThat(usual.sites()).extracting(Report.SiteResult::name).doesNotContain("lm_head");
    }

    // ---- every architecture

    static List<String> golden() {
        return Models.GOLDEN;
    }

    @ParameterizedTest
    @MethodSource("golden")
    void magnitudeIsTheStableSortOnEveryArchitectureAndAlikeOnAllBackends(String name) throws IOException {
        Path model = Runs.model(name);
        Path first = null;
        for (String backend : AvailableBackends.names()) {
            Path output = folder.resolve(backend);
            Report report = Runs.run(
                    CompressionRequest.of(model, Recipes.load("magnitude-50")).on(backend, Backend.Options.defaults()),
                    output);
            Map<String, boolean[][]> masks = Runs.masks(model, output, report);
            try (HuggingFaceFolder source = HuggingFaceFolder.open(model)) {
                for (Site site : Runs.sites(model)) {
                    if (site.role() != Site.Role.HEAD) {
                        assertRowsAreSmallest(Runs.weights(source, site), masks.get(site.name()));
                    }
                }
            }
            if (first != null) {
                assertSameModel(first, output);
            }
            first = output;
        }
    }

    private static void assertRowsAreSmallest(float[][] weights, boolean[][] mask) {
        for (int row = 0; row < weights.length; row++) {
            float[] values = weights[row];
            boolean[] expected = new boolean[values.length];
            IntStream.range(0, values.length)
                    .boxed()
                    .sorted(Comparator.comparingInt(col -> ScoreSelect.key(values[col], 1)))
                    .limit(values.length / 2)
                    .forEach(col -> expected[col] = true);
            assertThat(mask[row]).as("row %d", row).isEqualTo(expected);
        }
    }

    /** STADE with every bias the file can hold, then once more through our own loader. */
    @ParameterizedTest
    @MethodSource("golden")
    void stadeRunsOnEveryArchitecture(String name) throws IOException {
        Path model = Runs.model(name);
        Path output = folder.resolve("out");
        Path text = Runs.words(folder, 600);
        Report report = Runs.run(
                CompressionRequest.of(model, Recipes.parse("""
                                        steps: [{method: stade, sparsity: 0.5, bias: auto}]
                                        calibration: {samples: 8, length: 24}
                                        """))
                        .withCalibration(text)
                        .withTokenizer(Runs.wordTokenizer(folder))
                        .on("reference", Backend.Options.defaults()),
                output);
        Runs.masks(model, output, report);
        for (Report.SiteResult site : report.sites()) {
            assertThat(site.error()).as(site.name()).isBetween(1e-3, 1.0);
            assertThat(site.meanEnergy()).as(site.name()).isBetween(0.0, 1.0);
            assertThat(site.pruned()).isEqualTo(site.rows() * (site.cols() / 2));
        }
        assertThat(report.calibration().tokens()).isEqualTo(8 * 24);
        Inspection inspection = Sentei.inspect(output);
        assertThat(inspection.sites().stream()
                        .mapToLong(Inspection.SiteSummary::zeros)
                        .sum())
                .isEqualTo(report.totals().zeros());
        Path logits = folder.resolve("logits.safetensors");
        Sentei.forward(output, new int[][] {{1, 2, 3, 4}}, null, logits, Backends.AUTO, Backend.Options.defaults());
        assertThat(logits).isNotEmptyFile();
    }

    // ---- repeatability

    @Test
    void neitherThreadsNorRepetitionChangeAByte() throws IOException {
        String recipe = """
                steps: [{method: stade, sparsity: 0.5, bias: auto}]
                calibration: {samples: 12, length: 64}
                """;
        CompressionRequest request = Runs.request(Runs.model("austen-opt"), recipe);
        Path first = folder.resolve("threads-1");
        Runs.run(request.on(Backends.AUTO, new Backend.Options(0, 1)), first);
        for (int threads : new int[] {2, 3, 1}) {
            Path output = folder.resolve("again-" + threads);
            Runs.run(request.on(Backends.AUTO, new Backend.Options(0, threads)), output);
            assertSameModel(first, output);
            assertThat(withoutTimes(output)).isEqualTo(withoutTimes(first));
        }
    }

    private static String withoutTimes(Path output) throws IOException {
        return Files.readString(output.resolve("report.json")).replaceAll("\"(seconds|started)\" : [^,\n]*", "");
    }

    private static void assertSameModel(Path one, Path other) throws IOException {
        assertThat(Runs.files(other)).isEqualTo(Runs.files(one));
        for (String file : Runs.files(one)) {
            if (!file.startsWith("report.")) {
                assertThat(Files.mismatch(one.resolve(file), other.resolve(file)))
                        .as(file)
                        .isEqualTo(-1);
            }
        }
    }

    /** Later blocks see what was pruned before them, or do not; the first block sees the same either way. */
    @Test
    void sequentialCalibrationChangesLaterBlocksOnly() {
        Path model = Runs.model("austen-opt");
        Map<Boolean, Map<String, boolean[][]>> masks = new HashMap<>();
        for (boolean sequential : new boolean[] {true, false}) {
            Path output = folder.resolve("out-" + sequential);
            Report report = Runs.run(Runs.request(model, """
                            steps: [{method: wanda, sparsity: 0.7}]
                            calibration: {samples: 8, length: 64, sequential: %s}
                            """.formatted(sequential)), output);
            masks.put(sequential, Runs.masks(model, output, report));
        }
        int changed = 0;
        for (Site site : Runs.sites(model)) {
            boolean same = Arrays.deepEquals(
                    masks.get(true).get(site.name()), masks.get(false).get(site.name()));
            if (site.block() == 0) {
                assertThat(same).as(site.name()).isTrue();
            }
            changed += same ? 0 : 1;
        }
        assertThat(changed).isGreaterThanOrEqualTo(12);
    }

    // ---- looking

    private static long count(boolean[] mask) {
        return IntStream.range(0, mask.length).filter(i -> mask[i]).count();
    }
}
