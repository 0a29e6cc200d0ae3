package org.sentei.backend.gpu;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import org.sentei.backend.gpu.Launch.Argument;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Aggregate;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.Attention;
import org.sentei.kernel.AttentionResidual;
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
 * Which kernels an op is made of, with their arguments and numbers of groups: the same on every device.
 *
 * <p>How work is split depends on the op's shape alone, so that sums run in the same order every time.
 */
final class LaunchTable {
    /** Rows and columns of a tile of a matrix product: TILE of {@code gemm.inc}, and of {@code gram.inc}. */
    static final int GEMM_TILE = 128;

    static final int GRAM_TILE = 64;
    /** Edge of a block of a factorization, and of a transposed tile: BLOCK of the kernel files. */
    static final int BLOCK = 32;
    /** Rows that a group takes of an op with few columns a row: LANE_ROWS of {@code portable.h}. */
    static final int LANE_ROWS = 4;
    /** Vectors that are multiplied with weights at a time: VECTORS of {@code gemv.inc} and {@code sparse_gemv.inc}. */
    static final int VECTORS = 4;
    /** Rows of a product up to which it is one with vectors: beyond, tiles of it are filled well enough. */
    private static final int FEW_VECTORS = 8;
    /** Columns of a group that sums over rows: COLUMNS of {@code column_moments.inc} and {@code state_counts.inc}. */
    static final int COLUMNS = 32;
    /** Output pixels and filters of a group: PIXELS and FILTERS of {@code conv2d_int8.inc}. */
    static final int CONV_TILE = 64;

    /** Queries, and columns of the values, of a group: QUERIES and VALUES of {@code attention.inc}. */
    static final int QUERIES = 16;

    static final int VALUES = 64;

    /** Queries or keys of a group, and numbers a query: TILE_ROWS and STATES of {@code attention_residual.inc}. */
    static final int RESIDUAL_ROWS = 16;

    static final int RESIDUAL_STATES = 8;
    /** Values that a group counts at a time, and the most ranges of them: CHUNK of {@code soft_histogram.inc}. */
    private static final int HISTOGRAM_CHUNK = 1024;

    private static final int HISTOGRAM_RANGES = 1024;

    /** Ranges of rows that a step of descent is split into at most: each counts for itself. */
    private static final int STEP_RANGES = 1024;

    /** Ranges of rows that a sum over rows is split into at most, and rows that one has at least. */
    private static final int RANGES = 64;

    private static final int RANGE_ROWS = 256;
    /** Elements of a unit that a group counts the states of at least, where there are that many. */
    private static final long STATE_ELEMENTS = 512;
    /** Elements that a histogram counts in 32 bits. */
    private static final long COUNTED = 1L << 31;
    /** Rows of a quadratic form whose differences and products are held at once. */
    private static final int FORM_ROWS = 1024;

    /** Where the memory of views is, and memory for what lies between kernels. */
    interface Memory {
        /** Handle of a view's memory; fails for memory of others. */
        long handle(View view);

        /** A packed matrix that lasts until the op's launches have run. */
        View scratch(DType dtype, long rows, long cols);

        /** I32 1x1: a kernel that meets what it must not raises it to the op's number. */
        View fault();
    }

    private final Memory memory;
    private final int number;
    private final List<Launch> launches = new ArrayList<>();

    private LaunchTable(Memory memory, int number) {
        this.memory = memory;
        this.number = number;
    }

    /**
     * The launches of an op, in their order.
     *
     * @param number what the op raises the fault to
     */
    static List<Launch> of(Op op, Memory memory, int number) {
        LaunchTable table = new LaunchTable(memory, number);
        table.add(op);
        return List.copyOf(table.launches);
    }

    /** Whether rows and columns, and what is counted at once, can be counted by the kernels' 32-bit integers. */
    static boolean fits(Op op) {
        if (op instanceof ScoreSelect select
                && select.selection() instanceof Selection.Matrix
                && select.weights().elements() > COUNTED) {
            return false;
        }
        return Stream.concat(op.reads().stream(), op.writes().stream())
                .allMatch(view -> view.rows() < Integer.MAX_VALUE - Launch.GROUP
                        && view.cols() < Integer.MAX_VALUE - Launch.GROUP);
    }

