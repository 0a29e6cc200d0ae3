package org.sentei.format;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.LabelledGraph;

/**
 * Reads a labelled graph from a folder of tables, each a CSV file with a line of column names first: {@code nodes.csv}
 * ({@code node,label,split}), {@code edges.csv} ({@code source,target}) and {@code features.csv} or {@code features.csv.gz}
 * ({@code node,feature}, one line for each feature that a node has). Nodes are numbered from 0 without gaps; a split is
 * {@code train}, {@code valid}, {@code test} or {@code other}; in the last a label may be -1, for none.
 */
public final class GraphFolder {
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
            if (row.number(0, CsvTable.MOST) != labels.size()) {
                throw row.wrong("node " + row.field(0) + " stands where " + labels.size()
                        + " should: number the nodes from 0 without gaps");
            }
            splits.add(row.split(2));
            labels.add(label(row, 1, splits.getLast()));
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
            columns.add(row.number(1, CsvTable.MOST));
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

    private static void read(Path file, String header, CsvTable.Reader reader) {
        if (!Files.isRegularFile(file)) {
            throw new FormatException(file + " does not exist: a graph is nodes.csv, edges.csv and features.csv[.gz]");
        }
        CsvTable.read(file, List.of(header), reader);
    }

    /** A label, or -1 for none, which no split that looks at labels may have. */
    private static int label(CsvTable.Row row, int index, Split split) {
        if (!row.field(index).equals("-1")) {
            return row.number(index, CsvTable.MOST);
        }
        if (split != Split.OTHER) {
            throw row.wrong("a node without a label (-1) cannot be in the split "
                    + split.name().toLowerCase(Locale.ROOT) + "; put it in other");
        }
        return -1;
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
