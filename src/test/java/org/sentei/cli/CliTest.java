package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;

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
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.Recipes;

class CliTest {
    private record Outcome(int code, String out, String err) {
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
            assertThat(err).contains(parts).doesNotContain("\tat ");
        }
    }

    private static Outcome sentei(String... args) {
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
    @ValueSource(strings = {"doctor", "recipes"})
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
        sentei("doctor", "--device", "-1").refuses(ExitCode.SYNTAX, "--device -1");
        sentei("doctor", "--backend", "cdua").refuses(ExitCode.SYNTAX, "the nearest is cuda");
    }

    @Test
    void aBackendThatIsNotThereEndsInFour() {
        sentei("doctor", "--backend", "opencl").refuses(ExitCode.BACKEND, "opencl");
    }

    @Test
    void printsABuiltInRecipeAsItStands() {
        Outcome outcome = sentei("recipes", "stade-50");
        assertThat(outcome.code()).isEqualTo(ExitCode.OK);
        assertThat(outcome.out()).isEqualTo(Recipes.load("stade-50").text());
        assertThat(sentei("recipes").out().lines()).hasSameSizeAs(Recipes.builtIn());
        sentei("recipes", "stade-5").refuses(ExitCode.INPUT, "the nearest is stade-50");
    }

    @Test
    void printsRecipesAsOneDocument() {
        JsonNode all = sentei("recipes", "--json").document().get("recipes");
        assertThat(all).hasSameSizeAs(Recipes.builtIn());
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
