package org.sentei.engine.training;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.tensor.Tensor;
import org.sentei.train.TrainableGraph;
import org.sentei.train.TrainableGraph.Weights;

/** Fits the weights of a network to images, and tells how many it gets right. */
final class Fitter {
    /** Images that are scored at a time. */
    private static final int SCORED = 250;
    /** Steps that a killed training loses at most. */
    private static final int KEPT = 50;

    private final LabelledImages images;
    private final Progress progress;

    Fitter(LabelledImages images, Progress progress) {
        this.images = images;
        this.progress = progress;
    }

    /**
     * Where a fit is after some steps: with it, it goes on as if it had never stopped.
     *
     * @param step the next one
     * @param arrays parameters, statistics, and what the optimizer remembers; those of the fit itself, which fills them
     * @param lossSum of the epoch's steps so far
     */
    record State(int step, List<float[]> arrays, double lossSum, List<ImageReport.Point> curve) {}

    /** Where states are kept. */
    interface Checkpoints {
        /** The last state that was kept; its numbers are written to {@code arrays}. */
        Optional<State> load(List<float[]> arrays);

        /** Keeps a state in place of the last. */
        void save(State state);
    }

    /** Keeps nothing. */
    static final Checkpoints NOT_KEPT = new Checkpoints() {
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
     * Fits weights, from the start or from the last state that was kept. Elements of matrices and filters that are 0 in the
     * network stay 0: what was pruned stays pruned.
     *
     * @param weights the first ones; changed
     * @param seed of the order of images and of what is done to them
     * @param stage what progress calls it, and how it counts
     * @throws RunException when the loss is not finite
     */
    List<ImageReport.Point> fit(
            TrainableGraph net, Weights weights, Fitting how, long seed, Checkpoints checkpoints, Stage stage) {
        LabelledImages.Part part = images.train();
        int perEpoch = how.perEpoch(part.count());
        int batch = Math.min(how.batch(), part.count());
        int steps = how.steps(part.count());
        int size = images.form().size();
        String input = net.graph().inputs().getFirst().name();
        Optimizer optimizer = how.optimizer(weights.parameters());
        List<float[]> arrays = Stream.of(weights.parameters(), weights.statistics(), optimizer.moments())
                .flatMap(List::stream)
                .toList();
        List<float[]> gradients = weights.parameters().stream()
                .map(values -> new float[values.length])
                .toList();
        List<BitSet> zeros = zeros(net);
        Optional<State> before = checkpoints.load(arrays);
        List<ImageReport.Point> curve = new ArrayList<>(before.map(State::curve).orElse(List.of()));
        int first = before.map(State::step).orElse(0);
        double lossSum = before.map(State::lossSum).orElse(0.0);
        int[] order = null;
        for (int step = first; step < steps; step++) {
            progress.checkpoint(stage.name(), stage.done() + step, stage.of());
            if (step > first && step % KEPT == 0) {
                checkpoints.save(new State(step, arrays, lossSum, curve));
            }
            int epoch = step / perEpoch;
            if (order == null || step % perEpoch == 0) {
                order = IntStream.range(0, part.count()).toArray();
                LabelledImages.shuffle(order, new SplittableRandom(seed ^ -(epoch + 1L)));
            }
            // A generator a step: what a step draws does not depend on where the training was resumed.
            SplittableRandom random = new SplittableRandom(seed + step);
            float[] pixels = new float[batch * size];
            int[] labels = new int[batch];
            float[] blank = new float[images.form().channels()];
            for (int c = 0; c < blank.length; c++) {
                blank[c] = images.blank().get(c);
            }
            for (int i = 0; i < batch; i++) {
                int image = order[step % perEpoch * batch + i];
                labels[i] = part.label(image);
                how.augmentation().draw(random, images.form(), part.pixels(), image * size, blank, pixels, i * size);
            }
            double loss = net.loss(weights, List.of(images.batch(input, pixels)), labels, gradients);
            double rate = how.learningRate() * how.schedule().factor(step, steps);
            if (!Double.isFinite(loss)) {
                throw new RunException(stage.name() + " diverged at step " + step + " of " + steps + ": the loss is "
                        + loss + " with learning rate " + rate
                        + "; lower learning_rate in the recipe and go on with --resume from the last step that was kept, or"
                        + " begin anew");
            }
            optimizer.step(step, weights.parameters(), gradients, rate);
            for (int i = 0; i < zeros.size(); i++) {
                float[] values = weights.parameters().get(i);
                zeros.get(i).stream().forEach(j -> values[j] = 0);
            }
            lossSum += loss;
            if ((step + 1) % perEpoch == 0) {
                curve.add(new ImageReport.Point(epoch + 1, lossSum / perEpoch, accuracy(net, weights, images.valid())));
                lossSum = 0;
            }
        }
        return curve;
    }

    /** A fit that is a whole training. */
    List<ImageReport.Point> train(
            TrainableGraph net, Weights weights, Fitting how, long seed, Checkpoints checkpoints) {
        Stage whole = new Stage("training", 0, how.steps(images.train().count()));
        return fit(net, weights, how, new SplittableRandom(seed).nextLong(), checkpoints, whole);
    }

    private static List<BitSet> zeros(TrainableGraph net) {
        List<float[]> first = net.weights().parameters();
        List<BitSet> zeros = new ArrayList<>();
        for (int i = 0; i < first.size(); i++) {
            BitSet those = new BitSet();
            Tensor weight = net.graph().constants().get(net.parameters().get(i));
            if (weight != null && weight.shape().rank() > 1) {
                float[] values = first.get(i);
                IntStream.range(0, values.length).filter(j -> values[j] == 0).forEach(those::set);
            }
            zeros.add(those);
        }
        return zeros;
    }

    /** How progress counts a fit. */
    record Stage(String name, int done, int of) {}

    /**
     * Share of the images whose own class has the largest score, the first of equal ones.
     *
     * @throws RunException when a score is not finite
     */
    double accuracy(TrainableGraph net, Weights weights, LabelledImages.Part part) {
        String input = net.graph().inputs().getFirst().name();
        int size = images.form().size();
        int right = 0;
        for (int from = 0; from < part.count(); from += SCORED) {
            progress.stopIfCancelled("scores");
            int count = Math.min(SCORED, part.count() - from);
            float[] pixels = new float[count * size];
            System.arraycopy(part.pixels(), from * size, pixels, 0, pixels.length);
            Tensor batch = images.batch(input, pixels);
            float[] scores = net.scores(weights, List.of(batch));
            int classes = scores.length / count;
            for (int i = 0; i < count; i++) {
                right += Scores.best(scores, i, classes, "image " + (from + i), "; lower learning_rate in the recipe")
                                == part.label(from + i)
                        ? 1
                        : 0;
            }
        }
        return (double) right / part.count();
    }
}
