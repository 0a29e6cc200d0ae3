package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.training.DrawnGraph;

/** {@code train} that is interrupted, politely or not, and {@code --resume}. */
class TrainResumeTest {
    @TempDir
    private static Path shared;

    private static Path data;
    private static Path undisturbed;

    @TempDir
    private Path folder;

    private Path out;

    private record Outcome(int code, String out, String err) {}

    @BeforeAll
    static void runOnceUndisturbed() throws IOException {
        data = DrawnGraph.write(shared.resolve("graph"));
        undisturbed = shared.resolve("undisturbed");
        Outcome outcome = sentei(() -> false, arguments("0.05", undisturbed));
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
    }

    @BeforeEach
    void prepare() {
        out = folder.resolve("out");
    }

    private static List<String> arguments(String learningRate, Path output, String... more) throws IOException {
        Path recipe =
                Files.writeString(shared.resolve("recipe-" + learningRate + ".yaml"), """
                seed: 3
                network: {hidden: 8}
                training: {steps: 400, learning_rate: %s, schedule: cosine, gain: 3, dropout: 0.2, decay: 0}
                steps:
                  - {method: pmp, rate: 0.9, from_rate: 0.5, budget: prior-kl, prior: gaussian, tuning: 0.3, strength: 10, bins: 64,
                     mass: bumps, sharpness: 1, last_sharpness: 30, connected: false}
                baseline: true
                storage: bitmask
                """.formatted(learningRate));
        List<String> arguments = new ArrayList<>(List.of("train", "--data", data.toString()));
        arguments.addAll(List.of("--recipe", recipe.toString(), "--out", output.toString()));
        arguments.addAll(List.of(more));
        return arguments;
    }

    private static Outcome sentei(BooleanSupplier cancelled, List<String> arguments) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        Terminal terminal = new Terminal(
                new PrintStream(out, true, StandardCharsets.UTF_8),
                new PrintStream(err, true, StandardCharsets.UTF_8),
                false);
        int code = Main.run(arguments.toArray(String[]::new), terminal, cancelled);
        return new Outcome(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    private Outcome resumed(String learningRate, String... more) throws IOException {
        List<String> arguments = arguments(learningRate, out, more);
        arguments.add("--resume");
        return sentei(() -> false, arguments);
    }

    private Path kept(String budget) {
        return folder.resolve(".out.partial/journal/" + budget + ".safetensors");
    }

    private void interruptAtFirstCheckpoint() throws IOException {
        Outcome outcome = sentei(() -> Files.exists(kept("prior-kl")), arguments("0.05", out));
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(outcome.err())
                .contains("interrupted at training", "steps trained and kept: 25", "the same command with --resume");
        assertThat(out).doesNotExist();
    }

    private static ObjectNode report(Path folder) throws IOException {
        ObjectNode report = (ObjectNode)
                new ObjectMapper().readTree(folder.resolve("report.json").toFile());
        report.remove(List.of("started", "seconds"));
        return report;
    }

    private void assertLikeUndisturbed() throws IOException {
        for (String file : List.of("model.safetensors", "config.json", "recipe.yaml", "latents/model.safetensors")) {
            assertThat(out.resolve(file)).hasSameBinaryContentAs(undisturbed.resolve(file));
        }
        assertThat(report(out)).isEqualTo(report(undisturbed));
        assertThat(out.toFile().list())
                .containsExactlyInAnyOrder(undisturbed.toFile().list());
        assertThat(folder.toFile().list()).containsExactly("out");
    }

    private Process process(String... more) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Main.class.getName()));
        command.addAll(arguments("0.05", out, more));
        return new ProcessBuilder(command)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(folder.resolve("err.txt").toFile())
                .start();
    }

    private void killWhenItHasKept(String budget, Process process) throws Exception {
        while (!Files.exists(kept(budget))) {
            assertThat(process.isAlive()).isTrue();
            TimeUnit.MILLISECONDS.sleep(1);
        }
        process.destroyForcibly().waitFor();
        assertThat(out).doesNotExist();
        Files.delete(folder.resolve("err.txt"));
    }

    @Test
    void aProcessThatIsKilledInBothTrainingsEndsInTheSameNetwork() throws Exception {
        killWhenItHasKept("prior-kl", process());
        killWhenItHasKept("magnitude", process("--resume"));
        Outcome last = resumed("0.05");
        assertThat(last.code()).as(last.err()).isEqualTo(ExitCode.OK);
        assertThat(last.err()).contains("resuming, steps trained before: ");
        assertLikeUndisturbed();
    }

    @Test
    void aSupervisorMayAlwaysSayResume() throws IOException {
        Outcome outcome = resumed("0.05");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
        assertThat(outcome.err()).contains("there is nothing to resume: starting from the beginning");
        assertLikeUndisturbed();
    }

    @Test
    void aTrainingThatDivergesKeepsItsCheckpointAndGoesOnWithALowerRate() throws IOException {
        interruptAtFirstCheckpoint();
        Outcome diverged = resumed("1e30");
        assertThat(diverged.code()).as(diverged.err()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(diverged.err())
                .containsPattern("training diverged at step 2\\d: the loss is NaN with learning rate 1.0E30")
                .contains("lower learning_rate in the recipe; steps trained and kept: 25");
        assertThat(out).doesNotExist();
        assertThat(kept("prior-kl")).exists();

        Outcome mended = resumed("0.01");
        assertThat(mended.code()).as(mended.err()).isEqualTo(ExitCode.OK);
        assertThat(mended.err())
                .contains("resuming, steps trained before: 25")
                .contains("warning: learning_rate was 0.05 in the steps before 25 of prior-kl");
    }

    @Test
    void whatWasBegunWithAnotherSeedIsNotResumed() throws IOException {
        interruptAtFirstCheckpoint();
        Outcome foreign = resumed("0.05", "--seed", "4");
        assertThat(foreign.code()).isEqualTo(ExitCode.INPUT);
        assertThat(foreign.err()).contains("recipe.seed was 3 there and is 4 here", "remove");

        byte[] content = Files.readAllBytes(kept("prior-kl"));
        content[content.length / 2] ^= 1;
        Files.write(kept("prior-kl"), content);
        Outcome damaged = resumed("0.05");
        assertThat(damaged.code()).isEqualTo(ExitCode.INPUT);
        assertThat(damaged.err()).contains("is damaged, and not by a kill", "remove");
        assertThat(out).doesNotExist();
    }
}
