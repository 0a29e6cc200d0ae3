package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.sentei.engine.InputStatistics.Evidence;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipe.Step;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect.Selection;
import org.sentei.kernel.View;
import org.sentei.method.Masking;
import org.sentei.method.Selector;
import org.sentei.method.WeightScore;
import org.sentei.model.Edit;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Decides what becomes of every targeted site: walks the model group by group, collects statistics, selects, measures the
 * error each site makes on the data it reads, and lets the walk go on with the consequences.
 */
final class Compressor {
    private static final Logger LOG = LoggerFactory.getLogger(Compressor.class);

    private final Map<Site, Step> steps;
    private final Set<Site> biasPossible;
    private final TensorSource tensors;
    private final InputStatistics.Source source;
    private final AttentionPruning attention;
    private final Scope scope;
    private final Progress progress;

    /**
     * Prepares a run.
     *
     * @param steps the step of every targeted site, in the model's order
     * @param biasPossible sites whose bias may change or come into being
     * @param source statistics of what the sites of a group read
     * @param attention prunes the sites of method attention
     */
    Compressor(
            Map<Site, Step> steps,
            Set<Site> biasPossible,
            TensorSource tensors,
            InputStatistics.Source source,
            AttentionPruning attention,
            Scope scope,
            Progress progress) {
        this.steps = steps;
        this.biasPossible = biasPossible;
        this.tensors = tensors;
        this.source = source;
        this.attention = attention;
        this.scope = scope;
        this.progress = progress;
    }

    /**
     * What became of one site.
     *
     * @param score null where the method ranks by its own state
     * @param bias what happened to the bias, null where the method has no say in it
     * @param meanEnergy null where it was not measured
     * @param damping what sparsegpt took, null for other methods
     * @param error relative output error on all calibration data, null without more than moments of it
     * @param attention of the layer, at the first of its sites that method attention prunes; null elsewhere
     */
    record Outcome(
            Edit edit,
            Step step,
            WeightScore score,
            BiasFate bias,
            Double meanEnergy,
            Double damping,
            long zeros,
            Double error,
            double seconds,
            Report.Attention attention) {
        Outcome {
            if ((damping == null) != (step.sweep() == null)) {
                throw new IllegalArgumentException(
                        "site " + edit.site().name() + ": only methods that damp say what they damped by");
            }
        }

        /** What the user should know. */
        Optional<String> warning() {
            if (attention != null && attention.step() == 0 && step.attention().iterations() > 0) {
                return Optional.of("layer " + attention.query() + " and " + attention.key()
                        + ": no mask of the descent was better on held-out windows than the one it started from ("
                        + attention.start() + "), which is kept");
            }
            return damping == null || damping == step.sweep().damping()
                    ? Optional.empty()
                    : Optional.of("site " + edit.site().name() + ": damping "
                            + step.sweep().damping() + " left no Cholesky factor of its input's second moments, "
                            + damping + " did");
        }

        Report.SiteResult reported() {
            Site site = edit.site();
            return new Report.SiteResult(
                    site.name(),
                    step.method().key(),
                    site.rows(),
                    site.cols(),
                    step.sparsity().doubleValue(),
                    edit.pruned().count(),
                    zeros,
                    site.parameters(),
                    error,
                    seconds,
                    (double) zeros / site.parameters(),
                    step.pattern() == null ? "unstructured" : step.pattern().toString(),
                    score == null ? null : score.name().toLowerCase(Locale.ROOT),
                    bias == null ? null : bias.name().toLowerCase(Locale.ROOT),
                    meanEnergy,
                    damping);
        }
    }

    /**
     * What became of a group.
     *
     * @param halved whether the device's memory held only half a batch when that was found out
     */
    record GroupOutcome(List<Outcome> outcomes, boolean halved) {
        GroupOutcome {
            outcomes = List.copyOf(outcomes);
        }
    }

    /** What happened to a site's bias. */
    enum BiasFate {
        UPDATED,
        ADDED,
        KEPT
    }

