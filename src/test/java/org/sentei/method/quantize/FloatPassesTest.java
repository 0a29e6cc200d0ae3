package org.sentei.method.quantize;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;

/** Passes over the float graph: what they rewrite computes what it did, in ONNX Runtime. */
class FloatPassesTest {
    @Test
    void batchNormalizationsAndConstantsFoldIntoWeights() {
        LayerGraph graph = Graphs.of()
                .conv(8, 4, 3, 1, 1)
                .norm(8)
                .then("Mul", 1.5f)
                .then("Add", -0.25f)
                .then("Relu")
                .conv(8, 8, 3, 8, 1)
                .norm(8)
                .build(4, 9);
        FloatGraph folded = Folding.fold(FloatGraph.of(graph));

        assertThat(folded.graph().layers()).extracting(Layer::operator).containsExactly("Conv", "Relu", "Conv");
        assertSame(graph, folded.graph(), 4, 9);
        assertThat(folded.known()).containsKeys("Add3.y", "norm6.y");
        Gaussians known = folded.known().get("norm6.y");
        assertThat(known.channels()).isEqualTo(8);
    }

    @Test
    void aBiasThatTheGraphReshapesFoldsToo() {
        Graphs builder = Graphs.of().conv(6, 4, 1, 1, 0).constant("extra", Shape.of(6), 1);
        String conv = builder.last();
        builder.layer("shift", "Add", List.of(conv, "reshaped"), Map.of());
        LayerGraph flat = builder.constant("reshaped", Shape.of(1, 6, 1, 1), 1).build(4, 5);

        FloatGraph folded = Folding.fold(FloatGraph.of(flat));
        assertThat(folded.graph().layers()).extracting(Layer::operator).containsExactly("Conv");
        assertSame(flat, folded.graph(), 4, 5);
    }

    @Test
    void spelledOutActivationsGetTheirNames() {
        Graphs builder = Graphs.of().conv(6, 4, 1, 1, 0);
        String x = builder.last();
        builder.then("Add", 3).then("Clip", 0, 6);
        builder.layer("gated", "Mul", List.of(x, builder.last()), Map.of()).then("Div", 6);
        builder.then("Add", 3).then("Clip", 0, 6).then("Div", 6);
        LayerGraph graph = builder.build(4, 5);
        LayerGraph named = Activations.recognize(FloatGraph.of(graph)).graph();

        assertThat(named.layers()).extracting(Layer::operator).containsExactly("Conv", "HardSwish", "HardSigmoid");
        assertThat(named.opset()).isEqualTo(14);
        assertSame(graph, named, 4, 5);
    }

    @Test
    void aBoundThatIsAnotherActivationStaysWhatItIs() {
        LayerGraph graph = Graphs.of().conv(6, 4, 1, 1, 0).then("Clip", -1, 6).build(4, 5);
        assertThat(Activations.unbound(FloatGraph.of(graph)).graph().layers())
                .extracting(Layer::operator)
                .containsExactly("Conv", "Clip");
    }

    @Test
    void boundsBehindWeightsGo() {
        LayerGraph graph = Graphs.of()
                .conv(6, 4, 1, 1, 0)
                .then("Clip", 0, 6)
                .conv(6, 6, 1, 1, 0)
                .then("Relu")
                .then("Min", 2)
                .conv(6, 6, 1, 1, 0)
                .build(4, 5);
        assertThat(Activations.unbound(FloatGraph.of(graph)).graph().layers())
                .extracting(Layer::operator)
                .containsExactly("Conv", "Relu", "Conv", "Relu", "Conv");
    }

