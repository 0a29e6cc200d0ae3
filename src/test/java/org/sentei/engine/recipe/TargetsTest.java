package org.sentei.engine.recipe;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.model.Site;

class TargetsTest {
    private static final List<Site> SITES = List.of(
            site("layers.0.q_proj", Site.Role.QUERY),
            site("layers.0.k_proj", Site.Role.KEY),
            site("layers.1.q_proj", Site.Role.QUERY),
            site("lm_head", Site.Role.HEAD));

    private static Site site(String name, Site.Role role) {
        return new Site(name, name + ".weight", null, 4, 4, false, role, 0, "x");
    }

    private static List<List<String>> resolve(String... steps) {
        Recipe recipe = Recipes.parse("steps: [" + String.join(", ", steps) + "]");
        return Targets.resolve(recipe, SITES).stream()
                .map(sites -> sites.stream().map(Site::name).toList())
                .toList();
    }

    @Test
    void takesEverythingButTheHeadWithoutTargets() {
        assertThat(resolve("{method: wanda, sparsity: 0.5}"))
                .containsExactly(List.of("layers.0.q_proj", "layers.0.k_proj", "layers.1.q_proj"));
    }

    @Test
    void takesTheHeadWhenATargetNamesIt() {
        assertThat(resolve("{method: wanda, sparsity: 0.5, targets: ['*head']}"))
                .containsExactly(List.of("lm_head"));
    }

    @Test
    void appliesTargetsAndIgnoreInTheOrderOfTheModel() {
        assertThat(resolve(
                        "{method: wanda, sparsity: 0.5, targets: ['layers.1.*', '*.q_proj']}",
                        "{method: stade, sparsity: 0.5, targets: ['*'], ignore: ['*.q_proj', 'lm_*', 'nothing']}"))
                .containsExactly(List.of("layers.0.q_proj", "layers.1.q_proj"), List.of("layers.0.k_proj"));
    }

    @Test
    void refusesATargetThatMatchesNothingAndNamesTheNearestSite() {
        assertThatThrownBy(() -> resolve("{method: wanda, sparsity: 0.5, targets: ['*', 'layers.1.k_proj']}"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("step 1 (wanda)")
                .hasMessageContaining("target layers.1.k_proj")
                .hasMessageContaining("the nearest is layers.");
    }

    @Test
    void wildcardsDoNotCountAgainstTheNearestSite() {
        assertThatThrownBy(() -> resolve("{method: wanda, sparsity: 0.5, targets: ['*.k_porj']}"))
                .hasMessageContaining("the nearest is layers.0.k_proj");
    }

    @Test
    void refusesASiteThatTwoStepsClaim() {
        assertThatThrownBy(() -> resolve(
                        "{method: wanda, sparsity: 0.5, targets: ['*.k_proj', '*.q_proj']}",
                        "{method: stade, sparsity: 0.5, targets: ['layers.1.*']}"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("layers.1.q_proj is claimed by step 1 (wanda) and step 2 (stade)");
    }

    @Test
    void saysThatOnlyHeadsAreLeftWithoutTargets() {
        Recipe recipe = Recipes.parse("steps: [{method: wanda, sparsity: 0.5}]");
        List<Site> heads =
                SITES.stream().filter(site -> site.role() == Site.Role.HEAD).toList();
        assertThatThrownBy(() -> Targets.resolve(recipe, heads))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("only sites are heads");
    }

    @Test
    void refusesAStepWhoseSitesAreAllIgnored() {
        assertThatThrownBy(() -> resolve("{method: wanda, sparsity: 0.5, targets: ['lm_head'], ignore: ['*']}"))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("no site is left");
    }

    @Test
    void refusesAModelWithoutSites() {
        assertThatThrownBy(() -> Targets.resolve(Recipes.load("wanda-50"), List.of()))
                .isInstanceOf(RecipeException.class);
    }

    @ParameterizedTest
    @CsvSource({
        "*, anything, true",
        "*, '', true",
        "'', '', true",
        "?, '', false",
        "a?c, abc, true",
        "a?c, ac, false",
        "*.q, layers.0.q, true",
        "*.q, layers.0.qq, false",
        "a*b*c, aXbXbc, true",
        "a*b*c, aXcXb, false",
        "a.c, abc, false",
        "[ab], a, false",
        "a**, a, true"
    })
    void matchesStarsAndQuestionMarksOnly(String pattern, String name, boolean matches) {
        assertThat(Targets.matches(pattern, name)).isEqualTo(matches);
    }

    @Test
    @Timeout(10)
    void aHostilePatternCostsLittle() {
        assertThat(Targets.matches("*a".repeat(250) + "b", "a".repeat(100_000))).isFalse();
    }
}
