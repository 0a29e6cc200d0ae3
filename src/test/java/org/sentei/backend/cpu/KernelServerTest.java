package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The way to kernels in another process, where it must fail. */
class KernelServerTest {
    private static final String HELLO = "printf 'scalar\\nsome_kernel\\n\\n';";

    @TempDir
    Path directory;

    @Test
    void aServerThatEndsIsAFailureThatNamesTheKernel() throws Throwable {
        try (KernelServer server = server(HELLO);
                Arena arena = Arena.ofConfined()) {
            MemorySegment memory = arena.allocate(8);
            server.uses(memory);
            MethodHandle kernel = someKernel(server);

            assertThatThrownBy(() -> kernel.invoke(memory.address(), 1L))
                    .hasMessageContainingAll("ended inside of some_kernel", "server.log");
            assertThat(server.calls()).containsEntry("some_kernel", 1);
        }
    }

    @Test
    void memoryThatTheBackendDidNotShowIsRefusedBeforeAnythingIsSent() throws Throwable {
        try (KernelServer server = server(HELLO + "exec cat >/dev/null");
                Arena arena = Arena.ofConfined()) {
            MemorySegment shown = arena.allocate(8);
            server.uses(shown);
            MethodHandle kernel = someKernel(server);

            assertThatThrownBy(() -> kernel.invoke(shown.address() + 8, 1L))
                    .hasMessageContainingAll("some_kernel", "address, segment or scratch");
        }
    }

    @Test
    void whatAKernelWritesArrivesAndAByteBesideItIsAFailure() throws Throwable {
        // Takes the request (kernel, one region and its size, two arguments, 8 bytes) and answers with status 3.
        String answer = "head -c 72 >/dev/null; printf '\\003\\0\\0\\0\\0\\0\\0\\0%b\\0\\0\\0\\0\\0\\0\\0written!'";
        for (boolean strays : new boolean[] {false, true}) {
            try (KernelServer server = server(HELLO + answer + (strays ? " '\\001'" : " '\\0'"));
                    Arena arena = Arena.ofConfined()) {
                MemorySegment memory = arena.allocate(9);
                server.uses(memory.asSlice(0, 8));
                MethodHandle kernel = someKernel(server);

                if (strays) {
                    assertThatThrownBy(() -> kernel.invoke(memory.address(), 1L))
                            .hasMessageContaining("some_kernel wrote beside");
                } else {
                    assertThat((int) kernel.invoke(memory.address(), 1L)).isEqualTo(3);
                    assertThat(memory.getString(0)).isEqualTo("written!");
                }
            }
        }
    }

    private static MethodHandle someKernel(KernelServer server) {
        MethodType type = MethodType.methodType(int.class, long.class, long.class);
        return server.bound("some_kernel", "(const float *x, int64_t n)", MethodHandles.empty(type));
    }

    private KernelServer server(String script) throws IOException {
        return new KernelServer(List.of("sh", "-c", script), directory.resolve("server.log"));
    }
}