    /** Whether the op's kernels can raise the fault. */
    static boolean canFail(Op op) {
        return op instanceof Aggregate || op instanceof Embedding || op instanceof SparseGemv;
    }

    /** What a raised fault means. */
    static DeviceException failure(Op op, String backend) {
        return switch (op) {
            case Aggregate aggregate -> aggregate.broken(backend);
            case SparseGemv gemv -> gemv.broken(backend);
            case Embedding embedding ->
                new DeviceException(
                        backend,
                        op.name(),
                        0,
                        "an id is outside the table of " + embedding.table().rows(),
                        DeviceException.Kind.LAUNCH);
            default -> throw new IllegalArgumentException(op.name() + " raises no fault");
        };
    }

    private void add(Op op) {
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
        int function = switch (op.function()) { // the numbers of activate.inc
            case RELU -> 0;
            case GELU -> 1;
            case GELU_TANH -> 2;
            case SILU -> 3;
        };
        kernel("activate_f32")
                .integer(function)
                .matrix(op.x())
                .integer(op.x().cols())
                .matrix(op.multiplier())
                .matrix(op.y())
                .run(stripes(op.x()));
    }

    private void aggregate(Aggregate op) {
        kernel("aggregate_f32")
                .matrix(op.starts())
                .matrix(op.neighbours())
                .matrix(op.weights())
                .wide(op.weights().cols())
                .matrix(op.x())
                .integer(op.x().rows())
                .integer(op.x().cols())
                .matrix(op.y())
                .integer(op.y().rows())
                .fault()
                .run(tiles(op.y().rows(), LANE_ROWS));
    }

    private void applyMask(ApplyMask op) {
        Kernel kernel = op.bias() == null
                ? kernel("apply_mask_f32")
                : kernel("apply_mask_bias_f32").fp64();
        kernel.matrix(op.weights()).integer(op.weights().cols()).matrix(op.mask());
        if (op.bias() != null) {
            kernel.matrix(op.mean()).matrix(op.bias());
        }
        kernel.run(op.weights().rows());
    }

    private void attention(Attention op) {
        Attention.Geometry geometry = op.geometry();
        long tasks = op.query().rows() / geometry.length() * geometry.heads();
        long queryTiles = Math.ceilDiv(geometry.length(), QUERIES);
        long valueTiles = Math.ceilDiv(geometry.headSize(), VALUES);
        kernel("attention_f32")
                .matrix(op.query())
                .matrix(op.key())
                .matrix(op.value())
                .matrix(op.visible())
                .matrix(op.output())
                .geometry(geometry)
                .run(tasks * queryTiles * valueTiles);
    }

    private void attentionResidual(AttentionResidual op) {
        Attention.Geometry geometry = op.geometry();
        long length = geometry.length();
        long sequences = op.query().rows() / length;
        long tasks = sequences * geometry.heads();
        long rowTiles = tiles(length, RESIDUAL_ROWS);
        View states = memory.scratch(DType.F32, Math.max(1, tasks * length), RESIDUAL_STATES);
        residual("attention_residual_rows_f32", op)
                .matrix(states)
                .geometry(geometry)
                .run(tasks * rowTiles);
        kernel("attention_residual_loss_f64")
                .fp64()
                .matrix(states)
                .matrix(op.loss())
                .integer(geometry.heads())
                .integer(sequences)
                .integer(length)
                .run(geometry.heads());
        if (op.queryGradient() != null) {
            long valueTiles = tiles(geometry.headSize(), VALUES);
            residual("attention_residual_query_f32", op)
                    .matrix(states)
                    .matrix(op.queryGradient())
                    .geometry(geometry)
                    .run(tasks * rowTiles * valueTiles);
            residual("attention_residual_key_f32", op)
                    .matrix(states)
                    .matrix(op.keyGradient())
                    .geometry(geometry)
                    .run(sequences * geometry.keyHeads() * rowTiles * valueTiles);
        }
    }

    private Kernel residual(String entry, AttentionResidual op) {
        return kernel(entry)
                .matrix(op.query())
                .matrix(op.key())
                .matrix(op.queryDifference())
                .matrix(op.keyDifference())
                .matrix(op.visible());
    }

