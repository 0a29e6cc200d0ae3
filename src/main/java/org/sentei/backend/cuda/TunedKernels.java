package org.sentei.backend.cuda;

import java.util.ArrayList;
import java.util.List;
import org.sentei.backend.gpu.Launch;
import org.sentei.backend.gpu.Launch.Argument;

/**
 * Which kernels of {@code kernels/cuda} stand in for portable ones, and for what sizes. They give the same masks, and numbers
 * within the same tolerance.
 *
 * @param multiprocessors of the device, for kernels whose groups take one row after the other
 */
record TunedKernels(int multiprocessors) {
    /** Rows and columns of a tile: GRAM_TILE of {@code kernels/cuda/gram.cu}. */
    private static final int GRAM_TILE = 128;

    /** Head sizes of {@code attention.cu}, and queries of a group: FLASH_QUERIES. */
    private static final List<Integer> FLASH_HEADS = List.of(32, 64, 96, 128);

    private static final int FLASH_QUERIES = 128;
    /** Head sizes of {@code attention_residual.cu}. */
    private static final List<Integer> RESIDUAL_HEADS = List.of(32, 64, 128);
    /** Queries, and columns of the values, of a group of {@code attention.inc} and {@code attention_residual.inc}. */
    private static final int QUERIES = 16;

    private static final int VALUES = 64;
    private static final int WARP = 32;
    /** Bytes that are copied at once, pixels of a group, and its filters, of {@code conv2d_int8.cu}: CONV_PIXELS there. */
    private static final int PIECE = 16;

    private static final int CONV_PIXELS = 128;
    private static final int CONV_FILTERS = 128;
    /** Filters of which the portable kernel's tiles have not more to spare than those for tensor cores. */
    private static final int LEAST_FILTERS = 16;
    /** Rows of a group: MASK_ROWS of {@code apply_mask.cu}, SWEEP_ROWS of {@code obs_sweep.cu}. */
    private static final int MASK_ROWS = 4;

    private static final int SWEEP_ROWS = 32;
    private static final int SWEEP_COLUMNS = 128;
    /** Columns that a thread's HELD fours of {@code norm.h} make for a warp, and for a group. */
    private static final int WARP_COLUMNS = 4 * 8 * WARP;

    private static final int GROUP_COLUMNS = 4 * 8 * Launch.GROUP;
    /** Columns to which 32 bits can still add what a group takes at a time. */
    private static final int LARGEST = Integer.MAX_VALUE - 4 * Launch.GROUP;

    /** The launch to make in place of this one; itself where no kernel was tuned for it. */
    Launch of(Launch launch) {
        return switch (launch.entry()) {
            case "activate_f32" ->
                packed(launch, 2, 1, 3, 4)
                        ? with(
                                launch,
                                "activate_packed4_f32",
                                rows(launch, integer(launch, 2)) * tiles(integer(launch, 2), 4 * Launch.GROUP))
                        : launch;
            case "apply_mask_f32" ->
                packed(launch, 1, 0)
                        ? with(launch, "apply_mask_rows4_f32", tiles(launch.groups(), MASK_ROWS), launch.groups())
                        : launch;
            case "apply_mask_bias_f32" ->
                packed(launch, 1, 0, 3)
                        ? with(launch, "apply_mask_bias_rows4_f32", tiles(launch.groups(), MASK_ROWS), launch.groups())
                        : launch;
            case "attention_f32" -> {
                int size = integer(launch, 7);
                int length = integer(launch, 8);
                int tasks = launch.groups() / (tiles(length, QUERIES) * tiles(size, VALUES));
                yield FLASH_HEADS.contains(size) && length > FLASH_QUERIES / 2 && packed(launch, 7, 0, 1, 2, 4)
                        ? without(launch, 7, "attention_tensor" + size + "_f32", tasks * tiles(length, FLASH_QUERIES))
                        : launch;
            }
            case "attention_residual_rows_f32" -> residual(launch, "attention_residual_rows", 8);
            case "attention_residual_query_f32" -> residual(launch, "attention_residual_query", 9);
            case "attention_residual_key_f32" -> residual(launch, "attention_residual_key", 9);
            case "column_moments_f32" -> with(launch, "column_moments_fast_f32", launch.groups());
            case "conv2d_int8_u8" -> convolution(launch);
            case "conv2d_int8_depthwise_u8" -> {
                int channels = integer(launch, 27);
                yield channels % 4 == 0 && aligned(launch, 4, 0, 10) && aligned(launch, PIECE, 3)
                        ? with(
                                launch,
                                "conv2d_int8_depthwise_packed4_u8",
                                rows(launch, channels) * tiles(channels, 4 * Launch.GROUP))
                        : launch;
            }
            case "gram_f32" -> {
                int tiles = tiles(integer(launch, 2), GRAM_TILE);
                yield integer(launch, 2) > GRAM_TILE / 2
                        ? with(launch, "gram_tensor_f32", Math.toIntExact((long) tiles * (tiles + 1) / 2))
                        : launch;
            }
            case "layer_norm_f32" -> packed(launch, 1, 0, 2, 3, 4) ? norm(launch, "layer_norm") : launch;
            case "obs_sweep_f32" ->
                integer(launch, 2) <= SWEEP_COLUMNS
                                && List.of(0, 4, 8).contains(integer(launch, 8))
                                && packed(launch, 2, 0, 3, 5, 6)
                        ? with(launch, "obs_sweep_block128_f32", tiles(integer(launch, 1), SWEEP_ROWS))
                        : launch;
            case "rms_norm_f32" -> packed(launch, 1, 0, 2, 3) ? norm(launch, "rms_norm") : launch;
            case "rotary_f32" -> {
                int pairs = integer(launch, 1) * integer(launch, 2);
                yield packed(launch, 2, 0, 3, 4)
                        ? with(launch, "rotary_packed4_f32", rows(launch, pairs) * tiles(pairs, 4 * Launch.GROUP))
                        : launch;
            }
            case "score_select_row_f32" -> {
                int cols = integer(launch, 1);
                if (cols <= 4096) {
                    yield resident(launch, "score_select_row4096_f32", 4);
                }
                yield cols <= 11264 ? resident(launch, "score_select_row11264_f32", 2) : launch;
            }
            case "score_select_groups_f32" -> {
                int cols = integer(launch, 1);
                int groups = rows(launch, cols) * tiles(cols, 4 * Launch.GROUP);
                yield integer(launch, 4) == 4 && cols < LARGEST
                        ? without(launch, 4, "score_select_groups4_f32", groups)
                        : launch;
            }
            default -> launch;
        };
    }

