package org.sentei.engine;

import java.util.ArrayList;
import java.util.List;
import org.sentei.engine.report.Report;
import org.sentei.model.TokenBatch;

/**
 * Windows of tokens that statistics come from. The last quarter of them is held out: it counts in the statistics, and by
 * itself judges whether a bias update helps on data that it was not fitted to.
 *
 * @param data where the windows came from
 * @param fitting windows that a bias update is fitted to
 * @param heldOut windows that judge it
 */
record Calibration(TextData data, Batches fitting, Batches heldOut) {
    /** Tokens on the device at once. */
    static final int BATCH_TOKENS = 4096;

    /**
     * Consecutive batches of windows.
     *
     * @param first number of the first one among those of all shards
     * @param batches windows of one length
     */
    record Batches(int first, List<List<int[]>> batches) {
        private static Batches of(List<int[]> windows, int windowsPerBatch) {
            List<List<int[]>> batches = new ArrayList<>();
            for (int at = 0; at < windows.size(); at += windowsPerBatch) {
                batches.add(windows.subList(at, Math.min(windows.size(), at + windowsPerBatch)));
            }
            return new Batches(0, batches);
        }

        private Batches part(int from, int to) {
            int begin = Math.clamp(from, 0, batches.size());
            return new Batches(first + begin, batches.subList(begin, Math.clamp(to, begin, batches.size())));
        }

        int count() {
            return batches.size();
        }

        List<TokenBatch> tokens() {
            return batches.stream()
                    .map(windows -> TokenBatch.of(windows.toArray(int[][]::new)))
                    .toList();
        }
    }

    /**
     * All windows in batches.
     *
     * @param windows all of one length
     */
    static Calibration of(TextData data, List<int[]> windows, int windowsPerBatch) {
        int fitting = windows.size() - windows.size() / 4;
        return new Calibration(
                data,
                Batches.of(windows.subList(0, fitting), windowsPerBatch),
                Batches.of(windows.subList(fitting, windows.size()), windowsPerBatch));
    }

    /** The batches of a shard, the same as they are in a pass over all. */
    Calibration part(Shard shard) {
        int batches = fitting.count() + heldOut.count();
        int from = shard.begin(batches);
        int to = shard.end(batches);
        return new Calibration(
                data, fitting.part(from, to), heldOut.part(from - fitting.count(), to - fitting.count()));
    }

    int windows() {
        return windows(fitting) + windows(heldOut);
    }

    private static int windows(Batches part) {
        return part.batches().stream().mapToInt(List::size).sum();
    }

    /** Of every window. */
    int length() {
        return fitting.batches().getFirst().getFirst().length;
    }

    Report.Calibration reported() {
        return new Report.Calibration(data.source(), data.sha256(), windows(), (long) windows() * length());
    }

    static List<TokenBatch> batches(List<int[]> windows) {
        return windows.isEmpty()
                ? List.of()
                : TokenBatch.of(windows.toArray(int[][]::new)).split(BATCH_TOKENS);
    }
}
