package org.sentei.engine;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.sentei.engine.report.Report;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Gram;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.method.Moments;
import org.sentei.method.MomentsTree;
import org.sentei.model.Site;
import org.sentei.tensor.DType;

/**
 * What is known of an activation that sites read.
 *
 * @param fitting moments of the samples that a bias update is fitted to
 * @param heldOut moments of the samples that judge it
 * @param all moments of both
 * @param gram of both, as {@link Gram} leaves it, F64 columns x columns on the device; null where it was not asked for
 * @param rows the first rows of both, F32 on the device, {@link Report#ERROR_TOKENS} at most; none where they were not asked for
 */
record InputStatistics(Moments fitting, Moments heldOut, Moments all, View gram, List<View> rows) {
    /** Whether more than moments is there, which the error of an output is measured with. */
    boolean hasEvidence() {
        return gram != null || !rows.isEmpty();
    }

    /** What is kept of a site's input besides moments. */
    enum Evidence {
        /** Nothing. */
        NONE,
        /** Its first rows. */
        ROWS,
        /** Its Gram matrix. */
        GRAM
    }

    /**
     * Moments of an activation, batch by batch.
     *
     * @param site one that reads it
     * @param gram as that of {@link InputStatistics}
     * @param rows as those of {@link InputStatistics}
     */
    record Collected(Site site, MomentsTree fitting, MomentsTree heldOut, View gram, List<View> rows) {
        /**
         * The statistics of all batches.
         *
         * @throws RunException when one is not finite, or of fewer than two tokens
         */
        InputStatistics total() {
            int cols = Math.toIntExact(site.cols());
            Moments fit = fitting.total(cols);
            Moments held = heldOut.total(cols);
            Moments all = fit.merge(held);
            if (!all.isFinite() || all.count() < 2) {
                throw new RunException("site " + site.name() + ": the statistics of its input over " + all.count()
                        + " tokens are not finite; look for overflow in the layers before it, or calibrate on other"
                        + " data");
            }
            return new InputStatistics(fit, held, all, gram, rows);
        }
    }

    /** Where the statistics of what a group's sites read come from. */
    @FunctionalInterface
    interface Source {
        /** As {@link InputStatistics#collect}, which is one; without data there are none. */
        Map<String, InputStatistics> of(Walk.Group group, Map<Site, Evidence> evidence, Scope scope, Progress progress);
    }

    /**
     * Runs all calibration data through a group once; where the device's memory does not suffice for that, again in
     * halved batches.
     *
     * @param evidence of each site whose input matters
     * @param scope owner of the Gram matrices and rows
     * @return by {@link Site#input}
     * @throws RunException when a statistic is not finite, or of fewer than two tokens
     * @throws DeviceException OUT_OF_MEMORY when halved batches do not fit either
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it
     */
    static Map<String, InputStatistics> collect(
            Walk.Group group, Map<Site, Evidence> evidence, Scope scope, Progress progress) {
        Map<String, InputStatistics> statistics = new HashMap<>();
        observe(group, evidence, scope, progress).forEach((key, input) -> statistics.put(key, input.total()));
        return statistics;
    }

    /** As {@link #collect}, before the batches are merged. */
    static Map<String, Collected> observe(
            Walk.Group group, Map<Site, Evidence> evidence, Scope scope, Progress progress) {
        Map<String, Input> inputs = new LinkedHashMap<>();
        evidence.forEach((site, wanted) ->
                inputs.computeIfAbsent(site.input(), _ -> new Input(site)).want(wanted));
        if (inputs.isEmpty()) {
            return Map.of();
        }
        inputs.values().forEach(input -> input.allocate(scope));
        try {
            return observeOnce(group, inputs, scope, progress);
        } catch (DeviceException e) {
            if (e.kind() != DeviceException.Kind.OUT_OF_MEMORY || !group.halveBatches()) {
                throw e;
            }
        }
        inputs.values().forEach(input -> input.restart(scope.backend()));
        return observeOnce(group, inputs, scope, progress);
    }

