package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
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
import org.sentei.kernel.Backend;
import org.sentei.model.ModelException;

/** What cannot be done ends in one error of the right kind, early, and leaves nothing behind. */
class CompressionErrorsTest {
    private static final String MODEL = "llama-gqa-tied";
    private static final String WANDA =
            "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: {samples: 4, length: 16}\n";

    @TempDir
    private Path folder;

    private Path output;
    private Path text;
    private Path tokenizer;

    @BeforeEach
    void prepare() throws IOException {
        output = Files.createDirectory(folder.resolve("outputs")).resolve("out");
        text = Runs.words(folder, 400);
        tokenizer = Runs.wordTokenizer(folder);
    }

    private CompressionRequest request(Path model, String recipe) {
        return CompressionRequest.of(model, Recipes.parse(recipe))
                .withCalibration(text)
                .withTokenizer(tokenizer)
                .on("reference", Backend.Options.defaults());
    }

    /** One error, of this very type, that says all of this; and no output, whole or partial. */
    private void refused(Class<? extends RuntimeException> type, CompressionRequest request, String... parts) {
        List<String> before = Runs.files(output.getParent());
        RuntimeException failure = catchThrowableOfType(type, () -> Runs.run(request, output));
        assertThat(failure).isExactlyInstanceOf(type).hasMessageContainingAll(parts);
        assertThat(failure.getSuppressed()).isEmpty();
        assertThat(failure.getMessage()).doesNotContain("\n");
        assertThat(Runs.files(output.getParent())).isEqualTo(before);
    }

    // ---- damaged models

