package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Aggregate;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Cast;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.CombineInt8;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Gemv;
import org.sentei.kernel.Gram;
import org.sentei.kernel.Int8Filters;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.Levels;
import org.sentei.kernel.Lookup;
import org.sentei.kernel.MaskDifference;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.MaxPoolInt8;
import org.sentei.kernel.ObsSweep;
import org.sentei.kernel.Op;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.Quantize;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.RmsNormGradient;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreHistogram;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.SoftHistogram;
import org.sentei.kernel.SoftHistogramGradient;
import org.sentei.kernel.SparseGemv;
import org.sentei.kernel.StateCounts;
import org.sentei.kernel.View;
import org.sentei.kernel.Window;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.BitmaskTensor;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** What the conformance cases do not see: many tiles, any number of threads, misuse. */
class NativeBackendTest {
    private static final long ROWS = 1100;
    private static final long COLS = 520;

    static Stream<String> tiers() {
        return Tiers.ofThisMachine();
    }

    @Test
    void theNumberOfThreadsChangesNoBitOfAnyOp() {
        List<byte[]> alone = outputs(1);
        for (int threads : new int[] {2, 3, 5}) {
            List<byte[]> together = outputs(threads);
            assertThat(together).hasSameSizeAs(alone);
            for (int i = 0; i < alone.size(); i++) {
                assertThat(Arrays.mismatch(together.get(i), alone.get(i)))
                        .as("output %d with %d threads", i, threads)
                        .isEqualTo(-1);
            }
        }
    }

    /** What every op writes, on shapes of several tiles. */
    private static List<byte[]> outputs(int threads) {
        List<byte[]> outputs = new ArrayList<>();
        TreeSet<String> seen = new TreeSet<>();
        try (Backend backend = NativeProvider.open(new Backend.Options(0, threads), "");
                Scope scope = new Scope(backend)) {
            for (Op op : ops(scope)) {
                backend.run(op);
                seen.add(op.name());
                op.writes().forEach(view -> outputs.add(read(backend, view)));
            }
        }
        assertThat(seen)
                .containsExactlyElementsOf(Arrays.stream(Op.class.getPermittedSubclasses())
                        .map(op -> Op.stem(op.asSubclass(Op.class)))
                        .sorted()
                        .toList());
        return outputs;
    }

    /** Images of 22 x 5 pixels with as many channels as a matrix has columns. */
    private static void integers(Scope scope, SplittableRandom random, List<Op> ops) {
        Window window = Window.square(22, 5, 3, 1, 1);
        View x = bytes(scope, random, DType.U8, ROWS, COLS);
        View bias = zeros(scope, DType.I32, 1, COLS);
        View scale = scope.matrix(1, COLS);
        View table = bytes(scope, random, DType.U8, 1, Lookup.ENTRIES);
        ops.add(new Activate(Activate.Function.RELU, random(scope, random, 1, COLS), null, scale));
        Levels levels = Levels.of(DType.U8, 128);
        for (int groups : new int[] {1, Math.toIntExact(COLS)}) {
            Int8Filters.Layout layout = new Int8Filters.Layout((int) COLS, (int) COLS, groups, window.taps());
            View weights = bytes(scope, random, DType.I8, layout.rows(), layout.cols());
            View y = scope.matrix(DType.U8, ROWS, COLS);
            ops.add(new Conv2dInt8(x, 128, weights, bias, scale, null, y, levels, window, groups));
        }
        View other = bytes(scope, random, DType.U8, 1, COLS);
        CombineInt8.Rule sum = new CombineInt8.Rule.Sum(0.5f, 0.25f);
        ops.add(new CombineInt8(x, 100, other, 120, scope.matrix(DType.U8, ROWS, COLS), levels, sum));
        ops.add(new Lookup(x, table, scope.matrix(DType.U8, ROWS, COLS)));
        ops.add(new MaxPoolInt8(x, scope.matrix(DType.U8, ROWS, COLS), window));
        View values = random(scope, random, ROWS, COLS);
        ops.add(new Quantize(values, 0.01f, scope.matrix(DType.U8, ROWS, COLS), levels));
    }