    /**
     * Runs the whole model.
     *
     * @param walk starts a walk over the model from the beginning
     * @param decided outcomes of the first groups, where they are known already
     * @param journal takes the outcomes of every other group as soon as they are known
     * @throws RunException when a statistic or error is not finite
     * @throws CancellationException when {@code progress} asks for it
     */
    List<Outcome> run(Supplier<Walk> walk, List<GroupOutcome> decided, Consumer<GroupOutcome> journal) {
        List<Outcome> outcomes = new ArrayList<>(
                decided.stream().flatMap(group -> group.outcomes().stream()).toList());
        if (outcomes.size() == steps.size()) {
            return outcomes;
        }
        Map<Site, Decision> global = decideGlobally(walk);
        try (Walk main = walk.get()) {
            int stages = main.groups() * 3;
            for (int group = 0; ; group++) {
                Optional<Walk.Group> next = main.next();
                if (next.isEmpty()) {
                    return outcomes;
                }
                try (Walk.Group open = next.get()) {
                    String label = "group " + (group + 1) + " of " + main.groups();
                    if (group < decided.size()) {
                        progress.checkpoint(label + ": resumed", group * 3L, stages);
                        repeat(open, decided.get(group));
                    } else {
                        Consumer<List<Outcome>> found = all -> journal.accept(new GroupOutcome(all, main.halved()));
                        outcomes.addAll(compress(open, global, found, label, group * 3, stages));
                    }
                }
            }
        }
    }

    /** Lets the walk go on with what an earlier run decided. */
    private void repeat(Walk.Group group, GroupOutcome decided) {
        List<Edit> edits = decided.outcomes().stream().map(Outcome::edit).toList();
        if (!edits.stream().map(Edit::site).toList().equals(targeted(group))) {
            throw new FormatException("the journal has other groups of sites than the model:"
                    + " remove the .partial folder to start from the beginning");
        }
        if (decided.halved()) {
            // The sums of the groups to come have the order that an uninterrupted run would give them.
            group.halveBatches();
        }
        group.commit(edits);
    }

    private List<Outcome> compress(
            Walk.Group group,
            Map<Site, Decision> global,
            Consumer<List<Outcome>> journal,
            String label,
            int done,
            int stages) {
        List<Site> sites = targeted(group);
        progress.checkpoint(label + ": statistics", done, stages);
        long observing = System.nanoTime();
        List<Outcome> outcomes = new ArrayList<>();
        try (Scope local = scope.child()) {
            Map<String, InputStatistics> statistics = source.of(group, evidence(steps, sites), local, progress);
            progress.advanced(label + ": sites", done + 1, stages);
            Sweeps sweeps = new Sweeps(local);
            Map<Site, AttentionPruning.Pruned> descended = attention.prune(
                    group, statistics, local, said -> progress.advanced(label + ": " + said, done + 1, stages));
            double shared = sites.isEmpty() ? 0 : seconds(observing) / sites.size();
            for (Site site : sites) {
                progress.stopIfCancelled("sites");
                long started = System.nanoTime();
                InputStatistics input = statistics.get(site.input());
                if (steps.get(site).method() == Recipe.Method.SPARSEGPT) {
                    outcomes.add(swept(sweeps, group.weights(site), input, shared, started));
                    continue;
                }
                if (descended.containsKey(site)) {
                    outcomes.add(masked(group.weights(site), descended.get(site), input, shared, started));
                    continue;
                }
                Decision decision = global.get(site);
                if (decision == null) {
                    decision = decide(site, input);
                }
                outcomes.add(outcome(group.weights(site), decision, input, shared, started));
            }
        }
        journal.accept(outcomes);
        progress.checkpoint(label + ": outputs", done + 2, stages);
        group.commit(outcomes.stream().map(Outcome::edit).toList());
        progress.checkpoint(label + ": done", done + 3, stages);
        outcomes.forEach(outcome -> LOG.debug(
                "{}: scored by {}, {} zeros, error {}, bias {}, {} s",
                outcome.edit().site().name(),
                outcome.score(),
                outcome.zeros(),
                outcome.error(),
                outcome.bias(),
                outcome.seconds()));
        return outcomes;
    }

    /** What the methods of some sites, and the report, want to keep of their inputs. */
    static Map<Site, Evidence> evidence(Map<Site, Step> steps, List<Site> sites) {
        Map<Site, Evidence> evidence = new LinkedHashMap<>();
        for (Site site : sites) {
            evidence.put(
                    site,
                    switch (steps.get(site).method()) {
                        case SPARSEGPT, ATTENTION -> Evidence.GRAM;
                        case MAGNITUDE, WANDA, STADE -> Evidence.ROWS;
                    });
        }
        return evidence;
    }

    private List<Site> targeted(Walk.Group group) {
        return group.sites().stream().filter(steps::containsKey).toList();
    }

