package org.sentei.engine.training;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.concurrent.CancellationException;
import javax.imageio.ImageIO;
import org.assertj.core.data.Offset;
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
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;

/** Training of small networks on drawn images: the command's work without its line. */
@TestInstance(Lifecycle.PER_CLASS)
class ImageTrainingTest {
    private Path folder;
    private Path data;
    private int outputs;

    @BeforeAll
    void drawImages(@TempDir Path shared) throws IOException {
        folder = shared;
        data = DrawnImages.write(folder.resolve("data"), 300, 60);
    }

    static String recipe(int epochs, double rate) {
        return """
                seed: 7
                network: {kind: vgg, width: 2}
                images: {order: gray, height: 8, width: 8, mean: [0.5], deviation: [0.25]}
                data: {samples: 240, valid: 60}
                training:
                  epochs: %d
                  batch: 16
                  optimizer: sgd
                  learning_rate: %s
                  momentum: 0.9
                  decay: 5e-4
                  schedule: cosine
                  shift: 1
                  flip: false
                """.formatted(epochs, rate);
    }

    private Path out() {
        return folder.resolve("out" + outputs++);
    }

    private ImageReport train(String recipe, Path from, Path out, Journaling journaling, Progress progress) {
        return ImageTraining.run(ImageRecipe.parse("recipe", recipe), from, out, journaling, progress);
    }

    @Test
    void theClassesAreLearnedAndOnnxRuntimeSeesTheSame() throws IOException {
        Path out = out();
        ImageReport report = train(recipe(6, 0.05), data, out, Journaling.ON, Progress.NONE);
        assertThat(report.accuracy().test()).isGreaterThan(0.9);
        assertThat(report.curve()).hasSize(6);
        assertThat(report.curve().getLast().loss())
                .isLessThan(report.curve().getFirst().loss() / 2);
        assertThat(out.resolve("curves.svg")).content().startsWith("<svg");
        assertThat(report.data()).isEqualTo(new ImageReport.Data(data.toString(), 3, 240, 60, 60));

        ImageRecipe asked = ImageRecipe.parse("recipe", recipe(6, 0.05));
        LabelledImages images =
                LabelledImages.read(data, asked.images().how(), asked.data().sizes(), OptionalLong.of(3));
        assertThat(TrainedImages.accuracy(out.resolve("model.onnx"), images))
                .isEqualTo(report.accuracy().test());
    }

    @Test
    void aSeedDecidesEveryByte() throws IOException {
        Path first = out();
        Path second = out();
        Path other = out();
        train(recipe(1, 0.05), data, first, Journaling.ON, Progress.NONE);
        train(recipe(1, 0.05), data, second, Journaling.OFF, Progress.NONE);
        train(recipe(1, 0.05).replace("seed: 7", "seed: 8"), data, other, Journaling.ON, Progress.NONE);
        assertThat(second.resolve("model.onnx")).hasSameBinaryContentAs(first.resolve("model.onnx"));
        assertThat(Files.readAllBytes(other.resolve("model.onnx")))
                .isNotEqualTo(Files.readAllBytes(first.resolve("model.onnx")));
    }

    @ParameterizedTest
    @ValueSource(ints = {20, 70})
    void aResumedTrainingIsThatOfAnUndisturbedOne(int calls) throws IOException {
        Path undisturbed = out();
        Path resumed = out();
        ImageReport expected = train(recipe(8, 0.05), data, undisturbed, Journaling.ON, Progress.NONE);
        assertThatThrownBy(() -> train(recipe(8, 0.05), data, resumed, Journaling.ON, new CancelAfter(calls)))
                .isInstanceOf(CancellationException.class);
        assertThat(resumed).doesNotExist();
        ImageReport report = train(recipe(8, 0.05), data, resumed, Journaling.RESUME, Progress.NONE);
        for (String file : List.of("model.onnx", "curves.svg", "recipe.yaml")) {
            assertThat(resumed.resolve(file)).hasSameBinaryContentAs(undisturbed.resolve(file));
        }
        assertThat(report.curve()).isEqualTo(expected.curve());
        assertThat(report.accuracy()).isEqualTo(expected.accuracy());
    }

