package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.engine.training.ImageRecipe;
import org.sentei.engine.training.ImageReport;
import org.sentei.engine.training.ImageTraining;

/** EASIER on Fashion-MNIST, in the folder of idx files that {@code SENTEI_FASHION_MNIST} names; skipped without. */
class FashionMnistTest {
    @TempDir
    private Path folder;

    @Test
    void aThirdOfTheActivationsGoForAPointOfAccuracy() throws IOException {
        String data = System.getenv("SENTEI_FASHION_MNIST");
        assumeThat(data).as("SENTEI_FASHION_MNIST, the folder of its idx files").isNotNull();
        Path recipe = Files.writeString(
                folder.resolve("dense.yaml"),
                ImageRecipe.load("vgg-small")
                        .text()
                        .replace("samples: 60000, valid: 5000", "samples: 12000, valid: 2000")
                        .replace("epochs: 10", "epochs: 12"));
        Path dense = folder.resolve("dense");
        ImageReport trained = ImageTraining.run(
                ImageRecipe.load(recipe.toString()), Path.of(data), dense, Journaling.OFF, Progress.NONE);
        assertThat(trained.accuracy().test()).isGreaterThan(0.87);
        CompressionRequest request = CompressionRequest.of(
                        dense.resolve("model.onnx"),
                        Recipes.parse(Recipes.load("easier")
                                .text()
                                .replace("mode: fine-tune", "mode: fine-tune\n    layers: 3")
                                .replace("samples: 60000", "samples: 12000")
                                .replace("valid: 5000", "valid: 2000")))
                .withData(Path.of(data));
        try (Plan plan = Plan.of(request)) {
            Report report = plan.run(folder.resolve("shallow"), Journaling.ON, Progress.NONE);
            Report.Measure top1 = report.quality().stream()
                    .filter(measure -> measure.metric().equals("top1"))
                    .findFirst()
                    .orElseThrow();
            assertThat(report.quality()).contains(new Report.Measure("activations", 8, 5));
            // One standard error of 10,000 images is 0.3 points.
            assertThat(top1.after()).isGreaterThan(top1.before() - 0.013);
        }
    }
}
