package org.sentei.bench.jmh;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Deque;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.results.BenchmarkResult;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.format.OutputFormat;
import org.sentei.engine.Progress;

/** JMH's output as progress; what it prints is kept for when it fails. Forks report from threads of their own. */
final class ProgressFormat implements OutputFormat {
    private static final int LINES = 4;

    private final Progress progress;
    private final String backend;
    private final long total;
    private final Deque<String> lines = new ArrayDeque<>();
    private String current = "the start";
    private long done;

    ProgressFormat(Progress progress, String backend, long total) {
        this.progress = progress;
        this.backend = backend;
        this.total = total;
    }

    synchronized String current() {
        return current;
    }

    synchronized String tail() {
        return String.join(" ", lines);
    }

    @Override
    public synchronized void startBenchmark(BenchmarkParams params) {
        current = params.getParam("opCase");
        progress.checkpoint(backend + ": " + current, done, total);
    }

    @Override
    public synchronized void iterationResult(
            BenchmarkParams params, IterationParams iteration, int number, IterationResult result) {
        done++;
        progress.advanced(backend + ": " + current, done, total);
    }

    @Override
    public synchronized void println(String text) {
        text.lines().filter(line -> !line.isBlank()).forEach(line -> {
            lines.add(line.strip());
            if (lines.size() > LINES) {
                lines.remove();
            }
        });
    }

    @Override
    public void print(String text) {
        println(text);
    }

    @Override
    public void verbosePrintln(String text) {
        println(text);
    }

    @Override
    public void write(byte[] text) {
        println(new String(text, StandardCharsets.UTF_8));
    }

    @Override
    public void write(int one) {
        // A single byte says nothing.
    }

    @Override
    public void iteration(BenchmarkParams params, IterationParams iteration, int number) {
        // Reported when it is over.
    }

    @Override
    public void endBenchmark(BenchmarkResult result) {
        // The runner returns it.
    }

    @Override
    public void startRun() {
        // Nothing to open.
    }

    @Override
    public void endRun(Collection<RunResult> results) {
        // The runner returns them.
    }

    @Override
    public void flush() {
        // Nothing is held back.
    }

    @Override
    public void close() {
        // Nothing is open.
    }
}
