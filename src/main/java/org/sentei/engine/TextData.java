package org.sentei.engine;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.sentei.format.FormatException;
import org.sentei.format.JsonFault;
import org.sentei.format.Sha256;

/**
 * Text that calibrates or judges: UTF-8 {@code .txt}, {@code .jsonl} with a field {@code text}, {@code .tsv} with a heading,
 * or a folder of the first two, read in the order of their names.
 *
 * @param source where it came from, for reports
 * @param sha256 hash of the bytes read, in hexadecimal
 * @param text the documents, a blank line between two
 * @param table heading and rows of a {@code .tsv}, otherwise empty
 */
record TextData(String source, String sha256, String text, List<List<String>> table) {
    private static final long MAX_BYTES = 1L << 30;

    /**
     * Reads a file or folder.
     *
     * @throws FormatException when it is missing, damaged or of another kind
     */
    static TextData read(Path path) {
        List<Path> files = List.of(path);
        if (Files.isDirectory(path)) {
            try (Stream<Path> entries = Files.list(path)) {
                files = entries.filter(file ->
                                Files.isRegularFile(file) && extension(file).matches("txt|jsonl"))
                        .sorted()
                        .toList();
            } catch (IOException e) {
                throw new FormatException("data folder " + path + " cannot be read: " + e.getMessage(), e);
            }
            if (files.isEmpty()) {
                throw new FormatException("data folder " + path + " holds no .txt or .jsonl file");
            }
        } else if (!Files.isRegularFile(path)) {
            throw new FormatException(
                    "data " + path + " does not exist; give a .txt, .jsonl or .tsv file, or a folder");
        }
        Sha256 hash = new Sha256();
        List<String> documents = new ArrayList<>();
        List<List<String>> table = List.of();
        for (Path file : files) {
            byte[] bytes = bytes(file);
            hash.add(bytes);
            String content = withoutMark(decode(file.toString(), bytes));
            switch (extension(file)) {
                case "txt" -> documents.add(content);
                case "jsonl" -> documents.addAll(jsonLines(file, content));
                case "tsv" -> table = table(file, content);
                default ->
                    throw new FormatException("data " + file + " has an unknown ending; give .txt, .jsonl or .tsv");
            }
        }
        return new TextData(path.toString(), hash.hex(), String.join("\n\n", documents), table);
    }

    /**
     * The column of a table with this heading, top to bottom.
     *
     * @throws FormatException when there is none
     */
    List<String> column(String heading) {
        int index = table.isEmpty() ? -1 : table.getFirst().indexOf(heading);
        if (index < 0) {
            throw new FormatException("data " + source + " has no column " + heading);
        }
        return table.stream().skip(1).map(row -> row.get(index)).toList();
    }

    /**
     * Cuts tokens into consecutive windows; the last partial one is dropped.
     *
     * @throws FormatException when there are fewer than {@code samples} windows
     */
    List<int[]> windows(int[] tokens, int samples, int length) {
        if (tokens.length / length < samples) {
            throw new FormatException("calibration data " + source + " is too short: its " + tokens.length
                    + " tokens give " + tokens.length / length + " windows of " + length + ", the recipe wants "
                    + samples + "; give more text, or lower calibration.samples or calibration.length");
        }
        List<int[]> windows = new ArrayList<>();
        for (int i = 0; i < samples; i++) {
            windows.add(Arrays.copyOfRange(tokens, i * length, (i + 1) * length));
        }
        return windows;
    }

    private static byte[] bytes(Path file) {
        try {
            if (Files.size(file) > MAX_BYTES) {
                throw new FormatException(
                        "data " + file + " is larger than " + MAX_BYTES + " bytes; give a part of it");
            }
            return Files.readAllBytes(file);
        } catch (IOException e) {
            throw new FormatException("data " + file + " cannot be read: " + e.getMessage(), e);
        }
    }

    private static String decode(String name, byte[] bytes) {
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(bytes))
                    .toString();
        } catch (CharacterCodingException e) {
            throw new FormatException("data " + name + " is no UTF-8 text; convert it, or give another file", e);
        }
    }

    /** Some editors begin UTF-8 files with a byte order mark, which is no part of the text. */
    private static String withoutMark(String content) {
        return content.startsWith("\uFEFF") ? content.substring(1) : content;
    }

    private static List<String> jsonLines(Path file, String content) {
        ObjectMapper mapper = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);
        List<String> documents = new ArrayList<>();
        int number = 0;
        for (String line : (Iterable<String>) content.lines()::iterator) {
            number++;
            if (line.isBlank()) {
                continue;
            }
            try {
                JsonNode text = mapper.readTree(line).path("text");
                if (!text.isTextual()) {
                    throw new FormatException("data " + file + " line " + number + " has no text in a field text");
                }
                documents.add(text.textValue());
            } catch (JsonProcessingException e) {
                throw new FormatException(
                        "data " + file + " line " + number + " is no JSON (" + JsonFault.of(e) + "); correct it", e);
            }
        }
        return documents;
    }

    private static List<List<String>> table(Path file, String content) {
        List<List<String>> rows = new ArrayList<>();
        for (String line : (Iterable<String>) content.lines()::iterator) {
            if (line.isEmpty()) {
                continue;
            }
            List<String> row = List.of(line.split("\t", -1));
            if (!rows.isEmpty() && row.size() != rows.getFirst().size()) {
                throw new FormatException("data " + file + " row " + (rows.size() + 1) + " has " + row.size()
                        + " columns, the heading " + rows.getFirst().size());
            }
            rows.add(row);
        }
        if (rows.size() < 2) {
            throw new FormatException("data " + file + " has no rows under a heading");
        }
        return rows;
    }

    private static String extension(Path file) {
        String name = file.getFileName().toString();
        return name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT);
    }
}
