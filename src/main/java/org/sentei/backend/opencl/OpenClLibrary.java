package org.sentei.backend.opencl;

import static org.lwjgl.opencl.CL10.CL_DEVICE_AVAILABLE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_COMPILER_AVAILABLE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_ENDIAN_LITTLE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_EXTENSIONS;
import static org.lwjgl.opencl.CL10.CL_DEVICE_GLOBAL_MEM_SIZE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_LOCAL_MEM_SIZE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_MAX_WORK_GROUP_SIZE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_NAME;
import static org.lwjgl.opencl.CL10.CL_DEVICE_NOT_FOUND;
import static org.lwjgl.opencl.CL10.CL_DEVICE_SINGLE_FP_CONFIG;
import static org.lwjgl.opencl.CL10.CL_DEVICE_TYPE;
import static org.lwjgl.opencl.CL10.CL_DEVICE_TYPE_ACCELERATOR;
import static org.lwjgl.opencl.CL10.CL_DEVICE_TYPE_ALL;
import static org.lwjgl.opencl.CL10.CL_DEVICE_TYPE_GPU;
import static org.lwjgl.opencl.CL10.CL_DEVICE_VERSION;
import static org.lwjgl.opencl.CL10.CL_DRIVER_VERSION;
import static org.lwjgl.opencl.CL10.CL_FP_DENORM;
import static org.lwjgl.opencl.CL10.CL_FP_INF_NAN;
import static org.lwjgl.opencl.CL10.CL_FP_ROUND_TO_NEAREST;
import static org.lwjgl.opencl.CL10.nclGetDeviceIDs;
import static org.lwjgl.opencl.CL10.nclGetDeviceInfo;
import static org.lwjgl.opencl.CL10.nclGetPlatformIDs;
import static org.lwjgl.opencl.KHRICD.CL_PLATFORM_NOT_FOUND_KHR;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;
import org.lwjgl.opencl.CL;
import org.lwjgl.system.Configuration;
import org.lwjgl.system.Platform;
import org.lwjgl.system.linux.DynamicLinkLoader;
import org.sentei.backend.gpu.Launch;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.Settings;

/** OpenCL's loader, which may be absent, and the devices that it knows of. */
final class OpenClLibrary {
    /** Local memory that kernels take at most. */
    private static final long LOCAL_BYTES = 32 << 10;

    /** Names of the loader, with and without the package for developers. */
    private static final List<String> LOADERS = List.of("libOpenCL.so.1", "libOpenCL.so");

    private OpenClLibrary() {}

    /**
     * A device of some platform.
     *
     * @param unusable why kernels cannot run on it, if they cannot
     */
    record Found(
            long id,
            long platform,
            long type,
            String name,
            String version,
            String driver,
            long memoryBytes,
            boolean fp64,
            Optional<String> unusable) {
        boolean isUsableGpu() {
            return (type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR)) != 0 && unusable.isEmpty();
        }

