package org.sentei.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.backend.gpu.KernelSource;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.UserKernel;
import org.sentei.platform.Settings;

/** NVRTC, the compiler of CUDA as a library, where there is one: nothing but a user's own kernels needs it. */
@SuppressWarnings("restricted") // calling native code is this class's purpose
final class Nvrtc {
    private static final List<String> NAMES = List.of("libnvrtc.so.13", "libnvrtc.so.12");
    private static final List<String> FOLDERS = List.of("", "/usr/local/cuda/lib64/", "/usr/lib/x86_64-linux-gnu/");
    private static final List<String> CALLS = List.of(
            "nvrtcCreateProgram",
            "nvrtcCompileProgram",
            "nvrtcGetProgramLogSize",
            "nvrtcGetProgramLog",
            "nvrtcGetCUBINSize",
            "nvrtcGetCUBIN",
            "nvrtcDestroyProgram");

    private final String place;
    private final MethodHandle create;
    private final MethodHandle compile;
    private final MethodHandle logSize;
    private final MethodHandle log;
    private final MethodHandle imageSize;
    private final MethodHandle image;
    private final MethodHandle destroy;

    private Nvrtc(String place, SymbolLookup library) {
        this.place = place;
        create = CudaDriver.bind(library, CALLS.get(0), ADDRESS, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, ADDRESS);
        compile = CudaDriver.bind(library, CALLS.get(1), ADDRESS, JAVA_INT, ADDRESS);
        logSize = CudaDriver.bind(library, CALLS.get(2), ADDRESS, ADDRESS);
        log = CudaDriver.bind(library, CALLS.get(3), ADDRESS, ADDRESS);
        imageSize = CudaDriver.bind(library, CALLS.get(4), ADDRESS, ADDRESS);
        image = CudaDriver.bind(library, CALLS.get(5), ADDRESS, ADDRESS);
        destroy = CudaDriver.bind(library, CALLS.get(6), ADDRESS);
    }

    /**
     * Looks for the library.
     *
     * @throws DeviceException UNSUPPORTED when there is none, with the remedy
     */
    static Nvrtc find() {
        Optional<String> chosen = Settings.find(Settings.NVRTC);
        Stream<String> places = chosen.isPresent()
                ? Stream.of(chosen.get())
                : FOLDERS.stream().flatMap(folder -> NAMES.stream().map(name -> folder + name));
        return places.flatMap(place -> CudaDriver.load(place)
                        .filter(library -> CALLS.stream()
                                .allMatch(call -> library.find(call).isPresent()))
                        .map(library -> new Nvrtc(place, library))
                        .stream())
                .findFirst()
                .orElseThrow(() -> CudaDriver.unsupported(
                        "looking for the compiler",
                        (chosen.isPresent()
                                        ? chosen.get() + " is no NVRTC that the system can load"
                                        : "there is no " + String.join(" or ", NAMES) + " on this machine")
                                + "; install NVRTC of CUDA 12 or 13, or name its file by " + Settings.NVRTC + " or "
                                + Settings.environmentName(Settings.NVRTC)));
    }

    /**
     * Compiles a user's kernels.
     *
     * @param capability compute capability, for example 90
     * @return an image that the driver loads
     * @throws DeviceException COMPILE with the compiler's words
     */
    byte[] compile(UserKernel kernel, int capability) {
        String source = KernelSource.of(kernel, CudaDriver.NAME);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment handle = arena.allocate(ADDRESS);
            check(kernel, "nvrtcCreateProgram", (int) create.invokeExact(
                    handle,
                    arena.allocateFrom(source),
                    arena.allocateFrom(kernel.name()),
                    0,
                    MemorySegment.NULL,
                    MemorySegment.NULL));
            MemorySegment program = handle.get(ADDRESS, 0);
            try {
                MemorySegment options = arena.allocate(ADDRESS);
                options.set(ADDRESS, 0, arena.allocateFrom("--gpu-architecture=sm_" + capability));
                if ((int) compile.invokeExact(program, 1, options) != 0) {
                    throw new DeviceException(
                            CudaDriver.NAME,
                            "compiling " + kernel.name() + " for sm_" + capability,
                            0,
                            "the compiler " + place + " says: " + log(kernel, program, arena),
                            DeviceException.Kind.COMPILE);
                }
                MemorySegment size = arena.allocate(JAVA_LONG);
                check(kernel, "nvrtcGetCUBINSize", (int) imageSize.invokeExact(program, size));
                MemorySegment bytes = arena.allocate(Math.max(1, size.get(JAVA_LONG, 0)));
                check(kernel, "nvrtcGetCUBIN", (int) image.invokeExact(program, bytes));
                return bytes.toArray(JAVA_BYTE);
            } finally {
                check(kernel, "nvrtcDestroyProgram", (int) destroy.invokeExact(handle));
            }
        } catch (DeviceException e) {
            throw e;
        } catch (Throwable e) {
            throw CudaDriver.broken("compiling " + kernel.name(), e);
        }
    }

    private String log(UserKernel kernel, MemorySegment program, Arena arena) throws Throwable {
        MemorySegment size = arena.allocate(JAVA_LONG);
        check(kernel, "nvrtcGetProgramLogSize", (int) logSize.invokeExact(program, size));
        MemorySegment text = arena.allocate(Math.max(1, size.get(JAVA_LONG, 0)));
        check(kernel, "nvrtcGetProgramLog", (int) log.invokeExact(program, text));
        return text.getString(0).strip();
    }

    private void check(UserKernel kernel, String call, int code) {
        if (code != 0) {
            throw new DeviceException(
                    CudaDriver.NAME,
                    call + " of " + kernel.name(),
                    code,
                    "the compiler " + place + " refuses; use one that fits the driver",
                    DeviceException.Kind.COMPILE);
        }
    }
}
