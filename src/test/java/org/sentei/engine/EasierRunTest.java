package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.OnnxFile;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** Recipes with method easier at once, on a network of inverted bottlenecks trained on Fashion-MNIST. */
class EasierRunTest {
    private static final Path RESOURCES = Path.of("src/test/resources/quantize");
    private static final Path MODEL = RESOURCES.resolve("depthwise.onnx");
    private static final Path SAMPLES = RESOURCES.resolve("calibration-images-idx3-ubyte.gz");
    private static final Path LABELLED = RESOURCES.resolve("test-images-idx3-ubyte.gz");
    private static final String IMAGES = """
            calibration: {samples: 40}
            images: {order: gray, mean: 0.286, deviation: 0.353}
            """;
    /** Both activations of the last inverted bottleneck. */
    private static final String BOTTLENECK =
            "targets: ['/third/third.2/Clip', '/third/third.5/Clip'], layers: 2, mode: one-shot";

    @TempDir
    Path folder;

    private CompressionRequest request(Path model, String steps) {
        return CompressionRequest.of(model, Recipes.parse(steps + "\n" + IMAGES))
                .withCalibration(SAMPLES)
                .withData(LABELLED);
    }

    private Report run(String steps, String out) {
        return Runs.run(request(MODEL, "steps: [" + steps + "]"), folder.resolve(out));
    }

    @Test
    void theLowestEntropyGoesAndEverythingIsTold() throws Exception {
        Report report = run("{method: easier, mode: one-shot, layers: 1}", "out");
        Report.Depth depth = report.depth();
        assertThat(depth.activations()).hasSize(8).allSatisfy(one -> {
            assertThat(one.function()).isEqualTo("relu6");
            assertThat(one.entropy()).isBetween(0.1, 1.0);
            // 40 samples of as many elements in every unit
            assertThat((one.on() + one.off() + one.zero()) % (40 * one.units())).isZero();
        });
        Report.Activation lowest = depth.activations().stream()
                .min(Comparator.comparingDouble(Report.Activation::entropy))
                .orElseThrow();
        assertThat(depth.activations()).filteredOn(Report.Activation::linear).containsExactly(lowest);
        assertThat(depth.before().activations()).isEqualTo(8);
        assertThat(depth.after().activations()).isEqualTo(7);
        assertThat(depth.before().depth()).isEqualTo(11);
        assertThat(depth.before().parameters()).isEqualTo(report.model().parameters());
        assertThat(depth.before().seconds()).isPositive();
        assertThat(depth.merges())
                .isNotEmpty()
                .allSatisfy(merge -> assertThat(merge.reason()).isNotEmpty());
        assertThat(report.quality()).extracting(Report.Measure::metric).containsExactly("top1", "agreement", "cosine");
        assertThat(report.quality().getFirst().after()).isGreaterThan(0.5);
        assertThat(report.backends()).extracting(Report.Binding::op).contains("state_counts", "onnx_graph");
        assertThat(Files.readString(folder.resolve("out/report.html"))).contains("Entropy of the activations");
        assertThat(Rectified.count(folder.resolve("out/depthwise.onnx"))).isEqualTo(7);
    }

    /** Clips in a file. */
    private static final class Rectified {
        static long count(Path model) {
            try (OnnxFile file = OnnxFile.open(model)) {
                return file.layers().layers().stream()
                        .filter(layer -> layer.is("Clip"))
                        .count();
            }
        }
    }

    @Test
    void whatIsMergedComputesWhatTheLinesDid() {
        run("{method: easier, " + BOTTLENECK + ", merge: auto}", "merged");
        Report separate = run("{method: easier, " + BOTTLENECK + ", merge: off}", "separate");
        assertThat(separate.depth().merges()).isEmpty();
        float[] a = outputs(folder.resolve("merged/depthwise.onnx"));
        float[] b = outputs(folder.resolve("separate/depthwise.onnx"));
        double largest = 0;
        double scale = 0;
        for (int i = 0; i < b.length; i++) {
            double difference = Math.abs(a[i] - b[i]);
            largest = difference <= largest ? largest : difference;
            scale = Math.max(scale, Math.abs(b[i]));
        }
        assertThat(largest).isLessThanOrEqualTo(1e-4 * scale);
    }

