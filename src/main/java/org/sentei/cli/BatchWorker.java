package org.sentei.cli;

import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.sentei.engine.Journaling;
import org.sentei.engine.Plan;
import org.sentei.engine.Progress;
import org.sentei.engine.Session;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Takes jobs off a queue and runs them on one device, which stays open from job to job. */
final class BatchWorker {
    private static final Logger LOG = LoggerFactory.getLogger(BatchWorker.class);

    private final String backend;
    private final Backend.Options options;
    private final String name;
    /** Null after a failure that may have left the device in a state that no other job should see. */
    private Session session;

    private int jobs;
    private long busyNanos;

    /**
     * Opens the device.
     *
     * @throws DeviceException when it is not available
     */
    BatchWorker(String backend, Backend.Options options) {
        this.backend = backend;
        this.options = options;
        this.session = Session.open(backend, options);
        this.name = session.info().backend() + " " + session.info().device();
    }

    /**
     * What the workers of a batch share.
     *
     * @param queue of jobs to do
     * @param cancelled asked before each job and, within one, before each group of sites
     * @param ended hears of every job that was begun
     */
    record Work(
            Queue<BatchJob> queue,
            Journaling journaling,
            BatchLog log,
            BooleanSupplier cancelled,
            Consumer<BatchSummary.Job> ended) {
        /** Tells what became of a job. */
        void end(BatchJob job, BatchSummary.Status status, int exitCode, Integer device, double seconds, String error) {
            BatchSummary.Job result = BatchSummary.Job.of(job, status, exitCode, device, seconds, error);
            log.ended(job, result);
            ended.accept(result);
        }
    }

    /**
     * Runs jobs until there are none, the work is cancelled or the device is lost for good.
     *
     * @return why the device was lost, empty when it was not
     */
    Optional<String> run(Work work) {
        while (!work.cancelled().getAsBoolean()) {
            if (session == null) {
                try {
                    session = Session.open(backend, options);
                } catch (RuntimeException | Error lost) {
                    return Optional.of(
                            "device " + options.device() + " cannot be opened again: " + ExitCode.message(lost));
                }
            }
            BatchJob job = work.queue().poll();
            if (job == null) {
                return Optional.empty();
            }
            long started = System.nanoTime();
            Ended ended = run(job, work);
            long nanos = System.nanoTime() - started;
            busyNanos += nanos;
            jobs++;
            work.end(job, ended.status(), ended.exitCode(), options.device(), nanos * 1e-9, ended.error());
        }
        return Optional.empty();
    }

    private record Ended(BatchSummary.Status status, int exitCode, String error) {}

    private Ended run(BatchJob job, Work work) {
        if (job.fault() != null) {
            return new Ended(BatchSummary.Status.FAILED, ExitCode.SYNTAX, job.fault());
        }
        Watch progress = new Watch(job, work);
        try {
            work.log().started(job, options.device());
            try (Plan plan = session.plan(job.request())) {
                plan.run(job.out(), work.journaling(), progress);
            }
            return new Ended(BatchSummary.Status.OK, ExitCode.OK, null);
        } catch (CancellationException interrupted) {
            String kept = progress.journaled < 0
                    ? ""
                    : "; groups of layers decided and kept: " + progress.journaled + "; --resume goes on";
            return new Ended(BatchSummary.Status.INTERRUPTED, ExitCode.RUN_FAILED, interrupted.getMessage() + kept);
        } catch (RuntimeException | Error failure) {
            LOG.debug("line {} failed", job.line(), failure);
            int code = ExitCode.of(failure);
            if (failure instanceof DeviceException || failure instanceof Error || code == ExitCode.BUG) {
                closeQuietly(failure);
            }
            BatchSummary.Status status =
                    code == ExitCode.GATE ? BatchSummary.Status.REJECTED : BatchSummary.Status.FAILED;
            return new Ended(status, code, ExitCode.message(failure));
        }
    }

    /** The device is opened anew for the next job, whatever closing it says. */
    private void closeQuietly(Throwable failure) {
        try {
            session.close();
        } catch (RuntimeException | Error second) {
            failure.addSuppressed(second);
        }
        session = null;
    }

    /** What was done; after {@link #run}. */
    BatchSummary.Device summary(double seconds) {
        double busy = busyNanos * 1e-9;
        return new BatchSummary.Device(options.device(), name, jobs, busy, Math.max(0, seconds - busy));
    }

    /** Closes the device; that it fails to is told, and changes nothing of what was done. */
    void close(Terminal terminal) {
        if (session == null) {
            return;
        }
        try {
            session.close();
        } catch (RuntimeException | Error failure) {
            terminal.err()
                    .println("warning: device " + options.device() + " does not close: " + ExitCode.message(failure));
        }
    }

    /** Tells the log how far a job is; cancels between groups of sites, so that what a group has cost is not lost. */
    private static final class Watch implements Progress {
        private static final long PAUSE_NANOS = TimeUnit.SECONDS.toNanos(1);

        private final BatchJob job;
        private final Work work;
        private long told = System.nanoTime();
        /** Negative as long as nothing is kept. */
        private int journaled = -1;

        Watch(BatchJob job, Work work) {
            this.job = job;
            this.work = work;
        }

        @Override
        public void advanced(String stage, long done, long total) {
            long now = System.nanoTime();
            if (now - told >= PAUSE_NANOS) {
                told = now;
                work.log().advanced(job, stage, done, total);
            }
        }

        @Override
        public void resumed(int groups) {
            journaled = groups == 0 ? journaled : groups;
        }

        @Override
        public void journaled(int groups) {
            journaled = groups;
        }

        @Override
        public boolean cancelled() {
            return work.cancelled().getAsBoolean();
        }

        @Override
        public boolean cancelledWithin() {
            return false;
        }
    }
}
