package org.sentei.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Turns Ctrl-C or a polite kill into a request to stop, gives the run time to clean up, and ends the process with the exit
 * code of an interrupted run.
 */
final class Interrupt implements AutoCloseable {
    private static final long PATIENCE_SECONDS = 20;
    /** Of a batch, whose jobs finish the group of layers that they are at. */
    private static final long BATCH_PATIENCE_SECONDS = 600;

    private final AtomicBoolean requested = new AtomicBoolean();
    private final CountDownLatch finished = new CountDownLatch(1);

    private final Terminal terminal;
    private final long patienceSeconds;

    private Interrupt(Terminal terminal, long patienceSeconds) {
        this.terminal = terminal;
        this.patienceSeconds = patienceSeconds;
    }

    /** Starts listening; one a process. */
    static Interrupt listen(Terminal terminal, boolean batch) {
        Interrupt interrupt = new Interrupt(terminal, batch ? BATCH_PATIENCE_SECONDS : PATIENCE_SECONDS);
        Runtime.getRuntime().addShutdownHook(new Thread(interrupt::shutDown, "sentei-interrupt"));
        return interrupt;
    }

    /** Whether somebody asked the run to stop. */
    boolean requested() {
        return requested.get();
    }

    private void shutDown() {
        if (finished.getCount() == 0) {
            return; // the ordinary end of the process
        }
        requested.set(true);
        try {
            if (!finished.await(patienceSeconds, TimeUnit.SECONDS)) {
                terminal.err()
                        .println("sentei: interrupted in the middle of a step; a hidden .partial folder may be left,"
                                + " which --resume goes on from");
            }
            Runtime.getRuntime().halt(ExitCode.RUN_FAILED);
        } catch (InterruptedException impatient) {
            Runtime.getRuntime().halt(ExitCode.RUN_FAILED);
        }
    }

    /** The run is over and has cleaned up. */
    @Override
    public void close() {
        finished.countDown();
    }
}
