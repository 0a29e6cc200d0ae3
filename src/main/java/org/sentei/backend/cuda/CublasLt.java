package org.sentei.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
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
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.backend.gpu.Launch;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.Settings;

/**
 * NVIDIA's library of matrix products, where this process or this machine has it, with one handle for the current context.
 * Every function is looked up before any is called; only opaque handles and attributes by number pass, and the one struct
 * that a caller must know, the result of the heuristic.
 *
 * <p>Products are fp32 throughout: no TF32 and no emulation by narrower types. What a product runs by follows from its
 * shape, strides and the alignment of its matrices, so that the same product gives the same bits.
 */
@SuppressWarnings("restricted") // loading and binding native code is this class's purpose
final class CublasLt {
    /** Value of the setting for the kernels of this build. */
    private static final String NONE = "none";

    /** Newest first; a process that has one already keeps to it. */
    private static final List<String> NAMES = List.of("libcublasLt.so.13", "libcublasLt.so.12");

    private static final List<String> FOLDERS =
            List.of("", "/usr/local/cuda/lib64/", "/usr/local/cuda/targets/x86_64-linux/lib/");

    private static final String MATMUL = "cublasLtMatmul";
    private static final String HEURISTIC = "cublasLtMatmulAlgoGetHeuristic";
    private static final String SET_OPERATION = "cublasLtMatmulDescSetAttribute";
    private static final String SET_PREFERENCE = "cublasLtMatmulPreferenceSetAttribute";
    private static final String VERSION = "cublasLtGetVersion";

    private static final Path LOADED = Path.of("/proc/self/maps");

    /** What is called, with its parameters. */
    private static final Map<String, List<MemoryLayout>> CALLS = Map.ofEntries(
            Map.entry("cublasLtCreate", List.of(ADDRESS)),
            Map.entry("cublasLtDestroy", List.of(JAVA_LONG)),
            Map.entry("cublasLtMatmulDescCreate", List.of(ADDRESS, JAVA_INT, JAVA_INT)),
            Map.entry("cublasLtMatmulDescDestroy", List.of(JAVA_LONG)),
            Map.entry(SET_OPERATION, List.of(JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG)),
            Map.entry("cublasLtMatmulPreferenceCreate", List.of(ADDRESS)),
            Map.entry("cublasLtMatmulPreferenceDestroy", List.of(JAVA_LONG)),
            Map.entry(SET_PREFERENCE, List.of(JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG)),
            Map.entry("cublasLtMatrixLayoutCreate", List.of(ADDRESS, JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_LONG)),
            Map.entry("cublasLtMatrixLayoutDestroy", List.of(JAVA_LONG)),
            Map.entry(
                    HEURISTIC,
                    List.of(
                            JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_INT,
                            ADDRESS, ADDRESS)),
            Map.entry(
                    MATMUL,
                    List.of(
                            JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, ADDRESS,
                            JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG)));

    // Values of cublasLt.h, cublas_api.h and library_types.h.
    private static final int NOT_SUPPORTED = 15;
    private static final int COMPUTE_32F = 68;
    private static final int REAL_32F = 0;
    private static final int OPERATION_TRANSPOSE_A = 3;
    private static final int OPERATION_EPILOGUE = 7;
    private static final int OPERATION_BIAS = 8;
    private static final int TRANSPOSED = 1;
    private static final int EPILOGUE_BIAS = 4;
    private static final int PREFERENCE_WORKSPACE = 1;
    private static final int PREFERENCE_ALIGNMENT_A = 5;

    /** Algorithm (8 x 8 bytes), bytes of workspace, status, waves, 4 x 4 bytes for later versions. */
    private static final long RESULT_BYTES = 96;

    private static final long RESULT_WORKSPACE = 64;
    private static final long RESULT_STATE = 72;

    /** What NVIDIA recommends for its GPUs since compute capability 9.0; an upper bound, not what each product needs. */
    static final long WORKSPACE_BYTES = 32L << 20;

    private static final int MOST_PLANS = 4096;
    private static final int WIDEST_ALIGNMENT = 256;

