package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.data.Offset.offset;

import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Recipes that quantize, on a network of depthwise convolutions trained on Fashion-MNIST (bench/peers/train_depthwise.py). */
class QuantizationTest {
    private static final Path RESOURCES = Path.of("src/test/resources/quantize");
    private static final Path MODEL = RESOURCES.resolve("depthwise.onnx");
    private static final Path SAMPLES = RESOURCES.resolve("calibration-images-idx3-ubyte.gz");
    private static final Path LABELLED = RESOURCES.resolve("test-images-idx3-ubyte.gz");
    private static final String IMAGES = """
            calibration: {samples: 40}
            images: {order: gray, mean: 0.286, deviation: 0.353}
            """;

    @TempDir
    Path folder;

    @Test
    void integersAreAsGoodAsFloatAndEveryPassIsToldInTheReport() throws Exception {
        Path out = folder.resolve("out");
        Report report = run(MODEL, "steps: [{method: quantize}]", out);

        Report.Measure accuracy = report.quality().getFirst();
        assertThat(accuracy.metric()).isEqualTo("top1");
        assertThat(accuracy.before()).isGreaterThan(0.88);
        assertThat(accuracy.after()).isGreaterThan(accuracy.before() - 0.01);
        Report.Paired paired = report.quantization().paired();
        assertThat(paired.both() + paired.onlyBefore()).isEqualTo(Math.round(1000 * accuracy.before()));
        assertThat(paired.both() + paired.onlyBefore() + paired.onlyAfter() + paired.neither())
                .isEqualTo(1000);
        Report.Executor executor = report.quantization().executor();
        assertThat(executor.samples()).isEqualTo(1000);
        assertThat(executor.agreement()).isGreaterThan(0.995);
        assertThat(report.backends()).extracting(Report.Binding::op).contains("conv2d_int8", "onnx_graph");
        assertThat(report.quantization().passes())
                .extracting(Report.Pass::name)
                .startsWith("float", "rounded as it is", "fold", "relu6", "equalize", "absorb");
        assertThat(report.quantization().layers()).hasSize(11);
        assertThat(Files.readString(out.resolve("report.html"))).contains("What every pass is worth");
        try (OnnxFile written = OnnxFile.open(out.resolve("depthwise.onnx"))) {
            LayerGraph graph = written.layers();
            assertThat(graph.opset()).isGreaterThanOrEqualTo(13);
            assertThat(graph.constants().get("stem.0.weight_rewritten_numbers").dtype())
                    .isEqualTo(DType.I8);
            assertThat(graph.layers()).extracting(Layer::operator).doesNotContain("BatchNormalization");
        }
    }

    @Test
    void prunedWeightsStayZeroThroughEveryPass() {
        Report report = run(
                MODEL,
                "steps: [{method: magnitude, sparsity: 0.3}, {method: quantize, keep: all, weight_range: mse}]",
                folder.resolve("out"));
        assertThat(report.sites()).extracting(Report.SiteResult::method).containsOnly("magnitude");
        long pruned =
                report.sites().stream().mapToLong(Report.SiteResult::pruned).sum();
        assertThat(pruned).isPositive();
        List<Report.QuantizedLayer> layers = report.quantization().layers();
        assertThat(layers.stream().mapToLong(Report.QuantizedLayer::zerosBefore).sum())
                .isEqualTo(pruned);
        assertThat(layers)
                .allSatisfy(layer -> assertThat(layer.zerosAfter()).isGreaterThanOrEqualTo(layer.zerosBefore()));
        // without fine-tuning between the two
        assertThat(report.quality().getFirst().after()).isGreaterThan(0.7);
    }

    /** Channels rescaled function-preservingly by 1/32 to 32: no network from the wild, but what breaks a scale a layer. */
    @Test
    void equalizationAbsorptionAndCorrectionBringRescaledChannelsBack() {
        Path stressed = folder.resolve("stressed.onnx");
        stress(stressed, 1999);
        String perTensor = "steps: [{method: quantize, weights: tensor, keep: all, %s}]";
        Report collapsed = run(
                stressed,
                perTensor.formatted("relu6: false, equalize: false, absorb: false, bias_correction: off"),
                folder.resolve("collapsed"));
        Report recovered =
                run(stressed, perTensor.formatted("bias_correction: empirical"), folder.resolve("recovered"));

        Report.Measure before = collapsed.quality().getFirst();
        assertThat(before.before()).isGreaterThan(0.88);
        assertThat(before.after()).isLessThan(0.5);
        assertThat(recovered.quality().getFirst().before()).isEqualTo(before.before(), offset(1e-9));
        assertThat(recovered.quality().getFirst().after()).isGreaterThan(before.before() - 0.01);
    }

