package org.sentei.fuzz;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Damaged files of every kind end in success or in one clear refusal: within five seconds, within the size of the file and
 * 256 MiB of memory, and with the process alive. A short run by default; docs/fuzzing.md has the long one.
 */
class FuzzTest {
    private static final long SEED = Long.getLong("fuzz.seed", 1);
    private static final long INPUTS = Long.getLong("fuzz.inputs", 800);
    private static final String ONE_FORMAT = System.getProperty("fuzz.format");
    private static final Long ONE_CASE = Long.getLong("fuzz.case");
    /** Enough to see what is wrong; every one costs a new process if it kills the old. */
    private static final int MOST_FAILURES = Integer.getInteger("fuzz.failures", 20);

    private static final long SHORT_RUN = 1000;

    /** Formats that are worked on at once. */
    private static final int PROCESSES = Integer.getInteger("fuzz.processes", 2);

    @TempDir
    private Path folder;

    /** What came of the cases of one format. */
    private static final class Tally {
        private final Map<String, Integer> outcomes = new TreeMap<>();
        private final List<String> failures = new ArrayList<>();
        private long cases;
        private long slowest;
        private long slowestMicros;
        private long widest;
        private long widestBytes;
        private long next;

        void add(String[] result) {
            cases++;
            outcomes.merge(result[2], 1, Integer::sum);
            long number = Long.parseLong(result[1]);
            next = number + 1;
            if (Long.parseLong(result[3]) > slowestMicros) {
                slowestMicros = Long.parseLong(result[3]);
                slowest = number;
            }
            long bytes = Math.max(Long.parseLong(result[4]), Long.parseLong(result[5]));
            if (bytes > widestBytes) {
                widestBytes = bytes;
                widest = number;
            }
        }
    }

    @Test
    @Timeout(value = 6, unit = TimeUnit.HOURS)
    void damagedFilesEndInSuccessOrOneClearRefusal() throws InterruptedException, ExecutionException {
        List<FuzzFormat> formats = Stream.of(FuzzFormat.values())
                .filter(format -> ONE_FORMAT == null || format.equals(FuzzFormat.of(ONE_FORMAT)))
                .toList();
        List<Future<Tally>> running = new ArrayList<>();
        try (ExecutorService processes = Executors.newFixedThreadPool(PROCESSES)) {
            formats.forEach(format -> running.add(processes.submit(() -> run(format))));
        }
        List<String> failures = new ArrayList<>();
        StringBuilder summary = new StringBuilder("fuzz seed " + SEED + "\n");
        long total = 0;
        for (int i = 0; i < running.size(); i++) {
            Tally tally = running.get(i).get();
            total += tally.cases;
            summary.append(String.format(
                    "%-12s %7d cases  %s; slowest %d ms (case %d), widest %d KiB (case %d), %d failed%n",
                    formats.get(i).label(),
                    tally.cases,
                    tally.outcomes,
                    tally.slowestMicros / 1000,
                    tally.slowest,
                    tally.widestBytes / 1024,
                    tally.widest,
                    tally.failures.size()));
            failures.addAll(tally.failures);
        }
        summary.append(String.format("in all %d cases, %d failed%n", total, failures.size()));
        System.out.print(summary);
        assertThat(failures).as(summary.toString()).isEmpty();
        assertThat(total).isPositive();
    }

    private Tally run(FuzzFormat format) throws IOException, InterruptedException {
        Tally tally = new Tally();
        long end = ONE_CASE == null ? format.cases(INPUTS) : ONE_CASE + 1;
        tally.next = ONE_CASE == null ? 0 : ONE_CASE;
        while (tally.next < end && tally.failures.size() < MOST_FAILURES) {
            long first = tally.next;
            if (!work(format, end, tally)) {
                continue;
            }
            assertThat(tally.next).isGreaterThan(first);
        }
        return tally;
    }

    /** Lets one process work until it is done or dies; a case that killed it is a failure, and the next comes after it. */
    private boolean work(FuzzFormat format, long end, Tally tally) throws IOException, InterruptedException {
        Path space = Files.createTempDirectory(folder, "run");
        Path errors = space.resolve("errors.txt");
        Process process = new ProcessBuilder(command(format, tally.next, end, space))
                .redirectError(errors.toFile())
                .start();
        boolean ended = false;
        boolean told = false;
        try (BufferedReader lines = process.inputReader(StandardCharsets.UTF_8)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                ended |= line.equals("E");
                told = false;
                if (line.startsWith("R ")) {
                    tally.add(line.split(" "));
                } else if (line.startsWith("F ")) {
                    String[] failure = line.split(" ", 3);
                    long number = Long.parseLong(failure[1]);
                    tally.cases++;
                    tally.next = number + 1;
                    told = true;
                    fail(format, number, failure[2], space, tally);
                    if (tally.failures.size() >= MOST_FAILURES) {
                        process.destroyForcibly();
                    }
                }
            }
        }
        int code = process.waitFor();
        if (!ended && !told) {
            long number = tally.next++;
            tally.cases++;
            String said = tail(errors);
            fail(format, number, "ends the process with code " + code + ": " + said, space, tally);
        }
        return ended;
    }

    private static String tail(Path errors) throws IOException {
        try (Stream<String> lines = Files.lines(errors, StandardCharsets.ISO_8859_1)) {
            List<String> all = lines.filter(line -> !line.isBlank()).limit(400).toList();
            return String.join(" | ", all.subList(0, Math.min(12, all.size())));
        }
    }

    private static void fail(FuzzFormat format, long number, String what, Path space, Tally tally) throws IOException {
        Path kept = Path.of("target", "fuzz", format.label() + "-" + SEED + "-" + number);
        Files.createDirectories(kept);
        Path input = space.resolve(format.label());
        if (Files.exists(input)) {
            try (Stream<Path> files = Files.walk(input)) {
                for (Path file : files.filter(Files::isRegularFile).toList()) {
                    Path copy = kept.resolve(input.relativize(file).toString());
                    Files.createDirectories(copy.getParent());
                    Files.write(copy, Files.readAllBytes(file));
                }
            }
        }
        String again = "mvn -o test -Dtest=FuzzTest -Dfuzz.seed=" + SEED + " -Dfuzz.format=" + format.label()
                + " -Dfuzz.case=" + number;
        String failure = format.label() + " seed " + SEED + " case " + number + " " + what + "\n  again: " + again;
        System.out.println(failure);
        tally.failures.add(failure);
    }

    private static List<String> command(FuzzFormat format, long first, long end, Path space) {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-Xms512m",
                "-Xmx512m",
                "-XX:+AlwaysPreTouch",
                "-XX:+UseSerialGC",
                // a short run ends before the better compiler pays
                "-XX:TieredStopAtLevel=" + (end - first < SHORT_RUN ? 1 : 4),
                "-XX:-CreateCoredumpOnCrash",
                "-XX:ErrorFile=target/fuzz-%p.log",
                "-cp",
                System.getProperty("java.class.path")));
        command.addAll(List.of(
                FuzzWorker.class.getName(),
                format.label(),
                Long.toString(SEED),
                Long.toString(first),
                Long.toString(end),
                space.toString()));
        return command;
    }
}
