package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.TestInstance.Lifecycle;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.NetworkFolder;
import org.sentei.kernel.Backend;

/** Training on a drawn graph whose labels can be told from features and neighbours: the command's work without its line. */
@TestInstance(Lifecycle.PER_CLASS)
class GraphTrainingTest {
    private Path folder;
    private Path data;
    private int outputs;

    @BeforeAll
    void drawGraph(@TempDir Path shared) throws IOException {
        folder = shared;
        data = DrawnGraph.write(folder.resolve("graph"));
    }

    @ParameterizedTest
    @CsvSource({
        "0, prior-kl",
        "0.5, prior-kl",
        "0.55, prior-ot",
        "0.8, dynamic-quantile",
        "0.9, prior-kl",
        "0.9, budget-loss",
        "0.95, magnitude",
        "0.98, prior-kl",
        "0.99, prior-ot"
    })
    void exactlyTheRateIsZeroInMaskFileAndReport(String rate, String budget) {
        Path out = folder.resolve("out" + outputs++);
        TrainingReport report = train(rate, budget, 30, 0.05, out);
        long expected = TrainingRecipe.parse("recipe", recipe(rate, budget, 30, 0.05))
                .settings()
                .pruned(report.prunable());
        assertThat(report.prunable()).isEqualTo(DrawnGraph.FEATURES * 8 + 8 * DrawnGraph.CLASSES);
        assertThat(expected).isEqualTo(Math.round(Double.parseDouble(rate) * report.prunable()));
        assertThat(report.pruned()).isEqualTo(expected);
        assertThat(report.zeros()).isEqualTo(expected);
        NetworkFolder.Content again = NetworkFolder.read(out);
        long zeros = 0;
        for (int i = 0; i < again.parameters().size(); i++) {
            for (float weight : again.parameters().get(i)) {
                zeros += again.network().parameters().get(i).prunable() && weight == 0 ? 1 : 0;
            }
        }
        assertThat(zeros).isEqualTo(expected);
    }

    @Test
    void halfOfTheWeightsAreEnoughToTellTheClasses() {
        TrainingReport report = train("0.5", "prior-kl", 120, 0.05, folder.resolve("learned"));
        assertThat(report.accuracy().test()).isGreaterThan(0.8);
        assertThat(report.baseline().accuracy().test()).isGreaterThan(0.8);
        assertThat(report.curve().getLast().loss())
                .isLessThan(report.curve().getFirst().loss());
        assertThat(report.curve().getLast().rate()).isEqualTo(0.5);
        assertThat(report.curve().getLast().valid()).isGreaterThan(0.8);
        assertThat(folder.resolve("learned/curves.svg"))
                .content()
                .startsWith("<svg")
                .contains("prior-kl", "magnitude", "divergence");
    }

    @ParameterizedTest
    @ValueSource(ints = {24, 25})
    void theFolderIsEvaluatedToWhatTheReportSays(int steps) {
        Path out = folder.resolve("evaluated" + steps);
        TrainingReport report = train("0.9", "dynamic-quantile", steps, 0.05, out);
        Map<String, Double> figures =
                GraphEvaluation.of(out, Optional.of(out), data, "cpu", Backend.Options.defaults(), Progress.NONE)
                        .stream()
                        .collect(Collectors.toMap(Sentei.Metric::metric, Sentei.Metric::value));
        assertThat(figures).containsEntry("zeros", (double) report.zeros());
        assertThat(figures.get("accuracy_train")).isEqualTo(report.accuracy().train());
        assertThat(figures.get("accuracy_valid")).isEqualTo(report.accuracy().valid());
        assertThat(figures.get("accuracy_test")).isEqualTo(report.accuracy().test());
        assertThat(figures.get("dense_ms")).isPositive();
    }

    @Test
    void aPriorThatNothingHoldsIsReported() {
        String loose = recipe("0.9", "prior-kl", 60, 0.5).replace("strength: 10", "strength: 0");
        TrainingReport report = train(loose, data, folder.resolve("loose"));
        assertThat(report.warnings())
                .hasSize(2)
                .anySatisfy(warning -> assertThat(warning)
                        .matches("\\d+\\.\\d % of the latent weights lay out of the histogram's reach, .*"))
                .anySatisfy(warning -> assertThat(warning)
                        .matches("the prior did not reach rate 0.9: \\d+\\.\\d % of the latent weights lay below .*"));
        assertThat(report.zeros()).isEqualTo(Math.round(0.9 * report.prunable()));
        assertThat(report.curve().getLast().rate()).isEqualTo((double) report.pruned() / report.prunable());

        TrainingReport held = train("0.9", "prior-ot", 60, 0.05, folder.resolve("held"));
        assertThat(held.warnings()).isEmpty();
    }

