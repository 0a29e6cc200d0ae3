package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.OptionalLong;
import java.util.concurrent.CancellationException;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.TestInstance.Lifecycle;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.OnnxFile;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** Training of a small network for few bits, on drawn images. */
@TestInstance(Lifecycle.PER_CLASS)
class RoundedTrainingTest {
    private Path folder;
    private Path data;
    private Path model;
    private int outputs;

    @BeforeAll
    void trainOne(@TempDir Path shared) throws IOException {
        folder = shared;
        data = TrainedImages.data(folder.resolve("data"));
        model = TrainedImages.network(data, folder.resolve("dense"));
    }

    private static String recipe(int bits, int epochs) {
        return """
                seed: 7
                bits: {inner: %d, ends: 8}
                images: {order: gray, height: 8, width: 8, mean: [0.5], deviation: [0.25]}
                data: {samples: 240, valid: 60}
                training: {epochs: %d, batch: 16, optimizer: sgd, learning_rate: 0.01, momentum: 0.9, decay: 1e-4,
                           schedule: cosine, shift: 1, flip: false}
                """.formatted(bits, epochs);
    }

    private Path out() {
        return folder.resolve("out" + outputs++);
    }

    private RoundedReport train(String recipe, Path from, Path out, Journaling journaling, Progress progress) {
        return RoundedTraining.run(RoundedRecipe.parse("recipe", recipe), from, data, out, journaling, progress);
    }

    @ParameterizedTest
    @CsvSource({"2, 6", "4, 1", "8, 1"})
    void theFileComputesWithItsBitsWhatTrainingSaw(int bits, int epochs) {
        Path out = out();
        RoundedReport report = train(recipe(bits, epochs), model, out, Journaling.ON, Progress.NONE);
        assertThat(report.layers())
                .hasSize(9)
                .extracting(RoundedReport.LayerBits::weights)
                .contains(bits, 8);
        if (bits == 2) {
            assertThat(report.accuracy().trained())
                    .isGreaterThan(report.accuracy().rounded());
        }
        if (bits == 8) {
            assertThat(report.accuracy().rounded())
                    .isGreaterThan(report.accuracy().before() - 0.05);
        }
        RoundedRecipe asked = RoundedRecipe.parse("recipe", recipe(bits, epochs));
        LabelledImages images =
                LabelledImages.read(data, asked.images().how(), asked.data().sizes(), OptionalLong.of(3));
        // A number that lies between two integers may be rounded to the other one: one image at most.
        assertThat(TrainedImages.accuracy(out.resolve("model.onnx"), images))
                .isBetween(
                        report.accuracy().trained() - 0.017, report.accuracy().trained() + 0.017);
        try (OnnxFile file = OnnxFile.open(out.resolve("model.onnx"))) {
            LayerGraph graph = file.layers();
            int high = (1 << (bits - 1)) - 1;
            for (Layer layer : graph.layers()) {
                boolean inner =
                        layer.is("Conv") || (layer.is("Gemm") && layer.name().equals("hidden"));
                if (inner) {
                    Layer made = graph.producer(layer.input(1)).orElseThrow();
                    Tensor integers = graph.constants().get(made.input(0));
                    assertThat(made.operator()).isEqualTo("DequantizeLinear");
                    assertThat(integers.dtype()).isEqualTo(DType.I8);
                    for (byte value : integers.data().toArray(ValueLayout.JAVA_BYTE)) {
                        assertThat((int) value).isBetween(-high, high);
                    }
                }
            }
        }
    }

    @Test
    void prunedWeightsStayZero() {
        Path pruned = folder.resolve("pruned.onnx");
        long zeros;
        try (OnnxFile file = OnnxFile.open(model)) {
            LayerGraph graph = file.layers();
            String weight = graph.layer("hidden").orElseThrow().input(1);
            Tensor tensor = graph.constants().get(weight);
            float[] values = Floats.toArray(tensor);
            for (int i = 0; i < values.length; i += 2) {
                values[i] = 0;
            }
            zeros = Math.ceilDiv(values.length, 2);
            LayerGraph sparse = graph.edit()
                    .constant(new Tensor(weight, DType.F32, tensor.shape(), MemorySegment.ofArray(values)))
                    .build();
            file.write(pruned, sparse);
        }
        Path out = out();
        train(recipe(8, 1), pruned, out, Journaling.OFF, Progress.NONE);
        try (OnnxFile file = OnnxFile.open(out.resolve("model.onnx"))) {
            LayerGraph graph = file.layers();
            Layer made =
                    graph.producer(graph.layer("hidden").orElseThrow().input(1)).orElseThrow();
            byte[] integers = graph.constants().get(made.input(0)).data().toArray(ValueLayout.JAVA_BYTE);
            for (int i = 0; i < integers.length; i += 2) {
                assertThat((int) integers[i]).isZero();
            }
            assertThat(integers.length / 2).isEqualTo((int) zeros);
        }
    }

    @Test
    void aResumedTrainingIsThatOfAnUndisturbedOne() throws IOException {
        String recipe = recipe(4, 5);
        Path undisturbed = out();
        train(recipe, model, undisturbed, Journaling.ON, Progress.NONE);
        Path resumed = out();
        assertThatThrownBy(() -> train(recipe, model, resumed, Journaling.ON, new ImageTrainingTest.CancelAfter(66)))
                .isInstanceOf(CancellationException.class);
        train(recipe, model, resumed, Journaling.RESUME, Progress.NONE);
        assertThat(resumed.resolve("model.onnx")).hasSameBinaryContentAs(undisturbed.resolve("model.onnx"));
        assertThat(resumed.resolve("curves.svg")).hasSameBinaryContentAs(undisturbed.resolve("curves.svg"));
    }

    @Test
    void bitsOutOfRangeAreRefused() {
        assertThatThrownBy(() -> RoundedRecipe.parse("mine.yaml", recipe(9, 1)))
                .isInstanceOf(RecipeException.class)
                .hasMessageStartingWith("mine.yaml")
                .hasMessageContaining("inner and ends go from 2 to 8, not 9 and 8");
        for (String name : RoundedRecipe.builtIn()) {
            assertThat(RoundedRecipe.load(name).text()).startsWith("# ");
        }
    }
}