    @Test
    void equalizedPairsAndDepthwiseTriplesHaveEqualRangesAndTheSameFunction() {
        LayerGraph graph = stressed(Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("Relu")
                .conv(8, 8, 3, 8, 1)
                .then("Relu")
                .conv(6, 8, 1, 1, 0)
                .then("Relu")
                .conv(5, 6, 1, 1, 0)
                .build(4, 7));
        LayerGraph equal = Equalization.equalize(FloatGraph.of(graph), 50).graph();

        double scale = 0;
        for (float value : outputs(graph, 4, 7)) {
            scale = Math.max(scale, Math.abs(value));
        }
        assertThat(difference(graph, equal, 4, 7)).isLessThan(1e-5 * scale);
        WeightMatrix first = weights(equal, "conv0");
        WeightMatrix middle = weights(equal, "conv2");
        WeightMatrix last = weights(equal, "conv4");
        float[] lastRanges = last.inputRanges();
        for (int c = 0; c < 8; c++) {
            assertThat(Math.abs(Math.log(first.outputRange(c) / middle.outputRange(c))))
                    .isLessThan(0.01);
            assertThat(Math.abs(Math.log(middle.outputRange(c) / lastRanges[c])))
                    .isLessThan(0.01);
        }
        float[] pair = weights(equal, "conv6").inputRanges();
        for (int c = 0; c < 6; c++) {
            assertThat(Math.abs(Math.log(last.outputRange(c) / pair[c]))).isLessThan(0.01);
        }
    }

    @Test
    void aChannelWithoutWeightsKeepsItsScale() {
        Graphs builder = Graphs.of().conv(2, 1, 1, 1, 0).then("Relu").conv(2, 2, 1, 1, 0);
        builder.constant("conv0.w", Shape.of(2, 1, 1, 1), 0, 4).constant("conv2.w", Shape.of(2, 2, 1, 1), 1, 1, 1, 1);
        LayerGraph equal =
                Equalization.equalize(FloatGraph.of(builder.build(1, 3)), 5).graph();
        WeightMatrix first = weights(equal, "conv0");
        assertThat(first.get(0, 0)).isZero();
        assertThat(first.get(1, 0)).isEqualTo(2);
        assertThat(weights(equal, "conv2").get(0, 0)).isEqualTo(1);
        assertThat(weights(equal, "conv2").get(0, 1)).isEqualTo(2);
    }

    @Test
    void nothingIsEqualizedThroughWhatIsNotHomogeneous() {
        LayerGraph graph = stressed(Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("Sigmoid")
                .conv(5, 8, 1, 1, 0)
                .build(4, 3));
        assertThat(Equalization.equalize(FloatGraph.of(graph), 5).graph().constants())
                .isEqualTo(graph.constants());
    }

    @Test
    void biasesThatAreAlwaysHighMoveOnWhereNothingIsPadded() {
        Graphs builder = Graphs.of().conv(4, 2, 1, 1, 0).norm(4).then("Relu").conv(3, 4, 1, 1, 0);
        builder.constant("norm1.gamma", Shape.of(4), 0.1f, 0.1f, 0.1f, 0.1f)
                .constant("norm1.beta", Shape.of(4), 5, 0, 2, 0.2f)
                .constant("norm1.mean", Shape.of(4), 0, 0, 0, 0)
                // far wider than the inputs make it, so that no sample is below beta - 3 gamma
                .constant("norm1.variance", Shape.of(4), 9, 9, 9, 9);
        LayerGraph graph = builder.build(2, 4);
        FloatGraph folded = Folding.fold(FloatGraph.of(graph));
        FloatGraph absorbed = Equalization.absorb(folded);

        WeightMatrix before = weights(folded.graph(), "conv0");
        WeightMatrix after = weights(absorbed.graph(), "conv0");
        assertThat(before.bias(0) - after.bias(0)).isEqualTo(4.7f, offset(1e-5f));
        assertThat(after.bias(1)).isEqualTo(before.bias(1));
        assertThat(absorbed.known().get("norm1.y").mean(0)).isEqualTo(0.3, offset(1e-6));
        assertSame(graph, absorbed.graph(), 2, 4);

        LayerGraph padded = Graphs.of()
                .conv(4, 2, 1, 1, 0)
                .norm(4)
                .then("Relu")
                .conv(3, 4, 3, 1, 1)
                .build(2, 4);
        FloatGraph foldedPadded = Folding.fold(FloatGraph.of(padded));
        assertThat(Equalization.absorb(foldedPadded).graph()).isSameAs(foldedPadded.graph());
    }

