package org.sentei.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.IntegerGraphs;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Conformance;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Download;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.RandomConvolution;
import org.sentei.kernel.Scope;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.Upload;
import org.sentei.kernel.View;
import org.sentei.method.AttentionDescent;
import org.sentei.method.ToyDescent;
import org.sentei.method.quantize.OrtGraphs;
import org.sentei.model.BlockWeights;
import org.sentei.model.HeadWeights;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;
import org.sentei.model.Uploads;
import org.sentei.platform.Settings;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/**
 * What {@link EmulatedDriver} runs in a process of its own, where the emulated driver is the only one. Says on standard
 * output what happened, a line each: {@code failure ...}, {@code checked OP CASES}, {@code count NAME NUMBER}.
 */
final class EmulatedCuda {
    private static final List<String> COUNTERS = List.of("contexts", "launches", "damaged", "leaked", "waits");
    private static final List<String> BLAS_COUNTERS = List.of("products", "open");

    private EmulatedCuda() {}

    /** Takes the folder of the kernels' images, which are made when it is empty, what to do, and ops where it takes some. */
    public static void main(String[] arguments) throws Throwable {
        Path images = Path.of(arguments[0]);
        if (!Files.exists(images.resolve("org"))) {
            EmulatedDriver.images(images);
        }
        try (URLClassLoader resources =
                new URLClassLoader(new URL[] {images.toUri().toURL()}, null)) {
            List<String> ops = Arrays.asList(arguments).subList(2, arguments.length);
            try {
                switch (arguments[1]) {
                    case "conformance" ->
                        conformance(
                                resources,
                                Stream.concat(OpCases.all().stream(), TunedCases.all().stream())
                                        .filter(opCase -> ops.contains(Op.stem(opCase.op())))
                                        .toList());
                    case "convolutions" -> convolutions(resources, Long.parseLong(ops.getFirst()));
                    case "integers" -> integers(resources, Path.of(ops.getFirst()));
                    case "work" -> work(resources);
                    case "ceilings" -> ceilings(resources);
                    case "products" -> products(resources);
                    case "beside" -> beside(resources);
                    case "descent" -> descent(resources);
                    case "states" -> states(resources, Path.of(ops.getFirst()), Long.parseLong(ops.getLast()));
                    default -> throw new IllegalArgumentException(arguments[1]);
                }
            } catch (DeviceException e) {
                say("failure " + e.kind() + " " + e.getMessage());
                for (Throwable suppressed : e.getSuppressed()) {
                    say("suppressed " + suppressed.getMessage());
                }
            }
            counters();
        }
    }

    private static void conformance(ClassLoader resources, List<OpCase> cases) {
        Map<String, Integer> checked = new TreeMap<>();
        try (Backend candidate = CudaProvider.open(Backend.Options.defaults(), resources);
                Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            Conformance conformance = new Conformance(candidate, reference);
            for (OpCase opCase : cases) {
                String op = Op.stem(opCase.op());
                conformance.check(opCase, 3).failure().ifPresent(failure -> say("failure " + op + " " + failure));
                checked.merge(op, 1, Integer::sum);
            }
        }
        checked.forEach((op, number) -> say("checked " + op + " " + number));
    }

    /** Random convolutions until they have given so many outputs. */
    private static void convolutions(ClassLoader resources, long wanted) {
        long outputs = 0;
        try (Backend candidate = CudaProvider.open(Backend.Options.defaults(), resources);
                Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            for (long seed = 1; outputs < wanted; seed++) {
                RandomConvolution convolution = new RandomConvolution(seed);
                DType type = seed % 2 == 0 ? DType.U8 : DType.I8;
                boolean isExtended = seed % 3 == 0;
                byte[] expected = convolution.run(reference, type, isExtended);
                if (!Arrays.equals(expected, convolution.run(candidate, type, isExtended))) {
                    say("failure " + convolution);
                }
                outputs += convolution.outputs();
            }
        }
        say("outputs " + outputs);
    }

    /** Graphs of integers, and a network in a file. */
    private static void integers(ClassLoader resources, Path network) {
        try (Backend candidate = CudaProvider.open(Backend.Options.defaults(), resources);
                Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            for (IntegerGraphs.Case graph : IntegerGraphs.all()) {
                try (OrtGraphs samples = graph.samples()) {
                    List<Map<String, Tensor>> expected = graph.run(reference, samples);
                    List<Map<String, Tensor>> actual = graph.run(candidate, samples);
                    for (int i = 0; i < expected.size(); i++) {
                        compare(graph.name(), expected.get(i), actual.get(i));
                    }
                }
            }
            compare("network in a file", IntegerGraphs.run(network, reference), IntegerGraphs.run(network, candidate));
        }
    }

