package org.example.embedder;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Inspection;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;

/** What another program may expect of the jar, on the class path and on the module path alike. */
class EmbedderTest {
    private static final boolean MODULAR = Boolean.getBoolean("embedder.modular");
    private static final Path RESOURCES = Path.of(System.getProperty("sentei.resources"));
    private static final Path MODEL = RESOURCES.resolve("models/austen-llama");
    private static final Path TEXT = RESOURCES.resolve("text/calibration.txt");
    private static final String RECIPE = """
            steps: [{method: stade, targets: ["*q_proj", "*down_proj"], sparsity: 0.5}]
            calibration: {samples: 4, length: 32}
            """;

    private static final String WANDA =
            "{steps: [{method: wanda, sparsity: 0.5}], calibration: {samples: 4, length: 16}}";

    @TempDir
    private Path folder;

    private static CompressionRequest request() {
        return CompressionRequest.of(MODEL, Recipes.parse(RECIPE)).withCalibration(TEXT);
    }

    private Path run(String name) {
        Path output = folder.resolve(name);
        try (Plan plan = Sentei.plan(request())) {
            plan.run(output, Progress.NONE);
        }
        return output;
    }

    @AfterEach
    void noThreadAndNoTemporaryFolderIsLeft() throws Exception {
        assertThat(threadsEnd()).isTrue();
        try (Stream<Path> left = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
            assertThat(left.map(path -> path.getFileName().toString())).noneMatch(name -> name.startsWith("sentei"));
        }
    }

    /** The workers of a backend end with it, but nobody waits for their last instruction. */
    private static boolean threadsEnd() throws InterruptedException {
        for (int patience = 0; patience < 100; patience++) {
            if (Thread.getAllStackTraces().keySet().stream()
                    .noneMatch(thread -> thread.getName().startsWith("sentei-"))) {
                return true;
            }
            Thread.sleep(20);
        }
        return false;
    }

    @Test
    void theJarIsOnThePathThatThisRunIsAbout() {
        assertThat(Plan.class.getModule().isNamed()).isEqualTo(MODULAR);
        assertThat(Pruner.class.getModule().isNamed()).isEqualTo(MODULAR);
        assertThat(Plan.class
                        .getProtectionDomain()
                        .getCodeSource()
                        .getLocation()
                        .getPath())
                .contains("/org/sentei/sentei/")
                .endsWith(".jar");
    }

    @Test
    void aModelIsCompressedOnTheCpuBackendAndMeasured() {
        Path output = folder.resolve("out");
        List<String> stages = new ArrayList<>();
        Report report;
        try (Plan plan = Sentei.plan(request())) {
            assertThat(plan.sites()).hasSize(8);
            report = plan.run(output, (stage, done, total) -> stages.add(stage));
        }
        assertThat(stages).isNotEmpty();
        assertThat(report.backends()).extracting(Report.Binding::backend).containsOnly("cpu");
        assertThat(Sentei.inspect(output).sites())
                .filteredOn(
                        site -> site.name().endsWith("q_proj") || site.name().endsWith("down_proj"))
                .hasSize(8)
                .allSatisfy(site -> assertThat(site.zeros()).isGreaterThanOrEqualTo(site.parameters() / 2));
        Sentei.Metric perplexity = Sentei.evaluate(
                        new Sentei.EvaluationRequest(
                                output,
                                Optional.of(MODEL),
                                RESOURCES.resolve("text/heldout.txt"),
                                Optional.empty(),
                                Optional.of(64),
                                Backends.AUTO,
                                Backend.Options.defaults()),
                        Progress.NONE)
                .getFirst();
        assertThat(perplexity.metric()).isEqualTo("perplexity");
        assertThat(perplexity.original()).isBetween(2.0, 200.0);
        assertThat(perplexity.value()).isBetween(perplexity.original(), 2 * perplexity.original());
    }

