package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assumptions.assumeThat;

import org.junit.jupiter.api.Test;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.UserKernel;
import org.sentei.platform.Settings;

/** A user's CUDA kernels, as far as that goes without a GPU. */
final class NvrtcTest {
    private static final String ENTRY =
            "KERNEL(rms_norm_f32)(IN(float, x), int cols, IN(float, gain), OUT(float, y), float epsilon) {";

    private static UserKernel kernel(String body) {
        return new UserKernel("rms_norm", "mine.cu", ENTRY + body + "}");
    }

    /** The library, where there is one. */
    private static Nvrtc library() {
        boolean there;
        try {
            there = Nvrtc.find() != null;
        } catch (DeviceException absent) {
            assertThat(absent.kind()).isEqualTo(DeviceException.Kind.UNSUPPORTED);
            assertThat(absent.getMessage()).contains("libnvrtc.so.13", "install NVRTC", "SENTEI_NVRTC");
            there = false;
        }
        assumeThat(there).as("NVRTC is here").isTrue();
        return Nvrtc.find();
    }

    @Test
    void aKernelBecomesAnImageOfTheDriver() {
        byte[] image = library().compile(kernel("ROW(y, GROUP_ID)[LOCAL_ID] = epsilon;"), 90);
        assertThat(image).startsWith(0x7f, 'E', 'L', 'F');
    }

    @Test
    void whatTheCompilerSaysIsInTheError() {
        Nvrtc compiler = library();
        assertThatThrownBy(() -> compiler.compile(kernel("no_such_name = 1;"), 90))
                .isInstanceOfSatisfying(
                        DeviceException.class,
                        failure -> assertThat(failure.kind()).isEqualTo(DeviceException.Kind.COMPILE))
                .hasMessageContaining("mine.cu")
                .hasMessageContaining("no_such_name");
    }

    @Test
    void aFileThatIsNamedButIsNoLibraryIsSaidSo() {
        String before = System.getProperty(Settings.NVRTC);
        System.setProperty(Settings.NVRTC, "/nowhere/libnvrtc.so");
        try {
            assertThatThrownBy(Nvrtc::find)
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("/nowhere/libnvrtc.so is no NVRTC");
        } finally {
            if (before == null) {
                System.clearProperty(Settings.NVRTC);
            } else {
                System.setProperty(Settings.NVRTC, before);
            }
        }
    }
}
