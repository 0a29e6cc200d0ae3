package org.sentei.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.Settings;

/**
 * The CUDA driver's library, and the only place that looks for it or binds it. Every function that this backend calls, here
 * or through JCuda, is looked up before any is called: JCuda binds lazily, and calling what a driver does not have would end
 * the process.
 */
@SuppressWarnings("restricted") // loading and binding native code is this class's purpose
final class CudaDriver {
    /** As {@code --backend} takes it. */
    static final String NAME = "cuda";

    /** What the library is called wherever it lies; JCuda's own library asks for it by this name. */
    private static final String LIBRARY = "libcuda.so.1";

    /** Where the system's own search may not look: distributions, containers, WSL. */
    private static final List<String> PLACES = Stream.of(
                    "/usr/lib/x86_64-linux-gnu",
                    "/usr/lib64",
                    "/usr/lib64-nvidia",
                    "/usr/local/nvidia/lib64",
                    "/usr/lib/wsl/lib",
                    "/run/opengl-driver/lib")
            .map(folder -> folder + "/" + LIBRARY)
            .toList();

    /** What is called here. */
    private static final List<String> OWN_CALLS = List.of(
            "cuCtxSetCurrent",
            "cuDeviceGetCount",
            "cuDriverGetVersion",
            "cuGetErrorName",
            "cuGraphLaunch",
            "cuInit",
            "cuLaunchKernel",
            "cuMemFreeHost",
            "cuMemHostAlloc");

    /** What JCuda calls on our behalf, by its names in the library; {@link CudaContext} calls nothing else of it. */
    private static final List<String> CALLS_OF_JCUDA = List.of(
            "cuDeviceGet",
            "cuDeviceGetAttribute",
            "cuDeviceGetName",
            "cuDevicePrimaryCtxRelease_v2",
            "cuDevicePrimaryCtxRetain",
            "cuDeviceTotalMem_v2",
            "cuEventCreate",
            "cuEventDestroy_v2",
            "cuEventElapsedTime",
            "cuEventRecord",
            "cuEventSynchronize",
            "cuGraphDestroy",
            "cuGraphExecDestroy",
            "cuGraphInstantiateWithFlags",
            "cuMemAlloc_v2",
            "cuMemFree_v2",
            "cuMemcpy2DAsync_v2",
            "cuMemcpyDtoHAsync_v2",
            "cuMemcpyHtoDAsync_v2",
            "cuModuleGetFunction",
            "cuModuleLoadData",
            "cuModuleUnload",
            "cuStreamBeginCapture_v2",
            "cuStreamCreate",
            "cuStreamDestroy_v2",
            "cuStreamEndCapture",
            "cuStreamSynchronize",
            "cuStreamWaitEvent");

    /** Flag of cuMemHostAlloc: pinned for every context. */
    private static final int PORTABLE = 1;

    private final String place;
    private final MethodHandle init;
    private final MethodHandle driverGetVersion;
    private final MethodHandle deviceGetCount;
    private final MethodHandle getErrorName;
    private final MethodHandle ctxSetCurrent;
    private final MethodHandle launchKernel;
    private final MethodHandle graphLaunch;
    private final MethodHandle memHostAlloc;
    private final MethodHandle memFreeHost;

    private CudaDriver(String place, SymbolLookup library) {
        this.place = place;
        init = bind(library, "cuInit", JAVA_INT);
        driverGetVersion = bind(library, "cuDriverGetVersion", ADDRESS);
        deviceGetCount = bind(library, "cuDeviceGetCount", ADDRESS);
        getErrorName = bind(library, "cuGetErrorName", JAVA_INT, ADDRESS);
        ctxSetCurrent = bind(library, "cuCtxSetCurrent", JAVA_LONG);
        launchKernel = bind(
                library,
                "cuLaunchKernel",
                JAVA_LONG,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_INT,
                JAVA_LONG,
                JAVA_LONG,
                JAVA_LONG);
        graphLaunch = bind(library, "cuGraphLaunch", JAVA_LONG, JAVA_LONG);
        memHostAlloc = bind(library, "cuMemHostAlloc", ADDRESS, JAVA_LONG, JAVA_INT);
        memFreeHost = bind(library, "cuMemFreeHost", ADDRESS);
    }

    /**
     * What came of looking for a driver.
     *
     * @param driver loaded and initialised with at least one device, or null
     * @param devices how many
     * @param version of CUDA that it supports, for example 13000
     * @param reason why there is no driver, with the remedy; null when there is one
     */
    record Search(CudaDriver driver, int devices, int version, String reason) {
        private static Search failed(String reason) {
            return new Search(null, 0, 0, reason);
        }
    }