    @Test
    void mistakesAreToldBeforeWorkStarts() {
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(MODEL, Recipes.parse("steps: [{method: quantize}]\n" + IMAGES)),
                        folder.resolve("a")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("--calibration");
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(Runs.model("austen-llama"), Recipes.load("int8")), folder.resolve("b")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("Hugging Face folder");
        assertThatThrownBy(() -> run(MODEL, "steps: [{method: quantize, ignore: [nowhere]}]", folder.resolve("c")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("nowhere matches no layer");
        assertThatThrownBy(() -> run(MODEL, "steps: [{method: wanda, sparsity: 0.5}]", folder.resolve("d")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("takes images");
        assertThatThrownBy(() -> run(
                        MODEL, "steps: [{method: quantize}, {method: magnitude, sparsity: 0.3}]", folder.resolve("e")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("put it last");
        assertThatThrownBy(() -> Recipes.parse("steps: [{method: quantize, format: tensorrt}]"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("activations: symmetric");
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(MODEL, Recipes.parse("steps: [{method: quantize}]"))
                                .withCalibration(SAMPLES),
                        folder.resolve("f")))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("channels");
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(MODEL, Recipes.parse("steps: [{method: quantize}]\n" + IMAGES))
                                .withCalibration(Files.createDirectory(folder.resolve("empty"))),
                        folder.resolve("g")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no images");
        assertThat(folder.resolve("g")).doesNotExist();
    }

    private static Report run(Path model, String steps, Path out) {
        return Runs.run(
                CompressionRequest.of(model, Recipes.parse(steps + "\n" + IMAGES))
                        .withCalibration(SAMPLES)
                        .withData(LABELLED),
                out);
    }

    /** Every Clip(0, 6) between two convolutions becomes Relu and a bound of each channel's own, 6 times its scale. */
    private static void stress(Path target, long seed) {
        Random random = new Random(seed);
        try (OnnxFile file = OnnxFile.open(MODEL)) {
            LayerGraph graph = file.layers();
            for (Layer clip : graph.layers()) {
                if (!clip.is("Clip")) {
                    continue;
                }
                LayerGraph now = graph;
                Layer norm = now.producer(clip.input(0)).orElseThrow();
                Layer next = now.readers(clip.output()).getFirst();
                if (!next.is("Conv")) {
                    continue;
                }
                float[] gamma = Floats.toArray(now.weight(norm.input(1)).orElseThrow());
                float[] beta = Floats.toArray(now.weight(norm.input(2)).orElseThrow());
                Tensor weight = now.weight(next.input(1)).orElseThrow();
                float[] weights = Floats.toArray(weight);
                float[] bound = new float[gamma.length];
                long inputs = weight.shape().dimension(1);
                int window = (int) (weight.shape().dimension(2) * weight.shape().dimension(3));
                float[] scale = new float[gamma.length];
                for (int c = 0; c < scale.length; c++) {
                    scale[c] = (float) Math.exp((random.nextDouble() * 2 - 1) * Math.log(32));
                    gamma[c] *= scale[c];
                    beta[c] *= scale[c];
                    bound[c] = 6 * scale[c];
                }
                for (int i = 0; i < weights.length; i++) {
                    // of a depthwise convolution an output is a channel
                    weights[i] /= scale[(int) (inputs == 1 ? i / window : i / window % inputs)];
                }
                LayerGraph.Editor edit = now.edit();
                edit.constant(vector(norm.input(1), gamma));
                edit.constant(vector(norm.input(2), beta));
                edit.constant(new Tensor(next.input(1), DType.F32, weight.shape(), MemorySegment.ofArray(weights)));
                String bounds = edit.constant(
                        "bound", DType.F32, Shape.of(1, bound.length, 1, 1), MemorySegment.ofArray(bound));
                String positive = edit.fresh(clip.output() + "_positive");
                graph = edit.replace(
                                clip,
                                Layer.of(clip.name(), "Relu", List.of(clip.input(0)), positive, Map.of()),
                                Layer.of(
                                        edit.fresh("bounded"),
                                        "Min",
                                        List.of(positive, bounds),
                                        clip.output(),
                                        Map.of()))
                        .build();
            }
            file.write(target, graph);
        }
    }

    private static Tensor vector(String name, float[] values) {
        return new Tensor(name, DType.F32, Shape.of(values.length), MemorySegment.ofArray(values));
    }
}
