package org.sentei.engine.recipe;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.sentei.format.Storage;
import org.sentei.method.Selector;
import org.sentei.method.SparseGpt;
import org.sentei.method.quantize.Quantization;

/**
 * What is to be done to a model: ordered steps and how they are calibrated, stored and judged. {@link Recipes} reads it
 * from YAML or JSON.
 *
 * @param seed seed of everything that draws
 * @param steps prune; none where the recipe has other steps alone
 * @param easier what makes the network shallower behind the steps
 * @param quantize what is quantized behind that
 * @param images how images become inputs
 * @param quality gates that the result must pass
 * @param text the recipe as its author wrote it, comments included; what the output folder gets as {@code recipe.yaml}
 */
public record Recipe(
        long seed,
        List<Step> steps,
        Optional<Easier> easier,
        Optional<Quantizing> quantize,
        Calibration calibration,
        Images images,
        Storage storage,
        Quality quality,
        String text) {

    /** Digits after the point that a sparsity may have; bounds the exact arithmetic. */
    static final int MAX_DECIMALS = 30;

    /** Copies the steps; a {@link RecipeException} says what contradicts itself. */
    public Recipe {
        if (steps.isEmpty() && easier.isEmpty() && quantize.isEmpty()) {
            throw new RecipeException("recipe: steps is empty; give at least one step, for example - method: stade");
        }
        steps = List.copyOf(steps);
    }

    /**
     * The step that quantizes.
     *
     * @param targets patterns over names of layers with weights; empty means all
     * @param ignore patterns of layers that stay in float
     */
    public record Quantizing(List<String> targets, List<String> ignore, Quantization how) {
        /** The name in recipes and reports. */
        public static final String KEY = "quantize";

        /** Copies the lists. */
        public Quantizing {
            targets = List.copyOf(targets);
            ignore = List.copyOf(ignore);
        }

        /** Whether a layer is to be quantized. */
        public boolean takes(String layer) {
            return (targets.isEmpty() || targets.stream().anyMatch(pattern -> Targets.matches(pattern, layer)))
                    && ignore.stream().noneMatch(pattern -> Targets.matches(pattern, layer));
        }
    }

    /** How a step chooses weights. */
    public enum Method {
        /** Smallest |w|. */
        MAGNITUDE(false),
        /** Smallest |w| times the norm of its input. */
        WANDA(true),
        /** Smallest |w| times the standard deviation of its input, with a bias update. */
        STADE(true),
        /** Block by block of columns, the others making up for what goes. */
        SPARSEGPT(true),
        /** By descent on masks of query and key weights that keeps what comes out of the softmax. */
        ATTENTION(true);

        private final boolean calibrated;

        Method(boolean calibrated) {
            this.calibrated = calibrated;
        }

        /** Whether the method needs statistics of calibration data. */
        public boolean calibrated() {
            return calibrated;
        }

        /** The name in recipes and reports. */
        public String key() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** Which weights share one budget. */
    public enum Scope {
        /** Every row its own, or every group of a row under a pattern. */
        ROW,
        /** All weights of a site. */
        LAYER,
        /** All weights of all sites of the step. */
        GLOBAL
    }

    /** Which score STADE uses at a site. */
    public enum Variant {
        /** STADE everywhere. */
        STADE,
        /** By the layer's name: STADE behind attention and activation, Wanda behind a normalization. */
        STADE_W,
        /** By measurement: STADE where the share of mean energy reaches the threshold, Wanda elsewhere. */
        POLICY
    }

    /** What happens to the bias update of STADE. */
    public enum Bias {
        /** Always made, as the paper has it. */
        PAPER,
        /** Never made. */
        OFF,
        /** Kept where it lowers the error on held-out calibration windows. */
        AUTO
    }

    /**
     * A fixed number of pruned weights in every group of consecutive columns.
     *
     * @param removed weights pruned a group
     * @param of columns a group
     */
    public record Pattern(int removed, int of) {
        /** Refuses other than {@code 1 <= removed < of} with a {@link RecipeException}. */
        public Pattern {
            if (removed < 1 || of <= removed) {
                throw new RecipeException("pattern " + removed + ":" + of + ": N:M removes N of M consecutive columns"
                        + " and needs 1 <= N < M, for example \"2:4\"");
            }
        }

        @Override
        public String toString() {
            return removed + ":" + of;
        }
    }

    /**
     * How sparsegpt goes through a matrix.
     *
     * @param block columns whose budget is spent at once
     * @param damping share of the mean second moment of the inputs that is added to all
     */
    public record Sweep(int block, double damping) {
        public Sweep {
            if (block < SparseGpt.BLOCK_UNIT || block > SparseGpt.LARGEST_BLOCK || block % SparseGpt.BLOCK_UNIT != 0) {
                throw new RecipeException(
                        "block " + block + " is no number of columns for sparsegpt: give a multiple of "
                                + SparseGpt.BLOCK_UNIT + " up to " + SparseGpt.LARGEST_BLOCK + ", for example 128");
            }
            if (!(damping > 0 && damping <= 1)) {
                throw new RecipeException("damping " + damping
                        + " is outside (0, 1]: give a share of the inputs' mean second moment, for example 0.01");
            }
        }

        /** What a step without the keys gets. */
        public static final Sweep DEFAULT = new Sweep(128, 0.01);
    }

    /** How method attention finds its masks. */
    public enum Descent {
        /** Scores whose largest are kept; the gradient of the hard mask passes through to them. */
        STRAIGHT_THROUGH,
        /** The paper's: a mask in [0, 1], ranked in the end. */
        SOFT,
        /** None: the curvature of the loss at the dense weights ranks them at once. */
        SALIENCY
    }

    /** What decides the mask that method attention starts from. */
    public enum Start {
        /** Whichever of the others, but for ones, makes the smallest error on the held-out windows. */
        AUTO,
        /** Nothing: all weights are alike, and go by index. */
        ONES,
        /** |w|. */
        MAGNITUDE,
        /** |w| times the norm of its input. */
        WANDA,
        /** |w| times the standard deviation of its input. */
        STADE,
        /** The curvature of the loss at the dense weights. */
        SALIENCY
    }

    /**
     * How method attention descends.
     *
     * @param iterations most steps; 0 with {@link Descent#SALIENCY}
     * @param rate of the steps of straight-through, in ranks of [0, 1]
     * @param windows of calibration text that a step of straight-through sees
     * @param penalty of soft on every weight kept, as a share of the saliency at the budget
     */
    public record Attention(Descent descent, Start start, int iterations, double rate, int windows, double penalty) {
        /** Refuses what is out of range with a {@link RecipeException}. */
        public Attention {
            if (!(rate > 0 && rate <= 1)) {
                throw new RecipeException(
                        "rate " + rate + " is outside (0, 1]: give a share of all ranks a step, for example 0.01");
            }
            if (!(penalty > 0 && penalty <= 100)) {
                throw new RecipeException("penalty " + penalty
                        + " is outside (0, 100]: give a share of the saliency at the budget, for example 0.2");
            }
            if (descent == Descent.SALIENCY && start != Start.SALIENCY) {
                throw new RecipeException("descent: saliency takes its mask from the saliency alone; leave start out");
            }
        }
    }

    /**
     * One method applied to some sites.
     *
     * @param targets patterns over site names; empty means all linear sites but the head
     * @param ignore patterns of sites that are left alone
     * @param sparsity share of the weights to prune, exactly as written; with a pattern its N/M
     * @param scope which weights share the budget; {@link Scope#ROW} with a pattern
     * @param pattern null for unstructured sparsity
     * @param variant null for methods other than stade
     * @param threshold mean-energy share from which {@link Variant#POLICY} uses STADE
     * @param bias null for methods other than stade
     * @param sweep null for methods other than sparsegpt
     * @param attention null for methods other than attention
     */
    public record Step(
            Method method,
            List<String> targets,
            List<String> ignore,
            BigDecimal sparsity,
            Scope scope,
            Pattern pattern,
            Variant variant,
            double threshold,
            Bias bias,
            Sweep sweep,
            Attention attention) {

        /** Copies the lists; a {@link RecipeException} names what is out of range or contradicts itself. */
        public Step {
            targets = List.copyOf(targets);
            ignore = List.copyOf(ignore);
            if (sparsity.scale() > MAX_DECIMALS || sparsity.signum() < 0 || sparsity.compareTo(BigDecimal.ONE) >= 0) {
                throw new RecipeException("sparsity " + sparsity
                        + " is outside [0, 1): give the share of weights to prune, for example 0.5");
            }
            if (!(threshold >= 0 && threshold <= 1)) {
                throw new RecipeException("threshold is a share of energy in [0, 1], not " + threshold);
            }
            if (sweep != null && scope == Scope.GLOBAL) {
                throw new RecipeException(
                        "scope global does not go with sparsegpt: it changes the weights that it has not"
                                + " reached yet, so their scores cannot be compared beforehand; use scope: layer");
            }
            if (attention != null && scope == Scope.GLOBAL) {
                throw new RecipeException("scope global does not go with attention, which prunes one layer after the"
                        + " other; use scope: layer");
            }
            if (sweep != null && pattern != null && sweep.block() % pattern.of() != 0) {
                throw new RecipeException("pattern " + pattern + " does not divide a block of " + sweep.block()
                        + " columns; give a block that is a multiple of " + pattern.of());
            }
            if (pattern != null && scope != Scope.ROW) {
                throw new RecipeException("scope " + scope.name().toLowerCase(Locale.ROOT) + " and pattern " + pattern
                        + " contradict each other: N:M fixes the budget of every group; leave scope out");
            }
        }

        /** How many of {@code n} weights go: floor(n * sparsity) in exact decimal arithmetic. */
        public long floorCount(long n) {
            return sparsity.multiply(BigDecimal.valueOf(n))
                    .setScale(0, RoundingMode.FLOOR)
                    .longValueExact();
        }

        /** What a step of method sparsegpt asks for. */
        public SparseGpt.Parameters sparseGpt() {
            return sparseGpt(sweep);
        }

        /** What sparsegpt would do with this step's budget. */
        public SparseGpt.Parameters sparseGpt(Sweep sweep) {
            SparseGpt.Budget budget;
            if (pattern != null) {
                budget = new SparseGpt.Budget.Groups(pattern.removed(), pattern.of());
            } else if (scope == Scope.ROW) {
                budget = new SparseGpt.Budget.Row(this::floorCount);
            } else {
                budget = new SparseGpt.Budget.Layer(this::floorCount);
            }
            return new SparseGpt.Parameters(budget, sweep.block(), sweep.damping());
        }

        /** The budget of one matrix, where it is not shared with others. */
        public Selector.Budget budget(long rows, long cols) {
            if (pattern != null) {
                return new Selector.Budget.Groups(pattern.removed(), pattern.of());
            }
            return switch (scope) {
                case ROW -> new Selector.Budget.Row(countPerRow(cols));
                case LAYER -> new Selector.Budget.Layer(floorCount(rows * cols));
                case GLOBAL -> throw new IllegalStateException("a global budget is shared by all sites");
            };
        }

        /** How many weights of a matrix go when every row (or group of a row) has its own budget. */
        public long countPerRow(long cols) {
            return pattern == null ? floorCount(cols) : cols / pattern.of() * pattern.removed();
        }
    }

    /**
     * How much text or how many inputs calibrate the methods.
     *
     * @param samples windows taken from the start of the data
     * @param length tokens a window
     * @param sequential whether a block sees the outputs of the already compressed blocks before it; empty leaves it to the
     *     model: folders do, ONNX graphs, whose sessions would have to be built anew for every block, do not
     */
    public record Calibration(int samples, int length, Optional<Boolean> sequential) {
        /** Refuses fewer than 1 sample or 2 tokens with a {@link RecipeException}. */
        public Calibration {
            if (samples < 1 || length < 2) {
                throw new RecipeException("calibration: " + samples + " samples of " + length
                        + " tokens are too few; give at least 1 sample of 2 tokens");
            }
        }

        /** What a recipe without the key gets. */
        public static final Calibration DEFAULT = new Calibration(128, 256, Optional.empty());
    }

    /**
     * Gates that the compressed model must pass.
     *
     * @param maxPerplexityIncrease allowed relative rise of the perplexity, 0.1 = ten percent
     * @param minCosine lowest allowed mean cosine between embeddings of the original and the compressed model
     */
    public record Quality(Optional<Double> maxPerplexityIncrease, Optional<Double> minCosine) {
        /** No gate. */
        public static final Quality NONE = new Quality(Optional.empty(), Optional.empty());

        /** Whether there is any gate. */
        public boolean gated() {
            return maxPerplexityIncrease.isPresent() || minCosine.isPresent();
        }
    }

    /**
     * The same recipe with another seed, in its text too.
     *
     * @throws RecipeException when the seed is negative
     */
    public Recipe withSeed(long other) {
        String changed = text.matches("(?s)\\s*\\{.*")
                ? text.replaceFirst("\"?seed\"?\\s*:\\s*[0-9]+", "\"seed\": " + other)
                : text.replaceFirst("(?m)^seed:.*$", "seed: " + other);
        if (changed.equals(text) && seed != other) {
            changed = text.matches("(?s)\\s*\\{.*")
                    ? text.replaceFirst("\\{", "{\"seed\": " + other + ", ")
                    : "seed: " + other + "\n" + text;
        }
        return RecipeReader.read("recipe with --seed " + other, changed, false);
    }

    /** Whether any step needs calibration data. */
    public boolean calibrated() {
        return steps.stream().anyMatch(step -> step.method().calibrated());
    }
}
