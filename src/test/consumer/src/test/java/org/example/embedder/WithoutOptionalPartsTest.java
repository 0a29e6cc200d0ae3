package org.example.embedder;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.CompressionRequest;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;

/** The jar with nothing but what its POM demands: what needs no more works, and the rest says what it needs. */
class WithoutOptionalPartsTest {
    private static final Path RESOURCES = Path.of(System.getProperty("sentei.resources"));
    private static final Path MODEL = RESOURCES.resolve("models/austen-llama");
    private static final Path TEXT = RESOURCES.resolve("text/calibration.txt");
    private static final String MAGNITUDE = "steps: [{method: magnitude, sparsity: 0.5}]";
    private static final String WANDA =
            "{steps: [{method: wanda, sparsity: 0.5}], calibration: {samples: 4, length: 16}}";

    @TempDir
    private Path folder;

    private static Path graph() throws Exception {
        return Path.of(
                WithoutOptionalPartsTest.class.getResource("/encoder.onnx").toURI());
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "ai.onnxruntime.OrtEnvironment",
                "org.lwjgl.opencl.CL",
                "ai.djl.huggingface.tokenizers.HuggingFaceTokenizer",
                "picocli.CommandLine",
                "org.slf4j.simple.SimpleLogger"
            })
    void anOptionalPartIsNotBrought(String type) {
        assertThatThrownBy(() -> Class.forName(type)).isInstanceOf(ClassNotFoundException.class);
    }

    @Test
    void aFolderIsCompressedOnTheReferenceBackendWithAWarning() {
        Path output = folder.resolve("out");
        try (Plan plan = Sentei.plan(CompressionRequest.of(MODEL, Recipes.parse(MAGNITUDE)))) {
            Report report = plan.run(output, Progress.NONE);
            assertThat(report.backends()).extracting(Report.Binding::backend).containsOnly("reference");
            assertThat(report.warnings()).anyMatch(warning -> warning.contains("org.bytedeco:openblas"));
        }
        assertThat(Sentei.inspect(output).totals().sparsity()).isBetween(0.5, 0.51);
    }

    @Test
    void aGraphIsCompressedWithoutRunningIt() throws Exception {
        Path output = folder.resolve("out");
        try (Plan plan = Sentei.plan(CompressionRequest.of(graph(), Recipes.parse(MAGNITUDE)))) {
            plan.run(output, Progress.NONE);
        }
        assertThat(Sentei.inspect(output.resolve("encoder.onnx")).totals().zeros())
                .isEqualTo(16L * 32);
    }

    @Test
    void runningAGraphNamesOnnxRuntimeBeforeWorkStarts() throws Exception {
        CompressionRequest request =
                CompressionRequest.of(graph(), Recipes.parse(WANDA)).withCalibration(TEXT);
        assertThatThrownBy(() -> Sentei.plan(request))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("com.microsoft.onnxruntime:onnxruntime");
    }

    @Test
    void textNamesTheTokenizersAndLeavesNothing() throws IOException {
        CompressionRequest request =
                CompressionRequest.of(MODEL, Recipes.parse(WANDA)).withCalibration(TEXT);
        try (Plan plan = Sentei.plan(request)) {
            assertThatThrownBy(() -> plan.run(folder.resolve("out"), Progress.NONE))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("ai.djl.huggingface:tokenizers");
        }
        try (Stream<Path> left = Files.list(folder)) {
            assertThat(left).isEmpty();
        }
    }

    @Test
    void theCpuBackendNamesOpenBlas() {
        CompressionRequest request =
                CompressionRequest.of(MODEL, Recipes.parse(MAGNITUDE)).on("cpu", Backend.Options.defaults());
        assertThatThrownBy(() -> Sentei.plan(request))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("org.bytedeco:openblas");
    }

    /** The module alone, with what its descriptor demands; the program is on the class path, as many are. */
    @Test
    void theModuleRunsAlone() throws Exception {
        String needed = "sentei-|slf4j-api-|commons-numbers-|jackson-|snakeyaml-|protobuf-java-";
        String modulePath = Arrays.stream(Child.CLASS_PATH.split(File.pathSeparator))
                .filter(entry -> Path.of(entry).getFileName().toString().matches("(" + needed + ").*\\.jar"))
                .collect(Collectors.joining(File.pathSeparator));
        List<String> paths = List.of(
                "--module-path=" + modulePath,
                "--add-modules=org.sentei",
                "--class-path="
                        + Path.of(Pruner.class
                                .getProtectionDomain()
                                .getCodeSource()
                                .getLocation()
                                .toURI()),
                "--enable-native-access=org.sentei",
                Pruner.class.getName());
        Child child = Child.run(
                folder,
                paths,
                MODEL.toString(),
                MAGNITUDE,
                folder.resolve("out").toString());
        assertThat(child.err()).isEmpty();
        assertThat(child.left()).isEmpty();
        assertThat(child.out()).hasSize(1);
        assertThat(child.out().getFirst()).endsWith("zeros, module org.sentei");
        assertThat(child.exit()).isZero();
    }
}
