package org.sentei.method;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.MaskDifference;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.Sequence;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Gradient descent on the masks of query and key weights, so that {@link AttentionLoss} falls, ended by masks of zeros and ones
 * with the exact budget. Windows that the gradient does not see judge the masks of the way; a start that none of them beats is
 * kept itself.
 */
public final class AttentionDescent {
    /** Steps from one look at the windows that judge to the next. */
    private static final int JUDGED_EVERY = 5;

    /** Looks without a better mask that end the descent. */
    private static final int PATIENCE = 8;

    /** Steps from one {@link State} to go on from to the next. */
    private static final int SAVED_EVERY = 10;

    private static final float FIRST_DECAY = 0.9f;
    private static final float SECOND_DECAY = 0.999f;

    /**
     * Adam's epsilon, as a share of the root mean square of the first gradient: weights of little consequence move in proportion
     * to it instead of at full rate, which would let noise order them.
     */
    private static final double EPSILON_SHARE = 0.1;

    private static final double FASTER = 1.25;
    private static final int MOST_REFUSALS = 30;

    private final AttentionLoss fitting;
    private final AttentionLoss judging;
    private final Optional<Side> query;
    private final Optional<Side> key;
    private final List<Side> moving;
    private final Settings settings;
    private final Scope scope;
    private final Backend backend;

    /** How masks move. */
    public enum Rule {
        /**
         * Real scores that start as the ranks of others. The loss sees the hard mask of the largest, its gradient passes to the
         * scores as it is, by Adam.
         */
        STRAIGHT_THROUGH,
        /**
         * The paper's: a mask in [0, 1] that starts from ones and is pulled to zero, by projected gradient descent. A step that
         * does not lower the penalized loss is taken back and halved.
         */
        SOFT
    }

    /**
     * How to descend.
     *
     * @param steps most steps; with 0 the start is all there is
     * @param rate of Adam, in ranks; falls to 0 with the steps
     * @param batches that a step of straight-through sees
     * @param penalty of soft, as a share of the saliency at the budget; 0.1 to 0.3 work
     */
    public record Settings(Rule rule, int steps, double rate, int batches, double penalty) {}

    /**
     * A projection that is pruned.
     *
     * @param weight F32 outputs x inputs
     * @param budget how many of its weights go
     * @param ranking scores that decide the mask to start from, F32 of the weight's shape, at least 0; the largest stay
     * @param saliency of the weights by the fitting windows, of the same shape: what {@link Rule#SOFT} scales its penalty and its
     *     steps by
     */
    public record Side(View weight, Selector.Budget budget, MemorySegment ranking, MemorySegment saliency) {}

    /** A look at the windows that judge: the error {@code ||P - A|| / ||A||} of the hard masks after a step. */
    public record Judged(int step, double error) {}

    /**
     * A point of the way, from which a descent goes on as if it had never stopped.
     *
     * @param errors on the calibration windows seen, step by step
     * @param judged looks so far
     * @param best masks so far
     * @param numbers of the rule
     * @param tensors of the rule, F32
     */
    public record State(
            List<Double> errors,
            List<Judged> judged,
            List<BitMask> best,
            List<Double> numbers,
            List<MemorySegment> tensors) {
        /** Copies the lists. */
        public State {
            errors = List.copyOf(errors);
            judged = List.copyOf(judged);
            best = List.copyOf(best);
            numbers = List.copyOf(numbers);
            tensors = List.copyOf(tensors);
        }
    }

    /**
     * Masks, and the way to them.
     *
     * @param masks of the projections that are pruned, query before key
     * @param step after which they were found, 0 for the start
     * @param errors on the calibration windows seen, step by step
     * @param judged every look at the windows that judge; the first is at the start
     * @param diverged the step whose loss or gradient was not finite; the masks are the best before it
     */
    public record Found(List<BitMask> masks, int step, List<Double> errors, List<Judged> judged, OptionalInt diverged) {
        /** Copies the lists. */
        public Found {
            masks = List.copyOf(masks);
            errors = List.copyOf(errors);
            judged = List.copyOf(judged);
        }
    }

    /** Hears of a descent. */
    public interface Listener {
        /** A step has been made, with this error on the windows that it saw. */
        void step(int step, double error);

        /** The descent can go on from here. */
        void save(State state);
    }