    private void bandStop(BandStop op) {
        kernel("band_stop_f32")
                .integer(op.form() instanceof BandStop.Form.Tanh ? 1 : 0)
                .matrix(op.latents())
                .integer(op.latents().cols())
                .matrix(op.weights())
                .matrix(op.slope())
                .number(op.sharpness())
                .number(op.sharpness() * op.squaredThreshold())
                .number(op.gain())
                .run(stripes(op.latents()));
    }

    private void cast(Cast op) {
        View source = op.source();
        String types = source.dtype().label() + "_" + op.target().dtype().label();
        boolean fp64 = source.dtype() == DType.F64 || op.target().dtype() == DType.F64;
        Kernel kernel = kernel(op.transpose() ? "cast_transposed_" + types : "cast_" + types);
        (fp64 ? kernel.fp64() : kernel)
                .matrix(source)
                .integer(source.rows())
                .integer(source.cols())
                .matrix(op.target())
                .run(op.transpose() ? tiles(source.rows(), BLOCK) * tiles(source.cols(), BLOCK) : stripes(source));
    }

    private void columnMoments(ColumnMoments op) {
        long rows = op.x().rows();
        long cols = op.x().cols();
        long range = rangeRows(rows);
        long ranges = tiles(rows, range);
        if (ranges == 0) {
            return;
        }
        View partial = memory.scratch(DType.F64, 3 * ranges, cols);
        kernel("column_moments_f32")
                .fp64()
                .matrix(op.x())
                .integer(rows)
                .integer(cols)
                .integer(range)
                .matrix(partial)
                .run(ranges * tiles(cols, COLUMNS));
        kernel("column_moments_merge_f64")
                .fp64()
                .matrix(partial)
                .integer(rows)
                .integer(cols)
                .integer(range)
                .matrix(op.count())
                .matrix(op.moments())
                .run(tiles(cols, Launch.GROUP));
        kernel("column_moments_count_i64").matrix(op.count()).integer(rows).run(1);
    }

    private void combineInt8(CombineInt8 op) {
        int aLowest = Levels.lowest(op.a().dtype());
        int bLowest = Levels.lowest(op.b().dtype());
        Kernel kernel = kernel("combine_int8_u8")
                .matrix(op.a())
                .integer(op.a().cols())
                .integer(aLowest)
                .integer(op.aZero() - aLowest)
                .matrix(op.b())
                .integer(bLowest)
                .integer(op.bZero() - bLowest)
                .integer(op.shared())
                .matrix(op.y())
                .levels(op.levels());
        switch (op.rule()) {
            case CombineInt8.Rule.Sum(float aScale, float bScale) ->
                kernel.integer(0).number(aScale).number(bScale);
            case CombineInt8.Rule.Product(float scale) ->
                kernel.integer(1).number(scale).number(1);
        }
        kernel.run(stripes(op.y()));
    }

    private void conv2dInt8(Conv2dInt8 op) {
        Conv2dInt8.Residual added = op.residual();
        int lowest = Levels.lowest(op.x().dtype());
        int addedLowest = added == null ? 0 : Levels.lowest(added.values().dtype());
        Int8Filters.Layout layout = op.layout();
        Kernel kernel = kernel(layout.depthwise() ? "conv2d_int8_depthwise_u8" : "conv2d_int8_u8")
                .matrix(op.x())
                .integer(lowest)
                .integer(op.inputZero() - lowest)
                .matrix(op.weights())
                .matrix(op.bias())
                .matrix(op.scale())
                .matrix(added == null ? null : added.values())
                .integer(addedLowest)
                .integer(added == null ? 0 : added.zero() - addedLowest)
                .number(added == null ? 1 : added.scale())
                .matrix(op.y())
                .levels(op.levels())
                .window(op.window())
                .integer(op.y().rows())
                .integer(layout.channels());
        if (layout.depthwise()) {
            kernel.run(stripes(op.y()));
        } else {
            kernel.integer(layout.filters())
                    .integer(layout.groups())
                    .run(tiles(op.y().rows(), CONV_TILE)
                            * layout.groups()
                            * tiles(layout.filters() / layout.groups(), CONV_TILE));
        }
    }

    private void countValues(CountValues op) {
        long rows = op.x().rows();
        long range = rangeRows(rows);
        long ranges = tiles(rows, range);
        View partial = memory.scratch(DType.I64, Math.max(1, ranges), 3);
        kernel("count_values_f32")
                .matrix(op.x())
                .integer(rows)
                .integer(op.x().cols())
                .integer(range)
                .matrix(partial)
                .run(ranges);
        kernel("count_values_total_i64")
                .matrix(partial)
                .integer(ranges)
                .matrix(op.counts())
                .run(1);
    }

