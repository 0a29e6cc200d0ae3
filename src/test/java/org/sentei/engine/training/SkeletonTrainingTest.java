package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.NetworkFolder;
import org.sentei.format.SyntheticSkeletons;
import org.sentei.kernel.Backend;
import org.sentei.model.GraphNetwork;

/** Training on the synthetic skeleton actions. */
class SkeletonTrainingTest {
    private static final Path SYNTHETIC = Path.of(SyntheticSkeletons.NAME);

    @TempDir
    private Path folder;

    private TrainingReport train(String rate, String budget, int steps) {
        return run(recipe(rate, budget, steps), SYNTHETIC);
    }

    private TrainingReport run(String recipe, Path data) {
        return GraphTraining.run(
                TrainingRecipe.parse("recipe", recipe),
                data,
                folder.resolve("out"),
                Journaling.OFF,
                "cpu",
                Backend.Options.defaults(),
                Progress.NONE);
    }

    private static String recipe(String rate, String budget, int steps) {
        return TrainingRecipe.text("pmp-skeletons-90")
                .replace("rate: 0.90", "rate: " + rate)
                .replace("budget: prior-kl", "budget: " + budget)
                .replace("steps: 400", "steps: " + steps);
    }

    @Test
    void atHighRatesTheFilterIsFarAheadOfMagnitudePruning() {
        TrainingReport report = train("0.95", "prior-kl", 120);
        assertThat(report.data()).isEqualTo(new TrainingReport.Sequences(SyntheticSkeletons.NAME, true, 920, 15, 8));
        assertThat(report.zeros()).isEqualTo(Math.round(0.95 * report.prunable()));
        assertThat(report.baseline().zeros()).isEqualTo(report.zeros());
        assertThat(report.accuracy().test())
                .isGreaterThan(report.baseline().accuracy().test() + 0.1);
    }

    @ParameterizedTest
    @CsvSource({"0.55, prior-ot", "0.98, dynamic-quantile"})
    void theFolderHoldsTheNetworkOfTheReport(String rate, String budget) {
        TrainingReport report = run(recipe(rate, budget, 20).replace("baseline: true", "baseline: false"), SYNTHETIC);
        NetworkFolder.Content content = NetworkFolder.read(folder.resolve("out"));
        GraphNetwork.Skeletons network = (GraphNetwork.Skeletons) content.network();
        assertThat(network).isEqualTo(new GraphNetwork.Skeletons(15, 8, 4, 16, 32, 8));
        assertThat(report.prunable()).isEqualTo(24 * 16 + 4 * (15 * 15 + 16 * 32) + 15 * 32 * 8);
        assertThat(report.zeros()).isEqualTo(Math.round(Double.parseDouble(rate) * report.prunable()));

        Map<String, Double> figures = GraphEvaluation.of(
                        folder.resolve("out"),
                        Optional.empty(),
                        SYNTHETIC,
                        "cpu",
                        Backend.Options.defaults(),
                        Progress.NONE)
                .stream()
                .collect(Collectors.toMap(Sentei.Metric::metric, Sentei.Metric::value));
        assertThat(figures).containsEntry("zeros", (double) report.zeros());
        // PyTorch adds up in another order: one in a hundred may lie on the other side of a tie.
        assertThat(figures.get("accuracy_test")).isCloseTo(report.accuracy().test(), within(0.01));
        assertThat(figures.get("accuracy_train")).isCloseTo(report.accuracy().train(), within(0.01));
    }

    @Test
    void recipesForOtherDataAreRefused() throws Exception {
        Path graph = DrawnGraph.write(folder.resolve("graph"));
        assertThatThrownBy(() -> run(TrainingRecipe.text("pmp-90"), SYNTHETIC))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("holds sequences of skeletons; take one");
        assertThatThrownBy(() -> run(TrainingRecipe.text("pmp-skeletons-90"), graph))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("is a graph; take one");
        assertThatThrownBy(() -> run(TrainingRecipe.text("pmp-90"), folder.resolve("nowhere")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("synthetic-skeletons");
        assertThat(Files.exists(folder.resolve("out"))).isFalse();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "{chunks: 8, heads: 4, channels: 16}|it has either hidden, for the nodes of a graph, or chunks",
                "{hiden: 8}|it has either hidden",
                "{hidden: 0}|hidden goes from 1 to 65536, not 0",
                "{chunks: 8, heads: 4, channels: 16, filters: 2000}|filters goes from 1 to 1024, not 2000",
                "{hidden: many}|many",
                "{hidden: null}|hidden is empty",
                "8|network"
            })
    void networksThatAreNoneAreRefused(String network, String message) {
        String recipe = TrainingRecipe.text("pmp-skeletons-90").replaceAll("network: .*", "network: " + network);
        assertThatThrownBy(() -> TrainingRecipe.parse("recipe", recipe))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining(message);
    }
}
