package org.sentei.engine.training;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.format.OnnxFile;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

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

    /** The share of test images that a written network tells right in ONNX Runtime. */
    static double accuracy(Path network, LabelledImages images) {
        try (OnnxFile file = OnnxFile.open(network);
                Arena arena = Arena.ofConfined();
                OnnxSession session = OnnxSession.open(file.tapped(List.of(), List.of(), arena), 1)) {
            Tensor batch = images.batch("image", images.test().pixels());
            float[] scores = Floats.toArray(
                    session.run(List.of(batch), List.of("scores")).get("scores"));
            int right = 0;
            for (int i = 0; i < images.test().count(); i++) {
                right += Scores.best(scores, i, images.classes(), "image", "")
                                == images.test().label(i)
                        ? 1
                        : 0;
            }
            return (double) right / images.test().count();
        }
    }
}