    private final Map<String, MethodHandle> calls = new HashMap<>();
    private final MethodHandle matmul;
    private final MethodHandle setOperation;
    private final MethodHandle getVersion;
    private final Arena arena = Arena.ofConfined();
    private final MemorySegment zero = arena.allocateFrom(JAVA_FLOAT, 0);
    private final MemorySegment one = arena.allocateFrom(JAVA_FLOAT, 1);
    /** For what is passed by address: a new object, an attribute, a count. */
    private final MemorySegment value = arena.allocate(JAVA_LONG);

    private final Map<Shape, Plan> plans = new HashMap<>();
    private long handle;

    private CublasLt(SymbolLookup library) {
        CALLS.forEach((name, parameters) ->
                calls.put(name, CudaDriver.bind(library, name, parameters.toArray(MemoryLayout[]::new))));
        matmul = calls.get(MATMUL);
        setOperation = calls.get(SET_OPERATION);
        getVersion = Linker.nativeLinker()
                .downcallHandle(library.find(VERSION).orElseThrow(), FunctionDescriptor.of(JAVA_LONG));
    }

    /**
     * What came of looking for the library.
     *
     * @param library with a handle, to be closed; null where products are to run by the kernels of this build
     * @param choice which of the two, and why, for people
     */
    record Search(CublasLt library, String choice) {}

    /**
     * Looks for the library and makes a handle for the current context: what the setting names, or else a copy that this
     * process has already, or else the newest that the system finds and that works with its driver.
     *
     * @throws DeviceException UNSUPPORTED when the setting names what cannot be used
     */
    static Search search() {
        Optional<String> chosen = Settings.find(Settings.CUBLASLT);
        if (chosen.isPresent()) {
            if (chosen.get().equals(NONE)) {
                return new Search(null, "own matrix products, as " + setting() + " says");
            }
            List<String> reasons = new ArrayList<>();
            return open(chosen.get(), reasons)
                    .orElseThrow(() -> CudaDriver.unsupported(
                            "loading " + chosen.get(),
                            setting() + " names no cuBLASLt that can be used: "
                                    + (reasons.isEmpty()
                                            ? "the system can load no such library"
                                            : String.join("; ", reasons))
                                    + "; give the path of " + NAMES.getFirst() + ", or " + NONE
                                    + " for the kernels of this build, or unset it"));
        }
        List<String> reasons = new ArrayList<>();
        for (String place : places()) {
            Optional<Search> found = open(place, reasons);
            if (found.isPresent()) {
                return found.get();
            }
        }
        return new Search(
                null,
                "own matrix products: "
                        + (reasons.isEmpty()
                                ? "there is no " + String.join(" or ", NAMES)
                                : String.join("; ", reasons)));
    }

    private static List<String> places() {
        Stream<String> loaded = Stream.empty();
        if (Files.isReadable(LOADED)) {
            try {
                // Address, rights, offset, device, inode, and where a file is mapped its path.
                loaded = Files.readAllLines(LOADED, StandardCharsets.ISO_8859_1).stream()
                        .map(line -> line.substring(Math.max(0, line.indexOf('/'))))
                        .filter(path -> path.matches(".*/libcublasLt\\.so\\.\\d+[.\\d]*"))
                        .distinct();
            } catch (IOException e) {
                throw new DeviceException(
                        CudaDriver.NAME,
                        "reading " + LOADED,
                        "it cannot be read (" + e + "); name a cuBLASLt by " + setting() + ", or " + NONE,
                        DeviceException.Kind.UNSUPPORTED,
                        e);
            }
        }
        return Stream.concat(
                        loaded, NAMES.stream().flatMap(name -> FOLDERS.stream().map(folder -> folder + name)))
                .toList();
    }

