package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Images;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Levels;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.method.quantize.OrtGraphs;
import org.sentei.model.ModelException;
import org.sentei.model.graph.IntegerExecutor;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Quantized graphs on our own kernels, held against ONNX Runtime on the same file. */
class IntegerExecutorTest {
    private static final Logger LOG = LoggerFactory.getLogger(IntegerExecutorTest.class);
    private static final Path RESOURCES = Path.of("src/test/resources/quantize");

    @TempDir
    Path folder;

    static List<IntegerGraphs.Case> graphs() {
        return IntegerGraphs.all();
    }

    /** Every integer of small graphs is the same on all backends, and that of ONNX Runtime where it computes in integers. */
    @ParameterizedTest
    @MethodSource("graphs")
    void integersAreTheSameOnAllBackends(IntegerGraphs.Case graph) {
        try (OrtGraphs samples = graph.samples()) {
            List<Map<String, Tensor>> expected = new ArrayList<>();
            samples.run(
                    List.of(new GraphRunner.Tapped(graph.graph().upTo(graph.integers()), graph.integers())),
                    0,
                    samples.samples(),
                    batch -> expected.add(Map.copyOf(batch.getFirst())));
            List<Map<String, Tensor>> reference;
            try (Backend device = AvailableBackends.open("reference")) {
                reference = graph.run(device, samples);
            }
            Map<String, Integer> different = new TreeMap<>();
            for (int sample = 0; sample < expected.size(); sample++) {
                for (String value : graph.integers()) {
                    Tensor ours = reference.get(sample).get(value);
                    Tensor theirs = expected.get(sample).get(value);
                    assertThat(ours.dtype()).isEqualTo(theirs.dtype());
                    assertThat(ours.shape()).isEqualTo(theirs.shape());
                    assertThat(distinct(ours))
                            .as("different integers in %s", value)
                            .isGreaterThan(8);
                    for (long i = 0; i < ours.shape().elements(); i++) {
                        // Modulo 256, where neighbours are neighbours in both types.
                        byte off = (byte) (ours.data().get(ValueLayout.JAVA_BYTE, i)
                                - theirs.data().get(ValueLayout.JAVA_BYTE, i));
                        assertThat(Math.abs(off)).as("%s at %d", value, i).isLessThanOrEqualTo(graph.off());
                        if (off != 0) {
                            different.merge(value, 1, Integer::sum);
                        }
                    }
                }
            }
            LOG.info("{}: integers that differ from ONNX Runtime's: {}", graph, different);
            for (String backend : AvailableBackends.names()) {
                try (Backend device = AvailableBackends.open(backend)) {
                    assertSame(backend, reference, graph.run(device, samples));
                }
            }
        }
    }

    @Test
    void aProductWhoseSumsLeave32BitsIsRefused() {
        assertRefused(IntegerGraphs.overflowing(), "layer Gemm", "sums of filter 1 can reach", "ignore");
    }

    @Test
    void aSumThatWouldPairWrongNeighboursIsRefused() {
        assertRefused(IntegerGraphs.columns(), "layer Add", "1 along the last axes");
    }

    @Test
    void whatIsNoQuantizedGraphOfOursIsRefused() {
        assertRefused(IntegerGraphs.biasOfFloats(), "layer QLinearConv", "no constant of I32", "int32 biases");
        assertRefused(
                IntegerGraphs.sixteenBits(),
                "value QuantizeLinear0.y is rounded to I16",
                "quantize the model to U8 or I8");
    }

    private static void assertRefused(IntegerGraphs.Case graph, String... parts) {
        try (OrtGraphs samples = graph.samples();
                Backend device = AvailableBackends.open("reference")) {
            assertThatThrownBy(() -> graph.run(device, samples))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContainingAll(parts);
        }
    }

    @Test
    void aBiasInUnitsOfItsOwnIsAddedInFloat() {
        IntegerGraphs.Case graph = IntegerGraphs.foreignBias();
        try (OrtGraphs samples = graph.samples();
                Backend device = AvailableBackends.open("reference")) {
            LayerGraph layers = graph.graph();
            Layer gemm = layers.layers().stream()
                    .filter(layer -> layer.is("Gemm"))
                    .findFirst()
                    .orElseThrow();
            byte[] weights = constant(layers, gemm.input(1), 0).data().toArray(ValueLayout.JAVA_BYTE);
            float[] scales = Floats.toArray(constant(layers, gemm.input(1), 1));
            int[] biases = constant(layers, gemm.input(2), 0).data().toArray(ValueLayout.JAVA_INT);
            float[] units = Floats.toArray(constant(layers, gemm.input(2), 1));
            int inputs = weights.length / scales.length;
            Levels levels = Levels.of(DType.U8, IntegerGraphs.FOREIGN_ZERO);
            for (Map<String, Tensor> result : graph.run(device, samples)) {
                byte[] x = result.get(graph.integers().getFirst()).data().toArray(ValueLayout.JAVA_BYTE);
                byte[] y = result.get(graph.integers().getLast()).data().toArray(ValueLayout.JAVA_BYTE);
                assertThat(y).hasSize(x.length / inputs * scales.length);
                for (int i = 0; i < y.length; i++) {
                    int output = i % scales.length;
                    double sum = (double) biases[output] * units[output];
                    for (int k = 0; k < inputs; k++) {
                        int number = (x[i / scales.length * inputs + k] & 0xff) - IntegerGraphs.FOREIGN_ZERO;
                        sum += (double) IntegerGraphs.FOREIGN_SCALE
                                * number
                                * weights[k * scales.length + output]
                                * scales[output];
                    }
                    assertThat(y[i] & 0xff).isEqualTo(levels.quantize((float) (sum / IntegerGraphs.FOREIGN_SCALE)));
                }
            }
        }
    }

