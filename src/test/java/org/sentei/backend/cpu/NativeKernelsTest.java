package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** The C test of the kernels ({@code native/test}) under AddressSanitizer and UndefinedBehaviorSanitizer. */
class NativeKernelsTest {
    @Test
    void everyKernelPassesItsSanitizedCTestOnEveryTier() throws IOException, InterruptedException {
        Process make = new ProcessBuilder("make", "--silent", "-j2", "-C", "native", "test")
                .redirectErrorStream(true)
                .redirectOutput(Path.of("target", "native-test.log").toFile())
                .start();

        assertThat(make.waitFor(5, TimeUnit.MINUTES)).isTrue();
        assertThat(Path.of("target", "native-test.log")).content().contains("all kernels passed");
        assertThat(make.exitValue()).isZero();
    }
}
