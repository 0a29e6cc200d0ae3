package org.sentei.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Queue;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.sentei.engine.Journaling;
import org.sentei.kernel.Backend;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code sentei batch}: many jobs in one process. */
@Command(
        name = "batch",
        description =
                "Runs many compressions in one process: devices stay open, so that contexts, compiled kernels and memory are"
                        + " used again. A job that fails stops no other. What happens goes to a log of JSON lines.",
        footer = {
            "",
            "A job is a line of JSON with the options of compress as its keys: model, recipe and out, and as needed"
                    + " calibration, statistics, data, tokenizer and seed.",
            "",
            "Example: what is in jobs.jsonl, on two GPUs, and again after an interruption",
            "  {\"model\": \"llama/\", \"recipe\": \"stade-50\", \"calibration\": \"text.txt\", \"out\": \"llama-50/\"}",
            "  {\"model\": \"bert/\", \"recipe\": \"magnitude-50\", \"out\": \"bert-50/\"}",
            "  sentei batch jobs.jsonl --devices 0,1",
            "  sentei batch jobs.jsonl --devices 0,1 --resume",
            "",
            "Exit code: 0 when all is done; 6 when interrupted; else that of the gravest failure, in the order 1, 6, 4, 3, 2"
                    + " (a line that is no job), 5."
        })
final class BatchCommand implements Callable<Integer> {
    private static final int MOST_WORKERS = 64;

    private final Terminal terminal;
    private final BooleanSupplier cancelled;

    @Spec
    private CommandSpec command;

    @Parameters(index = "0", paramLabel = "JOBS.jsonl", description = "File with a job a line.")
    private Path file;

    @Option(
            names = "--devices",
            split = ",",
            paramLabel = "N",
            description = "Devices that take jobs, for example 0,1; a device that is named twice takes two at a time."
                    + " Default: that of --device.")
    private List<Integer> devices;

    @Option(
            names = "--resume",
            description = "Leave out what the log says an earlier run has finished, and go on with what it had begun.")
    private boolean resume;

    @Option(
            names = "--log",
            paramLabel = "FILE",
            description = "Where JSON lines are appended. Default: JOBS.jsonl.log, beside the jobs.")
    private Path log;

    @Mixin
    private ComputeOptions compute;

    @Mixin
    private CommonOptions common;

    BatchCommand(Terminal terminal, BooleanSupplier cancelled) {
        this.terminal = terminal;
        this.cancelled = cancelled;
    }

    @Override
    public Integer call() {
        Backend.Options options = compute.options(common);
        List<Integer> indices = devices == null ? List.of(options.device()) : devices;
        if (indices.size() > MOST_WORKERS || indices.stream().anyMatch(index -> index == null || index < 0)) {
            throw new ParameterException(
                    command.commandLine(), "--devices: give at most " + MOST_WORKERS + " indices of 0 or more");
        }
        compute.check();
        compute.warn(terminal);
        List<BatchWorker> workers = new ArrayList<>();
        try {
            for (int index : indices) {
                int threads = Math.max(1, options.threads() / indices.size());
                workers.add(
                        new BatchWorker(compute.backend, new Backend.Options(index, threads, options.memoryBytes())));
            }
            return run(workers);
        } finally {
            workers.forEach(worker -> worker.close(terminal));
        }
    }

    private int run(List<BatchWorker> workers) {
        List<BatchJob> jobs = BatchJob.read(file);
        Path place = log == null ? file.resolveSibling(file.getFileName() + ".log") : log;
        ConcurrentHashMap<Integer, BatchSummary.Job> ended = new ConcurrentHashMap<>();
        Queue<BatchJob> queue = new ConcurrentLinkedQueue<>();
        BatchSummary summary;
        try (BatchLog events = BatchLog.open(place, terminal)) {
            for (BatchJob job : jobs) {
                OptionalInt before = resume && job.fault() == null ? events.finished(job) : OptionalInt.empty();
                if (before.isPresent()) {
                    ended.put(job.line(), before(job, before.getAsInt(), events.hadAnotherRecipe(job)));
                } else {
                    queue.add(job);
                }
            }
            long started = System.nanoTime();
            Journaling journaling = resume ? Journaling.RESUME : Journaling.ON;
            BatchWorker.Work work = new BatchWorker.Work(queue, journaling, events, cancelled, job -> {
                ended.put(job.line(), job);
                tell(job);
            });
            runAll(workers, work);
            double seconds = (System.nanoTime() - started) * 1e-9;
            summary = BatchSummary.of(
                    jobs.stream()
                            .map(job -> ended.getOrDefault(
                                    job.line(),
                                    BatchSummary.Job.of(job, BatchSummary.Status.NOT_STARTED, null, null, 0, null)))
                            .toList(),
                    workers.stream().map(worker -> worker.summary(seconds)).toList(),
                    seconds);
            events.summary(summary);
        }
        if (common.json) {
            Json.print(terminal, summary);
        } else {
            summary.print(terminal.out());
        }
        return summary.exitCode();
    }

    /** What a job is that an earlier run has finished. */
    private BatchSummary.Job before(BatchJob job, int exitCode, boolean otherRecipe) {
        if (!otherRecipe) {
            return BatchSummary.Job.of(job, BatchSummary.Status.SKIPPED, exitCode, null, 0, null);
        }
        BatchSummary.Job refused = BatchSummary.Job.of(
                job,
                BatchSummary.Status.FAILED,
                ExitCode.INPUT,
                null,
                0,
                "recipe " + job.field("recipe") + " is not what it was when " + job.out()
                        + " was made from it; remove that output, or give the job another out");
        tell(refused);
        return refused;
    }

    /** Every worker on a thread of its own. When all devices are lost, the jobs that are left have failed. */
    private static void runAll(List<BatchWorker> workers, BatchWorker.Work work) {
        List<String> lost = new ArrayList<>();
        List<Future<Optional<String>>> runs = new ArrayList<>();
        try (ExecutorService threads = Executors.newThreadPerTaskExecutor(
                Thread.ofPlatform().name("sentei-batch-", 0).factory())) {
            workers.forEach(worker -> runs.add(threads.submit(() -> worker.run(work))));
        }
        runs.forEach(run -> run.resultNow().ifPresent(lost::add));
        if (!lost.isEmpty() && !work.cancelled().getAsBoolean()) {
            for (BatchJob job = work.queue().poll();
                    job != null;
                    job = work.queue().poll()) {
                work.end(job, BatchSummary.Status.FAILED, ExitCode.BACKEND, null, 0, String.join("; ", lost));
            }
        }
    }

    private synchronized void tell(BatchSummary.Job job) {
        terminal.err()
                .printf(
                        Locale.ROOT,
                        "line %d: %s, %.1f s%s%n",
                        job.line(),
                        job.status().key(),
                        job.seconds(),
                        job.error() == null ? ": " + job.out() : " (exit " + job.exitCode() + "): " + job.error());
    }
}
