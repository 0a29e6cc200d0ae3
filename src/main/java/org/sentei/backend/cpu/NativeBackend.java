package org.sentei.backend.cpu;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Aggregate;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Ceilings;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.CombineInt8;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Gemv;
import org.sentei.kernel.Gram;
import org.sentei.kernel.HostBackend;
import org.sentei.kernel.HostBuffer;
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
import org.sentei.tensor.DType;

/**
 * Runs ops by the kernels of {@link NativeLibrary} on the threads of {@link Workers}.
 *
 * <p>An op is split into tiles whose bounds depend on its shape alone, and what tiles sum up is merged in their order:
 * results are the same bits for any number of threads.
 */
final class NativeBackend extends HostBackend {
    static final String NAME = "cpu";

    /** Elements of a tile of an element-by-element op: enough to hide a call, few enough to balance. */
    private static final long TILE_ELEMENTS = 1 << 16;
    /** Elements of a tile of a selection, where the first row of a tile costs more than the others. */
    private static final long SELECTION_ELEMENTS = 1 << 18;
    /** Tiles that a reduction over rows is split into at most, and the rows that one has at least. */
    private static final long REDUCTION_TILES = 32;

    private static final long REDUCTION_ROWS = 128;
    /** Elements of the result that a tile of a matrix product has about, where the result is large enough. */
    private static final long PRODUCT_ELEMENTS = 1 << 17;

    private static final long PRODUCT_TILES = 64;
    /** Elements of a tile of a product with few vectors at most: rows enough for long streams, four of which a kernel reads at once. */
    private static final long STREAM_ELEMENTS = 1 << 20;
    /** What the number of such tiles is a multiple of, so that the usual numbers of threads get equal shares. */
    private static final long STREAM_TILES = 16;
    /** Edge of a tile of a Gram matrix. */
    private static final long GRAM_TILE = 192;
    /** Tasks that an attention residual is split into about, and the queries that one has at least. */
    private static final long RESIDUAL_TASKS = 32;

    private static final long RESIDUAL_ROWS = 256;
    /** What the queries of a task are a multiple of: ROWS of {@code attention_residual.c}. */
    private static final long RESIDUAL_BLOCK = 32;
    /** Output pixels of a task of a convolution at most, and blocks of its filters. */
    private static final long CONVOLUTION_PIXELS = 192;

    private static final long CONVOLUTION_BLOCKS = 4;
    /** The same of a depthwise one, which arranges its weights anew in each task. */
    private static final long DEPTHWISE_PIXELS = 784;

    private static final long DEPTHWISE_BLOCKS = 12;
    /** What the pixels of a task are a multiple of: PIXELS of {@code conv2d_int8.c}. */
    private static final long TILE_PIXELS = 6;
    /** Rows of a quadratic form whose differences and products are held at once. */
    private static final long FORM_ROWS = 1024;
    /** Edge of a tile of these products. */
    private static final long FORM_BLOCK = 192;

    /** Size of what the probes of memory read: more than a processor's caches hold. */
    private static final long PROBE_ELEMENTS = 1L << 26;
    /** Rounds of multiply-adds: some milliseconds. */
    private static final long PROBE_ROUNDS = 1 << 20;

    private static final int PROBE_RUNS = 5;
    private static final long PROBE_NANOS = 400_000_000;

    private final NativeLibrary library;
    private final Interceptor interceptor;
    private final Workers workers;
    private final DeviceInfo info;

    NativeBackend(NativeLibrary library, Backend.Options options, Interceptor interceptor) {
        super(NAME, library, options.memoryBytes());
        this.library = library;
        this.interceptor = interceptor;
        this.info = new DeviceInfo(
                NAME,
                line(Path.of("/proc/cpuinfo"), "model name", System.getProperty("os.arch")),
                library.version(),
                Long.parseLong(line(Path.of("/proc/meminfo"), "MemAvailable", "0 kB")
                                .replace(" kB", ""))
                        << 10,
                library.isa());
        this.workers = new Workers(options.threads());
    }

    private static String line(Path file, String key, String fallback) {
        try {
            return Files.readAllLines(file).stream()
                    .filter(text -> text.startsWith(key))
                    .map(text -> text.substring(text.indexOf(':') + 1).strip())
                    .findFirst()
                    .orElse(fallback);
        } catch (IOException e) {
            return fallback;
        }
    }

    @Override
    public DeviceInfo info() {
        return info;
    }

    @Override
    public void close() {
        super.close();
        workers.close();
    }

    @Override
    public Optional<Ceilings> ceilings() {
        check("measuring ceilings");
        long threads = workers.threads();
        long part = Math.ceilDiv(PROBE_ELEMENTS, threads);
        long bytes = PROBE_ELEMENTS * Float.BYTES;
        try (Arena arena = Arena.ofConfined();
                Scope scope = new Scope(this)) {
            long x = written(scope.matrix(1, PROBE_ELEMENTS));
            long y = written(scope.matrix(1, PROBE_ELEMENTS));
            MemorySegment totals = arena.allocate(ValueLayout.JAVA_FLOAT, threads);
            MemorySegment operations = arena.allocate(ValueLayout.JAVA_LONG, threads);
            double read = fastest(() ->
                    tiles("probe_read", PROBE_ELEMENTS, part, (from, to) -> (int) library.kernel("probe_read_f32")
                            .invokeExact(x, from, to, totals.address() + from / part * Float.BYTES)));
            double copy = fastest(() -> tiles("probe_copy", PROBE_ELEMENTS, part, (from, to) ->
                    (int) library.kernel("probe_copy_f32").invokeExact(x, y, from, to)));
            double fma =
                    fastest(() -> tiles("probe_fma", threads, 1, (from, to) -> (int) library.kernel("probe_fma_f32")
                            .invokeExact(
                                    PROBE_ROUNDS,
                                    totals.address() + from * Float.BYTES,
                                    operations.address() + from * Long.BYTES)));
            long computed = 0;
            for (long i = 0; i < threads; i++) {
                computed += operations.getAtIndex(ValueLayout.JAVA_LONG, i);
            }
            return Optional.of(new Ceilings(bytes / read, 2 * bytes / copy, computed / fma));
        }
    }

    /** Address of a view that has been written to: what never was, the system reads from one page of zeros. */
    private long written(View view) {
        return segment(view).fill((byte) 0).address();
    }

    /** Seconds of the fastest of many runs. */
    private static double fastest(Runnable probe) {
        long began = System.nanoTime();
        long best = Long.MAX_VALUE;
        for (int runs = 0; runs < PROBE_RUNS || System.nanoTime() - began < PROBE_NANOS; runs++) {
            long start = System.nanoTime();
            probe.run();
            best = Math.min(best, System.nanoTime() - start);
        }
        return best / 1e9;
    }

