package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.HiddenStates;
import org.sentei.model.Site;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** STADE's bias update: where it goes, what it is worth, and what it must not touch. */
class BiasUpdateTest {
    private static final int SAMPLES = 12;
    private static final int LENGTH = 64;

    @TempDir
    private Path folder;

    private static String recipe(String step, boolean sequential) {
        return recipe(step, sequential, SAMPLES, LENGTH);
    }

    private static String recipe(String step, boolean sequential, int samples, int length) {
        return "steps: [{method: stade, sparsity: 0.5, %s}]%ncalibration: {samples: %d, length: %d, sequential: %s}"
                .formatted(step, samples, length, sequential);
    }

    @Test
    void offLeavesEveryBias() {
        Path model = Runs.model("austen-opt");
        Path output = folder.resolve("out");
        Report report = Runs.run(Runs.request(model, recipe("bias: off", true)), output);
        assertThat(report.sites()).extracting(Report.SiteResult::bias).containsOnly("kept");
        Runs.masks(model, output, report);
    }

    /**
     * The pruned weights are those with the smallest |w| * std in the dense model, and the new bias is b + sum of pruned w
     * times the mean of its input, rounded once to the file's type.
     */
    @ParameterizedTest
    @ValueSource(strings = {"austen-opt", "austen-llama"})
    void theSmallestScoresGoAndTheBiasTakesUpTheirMean(String name) throws IOException {
        Path model = Runs.model(name);
        Path output = folder.resolve("out");
        Report report = Runs.run(Runs.request(model, recipe("bias: paper", false)), output);
        Map<String, boolean[][]> masks = Runs.masks(model, output, report);
        Map<String, List<float[]>> inputs = inputs(model, windows(model, SAMPLES, LENGTH));
        int different = 0;
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            for (Site site : Runs.sites(model)) {
                float[][] weights = Runs.weights(source, site);
                double[] means = means(inputs.get(site.input()));
                assertSmallestScores(
                        site, weights, deviations(inputs.get(site.input()), means), masks.get(site.name()));
                Tensor bias = written.tensor(site.name() + ".bias");
                assertThat(bias.dtype()).isEqualTo(DType.BF16);
                for (int row = 0; row < weights.length; row++) {
                    double expected = site.bias() == null
                            ? 0
                            : Floats.get(DType.BF16, source.tensor(site.bias()).data(), row);
                    different += shift(weights[row], masks.get(site.name())[row], means) != 0 ? 1 : 0;
                    expected += shift(weights[row], masks.get(site.name())[row], means);
                    double actual = Floats.get(DType.BF16, bias.data(), row);
                    // half a unit in the last of bf16's 8 bits, and what fp32 sums lose
                    if (!(Math.abs(actual - expected) <= Math.abs(expected) * 0x1p-8 + 1e-5)) {
                        throw new AssertionError(site.name() + "[" + row + "]: " + actual + ", not " + expected);
                    }
                }
            }
        }
        assertThat(different).isGreaterThan(4000);
    }

    @Test
    void newBiasesTurnOnTheirFlagsAndNothingElseInTheConfiguration() throws IOException {
        Path model = Runs.model("austen-llama");
        Path output = folder.resolve("out");
        Report report = Runs.run(Runs.request(model, recipe("bias: paper", true)), output);
        assertThat(report.sites()).extracting(Report.SiteResult::bias).containsOnly("added");
        assertThat(Files.readString(output.resolve("config.json")))
                .isEqualTo(Files.readString(model.resolve("config.json"))
                        .replace("\"attention_bias\": false", "\"attention_bias\": true")
                        .replace("\"mlp_bias\": false", "\"mlp_bias\": true"))
                .isNotEqualTo(Files.readString(model.resolve("config.json")));
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            assertThat(written.names()).hasSize(source.names().size() + 28);
        }
        for (String file : List.of("tokenizer.json", "tokenizer_config.json", "generation_config.json")) {
            assertThat(Files.mismatch(model.resolve(file), output.resolve(file)))
                    .isEqualTo(-1);
        }
        assertThat(Runs.sites(output)).allMatch(site -> site.bias() != null);
    }

    @Test
    void oneNewBiasBringsZerosToTheSitesThatShareItsFlag() throws IOException {
        Path model = Runs.model("austen-llama");
        Path output = folder.resolve("out");
        String only = "model.layers.1.self_attn.o_proj";
        Report report = Runs.run(Runs.request(model, recipe("bias: paper, targets: [\"" + only + "\"]", true)), output);
        assertThat(report.sites()).hasSize(1);
        assertThat(Files.readString(output.resolve("config.json")))
                .contains("\"attention_bias\": true")
                .contains("\"mlp_bias\": false");
        try (HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            for (Site site : Runs.sites(model)) {
                boolean attention = site.name().contains("self_attn");
                assertThat(written.contains(site.name() + ".bias"))
                        .as(site.name())
                        .isEqualTo(attention);
                if (attention) {
                    float[] bias = Floats.toArray(written.tensor(site.name() + ".bias"));
                    if (site.name().equals(only)) {
                        assertThat(bias).isNotEqualTo(new float[bias.length]);
                    } else {
                        assertThat(bias).containsOnly(0);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"mistral-window, model.layers.0.self_attn.q_proj", "qwen2-bias, model.layers.0.self_attn.o_proj"})
    void biasesThatNoConfigurationCanExpressAreRefusedOrLeftOut(String name, String site) throws IOException {
        CompressionRequest request = Runs.request(Runs.model(name), recipe("bias: paper", true));
        assertThatThrownBy(() -> Sentei.plan(request))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("site " + site + " has no bias")
                .hasMessageContaining("use bias: auto or bias: off");

        Path output = folder.resolve("out");
        Report report = Runs.run(
                Runs.request(
                                Runs.model(name),
                                "steps: [{method: stade, sparsity: 0.5}]\ncalibration: {samples: 8, length: 16}")
                        .withCalibration(Runs.words(folder, 200))
                        .withTokenizer(Runs.wordTokenizer(folder)),
                output);
        assertThat(report.warnings()).singleElement().asString().contains(site).contains("without a bias update");
        assertThat(report.sites())
                .filteredOn(result -> !result.name().matches(".*[qkv]_proj") || name.startsWith("mistral"))
                .extracting(Report.SiteResult::bias)
                .containsOnly("kept");
        try (HuggingFaceFolder source = HuggingFaceFolder.open(Runs.model(name));
                HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            assertThat(written.names()).containsExactlyInAnyOrderElementsOf(source.names());
        }
        assertThat(Files.mismatch(Runs.model(name).resolve("config.json"), output.resolve("config.json")))
                .isEqualTo(-1);
    }

    /** Against both errors computed in full on the held-out windows, so few that some updates do not carry over. */
    @Test
    void autoKeepsAnUpdateExactlyWhereTheHeldOutErrorFalls() throws IOException {
        Path model = Runs.model("austen-opt");
        Path output = folder.resolve("out");
        int samples = 5;
        int length = 6;
        Report report = Runs.run(Runs.request(model, recipe("bias: auto", false, samples, length)), output);
        Map<String, boolean[][]> masks = Runs.masks(model, output, report);
        List<int[]> windows = windows(model, samples, length);
        Map<String, List<float[]>> fitting = inputs(model, windows.subList(0, 4));
        Map<String, List<float[]>> heldOut = inputs(model, windows.subList(4, 5));
        Map<String, Integer> fates = new HashMap<>();
        Map<String, Report.SiteResult> results = new HashMap<>();
        report.sites().forEach(result -> results.put(result.name(), result));
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model)) {
            for (Site site : Runs.sites(model)) {
                float[][] weights = Runs.weights(source, site);
                boolean[][] mask = masks.get(site.name());
                double[] means = means(fitting.get(site.input()));
                double without = 0;
                double with = 0;
                for (int row = 0; row < weights.length; row++) {
                    double shift = shift(weights[row], mask[row], means);
                    for (float[] input : heldOut.get(site.input())) {
                        double removed = 0;
                        for (int col = 0; col < input.length; col++) {
                            removed += mask[row][col] ? (double) weights[row][col] * input[col] : 0;
                        }
                        without += removed * removed;
                        with += (removed - shift) * (removed - shift);
                    }
                }
                assertThat(results.get(site.name()).bias())
                        .as("%s: error %s with the update, %s without", site.name(), with, without)
                        .isEqualTo(with < without ? "updated" : "kept");
                fates.merge(results.get(site.name()).bias(), 1, Integer::sum);
            }
        }
        assertThat(fates).as("a test that cannot tell them apart is none").containsKeys("updated", "kept");
    }

    // ---- direct computation

    private static List<int[]> windows(Path model, int samples, int length) throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(model.resolve("tokenizer.json"))) {
            int[] tokens = tokenizer.encode(Files.readString(Runs.CALIBRATION), false);
            return TextData.read(Runs.CALIBRATION).windows(tokens, samples, length);
        }
    }

    /** What every site reads in the dense model, one row a token. */
    private static Map<String, List<float[]>> inputs(Path model, List<int[]> windows) {
        Map<String, List<float[]>> inputs = new HashMap<>();
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                Backend backend = Backends.find(Backends.AUTO).open(Backend.Options.defaults());
                Scope scope = new Scope(backend)) {
            Transformer transformer = Transformer.of(source.config(), source);
            TokenBatch batch = TokenBatch.of(windows.toArray(int[][]::new));
            try (HiddenStates states = new HiddenStates(transformer, List.of(batch), scope)) {
                for (int block = 0; block < transformer.blocks(); block++) {
                    try (Scope blockScope = scope.child()) {
                        states.advance(
                                transformer.load(block, blockScope),
                                (linear, input) ->
                                        inputs.computeIfAbsent(linear.site().input(), _ -> rows(input, backend)));
                    }
                }
            }
        }
        return inputs;
    }

    private static List<float[]> rows(View view, Backend backend) {
        List<float[]> rows = new ArrayList<>();
        for (long row = 0; row < view.rows(); row++) {
            float[] values = new float[Math.toIntExact(view.cols())];
            backend.copyOut(view.rows(row, row + 1), MemorySegment.ofArray(values));
            rows.add(values);
        }
        return rows;
    }

    private static double[] means(List<float[]> rows) {
        double[] means = new double[Objects.requireNonNull(rows).getFirst().length];
        for (float[] row : rows) {
            for (int col = 0; col < means.length; col++) {
                means[col] += (double) row[col] / rows.size();
            }
        }
        return means;
    }

    private static double[] deviations(List<float[]> rows, double[] means) {
        double[] deviations = new double[means.length];
        for (int col = 0; col < means.length; col++) {
            double squares = 0;
            for (float[] row : rows) {
                squares += (row[col] - means[col]) * (row[col] - means[col]);
            }
            deviations[col] = Math.sqrt(squares / (rows.size() - 1));
        }
        return deviations;
    }

    /** Scores that differ by rounding alone may stand on either side of the cut. */
    private static void assertSmallestScores(Site site, float[][] weights, double[] scale, boolean[][] mask) {
        for (int row = 0; row < weights.length; row++) {
            double[] scores = new double[scale.length];
            for (int col = 0; col < scores.length; col++) {
                scores[col] = Math.abs(weights[row][col]) * scale[col];
            }
            double[] sorted = scores.clone();
            Arrays.sort(sorted);
            double cut = sorted[scores.length / 2 - 1];
            for (int col = 0; col < scores.length; col++) {
                if (!(mask[row][col] ? scores[col] <= cut * (1 + 1e-5) : scores[col] >= cut * (1 - 1e-5))) {
                    throw new AssertionError(site.name() + "[" + row + ", " + col + "] has the score " + scores[col]
                            + " and the cut is " + cut);
                }
            }
        }
    }

    private static double shift(float[] weights, boolean[] mask, double[] means) {
        double shift = 0;
        for (int col = 0; col < weights.length; col++) {
            shift += mask[col] ? weights[col] * means[col] : 0;
        }
        return shift;
    }
}