    private static Tensor constant(LayerGraph graph, String real, int input) {
        return graph.constants().get(graph.producer(real).orElseThrow().input(input));
    }

    private static long distinct(Tensor integers) {
        byte[] all = integers.data().toArray(ValueLayout.JAVA_BYTE);
        return IntStream.range(0, all.length).map(i -> all[i]).distinct().count();
    }

    private static void assertSame(String what, List<Map<String, Tensor>> expected, List<Map<String, Tensor>> actual) {
        assertThat(actual).hasSameSizeAs(expected);
        for (int sample = 0; sample < expected.size(); sample++) {
            for (Map.Entry<String, Tensor> value : expected.get(sample).entrySet()) {
                Tensor found = actual.get(sample).get(value.getKey());
                assertThat(found.shape()).isEqualTo(value.getValue().shape());
                assertThat(found.data().mismatch(value.getValue().data()))
                        .as("%s of %s", value.getKey(), what)
                        .isEqualTo(-1);
            }
        }
    }

    /** Every number of every convolution of QLinearConv form is that of ONNX Runtime. */
    @ParameterizedTest
    @MethodSource("org.sentei.kernel.AvailableBackends#names")
    void convolutionsHaveTheBitsOfOnnxRuntime(String backend) {
        Path model = quantized("qlinear");
        try (OnnxFile file = OnnxFile.open(model);
                Backend device = AvailableBackends.open(backend)) {
            LayerGraph graph = file.layers();
            List<String> integers = graph.layers().stream()
                    .filter(layer -> layer.is("QLinearConv"))
                    .map(Layer::output)
                    .toList();
            assertThat(integers).hasSizeGreaterThan(5);
            ImageData images = images(graph);
            List<Map<String, Tensor>> expected = new ArrayList<>();
            new SampleRunner(file, images, 1, Progress.NONE)
                    .run(
                            List.of(new GraphRunner.Tapped(graph.upTo(integers), integers)),
                            0,
                            3,
                            batch -> expected.add(Map.copyOf(batch.getFirst())));
            try (IntegerExecutor executor = new IntegerExecutor(graph, device, new OrtParts(file, 1))) {
                for (int sample = 0; sample < 3; sample++) {
                    assertSame(
                            backend,
                            List.of(expected.get(sample)),
                            List.of(executor.run(images.inputs(sample), integers)));
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"qdq", "qlinear"})
    void predictionsAreThoseOfOnnxRuntime(String form) {
        Path model = quantized(form);
        try (OnnxFile file = OnnxFile.open(model);
                Backend device = AvailableBackends.open("cpu")) {
            LayerGraph graph = file.layers();
            ImageData images = images(graph);
            String output = graph.outputs().getFirst().name();
            List<Tensor> expected = new ArrayList<>();
            new SampleRunner(file, images, 1, Progress.NONE)
                    .run(
                            List.of(new GraphRunner.Tapped(graph, List.of(output))),
                            0,
                            200,
                            batch -> expected.add(batch.getFirst().get(output)));
            int same = 0;
            try (IntegerExecutor executor = new IntegerExecutor(graph, device, new OrtParts(file, 1))) {
                for (int sample = 0; sample < 200; sample++) {
                    Tensor actual =
                            executor.run(images.inputs(sample), List.of(output)).get(output);
                    same += Predictions.read(actual, Optional.empty())
                                    .equals(Predictions.read(expected.get(sample), Optional.empty()))
                            ? 1
                            : 0;
                }
            }
            assertThat(same).isGreaterThanOrEqualTo(199);
        }
    }

    private Path quantized(String form) {
        return IntegerGraphs.network(folder.resolve(form), form);
    }

    private static ImageData images(LayerGraph graph) {
        Recipe recipe = Recipes.parse(IntegerGraphs.RECIPE.formatted("qdq"));
        Images how = recipe.images();
        return ImageData.read(
                RESOURCES.resolve("test-images-idx3-ubyte.gz"),
                how,
                graph.inputs().getFirst(),
                200);
    }
}
