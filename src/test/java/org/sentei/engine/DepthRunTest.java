package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CancellationException;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.TestInstance.Lifecycle;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.engine.training.TrainedImages;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.method.easier.Rectifiers;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** The loop of EASIER on a small network that was trained on drawn images. */
@TestInstance(Lifecycle.PER_CLASS)
class DepthRunTest {
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

    private static String recipe(String keys) {
        return """
                seed: 3
                images: {order: gray, mean: [0.5], deviation: [0.25]}
                steps:
                  - {method: easier, mode: fine-tune, batch: 16, epochs: 2, learning_rate: 0.02, samples: 240, valid: 60,
                     shift: 1, flip: false, schedule: cosine, merge: off, %s}
                """.formatted(keys);
    }

    private Path out() {
        return folder.resolve("out" + outputs++);
    }

    private Report run(String recipe, Path out, Journaling journaling, Progress progress) {
        CompressionRequest request =
                CompressionRequest.of(model, Recipes.parse(recipe)).withData(data);
        try (Plan plan = Plan.of(request)) {
            return plan.run(out, journaling, progress);
        }
    }

    private static JsonNode rounds(Path out) throws IOException {
        return new ObjectMapper().readTree(Files.readString(out.resolve("rounds.json")));
    }

    private static int rectifiers(Path file) {
        try (OnnxFile onnx = OnnxFile.open(file)) {
            return Rectifiers.of(onnx.layers()).all().size();
        }
    }

    @Test
    void everyRoundTakesTheActivationOfLowestEntropyAndOnlyThat() throws IOException {
        Path out = out();
        Report report = run(recipe("layers: 3, delta: 1"), out, Journaling.ON, Progress.NONE);
        JsonNode rounds = rounds(out).get("rounds");
        assertThat(rounds).hasSize(4);
        assertThat(rounds(out).get("stopped").asText())
                .isEqualTo("3 activations are linear, as many as the recipe's layers");
        List<String> gone = new ArrayList<>();
        for (int i = 1; i < 4; i++) {
            JsonNode round = rounds.get(i);
            assertThat(round.get("linearised")).hasSize(1);
            assertThat(round.get("entropies")).hasSize(9 - i);
            double least = Double.MAX_VALUE;
            String lowest = "";
            for (JsonNode measured : round.get("entropies")) {
                double entropy = measured.get("entropy").asDouble();
                assertThat(entropy).isBetween(0.0, 1.0);
                assertThat(gone).doesNotContain(measured.get("name").asText());
                if (entropy < least) {
                    least = entropy;
                    lowest = measured.get("name").asText();
                }
            }
            assertThat(round.get("linearised").get(0).asText()).isEqualTo(lowest);
            assertThat(round.get("remaining").asInt()).isEqualTo(8 - i);
            gone.add(lowest);
        }
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(5);
        assertThat(rectifiers(model)).isEqualTo(8);
        assertThat(report.quality()).contains(new Report.Measure("activations", 8, 5));
        assertThat(report.depth().madeLinear()).isEqualTo(3);
        assertThat(out.resolve("rounds.svg")).content().startsWith("<svg");
    }

    @Test
    void whatBecameNeighboursIsMergedBehindTheTraining() {
        Path out = out();
        Report report = run(
                recipe("layers: 1, delta: 1, epochs: 1")
                        .replace("merge: off", "merge: auto")
                        .replace("epochs: 2, ", ""),
                out,
                Journaling.ON,
                Progress.NONE);
        assertThat(report.depth().before().activations()).isEqualTo(8);
        assertThat(report.depth().activations()).hasSize(7);
        assertThat(report.depth().merges())
                .isNotEmpty()
                .allSatisfy(merge -> assertThat(merge.reason()).isNotEmpty());
        long made =
                report.depth().merges().stream().filter(Report.LayerMerge::made).count();
        assertThat(report.depth().after().depth())
                .isBetween(
                        report.depth().before().depth() - made,
                        report.depth().before().depth());
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(7);
    }

