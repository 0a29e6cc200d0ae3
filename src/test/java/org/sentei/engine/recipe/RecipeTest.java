package org.sentei.engine.recipe;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.method.SparseGpt;
import org.sentei.method.easier.Entropy;
import org.sentei.method.easier.Linearization;
import org.sentei.method.quantize.Quantization;

class RecipeTest {
    private static final String FULL = """
            # my recipe
            seed: 7
            steps:
              - method: stade
                targets: ["*.q_proj", '*.k_proj']
                ignore: ["lm_head*"]
                sparsity: 0.5
                scope: layer
                pattern: unstructured
                variant: policy
                threshold: 0.2
                bias: off
            calibration: {samples: 64, length: 128, sequential: false}
            storage: dense
            quality: {max_perplexity_increase: 0.1}
            """;

    @Test
    void anEasierStepSaysHowANetworkGetsShallower() {
        Easier tuned = Recipes.parse("steps: [{method: easier}]").easier().orElseThrow();
        assertThat(tuned.mode()).isEqualTo(Easier.Mode.FINE_TUNE);
        assertThat(tuned.linearise()).isEqualTo(Linearization.Form.IDENTITY);
        assertThat(tuned.delta()).isEqualTo(0.01);
        assertThat(tuned.merge()).isEqualTo(Easier.Merging.AUTO);
        assertThat(tuned.tuning()).isEqualTo(Easier.Tuning.DEFAULT);

        Easier once = Recipes.parse("steps: [{method: easier, mode: one-shot, layers: 2, ignore: [\"a*\"],"
                        + " linearise: sign, entropy: easier-repo, batch: 4, merge: pad-first},"
                        + " {method: quantize}]")
                .easier()
                .orElseThrow();
        assertThat(once.layers()).isEqualTo(2);
        assertThat(once.linearise()).isEqualTo(Linearization.Form.SIGN);
        assertThat(once.entropy()).isEqualTo(Entropy.Rule.EASIER_REPO);
        assertThat(once.batch()).isEqualTo(4);
        assertThat(once.merge()).isEqualTo(Easier.Merging.PAD_FIRST);
        assertThat(once.takes("act1")).isFalse();
        assertThat(once.takes("relu1")).isTrue();
        assertThat(Recipes.parse("steps: [{method: easier, mode: one-shot, layers: 1}]")
                        .easier()
                        .orElseThrow()
                        .linearise())
                .isEqualTo(Linearization.Form.AFFINE);
    }

    @Test
    void readsEveryKeyAndKeepsTheText() {
        Recipe recipe = Recipes.parse(FULL);
        Recipe.Step step = recipe.steps().getFirst();
        assertThat(recipe.seed()).isEqualTo(7);
        assertThat(step.method()).isEqualTo(Recipe.Method.STADE);
        assertThat(step.targets()).containsExactly("*.q_proj", "*.k_proj");
        assertThat(step.ignore()).containsExactly("lm_head*");
        assertThat(step.sparsity()).isEqualTo(new BigDecimal("0.5"));
        assertThat(step.scope()).isEqualTo(Recipe.Scope.LAYER);
        assertThat(step.pattern()).isNull();
        assertThat(step.variant()).isEqualTo(Recipe.Variant.POLICY);
        assertThat(step.threshold()).isEqualTo(0.2);
        assertThat(step.bias()).isEqualTo(Recipe.Bias.OFF);
        assertThat(recipe.calibration()).isEqualTo(new Recipe.Calibration(64, 128, Optional.of(false)));
        assertThat(recipe.quality()).isEqualTo(new Recipe.Quality(Optional.of(0.1), Optional.empty()));
        assertThat(recipe.text()).isEqualTo(FULL);
    }