    private static void compare(String what, Map<String, Tensor> expected, Map<String, Tensor> actual) {
        for (Map.Entry<String, Tensor> value : expected.entrySet()) {
            Tensor found = actual.get(value.getKey());
            boolean isSame = found.shape().equals(value.getValue().shape())
                    && found.data().mismatch(value.getValue().data()) == -1;
            say((isSame ? "same " : "failure ") + what + " " + value.getKey());
        }
    }

    /** Everything a device is asked for: memory, copies of all shapes, launches, a sequence. */
    private static void work(ClassLoader resources) {
        try (Backend backend = CudaProvider.open(Backend.Options.defaults(), resources);
                Scope scope = new Scope(backend);
                Arena arena = Arena.ofConfined()) {
            View x = scope.matrix(64, 100).cols(3, 95);
            View counts = scope.matrix(DType.I64, 1, 3);
            var values = arena.allocate(x.bytes());
            for (long i = 0; i < x.elements(); i++) {
                values.setAtIndex(ValueLayout.JAVA_FLOAT, i, i % 4 == 0 ? 0 : Float.NaN);
            }
            CountValues count = new CountValues(x, counts);
            var result = arena.allocate(counts.bytes());
            backend.copyIn(values, x);
            backend.run(count);
            backend.copyOut(counts, result);
            say("zeros " + result.getAtIndex(ValueLayout.JAVA_LONG, 0));
            // The memory of a copy may change as soon as it returns, long before anything on the device has run.
            backend.copyIn(values.fill((byte) 0), x);
            values.fill((byte) 0xFF);
            try (Sequence sequence = backend.prepare(List.of(count))) {
                backend.run(sequence, 3);
                backend.copyOut(counts, result);
            }
            say("zeros " + result.getAtIndex(ValueLayout.JAVA_LONG, 0));
            backend.copyOut(x, values);
            say("mismatch " + values.mismatch(arena.allocate(x.bytes())));
            backend.sync();
        }
    }

    /** Streams of the device in the order that it creates them, and the host, as {@code sentei_emulated_forget} knows them. */
    private enum Waiting {
        COMPUTE(0),
        UPLOAD(1),
        DOWNLOAD(2),
        HOST(100);

        private final int number;

        Waiting(int number) {
            this.number = number;
        }
    }

    /** Copies beside kernels, first as they should be, then with each kind of wait left out. */
    private static void beside(ClassLoader resources) throws Throwable {
        say("exact " + isExact(resources));
        forget(resources, Waiting.COMPUTE, Waiting.UPLOAD);
        forget(resources, Waiting.COMPUTE, Waiting.DOWNLOAD);
        forget(resources, Waiting.UPLOAD, Waiting.COMPUTE);
        forget(resources, Waiting.UPLOAD, Waiting.DOWNLOAD);
        forget(resources, Waiting.DOWNLOAD, Waiting.COMPUTE);
        forget(resources, Waiting.HOST, Waiting.DOWNLOAD);
        forget(resources, Waiting.HOST, Waiting.UPLOAD);
    }

    private static void forget(ClassLoader resources, Waiting who, Waiting whom) throws Throwable {
        forget(who.number, whom.number);
        boolean exact = true;
        for (int attempt = 0; exact && attempt < 20; attempt++) {
            exact = isExact(resources);
        }
        say((exact ? "unnoticed " : "noticed ") + who + " waits for " + whom);
        forget(-1, -1);
    }

