package org.sentei.engine.training;

import com.fasterxml.jackson.annotation.JsonCreator;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.engine.recipe.Nearest;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.RecipeText;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.recipe.Schedule;
import org.sentei.format.Storage;
import org.sentei.kernel.SoftHistogram;
import org.sentei.method.Prior;

/**
 * What is trained and to which budget. The built-in recipes explain the keys.
 *
 * @param seed of everything that draws
 * @param network sizes of the network
 * @param training how its loss is lowered
 * @param steps one step
 * @param baseline whether magnitude pruning with fine-tuning is trained beside it, from the same seed
 * @param storage of pruned matrices in the file
 * @param text the recipe as its author wrote it
 */
public record TrainingRecipe(
        long seed,
        Network network,
        Training training,
        List<Step> steps,
        boolean baseline,
        Storage storage,
        String text) {
    private static final int LARGEST_FILE = 1 << 16;
    private static final List<String> BUILT_IN =
            List.of("pmp-90", "pmp-95", "pmp-99", "pmp-skeletons-90", "pmp-skeletons-95", "pmp-skeletons-99");

    /** Sizes of the network; the data give the others. */
    public sealed interface Network {
        /**
         * The network that has such sizes.
         *
         * @param sizes by name
         */
        @JsonCreator(mode = JsonCreator.Mode.DELEGATING)
        static Network of(Map<String, Integer> sizes) {
            sizes.forEach((name, size) -> {
                if (size == null) {
                    throw new IllegalArgumentException(name + " is empty; give a number");
                }
            });
            if (sizes.keySet().equals(Set.of("hidden"))) {
                return new Nodes(sizes.get("hidden"));
            }
            if (sizes.keySet().equals(Set.of("chunks", "heads", "channels", "filters"))) {
                return new Skeletons(
                        sizes.get("chunks"), sizes.get("heads"), sizes.get("channels"), sizes.get("filters"));
            }
            throw new IllegalArgumentException(
                    "it has either hidden, for the nodes of a graph, or chunks, heads, channels"
                            + " and filters, for sequences of skeletons, not " + sizes.keySet());
        }
    }

    /**
     * For the nodes of a graph.
     *
     * @param hidden channels between the two layers
     */
    public record Nodes(int hidden) implements Network {
        public Nodes {
            range("hidden", hidden, 1 << 16);
        }
    }

    /** For sequences of skeletons; see {@link org.sentei.model.GraphNetwork.Skeletons}. */
    public record Skeletons(int chunks, int heads, int channels, int filters) implements Network {
        private static final int MOST = 1 << 10;

        public Skeletons {
            range("chunks", chunks, MOST);
            range("heads", heads, MOST);
            range("channels", channels, MOST);
            range("filters", filters, MOST);
        }
    }

    private static void range(String key, int value, int most) {
        if (value < 1 || value > most) {
            throw new IllegalArgumentException(key + " goes from 1 to " + most + ", not " + value);
        }
    }

    /** How the loss is lowered; see {@link PmpSettings}. */
    public record Training(
            int steps, double learningRate, Schedule schedule, double gain, double dropout, double decay) {}

    /** The way to the budget; see {@link PmpSettings}. */
    public record Step(
            Method method,
            BigDecimal rate,
            BigDecimal fromRate,
            PmpSettings.Budget budget,
            Prior prior,
            double tuning,
            double strength,
            int bins,
            SoftHistogram.Mass mass,
            double sharpness,
            double lastSharpness,
            boolean connected) {
        /** The one method there is. */
        public enum Method {
            /** Probabilistic magnitude pruning. */
            PMP
        }
    }

    /** What a file says, without its text. */
    private record Document(
            long seed, Network network, Training training, List<Step> steps, boolean baseline, Storage storage) {}

    /** A {@link RecipeException} says what contradicts itself. */
    public TrainingRecipe {
        if (steps.size() != 1 || steps.getFirst() == null) {
            throw new RecipeException("training takes one step, not " + steps);
        }
        steps = List.copyOf(steps);
        Step step = steps.getFirst();
        if (step.budget() == PmpSettings.Budget.MAGNITUDE && step.fromRate().compareTo(step.rate()) != 0) {
            throw new RecipeException("from_rate " + step.fromRate() + " is not rate " + step.rate()
                    + ": magnitude prunes once, to one rate; give the same, or another budget");
        }
    }

    /** Names of the recipes that Sentei brings along. */
    public static List<String> builtIn() {
        return BUILT_IN;
    }

    /** The same from another seed. */
    public TrainingRecipe withSeed(long other) {
        return new TrainingRecipe(other, network, training, steps, baseline, storage, text);
    }

    /** The same to another rate, from where it is trained alone. */
    public TrainingRecipe to(BigDecimal rate) {
        Step step = steps.getFirst();
        Step other = new Step(
                step.method(),
                rate,
                rate,
                step.budget(),
                step.prior(),
                step.tuning(),
                step.strength(),
                step.bins(),
                step.mass(),
                step.sharpness(),
                step.lastSharpness(),
                step.connected());
        return new TrainingRecipe(seed, network, training, List.of(other), baseline, storage, text);
    }

    /** All settings of a training to this recipe's budget. */
    public PmpSettings settings() {
        return settings(steps.getFirst().budget());
    }

    /** The same by another way to the budget. */
    PmpSettings settings(PmpSettings.Budget budget) {
        Step step = steps.getFirst();
        return new PmpSettings(
                step.rate(),
                // A dense network is pruned once.
                budget == PmpSettings.Budget.MAGNITUDE ? step.rate() : step.fromRate(),
                budget,
                step.prior(),
                training.steps(),
                step.tuning(),
                training.learningRate(),
                training.schedule(),
                step.strength(),
                step.bins(),
                step.mass(),
                step.sharpness(),
                step.lastSharpness(),
                training.gain(),
                training.dropout(),
                training.decay(),
                step.connected());
    }

    /**
     * Reads a built-in recipe or a YAML or JSON file.
     *
     * @throws RecipeException when there is neither, or the recipe is not valid
     */
    public static TrainingRecipe load(String nameOrPath) {
        if (BUILT_IN.contains(nameOrPath)) {
            return parse("recipe " + nameOrPath, text(nameOrPath));
        }
        Path path;
        try {
            path = Path.of(nameOrPath);
        } catch (InvalidPathException invalid) {
            throw unknown(nameOrPath);
        }
        if (!Files.isRegularFile(path)) {
            throw unknown(nameOrPath);
        }
        return parse(nameOrPath, RecipeText.of(path, LARGEST_FILE));
    }

    static String text(String builtIn) {
        return RecipeText.builtIn(TrainingRecipe.class, builtIn + ".yaml");
    }

    private static RecipeException unknown(String nameOrPath) {
        if (Recipes.builtIn().contains(nameOrPath)) {
            return new RecipeException("recipe " + nameOrPath + ": it compresses a model and trains none; use sentei"
                    + " compress MODEL --recipe " + nameOrPath + " --out DIR");
        }
        return new RecipeException("recipe " + nameOrPath + ": is neither a file nor a built-in training recipe; the"
                + " nearest is " + Nearest.to(nameOrPath, BUILT_IN) + " (of " + String.join(", ", BUILT_IN) + ")");
    }

    static TrainingRecipe parse(String source, String text) {
        Document document = RecipeText.read(source, text, Document.class, "a built-in recipe, for example pmp-90");
        try {
            TrainingRecipe recipe = new TrainingRecipe(
                    document.seed,
                    document.network,
                    document.training,
                    document.steps,
                    document.baseline,
                    document.storage,
                    text);
            recipe.settings();
            return recipe;
        } catch (RecipeException wrong) {
            throw new RecipeException(source + ": " + wrong.getMessage(), wrong);
        }
    }
}
