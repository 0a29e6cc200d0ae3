package org.sentei.engine.experiment;

import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.RecipeText;

/**
 * What {@link AttentionSynthetic} draws and tries. The built-in recipe explains the keys.
 *
 * @param seeds one problem each; results are means over them
 * @param tokens of a sequence
 * @param width of a token
 * @param calibration sequences that statistics and gradients are made of
 * @param heldOut sequences that choose among the masks of a descent
 * @param test sequences that errors are measured on
 * @param sparsity shares of W that go
 */
public record AttentionSyntheticRecipe(
        List<Long> seeds,
        int tokens,
        int width,
        int calibration,
        int heldOut,
        int test,
        List<BigDecimal> sparsity,
        List<Data> data,
        Soft soft,
        StraightThrough straightThrough) {
    private static final int LARGEST = 1024;
    private static final int LARGEST_FILE = 1 << 16;
    private static final String BUILT_IN = "attention-synthetic.yaml";

    /**
     * A distribution of tokens: {@code feature = scale * (noise + shared factors + mean)}.
     *
     * @param factors share of the variance that comes from factors common to all features
     * @param scales standard deviation of the logarithm of a feature's scale
     * @param means standard deviation of a feature's mean
     * @param logits standard deviation of the logits of a row
     */
    public record Data(String name, double factors, double scales, double means, double logits) {
        public Data {
            require(
                    name.length() <= 40 && !name.isBlank(),
                    "data: a name has 1 to 40 characters, not " + name.length());
            require(factors >= 0 && factors <= 1, "factors is a share from 0 to 1, not " + factors);
            require(scales >= 0 && scales <= 3, "scales goes from 0 to 3, not " + scales);
            require(means >= 0 && means <= 100, "means goes from 0 to 100, not " + means);
            require(logits > 0 && logits <= 100, "logits is above 0 and at most 100, not " + logits);
        }
    }

    /**
     * The descent of a mask in [0, 1].
     *
     * @param penalty as a share of the saliency at the budget
     */
    public record Soft(int steps, double penalty) {
        public Soft {
            require(steps >= 1 && steps <= 100_000, "steps goes from 1 to 100000, not " + steps);
            require(penalty >= 0 && penalty <= 100, "penalty goes from 0 to 100, not " + penalty);
        }
    }

    /**
     * The descent of scores behind a hard mask.
     *
     * @param rate of Adam, in ranks from 0 to 1
     */
    public record StraightThrough(int steps, double rate) {
        public StraightThrough {
            require(steps >= 1 && steps <= 100_000, "steps goes from 1 to 100000, not " + steps);
            require(rate > 0 && rate <= 1, "rate is above 0 and at most 1, not " + rate);
        }
    }

    public AttentionSyntheticRecipe {
        seeds = List.copyOf(seeds);
        sparsity = List.copyOf(sparsity);
        data = List.copyOf(data);
        require(!seeds.isEmpty() && seeds.size() <= LARGEST, "seeds lists 1 to " + LARGEST + " numbers");
        require(seeds.stream().distinct().count() == seeds.size(), "seeds lists a number twice");
        Stream.of(tokens, width, calibration, heldOut, test)
                .forEach(count -> require(
                        count >= 2 && count <= LARGEST,
                        "tokens, width, calibration, held_out and test go from 2 to " + LARGEST + ", not " + count));
        require(!sparsity.isEmpty() && sparsity.size() <= 20, "sparsity lists 1 to 20 shares");
        sparsity.forEach(share -> require(
                share.signum() >= 0 && share.compareTo(BigDecimal.ONE) < 0 && share.scale() <= 20,
                "a sparsity is at least 0 and below 1, not " + share));
        require(!data.isEmpty() && data.size() <= 20, "data lists 1 to 20 kinds");
        require(data.stream().map(Data::name).distinct().count() == data.size(), "data names a kind twice");
    }

    private static void require(boolean holds, String message) {
        if (!holds) {
            throw new IllegalArgumentException(message);
        }
    }

    /** What Sentei brings along. */
    public static AttentionSyntheticRecipe builtIn() {
        return parse(BUILT_IN, builtInText());
    }

    /** The built-in recipe as text, to start one's own from. */
    public static String builtInText() {
        return RecipeText.builtIn(AttentionSyntheticRecipe.class, BUILT_IN);
    }

    /**
     * Reads a recipe of one's own.
     *
     * @throws RecipeException when it is not there or not valid
     */
    public static AttentionSyntheticRecipe load(Path file) {
        return parse(file.toString(), RecipeText.of(file, LARGEST_FILE));
    }

    static AttentionSyntheticRecipe parse(String source, String text) {
        return RecipeText.read(source, text, AttentionSyntheticRecipe.class, "the built-in recipe (--print)");
    }
}
