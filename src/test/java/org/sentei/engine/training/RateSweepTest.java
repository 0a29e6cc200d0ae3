package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.Progress;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.kernel.Backend;

/** Several rates from several seeds. */
class RateSweepTest {
    private static final List<BigDecimal> RATES = List.of(new BigDecimal("0.5"), new BigDecimal("0.90"));

    @TempDir
    private Path folder;

    private Path data;
    private Path out;

    @BeforeEach
    void draw() throws IOException {
        data = DrawnGraph.write(folder.resolve("graph"));
        out = folder.resolve("sweep");
    }

    private RateSweep.Result run(TrainingRecipe recipe, List<BigDecimal> rates, List<Long> seeds) {
        return RateSweep.run(recipe, data, out, rates, seeds, "cpu", Backend.Options.defaults(), Progress.NONE);
    }

    private static TrainingRecipe recipe(int steps) {
        return TrainingRecipe.parse("recipe", TrainingRecipe.text("pmp-90").replace("steps: 400", "steps: " + steps));
    }

    @Test
    void everyRateHasItsExactZerosAndTheMeanOfItsSeeds() throws IOException {
        RateSweep.Result result = run(recipe(20), RATES, List.of(4L, 5L));
        assertThat(result.cells().stream().map(RateSweep.Cell::rate)).containsExactly("0.5", "0.5", "0.90", "0.90");
        assertThat(result.cells().stream().map(RateSweep.Cell::budget))
                .containsExactly("dynamic-quantile", "magnitude", "dynamic-quantile", "magnitude");
        long weights = 2 * result.cells().getFirst().zeros();
        assertThat(result.cells().getLast().zeros()).isEqualTo(Math.round(0.9 * weights));
        for (RateSweep.Cell cell : result.cells()) {
            List<Double> seeds = cell.test().seeds();
            assertThat(seeds).hasSize(2);
            assertThat(cell.test().mean()).isCloseTo((seeds.get(0) + seeds.get(1)) / 2, within(1e-12));
            assertThat(cell.test().deviation())
                    .isCloseTo(Math.abs(seeds.get(0) - seeds.get(1)) / Math.sqrt(2), within(1e-12));
        }
        assertThat(out.resolve("sweep.svg")).content().startsWith("<svg").contains("magnitude");
        assertThat(out.resolve("sweep.md")).content().contains("| 0.90 |");
        assertThat(out.resolve("sweep.json")).content().contains("\"deviation\"");
        assertThat(out.resolve("rate-0.90/seed-5/model.safetensors")).exists();
    }

    @Test
    void whatAnEarlierSweepFinishedIsKeptAndWhatIsAnotherOnesIsRefused() throws IOException {
        run(recipe(20), RATES.subList(0, 1), List.of(4L));
        Path model = out.resolve("rate-0.5/seed-4/model.safetensors");
        FileTime written = Files.getLastModifiedTime(model);
        RateSweep.Result more = run(recipe(20), RATES, List.of(4L));
        assertThat(Files.getLastModifiedTime(model)).isEqualTo(written);
        assertThat(more.cells()).hasSize(4);
        assertThatThrownBy(() -> run(recipe(21), RATES, List.of(4L)))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("holds another training");
        Files.delete(out.resolve("rate-0.5/seed-4/report.json"));
        assertThatThrownBy(() -> run(recipe(20), RATES, List.of(4L)))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("holds no finished training");
    }

    @Test
    void sweepsOfNothingAndWrongRatesAreRefusedBeforeTheWork() {
        assertThatThrownBy(() -> run(recipe(20), List.of(), List.of(1L)))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("0 rates");
        assertThatThrownBy(() -> run(recipe(20), List.of(BigDecimal.ZERO, BigDecimal.ONE), List.of(1L)))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("rate 1 is outside");
        assertThat(out).doesNotExist();
    }
}
