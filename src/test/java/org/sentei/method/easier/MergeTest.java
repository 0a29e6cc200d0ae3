package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.sentei.method.easier.Merge.Border;
import org.sentei.method.easier.Merge.Candidate;
import org.sentei.method.quantize.Folding;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.method.quantize.Graphs;
import org.sentei.method.quantize.OrtGraphs;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

/** Merged layers against separate ones in ONNX Runtime. */
class MergeTest {
    private static final double RELATIVE = 1e-4;

    private final Random random = new Random(3);

    /** Layers in the making whose weights are small whole numbers, so that fp32 has no rounding. */
    private final class Whole {
        private final Graphs graphs = Graphs.of();
        private int layers;

        String conv(
                String input,
                int outputs,
                int inputs,
                int groups,
                List<Long> size,
                List<Long> strides,
                Map<String, List<Long>> more) {
            String name = "conv" + layers++;
            long[] shape = new long[size.size() + 2];
            shape[0] = outputs;
            shape[1] = inputs / groups;
            for (int i = 0; i < size.size(); i++) {
                shape[i + 2] = size.get(i);
            }
            graphs.constant(
                    name + ".w", Shape.of(shape), numbers((int) Shape.of(shape).elements()));
            graphs.constant(name + ".b", Shape.of(outputs), numbers(outputs));
            Map<String, Attribute> attributes = new HashMap<>(Map.of(
                    "group", new Attribute.Whole(groups),
                    "kernel_shape", new Attribute.Wholes(size),
                    "strides", new Attribute.Wholes(strides)));
            more.forEach((key, values) -> attributes.put(key, new Attribute.Wholes(values)));
            graphs.layer(name, "Conv", List.of(input, name + ".w", name + ".b"), attributes);
            return graphs.last();
        }

        String conv(String input, int outputs, int inputs, int groups, long size, long stride, long pad) {
            return conv(
                    input,
                    outputs,
                    inputs,
                    groups,
                    List.of(size, size),
                    List.of(stride, stride),
                    Map.of("pads", List.of(pad, pad, pad, pad)));
        }

        String add(String a, String b) {
            return graphs.layer("add" + layers++, "Add", List.of(a, b), Map.of())
                    .last();
        }

        private float[] numbers(int count) {
            float[] numbers = new float[count];
            for (int i = 0; i < count; i++) {
                numbers[i] = random.nextInt(5) - 2;
            }
            return numbers;
        }
    }

    private static Merge.Terms terms(OrtGraphs run, LayerGraph graph, boolean padFirst) {
        return terms(run, graph, true, padFirst);
    }

    private static Merge.Terms terms(OrtGraphs run, LayerGraph graph, boolean fixed, boolean padFirst) {
        List<String> values = graph.layers().stream().map(Layer::output).toList();
        Map<String, Shape> shapes = new HashMap<>();
        run.run(
                List.of(new GraphRunner.Tapped(graph, values)),
                0,
                1,
                batch -> batch.getFirst().forEach((value, tensor) -> shapes.put(value, tensor.shape())));
        shapes.put("x", run.shape());
        return new Merge.Terms(shapes, fixed, padFirst);
    }

    private static Candidate only(List<Candidate> candidates, String name) {
        return candidates.stream()
                .filter(candidate -> candidate.name().equals(name))
                .findFirst()
                .orElseThrow(() -> new AssertionError(name + " is none of "
                        + candidates.stream().map(Candidate::name).toList()));
    }

    private static void assertSame(OrtGraphs run, Candidate candidate, double relative) {
        float[] expected = run.outputs(candidate.built().reference());
        double scale = 0;
        for (float value : expected) {
            scale = Math.max(scale, Math.abs(value));
        }
        assertThat(OrtGraphs.largestDifference(run.outputs(candidate.built().graph()), expected))
                .as(candidate.name())
                .isLessThanOrEqualTo(relative * scale);
        float[] alone = run.piece(candidate.built().pieces().separate());
        assertThat(OrtGraphs.largestDifference(
                        run.piece(candidate.built().pieces().merged()), alone))
                .as("the piece of " + candidate.name())
                .isLessThanOrEqualTo(relative * 10 * Math.max(1, scale));
    }

