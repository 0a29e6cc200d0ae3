package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipe.Descent;
import org.sentei.engine.recipe.Recipe.Start;
import org.sentei.engine.recipe.Recipe.Step;
import org.sentei.engine.report.Report;
import org.sentei.kernel.Cast;
import org.sentei.kernel.MaskDifference;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.AttentionDescent;
import org.sentei.method.AttentionLoss;
import org.sentei.method.AttentionLoss.Change;
import org.sentei.method.Masking;
import org.sentei.method.Selector;
import org.sentei.method.SparseGpt;
import org.sentei.method.WeightScore;
import org.sentei.model.AttentionPair;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Method attention on the layers of a model: collects what a layer reads, window by window, lets {@link AttentionDescent} find
 * masks, and holds them against those of the other methods.
 */
final class AttentionPruning {
    /** Tokens whose attention is computed at once. */
    private static final int BATCH_TOKENS = 2048;

    /** Windows that the saliency rests on at most: it is estimated within a fifth or so. */
    private static final int SALIENCY_WINDOWS = 64;

    /** Rows and columns of a picture. */
    private static final int PICTURE_TOKENS = 32;

    private static final String OWN = Recipe.Method.ATTENTION.key();

    private final List<AttentionPair> pairs;
    private final Map<Site, Step> steps;
    private final Supplier<Calibration> calibration;
    private final long seed;
    private final Checkpoints checkpoints;
    private final Progress progress;

    /** Where a descent that is under way is kept. */
    interface Checkpoints {
        /** Where an earlier run was in the descent of this layer. */
        Optional<AttentionDescent.State> load(AttentionPair layer);

        /** Keeps where it is, so that a run that ends early can be continued from here. */
        void save(AttentionPair layer, AttentionDescent.State state);
    }

    /**
     * @param pairs of the model that have a site among the targets of method attention
     * @param steps of all targeted sites
     */
    AttentionPruning(
            List<AttentionPair> pairs,
            Map<Site, Step> steps,
            Supplier<Calibration> calibration,
            long seed,
            Checkpoints checkpoints,
            Progress progress) {
        this.pairs = pairs;
        this.steps = steps;
        this.calibration = calibration;
        this.seed = seed;
        this.checkpoints = checkpoints;
        this.progress = progress;
    }

    /** The pairs that a recipe prunes. */
    static List<AttentionPair> targeted(List<AttentionPair> pairs, Map<Site, Step> steps) {
        return pairs.stream()
                .filter(pair -> prunes(steps.get(pair.query())) || prunes(steps.get(pair.key())))
                .toList();
    }

    private static boolean prunes(Step step) {
        return step != null && step.method() == Recipe.Method.ATTENTION;
    }

    /**
     * What is pruned at a site.
     *
     * @param attention of the layer, at its first site; null at the other
     */
    record Pruned(BitMask mask, Report.Attention attention) {}

    /**
     * Prunes the group's sites of method attention.
     *
     * @param statistics of what the sites read, with Gram matrices
     * @param heard passes on how far it is
     * @throws RunException when the loss or a gradient is not finite
     */
    Map<Site, Pruned> prune(
            Walk.Group group, Map<String, InputStatistics> statistics, Scope parent, Consumer<String> heard) {
        Map<Site, Pruned> pruned = new LinkedHashMap<>();
        for (AttentionPair pair : pairs) {
            if (group.sites().contains(pair.query()) || group.sites().contains(pair.key())) {
                try (Scope scope = parent.child()) {
                    pruned.putAll(
                            new Layer(group, pair, statistics.get(pair.query().input()), scope).prune(heard));
                }
            }
        }
        return pruned;
    }

    /** One layer while it is pruned. */
    private final class Layer {
        private final AttentionPair pair;
        private final InputStatistics input;
        private final Scope scope;
        private final AttentionLoss.Layer form;
        private final AttentionLoss fitting;
        private final AttentionLoss judging;
        private final AttentionLoss.Saliency saliency;
        private final Step step;
        private final Start start;

        Layer(Walk.Group group, AttentionPair pair, InputStatistics input, Scope scope) {
            this.pair = pair;
            this.input = input;
            this.scope = scope;
            this.step = prunes(steps.get(pair.query())) ? steps.get(pair.query()) : steps.get(pair.key());
            Calibration data = calibration.get();
            int length = data.length();
            form = group.attention(pair, length, scope);
            Inputs fit = new Inputs(data.fitting());
            Inputs held = new Inputs(data.heldOut());
            group.observe((key, rows, heldOut, batch) -> {
                progress.stopIfCancelled("attention inputs");
                if (key.equals(pair.query().input())) {
                    (heldOut ? held : fit).add(rows);
                }
            });
            int windows = Math.max(1, BATCH_TOKENS / length);
            fitting = new AttentionLoss(form, fit.all, windows, scope);
            judging = new AttentionLoss(form, held.all, windows, scope);
            saliency = fitting.saliency(SALIENCY_WINDOWS, seed + pair.query().block());
            Start wanted = step.attention().start();
            start = wanted == Start.AUTO ? best() : wanted;
        }