    @Test
    void theSameSeedGivesTheSameFile() throws IOException {
        train("0.8", "prior-kl", 25, 0.05, folder.resolve("first"));
        train("0.8", "prior-kl", 25, 0.05, folder.resolve("second"));
        assertThat(folder.resolve("first/model.safetensors"))
                .hasSameBinaryContentAs(folder.resolve("second/model.safetensors"));
    }

    @Test
    void divergenceEndsInOneErrorAndNoOutput() {
        Path out = folder.resolve("diverged");
        assertThatThrownBy(() -> train("0.5", "magnitude", 200, 1e30, out))
                .isInstanceOf(RunException.class)
                .hasMessageContaining("learning rate");
        assertThat(out).doesNotExist();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "1|prior-kl|rate 1 is outside [0, 1)",
                "-0.1|prior-kl|rate -0.1 is outside [0, 1)",
                "1e-999999999|prior-kl|digits after the point",
                "0e999999999|prior-kl|digits after the point",
                "0.5|often|budget"
            })
    void ratesAndWaysThatCannotBeAreRefused(String rate, String budget, String message) {
        assertThatThrownBy(() -> train(rate, budget, 10, 0.1, folder.resolve("refused")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining(message);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "edges.csv|source,target\\n0,240|line 2: \"240\" is no number from 0 to 239",
                "edges.csv|source,target\\n0|line 2: it has 1 fields, not 2",
                "nodes.csv|node,label,split\\n0,0,train\\n2,0,test|line 3: node 2 stands where 1 should",
                "nodes.csv|node,label,split\\n0,,train|line 2: field 2 is empty",
                "nodes.csv|node,label,split\\n0,-1,train|a node without a label (-1) cannot be in the split train",
                "nodes.csv|node,label,split\\n0,-2,other|\"-2\" is no number",
                "nodes.csv|node,label,split\\n0,0,train|has no node of the split test",
                "nodes.csv|node,label,split|has no nodes",
                "nodes.csv|node;label;split|its first line must be node,label,split",
                "features.csv|node,feature|has no features",
                "nodes.csv|node,label,split\\n0,0,trian\\n|\"trian\" is no split"
            })
    void aWrongTableIsNamedWithItsLine(String file, String content, String message) throws IOException {
        Path wrong = Files.createDirectory(folder.resolve("wrong" + outputs++));
        for (String name : List.of("nodes.csv", "edges.csv", "features.csv")) {
            Files.copy(data.resolve(name), wrong.resolve(name));
        }
        if (file.equals("nodes.csv")) {
            Files.writeString(wrong.resolve("edges.csv"), "source,target\n");
            Files.writeString(wrong.resolve("features.csv"), "node,feature\n0,1\n");
        }
        Files.writeString(wrong.resolve(file), content.replace("\\n", "\n"));
        assertThatThrownBy(() -> train("0.5", "prior-kl", 10, 0.1, wrong, folder.resolve("never")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(message);
        assertThat(folder.resolve("never")).doesNotExist();
    }

    private TrainingReport train(String rate, String budget, int steps, double learningRate, Path out) {
        return train(rate, budget, steps, learningRate, data, out);
    }

    private static TrainingReport train(
            String rate, String budget, int steps, double learningRate, Path data, Path out) {
        return train(recipe(rate, budget, steps, learningRate), data, out);
    }

    private static TrainingReport train(String recipe, Path data, Path out) {
        return GraphTraining.run(
                TrainingRecipe.parse("recipe", recipe),
                data,
                out,
                Journaling.OFF,
                "auto",
                Backend.Options.defaults(),
                Progress.NONE);
    }

    private static String recipe(String rate, String budget, int steps, double learningRate) {
        return """
                seed: 3
                network: {hidden: 8}
                training: {steps: %d, learning_rate: %s, schedule: constant, gain: 3, dropout: 0.1, decay: 0}
                steps:
                  - {method: pmp, rate: %s, from_rate: %s, budget: %s, prior: gaussian, tuning: 0.3, strength: 10, bins: 64,
                     mass: bumps, sharpness: 1, last_sharpness: 30, connected: false}
                baseline: true
                storage: %s
                """.formatted(steps, learningRate, rate, rate, budget, steps % 2 == 0 ? "dense" : "bitmask");
    }
}