    @SuppressWarnings("restricted") // the function is the emulated driver's own
    private static void forget(int who, int whom) throws Throwable {
        MethodHandle forget = Linker.nativeLinker()
                .downcallHandle(
                        SymbolLookup.libraryLookup(
                                        Path.of(Settings.find(Settings.CUDA_DRIVER)
                                                .orElseThrow()),
                                        Arena.global())
                                .find("sentei_emulated_forget")
                                .orElseThrow(),
                        FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT));
        forget.invokeExact(who, whom);
    }

    private static final int PARTS = 8;
    private static final int ROUNDS = 4;
    private static final int ROWS = 24;
    private static final int WIDTH = 16;

    /**
     * Whether parts of a state, multiplied by one matrix after the other, are what they should be, when all that moves does so
     * beside the products: the next part and matrix in, the last part out, in memory that was used before.
     */
    private static boolean isExact(ClassLoader resources) {
        try (Backend backend = CudaProvider.open(Backend.Options.defaults(), resources);
                Scope scope = new Scope(backend);
                Arena pinned = Arena.ofShared();
                Arena plain = Arena.ofShared()) {
            MemorySegment states = backend.allocateHost((long) PARTS * ROWS * WIDTH * Float.BYTES, pinned);
            MemorySegment weights = plain.allocate((long) (ROUNDS + 1) * WIDTH * WIDTH * Float.BYTES, 64);
            // Every product doubles, and swaps two halves of the columns.
            for (int i = 0; i < (ROUNDS + 1) * WIDTH; i++) {
                weights.setAtIndex(ValueLayout.JAVA_FLOAT, (long) i * WIDTH + (i + WIDTH / 2) % WIDTH, 2);
            }
            for (int i = 0; i < PARTS * ROWS * WIDTH; i++) {
                states.setAtIndex(ValueLayout.JAVA_FLOAT, i, i);
            }
            View sum = scope.zeros(DType.F32, ROWS, WIDTH);
            Upload coming = backend.upload(part(weights, 0, WIDTH));
            for (int round = 0; round < ROUNDS; round++) {
                try (Scope loaded = scope.child()) {
                    View w = loaded.uploaded(coming, DType.F32, WIDTH, WIDTH);
                    coming = backend.upload(part(weights, round + 1, WIDTH));
                    multiply(loaded, states, w);
                }
                // So that what lay on the device before is never right by accident.
                for (int i = 0; i < PARTS * ROWS * WIDTH; i++) {
                    states.setAtIndex(ValueLayout.JAVA_FLOAT, i, 2 * states.getAtIndex(ValueLayout.JAVA_FLOAT, i));
                }
            }
            add(scope, states, scope.uploaded(coming, DType.F32, WIDTH, WIDTH), sum);
            MemorySegment total = plain.allocate(sum.bytes(), Float.BYTES);
            backend.copyOut(sum, total);
            for (int i = 0; i < ROWS * WIDTH; i++) {
                double expected = 0;
                for (int part = 0; part < PARTS; part++) {
                    expected += 2.0 * (1 << (2 * ROUNDS)) * (part * ROWS * WIDTH + (i ^ (WIDTH / 2)));
                }
                if (!(total.getAtIndex(ValueLayout.JAVA_FLOAT, i) == expected)) {
                    return false;
                }
            }
            return true;
        }
    }

    private static MemorySegment part(MemorySegment of, int index, int rows) {
        long bytes = (long) rows * WIDTH * Float.BYTES;
        return of.asSlice(index * bytes, bytes);
    }

    /** Each part of the states times w, in its place. */
    private static void multiply(Scope scope, MemorySegment states, View w) {
        Backend backend = scope.backend();
        Upload now = backend.upload(part(states, 0, ROWS));
        Download last = Download.DONE;
        for (int i = 0; i < PARTS; i++) {
            Upload next = i + 1 == PARTS ? null : backend.upload(part(states, i + 1, ROWS));
            try (Scope local = scope.child()) {
                View x = local.uploaded(now, DType.F32, ROWS, WIDTH);
                View y = local.matrix(ROWS, WIDTH);
                backend.run(new Gemm(x, w, true, null, y, false));
                Download arriving = backend.download(y, part(states, i, ROWS));
                last.await();
                last = arriving;
            }
            now = next;
        }
        last.await();
    }

    /** The sum of the parts times w; each part is lost. */
    private static void add(Scope scope, MemorySegment states, View w, View sum) {
        Backend backend = scope.backend();
        Upload now = backend.upload(part(states, 0, ROWS));
        for (int i = 0; i < PARTS; i++) {
            Upload next = i + 1 == PARTS ? null : backend.upload(part(states, i + 1, ROWS));
            try (Scope local = scope.child()) {
                View x = local.uploaded(now, DType.F32, ROWS, WIDTH);
                backend.run(new Gemm(x, w, true, null, sum, true));
            }
            part(states, i, ROWS).fill((byte) 0xFF);
            now = next;
        }
    }

    /** Hidden states of a model behind its last block, within a budget, with the weights of the next block under way. */
    private static void states(ClassLoader resources, Path folder, long memory) {
        int batches = 8;
        int length = 16;
        List<TokenBatch> tokens = IntStream.range(0, batches)
                .mapToObj(batch -> TokenBatch.of(new int[][] {
                    IntStream.range(0, length)
                            .map(i -> (batch * 31 + i * 7) % 256)
                            .toArray()
                }))
                .toList();
        Backend.Options options = Backend.Options.defaults().withMemory(memory);
        try (HuggingFaceFolder weights = HuggingFaceFolder.open(folder);
                Backend backend = CudaProvider.open(options, resources);
                Scope scope = new Scope(backend)) {
            Transformer model = Transformer.of(weights.config(), weights);
            try (HiddenStates states = new HiddenStates(model, tokens, scope)) {
                Uploads uploads = Uploads.none();
                int ahead = 0;
                for (int block = 0; block < model.blocks(); block++) {
                    try (Scope local = scope.child()) {
                        BlockWeights loaded = model.load(block, uploads, local);
                        uploads.close();
                        if (block + 1 < model.blocks()) {
                            uploads = Uploads.begin(model.tensors(block + 1), weights, backend);
                        }
                        states.advance(loaded, LinearObserver.NONE);
                        ahead += uploads.areUnderway() ? 1 : 0;
                    }
                }
                say("ahead " + ahead);
                int[] hash = {1};
                states.finish(new HeadWeights(null, null, null), LinearObserver.NONE, (first, rows) -> {
                    float[] values = new float[Math.toIntExact(rows.elements())];
                    backend.copyOut(rows, MemorySegment.ofArray(values));
                    hash[0] = 31 * hash[0] + Arrays.hashCode(values);
                });
                say("states " + hash[0]);
            }
        }
    }

    /** A descent on masks in prepared stretches of steps: how often the host waits in each, and whether it is the same op by op. */
    private static void descent(ClassLoader resources) throws Throwable {
        MethodHandle count = counter(Settings.find(Settings.CUDA_DRIVER).orElseThrow(), "sentei_emulated_count");
        int waits = COUNTERS.indexOf("waits");
        try (Backend backend = CudaProvider.open(Backend.Options.defaults(), resources)) {
            AttentionDescent.Found prepared = ToyDescent.run(true, ToyDescent.watched(backend, (_, call) -> {
                long before = (long) count.invokeExact(waits);
                call.run();
                say("stretch waits " + ((long) count.invokeExact(waits) - before));
            }));
            say("same " + prepared.equals(ToyDescent.run(true, ToyDescent.oneByOne(backend))));
            say("best " + prepared.step());
        }
    }

    private static void ceilings(ClassLoader resources) {
        try (Backend backend = CudaProvider.open(Backend.Options.defaults(), resources)) {
            say("ceilings " + backend.ceilings().orElseThrow());
        }
    }

    /** Products one by one and as a sequence, of shapes that the first does not share with the second. */
    private static void products(ClassLoader resources) {
        try (Backend backend = CudaProvider.open(Backend.Options.defaults(), resources);
                Scope scope = new Scope(backend)) {
            say("driver " + backend.info().driver());
            View a = filled(backend, scope, 20, 100, 1);
            View weights = filled(backend, scope, 30, 100, 2);
            View bias = filled(backend, scope, 1, 30, 3);
            View y = filled(backend, scope, 20, 30, Float.NaN);
            backend.run(new Gemm(a, weights, true, bias, y, false));
            say("product " + value(backend, y)); // 100 * 2 + 3
            backend.run(new Gemm(a, weights, true, filled(backend, scope, 1, 30, 4), y, false));
            say("product " + value(backend, y)); // the same shape with another bias
            View b = filled(backend, scope, 30, 40, 0.5f);
            View z = filled(backend, scope, 20, 40, 1);
            try (Sequence sequence = backend.prepare(List.of(new Gemm(y, b, false, null, z, true)))) {
                backend.run(sequence, 3);
                say("product " + value(backend, z)); // 1 + 3 * 30 * 204 / 2
            }
        }
    }

    private static View filled(Backend backend, Scope scope, long rows, long cols, float value) {
        View view = scope.matrix(rows, cols);
        float[] values = new float[Math.toIntExact(view.elements())];
        Arrays.fill(values, value);
        backend.copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    /** The value that all elements have, or else the first that differs behind it. */
    private static String value(Backend backend, View view) {
        float[] values = new float[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(values));
        for (float value : values) {
            if (Float.compare(value, values[0]) != 0) {
                return values[0] + " and " + value;
            }
        }
        return Float.toString(values[0]);
    }

    private static void counters() throws Throwable {
        counters(Settings.find(Settings.CUDA_DRIVER).orElseThrow(), "sentei_emulated_count", COUNTERS);
        Optional<String> blas = Settings.find(Settings.CUBLASLT).filter(place -> Files.exists(Path.of(place)));
        if (blas.isPresent()) {
            counters(blas.get(), "sentei_emulated_blas_count", BLAS_COUNTERS);
        }
    }

    @SuppressWarnings("restricted") // the counters are the emulated libraries' own
    private static MethodHandle counter(String library, String function) {
        return Linker.nativeLinker()
                .downcallHandle(
                        SymbolLookup.libraryLookup(Path.of(library), Arena.global())
                                .find(function)
                                .orElseThrow(),
                        FunctionDescriptor.of(ValueLayout.JAVA_LONG, ValueLayout.JAVA_INT));
    }

    private static void counters(String library, String function, List<String> names) throws Throwable {
        MethodHandle count = counter(library, function);
        for (int i = 0; i < names.size(); i++) {
            say("count " + names.get(i) + " " + (long) count.invokeExact(i));
        }
    }

    private static void say(String line) {
        System.out.println(line);
    }
}
