package org.sentei.engine.training;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.function.Function;
import java.util.stream.Stream;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.kernel.Backend;
import org.sentei.kernel.BandStop;
import org.sentei.kernel.Scope;
import org.sentei.kernel.SoftHistogram.Bins;
import org.sentei.method.Connections;
import org.sentei.method.LatentWeights;
import org.sentei.method.Prior;
import org.sentei.model.GraphNetwork.Parameter;
import org.sentei.tensor.BitMask;
import org.sentei.train.Differentiable;
import org.sentei.train.Differentiable.Dropout;

/**
 * Trains a network whose prunable weights hit a budget exactly: probabilistic magnitude pruning (2305.19343), or a dense network
 * and then its largest weights.
 *
 * <p>Latent weights v of all prunable tensors share one scale. While weights and topology are trained together, weights are
 * {@code gain v psi(v)} with a filter psi that sharpens; then exactly the smallest |v| go, and the others are fine-tuned.
 */
final class PmpTraining {
    /** Where the outermost bins lie: beyond them a normal prior has 6e-5 of its mass, a Laplace prior 3.5e-3. */
    private static final double REACH = 4;

    private static final double REACH_OF_LAPLACE = 5;
    /** Steps between two points of the curves. */
    private static final int CURVE = 10;
    /** Steps that a killed training loses at most. */
    private static final int KEPT = 25;

    private final Differentiable examples;
    private final int[] training;
    private final PmpSettings settings;
    private final Function<List<float[]>, Double> judge;

    /**
     * @param training examples whose loss is lowered
     * @param judge the accuracy of a network's parameters that the curve shows; gives null where there is none
     */
    PmpTraining(Differentiable examples, int[] training, PmpSettings settings, Function<List<float[]>, Double> judge) {
        this.examples = examples;
        this.training = training.clone();
        this.settings = settings;
        this.judge = judge;
    }

    /**
     * A trained network.
     *
     * @param parameters in the network's order; pruned weights are 0
     * @param mask what is pruned, over all prunable weights in their order, 1 x their number
     * @param latents of all prunable weights, then the other parameters
     * @param curve every so many steps
     */
    record Trained(List<float[]> parameters, BitMask mask, List<float[]> latents, List<TrainingReport.Point> curve) {
        Trained {
            parameters = List.copyOf(parameters);
            latents = List.copyOf(latents);
            curve = List.copyOf(curve);
        }
    }

    /**
     * Where a training is after some steps: with it, it goes on as if it had never stopped.
     *
     * @param step the next one
     * @param arrays what is trained, then what Adam remembers of it; those of the training itself, which fills them
     * @param mask what is pruned, or null as long as that is open
     */
    record State(int step, List<float[]> arrays, BitMask mask, List<TrainingReport.Point> curve) {}

    /** Where states are kept. */
    interface Checkpoints {
        /** Keeps nothing. */
        Checkpoints NONE = new Checkpoints() {
            @Override
            public Optional<State> load(List<float[]> arrays) {
                return Optional.empty();
            }

            @Override
            public void save(State state) {
                // Nobody will resume.
            }
        };

        /**
         * The last state that was kept; its numbers are written to {@code arrays}.
         *
         * @param arrays as {@link State#arrays}
         */
        Optional<State> load(List<float[]> arrays);

        /** Keeps a state in place of the last. */
        void save(State state);
    }

    /**
     * Trains from the start, or from the last state that was kept.
     *
     * @param backend runs filter, histogram and selection
     * @param seed of the first weights and of what is dropped
     * @throws RunException when the loss is not finite
     */
    Trained run(Backend backend, long seed, Checkpoints checkpoints, Progress progress) {
        try (Scope scope = new Scope(backend)) {
            return new Run(scope, seed).train(checkpoints, progress);
        }
    }

    private final class Run {
        private final List<Parameter> parameters = examples.network().parameters();
        /** Begins the seeds of what single steps drop. */
        private final long drops;

        private final LatentWeights latents;
        /** Latent weights of prunable tensors in one array, then the other parameters, one array each: what is trained. */
        private final List<float[]> trained = new ArrayList<>();

        private final List<float[]> trainedGradients;
        /** What the network computes with, in its order. */
        private final List<float[]> effective;

        private final List<float[]> gradients;
        private final float[] passed;
        private final float[] rise;
        private final List<TrainingReport.Point> curve = new ArrayList<>();

