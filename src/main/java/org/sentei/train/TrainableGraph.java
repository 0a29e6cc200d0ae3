package org.sentei.train;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.training.GradientCollector;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/**
 * A graph of layers that classifies, made differentiable on PyTorch. Its first output holds the scores, examples x classes; where
 * a Softmax makes it, scores are what that reads.
 *
 * <p>Trained is every fp32 constant that is
 *
 * <ul>
 *   <li>weight or bias of Conv, Gemm or MatMul, or the table of a Gather;
 *   <li>scale or shift of BatchNormalization or LayerNormalization;
 *   <li>a vector added to what MatMul makes: its bias;
 *   <li>a vector that multiplies a quotient, or that is added to such a product: scale and shift of a layer normalization that
 *       is spelled out;
 *   <li>added, with more than one axis longer than 1: positions.
 * </ul>
 *
 * All others stay as they are, so the factors and summands of linearised activations. Running means and variances are
 * statistics: a training step moves them, by {@code momentum} of the layer towards the batch's own (the variance's estimate
 * without bias).
 *
 * <p>Unlike a {@link Differentiable}, which holds its examples, it takes them with every call, for training draws them anew.
 * Belongs to the thread that made it. Closing frees its memory.
 */
public final class TrainableGraph implements AutoCloseable {
    private final LayerGraph graph;
    private final String scores;
    private final List<String> parameters;
    private final List<String> statistics;
    private final Map<String, LayerSteps.Step> steps = new LinkedHashMap<>();
    /** First scales of layers that round, by the names of their parameters. */
    private final Map<String, float[]> scales = new LinkedHashMap<>();

    private final NDManager memory;

    /**
     * All numbers that training changes, one array for each name of {@link #parameters()} and {@link #statistics()}, packed row
     * by row.
     */
    public record Weights(List<float[]> parameters, List<float[]> statistics) {
        /** Copies the lists, not the arrays. */
        public Weights {
            parameters = List.copyOf(parameters);
            statistics = List.copyOf(statistics);
        }

        /** With copies of the arrays. */
        public Weights copy() {
            return new Weights(
                    parameters.stream().map(float[]::clone).toList(),
                    statistics.stream().map(float[]::clone).toList());
        }
    }

    /**
     * Prepares a graph.
     *
     * @throws ModelException when it holds what cannot be differentiated; names the layer
     * @throws TrainingException when PyTorch does not load
     */
    public TrainableGraph(LayerGraph whole) {
        this(whole, Map.of());
    }

    /**
     * Prepares a graph some of whose layers round their weights and what they read. Their scales are parameters too:
     * {@link #weightScale} and {@link #inputScale}.
     *
     * @param rounded by name: Conv, Gemm without transA, or MatMul, with constant weights that no other layer reads
     * @throws ModelException when it holds what cannot be differentiated, or a layer cannot be rounded; names the layer
     * @throws TrainingException when PyTorch does not load
     */
    public TrainableGraph(LayerGraph whole, Map<String, Rounding> rounded) {
        if (whole.outputs().isEmpty()) {
            throw new ModelException(whole.name() + " has no output to train; export it again");
        }
        graph = whole.upTo(List.of(whole.outputs().getFirst().name()));
        scores = scores(graph);
        LayerSteps maker = new LayerSteps(graph);
        Set<String> trained = new LinkedHashSet<>();
        Set<String> moved = new LinkedHashSet<>();
        for (Layer layer : graph.layers()) {
            Rounding rounding = rounded.get(layer.name());
            steps.put(layer.name(), rounding == null ? maker.of(layer) : maker.of(layer, rounding));
            if (rounding != null) {
                scales.put(inputScale(layer.name()), new float[] {rounding.inputScale()});
                float[] each = new float[rounding.weightScales().size()];
                for (int i = 0; i < each.length; i++) {
                    each[i] = rounding.weightScales().get(i);
                }
                scales.put(weightScale(layer.name()), each);
            }
            trained.addAll(trained(layer));
            if (layer.is("BatchNormalization")) {
                moved.addAll(layer.inputs().subList(3, 5));
            }
        }
        trained.addAll(scales.keySet());
        parameters = List.copyOf(trained);
        statistics = List.copyOf(moved);
        if (parameters.isEmpty()) {
            throw new ModelException(
                    graph.name() + " has no weights that can be trained; give a model of layers with weights");
        }
        if (moved.stream().anyMatch(trained::contains)) {
            throw new ModelException(graph.name()
                    + ": a batch normalization shares its running statistics with a weight; export it again");
        }
        memory = Torch.engine().newBaseManager();
    }

    /** The parameter with the scale of what a layer reads that rounds. */
    public static String inputScale(String layer) {
        return layer + "/input_scale";
    }

    /** The parameter with a scale for every output of a layer that rounds. */
    public static String weightScale(String layer) {
        return layer + "/weight_scale";
    }

    private static String scores(LayerGraph graph) {
        String output = graph.outputs().getFirst().name();
        Optional<Layer> end = graph.producer(output);
        while (end.filter(layer -> layer.is("Identity")).isPresent()) {
            output = end.get().input(0);
            end = graph.producer(output);
        }
        return end.isPresent() && end.get().is("Softmax") ? end.get().input(0) : output;
    }

