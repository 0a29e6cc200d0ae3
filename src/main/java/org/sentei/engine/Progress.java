package org.sentei.engine;

import java.util.concurrent.CancellationException;

/** Hears how far a long task is. Called from the thread that runs it. */
public interface Progress {
    /** Ignores everything. */
    Progress NONE = (stage, done, total) -> {};

    /**
     * Work has advanced.
     *
     * @param stage what is being done, for example {@code block 3 of 12: statistics}
     * @param done units finished over the whole task
     * @param total units of the whole task
     */
    void advanced(String stage, long done, long total);

    /** Asked between units of work; true ends the run without leaving output. */
    default boolean cancelled() {
        return false;
    }

    /**
     * Stops a cancelled run, else reports like {@link #advanced}: what long tasks call between units of work.
     *
     * @throws CancellationException when {@link #cancelled} or the thread is interrupted
     */
    default void checkpoint(String stage, long done, long total) {
        stopIfCancelled(stage);
        advanced(stage, done, total);
    }

    /**
     * Stops a cancelled run: what long tasks call inside a unit of work.
     *
     * @throws CancellationException when {@link #cancelled} or the thread is interrupted
     */
    default void stopIfCancelled(String stage) {
        if (cancelled() || Thread.currentThread().isInterrupted()) {
            throw new CancellationException("interrupted at " + stage + "; nothing was written");
        }
    }
}