        /** The start that the held-out windows like best. */
        private Start best() {
            Start best = null;
            double least = Double.POSITIVE_INFINITY;
            for (Start candidate : List.of(Start.SALIENCY, Start.MAGNITUDE, Start.WANDA, Start.STADE)) {
                try (Scope local = scope.child()) {
                    Changes changes = both((site, projection) -> {
                        View scores = local.matrix(site.rows(), site.cols());
                        scope.backend().copyIn(ranking(candidate, site, projection.weight()), scores);
                        return change(projection.weight(), select(scores, null, site, local), null, local);
                    });
                    double error = judging.error(changes.query(), changes.key());
                    if (best == null || error < least) {
                        best = candidate;
                        least = error;
                    }
                }
            }
            return best;
        }

        private MemorySegment curvature(Site site) {
            return site.equals(pair.query()) ? saliency.query() : saliency.key();
        }

        /** What the layer reads in some windows. */
        private final class Inputs {
            private final View all;
            private long rows;

            Inputs(Calibration.Batches windows) {
                long tokens = windows.batches().stream()
                        .flatMap(List::stream)
                        .mapToLong(window -> window.length)
                        .sum();
                all = scope.matrix(tokens, pair.query().cols());
            }

            void add(View part) {
                scope.backend().run(new Cast(part, all.rows(rows, rows + part.rows()), false));
                rows += part.rows();
            }
        }

        Map<Site, Pruned> prune(Consumer<String> heard) {
            Recipe.Attention wanted = step.attention();
            int perBatch = Math.max(1, BATCH_TOKENS / calibration.get().length());
            AttentionDescent descent = new AttentionDescent(
                    fitting,
                    judging,
                    side(pair.query(), form.query()),
                    side(pair.key(), form.key()),
                    new AttentionDescent.Settings(
                            wanted.descent() == Descent.SOFT
                                    ? AttentionDescent.Rule.SOFT
                                    : AttentionDescent.Rule.STRAIGHT_THROUGH,
                            wanted.iterations(),
                            wanted.rate(),
                            Math.ceilDiv(wanted.windows(), perBatch),
                            wanted.penalty()),
                    scope);
            Optional<AttentionDescent.State> resumed = checkpoints.load(pair);
            resumed.ifPresent(state ->
                    heard.accept("resumed behind step " + state.errors().size()));
            AttentionDescent.Found found = descent.run(resumed, new AttentionDescent.Listener() {
                @Override
                public void step(int made, double error) {
                    progress.stopIfCancelled("descent");
                    heard.accept(String.format(
                            Locale.ROOT, "descent, step %d of %d, error %.4f", made, wanted.iterations(), error));
                }

                @Override
                public void save(AttentionDescent.State state) {
                    checkpoints.save(pair, state);
                }
            });
            if (found.diverged().isPresent()) {
                checkpoints.save(
                        pair,
                        new AttentionDescent.State(
                                found.errors(), found.judged(), found.masks(), List.of(), List.of()));
                throw new RunException("layer " + pair.query().name() + " and "
                        + pair.key().name()
                        + ": the attention loss or its gradient is not finite at step "
                        + found.diverged().getAsInt() + " of descent "
                        + key(wanted.descent()) + ", learning rate " + wanted.rate() + " (the best mask, of step "
                        + found.step()
                        + ", stays in the journal where there is one); look for overflow in the layers before"
                        + " it, calibrate on other data, or prune it by another method");
            }
            heard.accept("comparing methods");
            Report.Attention report = report(found);
            Map<Site, Pruned> pruned = new LinkedHashMap<>();
            for (Site site : List.of(pair.query(), pair.key())) {
                if (prunes(steps.get(site))) {
                    pruned.put(site, new Pruned(found.masks().get(pruned.size()), pruned.isEmpty() ? report : null));
                }
            }
            return pruned;
        }

        private Optional<AttentionDescent.Side> side(Site site, AttentionLoss.Projection projection) {
            if (!prunes(steps.get(site))) {
                return Optional.empty();
            }
            return Optional.of(new AttentionDescent.Side(
                    projection.weight(),
                    step.budget(site.rows(), site.cols()),
                    ranking(start, site, projection.weight()),
                    curvature(site)));
        }

