package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.sentei.method.quantize.Graphs;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

/** The formulas, in fp64. */
class KernelTest {
    private static final double EXACT = 1e-10;

    private final Random random = new Random(5);

    private Kernel kernel(int outputs, int inputs, int groups, int size, int stride, int dilation, int pad) {
        return kernel(outputs, inputs, groups, new long[] {size, size}, stride, dilation, pad, 1, 1);
    }

    private Kernel kernel(
            int outputs,
            int inputs,
            int groups,
            long[] size,
            int stride,
            int dilation,
            int pad,
            float weight,
            float bias) {
        long taps = 1;
        for (long axis : size) {
            taps *= axis;
        }
        float[] weights = new float[Math.toIntExact(taps * outputs * (inputs / groups))];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = weight * (float) random.nextGaussian();
        }
        long[] shape = new long[size.length + 2];
        shape[0] = outputs;
        shape[1] = inputs / groups;
        System.arraycopy(size, 0, shape, 2, size.length);
        return kernel(shape, groups, stride, dilation, pad, weights, bias);
    }

    private Kernel kernel(long[] shape, int groups, long stride, long dilation, long pad, float[] weights, float bias) {
        int axes = shape.length - 2;
        LayerGraph graph = Graphs.of()
                .constant("w", Shape.of(shape), weights)
                .constant("b", Shape.of(shape[0]), bias)
                .layer(
                        "conv",
                        "Conv",
                        List.of("x", "w", "b"),
                        Map.of(
                                "group",
                                new Attribute.Whole(groups),
                                "strides",
                                new Attribute.Wholes(Collections.nCopies(axes, stride)),
                                "dilations",
                                new Attribute.Wholes(Collections.nCopies(axes, dilation)),
                                "pads",
                                new Attribute.Wholes(Collections.nCopies(2 * axes, pad))))
                .build(1, 1);
        return Kernel.of(graph, graph.layers().getFirst()).orElseThrow();
    }

    private double[] image(int channels, int height, int width) {
        return random.doubles((long) channels * height * width, -1, 1).toArray();
    }

    private static double difference(double[] a, double[] b) {
        assertThat(a).hasSameSizeAs(b);
        double largest = 0;
        for (int i = 0; i < a.length; i++) {
            double off = Math.abs(a[i] - b[i]);
            largest = off <= largest ? largest : off;
        }
        return largest;
    }

    private static double[] twice(Kernel first, Kernel second, double[] image, int height, int width) {
        return second.apply(
                first.apply(image, height, width),
                first.height().outputs(height),
                first.width().outputs(width));
    }

    @Test
    void strideSpreadsTheTapsOfTheSecond() {
        Kernel first = kernel(new long[] {1, 1, 2}, 1, 2, 1, 0, new float[] {1, 2}, 0);
        Kernel second = kernel(new long[] {1, 1, 3}, 1, 1, 1, 0, new float[] {3, 4, 5}, 0);
        Kernel merged = first.then(second);
        double[] taps = new double[6];
        for (int i = 0; i < 6; i++) {
            taps[i] = merged.weight(0, 0, 0, i);
        }
        assertThat(taps).containsExactly(3, 6, 4, 8, 5, 10);
        assertThat(merged.width()).isEqualTo(new Kernel.Axis(6, 2, 1, 0, 0));
    }

    @Test
    void withoutZerosInBetweenAMergeIsExactEverywhere() {
        for (int round = 0; round < 60; round++) {
            int g1 = 1 + random.nextInt(3);
            int g2 = 1 + random.nextInt(3);
            int between = g1 * g2 * (1 + random.nextInt(2));
            Kernel first = kernel(
                    between,
                    2 * g1,
                    g1,
                    1 + random.nextInt(3),
                    1 + random.nextInt(3),
                    1 + random.nextInt(2),
                    random.nextInt(3));
            Kernel second =
                    kernel(2 * g2, between, g2, 1 + random.nextInt(3), 1 + random.nextInt(2), 1 + random.nextInt(2), 0);
            int height = 25 + random.nextInt(6);
            int width = 25 + random.nextInt(6);
            double[] image = image(2 * g1, height, width);
            Kernel merged = first.then(second);
            assertThat(difference(merged.apply(image, height, width), twice(first, second, image, height, width)))
                    .isLessThanOrEqualTo(EXACT);
        }
    }

    @Test
    void depthwiseLayersStayDepthwise() {
        Kernel merged = kernel(6, 6, 6, 3, 1, 1, 1).then(kernel(6, 6, 6, 3, 1, 1, 0));
        assertThat(merged.groups()).isEqualTo(6);
        assertThat(merged.outline().multiplications(1)).isEqualTo(6 * 25);
        assertThat(kernel(6, 6, 6, 3, 1, 1, 1).then(kernel(4, 6, 2, 1, 1, 1, 0)).groups())
                .isEqualTo(2);
    }

    @Test
    void zerosInBetweenSpoilTheRingAndNothingElse() {
        Kernel first = kernel(3, 2, 1, 3, 1, 1, 1);
        Kernel second = kernel(4, 3, 1, 3, 1, 1, 1);
        double[] image = image(2, 17, 17);
        double[] merged = first.then(second).apply(image, 17, 17);
        double[] separate = twice(first, second, image, 17, 17);
        assertThat(merged).hasSameSizeAs(separate);
        int wrong = 0;
        for (int y = 0; y < 17; y++) {
            for (int x = 0; x < 17; x++) {
                boolean ring = y == 0 || y == 16 || x == 0 || x == 16;
                double off = 0;
                for (int o = 0; o < 4; o++) {
                    off = Math.max(off, Math.abs(merged[(o * 17 + y) * 17 + x] - separate[(o * 17 + y) * 17 + x]));
                }
                if (off > EXACT) {
                    assertThat(ring).as("%d, %d", y, x).isTrue();
                    wrong++;
                }
            }
        }
        assertThat(wrong).isEqualTo(64);
    }

    @Test
    void behindAPointConvolutionTheBiasAloneIsAtFault() {
        for (int stride = 1; stride <= 2; stride++) {
            Kernel expand = kernel(6, 2, 1, 1, stride, 1, 0);
            Kernel depthwise = kernel(6, 6, 6, 3, 1, 1, 1);
            double[] image = image(2, 11, 14);
            int height = expand.height().outputs(11);
            int width = expand.width().outputs(14);
            double[] constant = new double[6 * height * width];
            for (int i = 0; i < constant.length; i++) {
                constant[i] = expand.bias(i / (height * width));
            }
            double[] map = depthwise.apply(constant, height, width);
            Kernel both = expand.then(depthwise);
            double[] merged = both.apply(image, 11, 14);
            for (int i = 0; i < merged.length; i++) {
                merged[i] += map[i] - both.bias(i / (merged.length / 6));
            }
            assertThat(difference(merged, twice(expand, depthwise, image, 11, 14)))
                    .isLessThanOrEqualTo(EXACT);
        }
    }

    @Test
    void shortcutsAreATapOnTheInputsPixel() {
        Kernel block =
                kernel(3, 3, 1, 3, 1, 1, 0).then(kernel(3, 3, 1, 3, 1, 1, 0)).padded(2, 2, 2, 2);
        double[] image = image(3, 9, 10);
        double[] sum = block.apply(image, 9, 10);
        for (int i = 0; i < sum.length; i++) {
            sum[i] += image[i];
        }
        assertThat(difference(block.plusInput().orElseThrow().apply(image, 9, 10), sum))
                .isLessThanOrEqualTo(EXACT);

        Kernel down =
                kernel(5, 3, 1, 3, 2, 1, 1).then(kernel(5, 5, 1, 3, 1, 1, 0)).padded(3, 3, 3, 3);
        Kernel beside = kernel(5, 3, 1, 1, 2, 1, 0);
        double[] both = down.apply(image, 9, 10);
        double[] added = beside.apply(image, 9, 10);
        for (int i = 0; i < both.length; i++) {
            both[i] += added[i];
        }
        assertThat(difference(down.plus(beside).orElseThrow().apply(image, 9, 10), both))
                .isLessThanOrEqualTo(EXACT);

        assertThat(down.plusInput()).as("other channels").isEmpty();
        assertThat(kernel(3, 3, 1, 3, 2, 1, 1).plusInput()).as("a stride").isEmpty();
        assertThat(beside.plus(down)).as("taps that a point does not have").isEmpty();
    }

    @Test
    void whatWouldBeTooLongOrHasNoWrittenPaddingIsNoKernel() {
        Kernel wide = kernel(new long[] {1, 1, 900}, 1, 1, 1, 0, new float[900], 0);
        assertThat(wide.outline()
                        .canPrecede(kernel(new long[] {1, 1, 200}, 1, 1, 1, 0, new float[200], 0)
                                .outline()))
                .isFalse();
        assertThat(wide.outline()
                        .canPrecede(kernel(new long[] {1, 1, 20}, 1, 1, 1, 0, new float[20], 0)
                                .outline()))
                .isTrue();
        for (Map<String, Attribute> attributes : List.<Map<String, Attribute>>of(
                Map.of("auto_pad", new Attribute.Text("SAME_UPPER")),
                Map.of("dilations", new Attribute.Wholes(List.of(Long.MAX_VALUE))),
                Map.of("strides", new Attribute.Wholes(List.of(0L))),
                Map.of("pads", new Attribute.Wholes(List.of(-1L, 0L))))) {
            LayerGraph graph = Graphs.of()
                    .constant("w", Shape.of(1, 1, 2), 1)
                    .layer("conv", "Conv", List.of("x", "w"), attributes)
                    .build(1, 1);
            assertThat(Kernel.of(graph, graph.layers().getFirst())).isEmpty();
        }
    }

    @Test
    void aNormalizationIsAPointConvolution() {
        LayerGraph graph = Graphs.of()
                .constant("gamma", Shape.of(1), 2)
                .constant("beta", Shape.of(1), 3)
                .constant("mean", Shape.of(1), 4)
                .constant("variance", Shape.of(1), 1)
                .layer("norm", "BatchNormalization", List.of("x", "gamma", "beta", "mean", "variance"), Map.of())
                .build(1, 1);
        Kernel kernel = Kernel.of(graph, graph.layers().getFirst()).orElseThrow();
        assertThat(kernel.outline().isPoint()).isTrue();
        assertThat(kernel.apply(new double[] {5}, 1, 1)[0]).isEqualTo(2 / Math.sqrt(1 + 1e-5) + 3, within(1e-7));
    }
}