    @Test
    void theLoopEndsWithTheRoundThatLosesMoreThanDelta() throws IOException {
        Path out = out();
        // A learning rate that spoils the network, so that the second rounds cannot be within delta.
        Report report = run(
                recipe("delta: 0")
                        .replace("learning_rate: 0.02", "learning_rate: 5")
                        .replace("epochs: 2", "epochs: 1"),
                out,
                Journaling.ON,
                Progress.NONE);
        JsonNode rounds = rounds(out).get("rounds");
        JsonNode last = rounds.get(rounds.size() - 1);
        assertThat(last.get("kept").asBoolean()).isFalse();
        assertThat(last.get("valid").asDouble())
                .isLessThan(rounds.get(0).get("valid").asDouble());
        assertThat(rounds(out).get("stopped").asText()).matches("round \\d lost \\d+\\.\\d\\d points .*");
        // The result is the round before.
        int before = rounds.get(rounds.size() - 2).get("remaining").asInt();
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(before);
        assertThat(report.quality()).contains(new Report.Measure("activations", 8, before));
        assertThat(report.depth().madeLinear()).isEqualTo(8 - before);
    }

    @ParameterizedTest
    @CsvSource({"highest, identity", "random, sign", "lowest, affine"})
    void otherOrdersAndLinesRun(String order, String line) throws IOException {
        Path out = out();
        run(
                recipe("layers: 2, delta: 1, order: " + order + ", linearise: " + line),
                out,
                Journaling.OFF,
                Progress.NONE);
        assertThat(rounds(out).get("order").asText()).isEqualTo(order);
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(6);
        JsonNode first = rounds(out).get("rounds").get(1);
        double chosen = 0;
        double highest = 0;
        for (JsonNode measured : first.get("entropies")) {
            highest = Math.max(highest, measured.get("entropy").asDouble());
            if (measured.get("name").equals(first.get("linearised").get(0))) {
                chosen = measured.get("entropy").asDouble();
            }
        }
        if (order.equals("highest")) {
            assertThat(chosen).isEqualTo(highest);
        }
    }

    /** Within the first fit, between rounds, within a later one. */
    @ParameterizedTest
    @ValueSource(ints = {70, 124, 200})
    void aResumedLoopIsThatOfAnUndisturbedOne(int calls) throws IOException {
        String recipe = recipe("layers: 2, delta: 1, linearise: affine").replace("batch: 16", "batch: 4");
        Path undisturbed = out();
        run(recipe, undisturbed, Journaling.ON, Progress.NONE);
        Path resumed = out();
        assertThatThrownBy(() -> run(recipe, resumed, Journaling.ON, cancelAfter(calls)))
                .isInstanceOf(CancellationException.class);
        assertThat(resumed).doesNotExist();
        run(recipe, resumed, Journaling.RESUME, Progress.NONE);
        for (String file : List.of("model.onnx", "rounds.json", "rounds.svg", "recipe.yaml")) {
            assertThat(resumed.resolve(file)).hasSameBinaryContentAs(undisturbed.resolve(file));
        }
    }

    /** Where shifts are far above what is scaled, no unit switches. */
    @Test
    void activationsWithoutEntropyGoTogetherWhereTheyAreAskedForAndNeverMoreThanLayers() throws IOException {
        Path idle = folder.resolve("idle.onnx");
        try (OnnxFile file = OnnxFile.open(model)) {
            LayerGraph graph = file.layers();
            LayerGraph.Editor edit = graph.edit();
            graph.layers().stream()
                    .filter(layer -> layer.is("BatchNormalization"))
                    .forEach(layer -> {
                        fill(edit, graph.constants().get(layer.inputs().get(1)), 0.001f);
                        fill(edit, graph.constants().get(layer.inputs().get(2)), 50);
                    });
            file.write(idle, edit.build());
        }
        assertThat(firstTaken(idle, "layers: 3")).hasSize(1);
        assertThat(firstTaken(idle, "layers: 3, zero_entropy_all: true")).hasSize(3);
        assertThat(firstTaken(idle, "zero_entropy_all: true")).hasSize(8);
    }

