package org.sentei.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.DoubleFunction;
import java.util.function.ToDoubleFunction;
import org.sentei.kernel.Attention;
import org.sentei.kernel.Attention.Geometry;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.Gram;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCase.Operand;
import org.sentei.kernel.OpCase.Role;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.Tolerance;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Cases for what {@link TunedKernels} does beyond the portable kernels: groups that take many rows, so that a threshold is
 * predicted and the prediction misses; rows at the limits of a kernel's width, with loads of four and without; sums of so
 * many rows that a thread merges several chunks; Gram matrices of several tiles, split by parts that infinities have none of;
 * norms of rows as wide as registers hold, and wider; attention over tails of its tiles, under masks that hide whole tiles and
 * all keys of a query, of numbers that have no parts; and residuals of it, from no difference at all to rows far apart.
 */
final class TunedCases {
    private TunedCases() {}

    static List<OpCase> all() {
        List<OpCase> cases = new ArrayList<>();
        for (int cols : new int[] {255, 1024, 4095, 4096, 4097, 11264, 11265}) {
            int rows = cols > 4096 ? 9 : 21;
            for (int prune : new int[] {1, cols / 2, cols - 1, cols}) {
                cases.add(select("alike", rows, cols, prune, cols % 4, row -> 1, SplittableRandom::nextGaussian));
            }
            int half = cols / 2;
            cases.add(select(
                    "far apart", rows, cols, half, 0, row -> Math.pow(9, row % 5), SplittableRandom::nextGaussian));
            cases.add(select("ties", rows, cols, half, 4, row -> 1, random -> random.nextInt(-3, 4)));
            cases.add(select("zeros", rows, cols, half, 1, row -> 1, random -> random.nextInt(8) == 0 ? 1.5 : 0));
            cases.add(select("equal", rows, cols, half, 0, row -> row % 3, random -> 0.5));
            cases.add(select("narrow", rows, cols, half, 0, row -> 1, random -> 1 + 1e-3 * random.nextDouble()));
        }
        for (int cols : new int[] {4, 1020, 1024, 1028, 5000}) {
            for (int prune = 0; prune <= 4; prune++) {
                Selection groups = new Selection.Groups(prune, 4);
                cases.add(select(
                        "groups of " + prune, 5, cols, groups, cols % 8, row -> 1, SplittableRandom::nextGaussian));
                cases.add(select("tied groups of " + prune, 5, cols, groups, 3, row -> 1, random -> random.nextInt(3)));
            }
        }
        for (int cols : new int[] {1020, 1028, 8188, 8192, 8196}) {
            for (double mean : new double[] {0, 1000}) {
                cases.add(norm(true, 9, cols, 4, mean));
                cases.add(norm(false, 9, cols, 4, mean));
            }
            cases.add(norm(true, 2, cols, 3, 1));
            cases.add(norm(false, 2, cols, 3, 1));
        }
        for (double mean : new double[] {0, 100}) {
            cases.add(moments(150_000, 5, 3, mean));
            cases.add(moments(135_000, 8, 0, mean));
        }
        for (int cols : new int[] {128, 129, 260}) {
            for (int rows : new int[] {1, 17, 48}) {
                cases.add(gram("", rows, cols, 0, SplittableRandom::nextGaussian));
            }
            cases.add(gram("unpacked ", 5, cols, 3, SplittableRandom::nextGaussian));
        }
        cases.add(gram("chunks ", 2 * Gram.CHUNK + 3, 70, 2, SplittableRandom::nextGaussian));
        cases.add(gram("a chunk ", Gram.CHUNK, 65, 0, random -> 1 + random.nextDouble()));
        cases.add(gram("large ", 9, 132, 0, random -> 1e18 * random.nextGaussian()));
        double[] special = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, -0.0, 1e-40, 0};
        cases.add(gram(
                "special ",
                Gram.CHUNK + 20,
                131,
                1,
                random -> random.nextInt(400) == 0 ? special[random.nextInt(6)] : random.nextGaussian()));
        cases.add(gram(
                "few special ",
                19,
                131,
                1,
                random -> random.nextInt(400) == 0 ? special[random.nextInt(6)] : random.nextGaussian()));
        attention(cases);
        attentionResidual(cases);
        return cases;
    }

    private static void attention(List<OpCase> cases) {
        ToDoubleFunction<SplittableRandom> normal = SplittableRandom::nextGaussian;
        for (int size : new int[] {32, 64, 96, 128}) {
            float scale = (float) (1 / Math.sqrt(size));
            cases.add(attention("causal grouped", 1, new Geometry(2, 1, size, 131, scale, true, 0), 4, 0, normal));
            cases.add(attention("bidirectional", 2, new Geometry(1, 1, size, 67, scale, false, 0), 0, 0, normal));
        }
        cases.add(attention("padded", 2, new Geometry(2, 2, 32, 150, 0.2f, false, 0), 8, 0.3, normal));
        cases.add(attention("mostly padded causal", 2, new Geometry(1, 1, 64, 140, 0.1f, true, 0), 0, 0.97, normal));
        cases.add(attention("padded window", 2, new Geometry(2, 1, 32, 129, 0.2f, true, 7), 4, 0.6, normal));
        cases.add(attention("one key", 1, new Geometry(1, 1, 32, 70, 0.2f, true, 1), 0, 0, normal));
        cases.add(attention("wide window", 1, new Geometry(1, 1, 32, 300, 0.2f, true, 65), 0, 0, normal));
        cases.add(attention("window beyond", 1, new Geometry(1, 1, 64, 80, 0.1f, true, 200), 0, 0, normal));
        cases.add(attention("sharp", 1, new Geometry(1, 1, 32, 90, 1, false, 0), 0, 0, normal));
        for (double size : new double[] {1e-41, 1e-33, 1e-18, 1e15}) {
            // Scores stay what they are: that of queries times keys is taken back by the scale.
            float scale = (float) (0.2 * Math.min(1 / size / size, 1e38));
            cases.add(attention(
                    "of " + size,
                    1,
                    new Geometry(1, 1, 32, 70, scale, true, 0),
                    0,
                    0,
                    random -> size * random.nextGaussian()));
        }
        double[] special = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, -0.0, 1e-40, 0};
        ToDoubleFunction<SplittableRandom> few =
                random -> random.nextInt(900) == 0 ? special[random.nextInt(6)] : random.nextGaussian();
        cases.add(attention("special causal", 1, new Geometry(1, 1, 32, 130, 0.2f, true, 0), 0, 0, few));
        cases.add(attention("special padded", 1, new Geometry(1, 1, 64, 70, 0.1f, false, 0), 0, 0.9, few));
        cases.add(attention("special window", 1, new Geometry(2, 1, 32, 150, 0.2f, true, 20), 0, 0.2, few));
        cases.add(attention("negative zeros", 1, new Geometry(1, 1, 32, 66, 0.2f, false, 0), 0, 0, random -> -0.0));
    }

    /**
     * Sums over many keys, and not the number of keys, make the bound: 24 units of rounding of what a softmax of scores in
     * fp32 may be off by.
     *
     * @param hidden the share of keys that are padding
     */
    private static OpCase attention(
            String label,
            int sequences,
            Geometry geometry,
            int gap,
            double hidden,
            ToDoubleFunction<SplittableRandom> values) {
        long tokens = sequences * geometry.length();
        long width = (long) geometry.heads() * geometry.headSize();
        long keyWidth = (long) geometry.keyHeads() * geometry.headSize();
        OpCase.Fill fill = (random, packed, height, cols) -> {
            for (int i = 0; i < height * cols; i++) {
                put(packed, i, values.applyAsDouble(random));
            }
        };
        OpCase.Fill padding = (random, packed, height, cols) -> {
            for (int i = 0; i < height * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_INT, i, random.nextDouble() < hidden ? 0 : 1 + random.nextInt(9));
            }
        };
        return new OpCase(
                Attention.class,
                label + " heads of " + geometry.headSize(),
                new Tolerance.Rounding(24),
                List.of(
                        new Operand("query", Role.READ, DType.F32, tokens, width, gap, fill),
                        new Operand("key", Role.READ, DType.F32, tokens, keyWidth, 2L * gap, fill),
                        new Operand("value", Role.READ, DType.F32, tokens, keyWidth, 0, fill),
                        new Operand("output", Role.WRITE, DType.F32, tokens, width, gap, fill),
                        new Operand("visible", Role.READ, DType.I32, sequences, geometry.length(), 3, padding)),
                views -> new Attention(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        hidden > 0 ? views.get(4) : null,
                        views.get(3),
                        geometry));
    }

    private static void attentionResidual(List<OpCase> cases) {
        for (int size : new int[] {32, 64, 128}) {
            float scale = (float) (1 / Math.sqrt(size));
            Geometry causal = new Geometry(4, 2, size, 131, scale, true, 0);
            cases.add(residual("causal grouped", 1, causal, 4, 0, 0.2, 0));
            cases.add(residual("both ways", 2, new Geometry(1, 1, size, 67, scale, false, 0), 0, 0, 1e-5, 0));
        }
        for (double spread : new double[] {0, 1e-38, 1e-3, 0.05, 1}) {
            cases.add(residual("causal", 1, new Geometry(1, 1, 32, 90, 0.18f, true, 0), 8, 0, spread, 0));
        }
        cases.add(residual("padded", 2, new Geometry(2, 2, 32, 150, 0.2f, false, 0), 4, 0.3, 0.2, 0));
        cases.add(residual("mostly padded", 2, new Geometry(1, 1, 64, 140, 0.1f, true, 0), 0, 0.97, 0.2, 0));
        cases.add(residual("padded window", 2, new Geometry(2, 1, 32, 129, 0.2f, true, 7), 4, 0.6, 0.1, 0));
        cases.add(residual("one key", 1, new Geometry(1, 1, 32, 70, 0.2f, true, 1), 0, 0, 0.1, 0));
        cases.add(residual("wide window", 1, new Geometry(1, 1, 32, 300, 0.2f, true, 65), 0, 0, 0.1, 0));
        cases.add(residual("sharp", 1, new Geometry(1, 1, 32, 90, 2, true, 0), 0, 0, 0.01, 0));
        cases.add(residual("far apart", 1, new Geometry(1, 1, 32, 90, 2, false, 0), 0, 0, 3, 0));
        cases.add(residual("special causal", 1, new Geometry(2, 1, 32, 130, 0.2f, true, 0), 0, 0, 0.1, 900));
        cases.add(residual("special padded", 1, new Geometry(1, 1, 64, 70, 0.1f, false, 0), 4, 0.5, 0.1, 4000));
        cases.add(residual("special window", 1, new Geometry(2, 1, 32, 150, 0.2f, true, 20), 0, 0.2, 0.1, 2000));
    }

    /**
     * With the bound of the catalogue's cases.
     *
     * @param hidden the share of tokens that are padding
     * @param rarity of that many numbers one is not finite; 0 for none
     */
    private static OpCase residual(
            String label, int sequences, Geometry geometry, int gap, double hidden, double spread, int rarity) {
        long tokens = sequences * geometry.length();
        long width = (long) geometry.heads() * geometry.headSize();
        long keyWidth = (long) geometry.keyHeads() * geometry.headSize();
        double[] special = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
        DoubleFunction<OpCase.Fill> normal = deviation -> (random, packed, height, cols) -> {
            for (int i = 0; i < height * cols; i++) {
                boolean isSpecial = rarity > 0 && random.nextInt(rarity) == 0;
                put(packed, i, isSpecial ? special[random.nextInt(3)] : deviation * random.nextGaussian());
            }
        };
        OpCase.Fill padding = (random, packed, height, cols) -> {
            for (int i = 0; i < height * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_INT, i, random.nextDouble() < hidden ? 0 : 1 + random.nextInt(9));
            }
        };
        OpCase.Fill losses = (random, packed, height, cols) -> {
            for (int i = 0; i < height * cols; i++) {
                packed.setAtIndex(ValueLayout.JAVA_DOUBLE, i, random.nextInt(3));
            }
        };
        double logits = 16 * geometry.scale() * geometry.headSize() * Math.pow(1 + spread, 2);
        double terms = 4 * (16 + 2 * geometry.headSize() + logits + geometry.length());
        return new OpCase(
                AttentionResidual.class,
                label + " heads of " + geometry.headSize() + ", differences of " + spread,
                new Tolerance.Rounding(terms, 1e-11),
                List.of(
                        new Operand("query", Role.READ, DType.F32, tokens, width, gap, normal.apply(1)),
                        new Operand("key", Role.READ, DType.F32, tokens, keyWidth, 2L * gap, normal.apply(1)),
                        new Operand("query difference", Role.READ, DType.F32, tokens, width, 0, normal.apply(spread)),
                        new Operand(
                                "key difference", Role.READ, DType.F32, tokens, keyWidth, gap, normal.apply(spread)),
                        new Operand("loss", Role.UPDATE, DType.F64, 1, geometry.heads(), 0, losses),
                        new Operand("query gradient", Role.WRITE, DType.F32, tokens, width, 3, normal.apply(1)),
                        new Operand("key gradient", Role.WRITE, DType.F32, tokens, keyWidth, 1, normal.apply(1)),
                        new Operand("visible", Role.READ, DType.I32, sequences, geometry.length(), 3, padding)),
                views -> new AttentionResidual(
                        views.get(0),
                        views.get(1),
                        views.get(2),
                        views.get(3),
                        hidden > 0 ? views.get(7) : null,
                        views.get(4),
                        views.get(5),
                        views.get(6),
                        geometry));
    }

    private static OpCase select(
            String label,
            int rows,
            int cols,
            int prune,
            int gap,
            ToDoubleFunction<Integer> scale,
            ToDoubleFunction<SplittableRandom> values) {
        return select(label + " " + prune + " of", rows, cols, new Selection.Row(prune), gap, scale, values);
    }

    private static OpCase select(
            String label,
            int rows,
            int cols,
            Selection selection,
            int gap,
            ToDoubleFunction<Integer> scale,
            ToDoubleFunction<SplittableRandom> values) {
        OpCase.Fill weights = (random, packed, ignored, width) -> {
            for (int i = 0; i < rows * cols; i++) {
                put(packed, i, scale.applyAsDouble(i / cols) * values.applyAsDouble(random));
            }
        };
        OpCase.Fill scales = (random, packed, one, width) -> {
            for (int i = 0; i < cols; i++) {
                put(packed, i, 0.5 + random.nextInt(2));
            }
        };
        return new OpCase(
                ScoreSelect.class,
                label + " " + rows + "x" + cols + " gap " + gap,
                new Tolerance.Exact(),
                List.of(
                        new Operand("weights", Role.READ, DType.F32, rows, cols, gap, weights),
                        new Operand("mask", Role.WRITE, DType.I32, rows, BitMask.wordsPerRow(cols), 1, weights),
                        new Operand("scale", Role.READ, DType.F32, 1, cols, 0, scales)),
                views -> new ScoreSelect(views.get(0), views.get(2), views.get(1), selection));
    }

    private static OpCase moments(int rows, int cols, int gap, double mean) {
        OpCase.Fill values = (random, packed, height, width) -> {
            for (int i = 0; i < rows * cols; i++) {
                put(packed, i, mean + random.nextGaussian());
            }
        };
        OpCase.Fill zeros = (random, packed, height, width) -> packed.fill((byte) 0);
        return new OpCase(
                ColumnMoments.class,
                rows + "x" + cols + " around " + mean,
                new Tolerance.Rounding(64, 1),
                List.of(
                        new Operand("x", Role.READ, DType.F32, rows, cols, gap, values),
                        new Operand("count", Role.UPDATE, DType.I64, 1, 1, 0, zeros),
                        new Operand("moments", Role.UPDATE, DType.F64, 3, cols, 1, zeros)),
                views -> new ColumnMoments(views.get(0), views.get(1), views.get(2)));
    }

    private static OpCase gram(String label, int rows, int cols, int gap, ToDoubleFunction<SplittableRandom> values) {
        OpCase.Fill fill = (random, packed, height, width) -> {
            for (int i = 0; i < rows * cols; i++) {
                put(packed, i, values.applyAsDouble(random));
            }
        };
        OpCase.Fill zeros = (random, packed, height, width) -> packed.fill((byte) 0);
        return new OpCase(
                Gram.class,
                label + rows + "x" + cols,
                new Tolerance.Rounding(8 + 2.0 * Math.min(rows, Gram.CHUNK), rows),
                List.of(
                        new Operand("x", Role.READ, DType.F32, rows, cols, gap, fill),
                        new Operand("sum", Role.UPDATE, DType.F64, cols, cols, 1, zeros)),
                views -> new Gram(views.get(0), views.get(1)));
    }

    private static OpCase norm(boolean layer, int rows, int cols, int gap, double mean) {
        OpCase.Fill values = (random, packed, height, width) -> {
            for (int i = 0; i < height * width; i++) {
                put(packed, i, mean + random.nextGaussian());
            }
        };
        OpCase.Fill around = (random, packed, height, width) -> {
            for (int i = 0; i < height * width; i++) {
                put(packed, i, random.nextGaussian());
            }
        };
        return new OpCase(
                layer ? LayerNorm.class : RmsNorm.class,
                rows + "x" + cols + " gap " + gap + " around " + mean,
                // A GPU's sums are fp64, so the number of columns is no excuse.
                new Tolerance.Rounding(8),
                List.of(
                        new Operand("x", Role.READ, DType.F32, rows, cols, gap, values),
                        new Operand("y", Role.WRITE, DType.F32, rows, cols, 2L * gap, values),
                        new Operand("gain", Role.READ, DType.F32, 1, cols, 0, around),
                        new Operand("bias", Role.READ, DType.F32, 1, cols, 0, around)),
                views -> layer
                        ? new LayerNorm(views.get(0), views.get(2), views.get(3), views.get(1), 1e-5f)
                        : new RmsNorm(views.get(0), views.get(2), views.get(1), 1e-5f));
    }

    private static void put(MemorySegment packed, long index, double value) {
        packed.setAtIndex(ValueLayout.JAVA_FLOAT, index, (float) value);
    }
}