        Run(Scope scope, long seed) {
            SplittableRandom random = new SplittableRandom(seed);
            drops = random.nextLong();
            latents = new LatentWeights(
                    scope,
                    parameters.stream()
                            .filter(Parameter::prunable)
                            .map(parameter -> new LatentWeights.Part(parameter.count(), settings.scale(parameter)))
                            .toList());
            float[] pooled = new float[latents.count()];
            for (int i = 0; i < pooled.length; i++) {
                pooled[i] = (float) settings.prior().quantile(Math.clamp(random.nextDouble(), 1e-7, 1 - 1e-7));
            }
            trained.add(pooled);
            parameters.stream()
                    .filter(parameter -> !parameter.prunable())
                    .forEach(parameter -> trained.add(new float[parameter.count()]));
            trainedGradients =
                    trained.stream().map(values -> new float[values.length]).toList();
            effective = parameters.stream()
                    .map(parameter -> new float[parameter.count()])
                    .toList();
            gradients = parameters.stream()
                    .map(parameter -> new float[parameter.count()])
                    .toList();
            passed = new float[pooled.length];
            rise = new float[pooled.length];
        }

        Trained train(Checkpoints checkpoints, Progress progress) {
            boolean dense = settings.budget() == PmpSettings.Budget.MAGNITUDE;
            int joint = settings.joint();
            long prune = settings.pruned(latents.count());
            Bins bins = bins(settings);
            double[] target = latents.target(settings.prior(), bins, settings.mass());
            Adam adam = new Adam(trained);
            List<float[]> arrays =
                    Stream.concat(trained.stream(), adam.moments().stream()).toList();
            float[] pooled = trained.getFirst();
            Optional<State> before = checkpoints.load(arrays);
            int first = before.map(State::step).orElse(0);
            BitMask mask = before.map(State::mask).orElse(null);
            before.ifPresent(state -> curve.addAll(state.curve()));
            for (int step = first; step < settings.steps(); step++) {
                progress.checkpoint("training", step, settings.steps());
                if (step > first && step % KEPT == 0) {
                    checkpoints.save(new State(step, arrays, mask, curve));
                }
                // A generator a step: what a step draws does not depend on where the training was resumed.
                SplittableRandom random = new SplittableRandom(drops + step);
                Dropout dropped = new Dropout(settings.dropout(), random.nextLong());
                double rate = rate(random.nextDouble());
                long drawn = settings.manyRates() ? Math.round(rate * pooled.length) : prune;
                if (step == joint || (step > joint && settings.manyRates())) {
                    mask = smallest(pooled, drawn);
                }
                double progressed = joint <= 1 ? 1 : (double) step / (joint - 1);
                double sharpness =
                        settings.sharpness() * Math.pow(settings.lastSharpness() / settings.sharpness(), progressed);
                double threshold = mask == null && !dense ? threshold(pooled, rate, drawn, sharpness) : 0;
                if (mask == null && !dense) {
                    BandStop.Form form = settings.budget() == PmpSettings.Budget.BUDGET_LOSS
                            ? new BandStop.Form.Tanh()
                            : new BandStop.Form.Sigmoid((float) threshold);
                    latents.set(pooled);
                    latents.pass(form, (float) sharpness, passed, rise);
                } else {
                    keep(mask);
                }
                fill();
                double loss = examples.loss(effective, training, dropped, gradients);
                if (!Double.isFinite(loss)) {
                    throw new RunException("training diverged at step " + step + ": the loss is " + loss
                            + " with learning rate " + settings.learningRate() + "; lower learning_rate in the recipe");
                }
                collect();
                LatentWeights.Alignment alignment = new LatentWeights.Alignment(0, 0);
                if (mask == null) {
                    switch (settings.budget()) {
                        case PRIOR_KL ->
                            alignment = latents.align(
                                    bins, settings.mass(), target, settings.strength(), trainedGradients.getFirst());
                        case PRIOR_OT ->
                            alignment = new LatentWeights.Alignment(
                                    LatentWeights.transport(
                                            pooled, settings.prior(), settings.strength(), trainedGradients.getFirst()),
                                    0);
                        case BUDGET_LOSS ->
                            alignment = new LatentWeights.Alignment(
                                    LatentWeights.distance(
                                            pooled,
                                            sharpness,
                                            1 - rate,
                                            settings.strength(),
                                            trainedGradients.getFirst()),
                                    0);
                        case DYNAMIC_QUANTILE, MAGNITUDE -> {
                            // Nothing pulls at the latent weights but the loss.
                        }
                    }
                }
                adam.step(
                        step,
                        trained,
                        trainedGradients,
                        settings.learningRate() * settings.schedule().factor(step, settings.steps()));
                if (step % CURVE == 0 || step == settings.steps() - 1) {
                    curve.add(new TrainingReport.Point(
                            step,
                            loss,
                            alignment.divergence(),
                            alignment.outside(),
                            mask == null ? below(pooled, threshold) : (double) mask.count() / pooled.length,
                            judge.apply(effective)));
                }
            }
            if (mask == null || settings.manyRates()) {
                mask = smallest(pooled, prune);
            }
            checkpoints.save(new State(settings.steps(), arrays, mask, curve));
            keep(mask);
            fill();
            return new Trained(effective, mask, trained, curve);
        }