        private int order() {
            return (type & CL_DEVICE_TYPE_GPU) != 0 ? 0 : (type & CL_DEVICE_TYPE_ACCELERATOR) != 0 ? 1 : 2;
        }
    }

    /** Why OpenCL itself is not there, if it is not. */
    static Optional<String> failure() {
        return Loaded.FAILURE.isEmpty() ? Optional.empty() : Optional.of(Loaded.FAILURE);
    }

    /** What became of the one attempt that LWJGL makes in a process. */
    private static final class Loaded {
        /** Why it did not load; empty when it did. */
        static final String FAILURE = load();

        private static String load() {
            // Asked for by name, and not by the binding's initializer, which would fail for good.
            Configuration.OPENCL_EXPLICIT_INIT.set(true);
            if (CL.class.getResource("/" + nativeLibrary()) == null && Configuration.LIBRARY_PATH.get() == null) {
                return "LWJGL's native library for this system is not on the class or module path; add"
                        + " org.lwjgl:lwjgl with the classifier of the system, for example natives-linux";
            }
            if (Configuration.MEMORY_BACKEND.get() == null) {
                Configuration.MEMORY_BACKEND.set("ffm");
            }
            try {
                return isLoaded() ? "" : loadPrivateCopy();
            } catch (IOException e) {
                return e.getMessage();
            }
        }

        /** Whether the program that embeds us has done so. */
        private static boolean isLoaded() {
            try {
                CL.getICD();
                return true;
            } catch (IllegalStateException e) {
                return false;
            }
        }

        private static String nativeLibrary() {
            String arch = Platform.getArchitecture() == Platform.Architecture.ARM64 ? "arm64" : "x64";
            return "linux/" + arch + "/org/lwjgl/liblwjgl.so";
        }

        /** LWJGL unpacks its library where it lies already, and so loads our copy. */
        private static String loadPrivateCopy() throws IOException {
            if (Configuration.SHARED_LIBRARY_EXTRACT_PATH.get() != null || Configuration.LIBRARY_PATH.get() != null) {
                return create();
            }
            Path copy = LibraryCache.ofUser().extract(CL.class.getResource("/" + nativeLibrary()), "liblwjgl.so");
            Configuration.SHARED_LIBRARY_EXTRACT_PATH.set(copy.getParent().toString());
            try {
                return create();
            } finally {
                Configuration.SHARED_LIBRARY_EXTRACT_PATH.set(null);
            }
        }

        /** LWJGL complains on the terminal about a library that is not there, so the system is asked first. */
        private static String create() {
            String named = Configuration.OPENCL_LIBRARY_NAME.get();
            List<String> loaders = named == null ? LOADERS : List.of(named);
            try {
                for (String loader : loaders) {
                    if (DynamicLinkLoader.dlopen(loader, DynamicLinkLoader.RTLD_LAZY) != 0) {
                        CL.create(loader);
                        return "";
                    }
                }
                return "there is no OpenCL loader (" + String.join(" or ", loaders)
                        + "); install ocl-icd-libopencl1 and the OpenCL driver of the device";
            } catch (LinkageError | RuntimeException e) {
                return "OpenCL does not load: " + e + "; install another OpenCL loader, or let " + Settings.NATIVE_DIR
                        + " name a folder that allows execution";
            }
        }
    }

    /** All devices, GPUs first; empty when there is no loader. */
    static List<Found> devices() {
        if (failure().isPresent()) {
            return List.of();
        }
        List<Found> found = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            for (long platform : platforms(arena)) {
                for (long device : devices(arena, platform)) {
                    found.add(describe(arena, platform, device));
                }
            }
        }
        found.sort(Comparator.comparingInt(Found::order));
        return List.copyOf(found);
    }

    private static long[] platforms(Arena arena) {
        MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
        int code = nclGetPlatformIDs(0, 0, count.address());
        if (code == CL_PLATFORM_NOT_FOUND_KHR || count.get(ValueLayout.JAVA_INT, 0) == 0) {
            return new long[0];
        }
        OpenClException.check("clGetPlatformIDs", code);
        MemorySegment ids = arena.allocate(ValueLayout.JAVA_LONG, count.get(ValueLayout.JAVA_INT, 0));
        OpenClException.check(
                "clGetPlatformIDs", nclGetPlatformIDs(count.get(ValueLayout.JAVA_INT, 0), ids.address(), 0));
        return ids.toArray(ValueLayout.JAVA_LONG);
    }

    private static long[] devices(Arena arena, long platform) {
        MemorySegment count = arena.allocate(ValueLayout.JAVA_INT);
        int code = nclGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, 0, count.address());
        if (code == CL_DEVICE_NOT_FOUND) {
            return new long[0];
        }
        OpenClException.check("clGetDeviceIDs", code);
        MemorySegment ids = arena.allocate(ValueLayout.JAVA_LONG, count.get(ValueLayout.JAVA_INT, 0));
        OpenClException.check(
                "clGetDeviceIDs",
                nclGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, count.get(ValueLayout.JAVA_INT, 0), ids.address(), 0));
        return ids.toArray(ValueLayout.JAVA_LONG);
    }

    private static Found describe(Arena arena, long platform, long device) {
        List<String> lacks = new ArrayList<>();
        long precision = CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST;
        if ((number(arena, device, CL_DEVICE_SINGLE_FP_CONFIG) & precision) != precision) {
            lacks.add("fp32 with denormals, infinities and rounding to nearest, without which masks differ");
        }
        if (number(arena, device, CL_DEVICE_MAX_WORK_GROUP_SIZE) < Launch.GROUP) {
            lacks.add("work-groups of " + Launch.GROUP);
        }
        if (number(arena, device, CL_DEVICE_LOCAL_MEM_SIZE) < LOCAL_BYTES) {
            lacks.add("local memory of " + LOCAL_BYTES + " bytes");
        }
        if ((int) number(arena, device, CL_DEVICE_ENDIAN_LITTLE) == 0) {
            lacks.add("little-endian memory");
        }
        if ((int) number(arena, device, CL_DEVICE_COMPILER_AVAILABLE) == 0) {
            lacks.add("a compiler");
        }
        if ((int) number(arena, device, CL_DEVICE_AVAILABLE) == 0) {
            lacks.add("readiness: its driver says that it is not available now");
        }
        String name = text(arena, device, CL_DEVICE_NAME);
        return new Found(
                device,
                platform,
                number(arena, device, CL_DEVICE_TYPE),
                name,
                text(arena, device, CL_DEVICE_VERSION),
                text(arena, device, CL_DRIVER_VERSION),
                number(arena, device, CL_DEVICE_GLOBAL_MEM_SIZE),
                Arrays.asList(text(arena, device, CL_DEVICE_EXTENSIONS).split(" ", -1))
                        .contains("cl_khr_fp64"),
                lacks.isEmpty() ? Optional.empty() : Optional.of(name + " lacks " + String.join(", ", lacks)));
    }

    /** An information that is a number of up to eight bytes. */
    private static long number(Arena arena, long device, int information) {
        MemorySegment value = arena.allocate(ValueLayout.JAVA_LONG);
        OpenClException.check(
                "clGetDeviceInfo", nclGetDeviceInfo(device, information, value.byteSize(), value.address(), 0));
        return value.get(ValueLayout.JAVA_LONG, 0);
    }

    private static String text(Arena arena, long device, int information) {
        MemorySegment size = arena.allocate(ValueLayout.JAVA_LONG);
        OpenClException.check("clGetDeviceInfo", nclGetDeviceInfo(device, information, 0, 0, size.address()));
        MemorySegment text = arena.allocate(Math.max(1, size.get(ValueLayout.JAVA_LONG, 0)));
        OpenClException.check(
                "clGetDeviceInfo", nclGetDeviceInfo(device, information, text.byteSize(), text.address(), 0));
        return text.getString(0, StandardCharsets.UTF_8).strip();
    }

    /** Why none of these devices can be used, if none can. */
    static Optional<String> unusable(List<Found> devices) {
        if (devices.isEmpty()) {
            return Optional.of(
                    "the OpenCL loader knows of no device; install the OpenCL driver of the device, for example"
                            + " pocl-opencl-icd for the processor");
        }
        if (devices.stream().anyMatch(device -> device.unusable().isEmpty())) {
            return Optional.empty();
        }
        return Optional.of("no OpenCL device can be used: "
                + devices.stream()
                        .map(device -> device.unusable().orElseThrow())
                        .collect(Collectors.joining("; "))
                + "; use another device or backend");
    }

    /**
     * A usable device by its index among them.
     *
     * @throws DeviceException UNSUPPORTED with all of them, when there is no such device
     */
    static Found device(int index) {
        failure().ifPresent(reason -> {
            throw unsupported(index, reason);
        });
        List<Found> all = devices();
        unusable(all).ifPresent(reason -> {
            throw unsupported(index, reason);
        });
        List<Found> usable =
                all.stream().filter(device -> device.unusable().isEmpty()).toList();
        if (index >= usable.size()) {
            throw unsupported(
                    index,
                    "there are " + usable.size() + " devices, counted from 0: "
                            + usable.stream().map(Found::name).collect(Collectors.joining(", ")));
        }
        return usable.get(index);
    }

    private static DeviceException unsupported(int index, String reason) {
        return new DeviceException(
                OpenClProvider.NAME, "opening device " + index, 0, reason, DeviceException.Kind.UNSUPPORTED);
    }
}