    @Override
    protected void execute(Op op) {
        switch (op) {
            case Activate activate -> activate(activate);
            case Aggregate aggregate -> aggregate(aggregate);
            case ApplyMask apply -> applyMask(apply);
            case Attention attention -> attention(attention);
            case AttentionResidual residual -> attentionResidual(residual);
            case BandStop filter -> bandStop(filter);
            case Cast cast -> cast(cast);
            case ColumnMoments moments -> columnMoments(moments);
            case CombineInt8 combine -> combineInt8(combine);
            case Conv2dInt8 conv -> conv2dInt8(conv);
            case CountValues count -> countValues(count);
            case Embedding embedding -> embedding(embedding);
            case Gemm gemm -> gemm(gemm);
            case Gemv gemv -> gemv(gemv);
            case Gram gram -> gram(gram);
            case InverseCholesky factor -> inverseCholesky(factor);
            case LayerNorm norm -> layerNorm(norm);
            case Lookup lookup -> lookup(lookup);
            case MaskDifference difference -> maskDifference(difference);
            case MaskStep step -> maskStep(step);
            case MaxPoolInt8 pool -> maxPoolInt8(pool);
            case ObsSweep sweep -> obsSweep(sweep);
            case QuadraticForm form -> quadraticForm(form);
            case Quantize quantize -> quantize(quantize);
            case RmsNorm norm -> rmsNorm(norm);
            case RmsNormGradient norm -> rmsNormGradient(norm);
            case Rotary rotary -> rotary(rotary);
            case ScoreHistogram histogram -> scoreHistogram(histogram);
            case ScoreSelect select -> scoreSelect(select);
            case SoftHistogram histogram -> softHistogram(histogram);
            case SoftHistogramGradient gradient -> softHistogramGradient(gradient);
            case SparseGemv gemv -> sparseGemv(gemv);
            case StateCounts counts -> stateCounts(counts);
        }
    }

    private void activate(Activate op) {
        long x = address(op.x());
        long multiplier = address(op.multiplier());
        long multiplierStride = op.multiplier() == null ? 0 : op.multiplier().stride();
        long y = address(op.y());
        int function = switch (op.function()) { // sentei_function of sentei.h
            case RELU -> 0;
            case GELU -> 1;
            case GELU_TANH -> 2;
            case SILU -> 3;
        };
        rows(op, op.x(), (from, to) -> (int) library.kernel("activate_f32")
                .invokeExact(
                        function,
                        x,
                        op.x().stride(),
                        multiplier,
                        multiplierStride,
                        y,
                        op.y().stride(),
                        op.x().cols(),
                        from,
                        to));
    }

    private void aggregate(Aggregate op) {
        long starts = address(op.starts());
        long neighbours = address(op.neighbours());
        long weights = address(op.weights());
        long x = address(op.x());
        long y = address(op.y());
        double work = (double) op.weights().cols() * op.x().cols() + op.y().elements();
        long tile = Math.max(1, (long) (op.y().rows() / Math.max(1, work / TILE_ELEMENTS)));
        tiles(op, op.y().rows(), tile, (from, to) -> {
            int status = (int) library.kernel("aggregate_f32")
                    .invokeExact(
                            starts,
                            neighbours,
                            weights,
                            op.weights().cols(),
                            x,
                            op.x().stride(),
                            op.x().rows(),
                            y,
                            op.y().stride(),
                            op.y().cols(),
                            from,
                            to);
            if (status == NativeLibrary.BAD_ARGUMENT) {
                throw op.broken(NAME);
            }
            return status;
        });
    }

    private void applyMask(ApplyMask op) {
        long weights = address(op.weights());
        long mask = address(op.mask());
        long mean = address(op.mean());
        long bias = address(op.bias());
        rows(op, op.weights(), (from, to) -> (int) library.kernel("apply_mask_f32")
                .invokeExact(
                        weights,
                        op.weights().stride(),
                        mask,
                        op.mask().stride(),
                        mean,
                        bias,
                        op.weights().cols(),
                        from,
                        to));
    }

    private void attention(Attention op) {
        long query = address(op.query());
        long key = address(op.key());
        long value = address(op.value());
        long visible = address(op.visible());
        long visibleStride = op.visible() == null ? 0 : op.visible().stride();
        long output = address(op.output());
        Attention.Geometry geometry = op.geometry();
        long tasks = op.query().rows() / geometry.length() * geometry.heads();
        tiles(op, tasks, 1, (from, to) -> (int) library.kernel("attention_f32")
                .invokeExact(
                        query,
                        op.query().stride(),
                        key,
                        op.key().stride(),
                        value,
                        op.value().stride(),
                        visible,
                        visibleStride,
                        output,
                        op.output().stride(),
                        (long) geometry.heads(),
                        (long) geometry.keyHeads(),
                        (long) geometry.headSize(),
                        geometry.length(),
                        geometry.scale(),
                        geometry.causal() ? 1 : 0,
                        geometry.window(),
                        from,
                        to));
    }

    private void attentionResidual(AttentionResidual op) {
        Attention.Geometry geometry = op.geometry();
        long query = address(op.query());
        long key = address(op.key());
        long queryDifference = address(op.queryDifference());
        long keyDifference = address(op.keyDifference());
        long visible = address(op.visible());
        MemorySegment loss = segment(op.loss());
        long queryGradient = address(op.queryGradient());
        long keyGradient = address(op.keyGradient());
        long queryGradientStride = queryGradient == 0 ? 0 : op.queryGradient().stride();
        long length = geometry.length();
        int size = geometry.headSize();
        int keyHeads = geometry.keyHeads();
        int group = geometry.heads() / keyHeads;
        long sequences = op.query().rows() / length;
        long heads = sequences * keyHeads;
        // By the shape alone: the gradient of a key is summed up part by part.
        long parts = Math.min(Math.ceilDiv(RESIDUAL_TASKS, Math.max(1, heads)), Math.ceilDiv(length, RESIDUAL_ROWS));
        long partRows = Math.ceilDiv(Math.ceilDiv(length, parts), RESIDUAL_BLOCK) * RESIDUAL_BLOCK;
        boolean merged = keyGradient != 0 && parts > 1;
        try (Scope scratch = new Scope(this)) {
            View losses = scratch.matrix(DType.F64, Math.max(1, parts * heads), group);
            View partials = scratch.matrix(merged ? parts * heads * length : 0, size);
            long sums = address(losses);
            long partial = address(partials);
            // The last queries, which see the most keys when they see those before them, begin.
            tiles(op, parts * heads, 1, (from, to) -> {
                long part = parts - 1 - from / heads;
                long sequence = from % heads / keyHeads;
                long keyHead = from % heads % keyHeads;
                long token = sequence * length;
                long column = keyHead * group * size;
                long keyColumn = keyHead * size;
                long task = part * heads + from % heads;
                return (int) library.kernel("attention_residual_f32")
                        .invokeExact(
                                element(query, op.query(), token, column),
                                op.query().stride(),
                                element(key, op.key(), token, keyColumn),
                                op.key().stride(),
                                element(queryDifference, op.queryDifference(), token, column),
                                op.queryDifference().stride(),
                                element(keyDifference, op.keyDifference(), token, keyColumn),
                                op.keyDifference().stride(),
                                element(visible, op.visible(), sequence, 0),
                                sums + task * group * Double.BYTES,
                                element(queryGradient, op.queryGradient(), token, column),
                                queryGradientStride,
                                merged
                                        ? element(partial, partials, task * length, 0)
                                        : element(keyGradient, op.keyGradient(), token, keyColumn),
                                merged
                                        ? size
                                        : keyGradient == 0
                                                ? 0
                                                : op.keyGradient().stride(),
                                (long) group,
                                (long) size,
                                length,
                                geometry.scale(),
                                geometry.causal() ? 1 : 0,
                                geometry.window(),
                                Math.min(length, part * partRows),
                                Math.min(length, (part + 1) * partRows));
            });
            if (merged) {
                tiles(op, heads, 1, (from, to) -> (int) library.kernel("attention_residual_merge_f32")
                        .invokeExact(
                                element(partial, partials, from * length, 0),
                                parts,
                                heads * length * size,
                                element(
                                        keyGradient,
                                        op.keyGradient(),
                                        from / keyHeads * length,
                                        from % keyHeads * size),
                                op.keyGradient().stride(),
                                (long) size,
                                0L,
                                length));
            }
            MemorySegment summands = segment(losses);
            for (long i = 0; i < parts * heads; i++) {
                for (int head = 0; head < group; head++) {
                    long place = i % keyHeads * group + head;
                    loss.setAtIndex(
                            ValueLayout.JAVA_DOUBLE,
                            place,
                            loss.getAtIndex(ValueLayout.JAVA_DOUBLE, place)
                                    + summands.getAtIndex(ValueLayout.JAVA_DOUBLE, i * group + head));
                }
            }
        }
    }