    /**
     * Looks for a driver; where it is found it stays loaded as long as the process lives. Quiet, and next to nothing where
     * there is none.
     *
     * @throws DeviceException UNSUPPORTED when the setting names something that cannot be loaded
     */
    static Search search() {
        Optional<String> chosen = Settings.find(Settings.CUDA_DRIVER);
        if (chosen.isPresent()) {
            return examine(
                    chosen.get(),
                    load(chosen.get())
                            .orElseThrow(() -> unsupported(
                                    "loading " + chosen.get(),
                                    setting(Settings.CUDA_DRIVER)
                                            + " names no library that the system can load; give the path of " + LIBRARY
                                            + ", or unset it")));
        }
        Optional<SymbolLookup> found = load(LIBRARY);
        if (found.isPresent()) {
            return examine(LIBRARY, found.get());
        }
        for (String place : PLACES) {
            found = load(place);
            if (found.isPresent()) {
                return examine(place, found.get());
            }
        }
        return Search.failed("there is no " + LIBRARY
                + " on this machine; install the driver of its NVIDIA GPU, or name the file by "
                + setting(Settings.CUDA_DRIVER));
    }

    private static Search examine(String place, SymbolLookup library) {
        List<String> missing = Stream.concat(OWN_CALLS.stream(), CALLS_OF_JCUDA.stream())
                .filter(name -> library.find(name).isEmpty())
                .toList();
        if (!missing.isEmpty()) {
            return Search.failed(
                    "the driver " + place + " has no " + String.join(", ", missing) + "; install a newer one");
        }
        CudaDriver driver = new CudaDriver(place, library);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment devices = arena.allocate(JAVA_INT);
            MemorySegment version = arena.allocate(JAVA_INT);
            int code = (int) driver.init.invokeExact(0);
            if (code == 0) {
                code = (int) driver.driverGetVersion.invokeExact(version);
            }
            if (code == 0) {
                code = (int) driver.deviceGetCount.invokeExact(devices);
            }
            if (code != 0) {
                return Search.failed(
                        "the driver " + place + " cannot start: " + driver.symbol(code) + " (code " + code
                                + "); if nvidia-smi shows a GPU, is it given to this container or user, and does the driver fit the kernel module?");
            }
            if (devices.get(JAVA_INT, 0) < 1) {
                return Search.failed(
                        "the driver " + place + " finds no GPU; use another backend, or give this container one");
            }
            return new Search(driver, devices.get(JAVA_INT, 0), version.get(JAVA_INT, 0), null);
        } catch (Throwable e) {
            throw broken("cuInit", e);
        }
    }

    /** Name of a CUresult, for example CUDA_ERROR_OUT_OF_MEMORY. */
    String symbol(int code) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment name = arena.allocate(ADDRESS);
            int known = (int) getErrorName.invokeExact(code, name);
            MemorySegment text = name.get(ADDRESS, 0);
            return known == 0 && text.address() != 0
                    ? text.reinterpret(Long.MAX_VALUE).getString(0)
                    : "an unknown error";
        } catch (Throwable e) {
            throw broken("cuGetErrorName", e);
        }
    }

    /** Makes a CUcontext that of the calling thread; returns a CUresult. */
    int setCurrent(long context) {
        try {
            return (int) ctxSetCurrent.invokeExact(context);
        } catch (Throwable e) {
            throw broken("cuCtxSetCurrent", e);
        }
    }

    /**
     * Launches a kernel without dynamic shared memory on a grid and blocks of one dimension.
     *
     * @param function CUfunction
     * @param stream CUstream
     * @param arguments where the addresses of the arguments lie
     * @return CUresult
     */
    int launch(long function, int blocks, int threads, long stream, long arguments) {
        try {
            return (int) launchKernel.invokeExact(function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, 0L);
        } catch (Throwable e) {
            throw broken("cuLaunchKernel", e);
        }
    }

    /** Launches a CUgraphExec on a CUstream; returns a CUresult. */
    int launchGraph(long graph, long stream) {
        try {
            return (int) graphLaunch.invokeExact(graph, stream);
        } catch (Throwable e) {
            throw broken("cuGraphLaunch", e);
        }
    }

    /**
     * Host memory that the device copies from and to by itself.
     *
     * @throws DeviceException OUT_OF_MEMORY with the size
     */
    MemorySegment allocatePinned(long bytes) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment pointer = arena.allocate(ADDRESS);
            check("cuMemHostAlloc of " + bytes + " bytes", (int) memHostAlloc.invokeExact(pointer, bytes, PORTABLE));
            return pointer.get(ADDRESS, 0).reinterpret(bytes);
        } catch (DeviceException e) {
            throw e;
        } catch (Throwable e) {
            throw broken("cuMemHostAlloc", e);
        }
    }

    /** The same memory until the arena closes, which frees it. */
    static MemorySegment owned(MemorySegment pinned, long bytes, Arena arena, Consumer<MemorySegment> free) {
        return pinned.reinterpret(bytes, arena, free);
    }

    /** Frees what {@link #allocatePinned} gave; returns a CUresult. */
    int freePinned(MemorySegment pinned) {
        try {
            return (int) memFreeHost.invokeExact(pinned);
        } catch (Throwable e) {
            throw broken("cuMemFreeHost", e);
        }
    }

    /**
     * Turns a CUresult into an exception unless it is a success.
     *
     * @param call what was called and on what, for the message
     */
    void check(String call, int code) {
        if (code != 0) {
            DeviceException.Kind kind = kind(code);
            throw new DeviceException(NAME, call, code, symbol(code) + "; " + remedy(kind), kind);
        }
    }

    /** By the ranges and values of CUresult in cuda.h. */
    static DeviceException.Kind kind(int code) {
        return switch (code) {
            case 2 -> DeviceException.Kind.OUT_OF_MEMORY;
            // Gone: deinitialised, unavailable, uncorrectable memory or link errors, its context destroyed.
            case 4, 46, 214, 220, 226, 709 -> DeviceException.Kind.LOST;
            // No such device, or not this driver, system or function.
            case 3, 34, 36, 100, 101, 102, 801, 802, 803, 804 -> DeviceException.Kind.UNSUPPORTED;
            // Images: invalid, not for this GPU, PTX that cannot be compiled, names that they do not have.
            case 200, 209, 218, 221, 222, 223, 224, 225, 300, 301, 302, 303, 500 -> DeviceException.Kind.COMPILE;
            // Refused, or ended in an error: addresses, resources, time-outs, traps.
            case 700, 701, 702, 703, 714, 715, 716, 717, 718, 719, 720 -> DeviceException.Kind.LAUNCH;
            default -> DeviceException.Kind.INTERNAL;
        };
    }

    /** Whether a context is of no use after this CUresult. */
    static boolean isSticky(int code) {
        DeviceException.Kind kind = kind(code);
        return kind == DeviceException.Kind.LOST || (kind == DeviceException.Kind.LAUNCH && code != 701);
    }

    private static String remedy(DeviceException.Kind kind) {
        return switch (kind) {
            case OUT_OF_MEMORY -> "use a smaller batch, or free the device of other work";
            case UNSUPPORTED -> "check the device with nvidia-smi, and that the driver fits it";
            case COMPILE ->
                "the kernels of this build and this driver do not fit; update the driver, or build Sentei on this machine";
            case LAUNCH -> "what this process had on the device is lost; start again, and report it if it stays";
            case LOST -> "the device is gone for this process; look at the system's log (Xid), then start again";
            case INTERNAL -> "this is a bug; report it";
        };
    }

    static DeviceException unsupported(String call, String reason) {
        return new DeviceException(NAME, call, 0, reason, DeviceException.Kind.UNSUPPORTED);
    }

    /** What a call that cannot throw has thrown. */
    static DeviceException broken(String call, Throwable cause) {
        return new DeviceException(NAME, call, cause.toString(), DeviceException.Kind.INTERNAL, cause);
    }

    private static String setting(String property) {
        return property + " or " + Settings.environmentName(property);
    }

    /** A library by path, or by name where the system looks; it stays loaded. */
    static Optional<SymbolLookup> load(String place) {
        try {
            return Optional.of(
                    place.contains("/")
                            ? SymbolLookup.libraryLookup(Path.of(place), Arena.global())
                            : SymbolLookup.libraryLookup(place, Arena.global()));
        } catch (IllegalArgumentException e) {
            return Optional.empty();
        }
    }

    /** A function that is there and returns a status. */
    static MethodHandle bind(SymbolLookup library, String name, MemoryLayout... parameters) {
        return Linker.nativeLinker()
                .downcallHandle(library.find(name).orElseThrow(), FunctionDescriptor.of(JAVA_INT, parameters));
    }

    @Override
    public String toString() {
        return place;
    }
}