    /** The library at a place, with a handle; where it cannot be used the reason is added. */
    private static Optional<Search> open(String place, List<String> reasons) {
        Optional<SymbolLookup> found = CudaDriver.load(place);
        if (found.isEmpty()) {
            return Optional.empty();
        }
        List<String> missing = Stream.concat(CALLS.keySet().stream(), Stream.of(VERSION))
                .filter(name -> found.get().find(name).isEmpty())
                .sorted()
                .toList();
        if (!missing.isEmpty()) {
            reasons.add(place + " has no " + String.join(", ", missing));
            return Optional.empty();
        }
        CublasLt library = new CublasLt(found.get());
        try {
            library.handle = library.create("cublasLtCreate");
            return Optional.of(new Search(library, "cuBLASLt " + library.version()));
        } catch (DeviceException e) {
            library.close();
            reasons.add(place + " does not start: " + e.getMessage());
            return Optional.empty();
        }
    }

    private String version() {
        try {
            long version = (long) getVersion.invokeExact();
            return version / 10000 + "." + version % 10000 / 100 + "." + version % 100;
        } catch (Throwable e) {
            throw CudaDriver.broken(VERSION, e);
        }
    }

    /** Whether a launch is a product that the library computes. */
    static boolean serves(Launch launch) {
        return launch.file().equals("gemm") && Product.of(launch).shape().depth() > 0;
    }

    /**
     * A launch of {@code gemm.inc}. In the library's order of elements, column by column, every matrix of ours is its own
     * transpose: {@code c' = op(b)' a'}, so b comes first.
     */
    private record Product(Shape shape, long a, long b, long bias, long c) {
        static Product of(Launch launch) {
            List<Launch.Argument> arguments = launch.arguments();
            Launch.Argument.Matrix a = (Launch.Argument.Matrix) arguments.get(0);
            Launch.Argument.Matrix b = (Launch.Argument.Matrix) arguments.get(1);
            Launch.Argument.Matrix bias = (Launch.Argument.Matrix) arguments.get(2);
            Launch.Argument.Matrix c = (Launch.Argument.Matrix) arguments.get(3);
            return new Product(
                    new Shape(
                            integer(arguments.get(4)),
                            integer(arguments.get(5)),
                            integer(arguments.get(6)),
                            launch.entry().equals("gemm_transposed_f32"),
                            integer(arguments.get(7)) != 0,
                            a.stride(),
                            b.stride(),
                            c.stride(),
                            alignment(address(a)),
                            alignment(address(b)),
                            alignment(address(c)),
                            bias.handle() == 0 ? 0 : alignment(address(bias))),
                    address(a),
                    address(b),
                    address(bias),
                    address(c));
        }

        private static int integer(Launch.Argument argument) {
            return ((Launch.Argument.Int32) argument).value();
        }

        private static long address(Launch.Argument.Matrix matrix) {
            return matrix.handle() + matrix.first() * Float.BYTES;
        }

        private static int alignment(long address) {
            return (int) Math.min(Long.lowestOneBit(address), WIDEST_ALIGNMENT);
        }
    }

    /**
     * What the choice of an algorithm depends on.
     *
     * @param biasAlignment 0 without a bias
     */
    private record Shape(
            long rows,
            long cols,
            long depth,
            boolean transposeB,
            boolean accumulate,
            long strideA,
            long strideB,
            long strideC,
            int alignmentA,
            int alignmentB,
            int alignmentC,
            int biasAlignment) {}

    /** How products of one shape are computed; 0 for what was not made yet. */
    private static final class Plan {
        long operation;
        long layoutA;
        long layoutB;
        long layoutC;
        /** Result of the heuristic, which begins with the algorithm. */
        final MemorySegment algorithm;

        Plan(MemorySegment algorithm) {
            this.algorithm = algorithm;
        }
    }

    /**
     * Chooses how a product will be computed, unless that is known; not possible while a stream captures.
     *
     * @throws DeviceException UNSUPPORTED when the library has nothing for it
     */
    void prepare(Launch launch) {
        plan(Product.of(launch));
    }