    private List<String> trained(Layer layer) {
        List<String> found = new ArrayList<>();
        switch (layer.operator()) {
            case "Conv", "Gemm", "BatchNormalization", "LayerNormalization" -> {
                found.add(layer.input(1));
                found.add(layer.input(2));
            }
            case "MatMul" -> found.addAll(layer.inputs());
            case "Gather" -> found.add(layer.input(0));
            case "Add", "Mul" -> {
                for (int i = 0; i < 2; i++) {
                    if (learns(layer, layer.input(i), layer.input(1 - i))) {
                        found.add(layer.input(i));
                    }
                }
            }
            default -> {}
        }
        found.removeIf(value -> graph.weight(value).isEmpty());
        return found;
    }

    /** Whether a constant of a sum or product is a bias, a normalization's, or positions. */
    private boolean learns(Layer layer, String constant, String other) {
        Optional<Tensor> weight = graph.weight(constant);
        Optional<Layer> maker = graph.producer(other);
        if (weight.isEmpty()
                || (maker.isEmpty()
                        && graph.inputs().stream().noneMatch(port -> port.name().equals(other)))) {
            return false;
        }
        long[] shape = weight.get().shape().toArray();
        long axes = Arrays.stream(shape).filter(size -> size > 1).count();
        boolean vector = shape.length == 1;
        if (layer.is("Mul")) {
            return vector && maker.filter(made -> made.is("Div")).isPresent();
        }
        return axes > 1
                || (vector
                        && maker.filter(made -> made.is("MatMul") || (made.is("Mul") && multipliesQuotient(made)))
                                .isPresent());
    }

    private boolean multipliesQuotient(Layer product) {
        return learns(product, product.input(0), product.input(1))
                || learns(product, product.input(1), product.input(0));
    }

    /** What is trained, without outputs and layers that the first output does not need. */
    public LayerGraph graph() {
        return graph;
    }

    /** Names of the constants that are trained. */
    public List<String> parameters() {
        return parameters;
    }

    /** Names of running means and variances. */
    public List<String> statistics() {
        return statistics;
    }

    /** The graph's own numbers, copied. */
    public Weights weights() {
        return new Weights(
                parameters.stream().map(this::values).toList(),
                statistics.stream().map(this::values).toList());
    }

    private float[] values(String constant) {
        float[] scale = scales.get(constant);
        return scale != null ? scale.clone() : Floats.toArray(graph.constants().get(constant));
    }

    /** The graph with other numbers; scales are no part of it. */
    public LayerGraph with(Weights weights) {
        LayerGraph.Editor edit = graph.edit();
        named(weights).forEach((name, values) -> {
            if (scales.containsKey(name)) {
                return;
            }
            Tensor old = graph.constants().get(name);
            edit.constant(new Tensor(name, DType.F32, old.shape(), MemorySegment.ofArray(values.clone())));
        });
        return edit.build();
    }

    private Map<String, float[]> named(Weights weights) {
        Map<String, float[]> named = new HashMap<>();
        for (int i = 0; i < parameters.size(); i++) {
            named.put(parameters.get(i), weights.parameters().get(i));
        }
        for (int i = 0; i < statistics.size(); i++) {
            named.put(statistics.get(i), weights.statistics().get(i));
        }
        return named;
    }

    /**
     * The mean cross-entropy of a batch, with batch normalizations in training mode.
     *
     * @param weights its statistics are moved by this
     * @param inputs one tensor for every input of the graph, by name; their first axis is the example
     * @param labels one class for each example
     * @param gradients as the parameters, each set to the loss's gradient by it
     * @return the loss; NaN or infinite when the network has diverged
     * @throws ModelException when a layer cannot run on such inputs, or a label is no class of the graph
     */
    public double loss(Weights weights, List<Tensor> inputs, int[] labels, List<float[]> gradients) {
        try (NDManager step = memory.newSubManager();
                GradientCollector collector = Torch.engine().newGradientCollector()) {
            Map<String, PtNDArray> constants = constants(step, weights);
            List<PtNDArray> trained = parameters.stream().map(constants::get).toList();
            trained.forEach(array -> array.setRequiresGradient(true));
            NDArray logits = run(step, constants, inputs, true);
            long[] shape = logits.getShape().getShape();
            check(shape, labels);
            long[] classes = new long[labels.length];
            for (int i = 0; i < classes.length; i++) {
                classes[i] = labels[i];
            }
            NDArray picked = logits.logSoftmax(1).gather(step.create(classes).reshape(classes.length, 1), 1);
            NDArray mean = picked.mean().neg();
            collector.backward(mean);
            for (int i = 0; i < trained.size(); i++) {
                float[] gradient = trained.get(i).getGradient().toFloatArray();
                System.arraycopy(gradient, 0, gradients.get(i), 0, gradient.length);
            }
            for (int i = 0; i < statistics.size(); i++) {
                float[] moved = constants.get(statistics.get(i)).toFloatArray();
                System.arraycopy(moved, 0, weights.statistics().get(i), 0, moved.length);
            }
            return mean.getFloat();
        }
    }