    /** How a site's scores are made, what is selected, and what the bias may take up. */
    private record Decision(WeightScore score, Selection selection, InputStatistics statistics) {
        float[] scale() {
            return score.scale(statistics == null ? null : statistics.all());
        }
    }

    private Decision decide(Site site, InputStatistics statistics) {
        Step step = steps.get(site);
        WeightScore score = score(site, step, statistics);
        Selection selection = switch (step.scope()) {
            case ROW ->
                step.pattern() == null
                        ? new Selection.Row(step.countPerRow(site.cols()))
                        : new Selection.Groups(
                                step.pattern().removed(), step.pattern().of());
            case LAYER ->
                cuts(
                                List.of(site),
                                Map.of(site, new Decision(score, null, statistics)),
                                step.floorCount(site.parameters()))
                        .getFirst();
            case GLOBAL -> throw new IllegalStateException("a global budget is decided over all sites at once");
        };
        return new Decision(score, selection, statistics);
    }

    private static WeightScore score(Site site, Step step, InputStatistics statistics) {
        return switch (step.method()) {
            case MAGNITUDE -> WeightScore.MAGNITUDE;
            case WANDA -> WeightScore.WANDA;
            case STADE ->
                switch (step.variant()) {
                    case STADE -> WeightScore.STADE;
                    case STADE_W -> site.role().readsNormalized() ? WeightScore.WANDA : WeightScore.STADE;
                    case POLICY ->
                        statistics.all().meanEnergyShare() >= step.threshold() ? WeightScore.STADE : WeightScore.WANDA;
                };
            case SPARSEGPT, ATTENTION ->
                throw new IllegalStateException(step.method().key() + " ranks by its own state");
        };
    }

    /** Budgets that span sites need all scores before the first cut: one dense pass collects what they are made of. */
    private Map<Site, Decision> decideGlobally(Supplier<Walk> walk) {
        Map<Step, List<Site>> budgets = steps.entrySet().stream()
                .filter(entry -> entry.getValue().scope() == Recipe.Scope.GLOBAL)
                .collect(Collectors.groupingBy(
                        Map.Entry::getValue,
                        LinkedHashMap::new,
                        Collectors.mapping(Map.Entry::getKey, Collectors.toList())));
        if (budgets.isEmpty()) {
            return Map.of();
        }
        List<Site> sites = budgets.values().stream().flatMap(List::stream).toList();
        Map<String, InputStatistics> statistics = new HashMap<>();
        if (sites.stream().anyMatch(site -> steps.get(site).method().calibrated())) {
            try (Walk dense = walk.get()) {
                for (Optional<Walk.Group> next = dense.next(); next.isPresent(); next = dense.next()) {
                    try (Walk.Group group = next.get()) {
                        Map<Site, Evidence> budgeted = group.sites().stream()
                                .filter(sites::contains)
                                .collect(Collectors.toMap(Function.identity(), _ -> Evidence.NONE));
                        statistics.putAll(source.of(group, budgeted, scope, progress));
                        group.commit(List.of());
                    }
                }
            }
        }
        Map<Site, Decision> decisions = new HashMap<>();
        budgets.forEach((step, spanned) -> {
            Map<Site, Decision> scored = new HashMap<>();
            long parameters = 0;
            for (Site site : spanned) {
                InputStatistics seen = statistics.get(site.input());
                scored.put(site, new Decision(score(site, step, seen), null, seen));
                parameters += site.parameters();
            }
            List<Selection.Cut> cuts = cuts(spanned, scored, step.floorCount(parameters));
            for (int i = 0; i < cuts.size(); i++) {
                Decision decision = scored.get(spanned.get(i));
                decisions.put(spanned.get(i), new Decision(decision.score(), cuts.get(i), decision.statistics()));
            }
        });
        return decisions;
    }

    private List<Selection.Cut> cuts(List<Site> sites, Map<Site, Decision> scored, long prune) {
        return Selector.cuts(
                scope,
                sites.size(),
                (index, local) -> new Selector.Scored(
                        LinearWeights.load(sites.get(index), tensors, local).weight(),
                        upload(local, scored.get(sites.get(index)).scale())),
                prune);
    }