    /**
     * Computes a product on a stream.
     *
     * @param workspace device memory of {@link #WORKSPACE_BYTES}
     */
    void run(Launch launch, long workspace, long stream) {
        Product product = Product.of(launch);
        Plan plan = plan(product);
        MemorySegment kept = product.shape().accumulate() ? one : zero;
        int status;
        try {
            if (product.shape().biasAlignment() > 0) {
                value.set(JAVA_LONG, 0, product.bias());
                check(SET_OPERATION, (int)
                        setOperation.invokeExact(plan.operation, OPERATION_BIAS, value, (long) Long.BYTES));
            }
            status = (int) matmul.invokeExact(
                    handle,
                    plan.operation,
                    one,
                    product.b(),
                    plan.layoutB,
                    product.a(),
                    plan.layoutA,
                    kept,
                    product.c(),
                    plan.layoutC,
                    product.c(),
                    plan.layoutC,
                    plan.algorithm,
                    workspace,
                    WORKSPACE_BYTES,
                    stream);
        } catch (DeviceException e) {
            throw e;
        } catch (Throwable e) {
            throw CudaDriver.broken(MATMUL, e);
        }
        check(MATMUL + " of " + describe(product.shape()), status);
    }

    private Plan plan(Product product) {
        Plan known = plans.get(product.shape());
        if (known != null) {
            return known;
        }
        if (plans.size() == MOST_PLANS) {
            forgetPlans();
        }
        Plan plan = new Plan(Arena.ofAuto().allocate(RESULT_BYTES, Long.BYTES));
        try {
            fill(plan, product);
        } catch (DeviceException e) {
            destroy(plan);
            throw e;
        }
        plans.put(product.shape(), plan);
        return plan;
    }

    private void fill(Plan plan, Product product) {
        Shape shape = product.shape();
        plan.operation = create("cublasLtMatmulDescCreate", COMPUTE_32F, REAL_32F);
        if (shape.transposeB()) {
            setOperation(plan, OPERATION_TRANSPOSE_A, TRANSPOSED, Integer.BYTES);
        }
        if (shape.biasAlignment() > 0) {
            setOperation(plan, OPERATION_EPILOGUE, EPILOGUE_BIAS, Integer.BYTES);
            setOperation(plan, OPERATION_BIAS, product.bias(), Long.BYTES);
        }
        plan.layoutA = create("cublasLtMatrixLayoutCreate", REAL_32F, shape.depth(), shape.rows(), shape.strideA());
        plan.layoutB = shape.transposeB()
                ? create("cublasLtMatrixLayoutCreate", REAL_32F, shape.depth(), shape.cols(), shape.strideB())
                : create("cublasLtMatrixLayoutCreate", REAL_32F, shape.cols(), shape.depth(), shape.strideB());
        plan.layoutC = create("cublasLtMatrixLayoutCreate", REAL_32F, shape.cols(), shape.rows(), shape.strideC());
        long preference = create("cublasLtMatmulPreferenceCreate");
        try {
            set(SET_PREFERENCE, preference, PREFERENCE_WORKSPACE, WORKSPACE_BYTES, Long.BYTES);
            int[] alignments = {shape.alignmentB(), shape.alignmentA(), shape.alignmentC(), shape.alignmentC()};
            for (int i = 0; i < alignments.length; i++) {
                set(SET_PREFERENCE, preference, PREFERENCE_ALIGNMENT_A + i, alignments[i], Integer.BYTES);
            }
            choose(plan, preference, shape);
        } finally {
            call("cublasLtMatmulPreferenceDestroy", preference);
        }
    }

    private void choose(Plan plan, long preference, Shape shape) {
        value.set(JAVA_LONG, 0, 0);
        int status = call(
                HEURISTIC,
                handle,
                plan.operation,
                plan.layoutB,
                plan.layoutA,
                plan.layoutC,
                plan.layoutC,
                preference,
                1,
                plan.algorithm,
                value);
        if (status == NOT_SUPPORTED || (status == 0 && value.get(JAVA_INT, 0) == 0)) {
            throw CudaDriver.unsupported(
                    "choosing an algorithm of cuBLASLt for " + describe(shape),
                    "it has none; set " + setting() + " to " + NONE + " for the kernels of this build");
        }
        check(HEURISTIC + " of " + describe(shape), status);
        check("the result of " + HEURISTIC + " of " + describe(shape), plan.algorithm.get(JAVA_INT, RESULT_STATE));
        long workspace = plan.algorithm.get(JAVA_LONG, RESULT_WORKSPACE);
        if (workspace < 0 || workspace > WORKSPACE_BYTES) {
            throw CudaDriver.unsupported(
                    "choosing an algorithm of cuBLASLt for " + describe(shape),
                    "it wants " + workspace + " bytes of memory where " + WORKSPACE_BYTES
                            + " were offered, so this version is not understood; set " + setting() + " to " + NONE);
        }
    }