    /** What probabilistic pruning of graph networks takes: a graph in which every node has three edges, and histograms. */
    private static void priors(Scope scope, SplittableRandom random, List<Op> ops) {
        View x = random(scope, random, ROWS, COLS);
        View starts = scope.matrix(DType.I64, 1, ROWS + 1);
        View neighbours = scope.matrix(DType.I32, 1, 3 * ROWS);
        scope.backend()
                .copyIn(
                        MemorySegment.ofArray(LongStream.rangeClosed(0, ROWS)
                                .map(node -> 3 * node)
                                .toArray()),
                        starts);
        scope.backend()
                .copyIn(
                        MemorySegment.ofArray(
                                random.ints(3 * ROWS, 0, (int) ROWS).toArray()),
                        neighbours);
        View weights = random(scope, random, 1, 3 * ROWS);
        ops.add(new Aggregate(starts, neighbours, weights, x, scope.matrix(ROWS, COLS)));
        BandStop.Form form = new BandStop.Form.Sigmoid(0.5f);
        ops.add(new BandStop(x, scope.matrix(ROWS, COLS), scope.matrix(ROWS, COLS), form, 4, 1));
        SoftHistogram.Bins bins = new SoftHistogram.Bins(-1, 0.1f, 21, 0.1f);
        SoftHistogram.Mass mass = SoftHistogram.Mass.SHARES;
        ops.add(new SoftHistogram(
                x, bins, mass, zeros(scope, DType.F64, 1, bins.count()), zeros(scope, DType.I64, 1, 1)));
        View slope = random(scope, random, 1, bins.count());
        ops.add(new SoftHistogramGradient(x, bins, mass, slope, scope.matrix(ROWS, COLS)));
    }

