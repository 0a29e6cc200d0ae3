package org.sentei.cli;

import java.io.PrintStream;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;

/** Draws progress on stderr: one line that is redrawn on a terminal, otherwise a line now and then. */
final class ProgressBar implements Progress, AutoCloseable {
    private static final int CELLS = 24;
    private static final long REDRAW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
    private static final long LINE_NANOS = TimeUnit.SECONDS.toNanos(10);

    private final PrintStream err;
    private final boolean interactive;
    private final BooleanSupplier cancelled;
    private final LongSupplier nanos;
    private final String units;
    private final long started;
    private long drawn;
    private int width;
    /** Units of work that need not be done again; negative as long as nothing is kept. */
    private int journaled = -1;

    private boolean any;

    ProgressBar(Terminal terminal, BooleanSupplier cancelled) {
        this(terminal, cancelled, System::nanoTime);
    }

    ProgressBar(Terminal terminal, BooleanSupplier cancelled, LongSupplier nanos) {
        this(terminal, cancelled, nanos, "groups of layers decided");
    }

    /** @param units what a journal counts */
    ProgressBar(Terminal terminal, BooleanSupplier cancelled, String units) {
        this(terminal, cancelled, System::nanoTime, units);
    }

    private ProgressBar(Terminal terminal, BooleanSupplier cancelled, LongSupplier nanos, String units) {
        this.units = units;
        this.err = terminal.err();
        this.interactive = terminal.interactive();
        this.cancelled = cancelled;
        this.nanos = nanos;
        this.started = nanos.getAsLong();
    }

    @Override
    public void advanced(String stage, long done, long total) {
        long now = nanos.getAsLong();
        boolean last = done >= total;
        if (any && !last && now - drawn < (interactive ? REDRAW_NANOS : LINE_NANOS)) {
            return;
        }
        any = true;
        drawn = now;
        double share = total <= 0 ? 0 : Math.clamp((double) done / total, 0, 1);
        String eta = share > 0.02 && !last ? ", " + time((now - started) / 1e9 * (1 / share - 1)) + " left" : "";
        String text = String.format(Locale.ROOT, "%3.0f %%  %s%s", 100 * share, stage, eta);
        if (interactive) {
            int full = (int) Math.round(share * CELLS);
            String line = "━".repeat(full) + "·".repeat(CELLS - full) + " " + text;
            err.print("\r" + line + " ".repeat(Math.max(0, width - line.length())));
            err.flush();
            width = line.length();
        } else {
            err.println(text);
        }
    }

    @Override
    public void resumed(int found) {
        close();
        err.println(
                found == 0
                        ? "there is nothing to resume: starting from the beginning"
                        : "resuming, " + units + " before: " + found);
        journaled = found == 0 ? journaled : found;
    }

    @Override
    public void journaled(int kept) {
        journaled = kept;
    }

    /** A failure of the run, with how to go on from what it leaves where it leaves something. */
    RuntimeException withRemains(RuntimeException failure) {
        return ExitCode.of(failure) == ExitCode.RUN_FAILED && journaled >= 0
                ? new RunException(
                        failure.getMessage() + "; " + units + " and kept: " + journaled
                                + "; the same command with --resume goes on",
                        failure)
                : failure;
    }

    @Override
    public boolean cancelled() {
        return cancelled.getAsBoolean();
    }

    /** Leaves the terminal at the start of an empty line. */
    @Override
    public void close() {
        if (interactive && width > 0) {
            err.print("\r" + " ".repeat(width) + "\r");
            err.flush();
            width = 0;
        }
    }

    private static String time(double seconds) {
        long whole = Math.round(seconds);
        return whole < 90
                ? whole + " s"
                : whole < 5400 ? (whole + 30) / 60 + " min" : whole / 3600 + " h " + whole / 60 % 60 + " min";
    }
}