    /** A copy of a model in which one F32 element of a tensor is another. */
    private Path damaged(String name, String tensor, long element, float value) throws IOException {
        Path copy = Files.createDirectory(folder.resolve("damaged"));
        try (Stream<Path> files = Files.list(Runs.model(name))) {
            for (Path file : files.toList()) {
                Files.copy(file, copy.resolve(file.getFileName()));
            }
        }
        Path weights = copy.resolve("model.safetensors");
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(weights)).order(ByteOrder.LITTLE_ENDIAN);
        int header = Math.toIntExact(bytes.getLong(0));
        JsonNode entry = new ObjectMapper()
                .readTree(new String(bytes.array(), 8, header, StandardCharsets.UTF_8))
                .get(tensor);
        assertThat(entry.get("dtype").textValue()).isEqualTo("F32");
        long start = 8 + header + entry.get("data_offsets").get(0).longValue();
        bytes.putFloat(Math.toIntExact(start + element * Float.BYTES), value);
        Files.write(weights, bytes.array());
        return copy;
    }

    @ParameterizedTest
    @CsvSource({
        "model.layers.1.mlp.up_proj.weight, NaN, 1 NaN and 0 infinite",
        "model.layers.1.input_layernorm.weight, -Infinity, 0 NaN and 1 infinite",
        "model.embed_tokens.weight, NaN, 1 NaN"
    })
    void weightsThatAreNoNumbersNameTheirTensor(String tensor, float value, String fact) throws IOException {
        Path model = damaged(MODEL, tensor, 7, value);
        // token 0 occurs in the text, so that its row of the table is read
        Files.writeString(text, "w0 ".repeat(200));
        refused(ModelException.class, request(model, WANDA), "tensor " + tensor, fact, "damaged");
    }

    @Test
    void magnitudeReadsOnlyWhatItPrunesAndStillChecksIt() throws IOException {
        String tensor = "model.layers.1.mlp.up_proj.weight";
        Path model = damaged(MODEL, tensor, 7, Float.NaN);
        refused(
                ModelException.class,
                CompressionRequest.of(model, Recipes.parse("steps: [{method: magnitude, sparsity: 0.5}]")),
                "tensor " + tensor);
        refused(
                ModelException.class,
                CompressionRequest.of(
                        model, Recipes.parse("steps: [{method: magnitude, sparsity: 0.5, scope: global}]")),
                "tensor " + tensor);
    }

    @ParameterizedTest
    @ValueSource(strings = {"magnitude", "wanda", "stade"})
    void activationsThatOverflowNameTheSiteThatReadsThem(String method) throws IOException {
        Path model = damaged(MODEL, "model.layers.1.post_attention_layernorm.weight", 3, 3e38f);
        refused(
                RunException.class,
                request(model, WANDA.replace("wanda", method)),
                "site model.layers.1.mlp.",
                "not finite");
    }

    @Test
    void globalBudgetsCheckTheirStatisticsToo() throws IOException {
        Path model = damaged(MODEL, "model.layers.1.post_attention_layernorm.weight", 3, 3e38f);
        refused(
                RunException.class,
                request(model, WANDA.replace("0.5", "0.5, scope: global")),
                "site model.layers.1.mlp.",
                "not finite");
    }

    // ---- recipes and data that do not fit

    @Test
    void recipesThatDoNotFitTheModelAreRefusedBeforeWorkStarts() {
        record Case(String recipe, String fact, String remedy) {}
        for (Case wrong : List.of(
                new Case(
                        "steps: [{method: magnitude, pattern: \"3:7\"}]",
                        "site model.layers.0.self_attn.q_proj has 48 inputs, which pattern 3:7 does not divide",
                        "choose another pattern"),
                new Case(
                        "steps: [{method: magnitude, sparsity: 0.5, targets: [\"*.q_porj\"]}]",
                        "target *.q_porj matches no site",
                        "the nearest is model.layers.0.self_attn.q_proj"),
                new Case(
                        "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: {length: 65}",
                        "calibration.length is 65, but the model takes 64 tokens at most",
                        "choose a shorter one"),
                new Case(
                        "steps: [{method: stade, sparsity: 0.5, bias: auto}]\ncalibration: {samples: 3, length: 16}",
                        "there are only 3",
                        "calibrate on at least 4"))) {
            assertThatThrownBy(() -> Sentei.plan(request(Runs.model(MODEL), wrong.recipe())))
                    .isExactlyInstanceOf(RecipeException.class)
                    .hasMessageContainingAll(wrong.fact(), wrong.remedy());
        }
    }

    @Test
    void recipesThatWantDataSaySo() {
        CompressionRequest nothing = CompressionRequest.of(Runs.model(MODEL), Recipes.parse(WANDA));
        refused(RecipeException.class, nothing, "no calibration text", "--calibration");
        refused(
                RecipeException.class,
                request(Runs.model(MODEL), WANDA + "quality: {max_perplexity_increase: 0.1}"),
                "quality gate",
                "--data");
    }

    @Test
    void calibrationTextsThatAreTooShortAreRefused() throws IOException {
        Files.writeString(text, "w1 w2 w3");
        refused(
                FormatException.class,
                request(Runs.model(MODEL), WANDA),
                text.toString(),
                "its 3 tokens give 0 windows of 16, the recipe wants 4",
                "give more text");
        Files.writeString(text, "");
        refused(FormatException.class, request(Runs.model(MODEL), WANDA), "its 0 tokens give 0 windows");
    }

    @Test
    void textsOfAnotherModelsTokenizerAreRefused() {
        refused(
                ModelException.class,
                request(Runs.model(MODEL), WANDA)
                        .withCalibration(Runs.CALIBRATION)
                        .withTokenizer(Runs.model("austen-llama").resolve("tokenizer.json")),
                "outside the vocabulary of 97",
                "use the tokenizer that belongs to the model");
    }

    @Test
    void missingTokenizersAndDataAreNamed() {
        CompressionRequest bare = CompressionRequest.of(Runs.model(MODEL), Recipes.parse(WANDA));
        refused(FormatException.class, bare.withCalibration(text), "has no tokenizer.json", "--tokenizer");
        Path absent = folder.resolve("absent");
        refused(FormatException.class, request(absent, WANDA), absent.toString(), "does not exist");
        refused(FormatException.class, request(Runs.model(MODEL), WANDA).withTokenizer(absent), absent.toString());
        refused(
                FormatException.class,
                request(Runs.model(MODEL), WANDA).withCalibration(absent),
                absent.toString(),
                "does not exist");
    }

    /** The whole compression would be for nothing: such data are refused before it begins. */
    @Test
    void dataThatCannotJudgeTheModelAreRefusedBeforeItIsCompressed() throws IOException {
        Path table = Files.writeString(folder.resolve("pairs.tsv"), "query\tanswer\nw1\tw2\n");
        Path few = Files.writeString(folder.resolve("few.txt"), "w1 w2 w3");
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        List<String> stages = new ArrayList<>();
        Progress listener = (stage, done, total) -> stages.add(stage);
        assertThatThrownBy(() -> Runs.run(request.withData(table), output, listener))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("a decoder is measured on plain text");
        assertThatThrownBy(() -> Runs.run(request.withData(few), output, listener))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("the text has 3 tokens");
        assertThatThrownBy(() -> Runs.run(
                        request(Runs.model(MODEL), WANDA + "quality: {min_cosine: 0.9}")
                                .withData(text),
                        output,
                        listener))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("quality gate min_cosine")
                .hasMessageContaining("a decoder");
        assertThatThrownBy(() -> Runs.run(
                        request(Runs.model("bert"), WANDA + "quality: {max_perplexity_increase: 0.1}")
                                .withData(table),
                        output,
                        listener))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("quality gate max_perplexity_increase")
                .hasMessageContaining("an encoder");
        assertThat(stages).noneMatch(stage -> stage.startsWith("group"));
        assertThat(Runs.files(output.getParent())).isEmpty();
    }

    // ---- places

    @Test
    void aFolderWithSomethingInItIsLeftAlone() throws IOException {
        Files.createDirectory(output);
        Files.writeString(output.resolve("precious.txt"), "kept");
        refused(FormatException.class, request(Runs.model(MODEL), WANDA), "is not empty");
        assertThat(output.resolve("precious.txt")).hasContent("kept");
    }

    @Test
    void theModelsOwnFolderIsNoOutput() throws IOException {
        Path model = damaged(MODEL, "model.layers.1.mlp.up_proj.weight", 7, 1);
        List<String> files = Runs.files(model);
        List<String> stages = new ArrayList<>();
        for (Path place : List.of(model, model.resolve("out"), model.resolve("a/b"))) {
            assertThatThrownBy(() -> Runs.run(request(model, WANDA), place, (stage, done, total) -> stages.add(stage)))
                    .isInstanceOf(FormatException.class);
            assertThat(Runs.files(model)).isEqualTo(files);
            assertThat(model.resolve("a")).doesNotExist();
        }
        assertThat(stages).isEmpty();
    }

    // ---- stopping

    /** Cancelled when asked for the first, second... time, until the run outlives the patience. */
    @Test
    void aRunCanBeStoppedAnywhereAndLeavesNothing() {
        CompressionRequest request = request(Runs.model(MODEL), WANDA).withData(text);
        int stopped = 0;
        for (int patience = 0; ; patience += 1 + patience / 6) {
            Impatient progress = new Impatient(patience);
            try {
                Runs.run(request, output, progress);
                break;
            } catch (CancellationException e) {
                stopped++;
                assertThat(e).hasMessageContaining("no output was written").hasNoSuppressedExceptions();
                assertThat(Runs.files(output.getParent())).isEmpty();
            }
        }
        assertThat(stopped).isGreaterThanOrEqualTo(12);
        assertThat(output.resolve("model.safetensors")).exists();
    }

    private static final class Impatient implements Progress {
        private int left;

        Impatient(int patience) {
            left = patience;
        }

        @Override
        public void advanced(String stage, long done, long total) {
            assertThat(done).as(stage).isBetween(0L, total);
        }

        @Override
        public boolean cancelled() {
            return left-- <= 0;
        }
    }

    // ---- gates

    @Test
    void aMissedGateKeepsTheResultApart() throws IOException {
        Path model = Runs.model("austen-llama");
        Path novel = Files.writeString(
                folder.resolve("novel.txt"), Files.readString(Runs.HELD_OUT).substring(0, 8000));
        CompressionRequest request = CompressionRequest.of(
                        model,
                        Recipes.parse("steps: [{method: magnitude, sparsity: 0.8}]\n"
                                + "quality: {max_perplexity_increase: 0.25}"))
                .withData(novel);
        GateException missed = catchThrowableOfType(GateException.class, () -> Runs.run(request, output));
        assertThat(missed)
                .hasMessageContaining("quality gate max_perplexity_increase 0.25 missed: perplexity rose from")
                .hasMessageContaining(output.resolve("rejected").toString());
        try (Stream<Path> entries = Files.list(output)) {
            assertThat(entries.toList()).containsExactly(output.resolve("rejected"));
        }
        assertThat(Runs.files(output.resolve("rejected")))
                .contains("config.json", "model.safetensors", "recipe.yaml", "report.html", "report.json");
        Report.Measure measure = missed.report().quality().getFirst();
        assertThat(measure.after()).isGreaterThan(1.25 * measure.before());
        assertThat(missed.report().warnings()).last().asString().contains("max_perplexity_increase");
        assertThat(output.resolve("rejected/report.json")).content().contains("max_perplexity_increase");
        Runs.masks(model, output.resolve("rejected"), missed.report());
    }

    @Test
    void aGateThatIsMetChangesNothing() {
        CompressionRequest request = request(
                        Runs.model(MODEL), WANDA.replace("0.5", "0") + "quality: {max_perplexity_increase: 0}")
                .withData(text);
        Report report = Runs.run(request, output);
        Report.Measure measure = report.quality().getFirst();
        assertThat(measure.metric()).isEqualTo("perplexity");
        assertThat(measure.after()).isEqualTo(measure.before());
        assertThat(report.warnings()).isEmpty();
        assertThat(output.resolve("model.safetensors")).exists();
    }
}
