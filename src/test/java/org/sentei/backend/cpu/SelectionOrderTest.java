package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Masks against the definition itself: a stable sort of scores, written here once more and independently of any backend,
 * on rows made to upset a selection that predicts, packs and bisects.
 */
class SelectionOrderTest {
    private static final int ROWS = 8;

    static Stream<String> tiers() {
        return Tiers.ofThisMachine();
    }

    /** One element of an adversarial row. */
    private interface Profile {
        double value(SplittableRandom random, int row, int col);
    }

    private static final List<Profile> PROFILES = List.of(
            (random, row, col) -> random.nextGaussian(),
            (random, row, col) -> 1,
            (random, row, col) -> random.nextInt(5) - 2,
            (random, row, col) -> random.nextInt(8) == 0 ? random.nextGaussian() : 0,
            (random, row, col) -> random.nextInt(4) == 0 ? Double.NaN : random.nextGaussian(),
            (random, row, col) -> Double.NaN,
            (random, row, col) -> random.nextInt(6) == 0 ? Double.NEGATIVE_INFINITY : random.nextGaussian(),
            (random, row, col) -> random.nextGaussian() * 1e-41,
            (random, row, col) -> random.nextGaussian() * (random.nextInt(50) == 0 ? 1e4 : 1),
            (random, row, col) -> col,
            (random, row, col) -> -1e6 + col,
            // Thresholds of neighbouring rows far apart: no prediction helps.
            (random, row, col) -> random.nextGaussian() * Math.pow(10, (row * 7) % 11 - 5));

    @ParameterizedTest
    @MethodSource("tiers")
    void rowMasksAreThoseOfAStableSort(String tier) {
        int[] widths = IntStream.concat(IntStream.rangeClosed(1, 70), IntStream.of(4095, 4096, 4097))
                .toArray();
        check(tier, widths, cols -> new int[] {0, 1, cols / 3, cols / 2, cols - 1, cols});
    }

    private interface Counts {
        int[] of(int cols);
    }

    private static void check(String tier, int[] widths, Counts counts) {
        SplittableRandom random = new SplittableRandom(17);
        try (Backend backend = NativeProvider.open(new Backend.Options(0, 2), tier)) {
            for (int cols : widths) {
                for (int p = 0; p < PROFILES.size(); p++) {
                    Profile profile = PROFILES.get(p);
                    float[] weights = new float[ROWS * cols];
                    float[] scale = new float[cols];
                    for (int i = 0; i < weights.length; i++) {
                        weights[i] = (float) profile.value(random, i / cols, i % cols);
                    }
                    for (int c = 0; c < cols; c++) {
                        scale[c] = random.nextInt(10) == 0 ? 0 : random.nextFloat();
                    }
                    float[] used = p % 2 == 0 ? scale : null;
                    for (int prune : counts.of(cols)) {
                        assertThat(mask(backend, weights, used, cols, prune))
                                .as("profile %d, %d of %d, %s", p, prune, cols, tier)
                                .isEqualTo(expected(weights, used, cols, prune));
                    }
                }
            }
        }
    }

    private static int[] mask(Backend backend, float[] weights, float[] scale, int cols, int prune) {
        try (Scope scope = new Scope(backend)) {
            View w = scope.matrix(ROWS, cols);
            backend.copyIn(MemorySegment.ofArray(weights), w);
            View s = scale == null ? null : scope.matrix(1, cols);
            if (scale != null) {
                backend.copyIn(MemorySegment.ofArray(scale), s);
            }
            View mask = scope.matrix(DType.I32, ROWS, BitMask.wordsPerRow(cols));
            int[] words = new int[(int) mask.elements()];
            Arrays.fill(words, -1);
            backend.copyIn(MemorySegment.ofArray(words), mask);
            backend.run(new ScoreSelect(w, s, mask, new Selection.Row(prune)));
            backend.copyOut(mask, MemorySegment.ofArray(words));
            return words;
        }
    }

    private static int[] expected(float[] weights, float[] scale, int cols, int prune) {
        BitMask mask = BitMask.none(ROWS, cols);
        for (int r = 0; r < ROWS; r++) {
            int row = r;
            IntStream.range(0, cols)
                    .boxed()
                    // Float.compare puts NaN last; the sort of a stream of boxed values is stable.
                    .sorted(Comparator.comparing(
                            c -> Math.abs(weights[row * cols + c]) * (scale == null ? 1 : scale[c]), Float::compare))
                    .limit(prune)
                    .forEach(c -> mask.set(row, c));
        }
        return mask.words();
    }
}
