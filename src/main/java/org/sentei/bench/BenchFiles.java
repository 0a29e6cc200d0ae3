package org.sentei.bench;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.sentei.format.FormatException;
import org.sentei.format.PendingFile;

/** Results on disk: {@code bench.json}, {@code bench.csv} and {@code roofline.svg} in one folder. */
public final class BenchFiles {
    private static final String JSON = "bench.json";
    private static final long LARGEST = 64 << 20;

    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
            .build();

    private BenchFiles() {}

    /**
     * Makes the folder, so that a wrong name is found before anything is timed.
     *
     * @throws FormatException when it cannot be made or written to
     */
    public static void open(Path folder) {
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw refused(folder, e);
        }
        if (!Files.isWritable(folder)) {
            throw new FormatException("folder " + folder + " cannot be written to: choose another with --out");
        }
    }

    /**
     * Writes the three files; each appears whole or not at all.
     *
     * @throws FormatException when the folder does not take them
     */
    public static void write(Path folder, BenchReport report) {
        try {
            PendingFile.write(folder.resolve(JSON), MAPPER.writeValueAsString(report) + "\n");
            PendingFile.write(folder.resolve("bench.csv"), csv(report));
            PendingFile.write(folder.resolve("roofline.svg"), Roofline.draw(report));
        } catch (IOException e) {
            throw refused(folder, e);
        }
    }

    private static FormatException refused(Path folder, IOException cause) {
        return new FormatException(
                "folder " + folder + " does not take the results (" + cause + "): choose another with --out", cause);
    }

    /**
     * Reads a result again.
     *
     * @param path a {@code bench.json}, whatever its name, or the folder that holds it
     * @throws FormatException when it is not there or holds something else
     */
    public static BenchReport read(Path path) {
        Path file = Files.isDirectory(path) ? path.resolve(JSON) : path;
        try {
            if (Files.size(file) > LARGEST) {
                throw new FormatException(file + " is too large for a result of sentei bench");
            }
            BenchReport report = MAPPER.readValue(Files.readString(file), BenchReport.class);
            check(file, report);
            return report;
        } catch (JacksonException e) {
            throw new FormatException(
                    file + " is no result of this version's sentei bench: " + e.getOriginalMessage(), e);
        } catch (IOException e) {
            throw new FormatException(
                    file + " cannot be read (" + e + "): name a bench.json, or a folder that sentei bench --out wrote",
                    e);
        }
    }

    private static void check(Path file, BenchReport report) {
        boolean whole = report != null
                && report.backends() != null
                && report.results() != null
                && report.failures() != null
                && report.backends().stream().allMatch(Objects::nonNull)
                && report.results().stream()
                        .allMatch(result -> result != null
                                && result.op() != null
                                && result.label() != null
                                && result.backend() != null
                                && result.time() > 0
                                && (result.error() == null || result.error() >= 0));
        if (!whole) {
            throw new FormatException(file + " is no result of sentei bench: it lacks backends, cases or times");
        }
    }

    private static String csv(BenchReport report) {
        Stream<List<Object>> rows = report.results().stream()
                .map(result -> Stream.of(
                                result.op(),
                                quoted(result.label()),
                                result.backend(),
                                result.time(),
                                result.error(),
                                result.samples(),
                                result.bytesRead(),
                                result.bytesWritten(),
                                result.operations(),
                                result.bandwidth(),
                                result.operationRate(),
                                result.ceilingPercent(),
                                result.limit())
                        .map(cell -> (Object) Objects.requireNonNullElse(cell, ""))
                        .toList());
        List<Object> heading = List.of(
                "op",
                "case",
                "backend",
                "time",
                "error",
                "samples",
                "bytes_read",
                "bytes_written",
                "operations",
                "bandwidth",
                "operation_rate",
                "ceiling_percent",
                "limit");
        return Stream.concat(Stream.of(heading), rows)
                .map(row -> row.stream().map(Object::toString).collect(Collectors.joining(",", "", "\n")))
                .collect(Collectors.joining());
    }

    private static String quoted(String text) {
        return "\"" + text.replace("\"", "\"\"") + "\"";
    }
}
