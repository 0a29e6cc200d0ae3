package org.sentei.format;

import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.model.AttentionPair;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/**
 * Finds the linear layers whose outputs meet in a softmax: {@code Softmax(scale Q K' + mask)}, Q and K split into heads by
 * Reshape and Transpose right behind their layers. Attention with anything else in between, such as rotary embeddings, position
 * biases or causal masks, is left out.
 */
final class OnnxAttention {
    /** What masks of padding are made of; a position bias or a causal mask needs other operators, or a larger constant. */
    private static final Set<String> MASK_OPERATORS = Set.of(
            "Cast",
            "Concat",
            "Expand",
            "Gather",
            "Identity",
            "Mul",
            "Not",
            "Shape",
            "Sub",
            "Unsqueeze",
            "Where",
            "ConstantOfShape",
            "Equal");

    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final int LONGEST_CHAIN = 8;
    private static final int LARGEST_MASK = 256;

    private final OnnxGraph graph;
    private final Function<String, Tensor> tensors;
    private final Map<String, Site> layers = new HashMap<>();

    /** @param tensors constants of the graph by name */
    OnnxAttention(OnnxGraph graph, List<OnnxSites.Found> found, Function<String, Tensor> tensors) {
        this.graph = graph;
        this.tensors = tensors;
        for (OnnxSites.Found layer : found) {
            if (layer.nodes().size() == 1) {
                OnnxSites.Bias bias = layer.biases().getFirst();
                boolean added = bias != null && bias.tensor() != null;
                int last = added ? bias.node() : layer.nodes().getFirst();
                layers.put(graph.node(last).getOutput(0), layer.site());
            }
        }
    }

    List<AttentionPair> find() {
        List<AttentionPair> pairs = new ArrayList<>();
        for (int n = 0; n < graph.nodes(); n++) {
            NodeProto node = graph.node(n);
            if (OnnxGraph.is(node, "Softmax") && node.getInputCount() == 1) {
                pair(node.getInput(0)).ifPresent(pairs::add);
            }
        }
        return pairs;
    }

    /** A value, and the factor it has been given on the way from {@code value}. */
    private record Scaled(String value, double scale) {}

    /** Heads of a layer: tokens x heads x size of them, transposed in one way or another. */
    private record Split(Site site, int heads, int size, double scale) {}

    private Optional<AttentionPair> pair(String logits) {
        Scaled inner = unscaled(logits, true);
        NodeProto product = graph.producer(inner.value());
        if (product == null || !OnnxGraph.is(product, "MatMul") || product.getInputCount() != 2) {
            return Optional.empty();
        }
        Split query = split(product.getInput(0), false);
        Split key = split(product.getInput(1), true);
        if (query == null
                || key == null
                || query.heads() != key.heads()
                || query.size() != key.size()
                || query.site().cols() != key.site().cols()
                || !query.site().input().equals(key.site().input())) {
            return Optional.empty();
        }
        double scale = inner.scale() * query.scale() * key.scale();
        return Optional.of(new AttentionPair(
                query.site(), key.site(), query.heads(), key.heads(), query.size(), (float) scale, false, 0));
    }

    /** Back over products with constants, and over sums with masks where they are allowed. */
    private Scaled unscaled(String value, boolean masked) {
        double scale = 1;
        String current = value;
        for (int step = 0; step < LONGEST_CHAIN; step++) {
            NodeProto node = graph.producer(current);
            if (node == null || node.getInputCount() != 2) {
                break;
            }
            Optional<Double> right = scalar(node.getInput(1));
            Optional<Double> left = scalar(node.getInput(0));
            if (OnnxGraph.is(node, "Div") && right.isPresent()) {
                scale /= right.get();
                current = node.getInput(0);
            } else if (OnnxGraph.is(node, "Mul") && (right.isPresent() || left.isPresent())) {
                scale *= right.or(() -> left).get();
                current = node.getInput(right.isPresent() ? 0 : 1);
            } else if (masked && OnnxGraph.is(node, "Add") && isMask(node.getInput(1))) {
                current = node.getInput(0);
            } else if (masked && OnnxGraph.is(node, "Add") && isMask(node.getInput(0))) {
                current = node.getInput(1);
            } else {
                break;
            }
        }
        return new Scaled(current, scale);
    }

    private Optional<Double> scalar(String value) {
        OnnxGraph.Operand operand = graph.operand(value);
        if (operand == null
                || graph.constants().get(operand.name()).getDimsList().stream().anyMatch(size -> size != 1)) {
            return Optional.empty();
        }
        if (OnnxTensors.dtype(operand.dataType()).filter(DType::isFloating).isEmpty()) {
            return Optional.empty();
        }
        Tensor tensor = tensors.apply(operand.name());
        return Optional.of(Floats.get(tensor.dtype(), tensor.data(), 0));
    }