    private static String describe(Shape shape) {
        return shape.rows() + "x" + shape.depth() + " times " + shape.depth() + "x" + shape.cols();
    }

    /** A new object of the library. */
    private long create(String name, Object... arguments) {
        value.set(JAVA_LONG, 0, 0);
        Object[] all = new Object[arguments.length + 1];
        all[0] = value;
        System.arraycopy(arguments, 0, all, 1, arguments.length);
        check(name, call(name, all));
        return value.get(JAVA_LONG, 0);
    }

    private void setOperation(Plan plan, int attribute, long number, long bytes) {
        set(SET_OPERATION, plan.operation, attribute, number, bytes);
    }

    private void set(String name, long object, int attribute, long number, long bytes) {
        value.set(JAVA_LONG, 0, number); // little-endian: a shorter one is its beginning
        check(name, call(name, object, attribute, value, bytes));
    }

    private int call(String name, Object... arguments) {
        try {
            return (int) calls.get(name).invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw CudaDriver.broken(name, e);
        }
    }

    /** Destroys what a plan has; returns the first status that is no success. */
    private int destroy(Plan plan) {
        int status = plan.operation == 0 ? 0 : call("cublasLtMatmulDescDestroy", plan.operation);
        for (long layout : new long[] {plan.layoutA, plan.layoutB, plan.layoutC}) {
            int next = layout == 0 ? 0 : call("cublasLtMatrixLayoutDestroy", layout);
            status = status == 0 ? next : status;
        }
        return status;
    }

    private int forgetPlans() {
        int status = 0;
        for (Plan plan : plans.values()) {
            int next = destroy(plan);
            status = status == 0 ? next : status;
        }
        plans.clear();
        return status;
    }

    /** Gives everything back; returns the first status that is no success. */
    int close() {
        int status = forgetPlans();
        int next = handle == 0 ? 0 : call("cublasLtDestroy", handle);
        arena.close();
        return status == 0 ? next : status;
    }

    private static void check(String call, int status) {
        if (status != 0) {
            DeviceException.Kind kind = switch (status) {
                case 3 -> DeviceException.Kind.OUT_OF_MEMORY;
                case 8, NOT_SUPPORTED -> DeviceException.Kind.UNSUPPORTED;
                case 1, 13 -> DeviceException.Kind.LAUNCH;
                default -> DeviceException.Kind.INTERNAL;
            };
            throw new DeviceException(
                    CudaDriver.NAME,
                    call,
                    status,
                    symbol(status) + "; set " + setting() + " to " + NONE + " to do without cuBLASLt",
                    kind);
        }
    }

    /** Name of a cublasStatus_t. */
    static String symbol(int status) {
        return switch (status) {
            case 1 -> "CUBLAS_STATUS_NOT_INITIALIZED";
            case 3 -> "CUBLAS_STATUS_ALLOC_FAILED";
            case 7 -> "CUBLAS_STATUS_INVALID_VALUE";
            case 8 -> "CUBLAS_STATUS_ARCH_MISMATCH";
            case 11 -> "CUBLAS_STATUS_MAPPING_ERROR";
            case 13 -> "CUBLAS_STATUS_EXECUTION_FAILED";
            case 14 -> "CUBLAS_STATUS_INTERNAL_ERROR";
            case NOT_SUPPORTED -> "CUBLAS_STATUS_NOT_SUPPORTED";
            case 16 -> "CUBLAS_STATUS_LICENSE_ERROR";
            default -> "an unknown status of cuBLASLt";
        };
    }

    private static String setting() {
        return Settings.CUBLASLT + " or " + Settings.environmentName(Settings.CUBLASLT);
    }
}
