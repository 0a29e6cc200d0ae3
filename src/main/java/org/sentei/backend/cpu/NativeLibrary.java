package org.sentei.backend.cpu;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.net.URL;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.HostAllocator;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.Settings;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The functions of libsentei ({@code native/include/sentei.h}) and of OpenBLAS ({@code cblas.h}), and the only place that
 * loads or binds native code for this backend.
 *
 * <p>Pointers are passed as {@code long} addresses: both calling conventions in question (System V x86-64, AAPCS64) treat
 * them alike, and a worker thread may then use memory that is confined to the thread which waits for it.
 */
@SuppressWarnings("restricted") // loading and binding native code is this class's purpose
final class NativeLibrary implements HostAllocator {
    private static final Logger LOG = LoggerFactory.getLogger(NativeLibrary.class);

    /** Instruction-set tiers of this machine's processor family, lowest first: what {@code sentei_isa_names} names. */
    static final List<String> ISA_NAMES = switch (architecture()) {
        case "x86_64" -> List.of("scalar", "avx2", "avx512", "avx512_bf16");
        case "aarch64" -> List.of("scalar", "neon");
        default -> List.of("scalar");
    };

    private static final String FILE = "libsentei.so";
    /** Bytes from which memory comes from the system itself, which need not be cleared. */
    private static final long LARGE = 1 << 17;
    /** In the order in which they need each other; only on x86-64 does Fortran's runtime need libquadmath. */
    private static final List<String> OPENBLAS_FILES = architecture().equals("x86_64")
            ? List.of("libquadmath.so.0", "libgfortran.so.5", "libopenblas.so.0")
            : List.of("libgfortran.so.5", "libopenblas.so.0");

    // sentei_status of sentei.h.
    static final int OK = 0;
    static final int UNKNOWN_ISA = 1;
    static final int OUT_OF_MEMORY = 2;
    static final int BAD_ARGUMENT = 3;

    // Of cblas.h.
    static final int ROW_MAJOR = 101;
    static final int NO_TRANSPOSE = 111;
    static final int TRANSPOSE = 112;

    // Of lapacke.h.
    static final int COLUMN_MAJOR = 102;
    static final byte UPPER = 'U';
    static final byte NON_UNIT = 'N';

    private final Map<String, MethodHandle> bound = new ConcurrentHashMap<>();
    private final SymbolLookup kernels;
    private final SymbolLookup openBlas;
    private final Interceptor interceptor;
    private final MethodHandle parameters;
    private final String isa;
    private final String version;

    private NativeLibrary(SymbolLookup kernels, SymbolLookup openBlas, String maxIsa, Interceptor interceptor) {
        this.kernels = kernels;
        this.openBlas = openBlas;
        this.interceptor = interceptor;
        parameters = bind(kernels, "sentei_parameters", FunctionDescriptor.of(ADDRESS, ADDRESS));
        init(maxIsa);
        isa = text(kernels, "sentei_active_isa");
        version = text(openBlas, "openblas_get_config").strip();
        setOpenBlasThreads(openBlas);
    }

    /** Why {@link #open} cannot succeed with these resources, or empty; loads nothing. */
    static Optional<String> missing(ClassLoader resources) {
        String os = System.getProperty("os.name");
        if (!os.equals("Linux")) {
            return Optional.of("there is no native library for " + os + "; use the reference backend, or run on Linux");
        }
        if (resources.getResource(ownResource()) == null) {
            return Optional.of("this build has no " + ownResource()
                    + ", because gcc was missing when it was built or it was built for another processor; install gcc"
                    + " and make and build Sentei on this machine");
        }
        for (String file : OPENBLAS_FILES) {
            if (resources.getResource(openBlasResource(file)) == null) {
                return Optional.of("OpenBLAS (" + file + ") is not on the class path; add the dependency"
                        + " org.bytedeco:openblas with classifier " + openBlasPlatform()
                        + ", beside a module path too");
            }
        }
        return Optional.empty();
    }

    /**
     * Refuses a cap of the instruction set that no build knows.
     *
     * @param maxIsa one of {@link #ISA_NAMES}, or empty for no cap
     * @throws DeviceException UNSUPPORTED with the names that there are
     */
    static void checkIsa(String maxIsa) {
        if (!maxIsa.isEmpty() && !ISA_NAMES.contains(maxIsa)) {
            throw unsupported("choosing the instruction set", unknownIsa(maxIsa));
        }
    }

