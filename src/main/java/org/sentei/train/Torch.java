package org.sentei.train;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.index.NDIndex;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples;
import org.sentei.model.LabelledGraph;
import org.sentei.model.SkeletonSequences;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.SystemProperties;

/** Networks on DJL's PyTorch engine. */
public final class Torch {
    private Torch() {}

    /** The network over the nodes of a graph: examples are nodes. */
    public static Differentiable nodes(GraphNetwork.Nodes network, LabelledGraph graph) {
        if (graph.features() != network.features() || graph.classes() > network.classes()) {
            throw new IllegalArgumentException("the graph has " + graph.features() + " features and " + graph.classes()
                    + " classes, the network " + network.features() + " and " + network.classes());
        }
        return new NodeNetwork(network, graph);
    }

    /** The network over sequences of skeletons: examples are sequences. */
    public static Differentiable skeletons(GraphNetwork.Skeletons network, SkeletonSequences sequences) {
        if (sequences.joints() != network.joints() || sequences.classes() > network.classes()) {
            throw new IllegalArgumentException("the sequences have " + sequences.joints() + " joints and "
                    + sequences.classes() + " classes, the network " + network.joints() + " and " + network.classes());
        }
        return new SkeletonNetwork(network, sequences);
    }

    /**
     * Looks whether networks can be trained here.
     *
     * @throws TrainingException when PyTorch does not load
     */
    public static void load() {
        engine();
    }

    /** PyTorch, with one thread. */
    static Engine engine() {
        try {
            return Loaded.ENGINE;
        } catch (ExceptionInInitializerError | NoClassDefFoundError e) {
            Throwable cause = e.getCause() == null ? e : e.getCause();
            throw new TrainingException(
                    "training cannot start, PyTorch does not load (" + cause.getMessage()
                            + "): it needs ai.djl.pytorch:pytorch-engine and its native library on the class path, x86-64"
                            + " Linux, and room for 450 MB in the cache folder",
                    cause);
        }
    }

    private static final class Loaded {
        static final Engine ENGINE = SystemProperties.during(
                Map.of(
                        "DJL_OFFLINE", "true",
                        // it would call home
                        "OPT_OUT_TRACKING", "true",
                        "ai.djl.pytorch.graph_optimizer", "false",
                        // Threads of OpenMP spin, and the networks are small.
                        "ai.djl.pytorch.num_threads", "1",
                        "ai.djl.pytorch.num_interop_threads", "1",
                        "ENGINE_CACHE_DIR",
                                LibraryCache.ofUser()
                                        .directory()
                                        .resolve("pytorch")
                                        .toString()),
                () -> Engine.getEngine("PyTorch"));
    }

    /** What networks share: parameters in, loss and gradients out. */
    private abstract static class Network implements Differentiable {
        final NDManager memory;
        private final GraphNetwork network;
        private final LabelledExamples labels;

        Network(GraphNetwork network, LabelledExamples labels) {
            this.network = network;
            this.labels = labels;
            memory = engine().newBaseManager();
        }

        @Override
        public final GraphNetwork network() {
            return network;
        }

        /** Scores of the chosen examples. */
        abstract NDArray scores(NDManager step, NDList parameters, int[] chosen, Dropout dropped);

        @Override
        public final double loss(List<float[]> parameters, int[] chosen, Dropout dropped, List<float[]> gradients) {
            try (NDManager step = memory.newSubManager()) {
                NDList arrays = arrays(step, parameters);
                arrays.forEach(array -> array.setRequiresGradient(true));
                long[] classes = new long[chosen.length];
                for (int i = 0; i < chosen.length; i++) {
                    classes[i] = labels.label(chosen[i]);
                }
                float loss;
                try (GradientCollector collector = engine().newGradientCollector()) {
                    NDArray logs = scores(step, arrays, chosen, dropped).logSoftmax(1);
                    NDArray picked = logs.gather(step.create(classes).reshape(classes.length, 1), 1);
                    NDArray mean = picked.mean().neg();
                    collector.backward(mean);
                    loss = mean.getFloat();
                }
                for (int i = 0; i < gradients.size(); i++) {
                    float[] gradient = arrays.get(i).getGradient().toFloatArray();
                    System.arraycopy(gradient, 0, gradients.get(i), 0, gradient.length);
                }
                return loss;
            }
        }

        @Override
        public final float[] scores(List<float[]> parameters, int[] chosen) {
            try (NDManager step = memory.newSubManager()) {
                return scores(step, arrays(step, parameters), chosen, Dropout.NONE)
                        .toFloatArray();
            }
        }