    /**
     * @param fitting windows that gradients come from
     * @param judging windows that masks are judged by
     * @param query empty for queries that stay as they are
     * @param key empty for keys that stay as they are
     */
    public AttentionDescent(
            AttentionLoss fitting,
            AttentionLoss judging,
            Optional<Side> query,
            Optional<Side> key,
            Settings settings,
            Scope scope) {
        this.fitting = fitting;
        this.judging = judging;
        this.query = query;
        this.key = key;
        this.moving = Stream.of(query, key).flatMap(Optional::stream).toList();
        this.settings = settings;
        this.scope = scope;
        this.backend = scope.backend();
    }

    /**
     * Descends.
     *
     * @param resumed where an earlier descent of the same data and settings was, to go on from there
     */
    public Found run(Optional<State> resumed, Listener listener) {
        try (Scope local = scope.child()) {
            Way way = new Way(resumed, listener, local);
            boolean finite = settings.rule == Rule.SOFT
                    ? new Soft(way, resumed, local).run()
                    : straightThrough(way, resumed, local);
            OptionalInt diverged = finite ? OptionalInt.empty() : OptionalInt.of(way.steps() + 1);
            return new Found(way.masks(), way.bestStep(), way.errors, way.judged, diverged);
        }
    }

    private boolean straightThrough(Way way, Optional<State> resumed, Scope local) {
        try (StraightThrough rule = new StraightThrough(way, resumed, local)) {
            return rule.run();
        }
    }

    private AttentionLoss.Change change(Optional<Side> side, List<View> differences) {
        return side.map(moved -> new AttentionLoss.Change(differences.get(moving.indexOf(moved)), null))
                .orElse(null);
    }

    private View gradient(Optional<Side> side, List<View> gradients) {
        return side.map(moved -> gradients.get(moving.indexOf(moved))).orElse(null);
    }

    /** Hard masks of scores, and what they take from the weights. */
    private void harden(List<View> scores, List<View> masks, List<View> differences, Consumer<Op> run) {
        for (int i = 0; i < scores.size(); i++) {
            Side side = moving.get(i);
            run.accept(new ScoreSelect(scores.get(i), null, masks.get(i), side.budget.selection()));
            run.accept(new MaskDifference(side.weight, masks.get(i), differences.get(i)));
        }
    }

    /** Memory for masks, I32 words. */
    private List<View> words(Scope local) {
        return moving.stream()
                .map(side -> local.matrix(DType.I32, side.weight.rows(), BitMask.wordsPerRow(side.weight.cols())))
                .toList();
    }

    private List<View> likeWeights(Scope local) {
        return moving.stream()
                .map(side -> local.matrix(side.weight.rows(), side.weight.cols()))
                .toList();
    }

    private List<View> zeros(Scope local) {
        return moving.stream()
                .map(side -> local.zeros(DType.F32, side.weight.rows(), side.weight.cols()))
                .toList();
    }

    private List<View> upload(List<MemorySegment> values, Scope local) {
        List<View> views = likeWeights(local);
        for (int i = 0; i < views.size(); i++) {
            backend.copyIn(values.get(i), views.get(i));
        }
        return views;
    }

    private float[] host(View view) {
        float[] values = new float[Math.toIntExact(view.elements())];
        backend.copyOut(view, MemorySegment.ofArray(values));
        return values;
    }

    /** What both rules keep of the way. */
    private final class Way {
        private final Listener listener;
        private final List<Double> errors = new ArrayList<>();
        private final List<Judged> judged = new ArrayList<>();
        /** What the masks that are looked at take from the weights. */
        private final List<View> differences;
        /** Masks that are looked at; they change places with the best when they are better. */
        private List<View> tried;

        private List<View> best;

        Way(Optional<State> resumed, Listener listener, Scope local) {
            this.listener = listener;
            differences = likeWeights(local);
            tried = words(local);
            best = words(local);
            if (resumed.isPresent()) {
                errors.addAll(resumed.get().errors);
                judged.addAll(resumed.get().judged);
                for (int i = 0; i < best.size(); i++) {
                    BitMask mask = resumed.get().best.get(i);
                    backend.copyIn(MemorySegment.ofArray(mask.words()), best.get(i));
                }
            } else {
                try (Scope start = scope.child()) {
                    judge(upload(moving.stream().map(Side::ranking).toList(), start));
                }
            }
        }

        int steps() {
            return errors.size();
        }

        private void judge(List<View> scores) {
            harden(scores, tried, differences, backend::run);
            double error = judging.error(change(query, differences), change(key, differences));
            if (judged.isEmpty() || error < judged.get(bestLook()).error) {
                List<View> worse = best;
                best = tried;
                tried = worse;
            }
            judged.add(new Judged(steps(), error));
        }

