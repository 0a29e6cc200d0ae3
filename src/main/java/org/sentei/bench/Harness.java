package org.sentei.bench;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.engine.Progress;

/** Times cases of {@code OpCases}; found as a service, because JMH's licence keeps it out of the library. */
public interface Harness {
    /**
     * Times a case on a backend.
     *
     * @throws org.sentei.engine.RunException when it fails, with the reason
     * @throws java.util.concurrent.CancellationException when {@code progress} was cancelled
     */
    Measurement measure(Request request, Progress progress);

    /**
     * What to time.
     *
     * @param backend name of the backend
     * @param threads host threads that it computes with
     * @param opCase name of the case, {@code op/label}
     * @param kernel file with kernels of the case's op, to time in the place of the backend's own
     */
    record Request(String backend, int device, int threads, String opCase, Optional<Path> kernel, Schedule schedule) {}

    /**
     * How long to time, in JMH's words.
     *
     * @param forks fresh JVMs a case; 0 times inside this one
     * @param warmup iterations that do not count, a fork
     * @param iterations iterations that count, a fork
     * @param seconds least time of an iteration
     * @param profilers names of JMH profilers, with options behind a colon
     */
    record Schedule(int forks, int warmup, int iterations, double seconds, List<String> profilers) {
        public Schedule {
            if (forks < 0 || warmup < 0 || iterations < 1 || !(seconds > 0 && seconds <= 3600)) {
                throw new IllegalArgumentException("a schedule of " + forks + " forks, " + warmup + " and " + iterations
                        + " iterations of " + seconds + " s is malformed");
            }
        }

        int total() {
            return Math.max(1, forks) * (warmup + iterations);
        }
    }

    /**
     * What came of one case.
     *
     * @param seconds mean time of one run of the op
     * @param error half of the 99.9 % confidence interval of {@code seconds}; NaN when too few iterations tell
     * @param samples iterations that counted
     * @param profile what the profilers found, by their labels
     */
    record Measurement(double seconds, double error, long samples, Map<String, Profiled> profile) {}

    /** One figure of a profiler. */
    record Profiled(double value, String unit) {}
}
