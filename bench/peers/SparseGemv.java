import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Gemv;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SparseGemv;
import org.sentei.kernel.View;
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * See sparse_gemv.sh. Interleaved rounds, each contender once a round in turn, all in this process on the same weights; a
 * ratio is the median of the ratios of the rounds. Our times are those of a caller of the backend, the start of the threads'
 * work included; OpenBLAS is called in its two best ways, of which the faster counts: on all threads of its own, and
 * single-threaded on one row range a thread of ours.
 *
 * <p>Arguments: rows, columns, threads, rounds, result folder, commit.
 */
final class SparseGemvPeer {
    private static final int WARM_UP = 20;
    private static final double[] SPARSITIES = {0.5, 0.7};

    /** One product. */
    private interface Work {
        void run() throws Throwable;
    }

    public static void main(String[] args) throws Throwable {
        int rows = Integer.parseInt(args[0]);
        int cols = Integer.parseInt(args[1]);
        int threads = Integer.parseInt(args[2]);
        int rounds = Integer.parseInt(args[3]);
        Path results = Path.of(args[4]);
        List<String> records = new ArrayList<>();
        List<String> table = new ArrayList<>();
        try (Backend backend = Backends.find("cpu").open(new Backend.Options(0, threads));
                Arena arena = Arena.ofShared();
                ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            OpenBlas blas = new OpenBlas();
            for (double sparsity : SPARSITIES) {
                try (Scope scope = new Scope(backend)) {
                    run(rows, cols, threads, rounds, sparsity, scope, arena, pool, blas, records, table);
                }
            }
            String machine = backend.info().device();
            String load = Files.readString(Path.of("/proc/loadavg")).split(" ")[0];
            String commit = args[5];
            String heading = "# Product of pruned weights with one vector: " + rows + "x" + cols + ", " + threads
                    + " threads\n\n| weights | sparsity | MB | median ms | fastest ms | GB/s of the median | times as fast as OpenBLAS fp32"
                    + " | as dense bf16 |\n|---|---:|---:|---:|---:|---:|---:|---:|\n";
            String text = heading + String.join("\n", table) + "\n\n" + rounds
                    + " interleaved rounds in one process; ratios are medians of the rounds' own. OpenBLAS counts in the faster of"
                    + " two ways: its own threads, or a row range for each of ours. Results are compared with fp64 sums first."
                    + "\n" + machine + ", " + backend.info().isa() + ", "
                    + backend.info().driver() + ", load average "
                    + load + "; " + LocalDate.now() + ", commit " + commit + "; `bench/peers/sparse_gemv.sh`.\n";
            String json = "{\"case\": {\"rows\": " + rows + ", \"cols\": " + cols + ", \"vectors\": 1, \"threads\": "
                    + threads
                    + "},\n \"machine\": {\"processor\": \"" + machine + "\", \"isa\": \""
                    + backend.info().isa()
                    + "\", \"load_average\": " + load + "},\n \"date\": \"" + LocalDate.now() + "\", \"commit\": \""
                    + commit
                    + "\", \"command\": \"bench/peers/sparse_gemv.sh\", \"rounds\": " + rounds
                    + ",\n \"sparsities\": [\n"
                    + String.join(",\n", records) + "\n]}\n";
            Files.createDirectories(results);
            Files.writeString(results.resolve("sparse_gemv.json"), json);
            Files.writeString(results.resolve("sparse_gemv.md"), text);
            System.out.println(text);
        }
    }