    private static void fill(LayerGraph.Editor edit, Tensor tensor, float number) {
        float[] same = new float[Math.toIntExact(tensor.shape().elements())];
        Arrays.fill(same, number);
        edit.constant(new Tensor(tensor.name(), DType.F32, tensor.shape(), MemorySegment.ofArray(same)));
    }

    private List<String> firstTaken(Path network, String keys) throws IOException {
        Path out = out();
        String recipe = recipe("delta: 1, " + keys).replace("epochs: 2", "epochs: 1");
        try (Plan plan =
                Plan.of(CompressionRequest.of(network, Recipes.parse(recipe)).withData(data))) {
            plan.run(out, Journaling.OFF, Progress.NONE);
        }
        List<String> taken = new ArrayList<>();
        rounds(out).get("rounds").get(1).get("linearised").forEach(name -> taken.add(name.asText()));
        return taken;
    }

    @Test
    void aLossThatIsNotFiniteSaysWhereAndKeepsWhatWasReached() {
        Path out = out();
        // Every step multiplies the weights by -9.
        String wild = recipe("layers: 2, delta: 1, decay: 1, momentum: 0")
                .replace("learning_rate: 0.02", "learning_rate: 10")
                .replace("cosine", "constant")
                .replace("batch: 16", "batch: 4");
        assertThatThrownBy(() -> run(wild, out, Journaling.ON, Progress.NONE))
                .isInstanceOf(RunException.class)
                .hasMessageMatching(
                        "round 1 without .* diverged at step \\d+ of 120: the loss is \\S+ with learning rate 10.0;"
                                + " lower learning_rate .* --resume .*");
        assertThat(out).doesNotExist();
        assertThatThrownBy(() -> run(wild, out, Journaling.ON, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("--resume");
        assertThatThrownBy(() -> run(wild.replace("epochs: 2", "epochs: 3"), out, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is the journal of another run: recipe.easier");
        run(wild.replace("learning_rate: 10", "learning_rate: 0.01"), out, Journaling.RESUME, Progress.NONE);
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(6);
    }

    @Test
    void whatWasPrunedBeforeStaysPruned() {
        Path out = out();
        String both = recipe("layers: 1, delta: 1").replace("steps:", "steps:\n  - {method: magnitude, sparsity: 0.5}");
        run(both, out, Journaling.ON, Progress.NONE);
        try (OnnxFile file = OnnxFile.open(out.resolve("model.onnx"))) {
            // Magnitude leaves the head alone unless it is asked for.
            file.sites().stream().filter(site -> !site.name().equals("head")).forEach(site -> {
                float[] weights = Floats.toArray(file.tensor(site.weight()));
                int zeros = 0;
                for (float weight : weights) {
                    zeros += weight == 0 ? 1 : 0;
                }
                // Half of every row, rounded down.
                assertThat((double) zeros / weights.length).as(site.name()).isBetween(0.38, 0.51);
            });
        }
        assertThat(rectifiers(out.resolve("model.onnx"))).isEqualTo(7);
    }

    @Test
    void whatCannotBeTrainedIsRefusedBeforeItRuns() {
        CompressionRequest bare = CompressionRequest.of(model, Recipes.parse(recipe("delta: 1")));
        assertThatThrownBy(() -> Plan.of(bare))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("name a folder with --data");
        assertThatThrownBy(() -> run(recipe("targets: [nothing*]"), out(), Journaling.ON, Progress.NONE))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("nothing* matches no activation of the model; there are stage0.0.relu");
    }

    private static Progress cancelAfter(int calls) {
        return new Progress() {
            private int left = calls;

            @Override
            public void advanced(String stage, long done, long total) {}

            @Override
            public boolean cancelled() {
                return left-- <= 0;
            }
        };
    }
}
