package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.Settings;

/** A machine without a GPU, as most that build Sentei are. */
class CudaProviderTest {
    private final CudaProvider provider = new CudaProvider();

    @Test
    void aMachineWithoutADriverSaysSoAndWhatToDo() {
        assumeFalse(CudaDriver.search().driver() != null, "this machine has a GPU");

        assertThat(provider.unavailableBecause())
                .hasValueSatisfying(reason -> assertThat(reason).containsAnyOf("libcuda.so.1", "CUDA_ERROR_"));
        assertThatThrownBy(() -> provider.open(Backend.Options.defaults()))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("cuda: opening the backend failed: ");
        assertThat(provider.isExpected()).isEqualTo(Files.exists(Path.of("/dev/nvidiactl")));
    }

    @Test
    void aSettingThatNamesNoLibraryIsAnErrorThatNoOtherBackendHides(@TempDir Path folder) throws IOException {
        Path junk = Files.writeString(folder.resolve("libcuda.so.1"), "junk");
        System.setProperty(Settings.CUDA_DRIVER, junk.toString());
        try {
            assertThatThrownBy(() -> Backends.find(Backends.AUTO))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContainingAll(junk.toString(), "SENTEI_CUDA_DRIVER", "unset it");
        } finally {
            System.clearProperty(Settings.CUDA_DRIVER);
        }
    }
}