    private void check(long[] shape, int[] labels) {
        if (labels.length != shape[0]) {
            throw new ModelException(graph.name() + " scores " + shape[0] + " examples of a batch of " + labels.length
                    + "; export it with a free size of batches");
        }
        for (int label : labels) {
            if (label < 0 || label >= shape[1]) {
                throw new ModelException(graph.name() + " has " + shape[1] + " classes, but a label is " + label
                        + "; give data with labels from 0 to " + (shape[1] - 1));
            }
        }
    }

    /**
     * Scores of a batch, examples x classes packed row by row, with batch normalizations in evaluation mode.
     *
     * @throws ModelException when a layer cannot run on such inputs
     */
    public float[] scores(Weights weights, List<Tensor> inputs) {
        try (NDManager step = memory.newSubManager()) {
            return run(step, constants(step, weights), inputs, false).toFloatArray();
        }
    }

    /**
     * Values of a batch, with batch normalizations in evaluation mode.
     *
     * @param wanted names of fp32 values
     * @param use gets them, by name
     * @throws ModelException when a layer cannot run on such inputs
     */
    public void values(
            Weights weights, List<Tensor> inputs, Collection<String> wanted, Consumer<Map<String, Tensor>> use) {
        try (NDManager step = memory.newSubManager()) {
            Map<String, PtNDArray> all = all(step, constants(step, weights), inputs, false);
            Map<String, Tensor> chosen = new HashMap<>();
            for (String name : wanted) {
                PtNDArray array = all.get(name);
                org.sentei.tensor.Shape shape =
                        org.sentei.tensor.Shape.of(array.getShape().getShape());
                chosen.put(name, new Tensor(name, DType.F32, shape, MemorySegment.ofArray(array.toFloatArray())));
            }
            use.accept(chosen);
        }
    }

    private Map<String, PtNDArray> constants(NDManager step, Weights weights) {
        Map<String, float[]> named = named(weights);
        Map<String, PtNDArray> arrays = new HashMap<>();
        graph.constants().forEach((name, tensor) -> {
            float[] values = named.get(name);
            arrays.put(
                    name,
                    values == null
                            ? array(step, tensor)
                            : (PtNDArray)
                                    step.create(values, new Shape(tensor.shape().toArray())));
        });
        scales.keySet()
                .forEach(name ->
                        arrays.put(name, (PtNDArray) step.create(named.get(name), new Shape(named.get(name).length))));
        return arrays;
    }

    private static PtNDArray array(NDManager step, Tensor tensor) {
        Shape shape = new Shape(tensor.shape().toArray());
        return (PtNDArray)
                switch (tensor.dtype()) {
                    case F32 -> step.create(tensor.data().toArray(JAVA_FLOAT_UNALIGNED), shape);
                    case I64 -> step.create(tensor.data().toArray(JAVA_LONG_UNALIGNED), shape);
                    case I32 ->
                        step.create(tensor.data().toArray(JAVA_INT_UNALIGNED), shape)
                                .toType(DataType.INT64, false);
                    default ->
                        throw new ModelException("tensor " + tensor.name() + " is " + tensor.dtype()
                                + ", and training computes in fp32; convert the model to fp32");
                };
    }

    /** Runs all layers; the result is examples x classes. */
    private NDArray run(NDManager step, Map<String, PtNDArray> constants, List<Tensor> inputs, boolean training) {
        PtNDArray logits = all(step, constants, inputs, training).get(scores);
        long[] shape = logits.getShape().getShape();
        if (shape.length < 2) {
            throw new ModelException(
                    graph.name() + ": its output is no matrix of examples x classes; give a classifier");
        }
        return shape.length == 2 ? logits : logits.reshape(shape[0], -1);
    }

    private Map<String, PtNDArray> all(
            NDManager step, Map<String, PtNDArray> constants, List<Tensor> inputs, boolean training) {
        Map<String, PtNDArray> values = new HashMap<>(constants);
        inputs.forEach(input -> values.put(input.name(), array(step, input)));
        for (LayerGraph.Port port : graph.inputs()) {
            if (!values.containsKey(port.name())) {
                throw new ModelException(graph.name() + " reads an input " + port.name()
                        + " that the data do not give; give a model of images alone");
            }
        }
        LayerSteps.Run run = new LayerSteps.Run(values, training);
        for (Layer layer : graph.layers()) {
            try {
                values.put(layer.output(), steps.get(layer.name()).run(run));
            } catch (ModelException said) {
                throw said;
            } catch (RuntimeException failed) {
                throw new ModelException(
                        graph.name() + ": layer " + layer.name() + " (" + layer.operator()
                                + ") cannot run on a batch of these data: " + firstLine(failed)
                                + "; check the sizes of model and data, and export it with a free size of batches",
                        failed);
            }
        }
        return values;
    }

    private static String firstLine(RuntimeException failed) {
        String message = String.valueOf(failed.getMessage());
        int end = message.indexOf('\n');
        return end < 0 ? message : message.substring(0, end);
    }

    @Override
    public void close() {
        memory.close();
    }
}