        /** The best so far. */
        List<BitMask> masks() {
            List<BitMask> masks = new ArrayList<>();
            for (int i = 0; i < best.size(); i++) {
                int[] words = new int[Math.toIntExact(best.get(i).elements())];
                backend.copyOut(best.get(i), MemorySegment.ofArray(words));
                masks.add(new BitMask(best.get(i).rows(), moving.get(i).weight.cols(), words));
            }
            return masks;
        }

        private int bestLook() {
            int look = 0;
            for (int i = 1; i < judged.size(); i++) {
                if (judged.get(i).error < judged.get(look).error) {
                    look = i;
                }
            }
            return look;
        }

        int bestStep() {
            return judged.get(bestLook()).step;
        }

        /**
         * A step has been made.
         *
         * @param scores that it leaves
         * @param numbers of the rule, as in {@link State}
         * @param tensors of the rule, as in {@link State}
         * @return whether to go on
         */
        boolean made(double error, List<View> scores, List<Double> numbers, List<List<View>> tensors) {
            errors.add(error);
            boolean last = steps() == settings.steps;
            if (last || steps() % JUDGED_EVERY == 0) {
                judge(scores);
            }
            listener.step(steps(), error);
            if (last || judged.size() - 1 - bestLook() >= PATIENCE) {
                return false;
            }
            if (steps() % SAVED_EVERY == 0) {
                List<MemorySegment> values = tensors.stream()
                        .flatMap(List::stream)
                        .map(view -> MemorySegment.ofArray(host(view)))
                        .toList();
                listener.save(new State(errors, judged, masks(), numbers, values));
            }
            return true;
        }
    }

    /** See {@link Rule#STRAIGHT_THROUGH}. */
    private final class StraightThrough implements AutoCloseable {
        private final Way way;
        private final List<View> scores;
        private final List<View> first;
        private final List<View> second;
        private final List<View> gradients;
        private final List<View> masks;
        /** What Adam's steps up to the next look differ in, a row each. */
        private final List<View> numbers;
        /** What these steps lose, head by head, and how many of their elements have no finite gradient; a row each. */
        private final View losses;

        private final View invalid;
        /** Steps by the first batch that they see, and how many they are. */
        private final Map<List<Integer>, Sequence> prepared = new HashMap<>();

        private final List<Double> epsilons = new ArrayList<>();

        StraightThrough(Way way, Optional<State> resumed, Scope local) {
            this.way = way;
            if (resumed.isPresent()) {
                List<MemorySegment> tensors = resumed.get().tensors;
                int count = moving.size();
                scores = upload(tensors.subList(0, count), local);
                first = upload(tensors.subList(count, 2 * count), local);
                second = upload(tensors.subList(2 * count, 3 * count), local);
                epsilons.addAll(resumed.get().numbers);
            } else {
                scores = upload(moving.stream().map(this::ranks).toList(), local);
                first = zeros(local);
                second = zeros(local);
            }
            gradients = likeWeights(local);
            masks = words(local);
            numbers = moving.stream()
                    .map(_ -> local.matrix(JUDGED_EVERY, MaskStep.Rule.Adam.NUMBERS))
                    .toList();
            losses = local.matrix(DType.F64, JUDGED_EVERY, fitting.heads());
            invalid = local.matrix(DType.I64, JUDGED_EVERY, 1);
        }

        @Override
        public void close() {
            prepared.values().forEach(Sequence::close);
        }

        /** Ranks above 0 up to 1, of a row where only its scores compete; all 1 where there is nothing to rank by. */
        private MemorySegment ranks(Side side) {
            float[] scores = side.ranking.toArray(ValueLayout.JAVA_FLOAT);
            int group =
                    side.budget instanceof Selector.Budget.Layer ? scores.length : Math.toIntExact(side.weight.cols());
            float[] ranks = new float[scores.length];
            long[] order = new long[group];
            boolean flat = true;
            for (int from = 0; from < scores.length; from += group) {
                for (int i = 0; i < group; i++) {
                    flat &= scores[from + i] == scores[0];
                    order[i] = ((long) ScoreSelect.key(scores[from + i], 1) << Integer.SIZE) | i;
                }
                Arrays.sort(order);
                for (int i = 0; i < group; i++) {
                    ranks[from + (int) order[i]] = (i + 1f) / group;
                }
            }
            if (flat) {
                Arrays.fill(ranks, 1);
            }
            return MemorySegment.ofArray(ranks);
        }

