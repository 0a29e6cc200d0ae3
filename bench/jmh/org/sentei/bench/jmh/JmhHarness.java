package org.sentei.bench.jmh;

import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CancellationException;
import java.util.regex.Pattern;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.sentei.bench.Harness;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;

/** Times by JMH. */
public final class JmhHarness implements Harness {
    @Override
    public Measurement measure(Request request, Progress progress) {
        Schedule schedule = request.schedule();
        TimeValue time = TimeValue.microseconds(Math.round(1e6 * schedule.seconds()));
        ChainedOptionsBuilder options = new OptionsBuilder()
                .include("^" + Pattern.quote(OpBenchmark.class.getName() + ".run") + "$")
                .param("backend", request.backend())
                .param("device", Integer.toString(request.device()))
                .param("threads", Integer.toString(request.threads()))
                .param("kernel", request.kernel().map(Path::toString).orElse(""))
                .param("opCase", request.opCase())
                .threads(1)
                .forks(schedule.forks())
                .warmupIterations(schedule.warmup())
                .warmupTime(time)
                .measurementIterations(schedule.iterations())
                .measurementTime(time)
                .jvmArgsAppend("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
                .shouldFailOnError(true);
        for (String profiler : schedule.profilers()) {
            int colon = profiler.indexOf(':');
            options = colon < 0
                    ? options.addProfiler(profiler)
                    : options.addProfiler(profiler.substring(0, colon), profiler.substring(colon + 1));
        }
        ProgressFormat format = new ProgressFormat(
                progress,
                request.backend(),
                (long) Math.max(1, schedule.forks()) * (schedule.warmup() + schedule.iterations()));
        try {
            return measurement(new Runner(options.build(), format).runSingle());
        } catch (RunnerException e) {
            if (progress.cancelled()) {
                throw new CancellationException("interrupted while timing " + request.backend());
            }
            throw new RunException(
                    "timing " + request.backend() + " failed at " + format.current() + ": " + reason(e, format), e);
        }
    }

    private static Measurement measurement(RunResult result) {
        Map<String, Profiled> profile = new TreeMap<>();
        for (Result<?> secondary : result.getSecondaryResults().values()) {
            if (Double.isFinite(secondary.getScore())) {
                profile.put(secondary.getLabel(), new Profiled(secondary.getScore(), secondary.getScoreUnit()));
            }
        }
        Result<?> primary = result.getPrimaryResult();
        return new Measurement(
                primary.getScore() / 1e9,
                primary.getScoreError() / 1e9,
                primary.getStatistics().getN(),
                profile);
    }

    /** What the benchmark threw, or else the last that JMH said. */
    private static String reason(RunnerException failure, ProgressFormat format) {
        Throwable deepest = deepest(failure);
        return deepest instanceof RunnerException ? failure.getMessage() + " " + format.tail() : deepest.getMessage();
    }

    private static Throwable deepest(Throwable failure) {
        Throwable inner = failure.getCause() != null
                ? failure.getCause()
                : failure.getSuppressed().length > 0 ? failure.getSuppressed()[0] : null;
        return inner == null || inner.getMessage() == null ? failure : deepest(inner);
    }
}