    /**
     * Extracts, loads and binds the libraries. They stay loaded as long as the process lives.
     *
     * @param maxIsa one of {@link #ISA_NAMES}, or empty for no cap; holds for the whole process
     * @param interceptor binds what is called as the kernels
     * @throws DeviceException UNSUPPORTED with the reason and its remedy
     */
    static NativeLibrary open(LibraryCache cache, ClassLoader resources, String maxIsa, Interceptor interceptor) {
        missing(resources).ifPresent(reason -> {
            throw unsupported("opening the backend", reason);
        });
        SymbolLookup kernels = load(cache, resources.getResource(ownResource()), FILE);
        SymbolLookup openBlas = null;
        for (String file : OPENBLAS_FILES) {
            openBlas = load(cache, resources.getResource(openBlasResource(file)), file);
        }
        return new NativeLibrary(kernels, openBlas, maxIsa, interceptor);
    }

    /** Name of the instruction-set tier in use. */
    String isa() {
        return isa;
    }

    /** Version and configuration of OpenBLAS, as it names itself. */
    String version() {
        return version;
    }

    /** The names that the library itself accepts as a cap. */
    List<String> isaNames() {
        return List.of(text(kernels, "sentei_isa_names").split(", "));
    }

    /**
     * A kernel, bound when it is first asked for: linking takes milliseconds each.
     *
     * @param name without prefix, for example {@code gemv_bf16}
     */
    MethodHandle kernel(String name) {
        return bound.computeIfAbsent(name, this::bindKernel);
    }

    @Override
    public MemorySegment zeros(long bytes, Arena arena) {
        if (bytes < LARGE) {
            return HostAllocator.JAVA.zeros(bytes, arena);
        }
        try {
            MemorySegment memory = (MemorySegment) function("sentei_map", FunctionDescriptor.of(ADDRESS, JAVA_LONG))
                    .invokeExact(bytes);
            if (memory.equals(MemorySegment.NULL)) {
                throw new OutOfMemoryError("the system maps no " + bytes + " bytes more");
            }
            return memory.reinterpret(bytes, arena, this::unmap);
        } catch (OutOfMemoryError e) {
            throw e;
        } catch (Throwable e) {
            throw broken("sentei_map", e);
        }
    }