    @Test
    void aLossThatIsNotFiniteSaysWhereAndLeavesTheLastState() {
        Path out = out();
        String wild = recipe(8, 1e30).replace("schedule: cosine", "schedule: constant");
        assertThatThrownBy(() -> train(wild, data, out, Journaling.ON, Progress.NONE))
                .isInstanceOf(RunException.class)
                .hasMessageMatching(
                        "training diverged at step \\d+ of 120: the loss is (NaN|Infinity) with learning rate"
                                + " 1.0E30; lower learning_rate .*");
        assertThat(out).doesNotExist();

        Path later = out();
        assertThatThrownBy(() -> train(recipe(8, 0.05), data, later, Journaling.ON, new CancelAfter(60)))
                .isInstanceOf(CancellationException.class);
        assertThatThrownBy(() -> train(recipe(8, 1e30), data, later, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(RunException.class)
                .hasMessageContaining("--resume");
        ImageReport report = train(recipe(8, 0.01), data, later, Journaling.RESUME, Progress.NONE);
        assertThat(report.warnings())
                .containsExactly(
                        "learning_rate was 0.05 in the steps before 50 of round 0, which an earlier run trained");
        assertThat(report.accuracy().test()).isGreaterThan(0.5);
    }

    @Test
    void anotherRecipeDoesNotResume() {
        Path out = out();
        assertThatThrownBy(() -> train(recipe(8, 0.05), data, out, Journaling.ON, new CancelAfter(60)))
                .isInstanceOf(CancellationException.class);
        assertThatThrownBy(() -> train(
                        recipe(8, 0.05).replace("batch: 16", "batch: 15"), data, out, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is the journal of another run: recipe.training");
    }

    @Test
    void foldersOfImagesAreReadToo() throws IOException {
        Path images = folder.resolve("png");
        Random random = new Random(3);
        for (int i = 0; i < 60; i++) {
            Path at = Files.createDirectories(images.resolve(i % 2 == 0 ? "left" : "right"));
            BufferedImage picture = new BufferedImage(8, 8, BufferedImage.TYPE_BYTE_GRAY);
            for (int p = 0; p < 64; p++) {
                int bright = (p % 8 < 4) == (i % 2 == 0) ? 100 : 0;
                picture.getRaster().setSample(p % 8, p / 8, 0, random.nextInt(100) + bright);
            }
            ImageIO.write(picture, "png", at.resolve(i + ".png").toFile());
        }
        ImageReport report = train(recipe(6, 0.05), images, out(), Journaling.ON, Progress.NONE);
        assertThat(report.data()).isEqualTo(new ImageReport.Data(images.toString(), 2, 27, 27, 6));
        Files.createDirectories(images.resolve("nothing"));
        assertThatThrownBy(() -> train(recipe(6, 0.05), images, out(), Journaling.ON, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("class nothing has no training image");
    }

    @Test
    void labelsOutOfRangeAndEmptyClassesAreNamed() throws IOException {
        Path gap = DrawnImages.write(folder.resolve("gap"), 100, 20, i -> i % 2 == 0 ? 0 : 2);
        assertThatThrownBy(() -> train(recipe(1, 0.05), gap, out(), Journaling.ON, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("class 1 of 3 has no training image; give some");
        Path narrow = DrawnImages.write(folder.resolve("narrow"), 100, 20, i -> i % 2);
        assertThatThrownBy(() -> train(recipe(1, 0.05), narrow, out(), Journaling.ON, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(
                        "has the label 2, but the network tells 2 classes, from 0 to 1; correct the labels");
        Path bare = DrawnImages.write(folder.resolve("bare"), 100, 20);
        Files.delete(bare.resolve("train-labels-idx1-ubyte"));
        assertThatThrownBy(() -> train(recipe(1, 0.05), bare, out(), Journaling.ON, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("has the label null");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "epochs: 2 | epochs: 0 | epochs goes from 1 to 10000, not 0",
                "batch: 16 | batch: 1 | batch goes from 2 to 65536, not 1",
                "learning_rate: 0.05 | learning_rate: .nan | learning_rate",
                "optimizer: sgd | optimizer: adam | adam takes neither momentum nor decay",
                "width: 2} | width: 0} | width goes from 1 to 1024, not 0",
                "height: 8 | height: 4 | are too small or too large",
                "valid: 60 | valid: 0 | samples and valid are at least 1",
                "flip: false | flop: false | flip",
            })
    void recipesOutOfRangeAreRefused(String from, String to, String fact) {
        assertThatThrownBy(() -> ImageRecipe.parse("mine.yaml", recipe(2, 0.05).replace(from, to)))
                .isInstanceOf(RecipeException.class)
                .hasMessageStartingWith("mine.yaml")
                .hasMessageContaining(fact);
    }

    @Test
    void builtInRecipesAreValid() {
        for (String name : ImageRecipe.builtIn()) {
            assertThat(ImageRecipe.isOne(name)).isTrue();
            assertThat(ImageRecipe.load(name).text()).startsWith("# ");
        }
    }

    @Test
    void drawnImagesAreMovedAndMirrored() {
        LabelledImages.Form form = new LabelledImages.Form(1, 2, 3);
        float[] image = {9, 1, 2, 3, 4, 5, 6};
        List<List<Float>> seen = new ArrayList<>();
        for (int seed = 0; seed < 200; seed++) {
            float[] drawn = new float[7];
            new Augmentation(1, true).draw(new SplittableRandom(seed), form, image, 1, new float[] {-1}, drawn, 1);
            List<Float> values = new ArrayList<>();
            for (float value : drawn) {
                values.add(value);
            }
            seen.add(values);
        }
        assertThat(seen.stream().distinct()).hasSize(18);
        assertThat(seen)
                .contains(List.of(0f, 1f, 2f, 3f, 4f, 5f, 6f))
                .contains(List.of(0f, 3f, 2f, 1f, 6f, 5f, 4f))
                .contains(List.of(0f, -1f, -1f, -1f, -1f, 1f, 2f));
        float[] same = new float[7];
        new Augmentation(0, false).draw(new SplittableRandom(5), form, image, 1, new float[] {-1}, same, 1);
        assertThat(same).containsExactly(0, 1, 2, 3, 4, 5, 6);
    }

    @Test
    void momentumAndDecayAreThoseOfPyTorch() {
        // Two steps by hand: v = g + d w; w -= r v; v = m v + g + d w; w -= r v.
        float[] value = {1};
        Sgd sgd = new Sgd(List.of(value), 0.5, 0.1);
        sgd.step(0, List.of(value), List.of(new float[] {2}), 0.1);
        assertThat(value[0]).isEqualTo(1 - 0.1f * 2.1f);
        sgd.step(1, List.of(value), List.of(new float[] {2}), 0.1);
        double second = 0.79 - 0.1 * (0.5 * 2.1 + 2 + 0.079);
        assertThat((double) value[0]).isCloseTo(second, Offset.offset(1e-6));
    }

    /** Cancels after so many questions. */
    static final class CancelAfter implements Progress {
        private int left;

        CancelAfter(int calls) {
            left = calls;
        }

        @Override
        public void advanced(String stage, long done, long total) {}

        @Override
        public boolean cancelled() {
            return left-- <= 0;
        }
    }
}
