package org.sentei.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.format.NetworkFolder;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Scope;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Networks on a backend, dense and without their zeros, against their formulas in fp64. */
class GraphInferenceTest {
    private static final int NODES = 37;
    private static final int BATCH = 5;

    @TempDir
    private Path folder;

    static Stream<Arguments> backendsAndRates() {
        return AvailableBackends.names().stream()
                .flatMap(backend -> Stream.of(0.0, 0.5, 0.95, 1.0).map(rate -> Arguments.of(backend, rate)));
    }

    @ParameterizedTest
    @MethodSource("backendsAndRates")
    void nodesGetTheScoresOfTheFormula(String backend, double rate) {
        GraphNetwork.Nodes network = new GraphNetwork.Nodes(23, 9, 4);
        List<float[]> parameters = parameters(network, rate);
        LabelledGraph graph = graph();
        double[] expected = expected(network, parameters, graph);
        for (boolean compact : new boolean[] {false, true}) {
            try (Backend device = Backends.find(backend).open(Backend.Options.defaults());
                    Scope scope = new Scope(device);
                    NodeInference inference = NodeInference.of(scope, network, parameters, graph, compact)) {
                agrees(inference.scores(), expected);
                agrees(inference.scores(), expected);
            }
        }
    }

    @ParameterizedTest
    @MethodSource("backendsAndRates")
    void sequencesGetTheScoresOfTheFormula(String backend, double rate) {
        GraphNetwork.Skeletons network = new GraphNetwork.Skeletons(7, 3, 2, 5, 6, 4);
        List<float[]> parameters = parameters(network, rate);
        float[] signals = signals(network);
        double[] expected = expected(network, parameters, signals);
        try (Backend device = Backends.find(backend).open(Backend.Options.defaults());
                Scope scope = new Scope(device);
                SkeletonInference dense = SkeletonInference.dense(scope, network, parameters, BATCH);
                SkeletonInference sparse = SkeletonInference.sparse(scope, network, parameters, BATCH)) {
            agrees(dense.scores(signals), expected);
            agrees(sparse.scores(signals), expected);
            assertThatThrownBy(() -> sparse.scores(new float[1])).hasMessageContaining("batch of 5 sequences");
        }
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, 0.95})
    void onnxRuntimeGivesTheSameScores(double rate) throws IOException {
        GraphNetwork.Nodes nodes = new GraphNetwork.Nodes(23, 9, 4);
        LabelledGraph graph = graph();
        double[] x = features(nodes, graph);
        double[] adjacency = adjacency(graph);
        agrees(
                onnxRuntime(
                        nodes,
                        parameters(nodes, rate),
                        tensor("features", x, NODES, 23),
                        tensor("adjacency", adjacency, NODES, NODES)),
                expected(nodes, parameters(nodes, rate), graph));
        GraphNetwork.Skeletons skeletons = new GraphNetwork.Skeletons(7, 3, 2, 5, 6, 4);
        float[] signals = signals(skeletons);
        agrees(
                onnxRuntime(
                        skeletons,
                        parameters(skeletons, rate),
                        tensor("signals", doubles(signals), BATCH, 7, skeletons.signal())),
                expected(skeletons, parameters(skeletons, rate), signals));
    }

    private float[] onnxRuntime(GraphNetwork network, List<float[]> parameters, Tensor... inputs) throws IOException {
        NetworkFolder.export(folder, network, parameters);
        try (OnnxFile file = OnnxFile.open(folder.resolve("model.onnx"));
                Arena arena = Arena.ofConfined();
                OnnxSession session = OnnxSession.open(file.tapped(List.of(), List.of(), arena), 1)) {
            return Floats.toArray(
                    session.run(List.of(inputs), List.of("scores")).get("scores"));
        }
    }

    private static Tensor tensor(String name, double[] values, long... sizes) {
        float[] narrow = new float[values.length];
        for (int i = 0; i < narrow.length; i++) {
            narrow[i] = (float) values[i];
        }
        return new Tensor(name, DType.F32, Shape.of(sizes), MemorySegment.ofArray(narrow));
    }

    @Test
    void anotherGraphsFeaturesAreRefused() {
        GraphNetwork.Nodes network = new GraphNetwork.Nodes(22, 9, 4);
        try (Backend device = Backends.find("reference").open(Backend.Options.defaults());
                Scope scope = new Scope(device)) {
            assertThatThrownBy(() -> NodeInference.of(scope, network, parameters(network, 0), graph(), true))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("it reads 22 features, but nodes have 23");
        }
    }

    private static void agrees(float[] scores, double[] expected) {
        assertThat(scores).hasSize(expected.length);
        for (int i = 0; i < expected.length; i++) {
            assertThat(Math.abs(scores[i] - expected[i]) <= 1e-5 * (1 + Math.abs(expected[i])))
                    .as("score %d is %s, not %s", i, scores[i], expected[i])
                    .isTrue();
        }
    }

    /** Drawn weights, of the prunable a share 0. */
    private static List<float[]> parameters(GraphNetwork network, double rate) {
        SplittableRandom random = new SplittableRandom(11);
        List<float[]> parameters = new ArrayList<>();
        for (GraphNetwork.Parameter parameter : network.parameters()) {
            float[] values = new float[parameter.count()];
            for (int i = 0; i < values.length; i++) {
                boolean pruned = parameter.prunable() && random.nextDouble() < rate;
                values[i] = pruned ? 0 : (float) random.nextDouble(-1, 1);
            }
            parameters.add(values);
        }
        return parameters;
    }

    private static LabelledGraph graph() {
        SplittableRandom random = new SplittableRandom(2);
        int[] sources = random.ints(60, 0, NODES).toArray();
        int[] targets = random.ints(60, 0, NODES).toArray();
        long[] starts = new long[NODES + 1];
        for (int node = 0; node < NODES; node++) {
            starts[node + 1] = starts[node] + node % 4;
        }
        int[] columns = random.ints(starts[NODES], 0, 23).toArray();
        Split[] splits = new Split[NODES];
        Arrays.fill(splits, Split.TRAIN);
        return new LabelledGraph(23, 4, sources, targets, starts, columns, new int[NODES], splits);
    }

    private static float[] signals(GraphNetwork.Skeletons network) {
        SplittableRandom random = new SplittableRandom(4);
        float[] signals = new float[BATCH * network.joints() * network.signal()];
        for (int i = 0; i < signals.length; i++) {
            signals[i] = (float) random.nextDouble(-1, 1);
        }
        return signals;
    }

    private static double[] features(GraphNetwork.Nodes network, LabelledGraph graph) {
        double[] x = new double[NODES * network.features()];
        for (int node = 0; node < NODES; node++) {
            for (int i = (int) graph.featureStarts()[node]; i < graph.featureStarts()[node + 1]; i++) {
                x[node * network.features() + graph.featureColumns()[i]] += graph.featureWeights()[i];
            }
        }
        return x;
    }

    private static double[] adjacency(LabelledGraph graph) {
        double[] adjacency = new double[NODES * NODES];
        for (int node = 0; node < NODES; node++) {
            for (int i = (int) graph.starts()[node]; i < graph.starts()[node + 1]; i++) {
                adjacency[node * NODES + graph.neighbours()[i]] += graph.weights()[i];
            }
        }
        return adjacency;
    }

    private static double[] expected(GraphNetwork.Nodes network, List<float[]> parameters, LabelledGraph graph) {
        double[] x = features(network, graph);
        double[] adjacency = adjacency(graph);
        double[] hidden = relu(biased(
                product(adjacency, product(x, doubles(parameters.get(0)), NODES), NODES), parameters.get(1)));
        return biased(product(adjacency, product(hidden, doubles(parameters.get(2)), NODES), NODES), parameters.get(3));
    }

    private static double[] expected(GraphNetwork.Skeletons network, List<float[]> parameters, float[] signals) {
        int joints = network.joints();
        double[] all = new double[BATCH * network.classes()];
        for (int b = 0; b < BATCH; b++) {
            double[] x = new double[joints * network.signal()];
            for (int i = 0; i < x.length; i++) {
                x[i] = signals[b * x.length + i];
            }
            double[] encoded = relu(biased(product(x, doubles(parameters.get(0)), joints), parameters.get(1)));
            double[] sum = new double[joints * network.filters()];
            for (int k = 0; k < network.heads(); k++) {
                double[] heard = product(doubles(parameters.get(2 + 2 * k)), encoded, joints);
                double[] filtered = product(heard, doubles(parameters.get(3 + 2 * k)), joints);
                for (int i = 0; i < sum.length; i++) {
                    sum[i] += filtered[i];
                }
            }
            int next = 2 + 2 * network.heads();
            double[] flat = relu(biased(sum, parameters.get(next)));
            double[] scores = biased(product(flat, doubles(parameters.get(next + 1)), 1), parameters.get(next + 2));
            System.arraycopy(scores, 0, all, b * scores.length, scores.length);
        }
        return all;
    }

    /** Of rows x inner and inner x whatever is left. */
    private static double[] product(double[] a, double[] b, int rows) {
        int inner = a.length / rows;
        int cols = b.length / inner;
        double[] c = new double[rows * cols];
        for (int i = 0; i < rows; i++) {
            for (int k = 0; k < inner; k++) {
                for (int j = 0; j < cols; j++) {
                    c[i * cols + j] += a[i * inner + k] * b[k * cols + j];
                }
            }
        }
        return c;
    }

    private static double[] biased(double[] rows, float[] bias) {
        for (int i = 0; i < rows.length; i++) {
            rows[i] += bias[i % bias.length];
        }
        return rows;
    }

    private static double[] relu(double[] values) {
        for (int i = 0; i < values.length; i++) {
            values[i] = Math.max(0, values[i]);
        }
        return values;
    }

    private static double[] doubles(float[] values) {
        double[] wide = new double[values.length];
        for (int i = 0; i < wide.length; i++) {
            wide[i] = values[i];
        }
        return wide;
    }
}