        /**
         * The rate of a step: the recipe's, or one drawn between its two. What is kept is drawn evenly on a logarithmic scale, for
         * it is the networks of few weights that are hard to train.
         */
        private double rate(double drawn) {
            if (!settings.manyRates()) {
                return settings.rate().doubleValue();
            }
            double most = 1 - settings.fromRate().doubleValue();
            double least = 1 - settings.rate().doubleValue();
            return 1 - most * Math.pow(least / most, drawn);
        }

        private BitMask smallest(float[] pooled, long prune) {
            if (settings.connected()) {
                return new Connections(examples.network()).smallest(pooled, prune);
            }
            latents.set(pooled);
            return latents.smallest(prune);
        }

        /** Latent weights below it pass by less than half. */
        private double threshold(float[] pooled, double rate, long prune, double sharpness) {
            return switch (settings.budget()) {
                case BUDGET_LOSS -> Math.sqrt(Math.log(3) / sharpness);
                case PRIOR_KL, PRIOR_OT -> settings.prior().threshold(rate);
                case DYNAMIC_QUANTILE, MAGNITUDE -> {
                    float[] magnitudes = new float[pooled.length];
                    for (int i = 0; i < pooled.length; i++) {
                        magnitudes[i] = Math.abs(pooled[i]);
                    }
                    Arrays.sort(magnitudes);
                    yield prune == 0 ? 0 : magnitudes[Math.toIntExact(prune) - 1];
                }
            };
        }

        /** Weights without a filter, those of the mask 0. */
        private void keep(BitMask mask) {
            float[] pooled = trained.getFirst();
            int first = 0;
            for (Parameter parameter : parameters) {
                if (parameter.prunable()) {
                    for (int i = first; i < first + parameter.count(); i++) {
                        boolean pruned = mask != null && mask.get(0, i);
                        rise[i] = pruned ? 0 : settings.scale(parameter);
                        passed[i] = pruned ? 0 : rise[i] * pooled[i];
                    }
                    first += parameter.count();
                }
            }
        }

        /** Passed weights and the others, in the network's order. */
        private void fill() {
            int first = 0;
            int other = 1;
            for (int p = 0; p < parameters.size(); p++) {
                if (parameters.get(p).prunable()) {
                    System.arraycopy(
                            passed,
                            first,
                            effective.get(p),
                            0,
                            parameters.get(p).count());
                    first += parameters.get(p).count();
                } else {
                    float[] source = trained.get(other++);
                    System.arraycopy(source, 0, effective.get(p), 0, source.length);
                }
            }
        }

        /** Gradients by what is trained, from those by what the network computes with. */
        private void collect() {
            float[] pooled = trainedGradients.getFirst();
            int first = 0;
            int other = 1;
            for (int p = 0; p < parameters.size(); p++) {
                float[] gradient = gradients.get(p);
                if (parameters.get(p).prunable()) {
                    for (int i = 0; i < gradient.length; i++) {
                        double decayed = gradient[i] + settings.decay() * passed[first + i];
                        pooled[first + i] = (float) (decayed * rise[first + i]);
                    }
                    first += gradient.length;
                } else {
                    System.arraycopy(gradient, 0, trainedGradients.get(other++), 0, gradient.length);
                }
            }
        }
    }

    private static double below(float[] values, double threshold) {
        int count = 0;
        for (float value : values) {
            count += Math.abs(value) <= threshold ? 1 : 0;
        }
        return (double) count / values.length;
    }

    private static Bins bins(PmpSettings settings) {
        double reach = settings.prior() == Prior.LAPLACE ? REACH_OF_LAPLACE : REACH;
        float spacing = (float) (2 * reach / (settings.bins() - 1));
        return new Bins((float) -reach, spacing, settings.bins(), spacing);
    }
}