        /** Scores of the weights, at least 0. */
        private MemorySegment ranking(Start by, Site site, View weight) {
            if (by == Start.SALIENCY) {
                return curvature(site);
            }
            float[] scale = switch (by) {
                case WANDA -> WeightScore.WANDA.scale(input.all());
                case STADE -> WeightScore.STADE.scale(input.all());
                case AUTO, ONES, MAGNITUDE, SALIENCY -> null;
            };
            float[] scores = new float[Math.toIntExact(weight.elements())];
            scope.backend().copyOut(weight, MemorySegment.ofArray(scores));
            for (int i = 0; i < scores.length; i++) {
                float size = scale == null ? Math.abs(scores[i]) : Math.abs(scores[i]) * scale[i % scale.length];
                scores[i] = by == Start.ONES ? 1 : size;
            }
            return MemorySegment.ofArray(scores);
        }

        private Report.Attention report(AttentionDescent.Found found) {
            List<Report.MethodError> errors = new ArrayList<>();
            try (Scope local = scope.child()) {
                Map<String, Changes> changes = changes(found.masks(), local);
                changes.forEach((method, change) ->
                        errors.add(new Report.MethodError(method, judging.error(change.query(), change.key()))));
                return new Report.Attention(
                        pair.query().name(),
                        pair.key().name(),
                        key(step.attention().descent()),
                        key(start),
                        found.step(),
                        found.errors(),
                        found.judged().stream()
                                .map(look -> new Report.Look(look.step(), look.error()))
                                .toList(),
                        errors,
                        densities(pair.query(), pair.heads(), found.masks().getFirst()),
                        densities(pair.key(), pair.keyHeads(), found.masks().getLast()),
                        pair.equals(pairs.getFirst()) ? picture(changes) : null);
            }
        }

        private List<Double> densities(Site site, int heads, BitMask mask) {
            List<Double> densities = new ArrayList<>();
            for (int head = 0; head < heads; head++) {
                long pruned = 0;
                for (long row = head * (long) pair.headSize(); row < (head + 1L) * pair.headSize(); row++) {
                    for (long col = 0; prunes(steps.get(site)) && col < mask.cols(); col++) {
                        pruned += mask.get(row, col) ? 1 : 0;
                    }
                }
                densities.add(1 - (double) pruned / (pair.headSize() * site.cols()));
            }
            return densities;
        }

        /** What a method adds to the weights of the layer. */
        private record Changes(Change query, Change key) {}

        /** What each method would do to the layer's targeted sites. */
        private Map<String, Changes> changes(List<BitMask> own, Scope local) {
            Map<String, Changes> changes = new LinkedHashMap<>();
            Function<WeightScore, Changes> scored = score -> both((site, projection) ->
                    change(projection.weight(), scored(projection.weight(), score, site, local), null, local));
            changes.put("magnitude", scored.apply(WeightScore.MAGNITUDE));
            changes.put("wanda", scored.apply(WeightScore.WANDA));
            changes.put("stade", scored.apply(WeightScore.STADE));
            changes.put("stade, bias updated", both((site, projection) -> {
                BitMask mask = scored(projection.weight(), WeightScore.STADE, site, local);
                float[] shift = Masking.biasShift(
                        local, projection.weight(), mask, input.all().means());
                return change(projection.weight(), mask, shift, local);
            }));
            changes.put("saliency", both((site, projection) -> {
                View scores = local.matrix(site.rows(), site.cols());
                scope.backend().copyIn(curvature(site), scores);
                return change(projection.weight(), select(scores, null, site, local), null, local);
            }));
            sparseGpt(local).ifPresent(change -> changes.put("sparsegpt", change));
            changes.put(
                    OWN,
                    both((site, projection) -> change(
                            projection.weight(),
                            site.equals(pair.query()) ? own.getFirst() : own.getLast(),
                            null,
                            local)));
            return changes;
        }

        private Changes both(BiFunction<Site, AttentionLoss.Projection, Change> change) {
            return new Changes(
                    prunes(steps.get(pair.query())) ? change.apply(pair.query(), form.query()) : null,
                    prunes(steps.get(pair.key())) ? change.apply(pair.key(), form.key()) : null);
        }

        private BitMask scored(View weight, WeightScore score, Site site, Scope local) {
            float[] scale = score.scale(input.all());
            View scales = null;
            if (scale != null) {
                scales = local.matrix(1, scale.length);
                scope.backend().copyIn(MemorySegment.ofArray(scale), scales);
            }
            return select(weight, scales, site, local);
        }

        private BitMask select(View scores, View scale, Site site, Scope local) {
            Selector.Scored scored = new Selector.Scored(scores, scale);
            return Selector.select(
                    local, scored, step.budget(site.rows(), site.cols()).selection());
        }