    /** Address of an element of a view at {@code base}, 0 for no view. */
    private static long element(long base, View view, long row, long col) {
        return base == 0 ? 0 : base + (row * view.stride() + col) * view.dtype().bytes();
    }

    private void bandStop(BandStop op) {
        long latents = address(op.latents());
        long weights = address(op.weights());
        long slope = address(op.slope());
        int form = op.form() instanceof BandStop.Form.Tanh ? 1 : 0;
        float bend = op.sharpness() * op.squaredThreshold();
        rows(op, op.latents(), (from, to) -> (int) library.kernel("band_stop_f32")
                .invokeExact(
                        form,
                        latents,
                        op.latents().stride(),
                        weights,
                        op.weights().stride(),
                        slope,
                        op.slope() == null ? 0L : op.slope().stride(),
                        op.sharpness(),
                        bend,
                        op.gain(),
                        op.latents().cols(),
                        from,
                        to));
    }

    private void cast(Cast op) {
        long source = address(op.source());
        long target = address(op.target());
        var handle = library.kernel("cast_" + op.source().dtype().label() + "_"
                + op.target().dtype().label());
        rows(op, op.source(), (from, to) -> (int) handle.invokeExact(
                source,
                op.source().stride(),
                target,
                op.target().stride(),
                op.source().cols(),
                op.transpose() ? 1 : 0,
                from,
                to));
    }

    private void columnMoments(ColumnMoments op) {
        long x = address(op.x());
        long moments = address(op.moments());
        MemorySegment count = segment(op.count());
        long rows = op.x().rows();
        long cols = op.x().cols();
        long tile = reductionRows(rows);
        try (Arena arena = Arena.ofConfined()) {
            long bytes = 3 * cols * Double.BYTES;
            long partials = scratch(
                            arena, ValueLayout.JAVA_DOUBLE, Math.multiplyExact(3 * cols, Math.ceilDiv(rows, tile)))
                    .address();
            tiles(op, rows, tile, (from, to) -> (int) library.kernel("column_moments_f32")
                    .invokeExact(x, op.x().stride(), cols, from, to, partials + from / tile * bytes));
            long merged = count.get(ValueLayout.JAVA_LONG, 0);
            for (long from = 0; from < rows; from += tile) {
                long partial = partials + from / tile * bytes;
                long added = Math.min(tile, rows - from);
                long before = merged;
                tiles(op, 1, 1, (first, last) -> (int) library.kernel("column_moments_merge_f64")
                        .invokeExact(partial, added, moments, op.moments().stride(), before, cols));
                merged += added;
            }
            count.set(ValueLayout.JAVA_LONG, 0, merged);
        }
    }

    private void combineInt8(CombineInt8 op) {
        long a = address(op.a());
        long b = address(op.b());
        long y = address(op.y());
        int product = op.rule() instanceof CombineInt8.Rule.Product ? 1 : 0;
        float aScale = switch (op.rule()) {
            case CombineInt8.Rule.Sum(float scale, float _) -> scale;
            case CombineInt8.Rule.Product(float scale) -> scale;
        };
        float bScale = op.rule() instanceof CombineInt8.Rule.Sum(float _, float scale) ? scale : 1;
        int aLowest = Levels.lowest(op.a().dtype());
        int bLowest = Levels.lowest(op.b().dtype());
        rows(op, op.a(), (from, to) -> (int) library.kernel("combine_int8_u8")
                .invokeExact(
                        product,
                        a,
                        op.a().stride(),
                        aLowest,
                        op.aZero() - aLowest,
                        aScale,
                        b,
                        op.b().stride(),
                        bLowest,
                        op.bZero() - bLowest,
                        bScale,
                        op.shared(),
                        y,
                        op.y().stride(),
                        op.levels().zero(),
                        op.levels().low(),
                        op.levels().high(),
                        op.a().cols(),
                        from,
                        to));
    }

    private void conv2dInt8(Conv2dInt8 op) {
        Conv2dInt8.Residual added = op.residual();
        long x = address(op.x());
        long weights = address(op.weights());
        long bias = address(op.bias());
        long scale = address(op.scale());
        long residual = added == null ? 0 : address(added.values());
        long residualStride = added == null ? 0 : added.values().stride();
        int residualLowest = added == null ? 0 : Levels.lowest(added.values().dtype());
        int residualZero = added == null ? 0 : added.zero() - residualLowest;
        float residualScale = added == null ? 1 : added.scale();
        long y = address(op.y());
        int lowest = Levels.lowest(op.x().dtype());
        long blocks = op.weights().rows();
        long pixels = op.y().rows();
        boolean depthwise = op.layout().depthwise();
        long part = share(blocks, depthwise ? DEPTHWISE_BLOCKS : CONVOLUTION_BLOCKS);
        long pixelPart = Math.ceilDiv(share(pixels, depthwise ? DEPTHWISE_PIXELS : CONVOLUTION_PIXELS), TILE_PIXELS)
                * TILE_PIXELS;
        long down = Math.ceilDiv(pixels, pixelPart);
        long across = Math.ceilDiv(blocks, part);
        try (Arena arena = Arena.ofConfined()) {
            long window = window(arena, op.window()).address();
            tiles(op, down * across, 1, (from, to) -> {
                long pixel = from / across * pixelPart;
                long block = from % across * part;
                return (int) library.kernel("conv2d_int8_u8")
                        .invokeExact(
                                x,
                                op.x().stride(),
                                lowest,
                                op.inputZero() - lowest,
                                weights,
                                op.weights().stride(),
                                bias,
                                scale,
                                residual,
                                residualStride,
                                residualLowest,
                                residualZero,
                                residualScale,
                                y,
                                op.y().stride(),
                                op.levels().zero(),
                                op.levels().low(),
                                op.levels().high(),
                                window,
                                op.x().cols(),
                                op.y().cols(),
                                (long) op.groups(),
                                block,
                                Math.min(blocks, block + part),
                                pixel,
                                Math.min(pixels, pixel + pixelPart));
            });
        }
    }

