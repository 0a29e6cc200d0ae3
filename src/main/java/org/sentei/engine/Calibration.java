package org.sentei.engine;

import java.util.List;
import org.sentei.engine.report.Report;
import org.sentei.model.TokenBatch;

/**
 * Windows of tokens that statistics come from. The last quarter of them is held out: it counts in the statistics, and by
 * itself judges whether a bias update helps on data that it was not fitted to.
 *
 * @param data where the windows came from
 * @param windows all of one length
 */
record Calibration(TextData data, List<int[]> windows) {
    /** Tokens on the device at once. */
    static final int BATCH_TOKENS = 4096;
    /** Tokens of a batch of a graph whose inputs of all sites are held at once: few enough for caches. */
    private static final int GRAPH_TOKENS = 1024;

    List<int[]> fitting() {
        return windows.subList(0, windows.size() - windows.size() / 4);
    }

    List<int[]> heldOut() {
        return windows.subList(windows.size() - windows.size() / 4, windows.size());
    }

    /** Windows of such a batch. */
    int windowsPerBatch() {
        return Math.max(1, GRAPH_TOKENS / windows.getFirst().length);
    }

    long tokens() {
        return (long) windows.size() * windows.getFirst().length;
    }

    Report.Calibration reported() {
        return new Report.Calibration(data.source(), data.sha256(), windows.size(), tokens());
    }

    static List<TokenBatch> batches(List<int[]> windows) {
        return windows.isEmpty()
                ? List.of()
                : TokenBatch.of(windows.toArray(int[][]::new)).split(BATCH_TOKENS);
    }
}