        private Change change(View weight, BitMask mask, float[] shift, Scope local) {
            View words = local.matrix(DType.I32, mask.rows(), BitMask.wordsPerRow(mask.cols()));
            View difference = local.matrix(weight.rows(), weight.cols());
            View bias = null;
            scope.backend().copyIn(MemorySegment.ofArray(mask.words()), words);
            scope.backend().run(new MaskDifference(weight, words, difference));
            if (shift != null) {
                bias = local.matrix(1, shift.length);
                scope.backend().copyIn(MemorySegment.ofArray(shift), bias);
            }
            return new Change(difference, bias);
        }

        /** As method sparsegpt would by default; empty where the input's second moments have no factor. */
        private Optional<Changes> sparseGpt(Scope local) {
            Recipe.Sweep usual = Recipe.Sweep.DEFAULT;
            int block = step.pattern() == null || usual.block() % step.pattern().of() == 0
                    ? usual.block()
                    : SparseGpt.BLOCK_UNIT * step.pattern().of();
            if (block > SparseGpt.LARGEST_BLOCK || !SparseGpt.isFinite(local, input.gram())) {
                return Optional.empty();
            }
            SparseGpt.Parameters parameters = step.sparseGpt(new Recipe.Sweep(block, usual.damping()));
            return SparseGpt.factor(local, input.gram(), usual.damping())
                    .map(factor -> both((_, projection) -> {
                        View changed = SparseGpt.prune(local, projection.weight(), factor, parameters)
                                .weights();
                        return new Change(difference(changed, projection.weight(), local), null);
                    }));
        }

        private View difference(View changed, View weight, Scope local) {
            float[] after = new float[Math.toIntExact(changed.elements())];
            float[] before = new float[after.length];
            scope.backend().copyOut(changed, MemorySegment.ofArray(after));
            scope.backend().copyOut(weight, MemorySegment.ofArray(before));
            for (int i = 0; i < after.length; i++) {
                after[i] -= before[i];
            }
            View difference = local.matrix(weight.rows(), weight.cols());
            scope.backend().copyIn(MemorySegment.ofArray(after), difference);
            return difference;
        }

        /** Of the head that lost most. */
        private Report.Picture picture(Map<String, Changes> changes) {
            Changes own = changes.get(OWN);
            double[] errors = judging.errors(judging.loss(own.query(), own.key()));
            int head = 0;
            for (int i = 1; i < errors.length; i++) {
                head = errors[i] > errors[head] ? i : head;
            }
            int length = calibration.get().length();
            int tokens = Math.min(PICTURE_TOKENS, length);
            List<Report.Panel> panels = new ArrayList<>();
            panels.add(panel("dense", judging.matrix(head, null, null), tokens, length));
            for (Map.Entry<String, Changes> entry : changes.entrySet()) {
                Changes change = entry.getValue();
                panels.add(panel(entry.getKey(), judging.matrix(head, change.query(), change.key()), tokens, length));
            }
            return new Report.Picture(head, tokens, panels);
        }

        private static Report.Panel panel(String method, float[] matrix, int tokens, int length) {
            StringBuilder levels = new StringBuilder(tokens * tokens);
            for (int row = 0; row < tokens; row++) {
                for (int col = 0; col < tokens; col++) {
                    double level = 15 * Math.sqrt(matrix[row * length + col]);
                    levels.append(Character.forDigit(Math.clamp(Math.round(level), 0, 15), 16));
                }
            }
            return new Report.Panel(method, levels.toString());
        }
    }

    private static String key(Enum<?> choice) {
        return choice.name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    /** Floating-point operations of a descent, at most. */
    static double operations(AttentionPair pair, Map<Site, Step> steps, int samples, int length) {
        Recipe.Attention wanted = prunes(steps.get(pair.query()))
                ? steps.get(pair.query()).attention()
                : steps.get(pair.key()).attention();
        double weights = pair.query().parameters() + pair.key().parameters();
        double window = length * (4 * weights + 10.0 * length * pair.query().rows());
        int seen = wanted.descent() == Descent.SOFT ? samples : Math.min(samples, wanted.windows());
        return window * (wanted.iterations() * (double) seen + samples);
    }

    /**
     * Bytes on the device for the largest layer: inputs, queries and keys of all windows, and what a step needs.
     *
     * @param tokens of the calibration data
     */
    static long memoryBytes(List<AttentionPair> pairs, long tokens) {
        return pairs.stream()
                .mapToLong(pair -> {
                    long outputs = pair.query().rows() + pair.key().rows();
                    long batch = Math.min(tokens, BATCH_TOKENS);
                    long perWeight = 6 * (pair.query().parameters() + pair.key().parameters());
                    return Float.BYTES * (tokens * (pair.query().cols() + outputs) + 4 * batch * outputs + perWeight);
                })
                .max()
                .orElse(0);
    }
}
