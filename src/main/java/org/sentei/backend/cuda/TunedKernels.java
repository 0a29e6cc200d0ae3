package org.sentei.backend.cuda;

import java.util.ArrayList;
import java.util.List;
import org.sentei.backend.gpu.Launch;
import org.sentei.backend.gpu.Launch.Argument;

/**
 * Which kernels of {@code kernels/cuda} stand in for portable ones, and for what sizes. They give the same masks, and moments
 * within the same tolerance.
 *
 * @param multiprocessors of the device, for kernels whose groups take one row after the other
 */
record TunedKernels(int multiprocessors) {
    /** Rows and columns of a tile: GRAM_TILE of {@code kernels/cuda/gram.cu}. */
    private static final int GRAM_TILE = 128;

    /** The launch to make in place of this one; itself where no kernel was tuned for it. */
    Launch of(Launch launch) {
        return switch (launch.entry()) {
            case "column_moments_f32" ->
                new Launch(
                        launch.file(), "column_moments_fast_f32", launch.fp64(), launch.groups(), launch.arguments());
            case "gram_f32" -> {
                long tiles = Math.ceilDiv(integer(launch, 2), GRAM_TILE);
                yield integer(launch, 2) > GRAM_TILE / 2
                        ? new Launch(
                                launch.file(),
                                "gram_tensor_f32",
                                launch.fp64(),
                                Math.toIntExact(tiles * (tiles + 1) / 2),
                                launch.arguments())
                        : launch;
            }
            case "score_select_row_f32" -> {
                int cols = integer(launch, 1);
                if (cols <= 4096) {
                    yield rows(launch, "score_select_row4096_f32", 4);
                }
                yield cols <= 11264 ? rows(launch, "score_select_row11264_f32", 2) : launch;
            }
            case "score_select_groups_f32" -> {
                int cols = integer(launch, 1);
                int rows = launch.groups() / Math.ceilDiv(cols, Launch.GROUP);
                yield integer(launch, 4) == 4
                        ? without(launch, 4, "score_select_groups4_f32", rows * Math.ceilDiv(cols, 4 * Launch.GROUP))
                        : launch;
            }
            default -> launch;
        };
    }

    private static int integer(Launch launch, int index) {
        return ((Argument.Int32) launch.arguments().get(index)).value();
    }

    /** A group a row becomes as many groups as fit the device at once; the kernel learns how many rows there are. */
    private Launch rows(Launch launch, String entry, int resident) {
        List<Argument> arguments = new ArrayList<>(launch.arguments());
        arguments.add(new Argument.Int32(launch.groups()));
        int groups = Math.min(launch.groups(), resident * multiprocessors);
        return new Launch(launch.file(), entry, launch.fp64(), groups, arguments);
    }

    private static Launch without(Launch launch, int argument, String entry, int groups) {
        List<Argument> arguments = new ArrayList<>(launch.arguments());
        arguments.remove(argument);
        return new Launch(launch.file(), entry, launch.fp64(), groups, arguments);
    }
}
