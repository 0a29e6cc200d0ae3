package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.kernel.DeviceException;

/** The compiled kernels of a build. */
class KernelImagesTest {
    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({
        "sm_80 sm_90a compute_80, 80, true",
        "sm_80 sm_90a compute_80, 86, true",
        "sm_80 sm_90a compute_80, 90, true",
        "sm_80 sm_90a compute_80, 120, true",
        "sm_80 sm_90a compute_80, 75, false",
        "sm_80 sm_90a, 89, true",
        "sm_80 sm_90a, 100, false",
        "sm_86, 80, false",
        "sm_90a, 90, true",
        "sm_90a, 91, false",
        "compute_90a, 90, false",
        "sm_100 sm_120, 103, true"
    })
    void codeServesItsOwnMajorVersionUpwardsAndPtxEverythingNewer(String targets, int capability, boolean served)
            throws IOException {
        assertThat(images("toolkit=13.0", "targets=" + targets).serve(capability))
                .isEqualTo(served);
    }

    @Test
    void theToolkitsReleaseIsCountedAsDriversDo() throws IOException {
        assertThat(images("toolkit=13.0", "targets=sm_80").toolkit()).isEqualTo(13000);
        assertThat(images("toolkit=12.8", "targets=sm_80").toolkit()).isEqualTo(12080);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "targets=sm_80",
                "toolkit=13.0",
                "toolkit=\ntargets=sm_80",
                "toolkit=13\ntargets=sm_80",
                "toolkit=99999999999.0\ntargets=sm_80",
                "toolkit=13.0\ntargets=",
                "toolkit=13.0\ntargets=sm_80 gfx90a",
                "toolkit=13.0\ntargets=\\u00"
            })
    void aDamagedListIsAnErrorThatSaysSo(String list) {
        assertThatThrownBy(() -> images(list))
                .isInstanceOfSatisfying(
                        DeviceException.class,
                        failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.COMPILE))
                .hasMessageContainingAll("kernels.properties", "build or install Sentei again");
    }

    @Test
    void anImageThatIsNotThereIsAnError() throws IOException {
        KernelImages images = images("toolkit=13.0", "targets=sm_80", "gemm=" + "0".repeat(64));

        for (String file : List.of("gemm", "cast")) {
            assertThatThrownBy(() -> images.image(file))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContainingAll("the kernels of " + file, "not in this build");
        }
    }

    @Test
    void aClassPathWithoutKernelsHasNoImages() throws IOException {
        try (URLClassLoader nothing = new URLClassLoader(new URL[0], null)) {
            assertThat(KernelImages.of(nothing)).isEmpty();
        }
    }

    @Test
    void whatNvccBuiltIsWholeAndCoversEveryKernelFile() throws IOException {
        KernelImages images =
                KernelImages.of(KernelImages.class.getClassLoader()).orElse(null);
        if (images == null) {
            EmulatedDriver.skipUnlessRequired("nvcc", "which compiles the CUDA kernels");
            return;
        }
        assertThat(images.files()).containsExactlyElementsOf(EmulatedDriver.stems());
        assertThat(images.files())
                .allSatisfy(file -> assertThat(images.image(file)).isNotEmpty());
        assertThat(images.serve(90)).isTrue();
    }

    private KernelImages images(String... lines) throws IOException {
        Path list = folder.resolve("org/sentei/backend/cuda/kernels/kernels.properties");
        Files.createDirectories(list.getParent());
        Files.write(list, List.of(lines));
        // Open as long as the test lives: images are read when they are asked for.
        URLClassLoader resources = new URLClassLoader(new URL[] {folder.toUri().toURL()}, null);
        return KernelImages.of(resources).orElseThrow();
    }
}