    private static void run(
            int rows,
            int cols,
            int threads,
            int rounds,
            double sparsity,
            Scope scope,
            Arena arena,
            ExecutorService pool,
            OpenBlas blas,
            List<String> records,
            List<String> table)
            throws Throwable {
        Backend backend = scope.backend();
        SplittableRandom random = new SplittableRandom(1);
        short[] halves = new short[rows * cols];
        float[] floats = new float[halves.length];
        for (int i = 0; i < halves.length; i++) {
            halves[i] = random.nextDouble() < sparsity ? 0 : Floats.toBfloat16((float) (0.02 * random.nextGaussian()));
            floats[i] = Floats.fromBfloat16(halves[i]);
        }
        float[] vector = new float[cols];
        for (int i = 0; i < cols; i++) {
            vector[i] = (float) random.nextGaussian();
        }
        View x = copied(scope, MemorySegment.ofArray(vector), DType.F32, 1, cols);
        View y = scope.matrix(1, rows);
        Map<String, Work> contenders = new LinkedHashMap<>();
        Map<String, Long> bytes = new LinkedHashMap<>();
        View dense = copied(scope, MemorySegment.ofArray(halves), DType.BF16, rows, cols);
        View denseFloats = copied(scope, MemorySegment.ofArray(floats), DType.F32, rows, cols);
        add(contenders, bytes, backend, "dense bf16", new Gemv(dense, x, null, y));
        add(contenders, bytes, backend, "dense fp32", new Gemv(denseFloats, x, null, y));
        for (DType dtype : List.of(DType.BF16, DType.F32)) {
            Tensor tensor = new Tensor(
                    "w",
                    dtype,
                    Shape.of(rows, cols),
                    dtype == DType.BF16 ? MemorySegment.ofArray(halves) : MemorySegment.ofArray(floats));
            add(
                    contenders,
                    bytes,
                    backend,
                    dtype == DType.BF16 ? "bitmask bf16" : "bitmask fp32",
                    sparse(scope, BitmaskTensor.pack(tensor, arena), x, y));
        }
        MemorySegment weights =
                arena.allocate((long) rows * cols * Float.BYTES, 64).copyFrom(MemorySegment.ofArray(floats));
        MemorySegment input = arena.allocate((long) cols * Float.BYTES, 64).copyFrom(MemorySegment.ofArray(vector));
        MemorySegment output = arena.allocate((long) rows * Float.BYTES, 64);
        long dense32 = weights.byteSize() + input.byteSize() + output.byteSize();
        contenders.put("OpenBLAS, its threads", () -> blas.multiply(weights, input, output, 0, rows, cols, threads));
        contenders.put("OpenBLAS, our ranges", () -> {
            List<Future<?>> parts = new ArrayList<>();
            for (int t = 1; t < threads; t++) {
                int from = (int) ((long) rows * t / threads);
                int to = (int) ((long) rows * (t + 1) / threads);
                parts.add(pool.submit(() -> {
                    try {
                        blas.multiply(weights, input, output, from, to, cols, 1);
                    } catch (Throwable e) {
                        throw new IllegalStateException(e);
                    }
                }));
            }
            blas.multiply(weights, input, output, 0, rows / threads, cols, 1);
            for (Future<?> part : parts) {
                part.get();
            }
        });
        bytes.put("OpenBLAS, its threads", dense32);
        bytes.put("OpenBLAS, our ranges", dense32);

        double[] expected = new double[rows];
        for (int row = 0; row < rows; row++) {
            for (int col = 0; col < cols; col++) {
                expected[row] += (double) floats[row * cols + col] * vector[col];
            }
        }
        for (var contender : contenders.entrySet()) {
            MemorySegment result = output.fill((byte) 0xff);
            backend.copyIn(result, y);
            contender.getValue().run();
            if (!contender.getKey().startsWith("OpenBLAS")) {
                backend.copyOut(y, result);
            }
            for (int row = 0; row < rows; row++) {
                double error = Math.abs(result.getAtIndex(ValueLayout.JAVA_FLOAT, row) - expected[row]);
                if (!(error < 1e-3)) {
                    throw new AssertionError(contender.getKey() + " is wrong by " + error + " in row " + row);
                }
            }
        }
        Map<String, double[]> times = new LinkedHashMap<>();
        contenders.keySet().forEach(name -> times.put(name, new double[rounds]));
        for (int round = -WARM_UP; round < rounds; round++) {
            for (var contender : contenders.entrySet()) {
                long start = System.nanoTime();
                contender.getValue().run();
                double milliseconds = (System.nanoTime() - start) / 1e6;
                if (round >= 0) {
                    times.get(contender.getKey())[round] = milliseconds;
                }
            }
        }
        String blasName = median(times.get("OpenBLAS, its threads")) < median(times.get("OpenBLAS, our ranges"))
                ? "OpenBLAS, its threads"
                : "OpenBLAS, our ranges";
        List<String> fields = new ArrayList<>();
        for (String name : contenders.keySet()) {
            double[] all = times.get(name);
            double toBlas = ratio(times.get(blasName), all);
            double toDense = ratio(times.get("dense bf16"), all);
            table.add(String.format(
                    Locale.ROOT,
                    "| %s | %.2f | %.1f | %.2f | %.2f | %.1f | %.2f | %.2f |",
                    name,
                    sparsity,
                    bytes.get(name) / 1e6,
                    median(all),
                    Arrays.stream(all).min().getAsDouble(),
                    bytes.get(name) / 1e6 / median(all),
                    toBlas,
                    toDense));
            fields.add(String.format(
                    Locale.ROOT,
                    "  {\"weights\": \"%s\", \"bytes\": %d, \"median_ms\": %.4f, \"ratio_to_openblas\": %.3f,"
                            + " \"ratio_to_dense_bf16\": %.3f, \"all_ms\": %s}",
                    name,
                    bytes.get(name),
                    median(all),
                    toBlas,
                    toDense,
                    Arrays.stream(all)
                            .mapToObj(value -> String.format(Locale.ROOT, "%.3f", value))
                            .collect(Collectors.joining(", ", "[", "]"))));
        }
        records.add("{\"sparsity\": " + sparsity + ", \"openblas\": \"" + blasName + "\", \"contenders\": [\n"
                + String.join(",\n", fields) + "]}");
    }

