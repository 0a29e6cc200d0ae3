package org.sentei.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.format.SyntheticLlama;

/** {@code batch}: jobs beside each other, failures among them, and what a later run makes of an earlier one. */
class BatchTest {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final Path MODELS = Path.of("src/test/resources/models");
    private static final String CALIBRATION = "src/test/resources/text/calibration.txt";
    private static final String[] SMALL = {
        "gpt2-variant", "llama-variant", "opt-variant", "bert-variant", "qwen2-bias", "qwen3-variant", "mistral-window"
    };

    @TempDir
    private Path folder;

    private Path jobs;
    private Path calibrated;
    private Path longer;

    @BeforeEach
    void prepare() throws IOException {
        jobs = folder.resolve("jobs.jsonl");
        calibrated = Files.writeString(
                folder.resolve("r.yaml"),
                "steps: [{method: stade, sparsity: 0.5, bias: paper}]\ncalibration: {samples: 2, length: 16}\n");
        longer = Files.writeString(
                folder.resolve("longer.yaml"),
                "steps: [{method: stade, sparsity: 0.5, bias: paper}]\ncalibration: {samples: 32, length: 128}\n");
    }

    private static CliTest.Outcome sentei(BooleanSupplier cancelled, String... arguments) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        Terminal terminal = new Terminal(
                new PrintStream(out, true, StandardCharsets.UTF_8),
                new PrintStream(err, true, StandardCharsets.UTF_8),
                false);
        int code = Main.run(arguments, terminal, cancelled);
        return new CliTest.Outcome(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }

    private CliTest.Outcome batch(BooleanSupplier cancelled, String... more) {
        List<String> arguments = new ArrayList<>(List.of("batch", jobs.toString(), "--backend", "cpu", "--json"));
        arguments.addAll(List.of(more));
        return sentei(cancelled, arguments.toArray(String[]::new));
    }

    private Path out(int job) {
        return folder.resolve("out-" + job);
    }

    private String job(Path model, String recipe, Path out) {
        ObjectNode job = MAPPER.createObjectNode();
        job.put("model", model.toString()).put("recipe", recipe).put("out", out.toString());
        if (recipe.endsWith(".yaml")) {
            job.put("calibration", CALIBRATION);
        }
        return job.toString();
    }

