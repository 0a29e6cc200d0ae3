package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.function.DoubleSupplier;
import java.util.function.Function;
import org.sentei.kernel.OpCase.Fill;
import org.sentei.kernel.OpCase.Operand;
import org.sentei.kernel.OpCase.Role;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;

/**
 * The one catalogue of cases: the conformance tests, {@code sentei doctor} and the benchmarks read it.
 *
 * <p>Sizes are 1, 2, primes, powers of two and their neighbours, and some beyond any tile; values are random-signed, all
 * equal, tied, sorted, denormal, infinite or NaN. Most rows begin just anywhere; those that begin every so many times 16 bytes,
 * as most rows of models do, can take another kernel, so every op has cases of both.
 */
public final class OpCases {
    private static final Tolerance EXACT = new Tolerance.Exact();
    /** Exact but for the sign and payload of a NaN that was computed, which IEEE 754 leaves to the machine. */
    private static final Tolerance EXACT_VALUES = new Tolerance.Rounding(0);
    /** An elementary function may lose some units in the last place to its polynomial, more where it nears zero. */
    private static final Tolerance ELEMENTARY = new Tolerance.Rounding(16, 1e-3);

    private static final int[] WIDTHS = {1, 2, 7, 31, 32, 33, 64, 127, 129, 257};

    /** Elements after which the operands of a large case repeat: a prime, so that rows differ. */
    private static final long PERIOD = 65521;

    private OpCases() {}

    /** What makes the cases of one op: apart, for all of them take longer than a plan may. */
    private record Family(Class<? extends Op> op, Consumer<List<OpCase>> cases) {}

    private static final List<Family> FAMILIES = List.of(
            new Family(Activate.class, OpCases::activate),
            new Family(Aggregate.class, OpCases::aggregate),
            new Family(ApplyMask.class, OpCases::applyMask),
            new Family(Attention.class, OpCases::attention),
            new Family(AttentionResidual.class, OpCases::attentionResidual),
            new Family(BandStop.class, OpCases::bandStop),
            new Family(Cast.class, OpCases::cast),
            new Family(ColumnMoments.class, OpCases::columnMoments),
            new Family(CombineInt8.class, OpCases::combineInt8),
            new Family(Conv2dInt8.class, OpCases::conv2dInt8),
            new Family(CountValues.class, OpCases::countValues),
            new Family(Embedding.class, OpCases::embedding),
            new Family(Gemm.class, OpCases::gemm),
            new Family(Gemv.class, OpCases::gemv),
            new Family(Gram.class, OpCases::gram),
            new Family(InverseCholesky.class, OpCases::inverseCholesky),
            new Family(LayerNorm.class, OpCases::layerNorm),
            new Family(Lookup.class, OpCases::lookup),
            new Family(MaskDifference.class, OpCases::maskDifference),
            new Family(MaskStep.class, OpCases::maskStep),
            new Family(MaxPoolInt8.class, OpCases::maxPoolInt8),
            new Family(ObsSweep.class, OpCases::obsSweep),
            new Family(QuadraticForm.class, OpCases::quadraticForm),
            new Family(Quantize.class, OpCases::quantize),
            new Family(RmsNorm.class, OpCases::rmsNorm),
            new Family(RmsNormGradient.class, OpCases::rmsNormGradient),
            new Family(Rotary.class, OpCases::rotary),
            new Family(ScoreHistogram.class, OpCases::scoreHistogram),
            new Family(ScoreSelect.class, OpCases::scoreSelect),
            new Family(SoftHistogram.class, OpCases::softHistogram),
            new Family(SoftHistogramGradient.class, OpCases::softHistogramGradient),
            new Family(SparseGemv.class, OpCases::sparseGemv),
            new Family(StateCounts.class, OpCases::stateCounts));

    /** All cases, grouped by op. */
    public static List<OpCase> all() {
        List<OpCase> cases = new ArrayList<>();
        FAMILIES.forEach(family -> family.cases().accept(cases));
        return List.copyOf(cases);
    }

    /**
     * Cases worth timing, of every op one at least: the shapes of Llama 2 7B, OPT 125M and MiniLM. They may run on the same
     * operands again and again: what is updated in place stays in range.
     */
    public static List<OpCase> benchmarks() {
        List<OpCase> cases = new ArrayList<>();
        cases.add(activation(Activate.Function.GELU, 16384, 1536, 0, false, normal(1), ELEMENTARY));
        cases.add(activation(Activate.Function.SILU, 2048, 11008, 0, true, normal(1), ELEMENTARY));
        cases.add(mask(4096, 4096, 0, false, normal(1)));
        cases.add(mask(11008, 4096, 0, true, normal(1)));
        attention(cases, "64 times 256 tokens, 12 heads of 32", 64, heads(12, 32, 256, false), false);
        attention(cases, "512 tokens, 8 heads of 64", 1, heads(8, 64, 512, false), false);
        attention(cases, "causal 2048 tokens, 12 heads of 64", 1, heads(12, 64, 2048, true), false);
        residual(cases, "512 tokens, 8 heads of 64", 1, heads(8, 64, 512, false), false, true, 0.1);
        residual(cases, "causal 2048 tokens, 12 heads of 64", 1, heads(12, 64, 2048, true), false, true, 0.1);
        cases.add(bandStop(1024, 1024, 0, new BandStop.Form.Sigmoid(1.645f), 10, true, normal(1)));
        cases.add(aggregate("82192 nodes", 82192, 82192, 313222, 64, normal(1)));
        cases.add(cast(DType.F32, DType.BF16, false, 4096, 11008, normal(1)));
        cases.add(cast(DType.BF16, DType.F32, false, 4096, 11008, of(DType.BF16, normal(1))));
        cases.add(cast(DType.F32, DType.F32, true, 4096, 4096, normal(1)));
        cases.add(moments("32768x4096", 32768, 4096, 0, normal(1)));
        cases.add(moments("16384x384", 16384, 384, 0, normal(1)));
        cases.add(combine("sum 3136x256", DType.U8, 3136, 256, 1, false));
        cases.add(combine("factor a channel 3136x144", DType.U8, 3136, 144, 3136, true));
        convolutions(cases);
        cases.add(lookup(DType.U8, DType.U8, 3136, 256));
        cases.add(lookup(DType.U8, DType.F32, 3136, 256));
        cases.add(maxPool("112x112, 64 channels, 3 by 2", DType.U8, Window.square(112, 112, 3, 2, 1), 1, 64));
        cases.add(quantize("16384x256", DType.U8, 16384, 256, normal(1)));
        cases.add(count("11008x4096", 11008, 4096, normal(1)));
        cases.add(embedding("16384 tokens of 384", 30522, 384, 16384, false));
        cases.add(embedding("2048 tokens of 4096 accumulated", 32000, 4096, 2048, true));
        cases.add(gemm(1, 4096, 11008, true, false, false));
        cases.add(gemm(512, 4096, 1024, true, false, false));
        cases.add(gemm(1024, 1024, 1024, false, false, false));
        cases.add(gemm(2048, 384, 1536, true, false, true));
        cases.add(gemv(DType.BF16, 11008, 4096, 1, false, normal(1)));
        cases.add(gemv(DType.F32, 11008, 4096, 1, false, normal(1)));
        cases.add(gram("4096x768", 4096, 768, normal(1)));
        cases.add(inverse("768", 768, 0.01, gramOf(300, 0)));
        cases.add(layerNorm("16384x384", 16384, 384, 0, normal(1)));
        cases.add(layerNorm("8192x4096", 8192, 4096, 0, normal(1)));
        cases.add(difference(4096, 4096, 0, normal(1)));
        cases.add(step(4096, 4096, 0, false, normal(1), normal(1)));
        cases.add(step(4096, 4096, 0, true, normal(1), normal(1)));
        cases.add(rmsNorm("8192x4096", 8192, 4096, 0, normal(1)));
        cases.add(rmsNormGradient("65536x128", 65536, 128, 0, 1, normal(1)));
        cases.add(sweep("given mask 4096x128", 4096, 128, 0, 0, 0, normal(1)));
        cases.add(sweep("2:4 of 4096x128", 4096, 128, 2, 4, 0, normal(1)));
        cases.add(quadraticForm(3072, 768, true, normal(1)));
        // A turn by an eighth, again and again, keeps the length of what is turned.
        cases.add(rotary(1, 2048, 32, 64, 0, constant(Math.sqrt(0.5)), normal(1)));
        int high = ScoreSelect.key(0.5f, 1) >>> ScoreHistogram.LOW_BITS;
        cases.add(histogram("high 11008x4096", 11008, 4096, true, ScoreHistogram.Half.HIGH, 0, normal(1)));
        cases.add(histogram("low 11008x4096", 11008, 4096, true, ScoreHistogram.Half.LOW, high, normal(1)));
        cases.add(select("row half of 4096x4096", 4096, 4096, true, new Selection.Row(2048), normal(1)));
        cases.add(select("row half of 11008x4096", 11008, 4096, true, new Selection.Row(2048), normal(1)));
        cases.add(select("row half of 4096x11008", 4096, 11008, true, new Selection.Row(5504), normal(1)));
        cases.add(select("2:4 of 11008x4096", 11008, 4096, true, new Selection.Groups(2, 4), normal(1)));
        cases.add(select("half of 4096x4096", 4096, 4096, false, new Selection.Matrix(1 << 23), uniform(0, 1)));
        Selection cut = new Selection.Cut(ScoreSelect.key(0.5f, 1), 0);
        cases.add(select("cut of 11008x4096", 11008, 4096, true, cut, normal(1)));
        SoftHistogram.Bins bins = new SoftHistogram.Bins(-4, 0.08f, 100, 0.08f);
        for (SoftHistogram.Mass kind : SoftHistogram.Mass.values()) {
            cases.add(softHistogram(1, 1 << 20, 0, bins, kind, normal(1)));
            cases.add(softHistogramGradient(1, 1 << 20, 0, bins, kind, normal(1)));
        }
        cases.add(sparseGemv(DType.BF16, 11008, 4096, 1, 0.5, false, normal(1)));
        cases.add(sparseGemv(DType.BF16, 11008, 4096, 1, 0.3, false, normal(1)));
        cases.add(states("64 images of 64 channels of 56x56", 64, 64, 56 * 56, 0, normal(1)));
        cases.add(states("16384 tokens of 1536", 16384, 1536, 1, 0, normal(1)));
        return cases.stream().map(OpCases::large).toList();
    }

