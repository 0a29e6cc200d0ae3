package org.sentei.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Random;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.format.OnnxFile;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.StandardNetwork;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Forward passes against ONNX Runtime, gradients against differences of the loss. */
class TrainableGraphTest {
    private static final int BATCH = 4;
    private static final int CLASSES = 3;

    @TempDir
    private Path folder;

    // ---- whole networks

    @ParameterizedTest
    @EnumSource
    void standardNetworksScoreLikeOnnxRuntime(StandardNetwork network) {
        LayerGraph graph = network.build(new StandardNetwork.Sizes(1, 16, 12, 10, 4), 3);
        agrees(withDrawnStatistics(graph), image(1, 16, 12), 1e-4);
    }

    @Test
    void aModelFromAFileScoresLikeOnnxRuntime() throws IOException {
        Path file = folder.resolve("depthwise.onnx");
        try (var stream = TrainableGraphTest.class.getResourceAsStream("/quantize/depthwise.onnx")) {
            Files.copy(stream, file);
        }
        try (OnnxFile model = OnnxFile.open(file)) {
            LayerGraph graph = model.layers();
            agrees(graph, image(1, 28, 28).named(graph.inputs().getFirst().name()), 1e-4);
        }
    }

    @Test
    void trainingMovesWeightsAndStatisticsAndWritesThemBack() throws IOException {
        LayerGraph graph = StandardNetwork.VGG.build(new StandardNetwork.Sizes(1, 8, 8, CLASSES, 4), 3);
        Tensor image = image(1, 8, 8).tensor();
        int[] labels = {0, 1, 2, 1};
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            List<float[]> gradients = gradients(weights);
            double first = net.loss(weights, List.of(image), labels, gradients);
            double last = first;
            for (int step = 0; step < 15; step++) {
                for (int i = 0; i < gradients.size(); i++) {
                    for (int j = 0; j < gradients.get(i).length; j++) {
                        weights.parameters().get(i)[j] -= 0.1f * gradients.get(i)[j];
                    }
                }
                last = net.loss(weights, List.of(image), labels, gradients);
            }
            assertThat(last).isLessThan(first / 4);
            assertThat(weights.statistics().getFirst())
                    .isNotEqualTo(net.weights().statistics().getFirst());
            float[] scores = net.scores(weights, List.of(image));
            Path file = folder.resolve("trained.onnx");
            OnnxFile.create(file, net.with(weights));
            assertThat(difference(scores, inOnnxRuntime(file, image, "scores"))).isLessThan(1e-4);
        }
    }

    @Test
    void aBatchNormalizationInTrainingUsesTheBatchAndMovesItsStatistics() {
        LayerGraph graph = graph(net -> net.norm(2), 2, 3, 3);
        Tensor image = image(2, 3, 3).tensor();
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            TrainableGraph.Weights before = weights.copy();
            net.loss(weights, List.of(image), new int[BATCH], gradients(weights));
            float[] values = Floats.toArray(image);
            for (int c = 0; c < 2; c++) {
                double sum = 0;
                double squares = 0;
                for (int b = 0; b < BATCH; b++) {
                    for (int i = 0; i < 9; i++) {
                        double value = values[(b * 2 + c) * 9 + i];
                        sum += value;
                        squares += value * value;
                    }
                }
                int n = BATCH * 9;
                double mean = sum / n;
                double variance = (squares - n * mean * mean) / (n - 1);
                assertThat(weights.statistics().get(0)[c])
                        .isCloseTo((float) (0.9 * before.statistics().get(0)[c] + 0.1 * mean), Offset.offset(1e-5f));
                assertThat(weights.statistics().get(1)[c])
                        .isCloseTo(
                                (float) (0.9 * before.statistics().get(1)[c] + 0.1 * variance), Offset.offset(1e-5f));
            }
        }
    }

    // ---- single operators

    static Stream<Arguments> operators() {
        return Stream.of(
                operator("conv", net -> net.conv(4, 3, 3, 1, Map.of("pads", wholes(1, 1, 1, 1)))),
                operator(
                        "conv with groups, dilation, strides and uneven pads",
                        net -> net.conv(
                                6,
                                1,
                                2,
                                3,
                                Map.of(
                                        "pads", wholes(0, 1, 2, 0),
                                        "dilations", wholes(2, 1),
                                        "strides", wholes(1, 2)))),
                operator(
                        "conv with same padding",
                        net -> net.conv(
                                4,
                                3,
                                2,
                                1,
                                Map.of("auto_pad", new Attribute.Text("SAME_LOWER"), "strides", wholes(2, 2)))),
                operator("batch normalization", net -> net.norm(3)),
                operator("max pool", net -> net.then("MaxPool", Map.of("kernel_shape", wholes(2, 2)))),
                operator(
                        "max pool with uneven pads",
                        net -> net.then(
                                "MaxPool",
                                Map.of(
                                        "kernel_shape", wholes(3, 2),
                                        "pads", wholes(0, 1, 1, 0),
                                        "strides", wholes(2, 2)))),
                operator(
                        "average pool",
                        net -> net.then(
                                "AveragePool", Map.of("kernel_shape", wholes(3, 3), "pads", wholes(1, 1, 1, 1)))),
                operator(
                        "average pool that counts uneven pads",
                        net -> net.then(
                                "AveragePool",
                                Map.of(
                                        "kernel_shape", wholes(2, 2),
                                        "pads", wholes(1, 0, 0, 0),
                                        "count_include_pad", new Attribute.Whole(1)))),
                operator(
                        "average pool with uneven pads that do not count",
                        net -> net.then(
                                "AveragePool", Map.of("kernel_shape", wholes(2, 3), "pads", wholes(1, 0, 0, 1)))),
                operator("global average pool", net -> net.then("GlobalAveragePool", Map.of())),
                operator("relu", net -> net.then("Relu", Map.of())),
                operator("clip", net -> net.with("Clip", net.scalar(-0.3f), net.scalar(0.6f))),
                operator("leaky relu", net -> net.then("LeakyRelu", Map.of("alpha", new Attribute.Decimal(0.2f)))),
                operator("hard swish", net -> net.then("HardSwish", Map.of())),
                operator("hard sigmoid", net -> net.then("HardSigmoid", Map.of())),
                operator("sigmoid", net -> net.then("Sigmoid", Map.of())),
                operator("tanh", net -> net.then("Tanh", Map.of())),
                operator("erf", net -> net.then("Erf", Map.of())),
                operator("softmax", net -> net.then("Softmax", Map.of("axis", new Attribute.Whole(1)))),
                operator("layer normalization", net -> net.with("LayerNormalization", net.table(4), net.table(4))),
                operator("normalization spelled out", TrainableGraphTest::spelledOut),
                operator("sum with a constant", net -> net.with("Add", net.table(3, 1, 1))),
                operator("difference", net -> net.with("Sub", net.table(3, 4, 4))),
                operator("product with a constant", net -> net.with("Mul", net.table(3, 1, 1))),
                operator("quotient", net -> net.with("Div", net.scalar(0.7f))),
                operator(
                        "matmul with bias",
                        net -> net.with("MatMul", net.table(4, 5)).with("Add", net.table(5))),
                operator("concat", net -> {
                    String before = net.last;
                    net.then("Tanh", Map.of());
                    net.layer("Concat", Map.of("axis", new Attribute.Whole(1)), before, net.last);
                }),
                operator("shortcut", net -> {
                    String before = net.last;
                    net.conv(3, 3, 1, 1, Map.of());
                    net.layer("Add", Map.of(), before, net.last);
                }),
                operator(
                        "flatten and gemm",
                        net -> net.then("Flatten", Map.of())
                                .layer(
                                        "Gemm",
                                        Map.of("alpha", new Attribute.Decimal(0.5f), "beta", new Attribute.Decimal(2)),
                                        net.last,
                                        net.table(48, 5),
                                        net.table(5))),
                operator("transpose", net -> net.then("Transpose", Map.of("perm", wholes(0, 3, 1, 2)))),
                operator(
                        "unsqueeze and squeeze",
                        net -> net.with("Unsqueeze", net.whole(1)).with("Tanh").with("Squeeze", net.whole(1))),
                operator("slice", net -> net.with("Slice", net.whole(1), net.whole(-1), net.whole(2), net.whole(2))),
                operator(
                        "gather",
                        net -> net.layer(
                                "Gather", Map.of("axis", new Attribute.Whole(3)), net.last, net.whole(0, -1, 2, 0))),
                operator("sizes from the graph", net -> {
                    String before = net.last;
                    net.with("Shape").layer("Gather", Map.of(), net.last, net.whole(0, 1));
                    net.layer("Concat", Map.of("axis", new Attribute.Whole(0)), net.last, net.whole(-1));
                    net.layer("Reshape", Map.of(), before, net.last);
                }),
                operator("identity", net -> net.then("Identity", Map.of())),
                operator("attention", TrainableGraphTest::attention));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("operators")
    void anOperatorRunsAndDifferentiatesAsItShould(String name, Consumer<Net> layers) {
        LayerGraph graph = graph(
                net -> {
                    net.conv(3, 2, 3, 1, Map.of());
                    layers.accept(net);
                },
                2,
                6,
                6);
        Image image = image(2, 6, 6);
        agrees(graph, image, 1e-5);
        gradientsAreSlopes(graph, image.tensor());
    }

    @Test
    void geluInBothFormsDifferentiates() {
        for (String form : List.of("none", "tanh")) {
            LayerGraph graph = graph(
                    net -> net.conv(3, 2, 3, 1, Map.of()).then("Gelu", Map.of("approximate", new Attribute.Text(form))),
                    2,
                    6,
                    6);
            LayerGraph newer = new LayerGraph(
                    graph.name(), 20, graph.inputs(), graph.outputs(), graph.layers(), graph.constants());
            agrees(newer, image(2, 6, 6), 1e-5);
            gradientsAreSlopes(newer, image(2, 6, 6).tensor());
        }
    }

    @Test
    void aFinalSoftmaxIsLeftToTheLoss() {
        LayerGraph graph = graph(net -> net.conv(3, 2, 3, 1, Map.of()), 2, 6, 6);
        Layer softmax = Layer.of("probabilities", "Softmax", List.of("scores"), "probabilities.y", Map.of());
        Layer last = Layer.of("named", "Identity", List.of("probabilities.y"), "shares", Map.of());
        LayerGraph other = new LayerGraph(
                "probabilities",
                graph.opset(),
                graph.inputs(),
                List.of(new LayerGraph.Port("shares", DType.F32, List.of())),
                Stream.concat(graph.layers().stream(), Stream.of(softmax, last)).toList(),
                graph.constants());
        Tensor image = image(2, 6, 6).tensor();
        assertThat(loss(other, image)).isEqualTo(loss(graph, image));
    }

    /** The loss must fall along the gradient, and along any other direction, as fast as the gradient says. */
    private static void gradientsAreSlopes(LayerGraph graph, Tensor image) {
        int[] labels = {2, 0, 1, 1};
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            List<float[]> gradients = gradients(weights);
            net.loss(weights.copy(), List.of(image), labels, gradients);
            Random random = new Random(1);
            for (int p = 0; p < gradients.size(); p++) {
                for (int way = 0; way < 3; way++) {
                    int count = gradients.get(p).length;
                    double[] direction = way == 0
                            ? unit(gradients.get(p))
                            : random.doubles(count, -1, 1)
                                    .map(x -> x / Math.sqrt(count / 3.0))
                                    .toArray();
                    double expected = 0;
                    for (int i = 0; i < count; i++) {
                        expected += direction[i] * gradients.get(p)[i];
                    }
                    // A loss of about 4 is rounded by 2.4e-7, 3e-4 over this distance; kinks of activations and
                    // curvature are
                    // thousandths of the slope.
                    double reach = 1e-3;
                    double slope = (moved(net, weights, p, direction, reach, image, labels)
                                    - moved(net, weights, p, direction, -reach, image, labels))
                            / (2 * reach);
                    assertThat(slope)
                            .as("%s, way %d", net.parameters().get(p), way)
                            .isCloseTo(expected, Offset.offset(1e-3 + 0.02 * Math.abs(expected)));
                }
            }
        }
    }

    private static double[] unit(float[] gradient) {
        double norm = 0;
        for (float value : gradient) {
            norm += (double) value * value;
        }
        double length = Math.max(Math.sqrt(norm), 1e-12);
        double[] unit = new double[gradient.length];
        for (int i = 0; i < unit.length; i++) {
            unit[i] = gradient[i] / length;
        }
        return unit;
    }

    private static double moved(
            TrainableGraph net,
            TrainableGraph.Weights weights,
            int parameter,
            double[] direction,
            double by,
            Tensor image,
            int[] labels) {
        TrainableGraph.Weights there = weights.copy();
        float[] values = there.parameters().get(parameter);
        for (int i = 0; i < values.length; i++) {
            values[i] += (float) (by * direction[i]);
        }
        return net.loss(there, List.of(image), labels, gradients(weights));
    }

    @Test
    void roundingPassesGradientsToWeightsWithinReachAndToScales() {
        LayerGraph graph = graph(net -> net.conv(3, 2, 3, 1, Map.of()), 2, 6, 6);
        Tensor image = image(2, 6, 6).tensor();
        int[] labels = {2, 0, 1, 1};
        // The input's scale is so small that rounding it changes nothing.
        float[] pixels = Floats.toArray(image);
        float step = 1 / 16f;
        for (int i = 0; i < pixels.length; i++) {
            pixels[i] = step * Math.clamp(Math.round(pixels[i] / step), -128, 127);
        }
        Tensor exact = new Tensor(image.name(), DType.F32, image.shape(), MemorySegment.ofArray(pixels));
        List<Float> scales = List.of(0.2f, 0.1f, 0.3f);
        Rounding rounding = new Rounding(8, false, step, 3, scales);
        int high = 3;
        float[] weights = Floats.toArray(graph.constants().get("conv0.w"));
        float[] rounded = new float[weights.length];
        for (int i = 0; i < weights.length; i++) {
            float scale = scales.get(i / 18);
            rounded[i] = scale * (float) Math.clamp(Math.rint(weights[i] / scale), -high, high);
        }
        LayerGraph plain = graph.edit()
                .constant(new Tensor("conv0.w", DType.F32, Shape.of(3, 2, 3, 3), MemorySegment.ofArray(rounded)))
                .build();
        float[] slopes;
        double expected;
        try (TrainableGraph net = new TrainableGraph(plain)) {
            TrainableGraph.Weights start = net.weights();
            List<float[]> gradients = gradients(start);
            expected = net.loss(start, List.of(exact), labels, gradients);
            slopes = gradients.getFirst();
        }
        try (TrainableGraph net = new TrainableGraph(graph, Map.of("conv0", rounding))) {
            assertThat(net.parameters())
                    .containsExactly("conv0.w", "conv0.b", "conv0/input_scale", "conv0/weight_scale");
            TrainableGraph.Weights start = net.weights();
            List<float[]> gradients = gradients(start);
            assertThat(net.loss(start, List.of(exact), labels, gradients)).isCloseTo(expected, Offset.offset(1e-5));
            double[] byScale = new double[3];
            int clipped = 0;
            for (int i = 0; i < weights.length; i++) {
                double ratio = weights[i] / (double) scales.get(i / 18);
                boolean within = Math.abs(ratio) <= high;
                clipped += within ? 0 : 1;
                assertThat(gradients.getFirst()[i]).isCloseTo(within ? slopes[i] : 0, Offset.offset(1e-5f));
                byScale[i / 18] += slopes[i] * (within ? Math.rint(ratio) - ratio : Math.signum(ratio) * high);
            }
            assertThat(clipped).isBetween(1, weights.length - 1);
            for (int o = 0; o < 3; o++) {
                assertThat((double) gradients.get(3)[o])
                        .isCloseTo(byScale[o] / Math.sqrt(18.0 * high), Offset.offset(1e-5));
            }
        }
    }

    // ---- which constants are trained, and what is refused

    @Test
    void factorsAndSummandsOfLinearizedActivationsStay() {
        LayerGraph graph = graph(
                net -> net.conv(3, 2, 3, 1, Map.of())
                        .with("Mul", net.table(1, 3, 1, 1))
                        .with("Add", net.table(1, 3, 1, 1))
                        .with("MatMul", net.table(4, 4))
                        .with("Add", net.table(4))
                        .with("Mul", net.table(4))
                        .with("Add", net.table(4)),
                2,
                6,
                6);
        try (TrainableGraph net = new TrainableGraph(graph)) {
            assertThat(net.parameters()).containsExactly("conv0.w", "conv0.b", "MatMul3.1", "Add4.1");
        }
    }

    @Test
    void aLayerWithoutGradientIsNamed() {
        LayerGraph graph = graph(net -> net.conv(3, 2, 3, 1, Map.of()).then("Round", Map.of()), 2, 6, 6);
        assertThatThrownBy(() -> new TrainableGraph(graph))
                .isInstanceOf(ModelException.class)
                .hasMessageStartingWith(
                        "test: layer Round1 (Round) cannot be trained: there is no gradient of it here;");
    }

    @Test
    void controlFlowIsNamed() {
        Layer branch = new Layer("branch", "", "If", List.of("x"), List.of("y"), Map.of(), List.of("x"));
        LayerGraph graph = new LayerGraph(
                "flow",
                17,
                List.of(new LayerGraph.Port("x", DType.F32, List.of())),
                List.of(new LayerGraph.Port("y", DType.F32, List.of())),
                List.of(branch),
                Map.of());
        assertThatThrownBy(() -> new TrainableGraph(graph))
                .isInstanceOf(ModelException.class)
                .hasMessageStartingWith("flow: layer branch (If) cannot be trained:");
    }

    @Test
    void sizesThatDoNotFitNameTheLayer() {
        LayerGraph graph = graph(net -> net.conv(3, 2, 3, 1, Map.of()), 2, 6, 6);
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            assertThatThrownBy(() -> net.scores(weights, List.of(image(5, 6, 6).tensor())))
                    .isInstanceOf(ModelException.class)
                    .hasMessageStartingWith("test: layer conv0 (Conv) cannot run on a batch of these data:");
            assertThatThrownBy(() -> net.loss(
                            weights, List.of(image(2, 6, 6).tensor()), new int[] {0, 1, 48, 0}, gradients(weights)))
                    .isInstanceOf(ModelException.class)
                    .hasMessage("test has 48 classes, but a label is 48; give data with labels from 0 to 47");
        }
    }

    @Test
    void windowsThatHostsCannotHoldAreRefused() {
        for (String attribute : List.of("strides", "dilations")) {
            LayerGraph graph = graph(net -> net.conv(3, 2, 3, 1, Map.of(attribute, wholes(0, 1))), 2, 6, 6);
            assertThatThrownBy(() -> new TrainableGraph(graph))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("layer conv0 (Conv) cannot be trained: its window");
        }
    }

    // ---- helpers

    private static double loss(LayerGraph graph, Tensor image) {
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            return net.loss(weights, List.of(image), new int[] {0, 1, 2, 0}, gradients(weights));
        }
    }

    private static List<float[]> gradients(TrainableGraph.Weights weights) {
        return weights.parameters().stream()
                .map(values -> new float[values.length])
                .toList();
    }

    private void agrees(LayerGraph graph, Image image, double tolerance) {
        try (TrainableGraph net = new TrainableGraph(graph)) {
            Path file = folder.resolve("net.onnx");
            OnnxFile.create(file, graph);
            float[] expected = inOnnxRuntime(
                    file, image.tensor(), graph.outputs().getFirst().name());
            float[] scores = net.scores(net.weights(), List.of(image.tensor()));
            assertThat(difference(scores, expected)).isLessThanOrEqualTo(tolerance * Math.max(1, largest(expected)));
            Files.delete(file);
        } catch (IOException failed) {
            throw new UncheckedIOException(failed);
        }
    }

    private static float[] inOnnxRuntime(Path path, Tensor image, String output) {
        try (Arena arena = Arena.ofConfined();
                OnnxFile file = OnnxFile.open(path);
                OnnxSession session = OnnxSession.open(file.tapped(List.of(), List.of(), arena), 1)) {
            return Floats.toArray(session.run(List.of(image), List.of(output)).get(output));
        }
    }

    private static double difference(float[] a, float[] b) {
        double largest = a.length == b.length ? 0 : Double.NaN;
        for (int i = 0; i < Math.min(a.length, b.length); i++) {
            double difference = Math.abs((double) a[i] - b[i]);
            largest = difference <= largest ? largest : difference;
        }
        return largest;
    }

    private static double largest(float[] values) {
        double largest = 0;
        for (float value : values) {
            largest = Math.max(largest, Math.abs(value));
        }
        return largest;
    }

    /** Statistics that are not those of a new network, so that evaluation has something to get wrong. */
    private static LayerGraph withDrawnStatistics(LayerGraph graph) {
        try (TrainableGraph net = new TrainableGraph(graph)) {
            TrainableGraph.Weights weights = net.weights();
            Random random = new Random(2);
            weights.statistics().forEach(values -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = 0.5f + random.nextFloat();
                }
            });
            return net.with(weights);
        }
    }

    private record Image(String name, Shape shape) {
        Image named(String other) {
            return new Image(other, shape);
        }

        Tensor tensor() {
            Random random = new Random(9);
            float[] values = new float[(int) shape.elements()];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) random.nextGaussian();
            }
            return new Tensor(name, DType.F32, shape, MemorySegment.ofArray(values));
        }
    }

    private static Image image(int channels, int rows, int columns) {
        return new Image("image", Shape.of(BATCH, channels, rows, columns));
    }

    private static Arguments operator(String name, Consumer<Net> layers) {
        return Arguments.of(name, layers);
    }

    private static Attribute wholes(long... values) {
        return new Attribute.Wholes(Arrays.stream(values).boxed().toList());
    }

    /** Layers, whose every element is a class. */
    private static LayerGraph graph(Consumer<Net> layers, int channels, int rows, int columns) {
        Net net = new Net();
        layers.accept(net);
        net.with("Reshape", net.whole(0, -1));
        return net.build(channels, rows, columns);
    }

    private static void spelledOut(Net net) {
        String x = net.last;
        Map<String, Attribute> last = Map.of("axes", wholes(-1));
        net.then("ReduceMean", last);
        net.layer("Sub", Map.of(), x, net.last);
        String centred = net.last;
        net.with("Pow", net.scalar(2)).then("ReduceMean", last);
        net.with("Add", net.scalar(1e-3f)).with("Sqrt");
        net.layer("Div", Map.of(), centred, net.last);
        net.with("Mul", net.table(4)).with("Add", net.table(4));
    }

    private static void attention(Net net) {
        net.with("Reshape", net.whole(0, 3, 16)).then("Transpose", Map.of("perm", wholes(0, 2, 1)));
        String x = net.last;
        net.with("MatMul", net.table(3, 4));
        String query = net.last;
        net.layer("MatMul", Map.of(), x, net.table(3, 4)).then("Transpose", Map.of("perm", wholes(0, 2, 1)));
        net.layer("MatMul", Map.of(), query, net.last).then("Softmax", Map.of("axis", new Attribute.Whole(-1)));
        String shares = net.last;
        net.layer("MatMul", Map.of(), x, net.table(3, 4));
        net.layer("MatMul", Map.of(), shares, net.last);
    }

    static final class Net {
        private final Random random = new Random(5);
        private final List<Layer> layers = new ArrayList<>();
        private final Map<String, Tensor> constants = new LinkedHashMap<>();
        private String last = "image";
        private int tables;

        Net layer(String operator, Map<String, Attribute> attributes, String... inputs) {
            String name = operator + layers.size();
            List<String> renamed = new ArrayList<>();
            for (int i = 0; i < inputs.length; i++) {
                renamed.add(inputs[i].startsWith("drawn") ? rename(inputs[i], name + "." + i) : inputs[i]);
            }
            layers.add(Layer.of(name, operator, renamed, name + ".y", attributes));
            last = name + ".y";
            return this;
        }

        private String rename(String from, String to) {
            Tensor tensor = constants.remove(from);
            constants.put(to, new Tensor(to, tensor.dtype(), tensor.shape(), tensor.data()));
            return to;
        }

        Net then(String operator, Map<String, Attribute> attributes) {
            return layer(operator, attributes, last);
        }

        Net with(String operator, String... more) {
            return layer(
                    operator,
                    Map.of(),
                    Stream.concat(Stream.of(last), Arrays.stream(more)).toArray(String[]::new));
        }

        Net conv(int outputs, int inputs, int size, int groups, Map<String, Attribute> attributes) {
            Map<String, Attribute> all = new LinkedHashMap<>(attributes);
            all.put("group", new Attribute.Whole(groups));
            String name = "conv" + layers.size();
            String weight = rename(table(outputs, inputs, size, size), name + ".w");
            String bias = rename(table(outputs), name + ".b");
            layers.add(Layer.of(name, "Conv", List.of(last, weight, bias), name + ".y", all));
            last = name + ".y";
            return this;
        }

        Net norm(int channels) {
            String variance = table(channels);
            float[] positive = Floats.toArray(constants.get(variance));
            for (int i = 0; i < positive.length; i++) {
                positive[i] = 0.5f + Math.abs(positive[i]);
            }
            constants.put(
                    variance, new Tensor(variance, DType.F32, Shape.of(channels), MemorySegment.ofArray(positive)));
            return layer(
                    "BatchNormalization", Map.of(), last, table(channels), table(channels), table(channels), variance);
        }

        String table(long... shape) {
            float[] values = new float[(int) Shape.of(shape).elements()];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) random.nextGaussian() / 2;
            }
            return constant(new Tensor("drawn" + tables++, DType.F32, Shape.of(shape), MemorySegment.ofArray(values)));
        }

        String scalar(float value) {
            return constant(
                    new Tensor("drawn" + tables++, DType.F32, Shape.of(), MemorySegment.ofArray(new float[] {value})));
        }

        String whole(long... values) {
            return constant(
                    new Tensor("drawn" + tables++, DType.I64, Shape.of(values.length), MemorySegment.ofArray(values)));
        }

        private String constant(Tensor tensor) {
            constants.put(tensor.name(), tensor);
            return tensor.name();
        }

        LayerGraph build(int channels, int rows, int columns) {
            Layer end = layers.removeLast();
            layers.add(end.withOutput("scores"));
            return new LayerGraph(
                    "test",
                    17,
                    List.of(new LayerGraph.Port(
                            "image",
                            DType.F32,
                            List.of(
                                    OptionalLong.empty(),
                                    OptionalLong.of(channels),
                                    OptionalLong.of(rows),
                                    OptionalLong.of(columns)))),
                    List.of(new LayerGraph.Port("scores", DType.F32, List.of())),
                    layers,
                    constants);
        }
    }
}