    @Test
    void smoothedChannelsHaveLikeRangesAndTheSameFunction() {
        Graphs builder = Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("Relu")
                .conv(8, 8, 3, 8, 1)
                .then("HardSwish")
                .then("Mul", 1.5f)
                .then("Add", 0.25f)
                .conv(6, 8, 1, 1, 0);
        LayerGraph graph = stressed(builder.build(4, 7));
        Smoothing smoothing = new Smoothing(false);
        assertThat(smoothing.values(graph))
                .containsOnlyKeys("Relu1.y", "Add5.y")
                .containsValue(true);
        Map<String, ChannelRanges> before = ranges(graph, smoothing.values(graph), 4, 7);
        LayerGraph smooth = smoothing.smooth(FloatGraph.of(graph), before).graph();

        double scale = 0;
        for (float value : outputs(graph, 4, 7)) {
            scale = Math.max(scale, Math.abs(value));
        }
        assertThat(difference(graph, smooth, 4, 7)).isLessThan(1e-5 * scale);
        Map<String, ChannelRanges> after = ranges(smooth, smoothing.values(graph), 4, 7);
        // before depthwise weights, which have a scale a channel, exactly alike
        ChannelRanges relu = after.get("Relu1.y");
        for (int c = 0; c < 8; c++) {
            assertThat(relu.range(c) / relu.range(0)).isEqualTo(1, offset(1e-4));
        }
        assertThat(spread(after.get("Add5.y"), 8)).isLessThan(spread(before.get("Add5.y"), 8) / 2);
    }

    private static double spread(ChannelRanges ranges, int channels) {
        double least = Double.POSITIVE_INFINITY;
        for (int c = 0; c < channels; c++) {
            least = Math.min(least, ranges.range(c));
        }
        return ranges.largest() / least;
    }

    @Test
    void whatIsEvenAlreadyOrNeverSeenStaysAsItIs() {
        Graphs builder = Graphs.of().conv(2, 1, 1, 1, 0).then("Relu").conv(2, 2, 1, 1, 0);
        builder.constant("conv0.w", Shape.of(2, 1, 1, 1), 0, 4).constant("conv0.b", Shape.of(2), 0, 0);
        LayerGraph graph = builder.build(1, 3);
        ChannelRanges halfSeen = new ChannelRanges(true);
        halfSeen.add(new float[] {0, 3}, Shape.of(1, 2, 1, 1));
        Smoothing smoothing = new Smoothing(true);
        assertSame(
                graph,
                smoothing
                        .smooth(FloatGraph.of(graph), Map.of("Relu1.y", halfSeen))
                        .graph(),
                1,
                3);
        for (float value : new float[] {0, 3}) {
            ChannelRanges even = new ChannelRanges(true);
            even.add(new float[] {value, value}, Shape.of(1, 2, 1, 1));
            LayerGraph alike = Graphs.of()
                    .conv(2, 1, 1, 1, 0)
                    .then("Relu")
                    .conv(2, 2, 1, 1, 0)
                    .constant("conv2.w", Shape.of(2, 2, 1, 1), 1, 1, 1, 1)
                    .build(1, 3);
            assertThat(smoothing
                            .smooth(FloatGraph.of(alike), Map.of("Relu1.y", even))
                            .graph())
                    .isSameAs(alike);
        }
    }