        /** Whether all numbers were finite. */
        boolean run() {
            boolean more = settings.steps > way.steps();
            while (more) {
                int begin = way.steps();
                int until = Math.min(settings.steps, (begin / JUDGED_EVERY + 1) * JUDGED_EVERY);
                Losses losses = steps(begin, until);
                for (int step = begin; more && step < until; step++) {
                    double error = losses.error(step - begin, firstBatch(step));
                    if (!Double.isFinite(error)) {
                        return false;
                    }
                    more = way.made(error, scores, epsilons, List.of(scores, first, second));
                }
            }
            return true;
        }

        private int batches() {
            return Math.min(settings.batches, fitting.batches());
        }

        private int firstBatch(int step) {
            return Math.toIntExact((long) step * batches() % fitting.batches());
        }

        /** What steps have lost. */
        private final class Losses {
            /** Of all heads in each step. */
            private final double[] heads;
            /** Elements of each step without a finite gradient. */
            private final long[] invalid;

            Losses() {
                heads = new double[Math.toIntExact(losses.elements())];
                invalid = new long[Math.toIntExact(StraightThrough.this.invalid.elements())];
                backend.copyOut(losses, MemorySegment.ofArray(heads));
                backend.copyOut(StraightThrough.this.invalid, MemorySegment.ofArray(invalid));
            }

            /** NaN where a gradient was not finite. */
            double error(int step, int first) {
                int count = heads.length / invalid.length;
                double[] own = Arrays.copyOfRange(heads, step * count, (step + 1) * count);
                return invalid[step] == 0 ? fitting.error(own, first, batches()) : Double.NaN;
            }
        }

        /**
         * Makes steps without a look at any of them: the device does all of them by itself. What differs from one such stretch to
         * the next with the same batches is in its memory before.
         *
         * @param begin steps made before
         * @param until steps made after
         */
        private Losses steps(int begin, int until) {
            if (epsilons.isEmpty()) {
                gradient(begin, losses.rows(0, 1), backend::run);
                for (int i = 0; i < gradients.size(); i++) {
                    double size = size(moving.get(i).weight, gradients.get(i));
                    epsilons.add(Math.max(Float.MIN_NORMAL, EPSILON_SHARE * size));
                }
            }
            for (int i = 0; i < numbers.size(); i++) {
                float[] values = new float[Math.toIntExact(numbers.get(i).elements())];
                for (int step = begin; step < until; step++) {
                    double rate = settings.rate * (settings.steps - step) / settings.steps;
                    float[] own = MaskStep.Rule.Adam.numbers(
                            (float) rate,
                            FIRST_DECAY,
                            SECOND_DECAY,
                            epsilons.get(i).floatValue(),
                            step + 1L);
                    System.arraycopy(own, 0, values, (step - begin) * own.length, own.length);
                }
                backend.copyIn(MemorySegment.ofArray(values), numbers.get(i));
            }
            backend.copyIn(MemorySegment.ofArray(new double[Math.toIntExact(losses.elements())]), losses);
            backend.copyIn(MemorySegment.ofArray(new long[Math.toIntExact(invalid.elements())]), invalid);
            Sequence stretch = prepared.computeIfAbsent(List.of(firstBatch(begin), until - begin), _ -> {
                List<Op> ops = new ArrayList<>();
                for (int step = begin; step < until; step++) {
                    step(step, step - begin, ops::add);
                }
                return backend.prepare(ops);
            });
            backend.run(stretch, 1);
            return new Losses();
        }

        /** @param at row of what lies in the device's memory */
        private void step(int step, int at, Consumer<Op> run) {
            gradient(step, losses.rows(at, at + 1), run);
            for (int i = 0; i < scores.size(); i++) {
                View own = numbers.get(i).rows(at, at + 1);
                run.accept(new MaskStep(
                        moving.get(i).weight,
                        gradients.get(i),
                        scores.get(i),
                        invalid.rows(at, at + 1),
                        new MaskStep.Rule.Adam(FIRST_DECAY, SECOND_DECAY, own, first.get(i), second.get(i))));
            }
        }

        private void gradient(int step, View loss, Consumer<Op> run) {
            harden(scores, masks, way.differences, run);
            fitting.gradient(
                    change(query, way.differences),
                    change(key, way.differences),
                    AttentionDescent.this.gradient(query, gradients),
                    AttentionDescent.this.gradient(key, gradients),
                    firstBatch(step),
                    batches(),
                    loss,
                    run);
        }

        /** The root mean square of the gradient by a mask; 0 when it is not finite. */
        private double size(View weight, View gradient) {
            float[] w = host(weight);
            float[] g = host(gradient);
            double sum = 0;
            for (int i = 0; i < w.length; i++) {
                double slope = (double) w[i] * g[i];
                sum += slope * slope;
            }
            double size = Math.sqrt(sum / w.length);
            return size <= Float.MAX_VALUE ? size : 0;
        }
    }

