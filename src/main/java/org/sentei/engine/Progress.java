package org.sentei.engine;

import java.util.concurrent.CancellationException;

/**
 * Hears how far a long task is, and may stop it. Called from the thread that runs the task, which waits meanwhile: return
 * soon. What a method throws ends the task like a cancellation, and is thrown to the task's caller as it is.
 */
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

    /**
     * The run goes on from the journal of an earlier one. Called once, where {@link Journaling#RESUME} is asked for, but not when
     * the earlier run was still inside of its first descent.
     *
     * @param units of work that are not done again, groups of sites or steps of training; 0 when there was nothing to resume
     */
    default void resumed(int units) {}

    /**
     * More work, be it a part of a unit, is safe in the journal. Called where {@link Journaling} is not off.
     *
     * @param units of work that a run that resumes this one will not do again
     */
    default void journaled(int units) {}

    /** Asked between units of work; true ends the run without leaving output. */
    default boolean cancelled() {
        return false;
    }

    /**
     * Asked inside of a unit of work, what has been done of it would be lost; where it is to be finished, this is false while
     * {@link #cancelled} is true.
     */
    default boolean cancelledWithin() {
        return cancelled();
    }

    /**
     * Stops a cancelled run, else reports like {@link #advanced}: what long tasks call between units of work.
     *
     * @throws CancellationException when {@link #cancelled} or the thread is interrupted
     */
    default void checkpoint(String stage, long done, long total) {
        stop(cancelled(), stage);
        advanced(stage, done, total);
    }

    /**
     * Stops a cancelled run: what long tasks call inside a unit of work.
     *
     * @throws CancellationException when {@link #cancelledWithin} or the thread is interrupted
     */
    default void stopIfCancelled(String stage) {
        stop(cancelledWithin(), stage);
    }

    private static void stop(boolean cancelled, String stage) {
        if (cancelled || Thread.currentThread().isInterrupted()) {
            throw new CancellationException("interrupted at " + stage + "; no output was written");
        }
    }
}
