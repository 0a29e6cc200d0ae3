package org.sentei.backend.opencl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;

/** What the provider says where OpenCL is incomplete, and that it says nothing else. */
class OpenClProviderTest {
    private static final String CLASS_PATH =
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));

    @TempDir
    private Path folder;

    @Test
    void theProcessorAloneRanksBelowItsOwnKernels() throws IOException {
        int cpu = Backends.providers().stream()
                .filter(provider -> provider.name().equals("cpu"))
                .findFirst()
                .orElseThrow()
                .rank();
        assertThat(new OpenClProvider(folder).rank()).isLessThan(cpu);
        assertThat(new OpenClProvider(folder.resolve("none")).rank()).isLessThan(cpu);
        Files.createFile(folder.resolve("pocl.icd"));
        assertThat(new OpenClProvider(folder).rank()).isLessThan(cpu);
    }

    @Test
    void aRegisteredDriverOutranksTheProcessorOnlyWithAGpu() throws IOException {
        Files.createFile(folder.resolve("vendor.icd"));
        boolean gpu = AvailableBackends.names().contains("opencl")
                && OpenClLibrary.devices().stream().anyMatch(OpenClLibrary.Found::isUsableGpu);
        assertThat(new OpenClProvider(folder).rank()).isEqualTo(gpu ? 20 : 5);
    }

    @Test
    void withoutLwjglTheReasonNamesItsArtifacts() throws IOException, InterruptedException {
        for (String missing : List.of("lwjgl", "lwjgl-opencl")) {
            String classPath = withoutJar("org/lwjgl/" + missing + "/[^/]*/" + missing + "-[0-9.]+\\.jar");
            assertThat(doctor(classPath, Map.of()))
                    .contains("LWJGL is not on the class or module path", "lwjgl-opencl");
        }
        assertThat(doctor(withoutJar("org/lwjgl/.*natives.*"), Map.of()))
                .contains("native library for this system", "natives-linux");
    }

    @Test
    void withoutALoaderOrADriverTheReasonNamesWhatToInstall() throws IOException, InterruptedException {
        assertThat(doctor(CLASS_PATH, Map.of(), "-Dorg.lwjgl.opencl.libname=libnone.so"))
                .contains("there is no OpenCL loader (libnone.so)", "ocl-icd-libopencl1");
        assumeThat(AvailableBackends.names()).contains("opencl");
        assertThat(doctor(CLASS_PATH, Map.of("OCL_ICD_VENDORS", folder.toString())))
                .contains("knows of no device", "pocl-opencl-icd");
    }

    private static String withoutJar(String pattern) {
        return Arrays.stream(CLASS_PATH.split(File.pathSeparator))
                .filter(entry -> !entry.matches(".*/" + pattern))
                .collect(Collectors.joining(File.pathSeparator));
    }

    /** The one line that a process of its own says about the backend; it must end in exit code 4. */
    private String doctor(String classPath, Map<String, String> environment, String... options)
            throws IOException, InterruptedException {
        Path output = folder.resolve("output.txt");
        ProcessBuilder builder = new ProcessBuilder(Stream.of(
                                Stream.of(Path.of(System.getProperty("java.home"), "bin", "java")
                                        .toString()),
                                Stream.of("--enable-native-access=ALL-UNNAMED"),
                                Arrays.stream(options),
                                Stream.of("-cp", classPath, "org.sentei.cli.Main", "doctor", "--backend", "opencl"))
                        .flatMap(arguments -> arguments)
                        .toList())
                .redirectErrorStream(true)
                .redirectOutput(output.toFile());
        builder.environment().putAll(environment);
        Process process = builder.start();
        assertThat(process.waitFor(2, TimeUnit.MINUTES)).isTrue();
        String text = Files.readString(output);
        assertThat(process.exitValue()).as(text).isEqualTo(4);
        assertThat(text.lines()).hasSize(1);
        return text;
    }

    @Test
    void aDeviceThatDoesNotExistIsRefusedWithThoseThatDo() {
        assumeThat(AvailableBackends.names()).contains("opencl");
        assertThatThrownBy(() -> new OpenClProvider().open(new Backend.Options(99, 1)))
                .isInstanceOfSatisfying(
                        DeviceException.class,
                        failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.UNSUPPORTED))
                .hasMessageContaining("99")
                .hasMessageContaining(OpenClLibrary.device(0).name());
    }
}
