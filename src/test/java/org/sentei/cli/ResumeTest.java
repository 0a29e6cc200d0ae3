package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** {@code compress} that is interrupted, politely or not, and {@code --resume}. */
class ResumeTest {
    private static final String MODEL = "src/test/resources/models/austen-llama";
    private static final String CALIBRATION = "src/test/resources/text/calibration.txt";

    @TempDir
    private static Path shared;

    private static Path recipe;
    private static Path undisturbed;

    @TempDir
    private Path folder;

    private Path out;

    private record Outcome(int code, String out, String err) {}

    @BeforeAll
    static void runOnceUndisturbed() throws IOException {
        recipe = Files.writeString(
                shared.resolve("r.yaml"),
                "steps: [{method: stade, sparsity: 0.5, bias: paper}]\ncalibration: {samples: 2, length: 16}\n");
        undisturbed = shared.resolve("undisturbed");
        Outcome outcome = sentei(() -> false, arguments(undisturbed));
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
    }

    @BeforeEach
    void prepare() {
        out = folder.resolve("out");
    }

    private static List<String> arguments(Path output, String... more) {
        return arguments(recipe, "reference", output, more);
    }

    private static List<String> arguments(Path recipe, String backend, Path output, String... more) {
        List<String> arguments = new ArrayList<>(List.of("compress", MODEL, "--recipe", recipe.toString()));
        arguments.addAll(List.of("--calibration", CALIBRATION, "--backend", backend));
        arguments.addAll(List.of("--out", output.toString()));
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

    private Outcome sentei(String... more) {
        return sentei(() -> false, arguments(out, more));
    }

    /** Interrupts at the first question after so many groups are in the journal. */
    private Outcome interrupted(int groups) {
        return sentei(() -> Files.exists(entry(groups - 1)), arguments(out));
    }

    private Path entry(int group) {
        return folder.resolve(".out.partial/journal/group-000" + group + ".safetensors");
    }

    private void assertLikeUndisturbed() throws IOException {
        assertLike(undisturbed);
    }

    private void assertLike(Path undisturbed) throws IOException {
        assertThat(out.toFile().list())
                .containsExactlyInAnyOrder(undisturbed.toFile().list());
        try (Stream<Path> files = Files.list(undisturbed)) {
            for (Path file : files.toList()) {
                Path other = out.resolve(file.getFileName());
                if (!file.getFileName().toString().startsWith("report.")) {
                    assertThat(Files.mismatch(file, other)).as(file.toString()).isEqualTo(-1);
                }
            }
        }
        assertThat(folder.toFile().list()).containsExactly("out");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 2, 5})
    void anInterruptionBeforeTheFirstGroupLeavesNothing(int patience) {
        AtomicLong asked = new AtomicLong();
        Outcome outcome = sentei(() -> asked.incrementAndGet() > patience, arguments(out));
        assertThat(outcome.code()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(outcome.err())
                .contains("sentei: interrupted at ", "no output was written")
                .doesNotContain("--resume");
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void anInterruptedRunSaysHowToGoOnAndDoes() throws IOException {
        Outcome outcome = interrupted(2);
        assertThat(outcome.code()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(outcome.err())
                .contains(
                        "sentei: interrupted at group 2 of 4",
                        "groups of layers decided and kept: 2; the same command with --resume goes on");
        assertThat(folder.toFile().list()).containsExactly(".out.partial");

        Outcome unaware = sentei();
        assertThat(unaware.code()).isEqualTo(ExitCode.INPUT);
        assertThat(unaware.err()).contains(".out.partial", "--resume", "remove");

        Outcome foreign = sentei("--resume", "--seed", "3", "--json");
        assertThat(foreign.code()).isEqualTo(ExitCode.INPUT);
        assertThat(new ObjectMapper().readTree(foreign.out()).get("error").asText())
                .contains("recipe.seed was 0 there and is 3 here", "remove");

        Outcome resumed = sentei("--resume", "--json");
        assertThat(resumed.code()).as(resumed.err()).isEqualTo(ExitCode.OK);
        assertThat(resumed.err()).contains("resuming, groups of layers decided before: 2");
        assertThat(new ObjectMapper().readTree(resumed.out()).get("sites")).hasSize(28);
        assertLikeUndisturbed();

        Outcome finished = sentei("--resume");
        assertThat(finished.code()).isEqualTo(ExitCode.INPUT);
        assertThat(finished.err()).contains("is not empty").doesNotContain("resuming", "beginning");
    }

    @Test
    void aSupervisorMayAlwaysSayResume() throws IOException {
        Outcome outcome = sentei("--resume");
        assertThat(outcome.code()).as(outcome.err()).isEqualTo(ExitCode.OK);
        assertThat(outcome.err()).contains("there is nothing to resume: starting from the beginning");
        assertLikeUndisturbed();
    }

    private Process process(String... more) throws IOException {
        return process(arguments(out, more));
    }

    private Process process(List<String> arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Main.class.getName()));
        command.addAll(arguments);
        return new ProcessBuilder(command)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(folder.resolve("err.txt").toFile())
                .start();
    }

    private void awaitEntry(Process process, int group) throws InterruptedException {
        while (!Files.exists(entry(group))) {
            assertThat(process.isAlive()).isTrue();
            TimeUnit.MILLISECONDS.sleep(2);
        }
    }

    private String said() throws IOException {
        Path err = folder.resolve("err.txt");
        String said = Files.readString(err);
        Files.delete(err);
        return said;
    }

    @Test
    void aProcessThatIsKilledTwiceGoesOnWhereItWas() throws Exception {
        Process first = process();
        awaitEntry(first, 0);
        first.destroyForcibly().waitFor();
        said();
        assertThat(out).doesNotExist();
        Process second = process("--resume");
        awaitEntry(second, 2);
        // while it lives, nobody else may go on
        Outcome other = sentei("--resume");
        second.destroyForcibly().waitFor();
        assertThat(said()).contains("resuming, groups of layers decided before: ");
        assertThat(other.code()).isEqualTo(ExitCode.INPUT);
        assertThat(other.err()).contains("another run writes to");
        assertThat(out).doesNotExist();
        Outcome last = sentei("--resume");
        assertThat(last.code()).as(last.err()).isEqualTo(ExitCode.OK);
        assertLikeUndisturbed();
    }

    @Test
    void aProcessThatIsAskedToEndKeepsItsJournal() throws Exception {
        Process process = process();
        awaitEntry(process, 0);
        process.destroy();
        assertThat(process.waitFor()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(said()).contains("sentei: interrupted at ", "--resume goes on");
        assertThat(folder.toFile().list()).containsExactly(".out.partial");
        assertThat(sentei("--resume").code()).isEqualTo(ExitCode.OK);
        assertLikeUndisturbed();
    }

    @Test
    void aProcessThatIsKilledWithinADescentEndsInTheSameBytes() throws Exception {
        Path descending = Files.writeString(
                shared.resolve("descent.yaml"),
                "steps: [{method: attention, sparsity: 0.5, iterations: 60}]\ncalibration: {samples: 8, length: 32}\n");
        Path whole = shared.resolve("whole");
        Outcome undisturbed = sentei(() -> false, arguments(descending, "cpu", whole));
        assertThat(undisturbed.code()).as(undisturbed.err()).isEqualTo(ExitCode.OK);
        Path state = folder.resolve(".out.partial/journal/descent.safetensors");
        Process killed = process(arguments(descending, "cpu", out));
        while (!Files.exists(state)) {
            assertThat(killed.isAlive()).isTrue();
            TimeUnit.MILLISECONDS.sleep(2);
        }
        killed.destroyForcibly().waitFor();
        assertThat(out).doesNotExist();
        said();
        Outcome last = sentei(() -> false, arguments(descending, "cpu", out, "--resume"));
        assertThat(last.code()).as(last.err()).isEqualTo(ExitCode.OK);
        assertThat(last.err()).doesNotContain("from the beginning");
        assertLike(whole);
    }
}
