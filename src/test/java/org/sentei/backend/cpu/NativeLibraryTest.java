package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Op;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.Settings;

/** Extraction, loading and the choice of the instruction set, most of all where they go wrong. */
class NativeLibraryTest {
    private static final ClassLoader RESOURCES = NativeLibraryTest.class.getClassLoader();

    /** What a tier needs beyond the tier below it, as Linux names it. */
    private static final Map<String, List<String>> FEATURES = Map.of(
            "scalar",
            List.of(),
            "avx2",
            List.of("avx2", "fma", "f16c", "bmi1", "bmi2"),
            "avx512",
            List.of("avx512f", "avx512bw", "avx512vl", "avx512dq"),
            "avx512_bf16",
            List.of("avx512_vnni", "avx512_bf16", "avx512vbmi", "avx512_vbmi2"),
            "neon",
            List.of("asimd"));

    @TempDir
    Path directory;

    @Test
    void theLibraryKnowsTheTiersThatTheSettingsAccept() {
        assertThat(NativeLibrary.open(cache(), RESOURCES, "", Interceptor.NONE).isaNames())
                .isEqualTo(NativeLibrary.ISA_NAMES);
    }

    static Stream<String> caps() {
        return Stream.concat(NativeLibrary.ISA_NAMES.stream(), Stream.of(""));
    }

    @ParameterizedTest
    @MethodSource("caps")
    void theTierIsTheBestThatTheProcessorHasUpToTheCap(String cap) throws IOException {
        Set<String> flags = Files.readAllLines(Path.of("/proc/cpuinfo")).stream()
                .filter(line -> line.startsWith("flags") || line.startsWith("Features"))
                .findFirst()
                .map(line ->
                        Set.of(line.substring(line.indexOf(':') + 1).strip().split(" ")))
                .orElseThrow();
        String expected = "";
        for (String tier : NativeLibrary.ISA_NAMES) {
            if (!flags.containsAll(FEATURES.get(tier))) {
                break;
            }
            expected = tier;
            if (tier.equals(cap)) {
                break;
            }
        }

        assertThat(NativeLibrary.open(cache(), RESOURCES, cap, Interceptor.NONE).isa())
                .isEqualTo(expected);
    }

    @Test
    void anUnknownTierIsAnErrorThatListsTheKnownOnes() {
        assertThatThrownBy(() -> NativeLibrary.open(cache(), RESOURCES, "avx1024", Interceptor.NONE))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("\"avx1024\"")
                .hasMessageContaining("SENTEI_MAX_ISA")
                .hasMessageContaining(String.join(", ", NativeLibrary.ISA_NAMES));
    }

    @Test
    void anUnknownTierInTheSettingsIsAnErrorThatNoOtherBackendHides() {
        System.setProperty(Settings.MAX_ISA, "sse9");
        try {
            NativeProvider provider = new NativeProvider();
            assertThatThrownBy(() -> Backends.find(Backends.AUTO))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContainingAll("\"sse9\"", String.join(", ", NativeLibrary.ISA_NAMES));
            assertThatThrownBy(() -> provider.open(Backend.Options.defaults()))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("\"sse9\"");
        } finally {
            System.clearProperty(Settings.MAX_ISA);
        }
    }

    @Test
    void aBuildWithoutTheLibrarySaysThatGccWasMissing() throws IOException {
        try (URLClassLoader nothing = new URLClassLoader(new URL[0], null)) {
            assertThat(NativeLibrary.missing(nothing))
                    .hasValueSatisfying(
                            reason -> assertThat(reason).contains("libsentei.so", "gcc was missing", "install gcc"));
            assertThatThrownBy(() -> NativeLibrary.open(cache(), nothing, "", Interceptor.NONE))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("gcc was missing");
        }
    }

    @Test
    void aClassPathWithoutOpenBlasSaysWhichDependencyToAdd() throws IOException {
        Path library = directory.resolve("classes/org/sentei/backend/cpu/linux-x86_64/libsentei.so");
        Files.createDirectories(library.getParent());
        Files.createFile(library);
        URL[] onlyOurs = {directory.resolve("classes").toUri().toURL()};
        try (URLClassLoader resources = new URLClassLoader(onlyOurs, null)) {
            assertThat(NativeLibrary.missing(resources))
                    .hasValueSatisfying(reason -> assertThat(reason).contains("org.bytedeco:openblas", "linux-x86_64"));
        }
    }

    @Test
    void aCacheThatCannotBeMadeIsAnErrorWithARemedy() throws IOException {
        LibraryCache broken =
                new LibraryCache(Files.createFile(directory.resolve("file")).resolve("below"));

        assertThatThrownBy(() -> NativeLibrary.open(broken, RESOURCES, "", Interceptor.NONE))
                .isInstanceOfSatisfying(
                        DeviceException.class,
                        failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.UNSUPPORTED))
                .hasMessageContaining("sentei.native.dir");
    }

    @Test
    void everyOpHasAKernelFileOfItsStem() {
        assertThat(Op.class.getPermittedSubclasses())
                .allSatisfy(op -> assertThat(Path.of("native", "src", Op.stem(op.asSubclass(Op.class)) + ".c"))
                        .isRegularFile());
    }

    private LibraryCache cache() {
        return new LibraryCache(directory.resolve("cache"));
    }
}