    /**
     * Cases at the shapes of Llama 2 7B and 70B, Llama 3 8B, Llama 3.2 1B, OPT 125M and BERT small, those that tell most first:
     * for GPUs, and to be chosen expressly, because they take gigabytes and a processor minutes. Names differ from those of
     * {@link #benchmarks}, which has some of these shapes already.
     *
     * <p>Weights are normal with standard deviation 0.02, the scale of their columns is lognormal.
     */
    public static List<OpCase> modelShapes() {
        List<OpCase> cases = new ArrayList<>();
        int[][] tokens = {
            {262144, 4096},
            {32768, 11008},
            {32768, 14336},
            {32768, 2048},
            {8192, 28672},
            {32768, 768},
            {32768, 3072},
            {32768, 512}
        };
        for (int[] shape : tokens) {
            cases.add(moments(shape[0] + "x" + shape[1], shape[0], shape[1], 0, normal(1)));
        }
        int[][] main = {
            {4096, 4096}, {11008, 4096}, {4096, 11008}, {14336, 4096}, {4096, 14336}, {2048, 2048}, {8192, 28672}
        };
        int[][] other = {
            {1024, 4096},
            {512, 2048},
            {8192, 2048},
            {2048, 8192},
            {768, 768},
            {3072, 768},
            {768, 3072},
            {512, 512},
            {2048, 512}
        };
        List<int[]> shapes = new ArrayList<>(List.of(main));
        shapes.addAll(List.of(other));
        shapes.forEach(shape -> cases.add(prune(50, shape[0], shape[1])));
        shapes.forEach(shape -> cases.add(prune(2, 4, shape[0], shape[1])));
        for (int[] shape : shapes) {
            if (shape[0] != 11008) { // which every run of the benchmarks has
                cases.add(mask(shape[0], shape[1], 0, true, normal(1)));
            }
        }
        for (int[] shape : main) {
            cases.add(prune(60, shape[0], shape[1]));
            cases.add(prune(75, shape[0], shape[1]));
            cases.add(prune(4, 8, shape[0], shape[1]));
        }
        attention(cases, "causal 2048 tokens, 32 heads of 128", 1, heads(32, 128, 2048, true), false);
        attention(cases, "2048 tokens, 32 heads of 128", 1, heads(32, 128, 2048, false), false);
        attention(cases, "causal 2048 tokens, 32 over 8 heads of 64", 1, grouped(true), false);
        attention(cases, "2048 tokens, 32 over 8 heads of 64", 1, grouped(false), false);
        attention(cases, "2048 tokens, 12 heads of 64", 1, heads(12, 64, 2048, false), false);
        attention(cases, "causal 512 tokens, 8 heads of 64", 1, heads(8, 64, 512, true), false);
        for (int cols : new int[] {4096, 11008, 14336, 8192, 2048, 3072, 768, 512}) {
            cases.add(gram("8192x" + cols, 8192, cols, normal(1)));
        }
        for (int rows : new int[] {4096, 11008, 14336, 8192, 2048, 768}) {
            if (rows != 4096) {
                cases.add(sweep("given mask " + rows + "x128", rows, 128, 0, 0, 0, normal(0.02)));
                cases.add(sweep("2:4 of " + rows + "x128", rows, 128, 2, 4, 0, normal(0.02)));
            }
            cases.add(sweep("4:8 of " + rows + "x128", rows, 128, 4, 8, 0, normal(0.02)));
        }
        int[][] products = {
            {4096, 4096},
            {11008, 4096},
            {4096, 11008},
            {14336, 4096},
            {4096, 14336},
            {2048, 2048},
            {8192, 2048},
            {8192, 28672},
            {3072, 768},
            {768, 3072}
        };
        for (int[] shape : products) {
            cases.add(gemm(2048, shape[1], shape[0], true, false, false));
        }
        for (int cols : new int[] {2048, 8192}) {
            cases.add(rmsNorm("8192x" + cols, 8192, cols, 0, normal(1)));
        }
        for (int cols : new int[] {768, 512}) {
            cases.add(layerNorm("8192x" + cols, 8192, cols, 0, normal(1)));
        }
        cases.add(rotary(1, 2048, 32, 32, 0, constant(Math.sqrt(0.5)), normal(1)));
        cases.add(rotary(1, 2048, 64, 64, 0, constant(Math.sqrt(0.5)), normal(1)));
        for (int cols : new int[] {14336, 8192, 28672}) {
            cases.add(activation(Activate.Function.SILU, 2048, cols, 0, true, normal(1), ELEMENTARY));
        }
        cases.add(activation(Activate.Function.RELU, 2048, 3072, 0, false, normal(1), ELEMENTARY));
        return cases.stream().map(OpCases::large).toList();
    }

    private static OpCase prune(int percent, long rows, long cols) {
        String label = percent + " % of " + rows + "x" + cols;
        return prune(label, rows, cols, new Selection.Row(cols * percent / 100));
    }

    private static OpCase prune(int prune, int size, long rows, long cols) {
        return prune(
                prune + ":" + size + " of " + rows + "x" + cols + " lognormal",
                rows,
                cols,
                new Selection.Groups(prune, size));
    }

    private static OpCase prune(String label, long rows, long cols, Selection selection) {
        return new OpCase(
                ScoreSelect.class,
                label,
                EXACT,
                List.of(
                        read("weights", rows, cols, normal(0.02)),
                        write("mask", DType.I32, rows, BitMask.wordsPerRow(cols), 0),
                        read("scale", 1, cols, lognormal())),
                views -> new ScoreSelect(views.get(0), views.get(2), views.get(1), selection));
    }

    private static Attention.Geometry heads(int heads, int size, long length, boolean causal) {
        return new Attention.Geometry(heads, heads, size, length, (float) (1 / Math.sqrt(size)), causal, 0);
    }

    /** Those of Llama 3.2 1B: four heads read the same keys. */
    private static Attention.Geometry grouped(boolean causal) {
        return new Attention.Geometry(32, 8, 64, 2048, 0.125f, causal, 0);
    }

    /** The same case without gaps between rows, and with operands that are filled fast. */
    private static OpCase large(OpCase opCase) {
        List<Operand> operands = opCase.operands().stream()
                .map(operand -> new Operand(
                        operand.name(),
                        operand.role(),
                        operand.dtype(),
                        operand.rows(),
                        operand.cols(),
                        0,
                        operand.fill() instanceof Profile profile ? repeated(profile) : operand.fill()))
                .toList();
        return new OpCase(opCase.op(), opCase.label(), opCase.tolerance(), operands, opCase.build());
    }