    /** Twenty jobs, of which number 4 has no model, number 9 no recipe and number 15 a damaged model. */
    private List<String> twenty() throws IOException {
        Path damaged = Files.createDirectory(folder.resolve("damaged"));
        for (String file : List.of("config.json", "model.safetensors")) {
            Files.copy(MODELS.resolve("opt-variant").resolve(file), damaged.resolve(file));
        }
        byte[] weights = Files.readAllBytes(damaged.resolve("model.safetensors"));
        Files.write(damaged.resolve("model.safetensors"), Arrays.copyOf(weights, weights.length - 1));
        List<String> lines = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            lines.add(
                    switch (i) {
                        case 4 -> job(folder.resolve("nowhere"), "magnitude-50", out(i));
                        case 9 -> job(MODELS.resolve("gpt2-variant"), "magnitude-5", out(i));
                        case 15 -> job(damaged, "magnitude-50", out(i));
                        case 7, 18 -> job(MODELS.resolve("austen-opt"), calibrated.toString(), out(i));
                        case 12 -> job(MODELS.resolve("austen-llama"), longer.toString(), out(i));
                        default -> job(MODELS.resolve(SMALL[i % SMALL.length]), "magnitude-50", out(i));
                    });
        }
        return lines;
    }

    private static void assertEqual(Path single, Path batched) throws IOException {
        assertThat(batched.toFile().list())
                .containsExactlyInAnyOrder(single.toFile().list());
        try (Stream<Path> files = Files.list(single)) {
            for (Path file : files.toList()) {
                if (!file.getFileName().toString().startsWith("report.")) {
                    assertThat(Files.mismatch(file, batched.resolve(file.getFileName())))
                            .as(file.toString())
                            .isEqualTo(-1);
                }
            }
        }
    }

    private void assertLikeSingleRuns(List<String> lines) throws IOException {
        for (int i = 0; i < lines.size(); i++) {
            if (i == 4 || i == 9 || i == 15) {
                assertThat(out(i)).doesNotExist();
                continue;
            }
            JsonNode job = MAPPER.readTree(lines.get(i));
            List<String> arguments =
                    new ArrayList<>(List.of("compress", job.get("model").asText(), "--backend", "cpu"));
            job.properties().forEach(field -> {
                if (!field.getKey().equals("model") && !field.getKey().equals("out")) {
                    arguments.addAll(
                            List.of("--" + field.getKey(), field.getValue().asText()));
                }
            });
            Path single = folder.resolve("single-" + i);
            arguments.addAll(List.of("--out", single.toString()));
            CliTest.Outcome outcome = sentei(() -> false, arguments.toArray(String[]::new));
            assertThat(outcome.code()).as(outcome.err()).isZero();
            assertEqual(single, out(i));
        }
        try (Stream<Path> left = Files.list(folder)) {
            assertThat(left.filter(path -> path.toString().endsWith(".partial")))
                    .isEmpty();
        }
    }

    private static void assertFailures(JsonNode document) {
        assertThat(document.at("/counts/failed").asInt()).isEqualTo(3);
        assertThat(document.at("/jobs/4/error").asText()).contains("nowhere", "does not exist");
        assertThat(document.at("/jobs/9/error").asText()).contains("the nearest is magnitude-50");
        assertThat(document.at("/jobs/15/error").asText()).contains("damaged", "truncated");
        for (int line : new int[] {4, 9, 15}) {
            assertThat(document.at("/jobs/" + line + "/exit_code").asInt()).isEqualTo(ExitCode.INPUT);
            assertThat(document.at("/jobs/" + line + "/status").asText()).isEqualTo("failed");
        }
    }

    @Test
    void aKilledBatchResumesToTheResultsOfSingleRuns() throws IOException, InterruptedException {
        List<String> lines = twenty();
        Files.write(jobs, lines);
        Path entry = folder.resolve(".out-12.partial/journal/group-0000.safetensors");
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--enable-native-access=ALL-UNNAMED",
                        "-cp",
                        System.getProperty("java.class.path"),
                        "org.sentei.cli.Main",
                        "batch",
                        jobs.toString(),
                        "--backend",
                        "cpu",
                        "--threads",
                        "1")
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(folder.resolve("err").toFile())
                .start();
        try {
            while (process.isAlive() && !Files.exists(entry)) {
                TimeUnit.MILLISECONDS.sleep(1);
            }
        } finally {
            process.destroyForcibly().waitFor();
        }
        assertThat(out(12)).as(Files.readString(folder.resolve("err"))).doesNotExist();
        assertThat(out(3)).isDirectory();

        JsonNode document = batch(() -> false, "--resume").document();
        assertFailures(document);
        assertThat(document.at("/counts/skipped").asInt()).isEqualTo(10);
        assertThat(document.at("/counts/ok").asInt()).isEqualTo(7);
        assertThat(document.at("/counts/open").asInt()).isZero();
        assertThat(document.at("/counts/models_per_hour").asDouble()).isPositive();
        assertThat(document.at("/devices/0/jobs").asInt()).isEqualTo(10);
        double seconds = document.at("/counts/seconds").asDouble();
        double idle = document.at("/devices/0/idle_seconds").asDouble();
        assertThat(document.at("/devices/0/busy_seconds").asDouble() + idle)
                .isBetween(seconds * 0.999, seconds * 1.001);
        assertLikeSingleRuns(lines);

        JsonNode again = batch(() -> false, "--resume").document();
        assertThat(again.at("/counts/skipped").asInt()).isEqualTo(17);
        assertFailures(again);
        try (Stream<String> log = Files.lines(folder.resolve("jobs.jsonl.log"))) {
            assertThat(log)
                    .allSatisfy(line ->
                            assertThat(MAPPER.readTree(line).has("event")).isTrue());
        }
    }

    @Test
    void aPoliteInterruptionKeepsTheGroupThatWasUnderWay() throws IOException {
        Files.writeString(
                jobs,
                job(MODELS.resolve("austen-llama"), calibrated.toString(), out(0)) + "\n"
                        + job(MODELS.resolve("gpt2-variant"), "magnitude-50", out(1)) + "\n");
        // asked for in the middle of the first group: when its statistics are begun
        int[] asked = {0};
        CliTest.Outcome outcome = batch(() -> asked[0]++ >= 2);
        assertThat(outcome.code()).isEqualTo(ExitCode.RUN_FAILED);
        JsonNode document = outcome.document();
        assertThat(document.at("/jobs/0/status").asText()).isEqualTo("interrupted");
        assertThat(document.at("/jobs/0/exit_code").asInt()).isEqualTo(ExitCode.RUN_FAILED);
        assertThat(document.at("/jobs/0/error").asText()).contains("groups of layers decided and kept: 1", "--resume");
        assertThat(document.at("/jobs/1/status").asText()).isEqualTo("not_started");
        assertThat(document.at("/jobs/1/exit_code").isNull()).isTrue();
        assertThat(document.at("/counts/open").asInt()).isEqualTo(2);

        CliTest.Outcome resumed = batch(() -> false, "--resume", "--devices", "0,0");
        assertThat(resumed.code()).as(resumed.err()).isZero();
        assertThat(resumed.document().at("/counts/ok").asInt()).isEqualTo(2);
        assertThat(resumed.document().get("devices")).hasSize(2);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"model\": \"m\", \"recipe\": \"r\"} | it has no out",
                "{\"model\": \"m\", \"recipe\": \"r\", \"otu\": \"o\"} | there is no key otu; the nearest is out",
                "{\"model\": 7, \"recipe\": \"r\", \"out\": \"o\"} | model is 7; give a string",
                "{\"model\": \"m\", \"recipe\": \"r\", \"out\": \"o\", \"seed\": -1} | seed is -1",
                "{\"model\": \"m\", \"model\": \"m\"} | the key 'model' is given twice",
                "{\"model\": \"m | it is no JSON: it ends too early",
                "[1] | it is no JSON object",
                "{\"model\": \"m\\u0000\", \"recipe\": \"r\", \"out\": \"o\"} | a path cannot be one",
            })
    void aLineThatIsNoJobSaysWhyAndStopsNoOther(String line, String message) throws IOException {
        Files.writeString(
                jobs, "\n" + line + "\n" + job(MODELS.resolve("gpt2-variant"), "magnitude-50", out(1)) + "\n");
        CliTest.Outcome outcome = batch(() -> false);
        assertThat(outcome.code()).isEqualTo(ExitCode.SYNTAX);
        JsonNode document = outcome.document();
        assertThat(document.at("/jobs/0/line").asInt()).isEqualTo(2);
        assertThat(document.at("/jobs/0/error").asText()).startsWith("line 2: ").contains(message);
        assertThat(document.at("/jobs/1/status").asText()).isEqualTo("ok");
        assertThat(outcome.err()).contains("line 2: failed").contains("line 3: ok");
    }

    @Test
    void aRecipeThatSaysSomethingElseByNowIsNoticedOnResume() throws IOException {
        Path model = MODELS.resolve("austen-opt");
        Files.write(jobs, List.of(job(model, calibrated.toString(), out(0)), job(model, longer.toString(), out(1))));
        assertThat(batch(() -> false).code()).isZero();

        Files.writeString(calibrated, "# a remark\n" + Files.readString(calibrated));
        assertThat(batch(() -> false, "--resume")
                        .document()
                        .at("/counts/skipped")
                        .asInt())
                .isEqualTo(2);

        Files.writeString(calibrated, Files.readString(calibrated).replace("0.5", "0.6"));
        CliTest.Outcome outcome = batch(() -> false, "--resume");
        assertThat(outcome.code()).isEqualTo(ExitCode.INPUT);
        JsonNode document = outcome.document();
        assertThat(document.at("/counts/skipped").asInt()).isEqualTo(1);
        assertThat(document.at("/jobs/0/status").asText()).isEqualTo("failed");
        assertThat(document.at("/jobs/0/error").asText())
                .contains(calibrated.toString(), "is not what it was", "remove that output");
        assertThat(out(0).resolve("report.json")).exists();
    }

    @Test
    void whatOneJobNeedsOfTheDeviceMayBeTooMuchForItAlone() throws IOException {
        Path wide = folder.resolve("synthetic");
        SyntheticLlama.TINY.write(wide, 1, _ -> {});
        Path model = MODELS.resolve("llama-variant");
        Files.write(
                jobs,
                List.of(
                        job(model, "magnitude-50", out(0)),
                        job(MODELS.resolve("austen-opt"), "magnitude-50", out(1)), // a block does not fit
                        job(wide, longer.toString(), out(2)), // its batches do not
                        job(model, "magnitude-50", out(3))));
        CliTest.Outcome outcome = batch(() -> false, "--device-memory", "300000");
        assertThat(outcome.code()).isEqualTo(ExitCode.RUN_FAILED);
        JsonNode document = outcome.document();
        assertThat(document.at("/counts/ok").asInt()).isEqualTo(2);
        assertThat(document.at("/counts/failed").asInt()).isEqualTo(2);
        for (int line : new int[] {1, 2}) {
            assertThat(document.at("/jobs/" + line + "/exit_code").asInt()).isEqualTo(ExitCode.RUN_FAILED);
            assertThat(document.at("/jobs/" + line + "/error").asText()).contains("--device-memory", "300000");
            assertThat(out(line)).doesNotExist();
        }
        assertEqual(out(0), out(3));
    }

    /** A process that may write no file larger than 64 KiB stands for a disk that fills up: only small models get through. */
    @Test
    void aFullDiskEndsOneJobAndNoOther() throws IOException, InterruptedException {
        Path large = MODELS.resolve("gpt2");
        Path small = MODELS.resolve("llama-variant");
        Files.write(
                jobs,
                List.of(
                        job(small, "magnitude-50", out(0)),
                        job(large, "magnitude-50", out(1)),
                        job(small, "magnitude-50", out(2))));
        Process process = new ProcessBuilder(
                        "sh",
                        "-c",
                        "ulimit -f 128; exec \"$@\"",
                        "sh",
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-XX:-UsePerfData",
                        "-XX:TieredStopAtLevel=1",
                        "--enable-native-access=ALL-UNNAMED",
                        "-cp",
                        System.getProperty("java.class.path"),
                        "org.sentei.cli.Main",
                        "batch",
                        jobs.toString(),
                        "--backend",
                        "reference",
                        "--json")
                .redirectError(folder.resolve("err").toFile())
                .start();
        JsonNode document = MAPPER.readTree(process.getInputStream().readAllBytes());
        assertThat(process.waitFor())
                .as(Files.readString(folder.resolve("err")))
                .isEqualTo(ExitCode.RUN_FAILED);
        assertThat(document.at("/counts/ok").asInt()).as(document.toString()).isEqualTo(2);
        assertThat(document.at("/jobs/1/error").asText()).contains("cannot be written", "make room");
        assertThat(out(1)).doesNotExist();
        assertEqual(out(0), out(2));
    }

    @Test
    void outputsAreNeverSharedNorOverwritten() throws IOException {
        Path taken = Files.createDirectory(out(1));
        Files.writeString(taken.resolve("precious"), "mine");
        Path model = MODELS.resolve("gpt2-variant");
        Files.write(
                jobs,
                List.of(
                        job(model, "magnitude-50", out(0)),
                        job(model, "magnitude-50", folder.resolve("x/../out-0")),
                        job(model, "magnitude-50", taken)));
        for (String[] options : List.of(new String[0], new String[] {"--resume"})) {
            JsonNode document = batch(() -> false, options).document();
            assertThat(document.at("/jobs/1/error").asText()).contains("is that of line 1 too");
            assertThat(document.at("/jobs/2/error").asText()).contains("is not empty");
            assertThat(taken.toFile().list()).containsExactly("precious");
        }
        assertThat(out(0)).isDirectory();
    }

    @Test
    void aFileWithoutJobsIsRefused() throws IOException {
        sentei(() -> false, "batch", jobs.toString()).refuses(ExitCode.INPUT, "cannot be read");
        Files.writeString(jobs, "\n \n");
        sentei(() -> false, "batch", jobs.toString()).refuses(ExitCode.INPUT, "has no job");
        sentei(() -> false, "batch", jobs.toString(), "--devices", "0,x").refuses(ExitCode.SYNTAX, "--devices");
        sentei(() -> false, "batch", jobs.toString(), "--devices", "-1").refuses(ExitCode.SYNTAX, "--devices");
    }

    @Test
    void peopleGetATable() throws IOException {
        Files.writeString(jobs, job(MODELS.resolve("gpt2-variant"), "magnitude-50", out(0)));
        CliTest.Outcome outcome = sentei(() -> false, "batch", jobs.toString(), "--backend", "reference");
        assertThat(outcome.code()).as(outcome.err()).isZero();
        assertThat(outcome.out())
                .contains("line  model", "1 compressed, 0 rejected by a quality gate, 0 failed", "models an hour")
                .contains("device 0 (reference", "1 jobs, idle");
    }
}