    /**
     * All kernels of an op or none: a pair's logits must have the same bits in each of them.
     *
     * @param size which argument is the size of a head, followed by the length
     */
    private static Launch residual(Launch launch, String stem, int size) {
        int head = integer(launch, size);
        int length = integer(launch, size + 1);
        boolean near = launch.arguments().subList(0, 4).stream()
                .allMatch(operand -> ((Argument.Matrix) operand).stride() <= Integer.MAX_VALUE);
        if (!RESIDUAL_HEADS.contains(head)
                || length <= FLASH_QUERIES / 2
                || !near
                || !packed(launch, size, 0, 1, 2, 3)) {
            return launch;
        }
        boolean hasValues = !stem.equals("attention_residual_rows");
        int tasks = launch.groups() / (tiles(length, QUERIES) * (hasValues ? tiles(head, VALUES) : 1));
        return without(launch, size, stem + "_tensor" + head + "_f32", tasks * tiles(length, FLASH_QUERIES));
    }

    /** Tensor cores where channels are whole pieces and there are filters enough to share them. */
    private static Launch convolution(Launch launch) {
        int rows = integer(launch, 26);
        int groups = integer(launch, 29);
        int depth = integer(launch, 27) / groups;
        int filters = integer(launch, 28) / groups;
        if (depth % PIECE != 0 || filters <= LEAST_FILTERS || !aligned(launch, PIECE, 0, 3)) {
            return launch;
        }
        int across = filters > CONV_FILTERS / 2 ? CONV_FILTERS : CONV_FILTERS / 2;
        long tiles = (long) tiles(rows, CONV_PIXELS) * groups * tiles(filters, across);
        return with(launch, "conv2d_int8_tensor" + across + "_u8", Math.toIntExact(tiles));
    }

    /** Whether every row of these matrices of bytes begins at a multiple of so many. */
    private static boolean aligned(Launch launch, int bytes, int... matrices) {
        boolean aligned = true;
        for (int index : matrices) {
            Argument.Matrix matrix = (Argument.Matrix) launch.arguments().get(index);
            aligned &= ((matrix.handle() + matrix.first()) | matrix.stride()) % bytes == 0;
        }
        return aligned;
    }

    /** Norms in registers: a warp a row where it holds one, otherwise a group. */
    private static Launch norm(Launch launch, String stem) {
        int cols = integer(launch, 1);
        if (cols <= WARP_COLUMNS) {
            int groups = tiles(launch.groups(), Launch.GROUP / WARP);
            return with(launch, stem + "_row" + WARP_COLUMNS + "_f32", groups, launch.groups());
        }
        return cols <= GROUP_COLUMNS ? with(launch, stem + "_row" + GROUP_COLUMNS + "_f32", launch.groups()) : launch;
    }

    /**
     * Whether four floats can be loaded at once everywhere.
     *
     * @param cols which argument is the number of columns
     * @param matrices which are the matrices of fp32 whose rows have as many
     */
    private static boolean packed(Launch launch, int cols, int... matrices) {
        boolean packed = integer(launch, cols) % 4 == 0 && integer(launch, cols) < LARGEST;
        for (int index : matrices) {
            Argument.Matrix matrix = (Argument.Matrix) launch.arguments().get(index);
            packed &= ((matrix.handle() / Float.BYTES + matrix.first()) | matrix.stride()) % 4 == 0;
        }
        return packed;
    }

    private static int integer(Launch launch, int index) {
        return ((Argument.Int32) launch.arguments().get(index)).value();
    }

    /** Rows of a matrix of which a group takes GROUP columns. */
    private static int rows(Launch launch, int cols) {
        return launch.groups() / tiles(cols, Launch.GROUP);
    }

    private static int tiles(int size, int tile) {
        return Math.ceilDiv(size, tile);
    }

    /** A group a row becomes as many groups as fit the device at once; the kernel learns how many rows there are. */
    private Launch resident(Launch launch, String entry, int resident) {
        return with(launch, entry, Math.min(launch.groups(), resident * multiprocessors), launch.groups());
    }

    private static Launch with(Launch launch, String entry, int groups, int... more) {
        List<Argument> arguments = new ArrayList<>(launch.arguments());
        for (int value : more) {
            arguments.add(new Argument.Int32(value));
        }
        return new Launch(launch.file(), entry, launch.fp64(), groups, arguments);
    }

    private static Launch without(Launch launch, int argument, String entry, int groups) {
        List<Argument> arguments = new ArrayList<>(launch.arguments());
        arguments.remove(argument);
        return new Launch(launch.file(), entry, launch.fp64(), groups, arguments);
    }
}
