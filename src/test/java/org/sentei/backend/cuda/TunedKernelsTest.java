package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.backend.gpu.Launch;
import org.sentei.backend.gpu.Launch.Argument;

/** Which kernel runs instead of which, on how many groups. */
class TunedKernelsTest {
    private static final Argument MATRIX = new Argument.Matrix(1, 2, 3);

    private final TunedKernels tuned = new TunedKernels(132);

    @ParameterizedTest
    @CsvSource({
        "1, 7, score_select_row4096_f32, 7",
        "4096, 4096, score_select_row4096_f32, 528",
        "4097, 4096, score_select_row11264_f32, 264",
        "11264, 100, score_select_row11264_f32, 100",
        "11265, 4096, score_select_row_f32, 4096"
    })
    void rowsAreSelectedByTheNarrowestKernelOnAsManyGroupsAsFit(int cols, int rows, String entry, int groups) {
        List<Argument> arguments =
                List.of(MATRIX, new Argument.Int32(cols), MATRIX, new Argument.Int32(cols / 2), MATRIX);
        Launch launch = tuned.of(new Launch("score_select", "score_select_row_f32", false, rows, arguments));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
        assertThat(launch.arguments()).startsWith(arguments.toArray(Argument[]::new));
        if (!entry.equals("score_select_row_f32")) {
            assertThat(launch.arguments()).endsWith(new Argument.Int32(rows)).hasSize(arguments.size() + 1);
        }
    }

    @ParameterizedTest
    @CsvSource({"4, 4, 5", "4, 1024, 5", "4, 1028, 10", "4, 5000, 25", "8, 1024, 20"})
    void groupsOfFourColumnsTakeFourColumnsAThread(int size, int cols, int groups) {
        List<Argument> arguments = List.of(
                MATRIX, new Argument.Int32(cols), MATRIX, new Argument.Int32(2), new Argument.Int32(size), MATRIX);
        int portable = 5 * Math.ceilDiv(cols, Launch.GROUP);
        Launch launch = tuned.of(new Launch("score_select", "score_select_groups_f32", false, portable, arguments));

        assertThat(launch.groups()).isEqualTo(groups);
        assertThat(launch.entry()).isEqualTo(size == 4 ? "score_select_groups4_f32" : "score_select_groups_f32");
        assertThat(launch.arguments()).hasSize(size == 4 ? 5 : 6);
    }

    @ParameterizedTest
    @CsvSource({"64, gram_f32, 1", "65, gram_tensor_f32, 1", "128, gram_tensor_f32, 1", "257, gram_tensor_f32, 6"})
    void gramMatricesTakeTensorCoresUnlessHalfATileHoldsThem(int cols, String entry, int groups) {
        List<Argument> arguments =
                List.of(MATRIX, new Argument.Int32(1000), new Argument.Int32(cols), new Argument.Int32(1024), MATRIX);
        int tiles = Math.ceilDiv(cols, 64);
        Launch launch = tuned.of(new Launch("gram", "gram_f32", true, tiles * (tiles + 1) / 2, arguments));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
        assertThat(launch.arguments()).isEqualTo(arguments);
    }

    @Test
    void whatIsNotTunedStaysAsItIs() {
        Launch launch = new Launch("gemm", "gemm_f32", false, 3, List.of(MATRIX));

        assertThat(tuned.of(launch)).isSameAs(launch);
    }
}
