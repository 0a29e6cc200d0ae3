package org.sentei.engine.training;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.ImageData;
import org.sentei.engine.recipe.Images;
import org.sentei.format.FormatException;
import org.sentei.format.Sha256;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Images to train on, decoded, in three parts: those that are learned, those that decide when to stop, those that judge the
 * result.
 *
 * @param classes labels are smaller
 * @param blank what each channel has where an image is black
 */
record LabelledImages(
        Path source, Form form, int classes, List<Float> blank, Part train, Part valid, Part test, String sha256) {
    /** Numbers that are held in memory at most: 2 GB. */
    private static final long MOST = 1L << 29;
    /** Labels are smaller. */
    private static final int MOST_CLASSES = 10_000;
    /** Begins the order in which images of a folder are taken: whoever reads the same data gets the same parts. */
    private static final long ORDER = 20;

    /** Sizes of an image. */
    record Form(int channels, int rows, int columns) {
        int size() {
            return channels * rows * columns;
        }
    }

    /** Some of the images, one behind the other. */
    static final class Part {
        private final float[] pixels;
        private final int[] labels;

        private Part(float[] pixels, int[] labels) {
            this.pixels = pixels;
            this.labels = labels;
        }

        int count() {
            return labels.length;
        }

        int label(int image) {
            return labels[image];
        }

        float[] pixels() {
            return pixels;
        }
    }

    LabelledImages {
        blank = List.copyOf(blank);
    }

    /** How many images are for what. */
    record Sizes(int train, int valid) {}

    /** Where the images are that are learned. */
    static Path learned(Path source) {
        return part(source, "train").orElse(source);
    }

    /**
     * Reads and decodes images.
     *
     * @param source a folder of idx files ({@code train-images-idx3-ubyte}, {@code t10k-images-idx3-ubyte}, their labels beside
     *     them, gzipped or not), one with the folders {@code train} and {@code test}, or one with a folder for every class
     * @param how an image becomes an input; its height and width are given
     * @param sizes images for training at most, and for validation; of a folder that has no test images of its own, a tenth of
     *     all is for testing
     * @param known classes of the model that is trained, where there is one
     * @throws FormatException when there are none, when a label is missing or out of range, or a class has no image
     */
    static LabelledImages read(Path source, Images how, Sizes sizes, OptionalLong known) {
        Form form = new Form(
                how.order() == Images.Order.GRAY ? 1 : 3,
                how.height().orElseThrow(),
                how.width().orElseThrow());
        LayerGraph.Port input = new LayerGraph.Port(
                "image",
                DType.F32,
                List.of(
                        OptionalLong.empty(),
                        OptionalLong.of(form.channels()),
                        OptionalLong.of(form.rows()),
                        OptionalLong.of(form.columns())));
        Path learned = learned(source);
        Optional<Path> judged = part(source, "test").or(() -> part(source, "t10k"));
        ImageData images = ImageData.read(learned, how, input, Integer.MAX_VALUE);
        checkFolders(learned);
        Optional<ImageData> others = judged.map(path -> ImageData.read(path, how, input, Integer.MAX_VALUE));
        int[] order = order(images.count());
        int tested = others.isPresent() ? 0 : images.count() / 10;
        int held = Math.min(sizes.valid(), (images.count() - tested) / 2);
        int taken = Math.min(sizes.train(), images.count() - tested - held);
        if (taken < 2 || held < 1 || (others.isEmpty() && tested < 1)) {
            throw new FormatException("data " + source + " has " + images.count()
                    + " images to train on, too few for training, validation and test; give at least 20");
        }
        Sha256 hash = new Sha256();
        Part test = others.isPresent()
                ? part(others.get(), IntStream.range(0, others.get().count()).toArray(), form, hash)
                : part(images, slice(order, 0, tested), form, hash);
        Part valid = part(images, slice(order, tested, held), form, hash);
        Part train = part(images, slice(order, tested + held, taken), form, hash);
        int classes = classes(source, train, known);
        for (Part part : List.of(valid, test)) {
            for (int i = 0; i < part.count(); i++) {
                within(source, part.label(i), classes);
            }
        }
        List<Float> blank = new ArrayList<>();
        for (int c = 0; c < form.channels(); c++) {
            blank.add((float) (-how.mean().get(how.mean().size() == 1 ? 0 : c)
                    / how.deviation().get(how.deviation().size() == 1 ? 0 : c)));
        }
        return new LabelledImages(source, form, classes, blank, train, valid, test, hash.hex());
    }

    private static Optional<Path> part(Path source, String name) {
        if (Files.isDirectory(source.resolve(name))) {
            return Optional.of(source.resolve(name));
        }
        if (!Files.isDirectory(source)) {
            return Optional.empty();
        }
        try (Stream<Path> files = Files.list(source)) {
            return files.filter(file -> file.getFileName().toString().matches(name + "-images-idx3-ubyte(\\.gz)?"))
                    .sorted()
                    .findFirst();
        } catch (IOException e) {
            throw new FormatException(
                    "data " + source + " cannot be read: " + e.getMessage() + "; check permissions", e);
        }
    }

    /** A class without images would not be missed where it is the last. */
    private static void checkFolders(Path images) {
        if (!Files.isDirectory(images)) {
            return;
        }
        try (Stream<Path> entries = Files.list(images)) {
            for (Path entry : entries.filter(Files::isDirectory).sorted().toList()) {
                try (Stream<Path> files = Files.list(entry)) {
                    if (files.findAny().isEmpty()) {
                        throw new FormatException("data " + images + ": class " + entry.getFileName()
                                + " has no training image; give some, or remove the folder");
                    }
                }
            }
        } catch (IOException e) {
            throw new FormatException(
                    "data " + images + " cannot be read: " + e.getMessage() + "; check permissions", e);
        }
    }

    private static int[] order(int count) {
        int[] order = IntStream.range(0, count).toArray();
        shuffle(order, new SplittableRandom(ORDER));
        return order;
    }

    /** Draws one of all orders. */
    static void shuffle(int[] order, SplittableRandom random) {
        for (int i = order.length - 1; i > 0; i--) {
            int j = random.nextInt(i + 1);
            int other = order[i];
            order[i] = order[j];
            order[j] = other;
        }
    }

    private static int[] slice(int[] order, int from, int count) {
        return IntStream.range(from, from + count).map(i -> order[i]).toArray();
    }

    private static Part part(ImageData images, int[] chosen, Form form, Sha256 hash) {
        if ((long) chosen.length * form.size() > MOST) {
            throw new FormatException("data " + images.source() + ": " + chosen.length + " images of " + form.size()
                    + " numbers do not fit into memory; set samples, height and width lower in the recipe");
        }
        float[] pixels = new float[chosen.length * form.size()];
        int[] labels = new int[chosen.length];
        for (int i = 0; i < chosen.length; i++) {
            labels[i] = label(images, chosen[i]);
            MemorySegment decoded = images.inputs(chosen[i]).getFirst().data();
            MemorySegment.copy(decoded, ValueLayout.JAVA_FLOAT, 0, pixels, i * form.size(), form.size());
        }
        hash.add(MemorySegment.ofArray(pixels)).add(MemorySegment.ofArray(labels));
        return new Part(pixels, labels);
    }

    private static int label(ImageData images, int sample) {
        String label = images.label(sample);
        if (label == null || !label.matches("\\d{1,9}") || Integer.parseInt(label) >= MOST_CLASSES) {
            throw new FormatException("data " + images.source() + ": image " + sample + " has the label " + label
                    + ", and a classifier is trained on numbers from 0 to " + (MOST_CLASSES - 1)
                    + "; give a folder for every class, or such labels");
        }
        return Integer.parseInt(label);
    }

    private static int classes(Path source, Part train, OptionalLong known) {
        int largest = 0;
        for (int i = 0; i < train.count(); i++) {
            largest = Math.max(largest, train.label(i));
        }
        int classes = known.isPresent() ? Math.toIntExact(Math.min(known.getAsLong(), MOST_CLASSES)) : largest + 1;
        int[] counts = new int[classes];
        for (int i = 0; i < train.count(); i++) {
            within(source, train.label(i), classes);
            counts[train.label(i)]++;
        }
        for (int c = 0; c < classes; c++) {
            if (counts[c] == 0) {
                throw new FormatException("data " + source + ": class " + c + " of " + classes
                        + " has no training image; give some, or number the classes from 0 without a gap");
            }
        }
        return classes;
    }

    private static void within(Path source, int label, int classes) {
        if (label >= classes) {
            throw new FormatException("data " + source + " has the label " + label + ", but the network tells "
                    + classes + " classes, from 0 to " + (classes - 1) + "; correct the labels");
        }
    }

    /** A batch as the input of a graph. */
    Tensor batch(String input, float[] pixels) {
        Shape shape = Shape.of(pixels.length / form.size(), form.channels(), form.rows(), form.columns());
        return new Tensor(input, DType.F32, shape, MemorySegment.ofArray(pixels));
    }
}