    /** See {@link Rule#SOFT}. */
    private final class Soft {
        private final Way way;
        private final List<View> masks;
        private final List<View> gradients;
        private final List<View> tried;
        private final List<View> triedGradients;
        private final List<View> differences;
        private final List<Double> decays = new ArrayList<>();
        /** Step of each side that suits its own curvature; not finite where that is not. */
        private final List<Double> rates = new ArrayList<>();

        private double objective;
        private double speed = 1;

        Soft(Way way, Optional<State> resumed, Scope local) {
            this.way = way;
            for (Side side : moving) {
                float[] saliency = side.saliency.toArray(ValueLayout.JAVA_FLOAT);
                Arrays.sort(saliency);
                double decay = settings.penalty * saliency[quantile(side, saliency.length)];
                decays.add(decay);
                rates.add(1 / Math.max(Float.MIN_NORMAL, saliency[saliency.length - 1] + decay));
            }
            if (resumed.isPresent()) {
                List<MemorySegment> tensors = resumed.get().tensors;
                masks = upload(tensors.subList(0, moving.size()), local);
                gradients = upload(tensors.subList(moving.size(), 2 * moving.size()), local);
                objective = resumed.get().numbers.getFirst();
                speed = resumed.get().numbers.getLast();
            } else {
                masks = likeWeights(local);
                for (View mask : masks) {
                    float[] ones = new float[Math.toIntExact(mask.elements())];
                    Arrays.fill(ones, 1);
                    backend.copyIn(MemorySegment.ofArray(ones), mask);
                }
                gradients = zeros(local); // nothing is lost yet
                objective = penalty(masks);
            }
            tried = likeWeights(local);
            triedGradients = likeWeights(local);
            differences = likeWeights(local);
        }

        private static int quantile(Side side, int size) {
            return Math.clamp(side.budget.pruned(side.weight.rows(), side.weight.cols()) - 1, 0, size - 1);
        }

        private double penalty(List<View> of) {
            double penalty = 0;
            for (int i = 0; i < of.size(); i++) {
                for (float value : host(of.get(i))) {
                    penalty += decays.get(i) / 2 * value * value;
                }
            }
            return penalty;
        }

        /** Whether all numbers were finite. */
        boolean run() {
            boolean more = settings.steps > way.steps();
            int refused = 0;
            boolean finite = rates.stream().allMatch(Double::isFinite);
            more &= finite;
            while (more && refused < MOST_REFUSALS) {
                finite = step();
                double[] losses = finite ? losses() : new double[] {Double.NaN};
                double reached = Arrays.stream(losses).sum() + penalty(tried);
                finite &= Double.isFinite(reached);
                if (!finite || reached > objective) {
                    speed /= 2;
                    refused++;
                    continue;
                }
                refused = 0;
                objective = reached;
                speed *= FASTER;
                for (int i = 0; i < masks.size(); i++) {
                    backend.run(new Cast(tried.get(i), masks.get(i), false));
                    backend.run(new Cast(triedGradients.get(i), gradients.get(i), false));
                }
                more = way.made(
                        fitting.error(losses, 0, fitting.batches()),
                        masks,
                        List.of(objective, speed),
                        List.of(masks, gradients));
            }
            return finite;
        }

        /** Tries a step; false when a gradient was not finite. */
        private boolean step() {
            try (Scope local = scope.child()) {
                View invalid = local.zeros(DType.I64, 1, 1);
                for (int i = 0; i < tried.size(); i++) {
                    backend.run(new Cast(masks.get(i), tried.get(i), false));
                    MaskStep.Rule.Soft rule = new MaskStep.Rule.Soft(
                            (float) Math.clamp(speed * rates.get(i), Float.MIN_NORMAL, Float.MAX_VALUE),
                            (float) Math.min(Float.MAX_VALUE, decays.get(i)),
                            differences.get(i));
                    backend.run(new MaskStep(moving.get(i).weight, gradients.get(i), tried.get(i), invalid, rule));
                }
                return isZero(invalid);
            }
        }

        private boolean isZero(View count) {
            long[] value = new long[1];
            backend.copyOut(count, MemorySegment.ofArray(value));
            return value[0] == 0;
        }

        /** Of the masks that are tried, on all windows, with the gradients there. */
        private double[] losses() {
            return fitting.gradient(
                    change(query, differences),
                    change(key, differences),
                    gradient(query, triedGradients),
                    gradient(key, triedGradients),
                    0,
                    fitting.batches());
        }
    }
}
