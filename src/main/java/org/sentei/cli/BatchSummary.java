package org.sentei.cli;

import com.fasterxml.jackson.annotation.JsonValue;
import java.io.PrintStream;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;

/**
 * What became of a batch.
 *
 * @param jobs in the order of the file
 * @param devices in the order of the command line
 */
record BatchSummary(Counts counts, List<Job> jobs, List<Device> devices) {
    /**
     * Figures of the whole batch.
     *
     * @param ok models compressed by this run
     * @param rejected models that missed a quality gate
     * @param failed jobs that did not get that far
     * @param skipped jobs that an earlier run had finished
     * @param open jobs that were interrupted or not begun
     * @param seconds from the first job to the end
     * @param modelsPerHour compressed or rejected by this run
     */
    record Counts(int ok, int rejected, int failed, int skipped, int open, double seconds, double modelsPerHour) {}

    /** What became of a job. */
    enum Status {
        OK,
        REJECTED,
        FAILED,
        SKIPPED,
        INTERRUPTED,
        NOT_STARTED;

        /** The name in documents. */
        @JsonValue
        String key() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * A job.
     *
     * @param exitCode what {@code compress} would have ended with; null when it was not begun
     * @param device null when it was on none
     * @param error null when there was none
     */
    record Job(
            int line,
            String model,
            String out,
            Status status,
            Integer exitCode,
            Integer device,
            double seconds,
            String error) {
        static Job of(BatchJob job, Status status, Integer exitCode, Integer device, double seconds, String error) {
            return new Job(job.line(), job.model(), job.field("out"), status, exitCode, device, seconds, error);
        }
    }

    /**
     * A device, or one of several workers on it.
     *
     * @param busySeconds with a job
     * @param idleSeconds without
     */
    record Device(int device, String name, int jobs, double busySeconds, double idleSeconds) {}

    static BatchSummary of(List<Job> jobs, List<Device> devices, double seconds) {
        int ok = count(jobs, Status.OK);
        int rejected = count(jobs, Status.REJECTED);
        return new BatchSummary(
                new Counts(
                        ok,
                        rejected,
                        count(jobs, Status.FAILED),
                        count(jobs, Status.SKIPPED),
                        count(jobs, Status.INTERRUPTED) + count(jobs, Status.NOT_STARTED),
                        seconds,
                        (ok + rejected) / seconds * 3600),
                jobs,
                devices);
    }

    private static int count(List<Job> jobs, Status status) {
        return (int) jobs.stream().filter(job -> job.status() == status).count();
    }

    /** What the process ends with: an interruption first, then the code of the gravest failure. */
    int exitCode() {
        if (counts.open() > 0) {
            return ExitCode.RUN_FAILED;
        }
        return IntStream.of(
                        ExitCode.BUG,
                        ExitCode.RUN_FAILED,
                        ExitCode.BACKEND,
                        ExitCode.INPUT,
                        ExitCode.SYNTAX,
                        ExitCode.GATE)
                .filter(code -> jobs.stream().anyMatch(job -> job.exitCode() != null && job.exitCode() == code))
                .findFirst()
                .orElse(ExitCode.OK);
    }

    void print(PrintStream out) {
        Table table = new Table("rllrrl", "line", "model", "status", "exit", "seconds", "out");
        for (Job job : jobs) {
            table.row(
                    String.valueOf(job.line()),
                    job.model(),
                    job.status().key().replace('_', ' '),
                    job.exitCode() == null ? null : job.exitCode().toString(),
                    job.seconds(),
                    job.out());
        }
        table.print(out);
        out.println();
        out.printf(
                Locale.ROOT,
                "%d compressed, %d rejected by a quality gate, %d failed, %d done before, %d open; %.1f s, %.0f models an"
                        + " hour%n",
                counts.ok(),
                counts.rejected(),
                counts.failed(),
                counts.skipped(),
                counts.open(),
                counts.seconds(),
                counts.modelsPerHour());
        for (Device device : devices) {
            out.printf(
                    Locale.ROOT,
                    "device %d (%s): %d jobs, idle %.1f s of %.1f s (%.0f %%)%n",
                    device.device(),
                    device.name(),
                    device.jobs(),
                    device.idleSeconds(),
                    counts.seconds(),
                    100 * device.idleSeconds() / counts.seconds());
        }
    }
}
