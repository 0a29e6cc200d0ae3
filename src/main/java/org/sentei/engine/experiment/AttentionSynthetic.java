package org.sentei.engine.experiment;

import java.lang.foreign.MemorySegment;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.sentei.engine.Progress;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Gram;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.View;
import org.sentei.method.MergedAttention;
import org.sentei.method.MergedDescent;
import org.sentei.method.Moments;
import org.sentei.method.Selector;
import org.sentei.method.SparseGpt;
import org.sentei.method.WeightScore;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Attention-matrix pruning as the paper states it (2410.11261, one W) beside other methods, on synthetic data: how far the
 * attention matrices of sequences that no method saw are from the dense ones.
 *
 * <p>The generator is ours and is described where {@link AttentionSyntheticRecipe} is; the paper's constants are not known.
 */
public final class AttentionSynthetic {
    /** Factors that features share. */
    private static final int FACTORS = 4;

    private static final double DAMPING = 0.01;
    private static final int BLOCK = 128;

    /** What is compared. Wanda and SparseGPT see the layer {@code X W}, without the softmax. */
    public enum Method {
        MAGNITUDE("magnitude"),
        WANDA("Wanda, in each output"),
        SPARSEGPT("SparseGPT, updates weights"),
        SALIENCY("attention saliency, one shot"),
        SOFT("soft mask"),
        STRAIGHT_THROUGH("straight-through");

        private final String title;

        Method(String title) {
            this.title = title;
        }

        /** What readers see. */
        public String title() {
            return title;
        }
    }

    /**
     * Errors of a method on one kind of data at one sparsity.
     *
     * @param errors {@code ||G - F|| / ||F||} on the test sequences, one a seed
     */
    public record Cell(String data, BigDecimal sparsity, Method method, List<Double> errors) {
        /** Mean over the seeds. */
        public double mean() {
            return errors.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
        }

        /** Sample standard deviation over the seeds; 0 for a single one. */
        public double spread() {
            double squares = errors.stream()
                    .mapToDouble(error -> (error - mean()) * (error - mean()))
                    .sum();
            return Math.sqrt(squares / Math.max(1, errors.size() - 1));
        }
    }

    private AttentionSynthetic() {}

    /**
     * Runs the experiment; the same recipe gives the same numbers, whatever the number of threads.
     *
     * @return cells in the order of data, sparsity, method
     * @throws java.util.concurrent.CancellationException when progress asks for it
     */
    public static List<Cell> run(AttentionSyntheticRecipe recipe, int threads, Progress progress) {
        List<Cell> cells = new ArrayList<>();
        try (ExecutorService executor = Executors.newFixedThreadPool(threads)) {
            try {
                List<Future<Map<Method, Double>>> problems = new ArrayList<>();
                for (AttentionSyntheticRecipe.Data data : recipe.data()) {
                    for (BigDecimal sparsity : recipe.sparsity()) {
                        for (long seed : recipe.seeds()) {
                            problems.add(executor.submit(() -> errors(recipe, data, sparsity, seed)));
                        }
                    }
                }
                List<Map<Method, Double>> solved = new ArrayList<>();
                for (Future<Map<Method, Double>> problem : problems) {
                    progress.checkpoint("descents", solved.size(), problems.size());
                    solved.add(problem.get());
                }
                progress.advanced("descents", solved.size(), problems.size());
                int seeds = recipe.seeds().size();
                int first = 0;
                for (AttentionSyntheticRecipe.Data data : recipe.data()) {
                    for (BigDecimal sparsity : recipe.sparsity()) {
                        List<Map<Method, Double>> ofSeeds = solved.subList(first, first + seeds);
                        for (Method method : Method.values()) {
                            cells.add(new Cell(
                                    data.name(),
                                    sparsity,
                                    method,
                                    ofSeeds.stream()
                                            .map(errors -> errors.get(method))
                                            .toList()));
                        }
                        first += seeds;
                    }
                }
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                progress.stopIfCancelled("descents");
            } catch (ExecutionException e) {
                throw new IllegalStateException("a descent ended with an error", e.getCause());
            } finally {
                executor.shutdownNow();
            }
        }
        return cells;
    }

