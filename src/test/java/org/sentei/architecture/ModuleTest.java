package org.sentei.architecture;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.lang.module.ModuleDescriptor;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.kernel.Backends;

/** The jar as a module: what it provides, and that it runs on the module path. */
class ModuleTest {
    private static final Path CLASSES = Path.of("target/classes");
    private static final String SERVICE = "org.sentei.kernel.Backend$Provider";

    @TempDir
    private Path folder;

    @Test
    void theModuleAndTheClassPathProvideTheSameBackends() throws IOException {
        ModuleDescriptor module;
        try (InputStream in = Files.newInputStream(CLASSES.resolve("module-info.class"))) {
            module = ModuleDescriptor.read(in);
        }
        List<String> onModulePath = module.provides().stream()
                .filter(provided -> provided.service().equals(SERVICE))
                .flatMap(provided -> provided.providers().stream())
                .toList();
        List<String> onClassPath =
                Files.readAllLines(CLASSES.resolve("META-INF/services").resolve(SERVICE));
        assertThat(onModulePath).isNotEmpty().containsExactlyInAnyOrderElementsOf(onClassPath);
    }

    @Test
    void theModulePathRunsBothHostBackends() throws IOException, InterruptedException {
        Path output = folder.resolve("doctor.json");
        Path errors = folder.resolve("doctor.err");
        Process process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "--module-path",
                        CLASSES.toAbsolutePath()
                                + File.pathSeparator
                                + libraries(
                                        "slf4j-api|commons-numbers|jackson-|snakeyaml|protobuf-java|picocli|onnxruntime"),
                        "--class-path",
                        libraries("openblas"),
                        "--add-modules",
                        "info.picocli",
                        "--enable-native-access=org.sentei",
                        "--module",
                        "org.sentei/org.sentei.cli.Main",
                        "doctor",
                        "--json")
                .redirectOutput(output.toFile())
                .redirectError(errors.toFile())
                .start();
        assertThat(process.waitFor(2, TimeUnit.MINUTES)).isTrue();
        String report = Files.readString(output, StandardCharsets.UTF_8);
        assertThat(process.exitValue()).as(report + Files.readString(errors)).isZero();
        JsonNode backends = new ObjectMapper().readTree(report).get("backends");
        for (String name : List.of("reference", "cpu")) {
            assertThat(backends)
                    .as(report)
                    .anyMatch(backend -> backend.get("name").asText().equals(name)
                            && backend.get("available").asBoolean() == isAvailable(name));
        }
    }

    /** Whether this build has it at all: without a compiler there is no native library. */
    private static boolean isAvailable(String backend) {
        return Backends.find(backend).unavailableBecause().isEmpty();
    }

    /** Libraries of the class path by how their names begin. */
    private static String libraries(String names) {
        String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        return Arrays.stream(classPath.split(File.pathSeparator))
                .filter(entry -> Path.of(entry).getFileName().toString().matches("(" + names + ").*\\.jar"))
                .collect(Collectors.joining(File.pathSeparator));
    }
}
