package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.LongStream;

/**
 * Rows and columns of a case's operands that are an op of their own: what the whole op must give there can be computed from
 * them alone. So a case is held against the reference that would take minutes for the whole of it.
 *
 * @param part the case of what was picked
 * @param picks by operand, in their order
 */
record Sample(OpCase part, List<Pick> picks) {
    /** Rows or columns that are computed apart, of which this many are picked. */
    private static final int PICKED = 64;

    /** Which rows and which columns of an operand; null for all. */
    record Pick(List<Long> rows, List<Long> cols) {
        static final Pick ALL = new Pick(null, null);

        static Pick rows(List<Long> rows) {
            return new Pick(rows, null);
        }

        static Pick cols(List<Long> cols) {
            return new Pick(null, cols);
        }

        /** What is picked of packed rows, packed. */
        MemorySegment of(OpCase.Operand operand, MemorySegment packed, SegmentAllocator target) {
            if (rows == null && cols == null) {
                return packed;
            }
            long bytes = operand.dtype().bytes();
            long height = rows == null ? operand.rows() : rows.size();
            long width = cols == null ? operand.cols() : cols.size();
            MemorySegment picked = target.allocate(height * width * bytes, Long.BYTES);
            for (long row = 0; row < height; row++) {
                long start = (rows == null ? row : rows.get((int) row)) * operand.cols();
                if (cols == null) {
                    MemorySegment.copy(packed, start * bytes, picked, row * width * bytes, width * bytes);
                    continue;
                }
                for (int col = 0; col < cols.size(); col++) {
                    MemorySegment.copy(
                            packed, (start + cols.get(col)) * bytes, picked, (row * width + col) * bytes, bytes);
                }
            }
            return picked;
        }

        private OpCase.Operand of(OpCase.Operand operand) {
            return new OpCase.Operand(
                    operand.name(),
                    operand.role(),
                    operand.dtype(),
                    rows == null ? operand.rows() : rows.size(),
                    cols == null ? operand.cols() : cols.size(),
                    0,
                    operand.fill());
        }
    }

    /** A sample of a case, or all of it where its op has no parts that can be computed alone. */
    static Sample of(OpCase opCase, SplittableRandom random) {
        List<View> views = OpCases.unplaced(opCase);
        Op op = opCase.build().apply(views);
        Map<View, Pick> picks = new HashMap<>();
        Function<List<View>, Op> build = opCase.build();
        switch (op) {
            case Activate activate -> together(picks, random, activate.x(), activate.multiplier(), activate.y());
            case ApplyMask apply -> {
                List<Long> rows = pick(apply.weights().rows(), random);
                picks.put(apply.weights(), Pick.rows(rows));
                picks.put(apply.mask(), Pick.rows(rows));
                picks.put(apply.bias(), Pick.cols(rows));
            }
            case Attention attention -> build = heads(picks, random, attention, views);
            case BandStop filter -> together(picks, random, filter.latents(), filter.weights(), filter.slope());
            case Cast cast -> {
                if (!cast.transpose()) {
                    together(picks, random, cast.source(), cast.target());
                }
            }
            case ColumnMoments moments -> {
                List<Long> cols = pick(moments.x().cols(), random);
                picks.put(moments.x(), Pick.cols(cols));
                picks.put(moments.moments(), Pick.cols(cols));
            }
            case Gemm gemm -> {
                List<Long> rows = pick(gemm.c().rows(), random);
                List<Long> cols = pick(gemm.c().cols(), random);
                picks.put(gemm.a(), Pick.rows(rows));
                picks.put(gemm.b(), gemm.transposeB() ? Pick.rows(cols) : Pick.cols(cols));
                picks.put(gemm.bias(), Pick.cols(cols));
                picks.put(gemm.c(), new Pick(rows, cols));
            }
            case Gemv gemv -> {
                List<Long> rows = pick(gemv.weights().rows(), random);
                picks.put(gemv.weights(), Pick.rows(rows));
                picks.put(gemv.bias(), Pick.cols(rows));
                picks.put(gemv.y(), Pick.cols(rows));
            }
            case Gram gram -> {
                List<Long> cols = pick(gram.x().cols(), random);
                picks.put(gram.x(), Pick.cols(cols));
                picks.put(gram.sum(), new Pick(cols, cols));
            }
            case LayerNorm norm -> together(picks, random, norm.x(), norm.y());
            case MaskDifference difference ->
                together(picks, random, difference.weights(), difference.mask(), difference.difference());
            case ObsSweep sweep -> together(picks, random, sweep.weights(), sweep.mask(), sweep.errors());
            case QuadraticForm form -> together(picks, random, form.a(), form.b(), form.forms());
            case RmsNorm norm -> together(picks, random, norm.x(), norm.y());
            case RmsNormGradient norm -> together(picks, random, norm.x(), norm.slope(), norm.gradient());
            case ScoreSelect select -> {
                // In a matrix, or at a cut, rows compete with each other.
                if (select.selection() instanceof ScoreSelect.Selection.Row
                        || select.selection() instanceof ScoreSelect.Selection.Groups) {
                    together(picks, random, select.weights(), select.mask());
                }
            }
            case CombineInt8 combine -> {
                if (combine.shared() == 1) {
                    together(picks, random, combine.a(), combine.b(), combine.y());
                }
            }
            case Lookup lookup -> together(picks, random, lookup.x(), lookup.y());
            case Quantize quantize -> together(picks, random, quantize.x(), quantize.y());
            case SoftHistogramGradient gradient -> together(picks, random, gradient.values(), gradient.gradient());
            case Aggregate _,
                    AttentionResidual _,
                    Conv2dInt8 _,
                    CountValues _,
                    Embedding _,
                    InverseCholesky _,
                    MaskStep _,
                    MaxPoolInt8 _,
                    Rotary _,
                    ScoreHistogram _,
                    SoftHistogram _,
                    SparseGemv _,
                    StateCounts _ -> {
                // Sums over everything, or so cheap that the whole can be computed.
            }
        }
        List<Pick> ofOperands = new ArrayList<>();
        List<OpCase.Operand> operands = new ArrayList<>();
        for (int i = 0; i < views.size(); i++) {
            Pick pick = picks.getOrDefault(views.get(i), Pick.ALL);
            ofOperands.add(pick);
            operands.add(pick.of(opCase.operands().get(i)));
        }
        return new Sample(
                new OpCase(opCase.op(), opCase.label(), opCase.tolerance(), List.copyOf(operands), build),
                List.copyOf(ofOperands));
    }