    private static Map<String, Collected> observeOnce(
            Walk.Group group, Map<String, Input> inputs, Scope scope, Progress progress) {
        Map<String, Collected> collected = new LinkedHashMap<>();
        try (Scope local = scope.child()) {
            Map<String, MomentsTree.Collector> fitting = collectors(inputs, local);
            Map<String, MomentsTree.Collector> heldOut = collectors(inputs, local);
            group.observe((key, rows, held, batch) -> {
                progress.stopIfCancelled("statistics");
                if (inputs.containsKey(key)) {
                    (held ? heldOut : fitting).get(key).add(batch, rows);
                    inputs.get(key).add(rows, scope);
                }
            });
            inputs.forEach((key, input) -> collected.put(
                    key,
                    new Collected(
                            input.reader,
                            fitting.get(key).tree(),
                            heldOut.get(key).tree(),
                            input.gram,
                            List.copyOf(input.rows))));
        }
        return collected;
    }

    private static Map<String, MomentsTree.Collector> collectors(Map<String, Input> inputs, Scope scope) {
        return inputs.entrySet().stream()
                .collect(Collectors.toMap(
                        Map.Entry::getKey,
                        entry -> new MomentsTree.Collector(
                                scope, entry.getValue().reader.cols())));
    }

    /** An activation while it is observed. */
    private static final class Input {
        /** One of the sites that read it. */
        private final Site reader;

        private final List<View> rows = new ArrayList<>();
        private Evidence evidence = Evidence.NONE;
        private View gram;
        /** Rows that are kept. */
        private long kept;
        /** Rows that came by. */
        private long seen;

        Input(Site reader) {
            this.reader = reader;
        }

        void want(Evidence wanted) {
            evidence = wanted.compareTo(evidence) > 0 ? wanted : evidence;
        }

        void allocate(Scope scope) {
            if (evidence == Evidence.GRAM) {
                gram = scope.zeros(DType.F64, reader.cols(), reader.cols());
            }
        }

        void add(View batch, Scope scope) {
            switch (evidence) {
                case NONE -> {}
                case ROWS -> keep(batch, scope);
                case GRAM -> scope.backend().run(new Gram(batch, gram));
            }
        }

        private void keep(View batch, Scope scope) {
            long first = kept - seen;
            long end = Math.min(batch.rows(), Report.ERROR_TOKENS - seen);
            if (first >= 0 && first < end) {
                View copy = scope.matrix(end - first, batch.cols());
                scope.backend().run(new Cast(batch.rows(first, end), copy, false));
                rows.add(copy);
                kept += end - first;
            }
            seen += batch.rows();
        }

        /** Forgets what was added, but for rows, which come by again in their order. */
        void restart(Backend backend) {
            seen = 0;
            if (gram != null) {
                MemorySegment zeros = MemorySegment.ofArray(new double[Math.toIntExact(gram.cols())]);
                for (long row = 0; row < gram.rows(); row++) {
                    backend.copyIn(zeros, gram.rows(row, row + 1));
                }
            }
        }
    }

    /**
     * Bytes on the device of what is kept of the inputs of some sites; the moments are small.
     *
     * @param tokens of the calibration data
     */
    static long bytes(Map<Site, Evidence> evidence, long tokens) {
        Map<String, Long> bytes = new HashMap<>();
        evidence.forEach((site, wanted) -> bytes.merge(
                site.input(),
                switch (wanted) {
                    case NONE -> 0L;
                    case ROWS -> Math.min(tokens, Report.ERROR_TOKENS) * site.cols() * Float.BYTES;
                    case GRAM -> site.cols() * site.cols() * Double.BYTES;
                },
                Math::max));
        return bytes.values().stream().mapToLong(Long::longValue).sum();
    }
}