    @Test
    void anInvertedResidualBecomesOneConvolutionWithABiasMap() {
        Graphs graphs = Graphs.of()
                .conv(24, 4, 1, 1, 0)
                .norm(24)
                .conv(24, 24, 3, 24, 1)
                .norm(24)
                .conv(4, 24, 1, 1, 0)
                .norm(4);
        graphs.layer("sum", "Add", List.of(graphs.last(), "x"), Map.of());
        LayerGraph graph = Folding.fold(graphs.build(4, 9));
        assertThat(graph.layers()).extracting(Layer::operator).containsExactly("Conv", "Conv", "Conv", "Add");
        try (OrtGraphs run = new OrtGraphs(graph, 3, 1, 4, 9, 9)) {
            Candidate block =
                    only(Merge.propose(graph, terms(run, graph, false)).candidates(), "conv0 + conv2 + conv4");
            assertThat(block.border()).isEqualTo(Border.BIAS_MAP);
            assertThat(block.built().graph().layers())
                    .extracting(Layer::operator)
                    .containsExactly("Conv", "Add");
            assertThat(block.merged()).isEqualTo(4 * 4 * 9 * 81);
            assertThat(block.separate()).isEqualTo((4 * 24 + 24 * 9 + 24 * 4) * 81);
            assertSame(run, block, RELATIVE);
        }
    }

