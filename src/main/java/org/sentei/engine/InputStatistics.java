package org.sentei.engine;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.sentei.kernel.Gram;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.Moments;
import org.sentei.model.Site;
import org.sentei.tensor.DType;

/**
 * What is known of an activation that sites read.
 *
 * @param fitting moments of the samples that a bias update is fitted to
 * @param heldOut moments of the samples that judge it
 * @param all moments of both
 * @param gram of both, as {@link Gram} leaves it, F64 columns x columns on the device; null where it was not asked for
 */
record InputStatistics(Moments fitting, Moments heldOut, Moments all, View gram) {
    /**
     * Runs all calibration data through a group once.
     *
     * @param sites those whose inputs matter
     * @param withGram whether Gram matrices are collected too
     * @param scope owner of the Gram matrices
     * @return by {@link Site#input}
     * @throws RunException when a statistic is not finite, or of fewer than two tokens
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it
     */
    static Map<String, InputStatistics> collect(
            Walk.Group group, List<Site> sites, boolean withGram, Scope scope, Progress progress) {
        Map<String, Site> readers = new LinkedHashMap<>();
        sites.forEach(site -> readers.putIfAbsent(site.input(), site));
        if (readers.isEmpty()) {
            return Map.of();
        }
        Map<String, InputStatistics> statistics = new HashMap<>();
        try (Scope local = scope.child()) {
            Map<String, View> grams = withGram ? grams(readers, scope) : Map.of();
            Map<String, Moments.Collector> fitting = collectors(readers, local);
            Map<String, Moments.Collector> heldOut = collectors(readers, local);
            group.observe((key, rows, held) -> {
                progress.stopIfCancelled("statistics");
                if (!readers.containsKey(key)) {
                    return;
                }
                (held ? heldOut : fitting).get(key).add(rows);
                if (withGram) {
                    scope.backend().run(new Gram(rows, grams.get(key)));
                }
            });
            readers.forEach((key, site) -> {
                Moments fit = fitting.get(key).moments();
                Moments held = heldOut.get(key).moments();
                Moments all = fit.merge(held);
                if (!all.isFinite() || all.count() < 2) {
                    throw new RunException("site " + site.name() + ": the statistics of its input over " + all.count()
                            + " tokens are not finite; look for overflow in the layers before it, or calibrate on other"
                            + " data");
                }
                statistics.put(key, new InputStatistics(fit, held, all, grams.get(key)));
            });
        }
        return statistics;
    }

    private static Map<String, Moments.Collector> collectors(Map<String, Site> readers, Scope scope) {
        return readers.entrySet().stream()
                .collect(Collectors.toMap(
                        Map.Entry::getKey,
                        entry -> new Moments.Collector(scope, entry.getValue().cols())));
    }

    private static Map<String, View> grams(Map<String, Site> readers, Scope scope) {
        Map<String, View> grams = new HashMap<>();
        readers.forEach((key, site) -> grams.put(key, scope.zeros(DType.F64, site.cols(), site.cols())));
        return grams;
    }

    /** Bytes on the device of the Gram matrices of what some sites read; the rest is small. */
    static long bytes(List<Site> sites) {
        Map<String, Long> widths = new HashMap<>();
        sites.forEach(site -> widths.put(site.input(), site.cols()));
        return widths.values().stream()
                .mapToLong(cols -> cols * cols * Double.BYTES)
                .sum();
    }
}
