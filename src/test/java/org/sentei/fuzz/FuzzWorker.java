package org.sentei.fuzz;

import com.sun.management.OperatingSystemMXBean;
import com.sun.management.ThreadMXBean;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.sentei.engine.RunException;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.kernel.DeviceException;
import org.sentei.model.ModelException;

/**
 * Runs cases in a process of its own, which native code may bring down; {@link FuzzTest} starts it and reads what it prints:
 * {@code R case outcome micros heap native} for a case that went as it must, {@code F case what} for one that did not.
 */
final class FuzzWorker {
    /** Longest that one case may compute; the clock may say more where others compute too. */
    private static final long CPU_MILLIS = 5000;

    private static final long CLOCK_MILLIS = 60_000;

    /** What a case may allocate beyond the size of its files. */
    private static final long ALLOWANCE_BYTES = 256L << 20;

    private static final int HANG = 97;

    private static final Path STATUS = Path.of("/proc/self/status");
    private static final Path CLEAR = Path.of("/proc/self/clear_refs");

    private final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    private final OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private final PrintStream out;
    private volatile long startedMillis;
    private volatile long startedCpu;
    private volatile long current;

    private FuzzWorker(PrintStream out) {
        this.out = out;
    }

    /** Arguments: format, seed, first case, end of cases, folder. */
    public static void main(String[] args) throws IOException {
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "off");
        FuzzWorker worker = new FuzzWorker(out);
        Thread runner = Thread.currentThread();
        Thread watchdog = new Thread(() -> worker.watch(runner), "watchdog");
        watchdog.setDaemon(true);
        watchdog.start();
        FuzzFormat format = FuzzFormat.of(args[0]);
        worker.run(
                format,
                Long.parseLong(args[1]),
                Long.parseLong(args[2]),
                Long.parseLong(args[3]),
                Path.of(args[4]).resolve(format.label()));
        out.println("E");
    }

    private void watch(Thread runner) {
        while (true) {
            long started = startedMillis;
            long computed = (system.getProcessCpuTime() - startedCpu) / 1_000_000;
            long elapsed = System.currentTimeMillis() - started;
            if (started != 0 && (computed > CPU_MILLIS || elapsed > CLOCK_MILLIS)) {
                StringBuilder stack = new StringBuilder();
                Arrays.stream(runner.getStackTrace())
                        .limit(12)
                        .forEach(frame -> stack.append(" at ").append(frame));
                fail(current, "has taken " + computed + " ms of " + elapsed + " and goes on:" + stack);
                Runtime.getRuntime().halt(HANG);
            }
            try {
                Thread.sleep(50);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private void run(FuzzFormat format, long seed, long first, long end, Path folder) throws IOException {
        FuzzTarget target = format.target();
        for (long number = first; number < end; number++) {
            SplittableRandom random =
                    new SplittableRandom(mix(seed * 31 + format.label().hashCode(), number));
            FuzzTarget.Case made = target.make(random, folder);
            current = number;
            one(number, made);
        }
    }

    private static long mix(long seed, long number) {
        return new SplittableRandom(seed).nextLong() ^ new SplittableRandom(number).nextLong();
    }

    private void one(long number, FuzzTarget.Case made) throws IOException {
        long size = FuzzTarget.bytes(made.input());
        long resident = resident("VmRSS:");
        forgetPeak();
        long heap = threads.getTotalThreadAllocatedBytes();
        long clock = System.nanoTime();
        startedCpu = system.getProcessCpuTime();
        startedMillis = System.currentTimeMillis();
        Throwable thrown = null;
        try {
            made.use().run();
        } catch (Throwable failure) {
            thrown = failure;
        }
        startedMillis = 0;
        long micros = (System.nanoTime() - clock) / 1000;
        long allocated = threads.getTotalThreadAllocatedBytes() - heap;
        long grown = resident("VmHWM:") - resident;
        String wrong = wrong(thrown, made, size, allocated, grown);
        if (wrong == null) {
            out.println("R " + number + " "
                    + (thrown == null ? "accepted" : thrown.getClass().getSimpleName()) + " " + micros + " " + allocated
                    + " " + Math.max(0, grown));
        } else {
            fail(number, wrong);
        }
    }

    private static String wrong(Throwable thrown, FuzzTarget.Case made, long size, long allocated, long grown) {
        if (allocated > size + ALLOWANCE_BYTES || grown > size + ALLOWANCE_BYTES) {
            return "allocates " + allocated + " bytes of heap and " + grown + " others for " + size + " bytes of input";
        }
        if (thrown == null) {
            return null;
        }
        boolean typed = switch (thrown) {
            case FormatException format -> true;
            case ModelException model -> true;
            case RecipeException recipe -> true;
            case RunException run -> true;
            case DeviceException device -> device.kind() != DeviceException.Kind.INTERNAL;
            default -> false;
        };
        if (!typed) {
            StringBuilder stack = new StringBuilder(thrown.toString());
            Arrays.stream(thrown.getStackTrace())
                    .limit(10)
                    .forEach(frame -> stack.append(" at ").append(frame));
            return "ends in " + stack;
        }
        String message = thrown.getMessage();
        if (message == null || message.isBlank() || message.chars().anyMatch(Character::isISOControl)) {
            return "is refused with a message that is no line of text: " + message;
        }
        if (message.length() > 4000) {
            return "is refused with a message of " + message.length() + " characters: " + message.substring(0, 300);
        }
        if (message.matches(".*(com\\.fasterxml|com\\.google|java\\.(lang|util)|StreamReadConstraints|JsonToken|"
                + "VALUE_[A-Z]+|START_[A-Z]+|through reference chain).*")) {
            return "is refused in the words of a library: " + message;
        }
        return made.subjects().stream().anyMatch(message::contains)
                ? null
                : "is refused without naming a subject: " + message;
    }

    private void fail(long number, String what) {
        out.println("F " + number + " " + what.replaceAll("\\p{Cntrl}", "?"));
    }

    private static long resident(String key) throws IOException {
        if (!Files.isReadable(STATUS)) {
            return 0;
        }
        for (String line : Files.readAllLines(STATUS)) {
            if (line.startsWith(key)) {
                return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
            }
        }
        return 0;
    }

    /** Lets the kernel count the peak of resident memory anew. */
    private static void forgetPeak() throws IOException {
        if (Files.isWritable(CLEAR)) {
            Files.writeString(CLEAR, "5");
        }
    }
}