    private void embedding(Embedding op) {
        kernel("embedding_f32")
                .matrix(op.table())
                .integer(op.table().rows())
                .integer(op.output().cols())
                .matrix(op.ids())
                .matrix(op.output())
                .integer(op.accumulate() ? 1 : 0)
                .fault()
                .run(stripes(op.output()));
    }

    private void gemm(Gemm op) {
        if (op.transposeB() && !op.accumulate() && op.a().rows() <= FEW_VECTORS) {
            gemv(new Gemv(op.b(), op.a(), op.bias(), op.c()));
            return;
        }
        gemm(op.a(), op.b(), op.transposeB(), op.bias(), op.c(), op.accumulate());
    }

    private void gemm(View a, View b, boolean transposeB, View bias, View c, boolean accumulate) {
        kernel(transposeB ? "gemm_transposed_f32" : "gemm_f32")
                .matrix(a)
                .matrix(b)
                .matrix(bias)
                .matrix(c)
                .integer(c.rows())
                .integer(c.cols())
                .integer(a.cols())
                .integer(accumulate ? 1 : 0)
                .run(tiles(c.rows(), GEMM_TILE) * tiles(c.cols(), GEMM_TILE));
    }

    private void gemv(Gemv op) {
        kernel("gemv_" + op.weights().dtype().label())
                .matrix(op.weights())
                .integer(op.weights().rows())
                .integer(op.weights().cols())
                .matrix(op.x())
                .integer(op.x().rows())
                .matrix(op.bias())
                .matrix(op.y())
                .run(tiles(op.weights().rows(), LANE_ROWS) * tiles(op.x().rows(), VECTORS));
    }

    private void gram(Gram op) {
        long tiles = tiles(op.x().cols(), GRAM_TILE);
        kernel("gram_f32")
                .fp64()
                .matrix(op.x())
                .integer(op.x().rows())
                .integer(op.x().cols())
                .integer(Gram.CHUNK)
                .matrix(op.sum())
                .run(op.x().rows() == 0 ? 0 : tiles * (tiles + 1) / 2);
    }

    private void inverseCholesky(InverseCholesky op) {
        long size = op.gram().rows();
        long blocks = tiles(size, BLOCK);
        // The factor L of the reversed matrix, the inverses of its diagonal blocks (before, the shift), and its
        // inverse.
        View lower = memory.scratch(DType.F64, size, size);
        View diagonal = memory.scratch(DType.F64, blocks * BLOCK, BLOCK);
        View inverse = memory.scratch(DType.F64, size, size);
        kernel("inverse_cholesky_begin_f64")
                .fp64()
                .matrix(op.gram())
                .integer(size)
                .real(op.damping())
                .matrix(diagonal)
                .matrix(op.status())
                .run(1);
        kernel("inverse_cholesky_load_f64")
                .fp64()
                .matrix(op.gram())
                .integer(size)
                .matrix(diagonal)
                .matrix(lower)
                .run(size * tiles(size, Launch.GROUP));
        for (long block = 0; block < blocks; block++) {
            long below = blocks - block - 1;
            kernel("inverse_cholesky_pivot_f64")
                    .fp64()
                    .matrix(lower)
                    .integer(size)
                    .integer(block)
                    .matrix(diagonal)
                    .matrix(op.status())
                    .run(1);
            kernel("inverse_cholesky_panel_f64")
                    .fp64()
                    .matrix(lower)
                    .integer(size)
                    .integer(block)
                    .matrix(diagonal)
                    .run(below);
            kernel("inverse_cholesky_update_f64")
                    .fp64()
                    .matrix(lower)
                    .integer(size)
                    .integer(block)
                    .run(below * (below + 1) / 2);
        }
        kernel("inverse_cholesky_invert_f64")
                .fp64()
                .matrix(lower)
                .integer(size)
                .matrix(diagonal)
                .matrix(inverse)
                .run(blocks);
        kernel("inverse_cholesky_store_f32")
                .fp64()
                .matrix(inverse)
                .integer(size)
                .matrix(op.status())
                .matrix(op.factor())
                .run(size * tiles(size, Launch.GROUP));
    }

