package org.sentei.format;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.LabelledGraph;

/**
 * Reads the nouns of WordNet as a labelled graph, from the {@code data.noun} of its database (wndb(5WN)): a node is a synset, its
 * label the lexicographer's file it comes from (animals, food, ...), an edge a pointer between two nouns, and features are
 * the words of its gloss that are in at least {@link #USES} glosses.
 *
 * <p>Of each label {@value #TRAIN} nodes train, then {@value #VALID} choose and {@value #TEST} judge, drawn from one fixed seed.
 */
public final class WordNetFolder {
    /** Nodes of each label that train. */
    public static final int TRAIN = 20;

    /** Nodes that choose. */
    public static final int VALID = 1000;

    /** Nodes that judge. */
    public static final int TEST = 5000;

    /** Glosses that a word must be in to be a feature. */
    public static final int USES = 50;

    private static final String FILE = "data.noun";
    private static final int LARGEST_FILE = 1 << 26;
    private static final long SEED = 1;
    private static final Pattern WORD = Pattern.compile("[a-z]{3,}");

    private final Path file;
    private final List<String[]> pointers = new ArrayList<>();
    private final List<TreeSet<String>> glosses = new ArrayList<>();
    private final List<Integer> files = new ArrayList<>();
    private final Map<String, Integer> places = new HashMap<>();
    private int number;

    private WordNetFolder(Path file) {
        this.file = file;
    }

    /** Whether a folder holds the nouns of WordNet. */
    public static boolean isOne(Path folder) {
        return Files.isRegularFile(folder.resolve(FILE));
    }

    /**
     * Reads the graph of a folder.
     *
     * @throws FormatException when a line is wrong; it names file, line and fact
     */
    public static LabelledGraph read(Path folder) {
        WordNetFolder nouns = new WordNetFolder(folder.resolve(FILE));
        String text = new String(Json.bytes(nouns.file, LARGEST_FILE), StandardCharsets.ISO_8859_1);
        text.lines().forEach(nouns::line);
        return nouns.graph();
    }

    private FormatException wrong(String fact) {
        return new FormatException(
                file + ", line " + number + ": " + fact + "; take the file of WordNet's own database");
    }

    /** {@code offset file type words(hex) (word id)* pointers (symbol offset part source/target)* | gloss}. */
    private void line(String line) {
        number++;
        if (line.startsWith("  ")) {
            return; // the licence
        }
        int bar = line.indexOf(" | ");
        String[] fields = (bar < 0 ? line : line.substring(0, bar)).split(" ", -1);
        if (bar < 0 || fields.length < 4) {
            throw wrong("it is no synset with a gloss behind a bar");
        }
        int words = number(fields, 3, 16);
        int counted = 4 + 2 * words;
        int count = number(fields, counted, 10);
        if (fields.length < counted + 1 + 4 * count) {
            throw wrong("it ends before its " + count + " pointers");
        }
        if (places.putIfAbsent(fields[0], places.size()) != null) {
            throw wrong("synset " + fields[0] + " is there twice");
        }
        files.add(number(fields, 1, 10));
        List<String> nouns = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            if (fields[counted + 3 + 4 * i].equals("n")) {
                nouns.add(fields[counted + 2 + 4 * i]);
            }
        }
        pointers.add(nouns.toArray(String[]::new));
        TreeSet<String> gloss = new TreeSet<>();
        Matcher word = WORD.matcher(line.substring(bar + 3));
        while (word.find()) {
            gloss.add(word.group());
        }
        glosses.add(gloss);
    }

    /** A field of at most three digits. */
    private int number(String[] fields, int index, int radix) {
        if (index >= fields.length || !fields[index].matches("[0-9a-fA-F]{1,3}")) {
            throw wrong("field " + (index + 1) + " is no number of up to three digits");
        }
        try {
            return Integer.parseInt(fields[index], radix);
        } catch (NumberFormatException e) {
            throw wrong("field " + (index + 1) + " is \"" + fields[index] + "\", not a number");
        }
    }

    private LabelledGraph graph() {
        int nodes = files.size();
        int[] labels = labels();
        if (nodes <= VALID + TRAIN * Arrays.stream(labels).distinct().count()) {
            throw new FormatException(file + " has only " + nodes + " nouns, too few to train and to judge;"
                    + " take the file of WordNet's own database");
        }
        Split[] splits = splits(labels);
        List<Integer> sources = new ArrayList<>();
        List<Integer> targets = new ArrayList<>();
        for (int node = 0; node < nodes; node++) {
            for (String target : pointers.get(node)) {
                Integer place = places.get(target);
                if (place == null) {
                    throw new FormatException(file + ": a pointer leads to the noun " + target
                            + ", which is not in it; take the file of WordNet's own database");
                }
                sources.add(node);
                targets.add(place);
            }
        }
        Map<String, Integer> features = features();
        long[] starts = new long[nodes + 1];
        List<Integer> columns = new ArrayList<>();
        for (int node = 0; node < nodes; node++) {
            glosses.get(node).stream()
                    .map(features::get)
                    .filter(column -> column != null)
                    .forEach(columns::add);
            starts[node + 1] = columns.size();
        }
        return new LabelledGraph(
                features.size(),
                Arrays.stream(labels).max().orElseThrow() + 1,
                ints(sources),
                ints(targets),
                starts,
                ints(columns),
                labels,
                splits);
    }

    /** Lexicographer's files, numbered from 0 as they ascend. */
    private int[] labels() {
        List<Integer> known = files.stream().distinct().sorted().toList();
        return files.stream().mapToInt(known::indexOf).toArray();
    }

    private Map<String, Integer> features() {
        Map<String, Integer> uses = new TreeMap<>();
        glosses.forEach(gloss -> gloss.forEach(word -> uses.merge(word, 1, Integer::sum)));
        Map<String, Integer> features = new HashMap<>();
        uses.forEach((word, count) -> {
            if (count >= USES) {
                features.put(word, features.size());
            }
        });
        if (features.isEmpty()) {
            throw new FormatException(
                    file + ": no word is in " + USES + " glosses; take the file of WordNet's own database");
        }
        return features;
    }

    private Split[] splits(int[] labels) {
        int[] order = new int[labels.length];
        Arrays.setAll(order, i -> i);
        SplittableRandom random = new SplittableRandom(SEED);
        for (int i = order.length - 1; i > 0; i--) {
            int other = random.nextInt(i + 1);
            int kept = order[i];
            order[i] = order[other];
            order[other] = kept;
        }
        Split[] splits = new Split[labels.length];
        Map<Integer, Integer> training = new HashMap<>();
        int others = 0;
        for (int node : order) {
            if (training.merge(labels[node], 1, Integer::sum) <= TRAIN) {
                splits[node] = Split.TRAIN;
            } else {
                splits[node] = others < VALID ? Split.VALID : others < VALID + TEST ? Split.TEST : Split.OTHER;
                others++;
            }
        }
        return splits;
    }

    private static int[] ints(List<Integer> values) {
        return values.stream().mapToInt(Integer::intValue).toArray();
    }
}
