package org.sentei.format;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.zip.GZIPInputStream;
import org.sentei.model.LabelledExamples.Split;

/** A CSV file of numbers and words without quotes, packed if its name ends with {@code .gz}, read line by line. */
final class CsvTable {
    /** Lines of a table, and values of its numbers, at most: what fits in memory with room to spare. */
    static final int MOST = 1 << 26;

    private static final int LONGEST_LINE = 1 << 12;

    private CsvTable() {}

    /** What is done with a line of a table. */
    @FunctionalInterface
    interface Reader {
        void read(Row row);
    }

    /**
     * Reads a table whose first line names the columns.
     *
     * @param headers one of which the first line must be
     */
    static void read(Path file, List<String> headers, Reader reader) {
        try (InputStream raw = Files.newInputStream(file);
                InputStream in = file.toString().endsWith(".gz") ? new GZIPInputStream(raw) : raw;
                BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
            String header = line(lines, file, 1);
            if (header == null || !headers.contains(header)) {
                throw new FormatException(file + " begins with " + (header == null ? "nothing" : "\"" + header + "\"")
                        + ": its first line must be " + String.join(" or ", headers));
            }
            read(lines, file, 2, header.split(",", -1).length, reader);
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    /** Reads a table that has no names of columns but so many of them. */
    static void read(Path file, int columns, Reader reader) {
        try (BufferedReader lines =
                new BufferedReader(new InputStreamReader(Files.newInputStream(file), StandardCharsets.UTF_8))) {
            read(lines, file, 1, columns, reader);
        } catch (IOException e) {
            throw unreadable(file, e);
        }
    }

    private static FormatException unreadable(Path file, IOException e) {
        return new FormatException(file + " cannot be read (" + e.getMessage() + "): give an undamaged file", e);
    }

    private static void read(BufferedReader lines, Path file, int first, int columns, Reader reader)
            throws IOException {
        int number = first;
        for (String line = line(lines, file, number); line != null; line = line(lines, file, number)) {
            Row row = new Row(file, number, line.split(",", -1));
            if (row.fields.length != columns) {
                throw row.wrong("it has " + row.fields.length + " fields, not " + columns);
            }
            reader.read(row);
            number++;
        }
    }

    /** Like readLine, but a file without line ends fills no memory. */
    private static String line(BufferedReader lines, Path file, int number) throws IOException {
        StringBuilder line = new StringBuilder();
        int next = lines.read();
        if (next < 0) {
            return null;
        }
        while (next >= 0 && next != '\n') {
            line.append((char) next);
            if (line.length() > LONGEST_LINE || number > MOST) {
                throw new FormatException(file + ", line " + number + ": it is longer than a table's line can be");
            }
            next = lines.read();
        }
        if (!line.isEmpty() && line.charAt(line.length() - 1) == '\r') {
            line.setLength(line.length() - 1);
        }
        return line.toString();
    }

    /** A line of a table. */
    static final class Row {
        private final Path file;
        private final int number;
        private final String[] fields;

        private Row(Path file, int number, String[] fields) {
            this.file = file;
            this.number = number;
            this.fields = fields;
        }

        FormatException wrong(String fact) {
            return new FormatException(file + ", line " + number + ": " + fact);
        }

        int columns() {
            return fields.length;
        }

        String field(int index) {
            return fields[index];
        }

        /** A number from 0 to below a bound. */
        int number(int index, int bound) {
            String field = fields[index];
            if (field.isEmpty()) {
                throw wrong("field " + (index + 1) + " is empty; give a number from 0");
            }
            int value = 0;
            for (int i = 0; i < field.length(); i++) {
                int digit = field.charAt(i) - '0';
                if (digit < 0 || digit > 9 || value > (bound - 1 - digit) / 10) {
                    throw wrong("\"" + field + "\" is no number from 0 to " + (bound - 1));
                }
                value = 10 * value + digit;
            }
            return value;
        }

        /** A finite number. */
        float coordinate(int index) {
            String field = fields[index].strip();
            float value;
            try {
                value = Float.parseFloat(field);
            } catch (NumberFormatException e) {
                value = Float.NaN;
            }
            if (!Float.isFinite(value)) {
                throw wrong("\"" + field + "\" is no coordinate; give a finite decimal number");
            }
            return value;
        }

        Split split(int index) {
            for (Split split : Split.values()) {
                if (split.name().toLowerCase(Locale.ROOT).equals(fields[index])) {
                    return split;
                }
            }
            throw wrong("\"" + fields[index] + "\" is no split; there are train, valid, test and other");
        }
    }
}
