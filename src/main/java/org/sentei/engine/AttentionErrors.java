package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.sentei.engine.Sentei.Metric;
import org.sentei.format.FormatException;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.AttentionLoss;
import org.sentei.method.AttentionLoss.Change;
import org.sentei.model.AttentionPair;
import org.sentei.model.LinearWeights;
import org.sentei.model.Site;

/**
 * How far another model's query and key weights move the attention matrices of an original, layer by layer: both read what the
 * original's layers read, so that one layer's error is no consequence of another's.
 */
final class AttentionErrors {
    static final String METRIC = "attention_error";

    /** Tokens whose attention is computed at once. */
    private static final int BATCH_TOKENS = 2048;

    private static final int LONGEST = 128;

    private AttentionErrors() {}

    /**
     * The error {@code ||P - A|| / ||A||} of every layer over all heads and windows of a text, and their mean, which comes first.
     *
     * @param length tokens of a window; the smaller of 128 and the model's maximum when empty
     * @throws FormatException when the models have not the same attention, or the text is too short
     * @throws RunException when an error is not finite
     */
    static List<Metric> of(
            OpenModel changed,
            OpenModel original,
            TextTokenizer tokenizer,
            TextData data,
            Optional<Integer> length,
            Backend backend,
            Progress progress) {
        List<AttentionPair> pairs = original.attentions();
        List<Site> sites = pairs.stream()
                .flatMap(pair -> Stream.of(pair.query(), pair.key()))
                .toList();
        Map<String, Site> others = new HashMap<>();
        changed.sites().forEach(site -> others.put(site.name(), site));
        if (pairs.isEmpty() || !sites.stream().allMatch(site -> isLike(site, others.get(site.name())))) {
            throw new FormatException("model " + changed.path() + " has not the queries and keys of " + original.path()
                    + ", or neither has any in matrices of their own: name a model and its original");
        }
        int window = length.orElse(Math.min(LONGEST, original.maximumLength()));
        int[] tokens = tokenizer.encode(data.text(), original.isEncoder());
        Calibration windows = Calibration.of(
                data,
                data.windows(tokens, Math.max(1, tokens.length / window), window),
                Math.max(1, original.calibrationTokens() / window));
        List<Metric> metrics = new ArrayList<>();
        double sum = 0;
        try (Scope scope = new Scope(backend);
                Walk walk = original.walk(sites, () -> windows, false, scope)) {
            for (Optional<Walk.Group> next = walk.next(); next.isPresent(); next = walk.next()) {
                try (Walk.Group group = next.get()) {
                    for (AttentionPair pair : pairs) {
                        if (group.sites().contains(pair.query())) {
                            progress.checkpoint("attention of " + pair.query().name(), metrics.size(), pairs.size());
                            double error = error(group, pair, changed, others, windows, scope);
                            metrics.add(new Metric(METRIC + " " + pair.query().name(), error, 0.0));
                            sum += error;
                        }
                    }
                    group.commit(List.of());
                }
            }
        }
        metrics.addFirst(new Metric(METRIC, sum / metrics.size(), 0.0));
        return metrics;
    }

    private static boolean isLike(Site site, Site other) {
        return other != null && site.rows() == other.rows() && site.cols() == other.cols();
    }

    private static double error(
            Walk.Group group,
            AttentionPair pair,
            OpenModel changed,
            Map<String, Site> others,
            Calibration windows,
            Scope parent) {
        try (Scope scope = parent.child()) {
            View inputs = scope.matrix(
                    (long) windows.windows() * windows.length(), pair.query().cols());
            long[] rows = new long[1];
            group.observe((key, part, _, _) -> {
                if (key.equals(pair.query().input())) {
                    scope.backend().run(new Cast(part, inputs.rows(rows[0], rows[0] + part.rows()), false));
                    rows[0] += part.rows();
                }
            });
            AttentionLoss loss = new AttentionLoss(
                    group.attention(pair, windows.length(), scope),
                    inputs,
                    Math.max(1, BATCH_TOKENS / windows.length()),
                    scope);
            double error = loss.error(
                    change(group, pair.query(), changed, others, scope),
                    change(group, pair.key(), changed, others, scope));
            if (!Double.isFinite(error)) {
                throw new RunException("the attention error of " + pair.query().name() + " is " + error
                        + "; the model's queries or keys are not finite");
            }
            return error;
        }
    }

    private static Change change(
            Walk.Group group, Site site, OpenModel changed, Map<String, Site> others, Scope scope) {
        LinearWeights before = group.weights(site);
        LinearWeights after = LinearWeights.load(others.get(site.name()), changed.tensors(), scope);
        View bias = before.bias() == null && after.bias() == null
                ? null
                : difference(after.bias(), before.bias(), site.rows(), scope);
        return new Change(
                difference(after.weight(), before.weight(), site.rows() * site.cols(), scope)
                        .reshape(site.rows(), site.cols()),
                bias);
    }

    /** Where there is no matrix it is one of zeros. */
    private static View difference(View after, View before, long elements, Scope scope) {
        float[] values = host(after, elements, scope);
        float[] dense = host(before, elements, scope);
        for (int i = 0; i < values.length; i++) {
            values[i] -= dense[i];
        }
        View view = scope.matrix(1, elements);
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private static float[] host(View view, long elements, Scope scope) {
        float[] values = new float[Math.toIntExact(elements)];
        if (view != null) {
            scope.backend().copyOut(view, MemorySegment.ofArray(values));
        }
        return values;
    }
}
