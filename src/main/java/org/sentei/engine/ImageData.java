package org.sentei.engine;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Images;
import org.sentei.format.FormatException;
import org.sentei.format.IdxFile;
import org.sentei.format.Picture;
import org.sentei.format.PngFile;
import org.sentei.format.Sha256;
import org.sentei.model.ModelException;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * Images and, where they are known, their labels: a folder with a {@code labels.csv} (file,label), one with a sub-folder for
 * every class, one of images alone, or an idx file with its twin of labels beside it. Images are decoded when they are asked for.
 */
public final class ImageData implements SampleRunner.Samples {
    private static final String LABELS = "labels.csv";

    private final Path source;
    private final List<Item> items;
    private final Images how;
    private final String input;
    private final int channels;
    private final int height;
    private final int width;

    /** @param label null where it is not known */
    private record Item(Supplier<Picture> picture, Path file, String label) {}

    private ImageData(Path source, List<Item> items, Images how, LayerGraph.Port input) {
        this.source = source;
        this.items = items;
        this.how = how;
        this.input = input.name();
        List<OptionalLong> dimensions = input.dimensions();
        if (input.dtype() != DType.F32 || dimensions.size() != 4) {
            throw new ModelException("input " + input.name() + " of the model is no fp32 tensor of batch, channels,"
                    + " rows and columns; images cannot be fed to it");
        }
        this.channels = how.order() == Images.Order.GRAY ? 1 : 3;
        if (dimensions.get(1).isPresent() && dimensions.get(1).getAsLong() != channels) {
            throw new ModelException("the model takes images of "
                    + dimensions.get(1).getAsLong() + " channels, the recipe makes " + channels
                    + "; set order under images to gray, rgb or bgr");
        }
        this.height = size(dimensions.get(2), how.height(), "height");
        this.width = size(dimensions.get(3), how.width(), "width");
    }

    private static int size(OptionalLong fixed, Optional<Integer> wanted, String what) {
        if (fixed.isEmpty() && wanted.isEmpty()) {
            throw new ModelException("the model leaves the " + what + " of its images free; say it in the recipe:"
                    + " images: {" + what + ": 224}");
        }
        if (fixed.isPresent() && wanted.isPresent() && fixed.getAsLong() != wanted.get()) {
            throw new ModelException("the model takes images of " + what + " " + fixed.getAsLong()
                    + ", the recipe says " + wanted.get() + "; leave it out");
        }
        return wanted.orElseGet(() -> Math.toIntExact(fixed.getAsLong()));
    }

    /**
     * Finds images.
     *
     * @param most images that are taken, from the first on
     * @throws FormatException when there are none, or a list is damaged
     * @throws ModelException when they do not fit the input
     */
    public static ImageData read(Path source, Images how, LayerGraph.Port input, int most) {
        List<Item> items;
        try {
            items = Files.isDirectory(source) ? folder(source) : idx(source);
        } catch (IOException e) {
            throw new FormatException("images " + source + " cannot be read: " + e.getMessage(), e);
        }
        if (items.isEmpty()) {
            throw new FormatException("there are no images in " + source
                    + "; give a folder of .png files, one with labels.csv or a folder for every class, or an idx file");
        }
        return new ImageData(source, items.subList(0, Math.min(most, items.size())), how, input);
    }

    /** Whether something can be images at all: a folder without texts, or an idx file. */
    static boolean isImages(Path source) {
        return Files.isDirectory(source) || isIdx(source);
    }

    private static boolean isIdx(Path source) {
        return source.getFileName().toString().matches(".*idx3-ubyte(\\.gz)?");
    }

    private static List<Item> idx(Path source) {
        if (!isIdx(source)) {
            throw new FormatException("images " + source
                    + " are no folder and no idx file (…-images-idx3-ubyte or .gz); give one of them");
        }
        List<Picture> pictures = IdxFile.images(source);
        Path twin = source.resolveSibling(source.getFileName().toString().replace("images-idx3", "labels-idx1"));
        List<Integer> labels = Files.isRegularFile(twin) ? IdxFile.labels(twin) : List.of();
        if (!labels.isEmpty() && labels.size() != pictures.size()) {
            throw new FormatException(twin + " has " + labels.size() + " labels for " + pictures.size() + " images of "
                    + source + "; fetch both again");
        }
        List<Item> items = new ArrayList<>();
        for (int i = 0; i < pictures.size(); i++) {
            Picture picture = pictures.get(i);
            items.add(new Item(() -> picture, source, labels.isEmpty() ? null : Integer.toString(labels.get(i))));
        }
        return items;
    }