    /** An op of this kind over memory that does not exist: good for asking {@link Backend#supports}, not for running. */
    public static Op example(Class<? extends Op> op) {
        Family family = FAMILIES.stream()
                .filter(known -> known.op().equals(op))
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException(op + " has no case"));
        List<OpCase> cases = new ArrayList<>();
        family.cases().accept(cases);
        return unbacked(cases.getFirst());
    }

    /** The case's op over memory that does not exist: for asking what it costs and who supports it. */
    public static Op unbacked(OpCase opCase) {
        return opCase.build().apply(unplaced(opCase));
    }

    /** The case's operands over memory that does not exist, each in a buffer of its own. */
    static List<View> unplaced(OpCase opCase) {
        return opCase.operands().stream()
                .map(operand -> View.of(new Unbacked(), operand.dtype(), operand.rows(), operand.cols()))
                .toList();
    }

    /** A buffer of any size without memory. */
    private static final class Unbacked implements Buffer {
        @Override
        public long bytes() {
            return Long.MAX_VALUE;
        }

        @Override
        public void close() {}
    }

    private static void activate(List<OpCase> cases) {
        for (Activate.Function function : Activate.Function.values()) {
            for (int cols : new int[] {1, 31, 129, 1025}) {
                for (boolean gated : new boolean[] {false, true}) {
                    cases.add(activation(function, 3, cols, 1, gated, normal(2), ELEMENTARY));
                }
            }
            for (boolean gated : new boolean[] {false, true}) {
                cases.add(activation(function, 3, 1028, 4, gated, normal(2), ELEMENTARY));
            }
            cases.add(activation(function, 2, 36, 4, true, nan(special(normal(2))), ELEMENTARY));
            cases.add(activation(function, 2, 68, 4, false, uniform(-1e-38, 1e-38), new Tolerance.Rounding(16)));
            cases.add(activation(function, 2, 64, 1, false, uniform(-40, 40), ELEMENTARY));
            cases.add(activation(function, 2, 67, 1, false, uniform(-1e-38, 1e-38), new Tolerance.Rounding(16)));
            cases.add(new OpCase(
                    Activate.class,
                    function + " in place",
                    ELEMENTARY,
                    List.of(update("x", 5, 37, normal(1))),
                    views -> new Activate(function, views.get(0), null, views.get(0))));
        }
        cases.add(activation(Activate.Function.RELU, 1, 65, 1, false, special(normal(1)), ELEMENTARY));
        cases.add(activation(Activate.Function.SILU, 1, 65, 1, false, nan(normal(1)), ELEMENTARY));
    }

    private static OpCase activation(
            Activate.Function function, long rows, long cols, long gap, boolean gated, Fill fill, Tolerance tolerance) {
        List<Operand> operands = new ArrayList<>(
                List.of(read("x", DType.F32, rows, cols, 3 * gap, fill), write("y", DType.F32, rows, cols, gap)));
        if (gated) {
            operands.add(read("multiplier", rows, cols, normal(1)));
        }
        return new OpCase(
                Activate.class,
                function + " " + rows + "x" + cols + (gated ? " gated" : "") + fill,
                tolerance,
                operands,
                views -> new Activate(function, views.get(0), gated ? views.get(2) : null, views.get(1)));
    }

    private static void aggregate(List<OpCase> cases) {
        for (int features : WIDTHS) {
            cases.add(aggregate("11 nodes", 11, 7, 30, features, normal(1)));
        }
        cases.add(aggregate("300 nodes", 300, 301, 2000, 66, normal(1)));
        cases.add(aggregate("one node of many edges", 1, 50, 5000, 33, normal(1)));
        cases.add(aggregate("no edges", 5, 3, 0, 17, normal(1)));
        cases.add(aggregate("no nodes", 0, 3, 0, 17, normal(1)));
        // An edge a node: of more the sum may overflow in fp32 alone.
        cases.add(aggregate("30 nodes", 30, 7, 20, 40, nan(special(normal(1)))));
        cases.add(aggregate("11 nodes", 11, 7, 30, 40, nan(normal(1))));
        cases.add(aggregate("11 nodes", 11, 7, 30, 40, uniform(-1e-38, 1e-38)));
    }

    /** Every third node has no edges, the last ones share what is left. */
    private static OpCase aggregate(String label, int nodes, int sources, int edges, long features, Fill x) {
        long[] starts = new long[nodes + 1];
        for (int node = 0; node < nodes; node++) {
            long end = node == nodes - 1 ? edges : (long) edges * (node + 1) / nodes;
            starts[node + 1] = node % 3 == 2 && node < nodes - 1 ? starts[node] : end;
        }
        return new OpCase(
                Aggregate.class,
                label + ", " + edges + " edges, " + features + " features" + x,
                new Tolerance.Rounding(8 + 2.0 * Math.ceilDiv(3 * edges, Math.max(1, nodes)), 1),
                List.of(
                        read("starts", DType.I64, 1, nodes + 1L, 0, bytes(MemorySegment.ofArray(starts))),
                        read("neighbours", DType.I32, 1, edges, 0, ints(sources)),
                        read("weights", DType.F32, 1, edges, 0, uniform(-1, 1)),
                        read("x", DType.F32, sources, features, 1, x),
                        write("y", DType.F32, nodes, features, 2)),
                views -> new Aggregate(views.get(0), views.get(1), views.get(2), views.get(3), views.get(4)));
    }

    private static void applyMask(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            for (boolean biased : new boolean[] {false, true}) {
                cases.add(mask(5, cols, 2, biased, normal(1)));
            }
        }
        for (boolean biased : new boolean[] {false, true}) {
            cases.add(mask(5, 36, 4, biased, normal(1)));
            cases.add(mask(9, 1124, 8, biased, normal(1)));
            cases.add(mask(4, 64, 4, biased, uniform(-1e-38, 1e-38)));
        }
        cases.add(mask(6, 68, 4, false, nan(special(normal(1)))));
        cases.add(mask(6, 100, 4, true, nan(normal(1))));
    }

    private static OpCase mask(long rows, long cols, long gap, boolean biased, Fill fill) {
        List<Operand> operands = new ArrayList<>(List.of(
                new Operand("weights", Role.UPDATE, DType.F32, rows, cols, gap, fill),
                read("mask", DType.I32, rows, BitMask.wordsPerRow(cols), 1, maskBits(cols))));
        if (biased) {
            operands.add(read("mean", 1, cols, normal(1)));
            operands.add(update("bias", 1, rows, normal(1)));
        }
        return new OpCase(
                ApplyMask.class,
                rows + "x" + cols + (biased ? " bias" : "") + fill,
                new Tolerance.Rounding(2),
                operands,
                views -> new ApplyMask(
                        views.get(0), views.get(1), biased ? views.get(2) : null, biased ? views.get(3) : null));
    }

    private static void attention(List<OpCase> cases) {
        attention(cases, "one token", 1, new Attention.Geometry(1, 1, 1, 1, 1f, false, 0), false);
        attention(cases, "bidirectional", 2, new Attention.Geometry(3, 3, 7, 5, 0.4f, false, 0), false);
        attention(cases, "bidirectional padded", 3, new Attention.Geometry(4, 4, 8, 17, 0.35f, false, 0), true);
        attention(cases, "causal", 2, new Attention.Geometry(2, 2, 16, 33, 0.25f, true, 0), false);
        attention(cases, "causal grouped", 2, new Attention.Geometry(6, 2, 32, 64, 0.18f, true, 0), false);
        attention(cases, "causal one key head", 1, new Attention.Geometry(5, 1, 12, 31, 0.3f, true, 0), false);
        attention(cases, "causal window", 2, new Attention.Geometry(4, 2, 16, 65, 0.25f, true, 8), false);
        attention(cases, "causal padded", 2, new Attention.Geometry(2, 1, 64, 129, 0.125f, true, 0), true);
        attention(cases, "beyond a tile", 1, new Attention.Geometry(2, 2, 128, 300, 0.09f, true, 0), false);
        attention(cases, "sharp", 1, new Attention.Geometry(2, 2, 8, 40, 30f, false, 0), false);
    }

    private static void attention(
            List<OpCase> cases, String label, long sequences, Attention.Geometry geometry, boolean padded) {
        long tokens = sequences * geometry.length();
        long width = (long) geometry.heads() * geometry.headSize();
        long keyWidth = (long) geometry.keyHeads() * geometry.headSize();
        List<Operand> operands = new ArrayList<>(List.of(
                read("query", DType.F32, tokens, width, 1, normal(1)),
                read("key", DType.F32, tokens, keyWidth, 2, normal(1)),
                read("value", DType.F32, tokens, keyWidth, 0, normal(1)),
                write("output", DType.F32, tokens, width, 5)));
        if (padded) {
            operands.add(read("visible", DType.I32, sequences, geometry.length(), 0, padding()));
        }
        // A softmax turns the absolute error of a logit into a relative error of its weight.
        double terms = 16 + 4 * Math.abs(geometry.scale()) * geometry.headSize() * 4 + geometry.length();
        cases.add(new OpCase(
                Attention.class,
                label,
                new Tolerance.Rounding(terms),
                operands,
                views -> new Attention(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        padded ? views.get(4) : null,
                        views.get(3),
                        geometry)));
    }

    private static void attentionResidual(List<OpCase> cases) {
        for (boolean gradients : new boolean[] {true, false}) {
            residual(cases, "one token", 1, new Attention.Geometry(1, 1, 1, 1, 1f, false, 0), false, gradients, 0.5);
            residual(cases, "tokens alone", 5, new Attention.Geometry(2, 1, 7, 1, 1f, true, 0), false, gradients, 0.5);
            residual(
                    cases,
                    "bidirectional",
                    2,
                    new Attention.Geometry(3, 3, 7, 5, 0.4f, false, 0),
                    false,
                    gradients,
                    0.5);
            residual(
                    cases,
                    "bidirectional padded",
                    3,
                    new Attention.Geometry(4, 4, 8, 17, 0.35f, false, 0),
                    true,
                    gradients,
                    0.5);
        }
        Attention.Geometry causal = new Attention.Geometry(2, 2, 16, 33, 0.25f, true, 0);
        for (double spread : new double[] {0, 1e-38, 1e-5, 1e-3, 0.05, 1}) {
            residual(cases, "causal", 2, causal, false, true, spread);
            residual(cases, "bidirectional", 1, heads(2, 32, 100, false), false, true, spread);
        }
        residual(cases, "causal grouped", 2, new Attention.Geometry(6, 2, 32, 64, 0.18f, true, 0), false, true, 0.1);
        residual(
                cases, "causal one key head", 1, new Attention.Geometry(5, 1, 12, 31, 0.3f, true, 0), false, true, 0.1);
        residual(cases, "causal window", 2, new Attention.Geometry(4, 2, 16, 65, 0.25f, true, 8), false, true, 0.3);
        residual(cases, "causal window of one", 1, new Attention.Geometry(2, 2, 4, 20, 1f, true, 1), false, true, 0.3);
        residual(cases, "causal padded", 2, new Attention.Geometry(2, 1, 64, 129, 0.125f, true, 0), true, true, 0.2);
        residual(cases, "beyond a tile", 1, new Attention.Geometry(2, 2, 128, 300, 0.09f, true, 0), false, true, 0.2);
        residual(cases, "several parts", 1, new Attention.Geometry(2, 1, 8, 1100, 0.35f, true, 0), false, true, 0.2);
        residual(cases, "sharp", 1, new Attention.Geometry(2, 2, 8, 40, 5f, false, 0), false, true, 0.01);
        residual(cases, "far apart", 1, new Attention.Geometry(2, 2, 8, 40, 5f, true, 0), false, true, 3);
        Attention.Geometry last = new Attention.Geometry(4, 2, 8, 40, 0.35f, true, 0);
        for (String operand : new String[] {"query", "key", "query difference", "key difference"}) {
            cases.add(residual("causal broken " + operand, 3, last, false, true, 0.2, operand));
        }
    }

    private static void residual(
            List<OpCase> cases,
            String label,
            long sequences,
            Attention.Geometry geometry,
            boolean padded,
            boolean gradients,
            double spread) {
        cases.add(residual(label, sequences, geometry, padded, gradients, spread, ""));
    }

    /**
     * An attention residual.
     *
     * @param spread standard deviation of the differences, where that of the dense operands is 1
     * @param broken operand that holds some NaNs and infinities
     */
    private static OpCase residual(
            String label,
            long sequences,
            Attention.Geometry geometry,
            boolean padded,
            boolean gradients,
            double spread,
            String broken) {
        long tokens = sequences * geometry.length();
        long width = (long) geometry.heads() * geometry.headSize();
        long keyWidth = (long) geometry.keyHeads() * geometry.headSize();
        Function<String, Fill> fill = name -> {
            Fill base = name.endsWith("difference") ? normal(spread) : normal(1);
            return name.equals(broken) ? broken(base) : base;
        };
        List<Operand> operands = new ArrayList<>(List.of(
                read("query", DType.F32, tokens, width, 1, fill.apply("query")),
                read("key", DType.F32, tokens, keyWidth, 2, fill.apply("key")),
                read("query difference", DType.F32, tokens, width, 0, fill.apply("query difference")),
                read("key difference", DType.F32, tokens, keyWidth, 3, fill.apply("key difference")),
                new Operand("loss", Role.UPDATE, DType.F64, 1, geometry.heads(), 0, doubles(0))));
        if (gradients) {
            operands.add(write("query gradient", DType.F32, tokens, width, 4));
            operands.add(write("key gradient", DType.F32, tokens, keyWidth, 1));
        }
        if (padded) {
            operands.add(read("visible", DType.I32, sequences, geometry.length(), 0, padding()));
        }
        // The rounding of a logit's difference and of a logit, which a softmax turns into a relative error, and that of
        // sums over keys and queries, with both signs, so that some digits may go. Residuals near 1e-16 are rounding
        // errors of the reference.
        double terms = 4
                * (16
                        + 2 * geometry.headSize()
                        + 16 * geometry.scale() * geometry.headSize() * Math.pow(1 + spread, 2)
                        + geometry.length());
        return new OpCase(
                AttentionResidual.class,
                label + (gradients ? "" : ", loss alone") + ", differences of " + spread,
                new Tolerance.Rounding(terms, 1e-11),
                operands,
                views -> new AttentionResidual(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        views.get(3),
                        padded ? views.getLast() : null,
                        views.get(4),
                        gradients ? views.get(5) : null,
                        gradients ? views.get(6) : null,
                        geometry));
    }

    private static void bandStop(List<OpCase> cases) {
        for (BandStop.Form form : List.of(new BandStop.Form.Sigmoid(0.7f), new BandStop.Form.Tanh())) {
            for (int cols : WIDTHS) {
                cases.add(bandStop(5, cols, 1, form, 9, cols % 2 == 0, normal(1)));
            }
            for (float sharpness : new float[] {0.5f, 100}) {
                cases.add(bandStop(33, 132, 4, form, sharpness, true, normal(1)));
                cases.add(bandStop(3, 130, 4, form, sharpness, true, uniform(-1e-38, 1e-38)));
                cases.add(bandStop(3, 130, 4, form, sharpness, true, uniform(-1e30, 1e30)));
                cases.add(bandStop(3, 130, 2, form, sharpness, true, nan(special(normal(1)))));
            }
        }
        cases.add(bandStop(3, 130, 2, new BandStop.Form.Sigmoid(0), 100, true, sparse(normal(1))));
    }

    private static OpCase bandStop(
            long rows, long cols, long gap, BandStop.Form form, float sharpness, boolean sloped, Fill latents) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("latents", DType.F32, rows, cols, gap, latents), write("weights", DType.F32, rows, cols, 3)));
        if (sloped) {
            operands.add(write("slope", DType.F32, rows, cols, 1));
        }
        String name = form instanceof BandStop.Form.Sigmoid ? "sigmoid " : "tanh ";
        return new OpCase(
                BandStop.class,
                name + rows + "x" + cols + " sharpness " + sharpness + (sloped ? " slope" : "") + latents,
                // The exponent is rounded before e is raised to it, and grows to about 100 where the filter still
                // bends.
                new Tolerance.Rounding(512, 1e-30),
                operands,
                views -> new BandStop(views.get(0), views.get(1), sloped ? views.get(2) : null, form, sharpness, 1.5f));
    }

    private static void cast(List<OpCase> cases) {
        DType[] types = {DType.F64, DType.F32, DType.F16, DType.BF16};
        for (DType from : types) {
            for (DType to : types) {
                for (boolean transpose : new boolean[] {false, true}) {
                    cases.add(cast(from, to, transpose, 5, 67, of(from, normal(1))));
                }
            }
        }
        for (DType to : types) {
            cases.add(cast(DType.F32, to, false, 3, 33, special(normal(1))));
            cases.add(cast(DType.F32, to, false, 3, 65, uniform(-1e-39, 1e-39)));
            cases.add(cast(DType.F32, to, false, 1, 130, uniform(-1e-7, 1e-7)));
            cases.add(cast(DType.F32, to, true, 130, 67, normal(1000)));
        }
    }

    private static OpCase cast(DType from, DType to, boolean transpose, long rows, long cols, Fill fill) {
        return new OpCase(
                Cast.class,
                from.label() + " to " + to.label() + " " + rows + "x" + cols + (transpose ? " transposed" : "") + fill,
                EXACT,
                List.of(
                        read("source", from, rows, cols, 3, fill),
                        write("target", to, transpose ? cols : rows, transpose ? rows : cols, 2)),
                views -> new Cast(views.get(0), views.get(1), transpose));
    }

    private static void columnMoments(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(moments("65x" + cols, 65, cols, 0, normal(1)));
            cases.add(moments("merged 3x" + cols, 3, cols, 40, normal(1)));
        }
        cases.add(moments("one row", 1, 33, 0, normal(1)));
        cases.add(moments("no rows", 0, 33, 5, normal(1)));
        cases.add(moments("tall", 5000, 17, 0, normal(3)));
        cases.add(moments("constant", 100, 16, 0, constant(0.1)));
    }

    private static OpCase moments(String label, long rows, long cols, long before, Fill fill) {
        Fill state = (random, packed, stateRows, stateCols) -> {
            for (long i = 0; i < stateRows * stateCols; i++) {
                Floats.set(DType.F64, packed, i, before == 0 ? 0 : before * random.nextDouble());
            }
        };
        return new OpCase(
                ColumnMoments.class,
                label,
                // A backend may sum in fp32 within a block; a mean near zero is a sum of values near one that cancel.
                new Tolerance.Rounding(64, 1),
                List.of(
                        read("x", DType.F32, rows, cols, 4, fill),
                        new Operand("count", Role.UPDATE, DType.I64, 1, 1, 0, longs(before)),
                        new Operand("moments", Role.UPDATE, DType.F64, 3, cols, 1, state)),
                views -> new ColumnMoments(views.get(0), views.get(1), views.get(2)));
    }

    private static void countValues(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(count("3x" + cols, 3, cols, special(sparse(normal(1)))));
        }
        cases.add(count("denormals are no zeros", 2, 65, uniform(-1e-40, 1e-40)));
        cases.add(count("NaN", 2, 65, nan(normal(1))));
        cases.add(count("many", 70, 1025, sparse(normal(1))));
    }

    private static void stateCounts(List<OpCase> cases) {
        for (int units : WIDTHS) {
            cases.add(states("3 rows of " + units, 3, units, 1, 5, special(sparse(normal(1)))));
            cases.add(states("3 rows of 5 times " + units, 3, 5, units, 3, special(sparse(normal(1)))));
        }
        cases.add(states("denormals are no zeros", 2, 65, 1, 0, uniform(-1e-40, 1e-40)));
        cases.add(states("denormals are no zeros in channels", 2, 3, 65, 0, uniform(-1e-40, 1e-40)));
        cases.add(states("all equal", 9, 3, 17, 1, constant(-0.0)));
        cases.add(states("NaN", 2, 65, 1, 4, nan(normal(1))));
        cases.add(states("NaN in channels", 2, 3, 65, 4, nan(normal(1))));
        cases.add(states("one unit", 3, 1, 4099, 0, ties()));
        cases.add(states("tall", 40000, 3, 1, 1, sparse(normal(1))));
        cases.add(states("many", 130, 37, 50, 2, sparse(normal(1))));
        cases.add(states("no rows", 0, 3, 5, 0, normal(1)));
        cases.add(states("aligned", 5, 8, 64, 0, normal(1)));
    }

    private static OpCase states(String label, long rows, long units, long inner, long gap, Fill fill) {
        return new OpCase(
                StateCounts.class,
                label,
                EXACT,
                List.of(
                        read("x", DType.F32, rows, units * inner, gap, fill),
                        new Operand("counts", Role.UPDATE, DType.I64, StateCounts.STATES, units, gap, longs(3))),
                views -> new StateCounts(views.get(0), views.get(1)));
    }

    private static OpCase count(String label, long rows, long cols, Fill fill) {
        return new OpCase(
                CountValues.class,
                label,
                EXACT,
                List.of(read("x", DType.F32, rows, cols, 5, fill), write("counts", DType.I64, 1, 3, 0)),
                views -> new CountValues(views.get(0), views.get(1)));
    }

    /** The layers of ResNet-50 that a network spends its time in, a depthwise one of MobileNetV2, and a first layer. */
    private static void convolutions(List<OpCase> cases) {
        cases.add(convolution(Window.square(56, 56, 3, 1, 1), 64, 64));
        cases.add(convolution(Window.square(28, 28, 3, 1, 1), 128, 128));
        cases.add(convolution(Window.square(14, 14, 3, 1, 1), 256, 256));
        cases.add(convolution(Window.square(7, 7, 3, 1, 1), 512, 512));
        cases.add(convolution(Window.square(14, 14, 1, 1, 0), 1024, 256));
        cases.add(convolution(Window.square(14, 14, 1, 1, 0), 256, 1024));
        cases.add(convolution(Window.square(56, 56, 1, 1, 0), 64, 256));
        cases.add(convolution(Window.square(224, 224, 7, 2, 3), 3, 64));
        cases.add(new Convolution(Window.square(56, 56, 3, 1, 1), 144, 144)
                .grouped(144)
                .build());
        cases.add(new Convolution(Window.square(28, 28, 3, 1, 1), 128, 128)
                .types(DType.I8, DType.I8)
                .build());
    }

    private static OpCase convolution(Window window, int channels, int filters) {
        return new Convolution(window, channels, filters).build();
    }

    private static void conv2dInt8(List<OpCase> cases) {
        // Widths around vectors, blocks and words, with and without padding.
        for (int channels : new int[] {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 64, 65}) {
            cases.add(new Convolution(Window.square(5, 6, 3, 1, 1), channels, 19).build());
            cases.add(new Convolution(Window.square(5, 6, 1, 1, 0), channels, channels)
                    .gap(3)
                    .build());
            cases.add(new Convolution(Window.square(7, 5, 3, 1, 1), channels, channels)
                    .grouped(channels)
                    .build());
        }
        for (int filters : new int[] {1, 2, 15, 16, 17, 32, 33, 48, 63, 64, 65, 80, 97, 129}) {
            cases.add(new Convolution(Window.square(3, 7, 3, 2, 1), 8, filters).build());
            cases.add(new Convolution(Window.square(4, 7, 1, 1, 0), 12, filters)
                    .added(DType.U8)
                    .build());
        }
        // Pixels around tiles, over several images.
        for (int size : new int[] {1, 2, 3, 4, 5, 7, 11, 13, 64, 65}) {
            cases.add(new Convolution(Window.square(1, size, 1, 1, 0), 32, 40)
                    .images(1)
                    .build());
            cases.add(new Convolution(Window.square(1, size, 1, 1, 0), 20, 24)
                    .images(3)
                    .build());
            cases.add(new Convolution(Window.square(2, size, 3, 1, 1), 16, 16)
                    .grouped(16)
                    .images(2)
                    .build());
        }
        List<Window> windows = List.of(
                new Window(9, 7, 3, 2, 2, 1, 1, 2, 0, 1, 2, 3),
                new Window(9, 11, 3, 3, 1, 1, 2, 3, 2, 3, 2, 3),
                new Window(8, 8, 5, 5, 3, 2, 1, 1, 4, 4, 4, 4),
                new Window(6, 6, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0),
                new Window(4, 5, 1, 1, 1, 1, 1, 1, 1, 2, 0, 1),
                new Window(10, 3, 7, 3, 1, 1, 1, 1, 3, 1, 3, 1),
                new Window(2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0));
        for (Window window : windows) {
            for (int[] shape :
                    new int[][] {{3, 20, 1}, {24, 40, 1}, {12, 18, 3}, {6, 12, 6}, {33, 33, 33}, {16, 64, 1}}) {
                cases.add(new Convolution(window, shape[0], shape[1])
                        .grouped(shape[2])
                        .gap(1)
                        .build());
            }
        }
        for (DType x : new DType[] {DType.U8, DType.I8}) {
            for (DType y : new DType[] {DType.U8, DType.I8}) {
                for (int groups : new int[] {1, 36}) {
                    Convolution one = new Convolution(Window.square(5, 9, 3, 1, 1), 36, 36)
                            .grouped(groups)
                            .types(x, y);
                    cases.add(one.build());
                    cases.add(one.added(y).gap(2).build());
                    cases.add(one.added(x).clamped().build());
                }
            }
        }
        for (int groups : new int[] {1, 16}) { // half of the sums lie between two integers
            cases.add(new Convolution(Window.square(6, 6, 3, 1, 1), 16, 16)
                    .grouped(groups)
                    .ties()
                    .build());
            cases.add(new Convolution(Window.square(6, 6, 3, 1, 1), 16, 16)
                    .grouped(groups)
                    .ties()
                    .added(DType.I8)
                    .build());
        }
        // The sums come within a thousandth of what 32 bits hold.
        cases.add(new Convolution(Window.square(1, 2, 1, 1, 0), 65790, 5)
                .largest()
                .build());
        cases.add(new Convolution(Window.square(3, 4, 3, 1, 1), 130, 130).build());
    }

    /** A convolution to be: U8 to U8, one image, no groups and nothing added, until it is said otherwise. */
    private record Convolution(
            Window window,
            int channels,
            int filters,
            int groups,
            int images,
            long gap,
            DType from,
            DType to,
            DType residual,
            boolean isClamped,
            String profile) {
        Convolution(Window window, int channels, int filters) {
            this(window, channels, filters, 1, 1, 0, DType.U8, DType.U8, null, false, "");
        }

        Convolution grouped(int parts) {
            return new Convolution(
                    window, channels, filters, parts, images, gap, from, to, residual, isClamped, profile);
        }

        Convolution images(int count) {
            return new Convolution(
                    window, channels, filters, groups, count, gap, from, to, residual, isClamped, profile);
        }

        Convolution gap(long elements) {
            return new Convolution(
                    window, channels, filters, groups, images, elements, from, to, residual, isClamped, profile);
        }

        Convolution types(DType x, DType y) {
            return new Convolution(window, channels, filters, groups, images, gap, x, y, residual, isClamped, profile);
        }

        Convolution added(DType type) {
            return new Convolution(window, channels, filters, groups, images, gap, from, to, type, isClamped, profile);
        }

        Convolution clamped() {
            return new Convolution(window, channels, filters, groups, images, gap, from, to, residual, true, profile);
        }

        Convolution ties() {
            return new Convolution(
                    window, channels, filters, groups, images, gap, from, to, residual, isClamped, " ties");
        }

        Convolution largest() {
            return new Convolution(
                    window, channels, filters, groups, images, gap, from, to, residual, isClamped, " largest");
        }

        OpCase build() {
            Int8Filters.Layout layout = new Int8Filters.Layout(filters, channels, groups, window.taps());
            long size = (long) window.taps() * channels / groups;
            boolean isTied = profile.equals(" ties");
            boolean isLargest = profile.equals(" largest");
            int zero = Levels.lowest(to) + 100;
            Levels levels = isClamped ? new Levels(zero, zero, zero + 90) : Levels.of(to, zero);
            // Standard deviations of 74 and 73 make results spread over all levels.
            double scale = isTied ? 0.5 : isLargest ? 0x1p-25 : 50 / (74 * 73 * Math.sqrt((double) size));
            List<Operand> operands = new ArrayList<>(List.of(
                    read("x", from, images * window.inputPixels(), channels, gap, isLargest ? all(-1) : anyBytes()),
                    read(
                            "weights",
                            DType.I8,
                            layout.rows(),
                            layout.cols(),
                            gap,
                            weightsOf(layout, isTied ? 1 : 127, isLargest)),
                    read("bias", DType.I32, 1, filters, 0, isLargest ? ints(1) : ints(isTied ? 40 : 4000)),
                    read("scale", 1, filters, isTied ? constant(scale) : uniform(0.7 * scale, 1.3 * scale)),
                    write("y", to, images * window.outputPixels(), filters, gap)));
            if (residual != null) {
                operands.add(read("residual", residual, images * window.outputPixels(), filters, 2 * gap, anyBytes()));
            }
            int residualZero = residual == null ? 0 : Levels.lowest(residual) + 140;
            return new OpCase(
                    Conv2dInt8.class,
                    label(),
                    EXACT,
                    operands,
                    views -> new Conv2dInt8(
                            views.get(0),
                            Levels.lowest(from) + 117,
                            views.get(1),
                            views.get(2),
                            views.get(3),
                            residual == null
                                    ? null
                                    : new Conv2dInt8.Residual(views.get(5), residualZero, isTied ? 0.25f : 0.37f),
                            views.get(4),
                            levels,
                            window,
                            groups));
        }

        private String label() {
            Window w = window;
            boolean isPlain = Window.square(w.height(), w.width(), w.kernelHeight(), w.strideY(), w.top())
                    .equals(w);
            return (images > 1 ? images + " images of " : "") + w.height() + "x" + w.width() + "x" + channels + " to "
                    + filters + " by " + w.kernelHeight() + "x" + w.kernelWidth()
                    + (w.strideY() > 1 || w.strideX() > 1 ? " stride " + w.strideY() + "x" + w.strideX() : "")
                    + (isPlain
                            ? ""
                            : " dilation " + w.dilationY() + "x" + w.dilationX() + " padding " + w.top() + ","
                                    + w.left() + "," + w.bottom() + "," + w.right())
                    + (isPlain && w.top() > 0 ? " padding " + w.top() : "")
                    + (groups > 1 ? " in " + groups + " groups" : "")
                    + (from == DType.U8 && to == DType.U8 ? "" : " " + from.label() + " to " + to.label())
                    + (residual == null ? "" : " added " + residual.label())
                    + (isClamped ? " clamped" : "")
                    + (gap > 0 ? " gaps" : "")
                    + profile;
        }
    }

    private static void combineInt8(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(combine("sum 5x" + cols, DType.U8, 5, cols, 1, false));
            cases.add(combine("product i8 6x" + cols + " shared by 3", DType.I8, 6, cols, 3, true));
        }
        cases.add(combine("sum i8 70x33 shared by 70", DType.I8, 70, 33, 70, false));
        cases.add(combine("product 1031x17", DType.U8, 1031, 17, 1, true));
        for (boolean inPlace : new boolean[] {false, true}) {
            cases.add(new OpCase(
                    CombineInt8.class,
                    inPlace ? "in place of a" : "in place of b",
                    EXACT,
                    List.of(
                            new Operand("y", Role.UPDATE, DType.U8, 9, 70, 1, anyBytes()),
                            read("other", DType.I8, 9, 70, 2, anyBytes())),
                    views -> new CombineInt8(
                            views.get(inPlace ? 0 : 1),
                            inPlace ? 3 : -3,
                            views.get(inPlace ? 1 : 0),
                            inPlace ? -7 : 7,
                            views.get(0),
                            new Levels(128, 128, 250),
                            new CombineInt8.Rule.Sum(0.5f, 1.5f))));
        }
    }

    private static OpCase combine(String label, DType dtype, long rows, long cols, long shared, boolean product) {
        int zero = Levels.lowest(dtype) + 110;
        return new OpCase(
                CombineInt8.class,
                label,
                EXACT,
                List.of(
                        read("a", dtype, rows, cols, 3, anyBytes()),
                        read("b", DType.U8, rows / shared, cols, 1, anyBytes()),
                        write("y", dtype, rows, cols, 2)),
                views -> new CombineInt8(
                        views.get(0),
                        zero,
                        views.get(1),
                        131,
                        views.get(2),
                        Levels.of(dtype, zero),
                        product ? new CombineInt8.Rule.Product(0.0125f) : new CombineInt8.Rule.Sum(0.75f, 0.3f)));
    }

    private static void lookup(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(lookup(DType.U8, DType.I8, 3, cols));
            cases.add(lookup(DType.I8, DType.F32, 3, cols));
        }
        cases.add(lookup(DType.I8, DType.U8, 600, 130));
    }

    private static OpCase lookup(DType from, DType to, long rows, long cols) {
        return new OpCase(
                Lookup.class,
                from.label() + " to " + to.label() + " " + rows + "x" + cols,
                EXACT,
                List.of(
                        read("x", from, rows, cols, 3, anyBytes()),
                        read("table", to, 1, Lookup.ENTRIES, 0, to == DType.F32 ? nan(special(normal(1))) : anyBytes()),
                        write("y", to, rows, cols, 1)),
                views -> new Lookup(views.get(0), views.get(1), views.get(2)));
    }

    private static void maxPoolInt8(List<OpCase> cases) {
        for (int channels : new int[] {1, 3, 16, 33, 257}) {
            cases.add(maxPool("3 by 2, " + channels, DType.U8, Window.square(9, 8, 3, 2, 1), 2, channels));
            cases.add(maxPool("2 by 1, " + channels, DType.I8, Window.square(5, 5, 2, 1, 0), 1, channels));
        }
        Window dilated = new Window(9, 7, 3, 2, 2, 1, 1, 2, 0, 1, 2, 3);
        cases.add(maxPool("dilated", DType.I8, dilated, 3, 20));
        Window beyond = new Window(2, 2, 2, 2, 2, 2, 1, 1, 2, 2, 2, 2);
        cases.add(maxPool("windows of padding", DType.I8, beyond, 1, 5));
    }

    private static OpCase maxPool(String label, DType dtype, Window window, long images, long channels) {
        return new OpCase(
                MaxPoolInt8.class,
                label,
                EXACT,
                List.of(
                        read("x", dtype, images * window.inputPixels(), channels, 1, anyBytes()),
                        write("y", dtype, images * window.outputPixels(), channels, 2)),
                views -> new MaxPoolInt8(views.get(0), views.get(1), window));
    }

    private static void quantize(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(quantize("3x" + cols, DType.U8, 3, cols, normal(1)));
            cases.add(quantize("3x" + cols + " i8", DType.I8, 3, cols, nan(special(normal(1)))));
        }
        cases.add(quantize("halves", DType.U8, 40, 31, halves()));
        cases.add(quantize("denormal", DType.I8, 2, 70, uniform(-1e-40, 1e-40)));
    }

    private static OpCase quantize(String label, DType dtype, long rows, long cols, Fill fill) {
        int zero = Levels.lowest(dtype) + 120;
        return new OpCase(
                Quantize.class,
                label,
                EXACT,
                List.of(read("x", DType.F32, rows, cols, 3, fill), write("y", dtype, rows, cols, 1)),
                views -> new Quantize(
                        views.get(0), label.equals("halves") ? 0.5f : 0.0271f, views.get(1), Levels.of(dtype, zero)));
    }

    private static void embedding(List<OpCase> cases) {
        for (boolean accumulate : new boolean[] {false, true}) {
            for (int tokens : new int[] {1, 7, 300}) {
                cases.add(
                        embedding(tokens + " tokens" + (accumulate ? " accumulated" : ""), 11, 33, tokens, accumulate));
            }
        }
    }

    private static OpCase embedding(String label, int entries, long width, long tokens, boolean accumulate) {
        return new OpCase(
                Embedding.class,
                label,
                EXACT,
                List.of(
                        read("table", DType.F32, entries, width, 1, normal(1)),
                        read("ids", DType.I32, 1, tokens, 0, ints(entries)),
                        accumulate
                                ? new Operand("output", Role.UPDATE, DType.F32, tokens, width, 2, normal(1))
                                : write("output", DType.F32, tokens, width, 2)),
                views -> new Embedding(views.get(0), views.get(1), views.get(2), accumulate));
    }

    private static void gemm(List<OpCase> cases) {
        long[][] sizes = {{1, 1, 1}, {2, 3, 5}, {7, 31, 13}, {33, 64, 65}, {64, 127, 32}, {129, 65, 257}, {300, 40, 20}
        };
        for (long[] size : sizes) {
            for (boolean transpose : new boolean[] {false, true}) {
                for (boolean accumulate : new boolean[] {false, true}) {
                    cases.add(gemm(size[0], size[1], size[2], transpose, accumulate, size[2] % 2 == 1));
                }
            }
        }
        cases.add(gemm(3, 0, 4, true, false, true));
    }

    private static OpCase gemm(long m, long k, long n, boolean transpose, boolean accumulate, boolean biased) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("a", DType.F32, m, k, 1, normal(1)),
                read("b", DType.F32, transpose ? n : k, transpose ? k : n, 2, normal(1)),
                accumulate
                        ? new Operand("c", Role.UPDATE, DType.F32, m, n, 3, normal(1))
                        : write("c", DType.F32, m, n, 3)));
        if (biased) {
            operands.add(read("bias", 1, n, normal(1)));
        }
        return new OpCase(
                Gemm.class,
                m + "x" + k + "x" + n + (transpose ? " transposed" : "") + (accumulate ? " accumulated" : "")
                        + (biased ? " bias" : ""),
                new Tolerance.Rounding(8 + 2 * k, 1),
                operands,
                views -> new Gemm(
                        views.get(0), views.get(1), transpose, biased ? views.get(3) : null, views.get(2), accumulate));
    }

    private static void gemv(List<OpCase> cases) {
        for (DType dtype : new DType[] {DType.BF16, DType.F32}) {
            for (int cols : WIDTHS) {
                cases.add(gemv(dtype, 9, cols, 1, cols % 2 == 1, normal(1)));
            }
            for (int vectors : new int[] {0, 2, 3, 5, 8, 13}) {
                cases.add(gemv(dtype, 7, 130, vectors, true, normal(1)));
            }
            cases.add(gemv(dtype, 1, 1031, 1, false, normal(1)));
            cases.add(gemv(dtype, 300, 2049, 1, true, normal(1)));
            cases.add(gemv(dtype, 3, 0, 2, true, normal(1)));
            cases.add(gemv(dtype, 5, 65, 1, false, special(normal(1))));
            cases.add(gemv(dtype, 5, 65, 2, false, nan(normal(1))));
        }
    }

    private static OpCase gemv(DType dtype, long rows, long cols, long vectors, boolean biased, Fill x) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("weights", dtype, rows, cols, 3, of(dtype, normal(1))),
                read("x", DType.F32, vectors, cols, 1, x),
                write("y", DType.F32, vectors, rows, 2)));
        if (biased) {
            operands.add(read("bias", 1, rows, normal(1)));
        }
        return new OpCase(
                Gemv.class,
                gemvLabel(dtype, rows, cols, vectors, biased, x),
                new Tolerance.Rounding(8 + 2 * cols, 1),
                operands,
                views -> new Gemv(views.get(0), views.get(1), biased ? views.get(3) : null, views.get(2)));
    }

    private static String gemvLabel(DType dtype, long rows, long cols, long vectors, boolean biased, Fill x) {
        return dtype.label() + " " + rows + "x" + cols + " times " + vectors + (biased ? " bias" : "") + x;
    }

    private static void gram(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(gram("65x" + cols, 65, cols, normal(1)));
        }
        cases.add(gram("no rows", 0, 33, normal(1)));
        cases.add(gram("one row", 1, 130, normal(1)));
        cases.add(gram("more rows than a chunk", 2 * Gram.CHUNK + 5, 37, normal(1)));
        cases.add(gram("constant", Gram.CHUNK, 16, constant(0.1)));
        cases.add(gram("NaN", 3, 33, nan(normal(1))));
    }

    private static OpCase gram(String label, long rows, long cols, Fill fill) {
        return new OpCase(
                Gram.class,
                label,
                // Products may add up in fp32 within a chunk, and cancel there.
                new Tolerance.Rounding(8 + 2.0 * Math.min(rows, Gram.CHUNK), (double) rows),
                List.of(
                        read("x", DType.F32, rows, cols, 4, fill),
                        new Operand("sum", Role.UPDATE, DType.F64, cols, cols, 1, of(DType.F64, normal(1)))),
                views -> new Gram(views.get(0), views.get(1)));
    }

    private static void inverseCholesky(List<OpCase> cases) {
        for (int size : new int[] {1, 2, 7, 33, 64, 129}) {
            cases.add(inverse("well conditioned " + size, size, 0.01, gramOf(2 * size + 5, 0)));
            cases.add(inverse("fewer rows than columns " + size, size, 0.01, gramOf(1 + size / 4, 0)));
            cases.add(inverse("dead inputs " + size, size, 0.1, gramOf(2 * size, 3)));
        }
        cases.add(inverse("undamped", 40, 0, gramOf(200, 0)));
        cases.add(inverse("all dead", 5, 0.01, gramOf(4, 1)));
        for (int bad : new int[] {0, 17, 49}) {
            cases.add(inverse("no positive pivot " + bad, 50, 0.01, broken(bad, -1e3)));
            cases.add(inverse("NaN pivot " + bad, 50, 0.01, broken(bad, Double.NaN)));
        }
        for (double damping : new double[] {0, 0.01}) { // a shift of NaN, and one of infinity
            cases.add(inverse(
                    "infinite diagonal damped by " + damping, 50, damping, broken(31, Double.POSITIVE_INFINITY)));
        }
    }

    private static OpCase inverse(String label, long size, double damping, Fill fill) {
        return new OpCase(
                InverseCholesky.class,
                label,
                // fp64 throughout and one rounding; damped matrices lose no more than half of the digits.
                new Tolerance.Rounding(2),
                List.of(
                        new Operand("gram", Role.READ, DType.F64, size, size, 3, fill),
                        write("factor", DType.F32, size, size, 1),
                        write("status", DType.I64, 1, 1, 0)),
                views -> new InverseCholesky(views.get(0), damping, views.get(1), views.get(2)));
    }

    /**
     * X' X on and above the diagonal, NaN below.
     *
     * @param dead every which column of X is all 0; none for 0
     */
    private static Fill gramOf(int tokens, int dead) {
        return (random, packed, size, _) -> {
            double[][] x = new double[tokens][Math.toIntExact(size)];
            for (double[] row : x) {
                for (int j = 0; j < row.length; j++) {
                    row[j] = dead > 0 && j % dead == 0 ? 0 : random.nextGaussian() + 0.3 * row[Math.max(0, j - 1)];
                }
            }
            for (int i = 0; i < size; i++) {
                for (int j = 0; j < size; j++) {
                    double sum = 0;
                    for (double[] row : x) {
                        sum += row[i] * row[j];
                    }
                    Floats.set(DType.F64, packed, i * size + j, j < i ? Double.NaN : sum);
                }
            }
        };
    }

    /** The same with one other diagonal element. */
    private static Fill broken(int at, double value) {
        return (random, packed, rows, cols) -> {
            gramOf(120, 0).fill(random, packed, rows, cols);
            Floats.set(DType.F64, packed, at * cols + at, value);
        };
    }

    private static void rmsNorm(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(rmsNorm("3x" + cols, 3, cols, 1, normal(1)));
            cases.add(rmsNorm("3x" + cols + " small", 3, cols, 1, normal(1e-4)));
        }
        for (int cols : new int[] {4, 132, 1024, 1028}) {
            for (Fill fill : List.of(normal(1), normal(1e30), normal(1e-38), uniform(999, 1001), nan(normal(1)))) {
                cases.add(rmsNorm("9x" + cols + " aligned" + fill, 9, cols, 4, fill));
            }
        }
        cases.add(new OpCase(
                RmsNorm.class,
                "in place",
                new Tolerance.Rounding(80),
                List.of(update("x", 70, 64, normal(1)), read("gain", 1, 64, normal(1))),
                views -> new RmsNorm(views.get(0), views.get(1), views.get(0), 1e-6f)));
    }

    private static void rmsNormGradient(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            // In one column the two summands all but cancel.
            cases.add(rmsNormGradient("3x" + cols, 3, cols, 1, 1, normal(1)));
            cases.add(rmsNormGradient("70x" + cols + " small", 70, cols, 1, 1000, normal(1e-4)));
        }
        for (Fill fill : List.of(normal(1e30), normal(1e-38), uniform(999, 1001), nan(normal(1)), special(normal(1)))) {
            cases.add(rmsNormGradient("9x132" + fill, 9, 132, 4, Float.MIN_NORMAL, fill));
        }
        cases.add(new OpCase(
                RmsNormGradient.class,
                "in place",
                new Tolerance.Rounding(80),
                List.of(
                        read("x", 70, 64, normal(1)),
                        read("gain", 1, 64, normal(1)),
                        update("slope", 70, 64, normal(1))),
                views -> new RmsNormGradient(views.get(0), views.get(1), views.get(2), views.get(2), 1e-6f)));
    }

    private static OpCase rmsNormGradient(String label, long rows, long cols, long gap, double leastScale, Fill fill) {
        return new OpCase(
                RmsNormGradient.class,
                label,
                new Tolerance.Rounding(16 + cols, leastScale),
                List.of(
                        read("x", DType.F32, rows, cols, gap, fill),
                        read("gain", 1, cols, normal(1)),
                        read("slope", DType.F32, rows, cols, 3 * gap, normal(1)),
                        write("gradient", DType.F32, rows, cols, 2 * gap)),
                views -> new RmsNormGradient(views.get(0), views.get(1), views.get(2), views.get(3), 1e-6f));
    }

    private static void layerNorm(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(layerNorm("3x" + cols, 3, cols, 1, normal(1)));
            cases.add(layerNorm("3x" + cols + " small", 3, cols, 1, normal(1e-4)));
        }
        for (int cols : new int[] {4, 132, 1024, 1028}) {
            for (Fill fill : List.of(normal(1), normal(1e30), normal(1e-38), uniform(999, 1001), nan(normal(1)))) {
                cases.add(layerNorm("9x" + cols + " aligned" + fill, 9, cols, 4, fill));
            }
        }
        cases.add(new OpCase(
                LayerNorm.class,
                "in place",
                new Tolerance.Rounding(80),
                List.of(update("x", 70, 64, normal(1)), read("gain", 1, 64, normal(1)), read("bias", 1, 64, normal(1))),
                views -> new LayerNorm(views.get(0), views.get(1), views.get(2), views.get(0), 1e-5f)));
    }

    private static void maskDifference(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(difference(5, cols, 2, normal(1)));
        }
        cases.add(difference(3, 1124, 4, nan(special(normal(1)))));
        cases.add(difference(3, 68, 4, uniform(-1e-38, 1e-38)));
    }

    private static OpCase difference(long rows, long cols, long gap, Fill fill) {
        return new OpCase(
                MaskDifference.class,
                rows + "x" + cols + fill,
                EXACT,
                List.of(
                        read("weights", DType.F32, rows, cols, gap, fill),
                        read("mask", DType.I32, rows, BitMask.wordsPerRow(cols), 1, maskBits(cols)),
                        write("difference", DType.F32, rows, cols, 3)),
                views -> new MaskDifference(views.get(0), views.get(1), views.get(2)));
    }

    private static void maskStep(List<OpCase> cases) {
        for (boolean adaptive : new boolean[] {false, true}) {
            for (int cols : WIDTHS) {
                cases.add(step(5, cols, 1, adaptive, normal(1), normal(1)));
            }
            cases.add(step(300, 36, 4, adaptive, normal(1), ties()));
            cases.add(step(3, 1124, 4, adaptive, normal(1), normal(100)));
            cases.add(step(3, 68, 4, adaptive, normal(1), uniform(-1e-38, 1e-38)));
            cases.add(step(70, 68, 4, adaptive, normal(1), broken(normal(1))));
            cases.add(step(3, 130, 2, adaptive, uniform(1e30, 1e38), broken(normal(1e10))));
        }
    }

    private static OpCase step(long rows, long cols, long gap, boolean adaptive, Fill weights, Fill gradient) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("weights", DType.F32, rows, cols, gap, weights),
                read("gradient", DType.F32, rows, cols, 2, gradient),
                new Operand("state", Role.UPDATE, DType.F32, rows, cols, 3, uniform(0, 1)),
                new Operand("invalid", Role.UPDATE, DType.I64, 1, 1, 0, longs(3))));
        if (adaptive) {
            operands.add(new Operand("first", Role.UPDATE, DType.F32, rows, cols, 1, normal(0.1)));
            operands.add(new Operand("second", Role.UPDATE, DType.F32, rows, cols, 2, uniform(0.1, 1)));
            operands.add(read("numbers", 1, MaskStep.Rule.Adam.NUMBERS, seventhStep()));
        } else {
            operands.add(write("difference", DType.F32, rows, cols, 1));
        }
        return new OpCase(
                MaskStep.class,
                (adaptive ? "adam " : "soft ") + rows + "x" + cols + weights + gradient,
                // No sum of more than two terms, which may cancel, as may the step and the state, of about 1.
                new Tolerance.Rounding(32, 1),
                operands,
                views -> new MaskStep(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        views.get(3),
                        adaptive
                                ? new MaskStep.Rule.Adam(0.9f, 0.999f, views.get(6), views.get(4), views.get(5))
                                : new MaskStep.Rule.Soft(0.1f, 0.01f, views.get(4))));
    }

    private static Fill seventhStep() {
        float[] numbers = MaskStep.Rule.Adam.numbers(0.02f, 0.9f, 0.999f, 1e-8f, 7);
        return (_, packed, _, _) -> MemorySegment.copy(numbers, 0, packed, ValueLayout.JAVA_FLOAT, 0, numbers.length);
    }

    private static void obsSweep(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(sweep("given mask 5x" + cols, 5, cols, 0, 0, 1, normal(1)));
        }
        for (int cols : new int[] {4, 36, 128, 132}) {
            cases.add(sweep("given mask, aligned 37x" + cols, 37, cols, 0, 0, 4, normal(1)));
        }
        cases.add(sweep("given mask, aligned, NaN", 37, 100, 0, 0, 4, nan(normal(1))));
        cases.add(sweep("given mask, aligned, denormal", 3, 64, 0, 0, 4, uniform(-1e-38, 1e-38)));
        for (int[] pattern : new int[][] {{0, 4}, {2, 4}, {4, 4}, {1, 8}, {4, 8}}) {
            for (Fill fill : List.of(normal(1), ties(), nan(special(normal(1))))) {
                String label = pattern[0] + ":" + pattern[1] + ", aligned" + fill;
                cases.add(sweep(label, 35, 104, pattern[0], pattern[1], 4, fill));
            }
        }
        cases.add(sweep("given mask, many rows", 1031, 33, 0, 0, 1, normal(1)));
        cases.add(sweep("given mask, denormal", 3, 65, 0, 0, 1, uniform(-1e-38, 1e-38)));
        int[][] patterns = {{0, 4}, {1, 2}, {2, 4}, {4, 8}, {3, 4}, {4, 4}, {1, 1}, {1, 7}, {16, 32}, {20, 40}};
        for (int[] pattern : patterns) {
            for (Fill fill : List.of(normal(1), ties(), constant(0))) {
                String label = pattern[0] + ":" + pattern[1] + fill;
                cases.add(sweep(label, 5, pattern[1] * 11L, pattern[0], pattern[1], 1, fill));
            }
        }
        cases.add(sweep("2:4, many rows", 600, 128, 2, 4, 1, normal(1)));
    }

    /** @param size 0 for a given mask */
    private static OpCase sweep(String label, long rows, long cols, int prune, int size, long gap, Fill fill) {
        int words = BitMask.wordsPerRow(cols);
        List<Operand> operands = new ArrayList<>(List.of(
                new Operand("weights", Role.UPDATE, DType.F32, rows, cols, 3 * gap, fill),
                read("factor", DType.F32, cols, cols, 2 * gap, triangle()),
                size == 0
                        ? read("mask", DType.I32, rows, words, 1, maskBits(cols))
                        : write("mask", DType.I32, rows, words, 1),
                write("errors", DType.F32, rows, cols, gap)));
        if (size > 0) {
            operands.add(read("scale", 1, cols, uniform(0.5, 2)));
        }
        return new OpCase(
                ObsSweep.class,
                label,
                EXACT_VALUES,
                operands,
                views -> new ObsSweep(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        views.get(3),
                        size == 0 ? null : new ObsSweep.Groups(prune, size, views.get(4))));
    }

    /** A positive diagonal, small elements above it, and what must not be read below. */
    private static Fill triangle() {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows; i++) {
                for (long j = 0; j < cols; j++) {
                    double above = random.nextDouble(-1, 1) / Math.sqrt((double) cols);
                    Floats.set(
                            DType.F32,
                            packed,
                            i * cols + j,
                            j < i ? Double.NaN : j == i ? random.nextDouble(0.5, 2) : above);
                }
            }
        };
    }

    private static OpCase rmsNorm(String label, long rows, long cols, long gap, Fill fill) {
        return new OpCase(
                RmsNorm.class,
                label,
                new Tolerance.Rounding(16 + cols),
                List.of(
                        read("x", DType.F32, rows, cols, gap, fill),
                        read("gain", 1, cols, normal(1)),
                        write("y", DType.F32, rows, cols, 2 * gap)),
                views -> new RmsNorm(views.get(0), views.get(1), views.get(2), 1e-6f));
    }

    private static OpCase layerNorm(String label, long rows, long cols, long gap, Fill fill) {
        return new OpCase(
                LayerNorm.class,
                label,
                new Tolerance.Rounding(16 + cols),
                List.of(
                        read("x", DType.F32, rows, cols, gap, fill),
                        read("gain", 1, cols, normal(1)),
                        read("bias", 1, cols, normal(1)),
                        write("y", DType.F32, rows, cols, 2 * gap)),
                views -> new LayerNorm(views.get(0), views.get(1), views.get(2), views.get(3), 1e-5f));
    }

    private static void quadraticForm(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            cases.add(quadraticForm(5, cols, true, normal(1)));
            cases.add(quadraticForm(3, cols, false, normal(1)));
        }
        cases.add(quadraticForm(1100, 5, true, normal(1)));
        cases.add(quadraticForm(2, 33, false, nan(normal(1))));
    }

    private static OpCase quadraticForm(long rows, long cols, boolean difference, Fill fill) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("a", DType.F32, rows, cols, 3, fill),
                read("gram", DType.F64, cols, cols, 1, of(DType.F64, normal(1))),
                read("sum", DType.F64, 1, cols, 0, of(DType.F64, normal(1))),
                write("forms", DType.F64, rows, 2, 1)));
        if (difference) {
            operands.add(read("b", DType.F32, rows, cols, 2, normal(1)));
        }
        return new OpCase(
                QuadraticForm.class,
                rows + "x" + cols + (difference ? " difference" : "") + fill,
                // The summands of a form, of which there are columns squared, may cancel.
                new Tolerance.Rounding(8 + 2 * cols, cols * cols),
                operands,
                views -> new QuadraticForm(
                        views.get(0), difference ? views.get(4) : null, views.get(1), views.get(2), views.get(3)));
    }

    private static void rotary(List<OpCase> cases) {
        long[][] sizes = {{1, 1, 1, 1}, {2, 3, 2, 4}, {1, 17, 6, 16}, {3, 33, 1, 31}, {2, 130, 4, 64}};
        for (long[] size : sizes) {
            cases.add(rotary(size[0], size[1], (int) size[2], size[3], 3, uniform(-1, 1), normal(1)));
        }
        for (Fill fill : List.of(normal(1), nan(normal(1)), uniform(-1e-38, 1e-38))) {
            cases.add(rotary(2, 3, 5, 12, 4, uniform(-1, 1), fill));
            cases.add(rotary(1, 2, 17, 64, 8, uniform(-1, 1), fill));
        }
    }

    private static OpCase rotary(long sequences, long length, int heads, long half, long gap, Fill angles, Fill x) {
        long tokens = sequences * length;
        return new OpCase(
                Rotary.class,
                tokens + " tokens, " + heads + " heads of " + 2 * half + x,
                new Tolerance.Rounding(8),
                List.of(
                        new Operand("x", Role.UPDATE, DType.F32, tokens, 2 * half * heads, gap, x),
                        read("cosine", length, half, angles),
                        read("sine", length, half, angles)),
                views -> new Rotary(views.get(0), views.get(1), views.get(2), heads));
    }

    private static void scoreHistogram(List<OpCase> cases) {
        int oneHigh = ScoreSelect.key(1, 1) >>> ScoreHistogram.LOW_BITS;
        for (int cols : new int[] {1, 33, 257}) {
            cases.add(histogram("high 9x" + cols, 9, cols, true, ScoreHistogram.Half.HIGH, 0, normal(1)));
            cases.add(histogram("low 9x" + cols, 9, cols, true, ScoreHistogram.Half.LOW, oneHigh, uniform(0.99, 1.01)));
            cases.add(histogram(
                    "low magnitudes 9x" + cols, 9, cols, false, ScoreHistogram.Half.LOW, 0, sparse(normal(1))));
        }
        cases.add(histogram("special", 3, 65, false, ScoreHistogram.Half.HIGH, 0, nan(special(normal(1)))));
    }

    private static OpCase histogram(
            String label, long rows, long cols, boolean scaled, ScoreHistogram.Half half, int prefix, Fill fill) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("weights", DType.F32, rows, cols, 2, fill),
                new Operand("histogram", Role.UPDATE, DType.I64, 1, half.bins(), 0, longs(3))));
        if (scaled) {
            operands.add(read("scale", 1, cols, uniform(0.9, 1.1)));
        }
        return new OpCase(
                ScoreHistogram.class,
                label,
                EXACT,
                operands,
                views -> new ScoreHistogram(views.get(0), scaled ? views.get(2) : null, half, prefix, views.get(1)));
    }

    private static void scoreSelect(List<OpCase> cases) {
        for (int cols : WIDTHS) {
            for (long prune : new TreeSet<>(List.of(0L, 1L, cols / 2L, cols - 1L, (long) cols))) {
                cases.add(select("row " + prune + " of " + cols, 4, cols, true, new Selection.Row(prune), normal(1)));
            }
        }
        for (int cols : new int[] {4095, 4096, 4097}) {
            for (Fill fill : List.of(normal(1), ties(), sorted(), sparse(normal(1)), outliers(), constant(0.5))) {
                cases.add(select("row half of " + cols + fill, 3, cols, false, new Selection.Row(cols / 2), fill));
            }
        }
        cases.add(select("row most of 1031", 5, 1031, true, new Selection.Row(1030), normal(1)));
        cases.add(select("row few of 1031", 5, 1031, true, new Selection.Row(3), normal(1)));
        cases.add(select("row special", 4, 129, false, new Selection.Row(100), special(normal(1))));
        cases.add(select("row NaN", 4, 129, false, new Selection.Row(128), nan(normal(1))));
        cases.add(select("row denormal", 4, 129, false, new Selection.Row(64), uniform(-1e-40, 1e-40)));
        cases.add(select("row underflow", 4, 129, true, new Selection.Row(64), uniform(-1e-38, 1e-38)));
        cases.add(select("many rows", 131, 70, true, new Selection.Row(35), normal(1)));
        int[][] patterns = {{0, 4}, {1, 2}, {2, 4}, {4, 8}, {3, 4}, {4, 4}, {1, 1}, {1, 7}, {16, 32}, {20, 40}};
        for (int[] pattern : patterns) {
            for (Fill fill : List.of(normal(1), ties(), constant(0), nan(special(normal(1))))) {
                Selection groups = new Selection.Groups(pattern[0], pattern[1]);
                long cols = pattern[1] * 11L;
                cases.add(select(pattern[0] + ":" + pattern[1] + fill, 5, cols, true, groups, fill));
            }
        }
        for (int cols : WIDTHS) {
            long elements = 7L * cols;
            for (long prune : new TreeSet<>(List.of(0L, 1L, elements / 2, elements - 1, elements))) {
                Selection matrix = new Selection.Matrix(prune);
                cases.add(select("matrix " + prune + " of 7x" + cols, 7, cols, true, matrix, normal(1)));
            }
        }
        for (Fill fill : List.of(
                ties(),
                sorted(),
                sparse(normal(1)),
                outliers(),
                constant(0),
                constant(Float.NaN),
                special(normal(1)),
                nan(normal(1)),
                uniform(-1e-40, 1e-40))) {
            for (long prune : new long[] {1, 9_000, 17_999, 18_000}) {
                Selection matrix = new Selection.Matrix(prune);
                cases.add(select("matrix " + prune + " of 60x300" + fill, 60, 300, false, matrix, fill));
            }
        }
        cases.add(select("cut", 7, 130, true, new Selection.Cut(ScoreSelect.key(0.5f, 1), 0), normal(1)));
        cases.add(select("cut with ties", 7, 130, false, new Selection.Cut(ScoreSelect.key(2, 1), 100), ties()));
        cases.add(select("cut all ties", 70, 33, false, new Selection.Cut(0, 1000), constant(0)));
        cases.add(select("cut everything", 3, 65, false, new Selection.Cut(Integer.MAX_VALUE, 500), nan(normal(1))));
    }

    private static OpCase select(String label, long rows, long cols, boolean scaled, Selection selection, Fill fill) {
        List<Operand> operands = new ArrayList<>(List.of(
                read("weights", DType.F32, rows, cols, 3, fill),
                write("mask", DType.I32, rows, BitMask.wordsPerRow(cols), 1)));
        if (scaled) {
            operands.add(read("scale", 1, cols, uniform(0, 2)));
        }
        return new OpCase(
                ScoreSelect.class,
                label,
                EXACT,
                operands,
                views -> new ScoreSelect(views.get(0), scaled ? views.get(2) : null, views.get(1), selection));
    }

    private static final List<SoftHistogram.Bins> BINS = List.of(
            new SoftHistogram.Bins(-4, 0.125f, 65, 0.125f),
            new SoftHistogram.Bins(-1, 1, 3, 1),
            new SoftHistogram.Bins(-3, 0.1f, 60, 0.35f),
            new SoftHistogram.Bins(-2, 0.5f, 9, 0.125f),
            new SoftHistogram.Bins(0, 1, 2, 40),
            new SoftHistogram.Bins(-5, 0.01f, 1000, 0.01f));

    /** A case of the histogram or of its gradient. */
    @FunctionalInterface
    private interface HistogramCase {
        OpCase of(long rows, long cols, long gap, SoftHistogram.Bins bins, SoftHistogram.Mass kind, Fill values);
    }

    private static void softHistogram(List<OpCase> cases) {
        histograms(cases, OpCases::softHistogram);
    }

    private static void softHistogramGradient(List<OpCase> cases) {
        histograms(cases, OpCases::softHistogramGradient);
    }

    private static void histograms(List<OpCase> cases, HistogramCase of) {
        for (SoftHistogram.Mass kind : SoftHistogram.Mass.values()) {
            for (SoftHistogram.Bins bins : BINS) {
                cases.add(of.of(37, 35, 1, bins, kind, normal(1)));
            }
            for (int cols : WIDTHS) {
                cases.add(of.of(3, cols, 2, BINS.getFirst(), kind, normal(1)));
            }
            cases.add(of.of(1, 20011, 0, BINS.getFirst(), kind, normal(1)));
            cases.add(of.of(0, 3, 0, BINS.getFirst(), kind, normal(1)));
            for (Fill fill : List.of(
                    constant(0.5),
                    ties(),
                    outliers(),
                    uniform(-1e38, 1e38),
                    uniform(-1e-38, 1e-38),
                    nan(special(normal(1))))) {
                cases.add(of.of(5, 131, 1, BINS.getFirst(), kind, fill));
            }
        }
    }

    private static OpCase softHistogram(
            long rows, long cols, long gap, SoftHistogram.Bins bins, SoftHistogram.Mass kind, Fill values) {
        return new OpCase(
                SoftHistogram.class,
                histogramLabel(rows, cols, bins, kind, values),
                // A bump is rounded some times, and may be counted in units of 2^-21.
                new Tolerance.Rounding(32, 1 + rows * cols / 64.0),
                List.of(
                        read("values", DType.F32, rows, cols, gap, values),
                        new Operand("mass", Role.UPDATE, DType.F64, 1, bins.count(), 0, of(DType.F64, normal(1))),
                        new Operand("outside", Role.UPDATE, DType.I64, 1, 1, 0, longs(3))),
                views -> new SoftHistogram(views.get(0), bins, kind, views.get(1), views.get(2)));
    }

    private static OpCase softHistogramGradient(
            long rows, long cols, long gap, SoftHistogram.Bins bins, SoftHistogram.Mass kind, Fill values) {
        return new OpCase(
                SoftHistogramGradient.class,
                histogramLabel(rows, cols, bins, kind, values),
                // Bumps on both sides of a value pull in opposite directions, each by up to about its slope.
                new Tolerance.Rounding(64, 2.0 * (bins.reach() + 1) / bins.bandwidth()),
                List.of(
                        read("values", DType.F32, rows, cols, gap, values),
                        read("slope", 1, bins.count(), normal(1)),
                        write("gradient", DType.F32, rows, cols, 2)),
                views -> new SoftHistogramGradient(views.get(0), bins, kind, views.get(1), views.get(2)));
    }

    private static String histogramLabel(
            long rows, long cols, SoftHistogram.Bins bins, SoftHistogram.Mass kind, Fill values) {
        return kind.name().toLowerCase(Locale.ROOT) + " of " + rows + "x" + cols + " in " + bins.count() + " bins of "
                + bins.bandwidth() + values;
    }

    private static void sparseGemv(List<OpCase> cases) {
        for (DType dtype : new DType[] {DType.BF16, DType.F32}) {
            for (int cols : WIDTHS) {
                cases.add(sparseGemv(dtype, 9, cols, 1, 0.5, cols % 2 == 1, normal(1)));
            }
            for (int vectors : new int[] {0, 2, 3, 5, 8, 13}) {
                cases.add(sparseGemv(dtype, 7, 130, vectors, 0.5, true, normal(1)));
            }
            for (double kept : new double[] {0, 0.02, 0.3, 0.97, 1}) {
                cases.add(sparseGemv(dtype, 41, 193, 1, kept, false, normal(1)));
            }
            cases.add(sparseGemv(dtype, 1, 1031, 1, 0.4, false, normal(1)));
            cases.add(sparseGemv(dtype, 300, 2049, 1, 0.3, true, normal(1)));
            cases.add(sparseGemv(dtype, 3, 0, 2, 0.5, true, normal(1)));
            cases.add(sparseGemv(dtype, 5, 65, 1, 0.5, false, special(normal(1))));
            cases.add(sparseGemv(dtype, 5, 65, 2, 0.5, false, nan(normal(1))));
        }
    }

    private static OpCase sparseGemv(
            DType dtype, long rows, long cols, long vectors, double kept, boolean biased, Fill x) {
        int rowBytes = Math.toIntExact(Math.ceilDiv(cols, 8));
        byte[] mask = new byte[Math.toIntExact(rows * rowBytes)];
        long[] starts = new long[Math.toIntExact(rows + 1)];
        SplittableRandom random = new SplittableRandom(cols);
        for (int row = 0; row < rows; row++) {
            starts[row + 1] = starts[row];
            for (int col = 0; col < cols; col++) {
                if (random.nextDouble() < kept) {
                    mask[row * rowBytes + col / 8] |= (byte) (1 << (col % 8));
                    starts[row + 1]++;
                }
            }
        }
        List<Operand> operands = new ArrayList<>(List.of(
                read("values", dtype, 1, starts[starts.length - 1], 0, of(dtype, normal(1))),
                read("mask", DType.U8, rows, rowBytes, 1, bytes(MemorySegment.ofArray(mask))),
                read("starts", DType.I64, 1, rows + 1, 0, bytes(MemorySegment.ofArray(starts))),
                read("x", DType.F32, vectors, cols, 1, x),
                write("y", DType.F32, vectors, rows, 2)));
        if (biased) {
            operands.add(read("bias", 1, rows, normal(1)));
        }
        return new OpCase(
                SparseGemv.class,
                gemvLabel(dtype, rows, cols, vectors, biased, x) + " kept " + kept,
                new Tolerance.Rounding(8 + 2 * cols, 1),
                operands,
                views -> new SparseGemv(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        views.get(3),
                        biased ? views.get(5) : null,
                        views.get(4)));
    }

    private static Fill bytes(MemorySegment content) {
        return (random, packed, rows, cols) -> packed.copyFrom(content);
    }

    private static Operand read(String name, DType dtype, long rows, long cols, long gap, Fill fill) {
        return new Operand(name, Role.READ, dtype, rows, cols, gap, fill);
    }

    private static Operand read(String name, long rows, long cols, Fill fill) {
        return read(name, DType.F32, rows, cols, 0, fill);
    }

    private static Operand write(String name, DType dtype, long rows, long cols, long gap) {
        return new Operand(name, Role.WRITE, dtype, rows, cols, gap, (random, packed, r, c) -> packed.fill((byte) 0));
    }

    private static Operand update(String name, long rows, long cols, Fill fill) {
        return new Operand(name, Role.UPDATE, DType.F32, rows, cols, 0, fill);
    }

    /** A fill of F32 elements that says in a case's label what it is, unless that is the usual thing. */
    private record Profile(String suffix, Fill fill) implements Fill {
        @Override
        public void fill(SplittableRandom random, MemorySegment packed, long rows, long cols) {
            fill.fill(random, packed, rows, cols);
        }

        @Override
        public String toString() {
            return suffix;
        }
    }

    private static Fill profile(String suffix, Function<SplittableRandom, DoubleSupplier> values) {
        return new Profile(suffix, (random, packed, rows, cols) -> {
            DoubleSupplier supplier = values.apply(random);
            for (long i = 0; i < rows * cols; i++) {
                Floats.set(DType.F32, packed, i, supplier.getAsDouble());
            }
        });
    }

    private static Fill normal(double spread) {
        return profile(spread == 1 ? "" : " spread " + spread, random -> () -> spread * random.nextGaussian());
    }

    private static Fill uniform(double low, double high) {
        return profile(" in " + low + ".." + high, random -> () -> low + (high - low) * random.nextDouble());
    }

    private static Fill lognormal() {
        return profile(" lognormal", random -> () -> Math.exp(random.nextGaussian()));
    }

    private static Fill constant(double value) {
        return profile(" all " + value, random -> () -> value);
    }

    /** A handful of magnitudes, both signs. */
    private static Fill ties() {
        return profile(" ties", random -> () -> random.nextInt(-3, 4));
    }

    private static Fill sorted() {
        return profile(" sorted", random -> {
            double[] last = {0};
            return () -> last[0] += 1e-3 * random.nextDouble();
        });
    }

    private static Fill outliers() {
        return profile(" outliers", random -> () -> random.nextGaussian() * (random.nextInt(50) == 0 ? 1e4 : 1));
    }

    /** Seven of eight elements become a zero of either sign. */
    private static Fill sparse(Fill base) {
        return overlay(" sparse", base, 8, 0.0, -0.0, 0.0, 0.0, -0.0, 0.0, 0.0);
    }

    private static Fill special(Fill base) {
        return overlay(
                " special", base, 12, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, 0.0, -0.0, Float.MAX_VALUE);
    }

    private static Fill nan(Fill base) {
        return overlay(" NaN", base, 9, Double.NaN);
    }

    /** One in {@code of} elements, for each of the values, is replaced by it. */
    private static Fill overlay(String suffix, Fill base, int of, double... values) {
        return new Profile(base + suffix, (random, packed, rows, cols) -> {
            base.fill(random, packed, rows, cols);
            for (long i = 0; i < rows * cols; i++) {
                int draw = random.nextInt(of);
                if (draw < values.length) {
                    Floats.set(DType.F32, packed, i, values[draw]);
                }
            }
        });
    }

    /** The same values in another floating type. */
    private static Fill of(DType dtype, Fill base) {
        return new Profile(base.toString(), (random, packed, rows, cols) -> {
            MemorySegment values = MemorySegment.ofArray(new float[Math.toIntExact(rows * cols)]);
            base.fill(random, values, rows, cols);
            for (long i = 0; i < rows * cols; i++) {
                Floats.set(dtype, packed, i, Floats.get(DType.F32, values, i));
            }
        });
    }

    /** The first {@link #PERIOD} elements again and again. */
    private static Fill repeated(Fill base) {
        return (random, packed, rows, cols) -> {
            long elements = rows * cols;
            if (elements <= PERIOD) {
                base.fill(random, packed, rows, cols);
                return;
            }
            long period = PERIOD * (packed.byteSize() / elements);
            base.fill(random, packed.asSlice(0, period), 1, PERIOD);
            for (long done = period; done < packed.byteSize(); done += period) {
                long more = Math.min(period, packed.byteSize() - done);
                MemorySegment.copy(packed, 0, packed, done, more);
            }
        };
    }

    /** A few NaNs and infinities. */
    private static Fill broken(Fill base) {
        return overlay(" broken", base, 1000, Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY);
    }

    private static Fill doubles(double value) {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_DOUBLE, i, value);
            }
        };
    }

    private static Fill longs(long value) {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_LONG, i, value);
            }
        };
    }

    private static Fill ints(int bound) {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_INT, i, random.nextInt(bound));
            }
        };
    }

    private static Fill anyBytes() {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                packed.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt());
            }
        };
    }

    private static Fill all(int value) {
        return (random, packed, rows, cols) -> packed.fill((byte) value);
    }

    /** Multiples of a quarter. */
    private static Fill halves() {
        return profile(" halves", random -> () -> random.nextInt(-300, 300) / 4.0);
    }

    /** Weights of up to this magnitude in their places, or all of them -128; zeros where no weight has its place. */
    private static Fill weightsOf(Int8Filters.Layout layout, int magnitude, boolean isLargest) {
        return (random, packed, rows, cols) -> {
            packed.fill((byte) 0);
            for (int filter = 0; filter < layout.filters(); filter++) {
                for (int tap = 0; tap < layout.taps(); tap++) {
                    for (int channel = 0; channel < layout.channels() / layout.groups(); channel++) {
                        int weight = isLargest ? Byte.MIN_VALUE : random.nextInt(-magnitude, magnitude + 1);
                        long place = layout.row(filter) * cols + layout.col(filter, tap, channel);
                        packed.set(ValueLayout.JAVA_BYTE, place, (byte) weight);
                    }
                }
            }
        };
    }

    /** Every second bit on average, none beyond the last column. */
    private static Fill maskBits(long maskedCols) {
        return (random, packed, rows, cols) -> {
            for (long i = 0; i < rows * cols; i++) {
                boolean last = i % cols == cols - 1 && maskedCols % 32 != 0;
                int used = last ? (1 << (maskedCols % 32)) - 1 : -1;
                packed.setAtIndex(ValueLayout.JAVA_INT, i, random.nextInt() & used);
            }
        };
    }

    /** Sequences padded on the right by different amounts; the last one sees nothing at all. */
    private static Fill padding() {
        return (random, packed, rows, cols) -> {
            long[] lengths = new long[Math.toIntExact(rows)];
            Arrays.setAll(lengths, row -> row == rows - 1 ? 0 : random.nextLong(1, cols + 1));
            for (long i = 0; i < rows * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_INT, i, i % cols < lengths[(int) (i / cols)] ? 1 : 0);
            }
        };
    }
}