    @Test
    void fillsInWhatIsLeftOut() {
        Recipe recipe = Recipes.parse("steps: [{method: stade, sparsity: .25}]");
        Recipe.Step step = recipe.steps().getFirst();
        assertThat(recipe.seed()).isZero();
        assertThat(recipe.calibration()).isEqualTo(new Recipe.Calibration(128, 256, Optional.empty()));
        assertThat(recipe.quality().gated()).isFalse();
        assertThat(step.targets()).isEmpty();
        assertThat(step.scope()).isEqualTo(Recipe.Scope.ROW);
        assertThat(step.variant()).isEqualTo(Recipe.Variant.STADE);
        assertThat(step.bias()).isEqualTo(Recipe.Bias.AUTO);
        assertThat(step.sparsity()).isEqualByComparingTo("0.25");
    }

    @ParameterizedTest
    @ValueSource(strings = {"2:4", "\"2:4\"", "'2:4'"})
    void readsPatternsQuotedOrNot(String pattern) {
        Recipe.Step step = Recipes.parse("steps: [{method: wanda, pattern: " + pattern + "}]")
                .steps()
                .getFirst();
        assertThat(step.pattern()).isEqualTo(new Recipe.Pattern(2, 4));
        assertThat(step.sparsity()).isEqualByComparingTo("0.5");
        assertThat(step.countPerRow(12)).isEqualTo(6);
    }

    @Test
    void countsAThirdExactlyWhereTheFractionHasNoDecimals() {
        Recipe.Step step = Recipes.parse("steps: [{method: wanda, pattern: '1:3'}]")
                .steps()
                .getFirst();
        assertThat(step.countPerRow(9)).isEqualTo(3);
    }

    @ParameterizedTest
    @CsvSource({
        "0.5, 7, 3",
        "0.29, 100, 29", // 0.29 * 100 is 28.999... in binary
        "0.57, 100, 57",
        "0.7, 10, 7",
        "0.999999999999999999, 1000, 999",
        "0, 5, 0",
        "0.5, 9000000000000000001, 4500000000000000000"
    })
    void countsInExactDecimals(String sparsity, long n, long expected) {
        Recipe.Step step = Recipes.parse("steps: [{method: wanda, sparsity: " + sparsity + "}]")
                .steps()
                .getFirst();
        assertThat(step.floorCount(n)).isEqualTo(expected);
    }

    @Test
    void readsJson(@TempDir Path folder) throws IOException {
        Path file = Files.writeString(
                folder.resolve("r.json"),
                "{\n\t\"seed\": 3,\n\t\"steps\": [{\"method\": \"magnitude\", \"sparsity\": 0.30}]}");
        Recipe recipe = Recipes.load(file.toString());
        assertThat(recipe.seed()).isEqualTo(3);
        assertThat(recipe.steps().getFirst().sparsity()).isEqualTo(new BigDecimal("0.30"));
        assertThat(Recipes.parse(recipe.text()).steps()).isEqualTo(recipe.steps());
    }

    @Test
    void everyBuiltInRecipeIsValidAndExplainsItself() {
        assertThat(Recipes.builtIn()).contains("magnitude-50", "wanda-50", "stade-50", "stade-2of4");
        for (String name : Recipes.builtIn()) {
            Recipe recipe = Recipes.load(name);
            assertThat(recipe.text()).as(name).startsWith("# ");
            if (recipe.quantize().isPresent()) {
                assertThat(recipe.quantize().get().how()).as(name).isEqualTo(Quantization.RECOMMENDED);
            } else if (recipe.easier().isPresent()) {
                assertThat(recipe.easier().get().merge()).as(name).isEqualTo(Easier.Merging.AUTO);
            } else {
                assertThat(recipe.steps()).as(name).hasSize(1);
                assertThat(recipe.steps().getFirst().countPerRow(8)).as(name).isEqualTo(4);
            }
        }
    }