    /** Whether a value comes from the graph's inputs alone, by operators that cannot tell positions apart. */
    private boolean isMask(String value) {
        Deque<String> open = new ArrayDeque<>(List.of(value));
        Set<String> seen = new HashSet<>();
        boolean fromInput = false;
        while (!open.isEmpty()) {
            String current = open.pop();
            if (current.isEmpty() || !seen.add(current)) {
                continue;
            }
            if (graph.constants().containsKey(current)) {
                if (graph.constants().get(current).getDimsList().stream().anyMatch(size -> size > 4)) {
                    return false;
                }
                continue;
            }
            NodeProto node = graph.producer(current);
            if (node == null) {
                fromInput = true;
                continue;
            }
            if (seen.size() > LARGEST_MASK || !MASK_OPERATORS.contains(node.getOpType())) {
                return false;
            }
            // a shape is the same whatever has it
            if (!OnnxGraph.is(node, "Shape")) {
                node.getInputList().forEach(open::push);
            }
        }
        return fromInput;
    }

    /**
     * The layer behind one operand of the product.
     *
     * @param flipped whether it must arrive transposed, heads x size x tokens
     */
    private Split split(String operand, boolean flipped) {
        boolean joined = flipped;
        Scaled outer = unscaled(operand, false);
        NodeProto transpose = graph.producer(outer.value());
        if (transpose == null || !OnnxGraph.is(transpose, "Transpose")) {
            return null;
        }
        double scale = outer.scale();
        if (flipped && order(transpose).equals(List.of(0L, 1L, 3L, 2L))) {
            Scaled inner = unscaled(transpose.getInput(0), false);
            scale *= inner.scale();
            transpose = graph.producer(inner.value());
            joined = false;
        }
        List<Long> wanted = joined ? List.of(0L, 2L, 3L, 1L) : List.of(0L, 2L, 1L, 3L);
        if (transpose == null
                || !OnnxGraph.is(transpose, "Transpose")
                || !order(transpose).equals(wanted)) {
            return null;
        }
        NodeProto reshape = graph.producer(transpose.getInput(0));
        if (reshape == null || !OnnxGraph.is(reshape, "Reshape") || reshape.getInputCount() != 2) {
            return null;
        }
        Scaled layer = unscaled(reshape.getInput(0), false);
        Site site = layers.get(layer.value());
        List<Long> shape = lastTwo(reshape.getInput(1));
        if (site == null || shape.isEmpty()) {
            return null;
        }
        long heads = shape.getFirst() > 0 ? shape.getFirst() : site.rows() / Math.max(1, shape.getLast());
        if (heads < 1 || heads > site.rows() || site.rows() % heads != 0) {
            return null;
        }
        long size = site.rows() / heads;
        return shape.getLast() > 0 && shape.getLast() != size
                ? null
                : new Split(site, (int) heads, (int) size, scale * layer.scale());
    }

    private static List<Long> order(NodeProto transpose) {
        AttributeProto order = OnnxGraph.attribute(transpose, "perm");
        return order == null ? List.of() : order.getIntsList();
    }

    /** The last two of the four dimensions that a Reshape makes, empty when they are not constant. */
    private List<Long> lastTwo(String shape) {
        List<Long> all = integers(shape);
        if (all.size() == 4) {
            return all.subList(2, 4);
        }
        NodeProto concat = graph.producer(shape);
        if (concat == null || !OnnxGraph.is(concat, "Concat") || concat.getInputCount() != 4) {
            return List.of();
        }
        List<Long> heads = integers(concat.getInput(2));
        List<Long> size = integers(concat.getInput(3));
        return heads.size() == 1 && size.size() == 1 ? List.of(heads.getFirst(), size.getFirst()) : List.of();
    }

    private List<Long> integers(String value) {
        OnnxGraph.Operand operand = graph.operand(value);
        if (operand == null || !OnnxTensors.dtype(operand.dataType()).equals(Optional.of(DType.I64))) {
            return List.of();
        }
        Tensor tensor = tensors.apply(operand.name());
        if (tensor.dtype() != DType.I64 || tensor.shape().elements() > 4) {
            return List.of();
        }
        List<Long> integers = new ArrayList<>();
        for (long i = 0; i < tensor.shape().elements(); i++) {
            integers.add(tensor.data().get(LONG, i * Long.BYTES));
        }
        return integers;
    }
}
