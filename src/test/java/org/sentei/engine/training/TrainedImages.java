package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Path;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;

/** A small network that was trained on {@link DrawnImages}, for tests of what comes after. */
public final class TrainedImages {
    private TrainedImages() {}

    /** Writes the images. */
    public static Path data(Path folder) throws IOException {
        return DrawnImages.write(folder, 300, 60);
    }

    /** Trains the network, of 8 ReLUs. */
    public static Path network(Path data, Path out) {
        ImageTraining.run(
                ImageRecipe.parse("recipe", ImageTrainingTest.recipe(4, 0.05)),
                data,
                out,
                Journaling.OFF,
                Progress.NONE);
        return out.resolve(ImageTraining.MODEL);
    }
}
