package org.sentei.engine;

import java.time.Instant;

/**
 * Time that a run has taken, with that of earlier runs which it continues.
 *
 * @param started when the first of them started
 * @param earlier seconds that the earlier ones took
 * @param begun {@link System#nanoTime} when this one started
 */
public record Stopwatch(Instant started, double earlier, long begun) {
    /** A watch that begins now. */
    public static Stopwatch start() {
        return new Stopwatch(Instant.now(), 0, System.nanoTime());
    }

    /** The watch of a run that continues others. */
    public Stopwatch after(Instant first, double seconds) {
        return new Stopwatch(first, seconds, begun);
    }

    /** Until now. */
    public double seconds() {
        return earlier + (System.nanoTime() - begun) * 1e-9;
    }
}