    @Test
    void convolutionsMergeExactlyBordersIncluded() {
        long[][] cases = {
            // size1 stride1 dilation1 pad1 size2 stride2 dilation2 pad2
            {3, 1, 1, 1, 3, 1, 1, 1},
            {3, 2, 1, 1, 3, 1, 1, 1},
            {3, 1, 1, 1, 3, 2, 1, 1},
            {5, 2, 1, 2, 3, 2, 1, 1},
            {3, 1, 2, 2, 3, 1, 2, 2},
            {3, 1, 1, 1, 7, 1, 1, 3},
            {3, 1, 1, 0, 3, 1, 1, 2},
            {1, 1, 1, 0, 3, 1, 1, 1},
            {1, 2, 1, 0, 5, 2, 1, 2},
            {1, 1, 1, 1, 3, 1, 1, 1},
            {3, 1, 1, 1, 1, 1, 1, 0},
            {3, 2, 1, 0, 3, 1, 1, 1},
            {2, 2, 1, 0, 3, 1, 1, 1},
        };
        for (long[] given : cases) {
            for (int size : new int[] {17, 20}) {
                Whole whole = new Whole();
                String first = whole.conv(
                        "x",
                        6,
                        4,
                        2,
                        List.of(given[0], given[0]),
                        List.of(given[1], given[1]),
                        Map.of(
                                "dilations", List.of(given[2], given[2]),
                                "pads", List.of(given[3], given[3], given[3], given[3])));
                whole.conv(
                        first,
                        3,
                        6,
                        1,
                        List.of(given[4], given[4]),
                        List.of(given[5], given[5]),
                        Map.of(
                                "dilations", List.of(given[6], given[6]),
                                "pads", List.of(given[7], given[7], given[7], given[7])));
                LayerGraph graph = whole.graphs.build(4, size);
                try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 2, 1, 4, size, size)) {
                    Merge.Proposals made = Merge.propose(graph, terms(run, graph, false));
                    assertThat(made.refused()).isEmpty();
                    Candidate merged = only(made.candidates(), "conv0 + conv1");
                    assertSame(run, merged, 0);
                    boolean point = given[0] == 1 && given[3] == 0;
                    Border expected = given[7] == 0 ? Border.NONE : point ? Border.BIAS_MAP : Border.RING;
                    assertThat(merged.border()).as(Arrays.toString(given)).isEqualTo(expected);
                    assertSame(
                            run,
                            only(Merge.propose(graph, terms(run, graph, true)).candidates(), "conv0 + conv1"),
                            0);
                }
            }
        }
    }

    @Test
    void aBasicBlockTakesItsShortcutWhereZerosComeFirst() {
        for (long stride : new long[] {1, 2}) {
            Whole whole = new Whole();
            String second = whole.conv(whole.conv("x", 4, 4, 1, 3, stride, 1), 4, 4, 1, 3, 1, 1);
            String beside = stride == 1 ? "x" : whole.conv("x", 4, 4, 1, 1, stride, 0);
            whole.add(second, beside);
            LayerGraph graph = whole.graphs.build(4, 11);
            try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 2, 1, 4, 11, 11)) {
                Candidate first =
                        only(Merge.propose(graph, terms(run, graph, true)).candidates(), "conv0 + conv1");
                assertThat(first.border()).isEqualTo(Border.PAD_FIRST);
                assertThat(first.built().graph().layers())
                        .extracting(Layer::operator)
                        .containsExactly("Conv");
                assertSame(run, first, 0);
                // 3x3 + 3x3 is 5x5: more work, as the table of C6 says
                assertThat((double) first.merged() / first.separate()).isGreaterThan(1.3);

                Merge.Proposals exact = Merge.propose(graph, terms(run, graph, false));
                Candidate ring = only(exact.candidates(), "conv0 + conv1");
                assertThat(ring.border()).isEqualTo(Border.RING);
                assertThat(ring.built().graph().layers().getLast().operator()).isEqualTo("Add");
                assertSame(run, ring, 0);
                assertThat(exact.refused().values()).anyMatch(reason -> reason.contains("what is added stays apart"));
            }
        }
    }

    @Test
    void convolutionsOverOneAxisMergeToo() {
        Whole whole = new Whole();
        String first = whole.conv("x", 5, 4, 1, List.of(3L), List.of(2L), Map.of("pads", List.of(1L, 1L)));
        String second = whole.conv(first, 3, 5, 1, List.of(3L), List.of(1L), Map.of("pads", List.of(1L, 2L)));
        whole.conv(second, 3, 3, 3, List.of(1L), List.of(1L), Map.of());
        LayerGraph graph = whole.graphs.build(4, 1);
        try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 2, 1, 4, 19)) {
            for (boolean padFirst : new boolean[] {false, true}) {
                Merge.Proposals made = Merge.propose(graph, terms(run, graph, padFirst));
                assertThat(made.candidates()).hasSize(3);
                made.candidates().forEach(candidate -> assertSame(run, candidate, 0));
            }
        }
    }

    @Test
    void aNormalizationThatNothingElseTakesMergesForwards() {
        Graphs graphs = Graphs.of().norm(4).conv(6, 4, 3, 1, 1);
        LayerGraph graph = Folding.fold(graphs.build(4, 9));
        try (OrtGraphs run = new OrtGraphs(graph, 3, 1, 4, 9, 9)) {
            Candidate merged =
                    only(Merge.propose(graph, terms(run, graph, false)).candidates(), "norm0 + conv1");
            assertThat(merged.border()).isEqualTo(Border.BIAS_MAP);
            assertSame(run, merged, RELATIVE);
            Candidate moved = only(Merge.propose(graph, terms(run, graph, true)).candidates(), "norm0 + conv1");
            assertSame(run, moved, RELATIVE);
        }
    }

    @Test
    void aNormalizationOverOneAxisMergesForwardsToo() {
        Graphs graphs = Graphs.of().norm(4).constant("w", Shape.of(3, 4, 3), 1);
        graphs.layer(
                "conv", "Conv", List.of(graphs.last(), "w"), Map.of("pads", new Attribute.Wholes(List.of(1L, 1L))));
        LayerGraph graph = graphs.build(4, 1);
        try (OrtGraphs run = new OrtGraphs(graph, 2, 1, 4, 13)) {
            for (boolean padFirst : new boolean[] {false, true}) {
                assertSame(
                        run,
                        only(Merge.propose(graph, terms(run, graph, padFirst)).candidates(), "norm0 + conv"),
                        RELATIVE);
            }
        }
    }

    @Test
    void productsMergeWithWhatIsAroundThem() {
        Graphs graphs = Graphs.of()
                .constant("gain", Shape.of(6), 1)
                .constant("shift", Shape.of(6), 1)
                .constant("up", Shape.of(6, 24), 1)
                .constant("bias", Shape.of(24), 1)
                .constant("scale", Shape.of(24), 1)
                .constant("down", Shape.of(24, 6), 1)
                .constant("end", Shape.of(6), 1)
                .layer("norm.gain", "Mul", List.of("x", "gain"), Map.of())
                .layer("norm.shift", "Add", List.of("norm.gain.y", "shift"), Map.of())
                .layer("fc1", "MatMul", List.of("norm.shift.y", "up"), Map.of())
                .layer("fc1.bias", "Add", List.of("bias", "fc1.y"), Map.of())
                .layer("act.scale", "Mul", List.of("fc1.bias.y", "scale"), Map.of())
                .layer("fc2", "MatMul", List.of("act.scale.y", "down"), Map.of())
                .layer("fc2.bias", "Add", List.of("fc2.y", "end"), Map.of())
                .layer("sum", "Add", List.of("fc2.bias.y", "x"), Map.of());
        LayerGraph graph = graphs.build(1, 1);
        try (OrtGraphs run = new OrtGraphs(graph, 3, 2, 5, 6)) {
            Merge.Proposals made = Merge.propose(graph, terms(run, graph, false));
            assertThat(made.candidates()).extracting(Candidate::name).contains("fc1", "fc1 + fc2");
            made.candidates().forEach(candidate -> assertSame(run, candidate, RELATIVE));
            Candidate block = only(made.candidates(), "fc1 + fc2");
            assertThat(block.built().graph().layers())
                    .extracting(Layer::operator)
                    .containsExactly("MatMul", "Add", "Add");
            // d to 4d to d becomes d to d
            assertThat(block.separate()).isEqualTo(8 * block.merged());
        }
    }

    @Test
    void gemmsMergeToAGemm() {
        Graphs graphs = Graphs.of()
                .constant("a", Shape.of(9, 5), 1)
                .constant("a.b", Shape.of(9), 1)
                .constant("b", Shape.of(9, 3), 1)
                .layer("fc1", "Gemm", List.of("x", "a", "a.b"), Map.of("transB", new Attribute.Whole(1)))
                .layer("fc2", "Gemm", List.of("fc1.y", "b"), Map.of());
        LayerGraph graph = graphs.build(1, 1);
        try (OrtGraphs run = new OrtGraphs(graph, 3, 2, 5)) {
            Candidate merged =
                    only(Merge.propose(graph, terms(run, graph, false)).candidates(), "fc1 + fc2");
            assertThat(merged.built().graph().layers())
                    .extracting(Layer::operator)
                    .containsExactly("Gemm");
            assertSame(run, merged, RELATIVE);
        }
    }

    @Test
    void whatOthersReadOrComesOutStaysApart() {
        Whole whole = new Whole();
        String first = whole.conv("x", 4, 4, 1, 1, 1, 0);
        String second = whole.conv(first, 4, 4, 1, 1, 1, 0);
        whole.add(second, first);
        LayerGraph graph = whole.graphs.build(4, 7);
        try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 1, 1, 4, 7, 7)) {
            List<Candidate> found =
                    Merge.propose(graph, terms(run, graph, false)).candidates();
            assertThat(found).extracting(Candidate::name).containsExactly("conv1");
            assertSame(run, found.getFirst(), 0);
        }
    }

    @Test
    void freeSizesAndImagesThatAreAllBorderAreRefusedWithTheReason() {
        Whole whole = new Whole();
        whole.conv(whole.conv("x", 4, 4, 1, 3, 1, 1), 4, 4, 1, 3, 1, 1);
        LayerGraph graph = whole.graphs.build(4, 7);
        try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 1, 1, 4, 7, 7)) {
            assertThat(Merge.propose(graph, terms(run, graph, false, false)).refused())
                    .hasEntrySatisfying(
                            "conv0 + conv1", reason -> assertThat(reason).contains("leaves free"));
            assertThat(Merge.propose(graph, new Merge.Terms(Map.of(), true, false))
                            .refused())
                    .hasEntrySatisfying(
                            "conv0 + conv1", reason -> assertThat(reason).contains("not known"));
        }
        try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 1, 1, 4, 2, 2)) {
            assertThat(Merge.propose(graph, terms(run, graph, false)).refused())
                    .hasEntrySatisfying(
                            "conv0 + conv1", reason -> assertThat(reason).contains("near the border"));
        }
    }

    @Test
    void chainsAtRandomKeepTheirValues() {
        int merges = 0;
        for (int round = 0; round < 60; round++) {
            Whole whole = new Whole();
            int length = 2 + random.nextInt(3);
            int channels = 4;
            String at = "x";
            for (int i = 0; i < length; i++) {
                int groups = List.of(1, 2, 4).get(random.nextInt(3));
                int outputs = 4 * (1 + random.nextInt(2));
                List<Long> pads = new ArrayList<>();
                for (int side = 0; side < 4; side++) {
                    pads.add((long) random.nextInt(3));
                }
                at = whole.conv(
                        at,
                        outputs,
                        channels,
                        groups,
                        List.of(1L + random.nextInt(3), 1L + random.nextInt(3)),
                        List.of(1L + random.nextInt(2), 1L + random.nextInt(2)),
                        Map.of("pads", pads, "dilations", List.of(1L + random.nextInt(2), 1L + random.nextInt(2))));
                channels = outputs;
            }
            if (random.nextBoolean() && channels == 4) {
                String beside = random.nextBoolean() ? "x" : whole.conv("x", 4, 4, 2, 1, 1, 0);
                whole.add(at, beside);
            }
            int size = 18 + random.nextInt(12);
            LayerGraph graph = whole.graphs.build(4, size);
            try (OrtGraphs run = OrtGraphs.ofWholeNumbers(graph, 1, 1, 4, size, size)) {
                for (boolean padFirst : new boolean[] {false, true}) {
                    Merge.Terms terms;
                    try {
                        terms = terms(run, graph, padFirst);
                    } catch (ModelException tooSmallOrOtherSizes) {
                        break;
                    }
                    for (Candidate candidate : Merge.propose(graph, terms).candidates()) {
                        assertSame(run, candidate, 1e-6);
                        merges++;
                    }
                }
            }
        }
        assertThat(merges).isGreaterThan(100);
    }
}