    private void unmap(MemorySegment memory) {
        try {
            int status = (int) function("sentei_unmap", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG))
                    .invokeExact(memory, memory.byteSize());
            if (status != OK) {
                throw new IllegalStateException("status " + status + " for " + memory);
            }
        } catch (Throwable e) {
            throw broken("sentei_unmap", e);
        }
    }

    private MethodHandle function(String name, FunctionDescriptor descriptor) {
        return bound.computeIfAbsent(name, function -> bind(kernels, function, descriptor));
    }

    MethodHandle sgemm() {
        return openBlas(
                "cblas_sgemm",
                FunctionDescriptor.ofVoid(
                        JAVA_INT,
                        JAVA_INT,
                        JAVA_INT,
                        JAVA_INT,
                        JAVA_INT,
                        JAVA_INT,
                        JAVA_FLOAT,
                        JAVA_LONG,
                        JAVA_INT,
                        JAVA_LONG,
                        JAVA_INT,
                        JAVA_FLOAT,
                        JAVA_LONG,
                        JAVA_INT));
    }

    MethodHandle dpotrf() {
        return openBlas(
                "LAPACKE_dpotrf_work",
                FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_BYTE, JAVA_INT, JAVA_LONG, JAVA_INT));
    }

    MethodHandle dtrtri() {
        return openBlas(
                "LAPACKE_dtrtri_work",
                FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_BYTE, JAVA_BYTE, JAVA_INT, JAVA_LONG, JAVA_INT));
    }

    private MethodHandle openBlas(String name, FunctionDescriptor descriptor) {
        return bound.computeIfAbsent(name, function -> bind(openBlas, function, descriptor));
    }

    private void init(String maxIsa) {
        MethodHandle init = bind(kernels, "sentei_init", FunctionDescriptor.of(JAVA_INT, ADDRESS));
        int status;
        try (Arena arena = Arena.ofConfined()) {
            status = (int) init.invokeExact(arena.allocateFrom(maxIsa));
        } catch (Throwable e) {
            throw broken("sentei_init", e);
        }
        if (status != OK) {
            throw unsupported("sentei_init", unknownIsa(maxIsa));
        }
    }

    /** Our own threads run tiles of a product; OpenBLAS must not start threads inside of them. */
    private static void setOpenBlasThreads(SymbolLookup openBlas) {
        String name = "openblas_set_num_threads";
        try {
            bind(openBlas, name, FunctionDescriptor.ofVoid(JAVA_INT)).invokeExact(1);
        } catch (Throwable e) {
            throw broken(name, e);
        }
    }

    private static SymbolLookup load(LibraryCache cache, URL resource, String file) {
        Path path;
        try {
            path = cache.extract(resource, file);
        } catch (IOException e) {
            throw new DeviceException(
                    NativeBackend.NAME, "loading " + file, e.getMessage(), DeviceException.Kind.UNSUPPORTED, e);
        }
        try {
            SymbolLookup library = SymbolLookup.libraryLookup(path, Arena.global());
            LOG.debug("loaded {}", path);
            return library;
        } catch (IllegalArgumentException e) {
            throw new DeviceException(
                    NativeBackend.NAME,
                    "loading " + path,
                    "the system refuses to load it; if its file system does not allow execution (noexec), set "
                            + Settings.NATIVE_DIR + " or " + Settings.environmentName(Settings.NATIVE_DIR)
                            + " to a directory that does",
                    DeviceException.Kind.UNSUPPORTED,
                    e);
        }
    }

    /** With the parameters that the library declares: pointers and int64_t as long, int32_t as int. */
    private MethodHandle bindKernel(String name) {
        String declared;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment pointer = (MemorySegment) parameters.invokeExact(arena.allocateFrom(name));
            if (pointer.equals(MemorySegment.NULL)) {
                throw unsupported(
                        "binding " + name, "the library has no such kernel; rebuild Sentei from clean sources");
            }
            declared = pointer.reinterpret(Long.MAX_VALUE).getString(0);
        } catch (DeviceException e) {
            throw e;
        } catch (Throwable e) {
            throw broken("sentei_parameters", e);
        }
        MemoryLayout[] layouts = Arrays.stream(
                        declared.substring(1, declared.length() - 1).split(","))
                .map(NativeLibrary::layout)
                .toArray(MemoryLayout[]::new);
        MethodHandle handle = bind(kernels, "sentei_" + name, FunctionDescriptor.of(JAVA_INT, layouts));
        return interceptor.bound(name, declared, handle);
    }

    private static MemoryLayout layout(String declaration) {
        if (declaration.contains("*") || declaration.contains("int64_t")) {
            return JAVA_LONG;
        }
        if (declaration.contains("double")) {
            return JAVA_DOUBLE;
        }
        return declaration.contains("int32_t") ? JAVA_INT : JAVA_FLOAT;
    }

    private static MethodHandle bind(SymbolLookup library, String name, FunctionDescriptor descriptor) {
        MemorySegment symbol = library.find(name)
                .orElseThrow(() -> unsupported(
                        "binding " + name, "the library has no such function; rebuild Sentei from clean sources"));
        return Linker.nativeLinker().downcallHandle(symbol, descriptor);
    }

    private static String text(SymbolLookup library, String function) {
        try {
            MemorySegment pointer = (MemorySegment)
                    bind(library, function, FunctionDescriptor.of(ADDRESS)).invokeExact();
            return pointer.reinterpret(Long.MAX_VALUE).getString(0);
        } catch (Throwable e) {
            throw broken(function, e);
        }
    }

    private static String ownResource() {
        return "org/sentei/backend/cpu/linux-" + architecture() + "/" + FILE;
    }

    private static String openBlasResource(String file) {
        return "org/bytedeco/openblas/" + openBlasPlatform() + "/" + file;
    }

    /** As bytedeco says it. */
    private static String openBlasPlatform() {
        return "linux-" + architecture().replace("aarch64", "arm64");
    }

    /** As {@code uname -m} says it. */
    static String architecture() {
        String name = System.getProperty("os.arch").toLowerCase(Locale.ROOT);
        return name.equals("amd64") ? "x86_64" : name;
    }

    private static String unknownIsa(String value) {
        return "\"" + value + "\" is no instruction-set tier; " + Settings.MAX_ISA + " and "
                + Settings.environmentName(Settings.MAX_ISA) + " take " + String.join(", ", ISA_NAMES);
    }

    private static DeviceException unsupported(String call, String reason) {
        return new DeviceException(NativeBackend.NAME, call, 0, reason, DeviceException.Kind.UNSUPPORTED);
    }

    private static DeviceException broken(String call, Throwable cause) {
        return new DeviceException(NativeBackend.NAME, call, cause.toString(), DeviceException.Kind.INTERNAL, cause);
    }
}