    private void layerNorm(LayerNorm op) {
        kernel("layer_norm_f32")
                .matrix(op.x())
                .integer(op.x().cols())
                .matrix(op.gain())
                .matrix(op.bias())
                .matrix(op.y())
                .number(op.epsilon())
                .run(op.x().rows());
    }

    private void lookup(Lookup op) {
        kernel(op.y().dtype() == DType.F32 ? "lookup_u8_f32" : "lookup_u8_u8")
                .matrix(op.x())
                .integer(op.x().cols())
                .integer(Levels.lowest(op.x().dtype()))
                .matrix(op.table())
                .matrix(op.y())
                .run(stripes(op.x()));
    }

    private void maskDifference(MaskDifference op) {
        kernel("mask_difference_f32")
                .matrix(op.weights())
                .integer(op.weights().cols())
                .matrix(op.mask())
                .matrix(op.difference())
                .run(stripes(op.weights()));
    }

    private void maskStep(MaskStep op) {
        long rows = op.weights().rows();
        long range = Math.max(1, tiles(rows, STEP_RANGES));
        long ranges = tiles(rows, range);
        View partial = memory.scratch(DType.I64, 1, Math.max(1, ranges));
        switch (op.rule()) {
            case MaskStep.Rule.Soft soft ->
                kernel("mask_step_soft_f32")
                        .matrix(op.weights())
                        .matrix(op.gradient())
                        .matrix(op.state())
                        .matrix(soft.difference())
                        .integer(rows)
                        .integer(op.weights().cols())
                        .integer(range)
                        .number(soft.rate())
                        .number(soft.decay())
                        .matrix(partial)
                        .run(ranges);
            case MaskStep.Rule.Adam adam ->
                kernel("mask_step_adam_f32")
                        .matrix(op.weights())
                        .matrix(op.gradient())
                        .matrix(op.state())
                        .matrix(adam.first())
                        .matrix(adam.second())
                        .integer(rows)
                        .integer(op.weights().cols())
                        .integer(range)
                        .matrix(adam.numbers())
                        .number(adam.beta1())
                        .number(adam.beta2())
                        .matrix(partial)
                        .run(ranges);
        }
        kernel("mask_step_total_i64")
                .matrix(partial)
                .integer(ranges)
                .matrix(op.invalid())
                .run(1);
    }

    private void maxPoolInt8(MaxPoolInt8 op) {
        kernel("max_pool_int8_u8")
                .matrix(op.x())
                .integer(op.x().cols())
                .integer(Levels.lowest(op.x().dtype()))
                .matrix(op.y())
                .window(op.window())
                .run(stripes(op.y()));
    }

    private void obsSweep(ObsSweep op) {
        ObsSweep.Groups groups = op.groups();
        kernel("obs_sweep_f32")
                .fp64()
                .matrix(op.weights())
                .integer(op.weights().rows())
                .integer(op.weights().cols())
                .matrix(op.factor())
                .matrix(op.mask())
                .matrix(op.errors())
                .matrix(groups == null ? null : groups.scale())
                .integer(groups == null ? 0 : groups.prune())
                .integer(groups == null ? 0 : groups.size())
                .run(tiles(op.weights().rows(), LANE_ROWS));
    }

    private void quadraticForm(QuadraticForm op) {
        long cols = op.a().cols();
        long held = Math.min(FORM_ROWS, op.a().rows());
        View symmetric = memory.scratch(DType.F32, cols, cols);
        View differences = op.b() == null ? null : memory.scratch(DType.F32, held, cols);
        View products = memory.scratch(DType.F32, held, cols);
        kernel("quadratic_form_symmetric_f64")
                .fp64()
                .matrix(op.gram())
                .integer(cols)
                .matrix(symmetric)
                .run(tiles(cols, BLOCK) * tiles(cols, BLOCK));
        for (long first = 0; first < op.a().rows(); first += FORM_ROWS) {
            View a = op.a().rows(first, Math.min(op.a().rows(), first + FORM_ROWS));
            View product = products.rows(0, a.rows());
            View d = a;
            if (op.b() != null) {
                d = differences.rows(0, a.rows());
                kernel("quadratic_form_difference_f32")
                        .matrix(a)
                        .integer(cols)
                        .matrix(op.b().rows(first, first + a.rows()))
                        .matrix(d)
                        .run(stripes(a));
            }
            gemm(d, symmetric, false, null, product, false);
            kernel("quadratic_form_f64")
                    .fp64()
                    .matrix(d)
                    .integer(a.rows())
                    .integer(cols)
                    .matrix(product)
                    .matrix(op.sum())
                    .matrix(op.forms().rows(first, first + a.rows()))
                    .run(tiles(a.rows(), LANE_ROWS));
        }
    }