    @Test
    void twoThreadsAndAVirtualThreadWriteTheSerialResult() throws Exception {
        Path serial = run("serial");
        try (ExecutorService platform = Executors.newFixedThreadPool(2);
                ExecutorService virtual = Executors.newVirtualThreadPerTaskExecutor()) {
            Callable<Path> one = () -> run("one");
            Callable<Path> two = () -> run("two");
            Callable<Path> three = () -> run("three");
            List<Future<Path>> outputs = List.of(platform.submit(one), platform.submit(two), virtual.submit(three));
            for (Future<Path> output : outputs) {
                for (String file : List.of("model.safetensors", "config.json", "tokenizer.json")) {
                    assertThat(output.get().resolve(file)).hasSameBinaryContentAs(serial.resolve(file));
                }
            }
        }
    }

    @Test
    void aCancelledRunLeavesNothing() throws IOException {
        Path output = folder.resolve("deep/out");
        Progress impatient = new Progress() {
            private boolean begun;

            @Override
            public void advanced(String stage, long done, long total) {
                begun |= done > 0;
            }

            @Override
            public boolean cancelled() {
                return begun;
            }
        };
        try (Plan plan = Sentei.plan(request())) {
            assertThatThrownBy(() -> plan.run(output, impatient)).isInstanceOf(CancellationException.class);
        }
        try (Stream<Path> left = Files.list(folder)) {
            assertThat(left).isEmpty();
        }
    }

    private static Path graph() throws URISyntaxException {
        return Path.of(EmbedderTest.class.getResource("/encoder.onnx").toURI());
    }

    @Test
    void anOnnxGraphIsCompressed() throws Exception {
        Path output = folder.resolve("out");
        CompressionRequest request = CompressionRequest.of(graph(), Recipes.parse(WANDA))
                .withCalibration(TEXT)
                .withTokenizer(MODEL.resolve("tokenizer.json"));
        try (Plan plan = Sentei.plan(request)) {
            Report report = plan.run(output, Progress.NONE);
            assertThat(report.backends()).extracting(Report.Binding::backend).contains("onnxruntime", "cpu");
        }
        assertThat(Sentei.inspect(output.resolve("encoder.onnx")).sites())
                .extracting(Inspection.SiteSummary::zeros)
                .containsExactly(16L * 32 / 2, 32L * 16 / 2);
        assertThat(System.getProperty("onnxruntime.native.path")).isNull();
        assertThat(System.getProperty("ai.djl.offline")).isNull();
    }

    /** Whatever is printed comes from the program; a JVM of its own has the paths of this run and nothing else. */
    @Test
    void nothingIsPrintedNothingIsLeftAndTheProcessEndsByItself() throws Exception {
        List<String> paths = MODULAR
                ? List.of(
                        "--module-path=" + System.getProperty("jdk.module.path"),
                        "--class-path=" + Child.CLASS_PATH,
                        "--enable-native-access=org.sentei,ai.djl.tokenizers,com.microsoft.onnxruntime,ALL-UNNAMED",
                        "--module=org.example.embedder/" + Pruner.class.getName())
                : List.of(
                        "--class-path=" + Child.CLASS_PATH,
                        "--enable-native-access=ALL-UNNAMED",
                        Pruner.class.getName());
        Path model = folder.resolve("encoder.onnx");
        Files.copy(graph(), model);
        Files.copy(MODEL.resolve("tokenizer.json"), folder.resolve("tokenizer.json"));
        Path output = folder.resolve("out");
        Child child = Child.run(folder, paths, model.toString(), WANDA, output.toString(), TEXT.toString());
        assertThat(child.err()).isEmpty();
        assertThat(child.left()).isEmpty();
        assertThat(child.out()).hasSize(1);
        assertThat(child.out().getFirst()).matches("\\d+ zeros, module " + (MODULAR ? "org.sentei" : "null"));
        assertThat(child.exit()).isZero();
    }
}