    private static void add(
            Map<String, Work> contenders, Map<String, Long> bytes, Backend backend, String name, Op op) {
        contenders.put(name, () -> {
            backend.run(op);
            backend.sync();
        });
        bytes.put(name, op.bytes());
    }

    private static SparseGemv sparse(Scope scope, BitmaskTensor weights, View x, View y) {
        return new SparseGemv(
                copied(scope, weights.values(), weights.dtype(), 1, weights.kept()),
                copied(scope, weights.mask(), DType.U8, weights.rows(), Math.ceilDiv(weights.cols(), 8)),
                copied(scope, MemorySegment.ofArray(weights.rowStarts()), DType.I64, 1, weights.rows() + 1),
                x,
                null,
                y);
    }

    private static View copied(Scope scope, MemorySegment content, DType dtype, long rows, long cols) {
        View view = scope.matrix(dtype, rows, cols);
        scope.backend().copyIn(content, view);
        return view;
    }

    private static double ratio(double[] slow, double[] fast) {
        double[] ratios = new double[slow.length];
        Arrays.setAll(ratios, i -> slow[i] / fast[i]);
        return median(ratios);
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return (sorted[sorted.length / 2] + sorted[(sorted.length - 1) / 2]) / 2;
    }

    /** A copy of the library apart from the backend's, so that its number of threads is ours to set. */
    private static final class OpenBlas {
        private final MethodHandle sgemv;
        private final MethodHandle setThreads;
        private int threads = -1;

        OpenBlas() throws Throwable {
            Path folder = Files.createTempDirectory("openblas");
            SymbolLookup library = null;
            for (String file : List.of("libquadmath.so.0", "libgfortran.so.5", "libopenblas.so.0")) {
                Path copy = folder.resolve(file);
                String resource = "/org/bytedeco/openblas/linux-x86_64/" + file;
                try (var stream = SparseGemvPeer.class.getResourceAsStream(resource)) {
                    Files.copy(stream, copy);
                }
                library = SymbolLookup.libraryLookup(copy, Arena.global());
                Files.delete(copy);
            }
            Files.delete(folder);
            Linker linker = Linker.nativeLinker();
            sgemv = linker.downcallHandle(
                    library.find("cblas_sgemv").orElseThrow(),
                    FunctionDescriptor.ofVoid(
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_FLOAT,
                            ValueLayout.JAVA_LONG,
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_LONG,
                            ValueLayout.JAVA_INT,
                            ValueLayout.JAVA_FLOAT,
                            ValueLayout.JAVA_LONG,
                            ValueLayout.JAVA_INT));
            setThreads = linker.downcallHandle(
                    library.find("openblas_set_num_threads").orElseThrow(),
                    FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));
        }

        void multiply(MemorySegment weights, MemorySegment x, MemorySegment y, int from, int to, int cols, int wanted)
                throws Throwable {
            use(wanted);
            sgemv.invokeExact(
                    101,
                    111,
                    to - from,
                    cols,
                    1f,
                    weights.address() + (long) from * cols * Float.BYTES,
                    cols,
                    x.address(),
                    1,
                    0f,
                    y.address() + (long) from * Float.BYTES,
                    1);
        }

        private synchronized void use(int wanted) throws Throwable {
            if (threads != wanted) {
                setThreads.invokeExact(wanted);
                threads = wanted;
            }
        }
    }
}