    private void quantize(Quantize op) {
        kernel("quantize_f32")
                .fp64() // OpenCL rounds quotients of fp32 numbers as it likes
                .matrix(op.x())
                .integer(op.x().cols())
                .number(op.scale())
                .matrix(op.y())
                .levels(op.levels())
                .run(stripes(op.x()));
    }

    private void rmsNorm(RmsNorm op) {
        kernel("rms_norm_f32")
                .matrix(op.x())
                .integer(op.x().cols())
                .matrix(op.gain())
                .matrix(op.y())
                .number(op.epsilon())
                .run(op.x().rows());
    }

    private void rmsNormGradient(RmsNormGradient op) {
        kernel("rms_norm_gradient_f32")
                .matrix(op.x())
                .integer(op.x().rows())
                .integer(op.x().cols())
                .matrix(op.gain())
                .matrix(op.slope())
                .matrix(op.gradient())
                .number(op.epsilon())
                .run(tiles(op.x().rows(), LANE_ROWS));
    }

    private void rotary(Rotary op) {
        kernel("rotary_f32")
                .matrix(op.x())
                .integer(op.heads())
                .integer(op.cosine().cols())
                .matrix(op.cosine())
                .matrix(op.sine())
                .integer(op.cosine().rows())
                .run(op.x().rows() * tiles(op.x().cols() / 2, Launch.GROUP));
    }

    private void scoreHistogram(ScoreHistogram op) {
        int bins = op.half().bins();
        View counts = memory.scratch(DType.I32, 1, bins);
        long rows = op.weights().rows();
        long counted = Math.max(1, COUNTED / Math.max(1, op.weights().cols()));
        for (long first = 0; first < rows; first += counted) {
            View weights = op.weights().rows(first, Math.min(rows, first + counted));
            count(weights, op.scale(), op.half() == ScoreHistogram.Half.HIGH ? -1 : op.prefix(), null, counts);
            kernel("score_histogram_add_i64")
                    .matrix(counts)
                    .integer(bins)
                    .matrix(op.histogram())
                    .run(tiles(bins, Launch.GROUP));
        }
    }

    /**
     * The keys of at most {@link #COUNTED} weights.
     *
     * @param prefix upper half of the keys that are counted, -1 for all keys
     * @param cut I64 whose first is the prefix, null where {@code prefix} is
     * @param counts I32 1 x bins, overwritten
     */
    private void count(View weights, View scale, int prefix, View cut, View counts) {
        kernel("score_histogram_clear_i32")
                .matrix(counts)
                .integer(counts.cols())
                .run(tiles(counts.cols(), Launch.GROUP));
        kernel("score_histogram_f32")
                .matrix(weights)
                .integer(weights.cols())
                .matrix(scale)
                .integer(prefix)
                .matrix(cut)
                .matrix(counts)
                .run(stripes(weights));
    }

    /**
     * Where the {@code prune} smallest scores of a matrix end: the first half of their key, then the second, by histograms that
     * are read on the device.
     *
     * @return I64 1x2, the key and how many equal to it go
     */
    private View cut(View weights, View scale, long prune) {
        View cut = memory.scratch(DType.I64, 1, 2);
        View counts = memory.scratch(DType.I32, 1, ScoreHistogram.Half.HIGH.bins());
        View sums = memory.scratch(DType.I64, 1, Launch.GROUP);
        for (ScoreHistogram.Half half : ScoreHistogram.Half.values()) {
            boolean high = half == ScoreHistogram.Half.HIGH;
            View bins = counts.cols(0, half.bins());
            count(weights, scale, -1, high ? null : cut, bins);
            long groups = bins.cols() / Launch.GROUP;
            kernel("score_select_sums_i32").matrix(bins).matrix(sums).run(groups);
            kernel("score_select_position_i64")
                    .matrix(bins)
                    .matrix(sums)
                    .integer(groups)
                    .wide(high ? prune : -1)
                    .matrix(cut)
                    .run(1);
        }
        return cut;
    }