    private static View bytes(Scope scope, SplittableRandom random, DType dtype, long rows, long cols) {
        byte[] values = new byte[Math.toIntExact(rows * cols)];
        random.nextBytes(values);
        View view = scope.matrix(dtype, rows, cols);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private static List<Op> ops(Scope scope) {
        SplittableRandom random = new SplittableRandom(3);
        View x = random(scope, random, ROWS, COLS);
        View other = random(scope, random, ROWS, COLS);
        View gain = random(scope, random, 1, COLS);
        View bias = random(scope, random, 1, COLS);
        View scale = scope.matrix(1, COLS);
        scope.backend().run(new Activate(Activate.Function.RELU, gain, null, scale));
        View mask = scope.matrix(DType.I32, ROWS, BitMask.wordsPerRow(COLS));
        View weights = random(scope, random, COLS, COLS);
        Attention.Geometry geometry = new Attention.Geometry(8, 4, 65, 110, 0.2f, true, 0);
        List<Op> ops = new ArrayList<>();
        for (Activate.Function function : Activate.Function.values()) {
            ops.add(new Activate(function, x, other, scope.matrix(ROWS, COLS)));
        }
        ops.add(new Attention(x, other.cols(0, 260), other.cols(260, 520), null, scope.matrix(ROWS, COLS), geometry));
        ops.add(new AttentionResidual(
                x,
                other.cols(0, 260),
                random(scope, random, ROWS, COLS),
                other.cols(260, 520),
                null,
                zeros(scope, DType.F64, 1, 8),
                scope.matrix(ROWS, COLS),
                scope.matrix(ROWS, 260),
                geometry));
        ops.add(new Cast(x, scope.matrix(DType.BF16, COLS, ROWS), true));
        ops.add(new ColumnMoments(x, zeros(scope, DType.I64, 1, 1), zeros(scope, DType.F64, 3, COLS)));
        integers(scope, random, ops);
        priors(scope, random, ops);
        ops.add(new CountValues(x, scope.matrix(DType.I64, 1, 3)));
        ops.add(new StateCounts(x, zeros(scope, DType.I64, 4, COLS)));
        ops.add(new Embedding(x, zeros(scope, DType.I32, 1, ROWS), random(scope, random, ROWS, COLS), true));
        ops.add(new Gemm(x, weights, true, bias, scope.matrix(ROWS, COLS), false));
        ops.add(new Gemm(x, weights, false, bias, random(scope, random, ROWS, COLS), true));
        View vectors = random(scope, random, 3, COLS);
        ops.add(new Gemv(random(scope, random, 5 * COLS, COLS), vectors, null, scope.matrix(3, 5 * COLS)));
        ops.add(sparseGemv(scope, random, 5 * COLS, vectors));
        View gram = zeros(scope, DType.F64, COLS, COLS);
        View factor = scope.matrix(COLS, COLS);
        ops.add(new Gram(x, gram));
        ops.add(new InverseCholesky(gram, 0.01, factor, scope.matrix(DType.I64, 1, 1)));
        ops.add(new ObsSweep(
                random(scope, random, ROWS, COLS),
                factor,
                scope.matrix(DType.I32, ROWS, BitMask.wordsPerRow(COLS)),
                scope.matrix(ROWS, COLS),
                new ObsSweep.Groups(2, 4, scale)));
        ops.add(new LayerNorm(x, gain, bias, scope.matrix(ROWS, COLS), 1e-5f));
        ops.add(new MaskDifference(x, mask, scope.matrix(ROWS, COLS)));
        ops.add(new MaskStep(
                x,
                other,
                random(scope, random, ROWS, COLS),
                zeros(scope, DType.I64, 1, 1),
                new MaskStep.Rule.Soft(0.1f, 0.01f, scope.matrix(ROWS, COLS))));
        ops.add(new MaskStep(
                x,
                other,
                random(scope, random, ROWS, COLS),
                zeros(scope, DType.I64, 1, 1),
                new MaskStep.Rule.Adam(
                        0.9f,
                        0.999f,
                        random(scope, random, 1, MaskStep.Rule.Adam.NUMBERS),
                        zeros(scope, DType.F32, ROWS, COLS),
                        zeros(scope, DType.F32, ROWS, COLS))));
        ops.add(new RmsNorm(x, gain, scope.matrix(ROWS, COLS), 1e-5f));
        ops.add(new RmsNormGradient(x, gain, other, scope.matrix(ROWS, COLS), 1e-5f));
        ops.add(new Rotary(
                random(scope, random, ROWS, COLS), random(scope, random, 11, 65), random(scope, random, 11, 65), 4));
        ops.add(new ScoreHistogram(x, scale, ScoreHistogram.Half.HIGH, 0, zeros(scope, DType.I64, 1, 1 << 16)));
        ops.add(new ScoreSelect(x, scale, mask, new Selection.Groups(2, 4)));
        ops.add(new ScoreSelect(
                x, scale, scope.matrix(DType.I32, ROWS, BitMask.wordsPerRow(COLS)), new Selection.Cut(0, 1000)));
        ops.add(new ScoreSelect(x, scale, mask, new Selection.Matrix(ROWS * COLS / 3)));
        ops.add(new ScoreSelect(x, scale, mask, new Selection.Row(COLS / 3)));
        ops.add(new ApplyMask(x, mask, gain, random(scope, random, 1, ROWS)));
        ops.add(new QuadraticForm(
                x,
                other,
                zeros(scope, DType.F64, COLS, COLS),
                zeros(scope, DType.F64, 1, COLS),
                scope.matrix(DType.F64, ROWS, 2)));
        return ops;
    }

    /** A third of the weights kept. */
    private static SparseGemv sparseGemv(Scope scope, SplittableRandom random, long rows, View x) {
        short[] dense = new short[Math.toIntExact(rows * x.cols())];
        for (int i = 0; i < dense.length; i++) {
            dense[i] = random.nextInt(3) == 0 ? Floats.toBfloat16((float) random.nextGaussian()) : 0;
        }
        BitmaskTensor weights = BitmaskTensor.pack(
                new Tensor("w", DType.BF16, Shape.of(rows, x.cols()), MemorySegment.ofArray(dense)), Arena.ofAuto());
        View values = scope.matrix(DType.BF16, 1, weights.kept());
        View mask = scope.matrix(DType.U8, rows, Math.ceilDiv(x.cols(), 8));
        View starts = scope.matrix(DType.I64, 1, rows + 1);
        scope.backend().copyIn(weights.values(), values);
        scope.backend().copyIn(weights.mask(), mask);
        scope.backend().copyIn(MemorySegment.ofArray(weights.rowStarts()), starts);
        return new SparseGemv(values, mask, starts, x, null, scope.matrix(x.rows(), rows));
    }

    @ParameterizedTest
    @MethodSource("tiers")
    void weightsWhoseMaskAndStartsDisagreeAreALaunchFailure(String tier) {
        try (Backend backend = NativeProvider.open(new Backend.Options(0, 2), tier);
                Scope scope = new Scope(backend)) {
            SplittableRandom random = new SplittableRandom(9);
            for (int vectors : new int[] {1, 2, 4, 8}) {
                SparseGemv op = sparseGemv(scope, random, 41, random(scope, random, vectors, 130));
                backend.run(op);
                long[] good = new long[42];
                backend.copyOut(op.starts(), MemorySegment.ofArray(good));
                long kept = op.values().cols();
                for (long bad : new long[] {-1, Long.MIN_VALUE, Long.MAX_VALUE, kept - 1, kept + 1, good[20] + 1}) {
                    for (int at : new int[] {0, 20, 39, 40, 41}) {
                        long[] starts = good.clone();
                        starts[at] = bad;
                        if (bad == good[at]) {
                            continue;
                        }
                        backend.copyIn(MemorySegment.ofArray(starts), op.starts());
                        refused(backend, op);
                    }
                }
                backend.copyIn(MemorySegment.ofArray(good), op.starts());
                backend.run(op);
                byte[] bits = new byte[(int) op.mask().bytes()];
                Arrays.fill(bits, (byte) 0xff);
                backend.copyIn(MemorySegment.ofArray(bits), op.mask());
                refused(backend, op);
            }
        }
    }

    private static void refused(Backend backend, SparseGemv op) {
        assertThatThrownBy(() -> backend.run(op))
                .isInstanceOfSatisfying(
                        DeviceException.class, e -> assertThat(e.kind()).isEqualTo(DeviceException.Kind.LAUNCH))
                .hasMessageContaining("mask, row starts and number of kept values");
    }

    @ParameterizedTest
    @MethodSource("tiers")
    void momentsKeepTheirAccuracyUnderLargeMeansAndAnySplit(String tier) {
        int rows = 20_000;
        try (Backend backend = NativeProvider.open(new Backend.Options(0, 2), tier)) {
            for (double ratio : new double[] {0, 1, 10, 100, 1000}) {
                SplittableRandom random = new SplittableRandom(11);
                float[] values = new float[rows * 3];
                for (int i = 0; i < values.length; i++) {
                    values[i] = (float) (ratio + random.nextGaussian());
                }
                double[] exact = exactMoments(values, 3);
                Offset<Double> tolerance = Offset.offset(ratio <= 100 ? 1e-5 : 1e-3);
                for (long batch : new long[] {1, 7, 64, 1000, rows}) {
                    double[] moments = moments(backend, values, 3, batch);
                    for (int c = 0; c < 3; c++) {
                        assertThat(moments[c]).isCloseTo(exact[c], Offset.offset(1e-5));
                        assertThat(moments[3 + c] / exact[3 + c])
                                .as("M2 at mean/std %s, batches of %s", ratio, batch)
                                .isCloseTo(1, tolerance);
                        assertThat(moments[6 + c] / exact[6 + c]).isCloseTo(1, Offset.offset(1e-5));
                    }
                }
            }
        }
    }

    private static double[] moments(Backend backend, float[] values, int cols, long batch) {
        try (Scope scope = new Scope(backend)) {
            long rows = values.length / cols;
            View x = scope.matrix(rows, cols);
            backend.copyIn(MemorySegment.ofArray(values), x);
            View count = zeros(scope, DType.I64, 1, 1);
            View moments = zeros(scope, DType.F64, 3, cols);
            for (long from = 0; from < rows; from += batch) {
                backend.run(new ColumnMoments(x.rows(from, Math.min(rows, from + batch)), count, moments));
            }
            double[] result = new double[3 * cols];
            backend.copyOut(moments, MemorySegment.ofArray(result));
            long[] counted = new long[1];
            backend.copyOut(count, MemorySegment.ofArray(counted));
            assertThat(counted).containsExactly(rows);
            return result;
        }
    }

    private static double[] exactMoments(float[] values, int cols) {
        double[] moments = new double[3 * cols];
        int rows = values.length / cols;
        for (int c = 0; c < cols; c++) {
            for (int r = 0; r < rows; r++) {
                moments[c] += (double) values[r * cols + c] / rows;
                moments[2 * cols + c] += (double) values[r * cols + c] * values[r * cols + c];
            }
            for (int r = 0; r < rows; r++) {
                double deviation = values[r * cols + c] - moments[c];
                moments[cols + c] += deviation * deviation;
            }
        }
        return moments;
    }

    @Test
    void anIdOutsideTheTableIsALaunchFailureThatNamesIt() {
        try (Backend backend = open();
                Scope scope = new Scope(backend)) {
            View table = random(scope, new SplittableRandom(1), 10, 4);
            View ids = scope.matrix(DType.I32, 1, 2);
            backend.copyIn(MemorySegment.ofArray(new int[] {3, 10}), ids);
            Embedding op = new Embedding(table, ids, scope.matrix(2, 4), false);

            assertThatThrownBy(() -> backend.run(op))
                    .isInstanceOfSatisfying(
                            DeviceException.class, e -> assertThat(e.kind()).isEqualTo(DeviceException.Kind.LAUNCH))
                    .hasMessageContaining("id 10 at position 1")
                    .hasMessageContaining("table of 10");
        }
    }

    @Test
    void memoryOfAnotherBackendIsRefusedBeforeAnythingRuns() {
        try (Backend backend = open();
                Backend reference = Backends.find("reference").open(Backend.Options.defaults());
                Scope scope = new Scope(backend);
                Scope foreign = new Scope(reference)) {
            View ours = scope.matrix(2, 2);
            View theirs = foreign.matrix(2, 2);

            assertThatThrownBy(() -> backend.run(new Activate(Activate.Function.RELU, theirs, null, ours)))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("another backend");
        }
    }

    @Test
    void memoryOfAClosedScopeIsRefused() {
        try (Backend backend = open();
                Scope scope = new Scope(backend)) {
            View gone;
            try (Scope child = scope.child()) {
                gone = child.matrix(2, 2);
            }

            assertThatThrownBy(() -> backend.run(new CountValues(gone, scope.matrix(DType.I64, 1, 3))))
                    .isInstanceOf(DeviceException.class)
                    .hasMessageContaining("closed");
        }
    }

    @Test
    void aClosedBackendRefusesWorkAndClosingTwiceDoesNothing() {
        Backend backend = open();
        backend.close();
        backend.close();

        assertThatThrownBy(() -> backend.allocate(4))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("closed");
    }

    @Test
    void anotherThreadMayNotUseTheBackend() throws InterruptedException {
        try (Backend backend = open();
                ExecutorService pool = Executors.newSingleThreadExecutor()) {
            assertThatThrownBy(() -> pool.submit(() -> backend.allocate(4)).get())
                    .isInstanceOf(ExecutionException.class)
                    .hasCauseInstanceOf(WrongThreadException.class);
        }
    }

    @Test
    void thereIsOneDeviceOnly() {
        assertThatThrownBy(() -> new NativeProvider().open(new Backend.Options(1, 1)))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("device 1");
    }

    @Test
    void theDeviceIsDescribed() {
        try (Backend backend = open()) {
            assertThat(backend.info().backend()).isEqualTo("cpu");
            assertThat(backend.info().device()).isNotBlank();
            assertThat(backend.info().driver()).contains("OpenBLAS");
            assertThat(backend.info().memoryBytes()).isGreaterThan(1 << 20);
            assertThat(backend.info().isa()).isIn(NativeLibrary.ISA_NAMES);
        }
    }

    private static Backend open() {
        return new NativeProvider().open(new Backend.Options(0, 2));
    }

    private static View random(Scope scope, SplittableRandom random, long rows, long cols) {
        View view = scope.matrix(rows, cols);
        float[] values = new float[(int) (rows * cols)];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private static View zeros(Scope scope, DType dtype, long rows, long cols) {
        View view = scope.matrix(dtype, rows, cols);
        try (Arena arena = Arena.ofConfined()) {
            scope.backend().copyIn(arena.allocate(view.bytes()), view);
        }
        return view;
    }

    private static byte[] read(Backend backend, View view) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(view.bytes());
            backend.copyOut(view, bytes);
            return bytes.toArray(ValueLayout.JAVA_BYTE);
        }
    }
}
