package org.sentei.engine;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.sentei.format.FormatException;
import org.sentei.format.GraphFolder;
import org.sentei.format.NetworkFolder;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.model.GraphInference;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.LabelledGraph;
import org.sentei.model.NodeInference;

/** How well a trained graph network labels nodes, and how fast it does with and without its zeros. */
final class GraphEvaluation {
    private static final int WARM = 10;
    private static final int ROUNDS = 31;

    private GraphEvaluation() {}

    /** The network's figures, those of the original beside them. */
    static List<Sentei.Metric> of(Path model, Optional<Path> original, Path data, Backend backend, Progress progress) {
        if (!GraphFolder.isOne(data)) {
            throw new FormatException("data " + data + ": a graph network is measured on a graph, which is nodes.csv,"
                    + " edges.csv and features.csv[.gz]; give the folder of one");
        }
        LabelledGraph graph = GraphFolder.read(data);
        Map<String, Double> figures = figures(model, graph, backend, progress);
        Map<String, Double> others =
                original.map(path -> figures(path, graph, backend, progress)).orElse(Map.of());
        List<Sentei.Metric> metrics = new ArrayList<>();
        figures.forEach((name, value) -> metrics.add(new Sentei.Metric(name, value, others.get(name))));
        return metrics;
    }

    private static Map<String, Double> figures(Path model, LabelledGraph graph, Backend backend, Progress progress) {
        NetworkFolder.Content content = NetworkFolder.read(model);
        if (!(content.network() instanceof GraphNetwork.Nodes network)) {
            throw new FormatException("model " + model + " is a "
                    + content.network().architecture() + ", which labels no nodes; give a node-gcn");
        }
        Map<String, Double> figures = new LinkedHashMap<>();
        try (Scope scope = new Scope(backend);
                NodeInference dense = NodeInference.of(scope, network, content.parameters(), graph, false);
                NodeInference compact = NodeInference.of(scope, network, content.parameters(), graph, true)) {
            float[] scores = compact.scores();
            for (Split split : List.of(Split.TRAIN, Split.VALID, Split.TEST)) {
                if (graph.members(split).length > 0) {
                    figures.put(
                            "accuracy_" + split.name().toLowerCase(Locale.ROOT),
                            accuracy(model, scores, network.classes(), graph, split));
                }
            }
            figures.put("zeros", (double) zeros(content));
            double[][] milliseconds = new double[2][ROUNDS];
            for (int round = -WARM; round < ROUNDS; round++) {
                progress.checkpoint("timing", Math.max(0, round), ROUNDS);
                for (int i = 0; i < 2; i++) {
                    double taken = milliseconds(i == 0 ? dense : compact, backend);
                    if (round >= 0) {
                        milliseconds[i][round] = taken;
                    }
                }
            }
            figures.put("dense_ms", median(milliseconds[0]));
            figures.put("compact_ms", median(milliseconds[1]));
        }
        return figures;
    }

    private static double accuracy(Path model, float[] scores, int classes, LabelledGraph graph, Split split) {
        int right = 0;
        int[] members = graph.members(split);
        for (int node : members) {
            int best = 0;
            for (int c = 0; c < classes; c++) {
                if (!Float.isFinite(scores[node * classes + c])) {
                    throw new RunException("model " + model + " gives node " + node + " the score "
                            + scores[node * classes + c] + "; train it again with a smaller learning rate");
                }
                best = scores[node * classes + c] > scores[node * classes + best] ? c : best;
            }
            right += best == graph.label(node) ? 1 : 0;
        }
        return (double) right / members.length;
    }

    private static long zeros(NetworkFolder.Content content) {
        long zeros = 0;
        for (int i = 0; i < content.parameters().size(); i++) {
            if (content.network().parameters().get(i).prunable()) {
                for (float weight : content.parameters().get(i)) {
                    zeros += weight == 0 ? 1 : 0;
                }
            }
        }
        return zeros;
    }

    private static double milliseconds(GraphInference inference, Backend backend) {
        long start = System.nanoTime();
        inference.run();
        backend.sync();
        return (System.nanoTime() - start) / 1e6;
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }
}
