package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Images;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipes;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.model.graph.IntegerExecutor;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Tensor;

/** Quantized graphs on our own kernels, held against ONNX Runtime on the same file. */
class IntegerExecutorTest {
    private static final Path RESOURCES = Path.of("src/test/resources/quantize");
    private static final String RECIPE = """
            steps: [{method: quantize, format: %s, bias_correction: off}]
            calibration: {samples: 16}
            images: {order: gray, mean: 0.286, deviation: 0.353}
            """;

    @TempDir
    Path folder;

    /** Every number of every convolution of QLinearConv form is that of ONNX Runtime. */
    @ParameterizedTest
    @ValueSource(strings = {"reference", "cpu"})
    void convolutionsHaveTheBitsOfOnnxRuntime(String backend) {
        Path model = quantized("qlinear");
        try (OnnxFile file = OnnxFile.open(model);
                Backend device = Backends.find(backend).open(Backend.Options.defaults())) {
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
                    Map<String, Tensor> actual = executor.run(images.inputs(sample), integers);
                    for (String value : integers) {
                        assertThat(actual.get(value).shape())
                                .isEqualTo(expected.get(sample).get(value).shape());
                        assertThat(actual.get(value)
                                        .data()
                                        .mismatch(
                                                expected.get(sample).get(value).data()))
                                .as(value)
                                .isEqualTo(-1);
                    }
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"qdq", "qlinear"})
    void predictionsAreThoseOfOnnxRuntime(String form) {
        Path model = quantized(form);
        try (OnnxFile file = OnnxFile.open(model);
                Backend device = Backends.find("cpu").open(Backend.Options.defaults())) {
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
        Path out = folder.resolve(form);
        Runs.run(
                CompressionRequest.of(RESOURCES.resolve("depthwise.onnx"), Recipes.parse(RECIPE.formatted(form)))
                        .withCalibration(RESOURCES.resolve("calibration-images-idx3-ubyte.gz")),
                out);
        return out.resolve("depthwise.onnx");
    }

    private static ImageData images(LayerGraph graph) {
        Recipe recipe = Recipes.parse(RECIPE.formatted("qdq"));
        Images how = recipe.images();
        return ImageData.read(
                RESOURCES.resolve("test-images-idx3-ubyte.gz"),
                how,
                graph.inputs().getFirst(),
                200);
    }
}
