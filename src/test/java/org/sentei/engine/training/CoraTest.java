package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.Progress;
import org.sentei.format.GraphFolder;
import org.sentei.kernel.Backend;

/** A dense network on Cora with the Planetoid split, in the folder that {@code SENTEI_CORA} names; skipped without. */
class CoraTest {
    @TempDir
    private Path folder;

    @Test
    void aDenseNetworkReachesWhatIsKnownOfCora() {
        String data = System.getenv("SENTEI_CORA");
        assumeThat(data).as("SENTEI_CORA, the folder of Cora's tables").isNotNull();
        assertThat(GraphFolder.isOne(Path.of(data))).isTrue();
        TrainingRecipe recipe = TrainingRecipe.parse(
                "recipe",
                TrainingRecipe.text("pmp-90")
                        .replaceFirst("budget: \\S+", "budget: magnitude")
                        .replaceFirst("from_rate: \\S+", "from_rate: 0")
                        .replaceFirst(" rate: \\S+", " rate: 0"));
        RateSweep.Result result = RateSweep.run(
                recipe,
                Path.of(data),
                folder.resolve("sweep"),
                List.of(BigDecimal.ZERO),
                List.of(1L, 2L, 3L),
                "auto",
                Backend.Options.defaults(),
                Progress.NONE);
        assertThat(result.cells().getFirst().zeros()).isZero();
        assertThat(result.cells().getFirst().test().mean()).isBetween(0.79, 0.83);
    }
}
