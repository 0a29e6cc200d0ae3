package org.sentei.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.OptionalInt;
import java.util.stream.Stream;
import org.sentei.format.FormatException;

/**
 * What a batch does, one JSON object a line: for monitoring, and for a later run to know what is done. Lines are appended
 * whole; one that a kill has cut short is passed over.
 */
final class BatchLog implements AutoCloseable {
    private static final long MAX_BYTES = 1L << 30;
    private static final ObjectMapper MAPPER = new ObjectMapper();

    private final Path file;
    private final FileChannel channel;
    private final Terminal terminal;
    /** Hashes of jobs that began to fill a free output and did not fail since, with those of their recipes. */
    private final Map<String, String> begun = new HashMap<>();

    private boolean broken;

    private BatchLog(Path file, FileChannel channel, Terminal terminal) {
        this.file = file;
        this.channel = channel;
        this.terminal = terminal;
    }

    /**
     * Opens the log and reads what is there.
     *
     * @throws FormatException when it cannot be read or written, or another batch writes to it
     */
    static BatchLog open(Path file, Terminal terminal) {
        try {
            FileChannel channel = FileChannel.open(
                    file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
            try {
                if (!locked(channel)) {
                    throw new FormatException("log " + file
                            + " is that of a batch that runs: wait until it has ended, or name another with --log");
                }
                BatchLog log = new BatchLog(file, channel, terminal);
                log.read();
                return log;
            } catch (IOException | RuntimeException e) {
                channel.close();
                throw e;
            }
        } catch (IOException e) {
            throw new FormatException(
                    "log " + file + " cannot be written (" + e + "): name another place with --log", e);
        }
    }

    private static boolean locked(FileChannel channel) throws IOException {
        try {
            return channel.tryLock() != null;
        } catch (OverlappingFileLockException sameProcess) {
            return false;
        }
    }

    private void read() throws IOException {
        long size = channel.size();
        if (size > MAX_BYTES) {
            throw new FormatException(
                    "log " + file + " has grown to " + size + " bytes: remove it, or name another with --log");
        }
        try (BufferedReader reader =
                new BufferedReader(new InputStreamReader(Files.newInputStream(file), StandardCharsets.UTF_8))) {
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                read(line);
            }
        }
        channel.position(size);
        ByteBuffer last = ByteBuffer.allocate(1);
        if (size > 0 && channel.read(last, size - 1) == 1 && last.get(0) != '\n') {
            append("\n");
        }
    }

    private void read(String line) {
        JsonNode event;
        try {
            event = MAPPER.readTree(line);
        } catch (JsonProcessingException cutShort) {
            return;
        }
        String job = event.path("job").asText();
        switch (event.path("event").asText()) {
            case "started" -> {
                if (event.path("free").asBoolean()) {
                    begun.put(job, event.path("recipe").asText());
                }
            }
            case "ended" -> {
                int code = event.path("result").path("exit_code").asInt(ExitCode.BUG);
                if (code != ExitCode.OK && code != ExitCode.GATE) {
                    begun.remove(job);
                }
            }
            default -> {} // for monitoring alone
        }
    }

    /**
     * The exit code of a job that an earlier batch has finished, empty when it is still to be done: its output, which was
     * free when the job began, is complete.
     */
    OptionalInt finished(BatchJob job) {
        if (!begun.containsKey(job.id())) {
            return OptionalInt.empty();
        }
        if (isComplete(job.out())) {
            return OptionalInt.of(ExitCode.OK);
        }
        return isComplete(job.out().resolve("rejected")) ? OptionalInt.of(ExitCode.GATE) : OptionalInt.empty();
    }

    /** Whether the recipe of a job that is {@link #finished} says something else by now. */
    boolean hadAnotherRecipe(BatchJob job) {
        String before = begun.getOrDefault(job.id(), "");
        return !before.isEmpty() && !before.equals(job.recipeSha256());
    }

    private static boolean isComplete(Path output) {
        return Files.isRegularFile(output.resolve("report.json"));
    }

    record Started(
            String time,
            String event,
            int line,
            String job,
            String recipe,
            String model,
            String out,
            int device,
            boolean free) {}

    void started(BatchJob job, int device) {
        write(new Started(
                now(),
                "started",
                job.line(),
                job.id(),
                job.recipeSha256(),
                job.model(),
                job.out().toString(),
                device,
                isFree(job.out())));
    }

    private static boolean isFree(Path output) {
        if (!Files.isDirectory(output)) {
            return !Files.exists(output);
        }
        try (Stream<Path> content = Files.list(output)) {
            return content.findAny().isEmpty();
        } catch (IOException unreadable) {
            return false;
        }
    }

    record Advanced(String time, String event, int line, String stage, long done, long total) {}

    void advanced(BatchJob job, String stage, long done, long total) {
        write(new Advanced(now(), "progress", job.line(), stage, done, total));
    }

    record Ended(String time, String event, String job, BatchSummary.Job result) {}

    void ended(BatchJob job, BatchSummary.Job result) {
        write(new Ended(now(), "ended", job.id(), result));
    }

    record Summarized(String time, String event, BatchSummary.Counts counts) {}

    /** Appends the last line of a batch. */
    void summary(BatchSummary summary) {
        write(new Summarized(now(), "summary", summary.counts()));
    }

    private static String now() {
        return Instant.now().toString();
    }

    private synchronized void write(Record event) {
        if (broken) {
            return;
        }
        try {
            append(Json.line(event) + "\n");
        } catch (IOException e) {
            broken = true;
            terminal.err().println("warning: log " + file + " ends here, it cannot be written: " + e);
        }
    }

    private void append(String text) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }

    @Override
    public void close() {
        try {
            channel.close();
        } catch (IOException e) {
            terminal.err().println("warning: log " + file + " cannot be closed: " + e);
        }
    }
}