    private void scoreSelect(ScoreSelect op) {
        View weights = op.weights();
        switch (op.selection()) {
            case Selection.Row(long prune) ->
                kernel("score_select_row_f32")
                        .matrix(weights)
                        .integer(weights.cols())
                        .matrix(op.scale())
                        .integer(prune)
                        .matrix(op.mask())
                        .run(weights.rows());
            case Selection.Groups(int prune, int size) ->
                kernel("score_select_groups_f32")
                        .matrix(weights)
                        .integer(weights.cols())
                        .matrix(op.scale())
                        .integer(prune)
                        .integer(size)
                        .matrix(op.mask())
                        .run(stripes(weights));
            case Selection.Matrix(long prune) -> upToCut(op, 0, 0, cut(weights, op.scale(), prune));
            case Selection.Cut(int key, long ties) -> upToCut(op, key, ties, null);
        }
    }

    /** @param cut I64 1x2 that holds key and ties, null where the arguments do */
    private void upToCut(ScoreSelect op, int key, long ties, View cut) {
        View weights = op.weights();
        View before = memory.scratch(DType.I64, 1, Math.max(1, weights.rows()));
        kernel("score_select_ties_f32")
                .matrix(weights)
                .integer(weights.cols())
                .matrix(op.scale())
                .integer(key)
                .matrix(cut)
                .matrix(before)
                .run(weights.rows());
        kernel("score_select_before_i64").matrix(before).integer(weights.rows()).run(1);
        kernel("score_select_cut_f32")
                .matrix(weights)
                .integer(weights.cols())
                .matrix(op.scale())
                .integer(key)
                .wide(ties)
                .matrix(cut)
                .matrix(before)
                .matrix(op.mask())
                .run(weights.rows());
    }

    private void softHistogram(SoftHistogram op) {
        long elements = op.values().elements();
        long range = HISTOGRAM_CHUNK * tiles(elements, (long) HISTOGRAM_CHUNK * HISTOGRAM_RANGES);
        long ranges = range == 0 ? 0 : tiles(elements, range);
        int bins = op.bins().count();
        View partial = memory.scratch(DType.I64, Math.max(1, ranges), bins + 1L);
        bins(
                        kernel("soft_histogram_f32")
                                .fp64()
                                .matrix(op.values())
                                .integer(op.values().cols()),
                        op.bins(),
                        op.kind())
                .wide(elements)
                .wide(range)
                .matrix(partial)
                .run(ranges);
        kernel("soft_histogram_total_f64")
                .fp64()
                .matrix(partial)
                .integer(ranges)
                .integer(bins)
                .matrix(op.mass())
                .matrix(op.outside())
                .run(ranges == 0 ? 0 : tiles(bins + 1, LANE_ROWS));
    }

    private void softHistogramGradient(SoftHistogramGradient op) {
        bins(
                        kernel("soft_histogram_gradient_f32")
                                .fp64()
                                .matrix(op.values())
                                .integer(op.values().cols()),
                        op.bins(),
                        op.kind())
                .matrix(op.slope())
                .matrix(op.gradient())
                .run(stripes(op.values()));
    }

    private void stateCounts(StateCounts op) {
        long rows = op.x().rows();
        long units = op.units();
        long inner = op.inner();
        if (op.x().elements() == 0) {
            return;
        }
        long range = Math.max(tiles(STATE_ELEMENTS, inner), tiles(rows, RANGES));
        long ranges = tiles(rows, range);
        View partial = memory.scratch(DType.I64, StateCounts.STATES * ranges, units);
        if (inner == 1) {
            kernel("state_counts_columns_f32")
                    .matrix(op.x())
                    .integer(rows)
                    .integer(units)
                    .integer(range)
                    .matrix(partial)
                    .run(ranges * tiles(units, COLUMNS));
        } else {
            kernel("state_counts_f32")
                    .matrix(op.x())
                    .integer(rows)
                    .integer(units)
                    .integer(inner)
                    .integer(range)
                    .matrix(partial)
                    .run(ranges * units);
        }
        kernel("state_counts_total_i64")
                .matrix(partial)
                .integer(ranges)
                .integer(units)
                .matrix(op.counts())
                .run(StateCounts.STATES * tiles(units, Launch.GROUP));
    }

