package org.sentei.fuzz;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.sentei.engine.training.TrainingRecipe;
import org.sentei.format.GraphFolder;
import org.sentei.format.SbuFolder;
import org.sentei.format.SkeletonTable;
import org.sentei.model.LabelledGraph;
import org.sentei.model.SkeletonSequences;

/** What training reads: sequences of skeletons as a table or in the layout of SBU Interaction, graphs, and its recipes. */
final class TrainingTarget implements FuzzTarget {
    private static final List<String> SUBJECTS =
            List.of("skeletons.csv", "sbu", "skeleton sequences", "nodes.csv", "edges.csv", "features.csv");
    private static final Map<String, String> GRAPH = new TreeMap<>(Map.of(
            "nodes.csv", "node,label,split\n0,0,train\n1,1,valid\n2,1,test\n3,-1,other\n",
            "edges.csv", "source,target\n0,1\n1,2\n3,0\n",
            "features.csv", "node,feature\n0,4\n1,0\n1,2\n3,1\n"));
    private static final String RECIPE = """
            seed: 7
            network: {chunks: 8, heads: 4, channels: 16, filters: 32}
            training: {steps: 400, learning_rate: 0.02, schedule: constant, gain: 1, dropout: 0, decay: 0}
            steps:
              - method: pmp
                rate: 0.95
                from_rate: 0.5
                budget: prior-kl
                prior: gaussian
                tuning: 0.25
                strength: 1
                bins: 64
                mass: bumps
                sharpness: 1
                last_sharpness: 10
                connected: false
            baseline: true
            storage: dense
            """;
    private static final List<String> SETS = List.of("s01s02", "s02s01", "s04s02");
    private static final List<String> DICTIONARY = List.of(
            ",",
            ",,",
            "\n",
            "\r\n",
            "\u0000",
            "-1",
            "67108863",
            "67108864",
            "65535",
            "65536",
            "4294967296",
            "1e39",
            "-1e38",
            "1e-46",
            "NaN",
            "Infinity",
            "0x1p3",
            "1d",
            "train",
            "other",
            ",split",
            "9".repeat(5000),
            "hidden",
            "magnitude",
            "{hidden: 8}",
            "1e-999999999",
            "9e999999999",
            "null",
            "[]",
            "{}",
            "&a [*a]",
            "0,0,0,0,0,0,0",
            "5,0,0,1,2,3,1,test");

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        Files.createDirectories(folder);
        return switch (random.nextInt(4)) {
            case 0 -> table(folder.resolve("skeletons.csv"), random);
            case 1 -> sbu(folder.resolve("sbu"), random);
            case 2 -> graph(folder.resolve("graph"), random);
            default -> recipe(folder.resolve("recipe.yaml"), random);
        };
    }

    private static Case table(Path input, SplittableRandom random) throws IOException {
        write(input, table(random.nextBoolean()), random);
        return new Case(input, SUBJECTS, () -> look(SkeletonTable.read(input)));
    }

    private static Case sbu(Path input, SplittableRandom random) throws IOException {
        for (String set : SETS) {
            Path sequence = Files.createDirectories(input.resolve(set).resolve("01/001"));
            write(sequence.resolve("skeleton_pos.txt"), frames(), set.equals(SETS.getFirst()) ? random : null);
        }
        return new Case(input, SUBJECTS, () -> look(SbuFolder.read(input)));
    }

    private static Case graph(Path input, SplittableRandom random) throws IOException {
        Files.createDirectories(input);
        int damaged = random.nextInt(GRAPH.size());
        int file = 0;
        for (Map.Entry<String, String> table : GRAPH.entrySet()) {
            write(input.resolve(table.getKey()), table.getValue(), file++ == damaged ? random : null);
        }
        return new Case(input, SUBJECTS, () -> {
            LabelledGraph graph = GraphFolder.read(input);
            for (int node = 0; node < graph.nodes(); node++) {
                if (graph.degree(node) < 1) {
                    throw new IllegalStateException("node " + node + " is no neighbour of itself");
                }
            }
        });
    }

    private static Case recipe(Path input, SplittableRandom random) throws IOException {
        write(input, RECIPE, random);
        return new Case(
                input,
                List.of("recipe", input.toString()),
                () -> TrainingRecipe.load(input.toString()).settings().pruned(1000));
    }

    private static void look(SkeletonSequences sequences) {
        for (int chunks : new int[] {1, 3}) {
            for (float signal : sequences.signals(chunks)) {
                if (!Float.isFinite(signal)) {
                    throw new IllegalStateException("a signal is " + signal);
                }
            }
        }
    }

    private static void write(Path file, String text, SplittableRandom damage) throws IOException {
        String written = damage == null ? text : TextMutator.mutate(text, damage, DICTIONARY);
        byte[] bytes = written.getBytes(StandardCharsets.UTF_8);
        Files.write(file, damage != null && damage.nextInt(4) == 0 ? ByteMutator.mutate(bytes, damage) : bytes);
    }

    private static String table(boolean splits) {
        StringBuilder text = new StringBuilder("sequence,frame,joint,x,y,z,label" + (splits ? ",split" : "") + "\n");
        for (int sequence = 0; sequence < 10; sequence++) {
            for (int line = 0; line < 4; line++) {
                text.append(sequence + "," + line / 2 + "," + line % 2 + ",0.5,-" + line + "," + sequence + ","
                        + sequence % 2);
                text.append(splits ? sequence < 6 ? ",train\n" : ",test\n" : "\n");
            }
        }
        return text.toString();
    }

    private static String frames() {
        return ("1" + ",0.25".repeat(90) + "\n") + "2" + ",0.5".repeat(89) + ",1\n";
    }
}