    @Test
    void sparseGptHasABudgetForBlocksUnlessTheRecipeSaysOtherwise() {
        Recipe.Step usual = step("{method: sparsegpt, sparsity: 0.5}");
        assertThat(usual.scope()).isEqualTo(Recipe.Scope.LAYER);
        assertThat(usual.sweep()).isEqualTo(new Recipe.Sweep(128, 0.01));
        assertThat(usual.sparseGpt().budget()).isInstanceOf(SparseGpt.Budget.Layer.class);
        Recipe.Step given = step("{method: sparsegpt, sparsity: 0.5, scope: row, block: 64, damping: 1e-3}");
        assertThat(given.sparseGpt().budget()).isInstanceOf(SparseGpt.Budget.Row.class);
        assertThat(given.sparseGpt().block()).isEqualTo(64);
        assertThat(given.sparseGpt().damping()).isEqualTo(1e-3);
        assertThat(step("{method: sparsegpt, pattern: '1:3', block: 96}")
                        .sparseGpt()
                        .budget())
                .isEqualTo(new SparseGpt.Budget.Groups(1, 3));
        assertThat(step("{method: wanda, sparsity: 0.5}").sweep()).isNull();
    }

    private static Recipe.Step step(String yaml) {
        return Recipes.parse("steps: [" + yaml + "]").steps().getFirst();
    }