    private static float[] outputs(Path model) {
        try (OnnxFile file = OnnxFile.open(model);
                Arena arena = Arena.ofConfined()) {
            LayerGraph graph = file.layers();
            ImageData images = ImageData.read(
                    LABELLED,
                    Recipes.parse("steps: [{method: quantize}]\n" + IMAGES).images(),
                    graph.inputs().getFirst(),
                    20);
            String output = graph.outputs().getFirst().name();
            float[] all = new float[20 * 10];
            try (OnnxSession session = OnnxSession.open(file.runnable(graph, List.of(), arena), 1)) {
                for (int i = 0; i < 20; i++) {
                    Tensor scores =
                            session.run(images.inputs(i), List.of(output)).get(output);
                    System.arraycopy(Floats.toArray(scores), 0, all, 10 * i, 10);
                }
            }
            return all;
        }
    }

    @Test
    void fittedLinesKeepMoreThanTheIdentity() {
        String step = "{method: easier, " + BOTTLENECK + ", merge: off, linearise: %s}";
        Report affine = run(step.formatted("affine"), "affine");
        Report identity = run(step.formatted("identity"), "identity");
        assertThat(affine.quality().getLast().after())
                .isGreaterThan(identity.quality().getLast().after());
        Report.Measure accuracy = affine.quality().getFirst();
        assertThat(accuracy.after()).isGreaterThan(identity.quality().getFirst().after());
        assertThat(run(step.formatted("sign"), "sign").quality().getLast().after())
                .isBetween(-1.0, 1.0);
    }

    @Test
    void bothRulesCountTheSameStates() {
        Report all = run("{method: easier, mode: one-shot, layers: 0, merge: off}", "all");
        Report batches = run(
                "{method: easier, mode: one-shot, layers: 0, merge: off, entropy: easier-repo, batch: 8}", "batches");
        assertThat(all.quality().getLast().after()).isGreaterThan(1 - 1e-9);
        for (int i = 0; i < 8; i++) {
            Report.Activation one = all.depth().activations().get(i);
            Report.Activation other = batches.depth().activations().get(i);
            assertThat(other.on()).isEqualTo(one.on());
            // of means of few, which is less
            assertThat(other.entropy()).isLessThan(one.entropy());
        }
    }

    @Test
    void integersFollow() {
        Report report = run("{method: easier, mode: one-shot, layers: 1}, {method: quantize}", "int8");
        assertThat(report.depth().activations()).hasSize(8);
        assertThat(report.quantization().layers()).isNotEmpty();
        assertThat(report.quality().getFirst().after()).isGreaterThan(0.4);
    }

    @Test
    void mistakesAreToldBeforeWorkStarts() {
        assertThatThrownBy(() -> run("{method: easier, mode: one-shot, layers: 9}", "a"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("asks for 9 activations, but the model has 8");
        assertThatThrownBy(() -> run("{method: easier, mode: one-shot, layers: 2, ignore: ['/[fst]*']}", "a"))
                .isInstanceOf(RecipeException.class);
        assertThatThrownBy(() -> run("{method: easier, mode: one-shot, layers: 1, targets: [nowhere]}", "b"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("nowhere matches no activation")
                .hasMessageContaining("/stem/stem.2/Clip");
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(
                                MODEL, Recipes.parse("steps: [{method: easier, mode: one-shot, layers: 1}]\n")),
                        folder.resolve("c")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("--calibration");
        assertThatThrownBy(() -> Runs.run(
                        CompressionRequest.of(Runs.model("austen-llama"), Recipes.load("easier-one-shot")),
                        folder.resolve("d")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("Hugging Face folder");
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void activationsThatShareOrHideAreNamed() {
        Path changed = folder.resolve("changed.onnx");
        try (OnnxFile file = OnnxFile.open(MODEL)) {
            LayerGraph graph = file.layers();
            LayerGraph.Editor edit = graph.edit();
            for (Layer layer : graph.layers()) {
                if (layer.is("Clip")) {
                    edit.replace(
                            layer,
                            Layer.of(
                                    layer.name(),
                                    "Sigmoid",
                                    List.of(layer.input(0)),
                                    layer.output(),
                                    Map.<String, Attribute>of()));
                }
            }
            file.write(changed, edit.build());
        }
        assertThatThrownBy(() -> Runs.run(
                        request(changed, "steps: [{method: easier, mode: one-shot, layers: 1}]"), folder.resolve("e")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("has no activation that could become linear");
    }
}