    /** The size of as few equal parts of at most {@code most} as there can be. */
    private static long share(long size, long most) {
        return Math.max(1, Math.ceilDiv(size, Math.max(1, Math.ceilDiv(size, most))));
    }

    /** {@code struct sentei_window} of {@code sentei.h}. */
    private MemorySegment window(Arena arena, Window window) {
        MemorySegment memory = arena.allocateFrom(
                ValueLayout.JAVA_INT,
                window.height(),
                window.width(),
                window.outputHeight(),
                window.outputWidth(),
                window.kernelHeight(),
                window.kernelWidth(),
                window.strideY(),
                window.strideX(),
                window.dilationY(),
                window.dilationX(),
                window.top(),
                window.left());
        interceptor.uses(memory);
        return memory;
    }

    private void countValues(CountValues op) {
        long x = address(op.x());
        MemorySegment counts = segment(op.counts());
        long rows = op.x().rows();
        long tile = reductionRows(rows);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment partials = scratch(arena, ValueLayout.JAVA_LONG, 3 * Math.ceilDiv(rows, tile));
            tiles(op, rows, tile, (from, to) -> (int) library.kernel("count_values_f32")
                    .invokeExact(
                            x,
                            op.x().stride(),
                            op.x().cols(),
                            from,
                            to,
                            partials.address() + from / tile * 3 * Long.BYTES));
            counts.fill((byte) 0);
            for (long i = 0; i < partials.byteSize() / Long.BYTES; i++) {
                add(counts, i % 3, partials.getAtIndex(ValueLayout.JAVA_LONG, i));
            }
        }
    }

    private void embedding(Embedding op) {
        long table = address(op.table());
        MemorySegment ids = segment(op.ids());
        long output = address(op.output());
        for (long i = 0; i < op.ids().cols(); i++) {
            int id = ids.getAtIndex(ValueLayout.JAVA_INT, i);
            if (id < 0 || id >= op.table().rows()) {
                throw new DeviceException(
                        NAME,
                        op.name(),
                        0,
                        "id " + id + " at position " + i + " is outside the table of "
                                + op.table().rows() + " entries; the tokenizer and the model do not match",
                        DeviceException.Kind.LAUNCH);
            }
        }
        rows(op, op.output(), (from, to) -> (int) library.kernel("embedding_f32")
                .invokeExact(
                        table,
                        op.table().stride(),
                        op.table().rows(),
                        ids.address(),
                        output,
                        op.output().stride(),
                        op.output().cols(),
                        op.accumulate() ? 1 : 0,
                        from,
                        to));
    }

    private void gemm(Gemm op) {
        long a = address(op.a());
        long b = address(op.b());
        long c = address(op.c());
        long bias = address(op.bias());
        long m = op.c().rows();
        long n = op.c().cols();
        int k = int32(op, op.a().cols());
        int strideA = leading(op, op.a());
        int strideB = leading(op, op.b());
        int strideC = leading(op, op.c());
        long height = m;
        long width = n;
        while (height * width > PRODUCT_ELEMENTS && Math.ceilDiv(m, height) * Math.ceilDiv(n, width) < PRODUCT_TILES) {
            if (height > width) {
                height = halved(height);
            } else {
                width = halved(width);
            }
        }
        long tileRows = height;
        long tileCols = width;
        long across = Math.ceilDiv(n, Math.max(1, tileCols));
        long count = m == 0 ? 0 : Math.ceilDiv(m, tileRows) * across;
        tiles(op, count, 1, (from, to) -> {
            long row = from / across * tileRows;
            long col = from % across * tileCols;
            long rows = Math.min(tileRows, m - row);
            long cols = Math.min(tileCols, n - col);
            long corner = c + (row * op.c().stride() + col) * Float.BYTES;
            library.sgemm()
                    .invokeExact(
                            NativeLibrary.ROW_MAJOR,
                            NativeLibrary.NO_TRANSPOSE,
                            op.transposeB() ? NativeLibrary.TRANSPOSE : NativeLibrary.NO_TRANSPOSE,
                            int32(op, rows),
                            int32(op, cols),
                            k,
                            1f,
                            a + row * op.a().stride() * Float.BYTES,
                            strideA,
                            b + col * (op.transposeB() ? op.b().stride() : 1) * Float.BYTES,
                            strideB,
                            op.accumulate() ? 1f : 0f,
                            corner,
                            strideC);
            return op.bias() == null
                    ? NativeLibrary.OK
                    : (int) library.kernel("gemm_bias_f32")
                            .invokeExact(corner, op.c().stride(), bias + col * Float.BYTES, cols, 0L, rows);
        });
    }

    /** About half, in whole vectors of any instruction set. */
    private static long halved(long size) {
        return Math.max(16, Math.ceilDiv(size, 32) * 16);
    }

    /** A view's leading dimension as OpenBLAS takes it: 32 bits, at least 1. */
    private static int leading(Op op, View view) {
        return int32(op, Math.max(1, view.stride()));
    }

    private static int int32(Op op, long size) {
        if (size > Integer.MAX_VALUE) {
            throw new DeviceException(
                    NAME,
                    op.name(),
                    0,
                    "a dimension of " + size + " exceeds the 32 bits of OpenBLAS; use smaller batches",
                    DeviceException.Kind.UNSUPPORTED);
        }
        return (int) size;
    }

    private void gemv(Gemv op) {
        View matrix = op.weights();
        long weights = address(matrix);
        long x = address(op.x());
        long bias = address(op.bias());
        long y = address(op.y());
        var handle = library.kernel("gemv_" + matrix.dtype().label());
        tiles(op, matrix.rows(), streamRows(matrix.rows(), matrix.cols()), (from, to) -> (int) handle.invokeExact(
                weights,
                matrix.stride(),
                x,
                op.x().stride(),
                op.x().rows(),
                bias,
                y,
                op.y().stride(),
                matrix.cols(),
                from,
                to));
    }

    private void gram(Gram op) {
        long x = address(op.x());
        long sum = address(op.sum());
        long cols = op.x().cols();
        int stride = leading(op, op.x());
        long across = Math.ceilDiv(cols, GRAM_TILE);
        tiles(op, across * across, 1, (from, to) -> {
            long row = from / across * GRAM_TILE;
            long col = from % across * GRAM_TILE;
            if (row > col) {
                return NativeLibrary.OK;
            }
            int height = (int) Math.min(GRAM_TILE, cols - row);
            int width = (int) Math.min(GRAM_TILE, cols - col);
            try (Arena arena = Arena.ofConfined()) {
                long product = scratch(arena, ValueLayout.JAVA_FLOAT, GRAM_TILE * GRAM_TILE)
                        .address();
                for (long first = 0; first < op.x().rows(); first += Gram.CHUNK) {
                    long chunk = x + first * op.x().stride() * Float.BYTES;
                    library.sgemm()
                            .invokeExact(
                                    NativeLibrary.ROW_MAJOR,
                                    NativeLibrary.TRANSPOSE,
                                    NativeLibrary.NO_TRANSPOSE,
                                    height,
                                    width,
                                    (int) Math.min(Gram.CHUNK, op.x().rows() - first),
                                    1f,
                                    chunk + row * Float.BYTES,
                                    stride,
                                    chunk + col * Float.BYTES,
                                    stride,
                                    0f,
                                    product,
                                    (int) GRAM_TILE);
                    int status = (int) library.kernel("gram_add_f32")
                            .invokeExact(
                                    product,
                                    GRAM_TILE,
                                    sum + (row * op.sum().stride() + col) * Double.BYTES,
                                    op.sum().stride(),
                                    row == col ? 1 : 0,
                                    (long) width,
                                    0L,
                                    (long) height);
                    if (status != NativeLibrary.OK) {
                        return status;
                    }
                }
            }
            return NativeLibrary.OK;
        });
    }

    private void inverseCholesky(InverseCholesky op) {
        long gram = address(op.gram());
        long factor = address(op.factor());
        MemorySegment status = segment(op.status());
        long size = op.gram().rows();
        int order = int32(op, size);
        double shift = shift(op);
        try (Scope scratch = new Scope(this)) {
            View reversed = scratch.matrix(DType.F64, size, size);
            MemorySegment inverse = segment(reversed);
            long content = inverse.address();
            rows(op, reversed, (from, to) -> (int) library.kernel("inverse_cholesky_load_f64")
                    .invokeExact(gram, op.gram().stride(), shift, content, size, from, to));
            // What is row-major and lower here is column-major and upper there.
            tiles(op, 1, 1, (_, _) -> {
                int failed = (int) library.dpotrf()
                        .invokeExact(
                                NativeLibrary.COLUMN_MAJOR, NativeLibrary.UPPER, order, content, Math.max(1, order));
                return failed < 0 ? NativeLibrary.BAD_ARGUMENT : NativeLibrary.OK;
            });
            long failed = failedPivot(inverse, size);
            status.set(ValueLayout.JAVA_LONG, 0, failed + 1);
            if (failed >= 0) {
                for (long row = 0; row < size; row++) {
                    HostBuffer.segment(NAME, op.factor().rows(row, row + 1)).fill((byte) 0);
                }
                return;
            }
            tiles(op, 1, 1, (_, _) -> {
                int singular = (int) library.dtrtri()
                        .invokeExact(
                                NativeLibrary.COLUMN_MAJOR,
                                NativeLibrary.UPPER,
                                NativeLibrary.NON_UNIT,
                                order,
                                content,
                                Math.max(1, order));
                return singular == 0 ? NativeLibrary.OK : NativeLibrary.BAD_ARGUMENT;
            });
            rows(op, op.factor(), (from, to) -> (int) library.kernel("inverse_cholesky_store_f32")
                    .invokeExact(content, factor, op.factor().stride(), size, from, to));
        }
    }

    /** What damping adds to the diagonal. */
    private static double shift(InverseCholesky op) {
        MemorySegment gram = HostBuffer.segment(NAME, op.gram());
        double sum = 0;
        long live = 0;
        for (long i = 0; i < op.gram().rows(); i++) {
            double value =
                    gram.getAtIndex(ValueLayout.JAVA_DOUBLE, i * (op.gram().stride() + 1));
            sum += value;
            live += value == 0 ? 0 : 1;
        }
        return live == 0 ? 0 : op.damping() * (sum / live);
    }

    /**
     * The input of the first pivot that is no positive number, or -1. LAPACK stops at a pivot that is not positive and leaves
     * it in its place, but it goes on behind a NaN.
     */
    private static long failedPivot(MemorySegment reversed, long size) {
        for (long i = 0; i < size; i++) {
            double pivot = reversed.getAtIndex(ValueLayout.JAVA_DOUBLE, i * (size + 1));
            if (!(pivot > 0 && pivot < Double.POSITIVE_INFINITY)) {
                return size - 1 - i;
            }
        }
        return -1;
    }

    private void layerNorm(LayerNorm op) {
        long x = address(op.x());
        long gain = address(op.gain());
        long bias = address(op.bias());
        long y = address(op.y());
        rows(op, op.x(), (from, to) -> (int) library.kernel("layer_norm_f32")
                .invokeExact(
                        x,
                        op.x().stride(),
                        gain,
                        bias,
                        y,
                        op.y().stride(),
                        op.epsilon(),
                        op.x().cols(),
                        from,
                        to));
    }

    private void lookup(Lookup op) {
        long x = address(op.x());
        long table = address(op.table());
        long y = address(op.y());
        int lowest = Levels.lowest(op.x().dtype());
        var handle = library.kernel(op.y().dtype() == DType.F32 ? "lookup_u8_f32" : "lookup_u8_u8");
        rows(op, op.x(), (from, to) -> (int) handle.invokeExact(
                x, op.x().stride(), lowest, table, y, op.y().stride(), op.x().cols(), from, to));
    }

    private void maskDifference(MaskDifference op) {
        long weights = address(op.weights());
        long mask = address(op.mask());
        long difference = address(op.difference());
        rows(op, op.weights(), (from, to) -> (int) library.kernel("mask_difference_f32")
                .invokeExact(
                        weights,
                        op.weights().stride(),
                        mask,
                        op.mask().stride(),
                        difference,
                        op.difference().stride(),
                        op.weights().cols(),
                        from,
                        to));
    }

    private void maskStep(MaskStep op) {
        long weights = address(op.weights());
        long gradient = address(op.gradient());
        long state = address(op.state());
        MemorySegment invalid = segment(op.invalid());
        long rows = op.weights().rows();
        long cols = op.weights().cols();
        long tile = tileRows(op.weights(), TILE_ELEMENTS);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counts = scratch(arena, ValueLayout.JAVA_LONG, Math.ceilDiv(rows, tile));
            Kernel kernel = switch (op.rule()) {
                case MaskStep.Rule.Soft soft -> {
                    long difference = address(soft.difference());
                    yield (from, to) -> (int) library.kernel("mask_step_soft_f32")
                            .invokeExact(
                                    weights,
                                    op.weights().stride(),
                                    gradient,
                                    op.gradient().stride(),
                                    state,
                                    op.state().stride(),
                                    difference,
                                    soft.difference().stride(),
                                    soft.rate(),
                                    soft.decay(),
                                    counts.address() + from / tile * Long.BYTES,
                                    cols,
                                    from,
                                    to);
                }
                case MaskStep.Rule.Adam adam -> {
                    long first = address(adam.first());
                    long second = address(adam.second());
                    float[] numbers = segment(adam.numbers()).toArray(ValueLayout.JAVA_FLOAT);
                    float rate = numbers[0];
                    float firstCorrection = numbers[1];
                    float secondCorrection = numbers[2];
                    float epsilon = numbers[3];
                    yield (from, to) -> (int) library.kernel("mask_step_adam_f32")
                            .invokeExact(
                                    weights,
                                    op.weights().stride(),
                                    gradient,
                                    op.gradient().stride(),
                                    state,
                                    op.state().stride(),
                                    first,
                                    adam.first().stride(),
                                    second,
                                    adam.second().stride(),
                                    rate,
                                    adam.beta1(),
                                    adam.beta2(),
                                    firstCorrection,
                                    secondCorrection,
                                    epsilon,
                                    counts.address() + from / tile * Long.BYTES,
                                    cols,
                                    from,
                                    to);
                }
            };
            tiles(op, rows, tile, kernel);
            for (long i = 0; i < counts.byteSize() / Long.BYTES; i++) {
                add(invalid, 0, counts.getAtIndex(ValueLayout.JAVA_LONG, i));
            }
        }
    }

    private void maxPoolInt8(MaxPoolInt8 op) {
        long x = address(op.x());
        long y = address(op.y());
        int lowest = Levels.lowest(op.x().dtype());
        try (Arena arena = Arena.ofConfined()) {
            long window = window(arena, op.window()).address();
            rows(op, op.y(), (from, to) -> (int) library.kernel("max_pool_int8_u8")
                    .invokeExact(
                            x,
                            op.x().stride(),
                            lowest,
                            y,
                            op.y().stride(),
                            window,
                            op.x().cols(),
                            from,
                            to));
        }
    }

    private void obsSweep(ObsSweep op) {
        long weights = address(op.weights());
        long factor = address(op.factor());
        long mask = address(op.mask());
        long errors = address(op.errors());
        ObsSweep.Groups groups = op.groups();
        long scale = groups == null ? 0 : address(groups.scale());
        long prune = groups == null ? 0 : groups.prune();
        long size = groups == null ? 0 : groups.size();
        rows(op, op.weights(), (from, to) -> (int) library.kernel("obs_sweep_f32")
                .invokeExact(
                        weights,
                        op.weights().stride(),
                        factor,
                        op.factor().stride(),
                        mask,
                        op.mask().stride(),
                        errors,
                        op.errors().stride(),
                        scale,
                        prune,
                        size,
                        op.weights().cols(),
                        from,
                        to));
    }

    private void quadraticForm(QuadraticForm op) {
        long cols = op.a().cols();
        long gram = address(op.gram());
        long sum = address(op.sum());
        long forms = address(op.forms());
        long most = Math.min(FORM_ROWS, op.a().rows());
        try (Scope scratch = new Scope(this)) {
            View upper = scratch.matrix(cols, cols);
            View products = scratch.matrix(most, cols);
            View differences = op.b() == null ? null : scratch.matrix(most, cols);
            rows(op, upper, (from, to) -> (int) library.kernel("quadratic_form_upper_f64")
                    .invokeExact(gram, op.gram().stride(), address(upper), cols, FORM_BLOCK, from, to));
            for (long first = 0; first < op.a().rows(); first += FORM_ROWS) {
                View a = op.a().rows(first, Math.min(op.a().rows(), first + FORM_ROWS));
                View product = products.rows(0, a.rows());
                View d = op.b() == null ? a : differences.rows(0, a.rows());
                if (op.b() != null) {
                    View b = op.b().rows(first, first + a.rows());
                    rows(op, a, (from, to) -> (int) library.kernel("quadratic_form_difference_f32")
                            .invokeExact(address(a), a.stride(), address(b), b.stride(), address(d), cols, from, to));
                }
                timesUpper(op, d, upper, product);
                long results = forms + first * op.forms().stride() * Double.BYTES;
                rows(op, a, (from, to) -> (int) library.kernel("quadratic_form_f32")
                        .invokeExact(
                                address(d),
                                d.stride(),
                                address(product),
                                sum,
                                results,
                                op.forms().stride(),
                                cols,
                                from,
                                to));
            }
        }
    }

    /** {@code d U} for an upper triangle, a block of columns by the rows above its end; the longest products come first. */
    private void timesUpper(Op op, View d, View upper, View product) {
        long left = address(d);
        long right = address(upper);
        long result = address(product);
        int strideD = leading(op, d);
        int cols = int32(op, upper.cols());
        long down = Math.ceilDiv(d.rows(), FORM_BLOCK);
        long across = Math.ceilDiv(cols, FORM_BLOCK);
        tiles(op, down * across, 1, (from, to) -> {
            long row = from % down * FORM_BLOCK;
            long col = (across - 1 - from / down) * FORM_BLOCK;
            long end = Math.min(cols, col + FORM_BLOCK);
            library.sgemm()
                    .invokeExact(
                            NativeLibrary.ROW_MAJOR,
                            NativeLibrary.NO_TRANSPOSE,
                            NativeLibrary.NO_TRANSPOSE,
                            (int) Math.min(FORM_BLOCK, d.rows() - row),
                            (int) (end - col),
                            (int) end,
                            1f,
                            left + row * strideD * Float.BYTES,
                            strideD,
                            right + col * Float.BYTES,
                            cols,
                            0f,
                            result + (row * cols + col) * Float.BYTES,
                            cols);
            return NativeLibrary.OK;
        });
    }

    private void quantize(Quantize op) {
        long x = address(op.x());
        long y = address(op.y());
        rows(op, op.x(), (from, to) -> (int) library.kernel("quantize_f32")
                .invokeExact(
                        x,
                        op.x().stride(),
                        op.scale(),
                        y,
                        op.y().stride(),
                        op.levels().zero(),
                        op.levels().low(),
                        op.levels().high(),
                        op.x().cols(),
                        from,
                        to));
    }

    private void rmsNorm(RmsNorm op) {
        long x = address(op.x());
        long gain = address(op.gain());
        long y = address(op.y());
        rows(op, op.x(), (from, to) -> (int) library.kernel("rms_norm_f32")
                .invokeExact(
                        x,
                        op.x().stride(),
                        gain,
                        y,
                        op.y().stride(),
                        op.epsilon(),
                        op.x().cols(),
                        from,
                        to));
    }

    private void rmsNormGradient(RmsNormGradient op) {
        long x = address(op.x());
        long gain = address(op.gain());
        long slope = address(op.slope());
        long gradient = address(op.gradient());
        rows(op, op.x(), (from, to) -> (int) library.kernel("rms_norm_gradient_f32")
                .invokeExact(
                        x,
                        op.x().stride(),
                        gain,
                        slope,
                        op.slope().stride(),
                        gradient,
                        op.gradient().stride(),
                        op.epsilon(),
                        op.x().cols(),
                        from,
                        to));
    }

    private void rotary(Rotary op) {
        long x = address(op.x());
        long cosine = address(op.cosine());
        long sine = address(op.sine());
        rows(op, op.x(), (from, to) -> (int) library.kernel("rotary_f32")
                .invokeExact(
                        x,
                        op.x().stride(),
                        cosine,
                        op.cosine().stride(),
                        sine,
                        op.sine().stride(),
                        op.cosine().rows(),
                        (long) op.heads(),
                        op.cosine().cols(),
                        from,
                        to));
    }

    private void scoreHistogram(ScoreHistogram op) {
        long weights = address(op.weights());
        long scale = address(op.scale());
        MemorySegment histogram = segment(op.histogram());
        int prefix = op.half() == ScoreHistogram.Half.HIGH ? -1 : op.prefix();
        long rows = op.weights().rows();
        // Integers add up the same in any split, so this one may follow the threads: each has a histogram of its own.
        long tile = Math.max(tileRows(op.weights(), SELECTION_ELEMENTS), Math.ceilDiv(rows, workers.threads()));
        try (Arena arena = Arena.ofConfined()) {
            long bins = op.histogram().cols();
            MemorySegment partials =
                    scratch(arena, ValueLayout.JAVA_LONG, Math.multiplyExact(bins, Math.ceilDiv(rows, tile)));
            tiles(op, rows, tile, (from, to) -> (int) library.kernel("score_histogram_f32")
                    .invokeExact(
                            weights,
                            op.weights().stride(),
                            scale,
                            prefix,
                            partials.address() + from / tile * bins * Long.BYTES,
                            op.weights().cols(),
                            from,
                            to));
            for (long i = 0; i < partials.byteSize() / Long.BYTES; i++) {
                long value = partials.getAtIndex(ValueLayout.JAVA_LONG, i);
                if (value != 0) {
                    add(histogram, i % bins, value);
                }
            }
        }
    }

    private void scoreSelect(ScoreSelect op) {
        View view = op.weights();
        long weights = address(view);
        long scale = address(op.scale());
        long mask = address(op.mask());
        long stride = view.stride();
        long maskStride = op.mask().stride();
        long cols = view.cols();
        long rows = view.rows();
        long tile = tileRows(view, SELECTION_ELEMENTS);
        switch (op.selection()) {
            case Selection.Matrix(long prune) ->
                scoreSelect(new ScoreSelect(view, op.scale(), op.mask(), cut(view, op.scale(), prune)));
            case Selection.Row(long prune) ->
                tiles(op, rows, tile, (from, to) -> (int) library.kernel("score_select_row_f32")
                        .invokeExact(weights, stride, scale, mask, maskStride, prune, cols, from, to));
            case Selection.Groups(int prune, int size) ->
                tiles(op, rows, tile, (from, to) -> (int) library.kernel("score_select_groups_f32")
                        .invokeExact(
                                weights, stride, scale, mask, maskStride, (long) prune, (long) size, cols, from, to));
            case Selection.Cut(int key, long ties) -> {
                long[] budgets = tieBudgets(op, key, ties, tile);
                tiles(op, rows, tile, (from, to) -> (int) library.kernel("score_select_cut_f32")
                        .invokeExact(
                                weights,
                                stride,
                                scale,
                                mask,
                                maskStride,
                                key,
                                budgets[(int) (from / tile)],
                                cols,
                                from,
                                to));
            }
        }
    }

    /** Where the {@code prune} smallest scores of a matrix end. */
    private Selection.Cut cut(View weights, View scale, long prune) {
        ScoreHistogram.Position high =
                ScoreHistogram.Position.of(histogram(weights, scale, ScoreHistogram.Half.HIGH, 0), prune);
        ScoreHistogram.Position low = ScoreHistogram.Position.of(
                histogram(weights, scale, ScoreHistogram.Half.LOW, high.bin()), high.remaining());
        return new Selection.Cut((high.bin() << ScoreHistogram.LOW_BITS) | low.bin(), low.remaining());
    }

    private long[] histogram(View weights, View scale, ScoreHistogram.Half half, int prefix) {
        try (Scope scratch = new Scope(this)) {
            View histogram = scratch.zeros(DType.I64, 1, half.bins());
            scoreHistogram(new ScoreHistogram(weights, scale, half, prefix, histogram));
            return segment(histogram).toArray(ValueLayout.JAVA_LONG);
        }
    }

    /** How many ties each tile may still take when the tiles above it have taken all of theirs. */
    private long[] tieBudgets(ScoreSelect op, int key, long ties, long tile) {
        long weights = address(op.weights());
        long scale = address(op.scale());
        long rows = op.weights().rows();
        long[] budgets = new long[Math.toIntExact(Math.ceilDiv(rows, tile))];
        if (ties == 0) {
            return budgets;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counts = scratch(arena, ValueLayout.JAVA_LONG, budgets.length);
            tiles(op, rows, tile, (from, to) -> (int) library.kernel("score_select_ties_f32")
                    .invokeExact(
                            weights,
                            op.weights().stride(),
                            scale,
                            key,
                            counts.address() + from / tile * Long.BYTES,
                            op.weights().cols(),
                            from,
                            to));
            long left = ties;
            for (int i = 0; i < budgets.length; i++) {
                budgets[i] = left;
                left = Math.max(0, left - counts.getAtIndex(ValueLayout.JAVA_LONG, i));
            }
        }
        return budgets;
    }

    private void softHistogram(SoftHistogram op) {
        long values = address(op.values());
        MemorySegment mass = segment(op.mass());
        MemorySegment outside = segment(op.outside());
        SoftHistogram.Bins bins = op.bins();
        long elements = op.values().elements();
        long tile = Math.max(TILE_ELEMENTS, Math.ceilDiv(elements, REDUCTION_TILES));
        long tiles = Math.ceilDiv(elements, tile);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment masses = scratch(arena, ValueLayout.JAVA_DOUBLE, tiles * bins.count());
            MemorySegment beyond = scratch(arena, ValueLayout.JAVA_LONG, tiles);
            tiles(op, elements, tile, (from, to) -> (int) library.kernel("soft_histogram_f32")
                    .invokeExact(
                            values,
                            op.values().stride(),
                            bins.first(),
                            bins.spacing(),
                            bins.bandwidth(),
                            bins.count(),
                            bins.reach(),
                            shares(op.kind()),
                            masses.address() + from / tile * bins.count() * Double.BYTES,
                            beyond.address() + from / tile * Long.BYTES,
                            op.values().cols(),
                            from,
                            to));
            for (long i = 0; i < tiles; i++) {
                add(outside, 0, beyond.getAtIndex(ValueLayout.JAVA_LONG, i));
                for (int bin = 0; bin < bins.count(); bin++) {
                    double sum = mass.getAtIndex(ValueLayout.JAVA_DOUBLE, bin)
                            + masses.getAtIndex(ValueLayout.JAVA_DOUBLE, i * bins.count() + bin);
                    mass.setAtIndex(ValueLayout.JAVA_DOUBLE, bin, sum);
                }
            }
        }
    }

    private void softHistogramGradient(SoftHistogramGradient op) {
        long values = address(op.values());
        long slope = address(op.slope());
        long gradient = address(op.gradient());
        SoftHistogram.Bins bins = op.bins();
        tiles(
                op,
                op.values().elements(),
                TILE_ELEMENTS,
                (from, to) -> (int) library.kernel("soft_histogram_gradient_f32")
                        .invokeExact(
                                values,
                                op.values().stride(),
                                bins.first(),
                                bins.spacing(),
                                bins.bandwidth(),
                                bins.count(),
                                bins.reach(),
                                shares(op.kind()),
                                slope,
                                gradient,
                                op.gradient().stride(),
                                op.values().cols(),
                                from,
                                to));
    }

    private static int shares(SoftHistogram.Mass kind) {
        return kind == SoftHistogram.Mass.SHARES ? 1 : 0;
    }

    private void sparseGemv(SparseGemv op) {
        long values = address(op.values());
        long mask = address(op.mask());
        long starts = address(op.starts());
        long x = address(op.x());
        long bias = address(op.bias());
        long y = address(op.y());
        var handle = library.kernel("sparse_gemv_" + op.values().dtype().label());
        tiles(op, op.y().cols(), streamRows(op.y().cols(), op.x().cols()), (from, to) -> {
            int status = (int) handle.invokeExact(
                    values,
                    op.values().cols(),
                    mask,
                    op.mask().stride(),
                    starts,
                    x,
                    op.x().stride(),
                    op.x().rows(),
                    bias,
                    y,
                    op.y().stride(),
                    op.x().cols(),
                    from,
                    to);
            if (status == NativeLibrary.BAD_ARGUMENT) {
                throw op.broken(NAME);
            }
            return status;
        });
    }

    private static long streamRows(long rows, long cols) {
        double elements = (double) rows * cols;
        if (elements <= STREAM_ELEMENTS / 2) {
            return Math.max(1, rows);
        }
        long tiles = STREAM_TILES * (long) Math.ceil(elements / (STREAM_ELEMENTS * STREAM_TILES));
        return Math.ceilDiv(rows, tiles);
    }

    private static void add(MemorySegment counts, long index, long value) {
        counts.setAtIndex(ValueLayout.JAVA_LONG, index, counts.getAtIndex(ValueLayout.JAVA_LONG, index) + value);
    }

    /** Address of a view's first element, 0 for none. Fails for memory of other backends and for closed buffers. */
    private long address(View view) {
        return view == null ? 0 : segment(view).address();
    }

    /** As {@link #address}, for what Java reads or writes too. */
    private MemorySegment segment(View view) {
        interceptor.uses(view);
        return HostBuffer.segment(NAME, view);
    }

    private void stateCounts(StateCounts op) {
        long x = address(op.x());
        MemorySegment counts = segment(op.counts());
        long rows = op.x().rows();
        long units = op.units();
        long tile = Math.max(tileRows(op.x(), TILE_ELEMENTS), Math.ceilDiv(rows, REDUCTION_TILES));
        long tiles = Math.ceilDiv(rows, tile);
        long size = StateCounts.STATES * units;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment partials = scratch(arena, ValueLayout.JAVA_LONG, Math.multiplyExact(tiles, size));
            tiles(op, rows, tile, (from, to) -> (int) library.kernel("state_counts_f32")
                    .invokeExact(
                            x,
                            op.x().stride(),
                            units,
                            op.inner(),
                            from,
                            to,
                            partials.address() + from / tile * size * Long.BYTES));
            for (long i = 0; i < tiles * size; i++) {
                long place = i % size;
                add(
                        counts,
                        place / units * op.counts().stride() + place % units,
                        partials.getAtIndex(ValueLayout.JAVA_LONG, i));
            }
        }
    }

    /** Zeroed memory for what tiles compute before it is merged: the only memory beside views that an op gives to kernels. */
    private MemorySegment scratch(Arena arena, ValueLayout element, long count) {
        MemorySegment memory = arena.allocate(element, count);
        interceptor.uses(memory);
        return memory;
    }

    private static long tileRows(View view, long elements) {
        return Math.max(1, elements / Math.max(1, view.cols()));
    }

    private static long reductionRows(long rows) {
        return Math.max(REDUCTION_ROWS, Math.ceilDiv(rows, REDUCTION_TILES));
    }

    /** A kernel on the rows {@code from} to {@code to} (exclusive); returns its status. */
    @FunctionalInterface
    private interface Kernel {
        int run(long from, long to) throws Throwable;
    }

    /** An op whose rows do not touch each other. */
    private void rows(Op op, View view, Kernel kernel) {
        tiles(op, view.rows(), tileRows(view, TILE_ELEMENTS), kernel);
    }

    private void tiles(Op op, long total, long tile, Kernel kernel) {
        tiles(op.name(), total, tile, kernel);
    }

    private void tiles(String name, long total, long tile, Kernel kernel) {
        try {
            workers.run(Math.ceilDiv(total, tile), index -> {
                int status = kernel.run(index * tile, Math.min(total, (index + 1) * tile));
                if (status != NativeLibrary.OK) {
                    throw failure(name, status);
                }
            });
        } catch (Workers.TileException e) {
            if (e.getCause() instanceof DeviceException failure) {
                throw failure;
            }
            throw new DeviceException(
                    NAME, name, "a worker thread failed with " + e.getCause(), DeviceException.Kind.INTERNAL, e);
        }
    }

    private static DeviceException failure(String name, int status) {
        return switch (status) {
            case NativeLibrary.OUT_OF_MEMORY ->
                new DeviceException(
                        NAME,
                        name,
                        status,
                        "no memory for scratch; use a smaller batch or fewer threads",
                        DeviceException.Kind.OUT_OF_MEMORY);
            case NativeLibrary.BAD_ARGUMENT ->
                new DeviceException(NAME, name, status, "an argument is out of range", DeviceException.Kind.LAUNCH);
            default -> new DeviceException(NAME, name, status, "unknown status", DeviceException.Kind.INTERNAL);
        };
    }
}