        private NDList arrays(NDManager step, List<float[]> parameters) {
            NDList arrays = new NDList();
            for (int i = 0; i < parameters.size(); i++) {
                GraphNetwork.Parameter parameter = network.parameters().get(i);
                arrays.add(step.create(parameters.get(i), new Shape(parameter.rows(), parameter.cols())));
            }
            return arrays;
        }

        @Override
        public final void close() {
            memory.close();
        }
    }

    private static final class NodeNetwork extends Network {
        private final LabelledGraph graph;
        private final Sparse adjacency;
        private final Sparse features;

        NodeNetwork(GraphNetwork.Nodes network, LabelledGraph graph) {
            super(network, graph);
            this.graph = graph;
            adjacency = new Sparse(memory, graph.starts(), graph.neighbours(), graph.nodes());
            features = new Sparse(memory, graph.featureStarts(), graph.featureColumns(), graph.features());
        }

        @Override
        NDArray scores(NDManager step, NDList parameters, int[] chosen, Dropout dropped) {
            SplittableRandom random = new SplittableRandom(dropped.seed());
            NDArray a = adjacency.matrix(step, graph.weights());
            NDArray x = features.matrix(step, kept(graph.featureWeights(), dropped.share(), random));
            NDArray hidden = relu(a.matMul(x.matMul(parameters.get(0))).add(parameters.get(1)));
            hidden = without(hidden, step, dropped, random);
            NDArray all = a.matMul(hidden.matMul(parameters.get(2))).add(parameters.get(3));
            return all.get(new NDIndex("{}", step.create(chosen)));
        }
    }

    private static final class SkeletonNetwork extends Network {
        private final GraphNetwork.Skeletons sizes;
        private final NDArray signals;

        SkeletonNetwork(GraphNetwork.Skeletons network, SkeletonSequences sequences) {
            super(network, sequences);
            sizes = network;
            signals = memory.create(
                    sequences.signals(network.chunks()),
                    new Shape(sequences.count(), network.joints(), network.signal()));
        }

        @Override
        NDArray scores(NDManager step, NDList parameters, int[] chosen, Dropout dropped) {
            SplittableRandom random = new SplittableRandom(dropped.seed());
            NDArray x = signals.get(new NDIndex("{}", step.create(chosen)));
            x.attach(step);
            NDArray encoded = relu(
                    without(x, step, dropped, random).matMul(parameters.get(0)).add(parameters.get(1)));
            encoded = without(encoded, step, dropped, random);
            NDArray sum = parameters.get(2 + 2 * sizes.heads());
            for (int k = 0; k < sizes.heads(); k++) {
                NDArray heard = parameters.get(2 + 2 * k).matMul(encoded);
                sum = heard.matMul(parameters.get(3 + 2 * k)).add(sum);
            }
            NDArray flat = relu(sum).reshape(chosen.length, (long) sizes.joints() * sizes.filters());
            return without(flat, step, dropped, random)
                    .matMul(parameters.get(3 + 2 * sizes.heads()))
                    .add(parameters.get(4 + 2 * sizes.heads()));
        }
    }

    /** Where the elements of a sparse matrix are. */
    private static final class Sparse {
        private final PtNDArray indices;
        private final Shape shape;

        Sparse(NDManager memory, long[] starts, int[] columns, int cols) {
            long[][] places = new long[2][columns.length];
            for (int row = 0; row < starts.length - 1; row++) {
                for (int i = (int) starts[row]; i < starts[row + 1]; i++) {
                    places[0][i] = row;
                    places[1][i] = columns[i];
                }
            }
            indices = (PtNDArray) memory.create(places);
            shape = new Shape(starts.length - 1, cols);
        }

        /** The matrix with these elements: an array points into the indices, which createCoo would let go of. */
        NDArray matrix(NDManager step, float[] elements) {
            return JniUtils.createSparseCoo(indices, (PtNDArray) step.create(elements), shape);
        }
    }

    /** A layer's inputs of which a share became 0. */
    private static NDArray without(
            NDArray inputs, NDManager step, Differentiable.Dropout dropped, SplittableRandom random) {
        if (dropped.share() == 0) {
            return inputs;
        }
        float[] ones = new float[Math.toIntExact(inputs.size())];
        Arrays.fill(ones, 1);
        return inputs.mul(step.create(kept(ones, dropped.share(), random), inputs.getShape()));
    }

    /** Values of which a share became 0, the others scaled up. */
    private static float[] kept(float[] values, double share, SplittableRandom random) {
        if (share > 0) {
            for (int i = 0; i < values.length; i++) {
                values[i] = random.nextDouble() < share ? 0 : (float) (values[i] / (1 - share));
            }
        }
        return values;
    }

    private static NDArray relu(NDArray x) {
        return x.getNDArrayInternal().relu();
    }
}