    private static View upload(Scope scope, float[] values) {
        if (values == null) {
            return null;
        }
        View view = scope.matrix(1, values.length);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private Outcome masked(
            LinearWeights dense,
            AttentionPruning.Pruned pruned,
            InputStatistics input,
            double sharedSeconds,
            long started) {
        Edit edit = new Edit(dense.site(), pruned.mask(), null);
        try (Scope local = scope.child()) {
            return new Outcome(
                    edit,
                    steps.get(dense.site()),
                    null,
                    null,
                    null,
                    null,
                    zeros(edit, dense, local),
                    OutputErrors.of(dense, edit, input, local),
                    sharedSeconds + seconds(started),
                    pruned.attention());
        }
    }

    private Outcome swept(
            Sweeps sweeps, LinearWeights dense, InputStatistics input, double sharedSeconds, long started) {
        Site site = dense.site();
        Step step = steps.get(site);
        Sweeps.Swept swept = sweeps.prune(dense, step, input.gram(), tensors.dtype(site.weight()));
        try (Scope local = scope.child()) {
            return new Outcome(
                    swept.edit(),
                    step,
                    null,
                    null,
                    null,
                    swept.damping(),
                    swept.zeros(),
                    OutputErrors.of(dense, swept.edit(), input, local),
                    sharedSeconds + seconds(started),
                    null);
        }
    }

    /** @param input statistics of what the site reads now, null without data */
    private Outcome outcome(
            LinearWeights dense, Decision decision, InputStatistics input, double sharedSeconds, long started) {
        Site site = dense.site();
        Step step = steps.get(site);
        try (Scope local = scope.child()) {
            Selector.Scored scored = new Selector.Scored(dense.weight(), upload(local, decision.scale()));
            BitMask mask = Selector.select(local, scored, decision.selection());
            Optional<float[]> shift = biasShift(dense, mask, decision, step, local);
            Tensor bias = shift.map(values -> shifted(site, values)).orElse(null);
            BiasFate fate = null;
            if (step.method() == Recipe.Method.STADE) {
                fate = bias == null ? BiasFate.KEPT : site.bias() == null ? BiasFate.ADDED : BiasFate.UPDATED;
            }
            Edit edit = new Edit(site, mask, bias);
            return new Outcome(
                    edit,
                    step,
                    decision.score(),
                    fate,
                    decision.statistics() == null
                            ? null
                            : Double.valueOf(decision.statistics().all().meanEnergyShare()),
                    null,
                    zeros(edit, dense, local),
                    input == null || !input.hasEvidence()
                            ? null
                            : Double.valueOf(OutputErrors.of(dense, edit, input, local)),
                    sharedSeconds + seconds(started),
                    null);
        }
    }

    private static long zeros(Edit edit, LinearWeights dense, Scope scope) {
        try (Scope local = scope.child()) {
            return ValueCounts.of(Edits.apply(edit, dense, local).weight(), local)
                    .zeros();
        }
    }

    private Optional<float[]> biasShift(LinearWeights dense, BitMask mask, Decision decision, Step step, Scope local) {
        if (step.method() != Recipe.Method.STADE
                || decision.score() != WeightScore.STADE
                || step.bias() == Recipe.Bias.OFF
                || !biasPossible.contains(dense.site())) {
            return Optional.empty();
        }
        InputStatistics statistics = decision.statistics();
        if (step.bias() == Recipe.Bias.AUTO
                && !Masking.lowersError(
                        Masking.biasShift(
                                local,
                                dense.weight(),
                                mask,
                                statistics.fitting().means()),
                        Masking.biasShift(
                                local,
                                dense.weight(),
                                mask,
                                statistics.heldOut().means()))) {
            return Optional.empty();
        }
        return Optional.of(
                Masking.biasShift(local, dense.weight(), mask, statistics.all().means()));
    }

    /** The new bias as the file will hold it: what runs on from here equals what will be written. */
    private Tensor shifted(Site site, float[] shift) {
        DType stored = tensors.dtype(site.bias() == null ? site.weight() : site.bias());
        float[] bias = site.bias() == null ? new float[shift.length] : Floats.toArray(tensors.tensor(site.bias()));
        MemorySegment rounded = MemorySegment.ofArray(new double[bias.length]);
        for (int i = 0; i < bias.length; i++) {
            Floats.set(stored, rounded, i, (double) bias[i] + shift[i]);
            bias[i] = (float) Floats.get(stored, rounded, i);
            if (!Float.isFinite(bias[i])) {
                throw new RunException("site " + site.name() + ": output " + i + " of its new bias is too large for "
                        + stored + ", the type of the file; prune it with bias: off");
            }
        }
        return Edits.bias(site, bias);
    }

    private static double seconds(long since) {
        return (System.nanoTime() - since) * 1e-9;
    }
}
