package org.sentei.engine.training;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/** A small graph whose labels can be told from features and neighbours, as tables. */
public final class DrawnGraph {
    static final int NODES = 240;
    static final int CLASSES = 3;
    static final int FEATURES = 30;

    private DrawnGraph() {}

    /** Writes the graph to a new folder. */
    public static Path write(Path folder) throws IOException {
        Files.createDirectory(folder);
        SplittableRandom random = new SplittableRandom(1);
        List<String> nodes = new ArrayList<>(List.of("node,label,split"));
        List<String> edges = new ArrayList<>(List.of("source,target"));
        List<String> features = new ArrayList<>(List.of("node,feature"));
        for (int node = 0; node < NODES; node++) {
            int label = node % CLASSES;
            nodes.add(node + "," + (node == NODES - 1 ? -1 : label) + ","
                    + (node < 90 ? "train" : node < 120 ? "valid" : node < NODES - 1 ? "test" : "other"));
            for (int i = 0; i < 2; i++) {
                int other = random.nextInt(NODES / CLASSES) * CLASSES
                        + (random.nextInt(10) == 0 ? random.nextInt(CLASSES) : label);
                edges.add(node + "," + other);
            }
            for (int i = 0; i < 3; i++) {
                int feature = random.nextInt(3) == 0 ? random.nextInt(FEATURES) : label * 10 + random.nextInt(10);
                features.add(node + "," + feature);
            }
        }
        Files.write(folder.resolve("nodes.csv"), nodes);
        Files.write(folder.resolve("edges.csv"), edges);
        Files.write(folder.resolve("features.csv"), features);
        return folder;
    }
}