    /** The same rows of all of these; a matrix that the op does without may be null. */
    private static void together(Map<View, Pick> picks, SplittableRandom random, View... views) {
        Pick rows = Pick.rows(pick(views[0].rows(), random));
        for (View view : views) {
            picks.put(view, rows);
        }
    }

    /** One head of one sequence with the keys and values that it reads. */
    private static Function<List<View>, Op> heads(
            Map<View, Pick> picks, SplittableRandom random, Attention attention, List<View> views) {
        Attention.Geometry geometry = attention.geometry();
        int group = geometry.heads() / geometry.keyHeads();
        int size = geometry.headSize();
        int head = random.nextInt(geometry.heads());
        long sequences = attention.query().rows() / geometry.length();
        long sequence = random.nextLong(sequences);
        List<Long> tokens = range(sequence * geometry.length(), geometry.length());
        Pick of = new Pick(tokens, range((long) head * size, size));
        Pick ofKeys = new Pick(tokens, range((long) (head / group) * size, size));
        picks.put(attention.query(), of);
        picks.put(attention.output(), of);
        picks.put(attention.key(), ofKeys);
        picks.put(attention.value(), ofKeys);
        picks.put(attention.visible(), Pick.rows(List.of(sequence)));
        Attention.Geometry one = new Attention.Geometry(
                1, 1, size, geometry.length(), geometry.scale(), geometry.causal(), geometry.window());
        int query = views.indexOf(attention.query());
        int key = views.indexOf(attention.key());
        int value = views.indexOf(attention.value());
        int visible = views.indexOf(attention.visible());
        int output = views.indexOf(attention.output());
        return part -> new Attention(
                part.get(query),
                part.get(key),
                part.get(value),
                visible < 0 ? null : part.get(visible),
                part.get(output),
                one);
    }

    private static List<Long> range(long first, long count) {
        return LongStream.range(first, first + count).boxed().toList();
    }

    /** The first, the last and others in between, ascending. */
    private static List<Long> pick(long count, SplittableRandom random) {
        if (count <= PICKED) {
            return range(0, count);
        }
        TreeSet<Long> picked = new TreeSet<>(List.of(0L, count - 1));
        while (picked.size() < PICKED) {
            picked.add(random.nextLong(count));
        }
        return List.copyOf(picked);
    }
}
