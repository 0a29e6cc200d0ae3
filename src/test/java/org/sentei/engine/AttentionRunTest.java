package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.ModelZoo;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.model.AttentionPair;
import org.sentei.model.Site;
import org.sentei.tensor.Tensor;

/** Method attention through the façade: on families of all kinds, stopped and resumed, and where it is refused. */
class AttentionRunTest {
    private static final String MODEL = "llama-gqa-tied";
    private static final Path MINI_LM = ModelZoo.configured().locate("all-minilm-l6-v2");

    @TempDir
    private Path folder;

    private Path output;
    private Path text;
    private Path tokenizer;

    @BeforeEach
    void prepare() throws IOException {
        output = folder.resolve("out");
        text = Runs.words(folder, 800);
        tokenizer = Runs.wordTokenizer(folder);
    }

    private CompressionRequest request(String model, String steps) {
        return request(Runs.model(model), steps, 16);
    }

    private CompressionRequest request(Path model, String steps, int samples) {
        return CompressionRequest.of(
                        model,
                        Recipes.parse("steps: [" + steps + "]\ncalibration: {samples: " + samples + ", length: 16}"))
                .withCalibration(text)
                .withTokenizer(tokenizer)
                .on("cpu", Backend.Options.defaults());
    }

    private static double error(Report.Attention layer, String method) {
        return layer.methods().stream()
                .filter(found -> found.method().equals(method))
                .findFirst()
                .orElseThrow()
                .error();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "llama-gqa-tied | sparsity: 0.37, iterations: 12",
                "llama3-rope-scaled | sparsity: 0.5, scope: row, iterations: 6, windows: 4",
                "mistral-window | pattern: '1:2', iterations: 6",
                "qwen2-bias | sparsity: 0.5, descent: soft, iterations: 8, penalty: 0.1",
                "qwen3-qknorm | sparsity: 0.5, iterations: 12, start: wanda",
                "opt | pattern: '2:4', start: stade, iterations: 6",
                "bert | sparsity: 0.5, descent: saliency",
                "bert | sparsity: 0.5, start: magnitude, iterations: 6",
                "opt | sparsity: 0.25, start: ones, iterations: 11"
            })
    void onlyQueriesAndKeysArePrunedByTheExactNumber(String name, String step) {
        Path model = Runs.model(name);
        Report report = Runs.run(request(name, "{method: attention, " + step + "}"), output);
        Map<String, Report.SiteResult> results =
                report.sites().stream().collect(Collectors.toMap(Report.SiteResult::name, site -> site));
        try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            for (Site site : Runs.sites(model)) {
                boolean attends = site.role() == Site.Role.QUERY || site.role() == Site.Role.KEY;
                assertThat(results.containsKey(site.name())).isEqualTo(attends);
                if (!attends) {
                    assertThat(Runs.bytes(written.tensor(site.weight())))
                            .isEqualTo(Runs.bytes(source.tensor(site.weight())));
                    continue;
                }
                float[][] before = Runs.weights(source, site);
                float[][] after = Runs.weights(written, site);
                long pruned = 0;
                for (int row = 0; row < before.length; row++) {
                    for (int col = 0; col < before[row].length; col++) {
                        assertThat(after[row][col]).isIn(before[row][col], 0f);
                        pruned += after[row][col] == 0 ? 1 : 0;
                    }
                }
                Report.SiteResult result = results.get(site.name());
                assertThat(result.method()).isEqualTo("attention");
                assertThat(result.pruned())
                        .isEqualTo((long) (result.requested() * site.parameters() + 1e-9))
                        .isEqualTo(pruned);
            }
        }
        assertThat(report.attention()).hasSize(results.size() / 2);
        for (Report.Attention layer : report.attention()) {
            double own = error(layer, "attention");
            assertThat(own > 0).isTrue();
            assertThat(own <= layer.heldOut().getFirst().error()).isTrue();
            double best = layer.heldOut().stream()
                    .mapToDouble(Report.Look::error)
                    .min()
                    .orElseThrow();
            assertThat(own).isEqualTo(best);
            double kept = layer.queryDensity().stream()
                    .mapToDouble(Double::doubleValue)
                    .average()
                    .orElseThrow();
            Report.SiteResult query = results.get(layer.query());
            assertThat(Math.abs(kept - 1 + (double) query.pruned() / query.parameters()) <= 1e-12)
                    .isTrue();
        }
        assertThat(report.attention().getFirst().picture().panels()).hasSizeGreaterThan(5);
        assertThat(output.resolve("report.html")).content().contains("<h2>Attention matrices</h2>");
        long kept =
                report.attention().stream().filter(layer -> layer.step() == 0).count();
        boolean descends = !step.contains("saliency");
        assertThat(report.warnings().stream().filter(said -> said.contains("which is kept")))
                .hasSize(descends ? (int) kept : 0);
    }

    @Test
    void halfOfARealModelsQueryAndKeyWeightsCostLessThanByWanda() {
        CompressionRequest request = Runs.request(
                Runs.model("austen-llama"),
                "steps: [{method: attention, sparsity: 0.5, iterations: 20, windows: 16, rate: 0.02}]\n"
                        + "calibration: {samples: 32, length: 64}");
        Report report = Runs.run(request, output);
        assertThat(report.attention()).hasSize(4);
        for (Report.Attention layer : report.attention()) {
            for (String other : List.of("magnitude", "wanda", "stade", "stade, bias updated", "saliency")) {
                assertThat(error(layer, "attention")).as(other).isLessThan(0.85 * error(layer, other));
            }
        }
    }

    @Test
    void attentionErrorsAreThoseOfAModelAgainstItsOriginal() {
        Runs.run(request(MODEL, "{method: wanda, sparsity: 0.5, targets: ['*.1.*.q_proj', '*.v_proj']}"), output);
        List<Sentei.Metric> pruned = Sentei.attentionErrors(against(output, Runs.model(MODEL)), Progress.NONE);
        assertThat(pruned)
                .extracting(Sentei.Metric::metric)
                .containsExactly(
                        "attention_error",
                        "attention_error model.layers.0.self_attn.q_proj",
                        "attention_error model.layers.1.self_attn.q_proj");
        assertThat(pruned.get(1).value()).isZero();
        assertThat(pruned.get(2).value()).isBetween(0.001, 1.0);
        assertThat(pruned.getFirst().value()).isEqualTo(pruned.get(2).value() / 2);
        assertThatThrownBy(() -> Sentei.attentionErrors(against(Runs.model("opt"), Runs.model(MODEL)), Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("has not the queries and keys of");
        assertThatThrownBy(() -> Sentei.attentionErrors(against(output, null), Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("--against");
    }

    private Sentei.EvaluationRequest against(Path model, Path original) {
        return new Sentei.EvaluationRequest(
                model,
                Optional.ofNullable(original),
                text,
                Optional.of(tokenizer),
                Optional.of(16),
                "cpu",
                Backend.Options.defaults());
    }

    @Test
    void otherStepsPruneTheOtherSites() {
        Report report = Runs.run(
                request(
                        MODEL,
                        "{method: attention, sparsity: 0.5, iterations: 4, targets: ['*.q_proj', '*.k_proj']},"
                                + " {method: stade, sparsity: 0.5, ignore: ['*.q_proj', '*.k_proj']}"),
                output);
        assertThat(report.sites()).hasSameSizeAs(Runs.sites(Runs.model(MODEL)));
        assertThat(report.sites()).extracting(Report.SiteResult::method).contains("attention", "stade");
    }

    @Test
    void queriesCanBePrunedAlone() {
        Report report = Runs.run(
                request(MODEL, "{method: attention, sparsity: 0.5, iterations: 6, targets: ['*.q_proj']}"), output);
        assertThat(report.sites()).allMatch(site -> site.name().endsWith("q_proj"));
        assertThat(report.attention()).allSatisfy(layer -> {
            assertThat(layer.keyDensity()).containsOnly(1.0);
            assertThat(error(layer, "attention") <= layer.heldOut().getFirst().error())
                    .isTrue();
        });
    }

    @Test
    void theCpuFindsWhatTheReferenceFinds() {
        String step = "{method: attention, sparsity: 0.5, iterations: 8}";
        Report cpu = Runs.run(request(MODEL, step), output);
        Report reference =
                Runs.run(request(MODEL, step).on("reference", Backend.Options.defaults()), folder.resolve("reference"));
        for (int i = 0; i < cpu.attention().size(); i++) {
            List<Double> theirs = cpu.attention().get(i).errors();
            List<Double> ours = reference.attention().get(i).errors();
            assertThat(Math.abs(theirs.getFirst() - ours.getFirst()) <= 1e-4 * ours.getFirst())
                    .isTrue();
            assertThat(Math.abs(theirs.getLast() - ours.getLast()) <= 0.02 * ours.getLast())
                    .isTrue();
        }
    }

    // ---- stopped and resumed

    /** Stops when it hears of a stage. */
    private static class StopAt implements Progress {
        private final String stage;
        boolean heard;

        StopAt(String stage) {
            this.stage = stage;
        }

        @Override
        public void advanced(String said, long done, long total) {
            heard |= said.contains(stage);
        }

        @Override
        public boolean cancelled() {
            return heard;
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"straight-through", "soft"})
    void aRunThatStopsInsideALayerGoesOnThere(String descent) throws IOException {
        String step = "{method: attention, sparsity: 0.5, iterations: 30, descent: " + descent + "}";
        Runs.run(request(MODEL, step), folder.resolve("whole"));
        Path state = folder.resolve(".out.partial/journal/descent.safetensors");
        try (Plan plan = Sentei.plan(request(MODEL, step))) {
            StopAt stop = new StopAt("group 2 of 2: descent, step 13 ");
            assertThatThrownBy(() -> plan.run(output, Journaling.ON, stop)).isInstanceOf(CancellationException.class);
            assertThat(state).exists();
            StopAt late = new StopAt("group 2 of 2: descent, step 22 ");
            assertThatThrownBy(() -> plan.run(output, Journaling.RESUME, late))
                    .isInstanceOf(CancellationException.class);
            StopAt never = new StopAt("group 2 of 2: resumed behind step 20") {
                @Override
                public boolean cancelled() {
                    return false;
                }
            };
            plan.run(output, Journaling.RESUME, never);
            assertThat(never.heard).isTrue();
        }
        assertThat(state).doesNotExist();
        try (Stream<Path> files = Files.list(folder.resolve("whole"))) {
            for (Path file :
                    files.filter(other -> !other.toString().contains("report.")).toList()) {
                assertThat(Files.mismatch(file, output.resolve(file.getFileName())))
                        .isEqualTo(-1);
            }
        }
    }

    @Test
    void whatStoppedInsideALayerIsNotForAnotherRun() throws IOException {
        String step = "{method: attention, sparsity: 0.5, iterations: 30}";
        Path state = folder.resolve(".out.partial/journal/descent.safetensors");
        StopAt stop = new StopAt("group 1 of 2: descent, step 13 ");
        try (Plan plan = Sentei.plan(request(MODEL, step))) {
            assertThatThrownBy(() -> plan.run(output, Journaling.ON, stop)).isInstanceOf(CancellationException.class);
        }
        try (Plan plan = Sentei.plan(request(MODEL, step.replace("30", "31")))) {
            assertThatThrownBy(() -> plan.run(output, Journaling.RESUME, Progress.NONE))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("recipe.steps");
        }
        byte[] content = Files.readAllBytes(state);
        content[content.length / 2] ^= 1;
        Files.write(state, content);
        try (Plan plan = Sentei.plan(request(MODEL, step))) {
            assertThatThrownBy(() -> plan.run(output, Journaling.RESUME, Progress.NONE))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContainingAll("descent.safetensors", "is damaged", "remove");
        }
    }

    // ---- ONNX

    @Test
    void theHeadsOfMiniLmAreFoundInItsGraph() {
        try (OnnxFile file = OnnxFile.open(MINI_LM)) {
            List<AttentionPair> pairs = file.attentions();
            assertThat(pairs).hasSize(6);
            for (int i = 0; i < 6; i++) {
                AttentionPair pair = pairs.get(i);
                assertThat(pair.query().name()).isEqualTo("encoder.layer." + i + ".attention.self.query");
                assertThat(pair.key().name()).isEqualTo("encoder.layer." + i + ".attention.self.key");
                assertThat(List.of(pair.heads(), pair.keyHeads(), pair.headSize()))
                        .containsExactly(12, 12, 32);
                assertThat(Math.abs(pair.scale() - 1 / Math.sqrt(32)) <= 1e-7).isTrue();
                assertThat(pair.causal()).isFalse();
            }
        }
    }

    @Test
    void aGraphIsPrunedBlockByBlock() {
        CompressionRequest request = Runs.request(
                MINI_LM,
                "steps: [{method: attention, sparsity: 0.5, iterations: 5,"
                        + " targets: ['*layer.0.*query', '*layer.0.*key', '*layer.1.*key']}]"
                        + "\ncalibration: {samples: 8, length: 32}");
        Report report = Runs.run(request, output);
        assertThat(report.attention()).hasSize(2);
        assertThat(report.attention())
                .allSatisfy(layer -> assertThat(error(layer, "attention")).isLessThan(error(layer, "wanda")));
        try (OnnxFile written = OnnxFile.open(output.resolve("model.onnx"))) {
            assertThat(written.attentions()).hasSize(6);
        }
    }

    // ---- refused

    private void refused(String model, String recipe, String... parts) {
        CompressionRequest request = CompressionRequest.of(Runs.model(model), Recipes.parse(recipe))
                .withCalibration(text)
                .withTokenizer(tokenizer);
        assertThatThrownBy(() -> Sentei.plan(request).close())
                .isInstanceOf(RecipeException.class)
                .hasMessageContainingAll(parts);
    }

    @Test
    void whatIsNoAttentionProjectionIsRefused() {
        String data = "\ncalibration: {samples: 16, length: 16}";
        refused(
                MODEL,
                "steps: [{method: attention, sparsity: 0.5, targets: ['*.v_proj']}]" + data,
                "model.layers.0.self_attn.v_proj makes neither queries nor keys",
                "leave targets out");
        refused(
                "gpt2",
                "steps: [{method: attention, sparsity: 0.5}]" + data,
                "no site that makes queries or keys alone");
        refused(
                "gpt2",
                "steps: [{method: attention, sparsity: 0.5, targets: ['*c_attn']}]" + data,
                "in one matrix",
                "another method");
    }

    @Test
    void budgetsThatCannotBeSpentAreRefused() {
        String data = "\ncalibration: {samples: 16, length: 16}";
        refused(MODEL, "steps: [{method: attention, sparsity: 0.99}]" + data, "keeps", "outputs", "prune less");
        refused(
                MODEL,
                "steps: [{method: attention, sparsity: 0.5, targets: ['*.q_proj']},"
                        + " {method: attention, sparsity: 0.4, targets: ['*.k_proj']}]" + data,
                "meet in one attention",
                "one step");
        refused(
                MODEL,
                "steps: [{method: attention, sparsity: 0.5}]\ncalibration: {samples: 3, length: 16}",
                "holds out",
                "at least 4");
        refused(
                MODEL,
                "steps: [{method: attention, sparsity: 0.5}]\ncalibration: {samples: 16, length: 100000}",
                "calibration.length is 100000");
    }

    @Test
    void aGraphCannotBePrunedAllAtOnce() {
        CompressionRequest request = Runs.request(
                MINI_LM,
                "steps: [{method: attention, sparsity: 0.5}]\n"
                        + "calibration: {samples: 8, length: 32, sequential: false}");
        assertThatThrownBy(() -> Sentei.plan(request).close())
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("sequential");
    }

    /** Queries and keys so large that their products overflow. */
    @Test
    void aDescentWithoutFiniteNumbersNamesLayerStepAndRate() throws IOException {
        Path model = Files.createDirectory(folder.resolve("large"));
        try (Stream<Path> files = Files.list(Runs.model(MODEL))) {
            for (Path file : files.toList()) {
                Files.copy(file, model.resolve(file.getFileName()));
            }
        }
        scale(model, 3e19f);
        CompressionRequest request = request(model, "{method: attention, sparsity: 0.5, iterations: 5}", 16);
        try (Plan plan = Sentei.plan(request)) {
            assertThatThrownBy(() -> plan.run(output, Journaling.ON, Progress.NONE))
                    .isInstanceOf(RunException.class)
                    .hasMessageContainingAll(
                            "layer model.layers.0.self_attn.q_proj", "at step 1", "learning rate 0.01", "best mask");
        }
        assertThat(folder.resolve(".out.partial/journal/descent.safetensors")).exists();
    }

    private static void scale(Path model, float factor) throws IOException {
        Path file = model.resolve("model.safetensors");
        byte[] content = Files.readAllBytes(file);
        try (HuggingFaceFolder folder = HuggingFaceFolder.open(model)) {
            for (String name : List.of("q_proj", "k_proj")) {
                Tensor tensor = folder.tensor("model.layers.0.self_attn." + name + ".weight");
                byte[] values = Runs.bytes(tensor);
                int at = indexOf(content, values);
                ByteBuffer buffer = ByteBuffer.wrap(content, at, values.length).order(ByteOrder.LITTLE_ENDIAN);
                for (int i = 0; i < values.length; i += Float.BYTES) {
                    buffer.putFloat(at + i, buffer.getFloat(at + i) * factor);
                }
            }
        }
        Files.write(file, content);
    }

    private static int indexOf(byte[] content, byte[] part) {
        int at = 0;
        while (!Arrays.equals(content, at, at + part.length, part, 0, part.length)) {
            at++;
        }
        return at;
    }
}
