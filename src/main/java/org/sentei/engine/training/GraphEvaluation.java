package org.sentei.engine.training;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.sentei.engine.Progress;
import org.sentei.engine.Sentei;
import org.sentei.format.FormatException;
import org.sentei.format.NetworkFolder;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Scope;
import org.sentei.model.GraphInference;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.NodeInference;
import org.sentei.model.SkeletonInference;
import org.sentei.model.SkeletonSequences;

/** {@code sentei eval} of a trained graph network: how well it labels, and how fast it does with and without its zeros. */
public final class GraphEvaluation {
    private static final int WARM = 10;
    private static final int ROUNDS = 31;
    private static final int BATCH = 256;

    private final Path model;
    private final NetworkFolder.Content content;
    private final Backend backend;
    private final Progress progress;
    private final Map<String, Double> figures = new LinkedHashMap<>();

    private GraphEvaluation(Path model, Backend backend, Progress progress) {
        this.model = model;
        this.content = NetworkFolder.read(model);
        this.backend = backend;
        this.progress = progress;
    }

    /**
     * Measures a network, and another beside it.
     *
     * @return accuracy on each split, zeros among the prunable weights, milliseconds of a pass with all weights and without the
     *     zeros: over the graph, or a batch of sequences
     * @throws org.sentei.kernel.DeviceException when the backend is not available, or fails
     * @throws FormatException when network or data cannot be read or do not fit each other
     * @throws org.sentei.engine.RunException when a score is not finite
     */
    public static List<Sentei.Metric> of(
            Path model,
            Optional<Path> original,
            Path data,
            String backend,
            Backend.Options options,
            Progress progress) {
        TrainingData read = TrainingData.read(data);
        try (Backend device = Backends.find(backend).open(options)) {
            Map<String, Double> own = new GraphEvaluation(model, device, progress).measured(read);
            Map<String, Double> others = original.map(
                            path -> new GraphEvaluation(path, device, progress).measured(read))
                    .orElse(Map.of());
            List<Sentei.Metric> metrics = new ArrayList<>();
            own.forEach((name, value) -> metrics.add(new Sentei.Metric(name, value, others.get(name))));
            return metrics;
        }
    }

    private Map<String, Double> measured(TrainingData data) {
        if (data.examples().classes() > content.network().classes()) {
            throw new FormatException(
                    "model " + model + " knows " + content.network().classes() + " classes, the data "
                            + data.examples().classes() + ": give data of the kind it was trained on");
        }
        try (Scope scope = new Scope(backend)) {
            switch (content.network()) {
                case GraphNetwork.Nodes network
                when data instanceof TrainingData.Graph graph -> nodes(scope, network, graph);
                case GraphNetwork.Skeletons network
                when data instanceof TrainingData.Sequences sequences ->
                    skeletons(scope, network, sequences.examples());
                case GraphNetwork other ->
                    throw new FormatException("model " + model + " is a " + other.architecture()
                            + ", which has nothing to say of these data; give data of the kind it was trained on");
            }
        }
        return figures;
    }

    private void nodes(Scope scope, GraphNetwork.Nodes network, TrainingData.Graph graph) {
        try (NodeInference dense = NodeInference.of(scope, network, content.parameters(), graph.examples(), false);
                NodeInference compact =
                        NodeInference.of(scope, network, content.parameters(), graph.examples(), true)) {
            accuracies(graph.examples(), compact.scores());
            times(dense, compact);
        }
    }

    private void skeletons(Scope scope, GraphNetwork.Skeletons network, SkeletonSequences sequences) {
        if (sequences.joints() != network.joints()) {
            throw new FormatException("model " + model + " knows skeletons of " + network.joints()
                    + " joints, the data have " + sequences.joints() + ": give data of the kind it was trained on");
        }
        int batch = Math.min(BATCH, sequences.count());
        float[] signals = sequences.signals(network.chunks());
        int signal = network.joints() * network.signal();
        try (SkeletonInference dense = SkeletonInference.dense(scope, network, content.parameters(), batch);
                SkeletonInference sparse = SkeletonInference.sparse(scope, network, content.parameters(), batch)) {
            float[] scores = new float[sequences.count() * network.classes()];
            for (int first = 0; first < sequences.count(); first += batch) {
                // The last batch begins earlier where the sequences do not fill it.
                int begin = Math.min(first, sequences.count() - batch);
                float[] some = sparse.scores(Arrays.copyOfRange(signals, begin * signal, (begin + batch) * signal));
                System.arraycopy(some, 0, scores, begin * network.classes(), some.length);
            }
            accuracies(sequences, scores);
            float[] one = Arrays.copyOf(signals, batch * signal);
            dense.load(one);
            sparse.load(one);
            times(dense, sparse);
        }
    }

    private void accuracies(LabelledExamples examples, float[] scores) {
        int classes = content.network().classes();
        for (Split split : List.of(Split.TRAIN, Split.VALID, Split.TEST)) {
            int[] members = examples.members(split);
            if (members.length > 0) {
                float[] rows = new float[members.length * classes];
                for (int i = 0; i < members.length; i++) {
                    System.arraycopy(scores, members[i] * classes, rows, i * classes, classes);
                }
                figures.put(
                        "accuracy_" + split.name().toLowerCase(Locale.ROOT),
                        Scores.accuracy(
                                examples,
                                members,
                                rows,
                                "by model " + model + "; train it again with a smaller learning rate"));
            }
        }
    }

    private void times(GraphInference dense, GraphInference sparse) {
        figures.put("zeros", (double) content.network().zeros(content.parameters()));
        double[] all = new double[ROUNDS];
        double[] left = new double[ROUNDS];
        for (int round = -WARM; round < ROUNDS; round++) {
            progress.checkpoint("timing", Math.max(0, round), ROUNDS);
            double first = milliseconds(dense);
            double second = milliseconds(sparse);
            if (round >= 0) {
                all[round] = first;
                left[round] = second;
            }
        }
        figures.put("dense_ms", median(all));
        figures.put("sparse_ms", median(left));
    }

    private double milliseconds(GraphInference inference) {
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