    private static List<Item> folder(Path source) throws IOException {
        if (Files.isRegularFile(source.resolve(LABELS))) {
            return listed(source);
        }
        List<Item> items = new ArrayList<>();
        List<Path> classes =
                children(source).stream().filter(Files::isDirectory).toList();
        boolean numbered = classes.stream()
                .allMatch(folder -> folder.getFileName().toString().matches("\\d{1,9}"));
        for (int i = 0; i < classes.size(); i++) {
            String label = numbered ? classes.get(i).getFileName().toString() : Integer.toString(i);
            pictures(classes.get(i)).forEach(file -> items.add(item(file, label)));
        }
        if (classes.isEmpty()) {
            pictures(source).forEach(file -> items.add(item(file, null)));
        }
        return items;
    }

    private static List<Item> listed(Path source) throws IOException {
        List<Item> items = new ArrayList<>();
        int number = 0;
        for (String line : Files.readAllLines(source.resolve(LABELS), StandardCharsets.UTF_8)) {
            number++;
            int comma = line.indexOf(',');
            if (line.isBlank() || (number == 1 && line.equals("file,label"))) {
                continue;
            }
            Path file =
                    comma < 1 ? null : source.resolve(line.substring(0, comma)).normalize();
            if (file == null || !file.startsWith(source.normalize()) || !Files.isRegularFile(file)) {
                throw new FormatException(
                        source.resolve(LABELS) + " line " + number + " names no image of the folder; write file,label");
            }
            String label = line.substring(comma + 1);
            items.add(item(
                    file,
                    label.startsWith("\"") && label.endsWith("\"") && label.length() > 1
                            ? label.substring(1, label.length() - 1).replace("\"\"", "\"")
                            : label));
        }
        return items;
    }

    private static Item item(Path file, String label) {
        return new Item(() -> PngFile.read(file), file, label);
    }

    private static List<Path> pictures(Path folder) throws IOException {
        List<Path> files = children(folder);
        files.stream()
                .filter(file -> file.getFileName().toString().matches("(?i).*\\.(jpe?g|bmp|gif|webp)"))
                .findFirst()
                .ifPresent(file -> {
                    throw new FormatException(file + " is no PNG image, and no other kind is read; convert it to PNG");
                });
        return files.stream()
                .filter(file -> file.getFileName().toString().matches("(?i).*\\.png"))
                .toList();
    }

    private static List<Path> children(Path folder) throws IOException {
        try (Stream<Path> entries = Files.list(folder)) {
            return entries.sorted().toList();
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
    }

    @Override
    public int count() {
        return items.size();
    }

    /** Whether every image has a label. */
    boolean labelled() {
        return items.stream().allMatch(item -> item.label() != null);
    }

    /** The label of an image; null where it is not known. */
    public String label(int sample) {
        return items.get(sample).label();
    }

    /** Where they are. */
    public Path source() {
        return source;
    }

    /** Hash of the files and labels. */
    String sha256() {
        Sha256 hash = new Sha256();
        items.stream().map(Item::file).distinct().forEach(hash::add);
        items.forEach(item -> hash.add(String.valueOf(item.label()).getBytes(StandardCharsets.UTF_8)));
        return hash.hex();
    }

    @Override
    public List<Tensor> inputs(int sample) {
        Picture picture = items.get(sample).picture().get();
        float[] values = new float[channels * height * width];
        int filled = how.fit() == Images.Fit.STRETCH
                ? width
                : Math.clamp(Math.ceilDiv((long) height * picture.width(), picture.height()), 1, width);
        for (int c = 0; c < channels; c++) {
            double mean = how.mean().get(how.mean().size() == 1 ? 0 : c);
            double deviation = how.deviation().get(how.deviation().size() == 1 ? 0 : c);
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < filled; x++) {
                    double value = sample(
                            picture,
                            (x + 0.5) * picture.width() / filled - 0.5,
                            (y + 0.5) * picture.height() / height - 0.5,
                            c);
                    values[(c * height + y) * width + x] = (float) ((value * how.scale() - mean) / deviation);
                }
            }
        }
        return List.of(
                new Tensor(input, DType.F32, Shape.of(1, channels, height, width), MemorySegment.ofArray(values)));
    }

    /** Bilinear between the middles of pixels. */
    private double sample(Picture picture, double x, double y, int channel) {
        int left = (int) Math.floor(x);
        int top = (int) Math.floor(y);
        double right = x - left;
        double bottom = y - top;
        return (1 - bottom)
                        * ((1 - right) * pixel(picture, left, top, channel)
                                + right * pixel(picture, left + 1, top, channel))
                + bottom
                        * ((1 - right) * pixel(picture, left, top + 1, channel)
                                + right * pixel(picture, left + 1, top + 1, channel));
    }

    private double pixel(Picture picture, int x, int y, int channel) {
        int column = Math.clamp(x, 0, picture.width() - 1);
        int row = Math.clamp(y, 0, picture.height() - 1);
        return switch (how.order()) {
            case GRAY -> picture.gray(column, row);
            case RGB -> picture.at(column, row, channel);
            case BGR -> picture.at(column, row, 2 - channel);
        };
    }
}
