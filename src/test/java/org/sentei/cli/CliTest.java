package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.training.ImageRecipe;
import org.sentei.engine.training.RoundedRecipe;
import org.sentei.engine.training.TrainingRecipe;
import org.sentei.kernel.AvailableBackends;

class CliTest {
    record Outcome(int code, String out, String err) {
        JsonNode document() {
            try (JsonParser parser = new ObjectMapper().createParser(out)) {
                JsonNode first = parser.readValueAsTree();
                assertThat(parser.nextToken()).as("a second document").isNull();
                return first;
            } catch (IOException notJson) {
                throw new AssertionError("stdout is not JSON: " + out, notJson);
            }
        }

        /** One clear line, no stack trace. */
        void refuses(int expected, String... parts) {
            assertThat(code).as(err).isEqualTo(expected);
            assertThat(out).isEmpty();
            assertThat(err.lines().filter(line -> line.startsWith("sentei: "))).hasSize(1);
            assertThat(List.of(parts)).allSatisfy(part -> assertThat(err).contains(part));
            assertThat(err).doesNotContain("\tat ");
        }
    }

    static Outcome sentei(String... args) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        Terminal terminal = new Terminal(
                new PrintStream(out, true, StandardCharsets.UTF_8),
                new PrintStream(err, true, StandardCharsets.UTF_8),
                false);
        int code = Main.run(args, terminal, () -> false);
        return new Outcome(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "demo",
                "doctor",
                "models",
                "recipes",
                "inspect",
                "plan",
                "compress",
                "batch",
                "stats",
                "merge-stats",
                "forward",
                "eval",
                "unpack",
                "train",
                "cut",
                "bench"
            })
    void theHelpOfEveryCommandTeachesWithAnExample(String command) {
        Outcome outcome = sentei(command, "--help");
        assertThat(outcome.code()).isEqualTo(ExitCode.OK);
        assertThat(outcome.out()).contains("Usage: sentei " + command, "Example", "  sentei " + command, "--json");
        assertThat(outcome.err()).isEmpty();
    }

    @Test
    void theHelpListsTheCommandsAndExitCodes() {
        assertThat(sentei("--help").out()).contains("doctor", "recipes", "Exit codes");
        assertThat(sentei("--version").out()).matches("sentei \\d+\\.\\d+\\.\\d+\\R");
    }

    @Test
    void wrongSyntaxEndsInTwo() {
        sentei().refuses(ExitCode.SYNTAX, "which command");
        sentei("recipe").refuses(ExitCode.SYNTAX, "there is no command recipe; the nearest is recipes");
        sentei("recipes", "--jsn").refuses(ExitCode.SYNTAX, "--jsn", "sentei recipes --help");
        sentei("doctor", "--threads", "many").refuses(ExitCode.SYNTAX, "--threads");
        sentei("doctor", "--threads", "0").refuses(ExitCode.SYNTAX, "--threads 0");
        sentei("doctor", "--threads", "1025").refuses(ExitCode.SYNTAX, "--threads 1025");
        sentei("doctor", "--device", "-1").refuses(ExitCode.SYNTAX, "--device -1");
        sentei("plan", LLAMA, "--recipe", "magnitude-50", "--seed", "-5").refuses(ExitCode.SYNTAX, "--seed -5");
        sentei("plan", LLAMA, "--recipe", "magnitude-50", "--device-memory", "0")
                .refuses(ExitCode.SYNTAX, "--device-memory 0");
        sentei("eval", LLAMA, "--data", "x.txt", "--length", "0").refuses(ExitCode.SYNTAX, "--length 0");
        sentei("doctor", "--backend", "cdua").refuses(ExitCode.SYNTAX, "the nearest is cuda");
    }

    @Test
    void aFailureIsOneDocumentToo() {
        for (String command :
                List.of("inspect no-such-model --json", "inspect --json", "doctor --backend cuda --json")) {
            Outcome outcome = sentei(command.split(" "));
            assertThat(outcome.document().get("exit_code").asInt())
                    .isEqualTo(outcome.code())
                    .isNotZero();
            assertThat(outcome.err().strip())
                    .isEqualTo("sentei: " + outcome.document().get("error").asText());
        }
    }

    @Test
    void aBackendThatIsNotThereEndsInFour() {
        assumeThat(AvailableBackends.names()).doesNotContain("cuda");
        sentei("doctor", "--backend", "cuda").refuses(ExitCode.BACKEND, "cuda");
    }

    @Test
    void printsABuiltInRecipeAsItStands() {
        Outcome outcome = sentei("recipes", "stade-50");
        assertThat(outcome.code()).isEqualTo(ExitCode.OK);
        assertThat(outcome.out()).isEqualTo(Recipes.load("stade-50").text());
        assertThat(sentei("recipes", "pmp-90").out())
                .isEqualTo(TrainingRecipe.load("pmp-90").text());
        assertThat(sentei("recipes").out().lines())
                .hasSize(Recipes.builtIn().size()
                        + TrainingRecipe.builtIn().size()
                        + ImageRecipe.builtIn().size()
                        + RoundedRecipe.builtIn().size());
        sentei("recipes", "stade-5").refuses(ExitCode.INPUT, "the nearest is stade-50");
        sentei("plan", LLAMA, "--recipe", "pmp-90").refuses(ExitCode.INPUT, "sentei train --recipe pmp-90");
        sentei("train", "--recipe", "stade-50", "--data", ".", "--out", "none")
                .refuses(ExitCode.INPUT, "sentei compress MODEL --recipe stade-50");
    }

    @Test
    void printsRecipesAsOneDocument() {
        JsonNode all = sentei("recipes", "--json").document().get("recipes");
        assertThat(all)
                .hasSize(Recipes.builtIn().size()
                        + TrainingRecipe.builtIn().size()
                        + ImageRecipe.builtIn().size()
                        + RoundedRecipe.builtIn().size());
        assertThat(all.get(0).get("description").asText()).isNotEmpty();
        assertThat(sentei("recipes", "wanda-50", "--json")
                        .document()
                        .get("text")
                        .asText())
                .isEqualTo(Recipes.load("wanda-50").text());
    }

    @Test
    void checksARecipeFile(@TempDir Path folder) throws IOException {
        Path file = Files.writeString(folder.resolve("bad.yaml"), "steps: [{method: stade, sparsity: 1.5}]");
        sentei("recipes", file.toString()).refuses(ExitCode.INPUT, "bad.yaml", "outside [0, 1)");
        Outcome verbose = sentei("recipes", file.toString(), "-v");
        assertThat(verbose.code()).isEqualTo(ExitCode.INPUT);
        assertThat(verbose.err()).contains("\tat ");
    }

    @Test
    void theDoctorChecksEveryKernelOfTheReference() {
        Outcome outcome = sentei("doctor", "--backend", "reference", "--json");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
        JsonNode backends = outcome.document().get("backends");
        assertThat(backends).hasSize(1);
        JsonNode reference = backends.get(0);
        assertThat(reference.fieldNames())
                .toIterable()
                .contains("name", "available", "reason", "device", "driver", "memory_bytes", "isa", "worst_error");
        assertThat(reference.get("available").asBoolean()).isTrue();
        assertThat(reference.get("worst_error").asDouble(Double.NaN)).isBetween(0.0, 1.0);
        assertThat(reference.get("cases").asInt()).isPositive();
    }

    private static final String LLAMA = "src/test/resources/models/austen-llama";
    private static final String CALIBRATION = "src/test/resources/text/calibration.txt";
    private static final String HELD_OUT = "src/test/resources/text/heldout.txt";

    @Test
    void inspectsAModel() {
        JsonNode model = sentei("inspect", LLAMA, "--json").document();
        assertThat(model.fieldNames()).toIterable().containsExactly("architecture", "sites", "totals");
        assertThat(model.get("sites").get(0).fieldNames())
                .toIterable()
                .containsExactly("name", "rows", "cols", "dtype", "parameters", "zeros", "pattern");
        Outcome table = sentei("inspect", LLAMA);
        assertThat(table.code()).isEqualTo(ExitCode.OK);
        assertThat(table.out()).contains("model.layers.0.self_attn.q_proj");
    }

    @Test
    void plansWithoutTouchingAnything(@TempDir Path folder) throws IOException {
        Path recipe = Files.writeString(folder.resolve("r.yaml"), "steps: [{method: magnitude, pattern: '2:4'}]");
        JsonNode plan = sentei("plan", LLAMA, "--recipe", recipe.toString(), "--backend", "reference", "--json")
                .document();
        assertThat(plan.fieldNames()).toIterable().contains("sites", "backends", "memory_bytes", "seconds");
        assertThat(plan.get("sites")).hasSize(28);
        assertThat(plan.get("backends"))
                .allSatisfy(row -> assertThat(row.get("backend").asText()).isEqualTo("reference"));
        assertThat(plan.get("memory_bytes").asLong()).isPositive();
        try (var files = Files.list(folder)) {
            assertThat(files).containsExactly(recipe);
        }
    }

    @Test
    void compressesAndMeasures(@TempDir Path folder) throws IOException {
        Path recipe = Files.writeString(
                folder.resolve("r.yaml"),
                "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: {samples: 4, length: 32}\n");
        Path out = folder.resolve("out");
        Path text = Files.writeString(
                folder.resolve("short.txt"), Files.readString(Path.of(HELD_OUT)).substring(0, 4000));
        Outcome outcome = sentei(
                "compress",
                LLAMA,
                "--recipe",
                recipe.toString(),
                "--calibration",
                CALIBRATION,
                "--data",
                text.toString(),
                "--out",
                out.toString(),
                "--json");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
        JsonNode report = outcome.document();
        assertThat(report.get("sites"))
                .allSatisfy(site -> assertThat(site.get("pruned").asLong() * 2)
                        .isEqualTo(site.get("parameters").asLong()));
        assertThat(report)
                .isEqualTo(
                        new ObjectMapper().readTree(out.resolve("report.json").toFile()));
        assertThat(Files.readString(out.resolve("recipe.yaml"))).isEqualTo(Files.readString(recipe));
        assertThat(out.resolve("report.html")).isRegularFile();
        assertThat(outcome.err()).contains("100 %");

        assertThat(sentei("inspect", out.toString(), "--json").document().get("sites"))
                .allSatisfy(site -> assertThat(site.get("pattern").isNull()).isTrue());

        sentei("compress", LLAMA, "--recipe", "magnitude-50", "--out", out.toString())
                .refuses(ExitCode.INPUT, out.toString(), "empty");

        JsonNode measured = sentei("eval", out.toString(), "--against", LLAMA, "--data", text.toString(), "--json")
                .document();
        assertThat(measured.fieldNames()).toIterable().containsExactly("model", "data", "metrics");
        JsonNode perplexity = measured.get("metrics").get(0);
        assertThat(perplexity.get("metric").asText()).isEqualTo("perplexity");
        assertThat(perplexity.get("value").asDouble())
                .isEqualTo(report.get("quality").get(0).get("after").asDouble());
        assertThat(perplexity.get("original").asDouble())
                .isLessThan(perplexity.get("value").asDouble());
    }

    @Test
    void aMissedGateEndsInFiveAndKeepsTheResultApart(@TempDir Path folder) throws IOException {
        Path recipe = Files.writeString(
                folder.resolve("r.yaml"),
                "steps: [{method: magnitude, sparsity: 0.9}]\nquality: {max_perplexity_increase: 0.01}\n");
        Path text = Files.writeString(
                folder.resolve("short.txt"), Files.readString(Path.of(HELD_OUT)).substring(0, 4000));
        Path out = folder.resolve("out");
        Outcome outcome = sentei(
                "compress",
                LLAMA,
                "--recipe",
                recipe.toString(),
                "--data",
                text.toString(),
                "--out",
                out.toString(),
                "--json");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.GATE);
        assertThat(outcome.document().get("quality")).hasSize(1);
        assertThat(outcome.err()).contains("max_perplexity_increase", "rejected");
        assertThat(out.resolve("rejected/report.json")).isRegularFile();
        assertThat(out.resolve("report.json")).doesNotExist();
    }

    @Test
    void findsThePatternOfWhatItWrote(@TempDir Path folder) {
        String out = folder.resolve("out").toString();
        assertThat(sentei("compress", LLAMA, "--recipe", "magnitude-2of4", "--out", out)
                        .code())
                .isEqualTo(ExitCode.OK);
        assertThat(sentei("inspect", out, "--json").document().get("sites"))
                .allSatisfy(site -> assertThat(site.get("pattern").asText()).isEqualTo("2:4"));
    }

    @Test
    void aBudgetOfMemoryIsKept() {
        sentei("plan", LLAMA, "--recipe", "magnitude-50", "--device-memory", "1000")
                .refuses(ExitCode.RUN_FAILED, "the budget (--device-memory) allows 1000");
    }

    @Test
    void runsOneForwardPass(@TempDir Path folder) throws IOException {
        Path ids = Files.writeString(folder.resolve("ids.json"), "{\"input_ids\": [[5, 6, 7]]}");
        Path out = folder.resolve("logits.safetensors");
        Outcome outcome =
                sentei("forward", LLAMA, "--input", ids.toString(), "--out", out.toString(), "--backend", "reference");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
        assertThat(Files.size(out)).isGreaterThan(3L * 2048 * Float.BYTES);
        sentei("forward", LLAMA, "--input", ids.toString(), "--out", ids + "/x")
                .refuses(ExitCode.INPUT, "ids.json is no folder");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "null",
                "[]",
                "{}",
                "{\"input_ids\": [1]}",
                "{\"input_ids\": [[[1]]]}",
                "{\"input_ids\": {\"a\": 1}}",
                "{\"input_ids\": [[1]",
                "{\"input_ids\": [[1.5]]}",
                "{\"input_ids\": [[\"1\"]]}",
                "{\"input_ids\": [[null]]}",
                "{\"input_ids\": [null]}",
                "{\"input_ids\": [[1]], \"input_ids\": [[1]]}",
                "{\"input_ids\": [[1]], \"ids\": 1}",
                "{\"input_ids\": [[1]]} x",
                "{\"input_ids\": [[99999999999]]}",
                "{\"input_ids\": [[4000]]}",
                "{\"input_ids\": [[-1]]}",
                "{\"input_ids\": [[1, 2], [3]]}",
                "{\"input_ids\": [[]]}",
                "{\"input_ids\": []}",
                "{\"input_ids\": [[1]], \"attention_mask\": [[2]]}",
                "{\"input_ids\": [[1]], \"attention_mask\": [[1], [1]]}"
            })
    void refusesTokensThatAreNone(String json, @TempDir Path folder) throws IOException {
        Path ids = Files.writeString(folder.resolve("ids.json"), json);
        Path out = folder.resolve("out.safetensors");
        Outcome outcome = sentei("forward", LLAMA, "--input", ids.toString(), "--out", out.toString());
        outcome.refuses(ExitCode.INPUT);
        assertThat(outcome.err()).doesNotContain("JsonToken", "java.util");
        assertThat(out).doesNotExist();
    }

    @Test
    void badInputEndsInThreeWithOneClearLine(@TempDir Path folder) throws IOException {
        String out = folder.resolve("out").toString();
        sentei("inspect", "no/such/model").refuses(ExitCode.INPUT, "no/such/model");
        sentei("inspect", folder.toString()).refuses(ExitCode.INPUT, "config.json");
        Path graph = Files.write(folder.resolve("x.onnx"), new byte[] {1, 2, 3});
        sentei("inspect", graph.toString()).refuses(ExitCode.INPUT, "x.onnx");
        sentei("plan", LLAMA, "--recipe", "stade-5O").refuses(ExitCode.INPUT, "the nearest is stade-50");
        Path recipe = Files.writeString(
                folder.resolve("r.yaml"), "steps: [{method: magnitude, sparsity: 0.5, targets: ['*.q_porj']}]");
        sentei("plan", LLAMA, "--recipe", recipe.toString()).refuses(ExitCode.INPUT, "*.q_porj", "q_proj");
        Files.writeString(recipe, "steps: [{method: magnitude, pattern: '2:7'}]");
        sentei("plan", LLAMA, "--recipe", recipe.toString()).refuses(ExitCode.INPUT, "2:7");
        sentei("compress", LLAMA, "--recipe", "wanda-50", "--out", out).refuses(ExitCode.INPUT, "--calibration");
        Path text = Files.writeString(folder.resolve("t.txt"), "too short");
        sentei("compress", LLAMA, "--recipe", "wanda-50", "--calibration", text.toString(), "--out", out)
                .refuses(ExitCode.INPUT, "too short");
        sentei("eval", LLAMA, "--data", folder.resolve("none.txt").toString()).refuses(ExitCode.INPUT, "none.txt");
        assertThat(Path.of(out)).doesNotExist();
    }

    @Test
    void theBackendIsCheckedBeforeAnyInput() {
        assumeThat(AvailableBackends.names()).doesNotContain("cuda");
        for (String command : List.of(
                "plan no/model --recipe none",
                "compress no/model --recipe none --out x",
                "forward no/model --input none --out x",
                "eval no/model --data none",
                "demo")) {
            String[] args = (command + " --backend cuda").split(" ");
            sentei(args).refuses(ExitCode.BACKEND, "cuda");
        }
    }

    @Test
    void listsModelsWithNames() {
        JsonNode models = sentei("models", "--json").document().get("models");
        assertThat(models.findValuesAsText("name")).contains("all-minilm-l6-v2", "bge-small-en-v15");
    }

    @Test
    void theProgressBarRedrawsOneLineAndCleansUp() {
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        PrintStream stream = new PrintStream(err, true, StandardCharsets.UTF_8);
        AtomicLong clock = new AtomicLong();
        try (ProgressBar bar = new ProgressBar(new Terminal(stream, stream, true), () -> false, clock::get)) {
            bar.advanced("first", 0, 4);
            bar.advanced("too soon", 1, 4);
            clock.set(2_000_000_000L);
            bar.advanced("second", 2, 4);
        }
        String drawn = err.toString(StandardCharsets.UTF_8);
        assertThat(drawn).contains("  0 %  first", " 50 %  second, 2 s left").doesNotContain("too soon", "\n");
        assertThat(drawn).endsWith("\r");
    }

    @Test
    void progressIsSparseWhereNobodyLooks() {
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        PrintStream stream = new PrintStream(err, true, StandardCharsets.UTF_8);
        AtomicLong clock = new AtomicLong();
        try (ProgressBar bar = new ProgressBar(new Terminal(stream, stream, false), () -> false, clock::get)) {
            for (int i = 0; i <= 100; i++) {
                clock.addAndGet(1_000_000_000L);
                bar.advanced("work", i, 100);
            }
        }
        assertThat(err.toString(StandardCharsets.UTF_8).lines()).hasSizeBetween(10, 12);
    }

    @Test
    void optionsOfTrainAndEvalThatWouldBeIgnoredAreRefused(@TempDir Path folder) throws IOException {
        sentei("train", "--recipe", "pmp-90", "--data", "d", "--out", "o", "--seeds", "1,2")
                .refuses(ExitCode.SYNTAX, "--seeds belongs to --rates");
        sentei("train", "--recipe", "qat-4", "--data", ".", "--out", "none")
                .refuses(ExitCode.SYNTAX, "--model is missing");
        sentei("train", "--recipe", "vgg-small", "--model", "x.onnx", "--data", ".", "--out", "none")
                .refuses(ExitCode.SYNTAX, "--model is for recipes with bits");
        sentei("train", "--recipe", "vgg-small", "--rates", "0.5", "--data", ".", "--out", "none")
                .refuses(ExitCode.SYNTAX, "--rates is for recipes with a budget");
        sentei("plan", LLAMA, "--recipe", "qat-4").refuses(ExitCode.INPUT, "sentei train --recipe qat-4 --model");
        sentei("train", "--recipe", "pmp-90", "--data", "d", "--out", "o", "--rates", "0.5", "--seed", "1")
                .refuses(ExitCode.SYNTAX, "--seed is for one training");
        Files.writeString(folder.resolve("config.json"), "{\"architecture\": \"node-gcn\"}");
        sentei("eval", folder.toString(), "--data", "d", "--length", "8")
                .refuses(ExitCode.SYNTAX, "is a graph network");
    }

    @Test
    void everyExceptionHasItsExitCode() {
        assertThat(List.of(
                        ExitCode.of(new org.sentei.engine.RunException("x")),
                        ExitCode.of(new java.util.concurrent.CancellationException("x")),
                        ExitCode.of(new IOException("disk full")),
                        ExitCode.of(new org.sentei.engine.GateException("x", null)),
                        ExitCode.of(new org.sentei.model.ModelException("x")),
                        ExitCode.of(new IllegalStateException("x")),
                        ExitCode.of(new AssertionError("x"))))
                .containsExactly(6, 6, 6, 5, 3, 1, 1);
    }
}
