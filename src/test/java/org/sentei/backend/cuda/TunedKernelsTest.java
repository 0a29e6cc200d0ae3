package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Collections;
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

    @ParameterizedTest
    @CsvSource({
        "32, 65, 0, attention_tensor32_f32, 6",
        "64, 128, 4, attention_tensor64_f32, 6",
        "96, 129, 0, attention_tensor96_f32, 12",
        "128, 4096, 8, attention_tensor128_f32, 192",
        "64, 64, 0, attention_f32, 24",
        "128, 300, 2, attention_f32, 228",
        "80, 300, 0, attention_f32, 228"
    })
    void longSequencesOfTheUsualHeadsTakeTensorCores(int size, int length, int gap, String entry, int groups) {
        List<Argument> arguments = List.of(
                matrix(gap, 2L * size + gap),
                matrix(0, size + gap),
                matrix(4, size),
                MATRIX,
                matrix(8, 2L * size),
                integer(2),
                integer(1),
                integer(size),
                integer(length),
                new Argument.Fp32(0.1f),
                integer(1),
                integer(0));
        // Three sequences of two heads, each split into queries and columns as the portable kernel does it.
        int portable = 3 * 2 * Math.ceilDiv(length, 16) * Math.ceilDiv(size, 64);
        Launch launch = tuned.of(new Launch("attention", "attention_f32", false, portable, arguments));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
        if (entry.equals("attention_f32")) {
            assertThat(launch.arguments()).isEqualTo(arguments);
        } else { // which knows its head size
            assertThat(launch.arguments())
                    .hasSize(11)
                    .startsWith(arguments.subList(0, 7).toArray(Argument[]::new));
        }
    }

    @ParameterizedTest
    @CsvSource({
        "32, 65, 96, _tensor32_f32, 6",
        "64, 129, 64, _tensor64_f32, 12",
        "128, 2048, 2147483644, _tensor128_f32, 96",
        "64, 64, 64, _f32, 0",
        "96, 300, 96, _f32, 0",
        "64, 300, 66, _f32, 0",
        "64, 300, 2147483648, _f32, 0"
    })
    void residualsTakeTensorCoresInAllTheirKernelsOrInNone(
            int size, int length, long stride, String suffix, int groups) {
        List<Argument> operands =
                List.of(matrix(0, stride), matrix(4, stride), matrix(8, stride), matrix(12, stride), MATRIX);
        List<Argument> geometry = List.of(
                integer(2),
                integer(1),
                integer(size),
                integer(length),
                new Argument.Fp32(0.1f),
                integer(1),
                integer(0));
        // Three sequences of two heads, or six of one key head.
        int portable = 3 * 2 * Math.ceilDiv(length, 16);
        for (String kernel : List.of("rows", "query", "key")) {
            boolean hasValues = !kernel.equals("rows");
            List<Argument> arguments = new ArrayList<>(operands);
            arguments.addAll(Collections.nCopies(hasValues ? 2 : 1, MATRIX)); // states and a gradient, aligned or not
            arguments.addAll(geometry);
            Launch launch = tuned.of(new Launch(
                    "attention_residual",
                    "attention_residual_" + kernel + "_f32",
                    false,
                    hasValues ? portable * Math.ceilDiv(size, 64) : portable,
                    arguments));

            assertThat(launch.entry()).isEqualTo("attention_residual_" + kernel + suffix);
            if (suffix.equals("_f32")) {
                assertThat(launch.arguments()).isEqualTo(arguments);
            } else { // which knows its head size
                assertThat(launch.groups()).isEqualTo(groups);
                arguments.remove(integer(size));
                assertThat(launch.arguments()).isEqualTo(arguments);
            }
        }
    }

    private static Argument matrix(long first, long stride) {
        return new Argument.Matrix(256, first, stride);
    }

    private static Argument integer(int value) {
        return new Argument.Int32(value);
    }

    @ParameterizedTest
    @CsvSource({
        "8192, 0, 8192, rms_norm_row8192_f32, 9, 5",
        "1024, 4, 1028, rms_norm_row1024_f32, 2, 6",
        "1028, 8, 1032, rms_norm_row8192_f32, 9, 5",
        "8196, 0, 8196, rms_norm_f32, 9, 5",
        "1022, 0, 1024, rms_norm_f32, 9, 5",
        "1024, 2, 1024, rms_norm_f32, 9, 5",
        "1024, 0, 1026, rms_norm_f32, 9, 5"
    })
    void normsOfRowsThatRegistersHoldAreRowsOfFours(
            int cols, long first, long stride, String entry, int groups, int arguments) {
        Launch launch = tuned.of(new Launch(
                "rms_norm",
                "rms_norm_f32",
                false,
                9,
                List.of(
                        matrix(first, stride),
                        integer(cols),
                        matrix(0, cols),
                        matrix(first, stride),
                        new Argument.Fp32(0))));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
        assertThat(launch.arguments()).hasSize(arguments);
    }

    @ParameterizedTest
    @CsvSource({
        "128, 0, 128, obs_sweep_block128_f32, 2",
        "100, 4, 128, obs_sweep_block128_f32, 2",
        "64, 8, 4096, obs_sweep_block128_f32, 2",
        "60, 12, 128, obs_sweep_f32, 9",
        "132, 4, 132, obs_sweep_f32, 9",
        "126, 0, 128, obs_sweep_f32, 9",
        "128, 4, 130, obs_sweep_f32, 9"
    })
    void blocksAreSweptInRegistersWhereTheyAndTheirGroupsFit(
            int cols, int size, long stride, String entry, int groups) {
        Launch launch = tuned.of(new Launch(
                "obs_sweep",
                "obs_sweep_f32",
                true,
                9,
                List.of(
                        matrix(0, stride),
                        integer(34),
                        integer(cols),
                        matrix(4, stride),
                        MATRIX,
                        matrix(8, stride),
                        size == 0 ? new Argument.Matrix(0, 0, 0) : matrix(0, stride),
                        integer(size / 2),
                        integer(size))));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
    }

    @Test
    void masksAreAppliedToFourRowsAGroup() {
        Launch launch = tuned.of(new Launch(
                "apply_mask",
                "apply_mask_bias_f32",
                true,
                9,
                List.of(matrix(0, 8), integer(8), MATRIX, matrix(4, 8), MATRIX)));

        assertThat(launch.entry()).isEqualTo("apply_mask_bias_rows4_f32");
        assertThat(launch.groups()).isEqualTo(3);
        assertThat(launch.arguments()).hasSize(6).endsWith(integer(9));
    }

    @Test
    void elementsAreTakenByFour() {
        List<Argument> activation =
                List.of(integer(3), matrix(0, 1028), integer(1028), matrix(0, 1028), matrix(0, 1028));
        List<Argument> rotary =
                List.of(matrix(0, 2048), integer(17), integer(60), matrix(0, 60), matrix(0, 60), integer(3));

        assertThat(tuned.of(new Launch("activate", "activate_f32", false, 7 * 5, activation)))
                .isEqualTo(new Launch("activate", "activate_packed4_f32", false, 7 * 2, activation));
        assertThat(tuned.of(new Launch("rotary", "rotary_f32", false, 7 * 4, rotary)))
                .isEqualTo(new Launch("rotary", "rotary_packed4_f32", false, 7, rotary));
    }

    @ParameterizedTest
    @CsvSource({
        "64, 128, 1, 0, 64, conv2d_int8_tensor128_u8, 3",
        "64, 130, 1, 0, 64, conv2d_int8_tensor128_u8, 6",
        "48, 64, 1, 16, 64, conv2d_int8_tensor64_u8, 3",
        "32, 34, 2, 0, 32, conv2d_int8_tensor64_u8, 6",
        "64, 16, 1, 0, 64, conv2d_int8_u8, 6",
        "24, 64, 1, 0, 32, conv2d_int8_u8, 6",
        "64, 64, 1, 8, 64, conv2d_int8_u8, 6",
        "64, 64, 1, 0, 72, conv2d_int8_u8, 6"
    })
    void convolutionsOfWholePiecesTakeTensorCores(
            int channels, int filters, int groups, long first, long stride, String entry, int expected) {
        List<Argument> arguments = new ArrayList<>(Collections.nCopies(30, integer(1)));
        arguments.set(0, matrix(first, stride));
        arguments.set(3, matrix(0, 64));
        arguments.set(26, integer(300));
        arguments.set(27, integer(channels));
        arguments.set(28, integer(filters * groups));
        arguments.set(29, integer(groups));
        Launch launch = tuned.of(new Launch("conv2d_int8", "conv2d_int8_u8", false, 6, arguments));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(expected);
        assertThat(launch.arguments()).isEqualTo(arguments);
    }

    @ParameterizedTest
    @CsvSource({
        "1028, 0, 1028, conv2d_int8_depthwise_packed4_u8, 14",
        "1026, 0, 1028, conv2d_int8_depthwise_u8, 35",
        "1028, 2, 1028, conv2d_int8_depthwise_u8, 35"
    })
    void channelsOfDepthwiseConvolutionsAreTakenByFour(
            int channels, long first, long stride, String entry, int groups) {
        List<Argument> arguments = new ArrayList<>(Collections.nCopies(28, integer(1)));
        arguments.set(0, matrix(first, stride));
        arguments.set(3, matrix(0, 192));
        arguments.set(10, matrix(0, 1028));
        arguments.set(27, integer(channels));
        Launch launch = tuned.of(new Launch("conv2d_int8", "conv2d_int8_depthwise_u8", false, 7 * 5, arguments));

        assertThat(launch.entry()).isEqualTo(entry);
        assertThat(launch.groups()).isEqualTo(groups);
    }

    @Test
    void rowsTooLongToAddAStepInThirtyTwoBitsStayPortable() {
        int cols = Integer.MAX_VALUE - 511; // a multiple of four
        List<Argument> arguments = List.of(integer(3), matrix(0, cols), integer(cols), matrix(0, 0), matrix(0, cols));
        Launch launch = new Launch("activate", "activate_f32", false, Math.ceilDiv(cols, Launch.GROUP), arguments);

        assertThat(tuned.of(launch)).isSameAs(launch);
    }

    @Test
    void whatIsNotTunedStaysAsItIs() {
        Launch launch = new Launch("gemm", "gemm_f32", false, 3, List.of(MATRIX));

        assertThat(tuned.of(launch)).isSameAs(launch);
    }
}
