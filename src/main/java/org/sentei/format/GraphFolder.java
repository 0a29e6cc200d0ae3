package org.sentei.format;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.zip.GZIPInputStream;
import org.sentei.model.LabelledGraph;
import org.sentei.model.LabelledGraph.Split;

/**
 * Reads a labelled graph from a folder of tables, each a CSV file with a line of column names first: {@code nodes.csv}
 * ({@code node,label,split}), {@code edges.csv} ({@code source,target}) and {@code features.csv} or {@code features.csv.gz}
 * ({@code node,feature}, one line for each feature that a node has). Nodes are numbered from 0 without gaps; a split is
 * {@code train}, {@code valid}, {@code test} or {@code other}; in the last a label may be -1, for none.
 */
public final class GraphFolder {
    /** Nodes, features and lines of a table at most: what fits in memory with room to spare. */
    private static final int MOST = 1 << 26;

    private static final int LONGEST_LINE = 1 << 10;

    private GraphFolder() {}

    /** Whether a folder holds such tables. */
    public static boolean isOne(Path folder) {
        return Files.isRegularFile(folder.resolve("nodes.csv")) && Files.isRegularFile(folder.resolve("edges.csv"));
    }

    /**
     * Reads the graph of a folder.
     *
     * @throws FormatException when a table is missing or a line in it is wrong; it names file, line and fact
     */
    public static LabelledGraph read(Path folder) {
        Path nodes = folder.resolve("nodes.csv");
        List<Integer> labels = new ArrayList<>();
        List<Split> splits = new ArrayList<>();
        read(nodes, "node,label,split", row -> {
            if (row.number(0, MOST) != labels.size()) {
                throw row.wrong("node " + row.field(0) + " stands where " + labels.size()
                        + " should: number the nodes from 0 without gaps");
            }
            splits.add(row.split(2));
            labels.add(row.label(1, splits.getLast()));
        });
        int count = labels.size();
        if (count == 0) {
            throw new FormatException(nodes + " has no nodes: give one line a node below the column names");
        }
        Numbers sources = new Numbers();
        Numbers targets = new Numbers();
        read(folder.resolve("edges.csv"), "source,target", row -> {
            sources.add(row.number(0, count));
            targets.add(row.number(1, count));
        });
        Path packed = folder.resolve("features.csv.gz");
        Path features = Files.exists(packed) ? packed : folder.resolve("features.csv");
        Numbers owners = new Numbers();
        Numbers columns = new Numbers();
        read(features, "node,feature", row -> {
            owners.add(row.number(0, count));
            columns.add(row.number(1, MOST));
        });
        if (owners.size == 0) {
            throw new FormatException(features + " has no features: give one line for each feature that a node has");
        }
        long[] starts = new long[count + 1];
        for (int i = 0; i < owners.size; i++) {
            starts[owners.values[i] + 1]++;
        }
        for (int node = 0; node < count; node++) {
            starts[node + 1] += starts[node];
        }
        long[] next = starts.clone();
        int[] sorted = new int[owners.size];
        for (int i = 0; i < owners.size; i++) {
            sorted[(int) next[owners.values[i]]++] = columns.values[i];
        }
        LabelledGraph graph = new LabelledGraph(
                columns.largest() + 1,
                labels.stream().mapToInt(Integer::intValue).max().orElseThrow() + 1,
                sources.toArray(),
                targets.toArray(),
                starts,
                sorted,
                labels.stream().mapToInt(Integer::intValue).toArray(),
                splits.toArray(Split[]::new));
        for (Split split : List.of(Split.TRAIN, Split.TEST)) {
            if (graph.members(split).length == 0) {
                throw new FormatException(nodes + " has no node of the split "
                        + split.name().toLowerCase(Locale.ROOT) + ": training needs some of train and of test");
            }
        }
        return graph;
    }

    /** What is done with a line of a table. */
    @FunctionalInterface
    private interface Reader {
        void read(Row row);
    }

    private static void read(Path file, String header, Reader reader) {
        if (!Files.isRegularFile(file)) {
            throw new FormatException(file + " does not exist: a graph is nodes.csv, edges.csv and features.csv[.gz]");
        }
        String[] names = header.split(",", -1);
        try (InputStream raw = Files.newInputStream(file);
                InputStream in = file.toString().endsWith(".gz") ? new GZIPInputStream(raw) : raw;
                BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
            String line = line(lines, file, 1);
            if (!header.equals(line)) {
                throw new FormatException(file + " begins with " + (line == null ? "nothing" : "\"" + line + "\"")
                        + ": its first line must be " + header);
            }
            for (int number = 2; (line = line(lines, file, number)) != null; number++) {
                String[] fields = line.split(",", -1);
                Row row = new Row(file, number, fields);
                if (fields.length != names.length) {
                    throw row.wrong("it has " + fields.length + " fields, not " + names.length + " (" + header + ")");
                }
                reader.read(row);
            }
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read (" + e.getMessage() + "): give an undamaged file", e);
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
    private static final class Row {
        private final Path file;
        private final int number;
        private final String[] fields;

        Row(Path file, int number, String[] fields) {
            this.file = file;
            this.number = number;
            this.fields = fields;
        }

        FormatException wrong(String fact) {
            return new FormatException(file + ", line " + number + ": " + fact);
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

        /** A label, or -1 for none, which no split that looks at labels may have. */
        int label(int index, Split split) {
            if (!fields[index].equals("-1")) {
                return number(index, MOST);
            }
            if (split != Split.OTHER) {
                throw wrong("a node without a label (-1) cannot be in the split "
                        + split.name().toLowerCase(Locale.ROOT) + "; put it in other");
            }
            return -1;
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

    /** Numbers without a box around each. */
    private static final class Numbers {
        private int[] values = new int[1 << 10];
        private int size;

        void add(int value) {
            if (size == values.length) {
                values = Arrays.copyOf(values, 2 * size);
            }
            values[size++] = value;
        }

        int[] toArray() {
            return Arrays.copyOf(values, size);
        }

        int largest() {
            return Arrays.stream(values, 0, size).max().orElseThrow();
        }
    }
}