    /** What each method makes of the problem that a seed draws. */
    private static Map<Method, Double> errors(
            AttentionSyntheticRecipe recipe, AttentionSyntheticRecipe.Data data, BigDecimal sparsity, long seed) {
        int width = recipe.width();
        Random random = new Random(seed);
        Features features = new Features(random, width, data);
        double[] weights = normal(random, width * width);
        List<double[]> seen = features.sequences(recipe.calibration() + recipe.heldOut(), recipe.tokens());
        List<double[]> test = features.sequences(recipe.test(), recipe.tokens());
        double scale = data.logits() / spreadOfLogits(seen, width, weights);
        MergedAttention calibration =
                new MergedAttention(seen.subList(0, recipe.calibration()), width, weights, scale, true);
        MergedAttention heldOut =
                new MergedAttention(seen.subList(recipe.calibration(), seen.size()), width, weights, scale, true);
        MergedAttention unseen = new MergedAttention(test, width, weights, scale, true);

        int prune = part(sparsity, weights.length);
        MergedDescent descent = new MergedDescent(calibration, heldOut, prune);
        double[] saliency = calibration.saliency();
        BitMask start = MergedDescent.hard(saliency, width, prune);
        double[] magnitudes = new double[weights.length];
        for (int i = 0; i < weights.length; i++) {
            magnitudes[i] = Math.abs(weights[i]);
        }
        BitMask soft = descent.soft(start, recipe.soft().steps(), recipe.soft().penalty())
                .mask();
        BitMask straight = descent.straightThrough(
                        saliency,
                        recipe.straightThrough().steps(),
                        recipe.straightThrough().rate())
                .mask();
        Map<Method, Double> errors = new EnumMap<>(Method.class);
        errors.put(Method.MAGNITUDE, unseen.error(unseen.pruned(MergedDescent.hard(magnitudes, width, prune))));
        errors.put(Method.SALIENCY, unseen.error(unseen.pruned(start)));
        errors.put(Method.SOFT, unseen.error(unseen.pruned(soft)));
        errors.put(Method.STRAIGHT_THROUGH, unseen.error(unseen.pruned(straight)));
        try (Backend backend = Backends.find("reference").open(Backend.Options.defaults());
                Scope scope = new Scope(backend)) {
            Layer layer = new Layer(scope, seen, width, weights);
            errors.put(Method.WANDA, unseen.error(layer.wanda(part(sparsity, width))));
            errors.put(Method.SPARSEGPT, unseen.error(layer.sparseGpt(sparsity)));
        }
        return errors;
    }

    private static int part(BigDecimal sparsity, long of) {
        return sparsity.multiply(BigDecimal.valueOf(of))
                .setScale(0, RoundingMode.FLOOR)
                .intValueExact();
    }

    private static double[] normal(Random random, int size) {
        double[] values = new double[size];
        for (int i = 0; i < size; i++) {
            values[i] = random.nextGaussian();
        }
        return values;
    }

    /** A distribution of tokens. */
    private static final class Features {
        private final Random random;
        private final int width;
        private final double[] scales;
        private final double[] means;
        private final double[] loadings;
        private final double shared;

        Features(Random random, int width, AttentionSyntheticRecipe.Data data) {
            this.random = random;
            this.width = width;
            scales = normal(random, width);
            means = normal(random, width);
            loadings = normal(random, FACTORS * width);
            shared = data.factors();
            for (int i = 0; i < width; i++) {
                scales[i] = StrictMath.exp(data.scales() * scales[i]);
                means[i] *= data.means();
            }
        }

