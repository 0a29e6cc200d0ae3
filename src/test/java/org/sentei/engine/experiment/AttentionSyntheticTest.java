package org.sentei.engine.experiment;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.Progress;
import org.sentei.engine.experiment.AttentionSynthetic.Cell;
import org.sentei.engine.experiment.AttentionSynthetic.Method;
import org.sentei.engine.recipe.RecipeException;

class AttentionSyntheticTest {
    private static final String SMALL = """
            seeds: [1, 2]
            tokens: 24
            width: 20
            calibration: 12
            held_out: 6
            test: 12
            sparsity: [0.5]
            data:
              - {name: factors and scales, factors: 0.5, scales: 0.7, means: 0.5, logits: 1}
            soft: {steps: 10, penalty: 0.3}
            straight_through: {steps: 40, rate: 0.006}
            """;

    @Test
    void straightThroughIsBelowWhatDoesNotSeeTheSoftmax() {
        Map<Method, Cell> cells = run(2).stream().collect(Collectors.toMap(Cell::method, Function.identity()));
        double best = cells.get(Method.STRAIGHT_THROUGH).mean();
        assertThat(best).isPositive();
        for (Method other : List.of(Method.MAGNITUDE, Method.WANDA, Method.SPARSEGPT, Method.SALIENCY)) {
            assertThat(best).isLessThan(cells.get(other).mean());
        }
        assertThat(cells.get(Method.SOFT).mean())
                .isLessThanOrEqualTo(1.2 * cells.get(Method.SALIENCY).mean());
    }

    @Test
    void theNumberOfThreadsChangesNothing() {
        assertThat(run(1)).isEqualTo(run(3));
    }

    @Test
    void theFilesAreThoseOfTheResult(@TempDir Path folder) throws Exception {
        AttentionSyntheticRecipe recipe = AttentionSyntheticRecipe.parse("test", SMALL);
        List<Cell> cells = run(2);
        AttentionSyntheticFiles.write(folder.resolve("new"), recipe, cells);
        String table = Files.readString(folder.resolve("new/attention-synthetic.md"));
        assertThat(table).contains("| factors and scales | 0.5 |").contains("mean of 2 seeds");
        assertThat(table.lines().filter(line -> line.startsWith("| factors")))
                .singleElement()
                .asString()
                .containsOnlyOnce(String.format("**%.4f**", cells.getLast().mean()));
        assertThat(Files.readString(folder.resolve("new/attention-synthetic.svg")))
                .startsWith("<svg")
                .contains("straight-through at 0.5");
        assertThat(Files.readString(folder.resolve("new/attention-synthetic.json")))
                .contains("\"held_out\" : 6")
                .contains(cells.getFirst().errors().getFirst().toString());
        try (var files = Files.list(folder.resolve("new"))) {
            assertThat(files).hasSize(3);
        }
    }

    @Test
    void aCancelledRunStops() {
        Progress cancelled = new Progress() {
            @Override
            public void advanced(String stage, long done, long total) {}

            @Override
            public boolean cancelled() {
                return true;
            }
        };
        AttentionSyntheticRecipe recipe = AttentionSyntheticRecipe.builtIn();
        assertThatThrownBy(() -> AttentionSynthetic.run(recipe, 1, cancelled))
                .isInstanceOf(CancellationException.class);
    }

    @Test
    void theBuiltInRecipeIsValid() {
        AttentionSyntheticRecipe recipe = AttentionSyntheticRecipe.builtIn();
        assertThat(recipe.seeds()).hasSize(5);
        assertThat(recipe.sparsity()).hasSize(3);
    }

    @Test
    void brokenRecipesNameWhatIsWrong(@TempDir Path folder) {
        refused("tokens: 24", "tokens: 0", "go from 2 to 1024, not 0");
        refused("tokens: 24", "tokens: 24\nwidht: 3", "widht");
        refused("tokens: 24", "tokens: 24\ntokens: 25", "tokens");
        refused("tokens: 24\n", "", "tokens");
        refused("sparsity: [0.5]", "sparsity: [1.0]", "below 1, not 1.0");
        refused("sparsity: [0.5]", "sparsity: []", "1 to 20");
        refused("seeds: [1, 2]", "seeds: [1, 1]", "twice");
        refused("rate: 0.006", "rate: .nan", ".nan");
        refused("logits: 1", "logits: -1", "logits is above 0");
        assertThatThrownBy(() -> AttentionSyntheticRecipe.parse("test", "")).isInstanceOf(RecipeException.class);
        assertThatThrownBy(() -> AttentionSyntheticRecipe.parse("test", "[]")).isInstanceOf(RecipeException.class);
        assertThatThrownBy(() -> AttentionSyntheticRecipe.load(folder.resolve("none.yaml")))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("none.yaml");
    }

    private static void refused(String part, String by, String message) {
        assertThat(SMALL).contains(part);
        assertThatThrownBy(() -> AttentionSyntheticRecipe.parse("test", SMALL.replace(part, by)))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("test")
                .hasMessageContaining(message);
    }

    private static List<Cell> run(int threads) {
        return AttentionSynthetic.run(AttentionSyntheticRecipe.parse("test", SMALL), threads, Progress.NONE);
    }
}
