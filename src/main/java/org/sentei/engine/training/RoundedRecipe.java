package org.sentei.engine.training;

import java.util.List;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.RecipeText;

/**
 * How a network is trained for few bits. The built-in recipes explain the keys.
 *
 * @param seed of everything that draws
 * @param text the recipe as its author wrote it
 */
public record RoundedRecipe(
        long seed, Bits bits, ImageRecipe.Inputs images, ImageRecipe.Data data, Fitting training, String text) {
    private static final List<String> BUILT_IN = List.of("qat-8", "qat-4");

    /**
     * Bits of weights and of what layers read.
     *
     * @param inner of all layers but for the ends
     * @param ends of what the first layer reads, and of the last layer
     */
    public record Bits(int inner, int ends) {
        /** A {@link RecipeException} names what is out of range. */
        public Bits {
            if (inner < 2 || inner > 8 || ends < 2 || ends > 8) {
                throw new RecipeException("inner and ends go from 2 to 8, not " + inner + " and " + ends);
            }
        }
    }

    private record Document(long seed, Bits bits, ImageRecipe.Inputs images, ImageRecipe.Data data, Fitting training) {}

    /** Names of the recipes that Sentei brings along. */
    public static List<String> builtIn() {
        return BUILT_IN;
    }

    /**
     * Whether a recipe is one of these: a built-in one, or a file with the key {@code bits}.
     *
     * @throws RecipeException when a file cannot be read
     */
    public static boolean isOne(String nameOrPath) {
        return BUILT_IN.contains(nameOrPath) || ImageRecipe.hasKey(nameOrPath, "bits");
    }

    /**
     * Reads a recipe of which {@link #isOne} holds.
     *
     * @throws RecipeException when it is not valid
     */
    public static RoundedRecipe load(String nameOrPath) {
        return BUILT_IN.contains(nameOrPath)
                ? parse("recipe " + nameOrPath, RecipeText.builtIn(RoundedRecipe.class, nameOrPath + ".yaml"))
                : parse(nameOrPath, ImageRecipe.text(nameOrPath));
    }

    static RoundedRecipe parse(String source, String text) {
        Document document = RecipeText.read(source, text, Document.class, "a built-in recipe, for example qat-4");
        try {
            document.images.how();
        } catch (RecipeException wrong) {
            throw new RecipeException(source + ": " + wrong.getMessage(), wrong);
        }
        return new RoundedRecipe(document.seed, document.bits, document.images, document.data, document.training, text);
    }

    /** The same from another seed. */
    public RoundedRecipe withSeed(long other) {
        return new RoundedRecipe(other, bits, images, data, training, text);
    }
}