        List<double[]> sequences(int count, int tokens) {
            List<double[]> sequences = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                double[] sequence = new double[tokens * width];
                for (int token = 0; token < tokens; token++) {
                    double[] factors = normal(random, FACTORS);
                    for (int j = 0; j < width; j++) {
                        double value = Math.sqrt(1 - shared) * random.nextGaussian() + means[j];
                        for (int k = 0; k < FACTORS; k++) {
                            value += Math.sqrt(shared / FACTORS) * factors[k] * loadings[k * width + j];
                        }
                        sequence[token * width + j] = scales[j] * value;
                    }
                }
                sequences.add(sequence);
            }
            return sequences;
        }
    }

    /** Standard deviation of what a token sees of logits x W xᵀ around their mean, over all rows. */
    private static double spreadOfLogits(List<double[]> sequences, int width, double[] weights) {
        double squares = 0;
        long count = 0;
        for (double[] x : sequences) {
            for (int query = 0; query < x.length; query += width) {
                double[] projected = new double[width];
                for (int i = 0; i < width; i++) {
                    for (int j = 0; j < width; j++) {
                        projected[j] += x[query + i] * weights[i * width + j];
                    }
                }
                double sum = 0;
                double squared = 0;
                int seen = query / width + 1;
                for (int key = 0; key < seen; key++) {
                    double logit = 0;
                    for (int j = 0; j < width; j++) {
                        logit += projected[j] * x[key * width + j];
                    }
                    sum += logit;
                    squared += logit * logit;
                }
                squares += squared - sum * sum / seen;
                count += seen;
            }
        }
        return Math.sqrt(squares / count);
    }

    /** The linear layer X W on a backend, where an output is a row: Wᵀ. */
    private static final class Layer {
        private final Scope scope;
        private final int width;
        private final View weights;
        private final View inputs;

        Layer(Scope scope, List<double[]> sequences, int width, double[] weights) {
            this.scope = scope;
            this.width = width;
            float[] transposed = new float[width * width];
            for (int i = 0; i < width; i++) {
                for (int j = 0; j < width; j++) {
                    transposed[j * width + i] = (float) weights[i * width + j];
                }
            }
            this.weights = matrix(transposed);
            int length = sequences.getFirst().length;
            float[] tokens = new float[sequences.size() * length];
            for (int i = 0; i < tokens.length; i++) {
                tokens[i] = (float) sequences.get(i / length)[i % length];
            }
            this.inputs = matrix(tokens);
        }

        private View matrix(float[] values) {
            View view = scope.matrix(values.length / width, width);
            scope.backend().copyIn(MemorySegment.ofArray(values), view);
            return view;
        }

        double[] wanda(int prune) {
            Moments.Collector collector = new Moments.Collector(scope, width);
            collector.add(inputs);
            View scale = matrix(WeightScore.WANDA.scale(collector.moments()));
            BitMask mask =
                    Selector.select(scope, new Selector.Scored(weights, scale), new ScoreSelect.Selection.Row(prune));
            float[] values = values(weights);
            double[] pruned = new double[values.length];
            for (int i = 0; i < width; i++) {
                for (int j = 0; j < width; j++) {
                    pruned[i * width + j] = mask.get(j, i) ? 0 : values[j * width + i];
                }
            }
            return pruned;
        }

        double[] sparseGpt(BigDecimal sparsity) {
            View gram = scope.matrix(DType.F64, width, width);
            scope.backend().copyIn(MemorySegment.ofArray(new double[width * width]), gram);
            scope.backend().run(new Gram(inputs, gram));
            SparseGpt.Factor factor =
                    SparseGpt.factor(scope, gram, DAMPING).orElseThrow(() -> new IllegalStateException("singular"));
            SparseGpt.Budget budget = new SparseGpt.Budget.Layer(count -> part(sparsity, count));
            float[] updated =
                    values(SparseGpt.prune(scope, weights, factor, new SparseGpt.Parameters(budget, BLOCK, DAMPING))
                            .weights());
            double[] pruned = new double[updated.length];
            for (int i = 0; i < width; i++) {
                for (int j = 0; j < width; j++) {
                    pruned[i * width + j] = updated[j * width + i];
                }
            }
            return pruned;
        }

        private float[] values(View view) {
            float[] values = new float[Math.toIntExact(view.elements())];
            scope.backend().copyOut(view, MemorySegment.ofArray(values));
            return values;
        }
    }
}
