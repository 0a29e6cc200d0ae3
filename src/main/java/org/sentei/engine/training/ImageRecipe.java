package org.sentei.engine.training;

import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.sentei.engine.recipe.Images;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.RecipeText;
import org.sentei.model.ModelException;
import org.sentei.model.graph.StandardNetwork;

/**
 * What network of images is trained, and how. The built-in recipes explain the keys.
 *
 * @param seed of everything that draws
 * @param text the recipe as its author wrote it
 */
public record ImageRecipe(long seed, Network network, Inputs images, Data data, Fitting training, String text) {
    private static final int LARGEST_FILE = 1 << 16;
    private static final List<String> BUILT_IN =
            List.of("vgg-small", "resnet18-small", "mobilenetv2-small", "vit-small");

    /**
     * Which network.
     *
     * @param width channels of the first layers
     */
    public record Network(StandardNetwork kind, int width) {
        /** The network for some data. */
        StandardNetwork.Sizes sizes(LabelledImages.Form form, int classes) {
            return new StandardNetwork.Sizes(form.channels(), form.rows(), form.columns(), classes, width);
        }
    }

    /** How images become inputs; see {@link Images}. */
    public record Inputs(Images.Order order, int height, int width, List<Double> mean, List<Double> deviation) {
        /** A {@link RecipeException} names what is out of range. */
        public Inputs {
            if (height < 1 || width < 1 || height > 1024 || width > 1024) {
                throw new RecipeException("height and width go from 1 to 1024, not " + height + " x " + width);
            }
        }

        Images how() {
            return new Images(
                    Optional.of(height), Optional.of(width), order, Images.Fit.STRETCH, 1.0 / 255, mean, deviation);
        }
    }

    /**
     * How many images are for what.
     *
     * @param samples that are learned, at most
     * @param valid that are held out
     */
    public record Data(int samples, int valid) {
        /** A {@link RecipeException} names what is out of range. */
        public Data {
            if (samples < 1 || valid < 1) {
                throw new RecipeException("samples and valid are at least 1, not " + samples + " and " + valid);
            }
        }

        LabelledImages.Sizes sizes() {
            return new LabelledImages.Sizes(samples, valid);
        }
    }

    private record Document(long seed, Network network, Inputs images, Data data, Fitting training) {}

    /** Names of the recipes that Sentei brings along. */
    public static List<String> builtIn() {
        return BUILT_IN;
    }

    /**
     * Whether a recipe is one of these: a built-in one, or a file with the keys {@code images} and {@code network}.
     *
     * @throws RecipeException when a file cannot be read
     */
    public static boolean isOne(String nameOrPath) {
        return BUILT_IN.contains(nameOrPath) || (hasKey(nameOrPath, "images") && hasKey(nameOrPath, "network"));
    }

    /** Whether a file has a key, wherever. */
    static boolean hasKey(String nameOrPath, String key) {
        try {
            return Files.isRegularFile(Path.of(nameOrPath))
                    && text(nameOrPath).lines().anyMatch(line -> line.matches("\\W*" + key + "\\W*:.*"));
        } catch (InvalidPathException invalid) {
            return false;
        }
    }

    static String text(String path) {
        return RecipeText.of(Path.of(path), LARGEST_FILE);
    }

    /**
     * Reads a recipe of which {@link #isOne} holds.
     *
     * @throws RecipeException when it is not valid
     */
    public static ImageRecipe load(String nameOrPath) {
        return BUILT_IN.contains(nameOrPath)
                ? parse("recipe " + nameOrPath, RecipeText.builtIn(ImageRecipe.class, nameOrPath + ".yaml"))
                : parse(nameOrPath, text(nameOrPath));
    }

    static ImageRecipe parse(String source, String text) {
        Document document = RecipeText.read(source, text, Document.class, "a built-in recipe, for example vgg-small");
        try {
            document.images.how();
            // Sizes that no data have to say.
            new StandardNetwork.Sizes(1, document.images.height, document.images.width, 2, document.network.width);
        } catch (RecipeException | ModelException wrong) {
            throw new RecipeException(source + ": " + wrong.getMessage(), wrong);
        }
        return new ImageRecipe(
                document.seed, document.network, document.images, document.data, document.training, text);
    }

    /** The same from another seed. */
    public ImageRecipe withSeed(long other) {
        return new ImageRecipe(other, network, images, data, training, text);
    }
}
