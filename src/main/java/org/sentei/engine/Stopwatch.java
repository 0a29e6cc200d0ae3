package org.sentei.engine;

import java.time.Instant;
import java.time.temporal.ChronoUnit;

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

    /** When the first of the runs started, as reports say it. */
    public String beginning() {
        return started.truncatedTo(ChronoUnit.SECONDS).toString();
    }

    /** Until now, as reports say it: to the millisecond. */
    public double rounded() {
        return Math.round(1000 * seconds()) / 1000.0;
    }

    /** Until now. */
    public double seconds() {
        return earlier + (System.nanoTime() - begun) * 1e-9;
    }
}