    private static Kernel bins(Kernel kernel, SoftHistogram.Bins bins, SoftHistogram.Mass kind) {
        return kernel.number(bins.first())
                .number(bins.spacing())
                .number(bins.bandwidth())
                .integer(bins.count())
                .integer(bins.reach())
                .integer(kind == SoftHistogram.Mass.SHARES ? 1 : 0);
    }

    private void sparseGemv(SparseGemv op) {
        kernel("sparse_gemv_" + op.values().dtype().label())
                .matrix(op.values())
                .wide(op.values().cols())
                .matrix(op.mask())
                .matrix(op.starts())
                .integer(op.y().cols())
                .integer(op.x().cols())
                .matrix(op.x())
                .integer(op.x().rows())
                .matrix(op.bias())
                .matrix(op.y())
                .fault()
                .run(tiles(op.y().cols(), LANE_ROWS) * tiles(op.x().rows(), VECTORS));
    }

    /** Rows of a range of a sum over rows. */
    private static long rangeRows(long rows) {
        return Math.max(RANGE_ROWS, tiles(rows, RANGES));
    }

    private static long tiles(long size, long tile) {
        return Math.ceilDiv(size, tile);
    }

    /** Groups that take a stripe of a row's columns each: element-by-element ops. */
    private static long stripes(View view) {
        return view.rows() * tiles(view.cols(), Launch.GROUP);
    }

    private Kernel kernel(String entry) {
        return new Kernel(entry);
    }

    /** A kernel whose arguments are being written down. */
    private final class Kernel {
        private final String entry;
        private final List<Argument> arguments = new ArrayList<>();
        private boolean fp64;

        Kernel(String entry) {
            this.entry = entry;
        }

        Kernel fp64() {
            fp64 = true;
            return this;
        }

        Kernel matrix(View view) {
            arguments.add(
                    view == null
                            ? new Argument.Matrix(0, 0, 0)
                            : new Argument.Matrix(
                                    memory.handle(view),
                                    view.offset() / view.dtype().bytes(),
                                    view.stride()));
            return this;
        }

        Kernel integer(long value) {
            arguments.add(new Argument.Int32(Math.toIntExact(value)));
            return this;
        }

        Kernel wide(long value) {
            arguments.add(new Argument.Int64(value));
            return this;
        }

        Kernel number(float value) {
            arguments.add(new Argument.Fp32(value));
            return this;
        }

        Kernel real(double value) {
            arguments.add(new Argument.Fp64(value));
            return this;
        }

        Kernel geometry(Attention.Geometry geometry) {
            return integer(geometry.heads())
                    .integer(geometry.keyHeads())
                    .integer(geometry.headSize())
                    .integer(geometry.length())
                    .number(geometry.scale())
                    .integer(geometry.causal() ? 1 : 0)
                    .integer(Math.min(geometry.window(), geometry.length()));
        }

        Kernel levels(Levels levels) {
            return integer(levels.zero()).integer(levels.low()).integer(levels.high());
        }

        Kernel window(Window window) {
            return integer(window.height())
                    .integer(window.width())
                    .integer(window.outputHeight())
                    .integer(window.outputWidth())
                    .integer(window.kernelHeight())
                    .integer(window.kernelWidth())
                    .integer(window.strideY())
                    .integer(window.strideX())
                    .integer(window.dilationY())
                    .integer(window.dilationX())
                    .integer(window.top())
                    .integer(window.left());
        }

        Kernel fault() {
            return matrix(memory.fault()).integer(number);
        }

        /** Notes the launch; nothing runs on no groups. */
        void run(long groups) {
            if (groups > 0) {
                launches.add(new Launch(file(entry), entry, fp64, Math.toIntExact(groups), List.copyOf(arguments)));
            }
        }
    }

    /** The file of an entry: the op with the longest stem that the entry's name begins with. */
    private static String file(String entry) {
        return STEMS.stream()
                .filter(stem -> entry.startsWith(stem + "_"))
                .max(Comparator.comparingInt(String::length))
                .orElseThrow(() -> new IllegalArgumentException("no op has a kernel " + entry));
    }

    private static final List<String> STEMS = Arrays.stream(Op.class.getPermittedSubclasses())
            .map(op -> Op.stem(op.asSubclass(Op.class)))
            .toList();
}