    @Test
    void aMagnitudeRecipeNeedsNoCalibration() {
        assertThat(Recipes.load("magnitude-50").calibrated()).isFalse();
        assertThat(Recipes.load("wanda-50").calibrated()).isTrue();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "sed: 7|unknown key sed; the nearest is seed",
                "steps: [{method: stade, sparsity: 0.5, sparsty: 1}]|steps[1].sparsty; the nearest is sparsity",
                "steps: [{method: stade, sparsity: 0.5, dampnig: 1}]|unknown key steps[1].dampnig",
                "calibration: {sample: 3}|unknown key calibration.sample; the nearest is samples",
                "quality: {max_perplexity: 3}|nearest is max_perplexity_increase",
                "steps: [{method: wnda, sparsity: 0.5}]|there is no method wnda; the nearest is wanda",
                "steps: [{sparsity: 0.5}]|step 1 has no method",
                "steps: [{method: pmp}]|there is no method pmp; the nearest is",
                "steps: [{method: easier, mode: one-shot}]|steps[1] has no layers",
                "steps: [{method: easier, layers: 0}]|layers is a whole number from 1",
                "steps: [{method: easier, mode: one-shot, layers: 1.5}]|layers is a whole number from 0",
                "steps: [{method: easier, delta: -0.01}]|delta -0.01 is outside [0, 1]",
                "steps: [{method: easier, delta: 1.5}]|delta 1.5 is outside [0, 1]",
                "steps: [{method: easier, mode: one-shot, layers: 1, delta: 0}]|delta belongs to mode: fine-tune",
                "steps: [{method: easier, mode: one-shot, layers: 1, batch: 4}]|batch belongs to mode: fine-tune or entropy",
                "steps: [{method: easier, mode: oneshot}]|mode cannot be oneshot; the nearest is one-shot",
                "steps: [{method: easier, learning_rate: 0}]|learning_rate 0.0 is outside (0, 10]",
                "steps: [{method: easier, momentum: 1}]|momentum 1.0 is outside [0, 1)",
                "steps: [{method: easier, decay: -1}]|decay -1.0 is outside [0, 1]",
                "steps: [{method: easier, sparsity: 0.5}]|unknown key steps[1].sparsity",
                "steps: [{method: easier}, {method: easier}]|only a step that quantizes can follow method easier",
                "steps: [{method: easier}, {method: magnitude, sparsity: 0.5}]|only a step that quantizes can follow",
                "steps: [{method: quantize, weights: rows}]|weights cannot be rows; the nearest is tensor",
                "steps: [{method: quantize, sparsity: 0.5}]|unknown key steps[1].sparsity",
                "steps: [{method: quantize, percentile: 101}]|outside (50, 100]",
                "steps: [{method: quantize, unify: concat}]|is a list of add and concat",
                "images: {height: 0}|whole number from 1",
                "images: {mean: [1, 2]}|one for all or one for each",
                "images: {deviation: 0}|must be positive",
                "steps: [{method: wanda, sparsity: 0.5, bias: off}]|bias is a parameter of stade, not of wanda",
                "steps: [{method: stade, sparsity: 0.5, damping: 0.1}]|damping is a parameter of sparsegpt, not of stade",
                "steps: [{method: sparsegpt, sparsity: 0.5, bias: off}]|bias is a parameter of stade, not of sparsegpt",
                "steps: [{method: sparsegpt, sparsity: 0.5, scope: global}]|scope global does not go with sparsegpt",
                "steps: [{method: sparsegpt, sparsity: 0.5, damping: 0}]|damping 0.0 is outside (0, 1]",
                "steps: [{method: sparsegpt, sparsity: 0.5, damping: 1.5}]|damping 1.5 is outside (0, 1]",
                "steps: [{method: sparsegpt, sparsity: 0.5, block: 100}]|give a multiple of 32",
                "steps: [{method: sparsegpt, sparsity: 0.5, block: 0}]|whole number from 1",
                "steps: [{method: sparsegpt, sparsity: 0.5, block: 65568}]|up to 65536",
                "steps: [{method: sparsegpt, pattern: '1:3'}]|give a block that is a multiple of 3",
                "steps: [{method: sparsegpt, pattern: '2:4', scope: layer}]|contradict each other",
                "steps: [{method: wanda}]|no sparsity",
                "steps: [{method: wanda, sparsity: 1}]|outside [0, 1)",
                "steps: [{method: wanda, sparsity: 1.0}]|outside [0, 1)",
                "steps: [{method: wanda, sparsity: -0.1}]|outside [0, 1)",
                "steps: [{method: wanda, sparsity: .nan}]|decimal number",
                "steps: [{method: wanda, sparsity: half}]|decimal number",
                "steps: [{method: wanda, sparsity: 1e-99}]|more than 30 digits",
                "steps: [{method: wanda, sparsity: 1e-999999999}]|decimal number",
                "steps: [{method: wanda, sparsity: [0.5]}]|single value",
                "steps: [{method: wanda, pattern: '4:2'}]|1 <= N < M",
                "steps: [{method: wanda, pattern: '4:4'}]|1 <= N < M",
                "steps: [{method: wanda, pattern: '0:4'}]|1 <= N < M",
                "steps: [{method: wanda, pattern: two}]|1 <= N < M",
                "steps: [{method: wanda, pattern: '2:4', sparsity: 0.6}]|contradicts pattern 2:4",
                "steps: [{method: wanda, pattern: '2:4', scope: global}]|contradict each other",
                "steps: [{method: wanda, sparsity: 0.5, scope: rows}]|cannot be rows; the nearest is row",
                "steps: [{method: stade, sparsity: 0.5, variant: stade_w}]|nearest is stade-w",
                "steps: [{method: stade, sparsity: 0.5, threshold: 0.1}]|belongs to variant: policy",
                "steps: [{method: stade, sparsity: 0.5, variant: policy, threshold: 2}]|in [0, 1]",
                "steps: [{method: wanda, sparsity: 0.5, targets: '*'}]|list of patterns",
                "steps: [{method: wanda, sparsity: 0.5, targets: []}]|list of patterns",
                "steps: []|steps is empty",
                "steps: {method: wanda}|steps is missing or not a list",
                "steps: [wanda]|step 1 is not a mapping",
                "seed: 1|steps is missing",
                "seed: -1|whole number",
                "seed: 010|whole number",
                "seed: 99999999999999999999|whole number",
                "calibration: {samples: 0}|whole number from 1",
                "calibration: {length: 1}|whole number from 2",
                "calibration: {sequential: maybe}|true or false",
                "calibration: 5|is a mapping",
                "storage: bitmap|storage cannot be bitmap; the nearest is bitmask",
                "quality: {min_cosine: 2}|must lie in",
                "seed:|has no value",
                "just text|a recipe is a mapping",
                "seed: {{|is not valid YAML"
            })
    void refusesWhatIsWrongAndSaysWhatWouldBeRight(String fragment, String message) {
        boolean hasSteps =
                fragment.startsWith("steps") || !fragment.contains(":") || message.contains("steps is missing");
        String text = hasSteps ? fragment : fragment + "\nsteps: [{method: wanda, sparsity: 0.5}]";
        assertThatThrownBy(() -> Recipes.parse(text))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining(message)
                .hasMessageStartingWith("recipe");
    }

    @Test
    void namesTheLine() {
        assertThatThrownBy(() -> Recipes.parse("seed: 1\nsteps:\n  - method: wanda\n    sparsity: 3\n"))
                .hasMessageContaining("line 3");
        assertThatThrownBy(() -> Recipes.parse("seed: 1\nspeed: 2\n")).hasMessageContaining("line 2");
    }

    @Test
    void refusesAKeyThatOccursTwice() {
        assertThatThrownBy(() -> Recipes.parse("seed: 1\nseed: 2\nsteps: []"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("seed");
    }

    @Test
    void saysWhatIsWrongAndWhereInItsOwnWords() {
        assertThatThrownBy(() -> Recipes.parse("steps: " + "[".repeat(17))).hasMessageContaining("nests too deeply");
        assertThatThrownBy(() -> Recipes.parse("seed: 1\n\tsteps: []"))
                .hasMessageContaining("line 2")
                .hasMessageContaining("cannot start any token");
        assertThatThrownBy(() -> Recipes.parse("a: 1\na: 2")).hasMessageContaining("'a' is given twice");
    }

    @Test
    void refusesASecondDocument() {
        assertThatThrownBy(() -> Recipes.parse("steps: [{method: wanda, sparsity: 0.5}]\n---\nseed: 1\n"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("second document");
    }

    @Test
    @Timeout(20)
    void refusesAliasesAndBombs() {
        String laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nsteps: *b\n";
        assertThatThrownBy(() -> Recipes.parse(laughs))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("anchors and aliases");
        assertThatThrownBy(() -> Recipes.parse("steps: [{method: wanda, sparsity: 0.5, targets: [*.q_proj]}]"))
                .isInstanceOf(RecipeException.class);
        for (String open : List.of("[", "{a: ", "- ", "? ")) {
            assertThatThrownBy(() -> Recipes.parse("steps: " + open.repeat(20_000)))
                    .as(open)
                    .isInstanceOf(RecipeException.class);
        }
        assertThatThrownBy(() -> Recipes.parse("x".repeat(RecipeReader.MAX_CHARACTERS + 1)))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("characters");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "\n",
                "# only a comment\n",
                "---\n",
                "\u0000",
                "\uD800",
                "%YAML 9.9\n---\na",
                "!!java.net.URL [x]"
            })
    void refusesTextThatIsNoRecipe(String text) {
        assertThatThrownBy(() -> Recipes.parse(text)).isInstanceOf(RecipeException.class);
    }

    @Test
    void namesTheNearestBuiltInRecipe() {
        assertThatThrownBy(() -> Recipes.load("stade50"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("the nearest is stade-50");
        assertThatThrownBy(() -> Recipes.load("/no/such\u0000file")).isInstanceOf(RecipeException.class);
    }

    @Test
    void refusesAFileThatIsNotText(@TempDir Path folder) throws IOException {
        Path file = Files.write(folder.resolve("r.yaml"), new byte[] {(byte) 0xff, (byte) 0xfe, 0});
        assertThatThrownBy(() -> Recipes.load(file.toString()))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("UTF-8");
        assertThatThrownBy(() -> Recipes.load(folder.toString())).isInstanceOf(RecipeException.class);
    }
}