    @Test
    void whatOthersReadOrOnlyAnActivationMakesIsSmoothedByAProductOfItsOwn() {
        LayerGraph activation = stressed(Graphs.of()
                .conv(8, 4, 1, 1, 0)
                .then("HardSwish")
                .conv(5, 8, 1, 1, 0)
                .build(4, 3));
        assertThat(new Smoothing(false).values(activation)).isEmpty();
        Smoothing inserting = new Smoothing(true);
        Map<String, Boolean> values = inserting.values(activation);
        assertThat(values).containsOnlyKeys("HardSwish1.y");
        LayerGraph inserted = inserting
                .smooth(FloatGraph.of(activation), ranges(activation, values, 4, 3))
                .graph();
        assertThat(inserted.layers()).extracting(Layer::operator).containsExactly("Conv", "HardSwish", "Mul", "Conv");
        assertSame(activation, inserted, 4, 3);

        Graphs builder = Graphs.of().conv(8, 4, 1, 1, 0).then("Relu");
        String shared = builder.last();
        builder.conv(8, 8, 1, 1, 0);
        LayerGraph added = stressed(builder.layer("sum", "Add", List.of(builder.last(), shared), Map.of())
                .build(4, 3));
        assertThat(new Smoothing(false).values(added)).isEmpty();
        LayerGraph apart = inserting
                .smooth(FloatGraph.of(added), ranges(added, inserting.values(added), 4, 3))
                .graph();
        assertThat(apart.layers()).extracting(Layer::operator).containsExactly("Conv", "Relu", "Mul", "Conv", "Add");
        assertSame(added, apart, 4, 3);
    }

    private static Map<String, ChannelRanges> ranges(
            LayerGraph graph, Map<String, Boolean> values, int inputs, int size) {
        Map<String, ChannelRanges> ranges = new HashMap<>();
        List<String> names = List.copyOf(values.keySet());
        try (OrtGraphs runner = new OrtGraphs(graph, 3, 1, inputs, size, size)) {
            runner.run(
                    List.of(new GraphRunner.Tapped(graph.upTo(names), names)),
                    0,
                    3,
                    batch -> batch.getFirst()
                            .forEach((value, tensor) -> ranges.computeIfAbsent(
                                            value, _ -> new ChannelRanges(values.get(value)))
                                    .add(Floats.toArray(tensor), tensor.shape())));
        }
        return ranges;
    }

    private static WeightMatrix weights(LayerGraph graph, String layer) {
        return WeightMatrix.of(graph, graph.layer(layer).orElseThrow()).orElseThrow();
    }

    /** Output channels rescaled by powers of two from 1/32 to 32, which the next layer undoes. */
    private static LayerGraph stressed(LayerGraph graph) {
        List<Layer> layers =
                graph.layers().stream().filter(layer -> layer.is("Conv")).toList();
        LayerGraph changed = graph;
        for (int i = 0; i + 1 < layers.size(); i++) {
            WeightMatrix first = weights(changed, layers.get(i).name());
            WeightMatrix second = weights(changed, layers.get(i + 1).name());
            double[] scale = new double[first.outputs()];
            for (int c = 0; c < scale.length; c++) {
                scale[c] = Math.scalb(1.0, (c * 7 + i) % 11 - 5);
                first.scaleOutput(c, 1 / scale[c]);
            }
            second.scaleInputs(scale);
            LayerGraph.Editor edit = changed.edit();
            first.store(edit);
            second.store(edit);
            changed = edit.build();
        }
        return changed;
    }

    private static void assertSame(LayerGraph expected, LayerGraph actual, int channels, int size) {
        assertThat(difference(expected, actual, channels, size)).isLessThan(2e-5);
    }

    private static double difference(LayerGraph expected, LayerGraph actual, int channels, int size) {
        return OrtGraphs.largestDifference(outputs(expected, channels, size), outputs(actual, channels, size));
    }

    private static float[] outputs(LayerGraph graph, int channels, int size) {
        try (OrtGraphs runner = new OrtGraphs(graph, 3, 1, channels, size, size)) {
            return runner.outputs(graph);
        }
    }
}
