package org.sentei.format;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.ValueInfoProto;

/** Who makes and who reads each value of an ONNX graph, and which values are constant. */
final class OnnxGraph {
    /** Longest chain of Identity, Cast and Transpose nodes that is followed back to a constant. */
    private static final int MAX_CHAIN = 64;

    private final GraphProto graph;
    private final Map<String, TensorProto> constants = new LinkedHashMap<>();
    private final Map<String, Integer> producers = new HashMap<>();
    private final Map<String, List<Reader>> readers = new HashMap<>();
    private final Set<String> inputs = new HashSet<>();
    private final Set<String> outputs = new HashSet<>();
    /** Values that are read outside of the main graph's nodes: graph outputs and captures of nested graphs. */
    private final Set<String> escaping = new HashSet<>();

    /** Input {@code input} of node {@code node}. */
    record Reader(int node, int input) {}

    /**
     * One place where a constant ends up, beyond all Identity, Cast and Transpose nodes.
     *
     * @param flipped whether a matrix arrives there transposed
     * @param dataType ONNX's number of the type that arrives there
     */
    record Use(Reader reader, boolean flipped, int dataType) {}

    /**
     * The constant behind a value.
     *
     * @param name of the initializer, or the output of its Constant node
     * @param dataType ONNX's number of the type that arrives
     */
    record Operand(String name, boolean flipped, int dataType) {}

    OnnxGraph(GraphProto graph, String file) {
        this.graph = graph;
        for (TensorProto tensor : graph.getInitializerList()) {
            define(constants.put(tensor.getName(), tensor) == null, tensor.getName(), file);
        }
        graph.getInputList().forEach(input -> inputs.add(input.getName()));
        for (int n = 0; n < graph.getNodeCount(); n++) {
            NodeProto node = graph.getNode(n);
            for (String output : node.getOutputList()) {
                if (!output.isEmpty()) {
                    define(
                            !constants.containsKey(output)
                                    && !inputs.contains(output)
                                    && producers.put(output, n) == null,
                            output,
                            file);
                }
            }
            for (int i = 0; i < node.getInputCount(); i++) {
                readers.computeIfAbsent(node.getInput(i), value -> new ArrayList<>())
                        .add(new Reader(n, i));
            }
            for (AttributeProto attribute : node.getAttributeList()) {
                capture(attribute);
            }
        }
        for (int n = 0; n < graph.getNodeCount(); n++) {
            NodeProto node = graph.getNode(n);
            if (is(node, "Constant") && node.getOutputCount() == 1) {
                AttributeProto value = attribute(node, "value");
                if (value != null && value.hasT()) {
                    constants.put(node.getOutput(0), value.getT());
                }
            }
        }
        graph.getOutputList().forEach(output -> outputs.add(output.getName()));
        escaping.addAll(outputs);
    }

    private static void define(boolean first, String name, String file) {
        if (!first || name.isEmpty()) {
            throw new FormatException(file + ": the graph "
                    + (name.isEmpty() ? "has an initializer without a name" : "defines \"" + name + "\" twice")
                    + "; the file is damaged, export it again");
        }
    }

    private void capture(AttributeProto attribute) {
        if (attribute.hasG()) {
            capture(attribute.getG());
        }
        attribute.getGraphsList().forEach(this::capture);
    }

    private void capture(GraphProto nested) {
        for (NodeProto node : nested.getNodeList()) {
            escaping.addAll(node.getInputList());
            node.getAttributeList().forEach(this::capture);
        }
        for (ValueInfoProto output : nested.getOutputList()) {
            escaping.add(output.getName());
        }
    }

    /** Initializers, then the values of Constant nodes, in the file's order. */
    Map<String, TensorProto> constants() {
        return constants;
    }

    int nodes() {
        return graph.getNodeCount();
    }

    NodeProto node(int index) {
        return graph.getNode(index);
    }

    /** The node that makes a value, or null for graph inputs, initializers and unknown names. */
    NodeProto producer(String value) {
        Integer node = producers.get(value);
        return node == null ? null : graph.getNode(node);
    }

    /** The index of the node that makes a value. */
    int producerIndex(String value) {
        return producers.get(value);
    }

    boolean defines(String value) {
        return constants.containsKey(value) || producers.containsKey(value) || inputs.contains(value);
    }

    boolean isOutput(String value) {
        return outputs.contains(value);
    }

    /** The only reader of a value, or null when there are several, none, or readers outside of the main graph. */
    Reader onlyReader(String value) {
        List<Reader> all = readers.getOrDefault(value, List.of());
        return all.size() == 1 && !escaping.contains(value) ? all.getFirst() : null;
    }

    /** All places where a constant ends up; null when it is read outside of the main graph's nodes as well. */
    List<Use> uses(String constant) {
        List<Use> uses = new ArrayList<>();
        Deque<Operand> open = new ArrayDeque<>();
        Set<String> seen = new HashSet<>();
        open.add(new Operand(constant, false, constants.get(constant).getDataType()));
        while (!open.isEmpty()) {
            Operand value = open.remove();
            if (escaping.contains(value.name())) {
                return null;
            }
            for (Reader reader : readers.getOrDefault(value.name(), List.of())) {
                NodeProto node = graph.getNode(reader.node());
                Operand next = through(node, value);
                if (next == null) {
                    uses.add(new Use(reader, value.flipped(), value.dataType()));
                } else if (seen.add(next.name())) {
                    open.add(next);
                }
            }
        }
        return uses;
    }

    /** The constant that arrives at a value, or null when the value is computed. */
    Operand operand(String value) {
        Deque<NodeProto> path = new ArrayDeque<>();
        String origin = value;
        while (!constants.containsKey(origin)) {
            NodeProto node = producer(origin);
            if (node == null || node.getInputCount() != 1 || path.size() == MAX_CHAIN) {
                return null;
            }
            path.push(node);
            origin = node.getInput(0);
        }
        Operand operand = new Operand(origin, false, constants.get(origin).getDataType());
        for (NodeProto node : path) {
            operand = through(node, operand);
            if (operand == null) {
                return null;
            }
        }
        return new Operand(origin, operand.flipped(), operand.dataType());
    }

    /** What leaves an Identity, Cast or matrix Transpose that {@code value} enters; null for any other node. */
    private static Operand through(NodeProto node, Operand value) {
        if (node.getInputCount() != 1 || node.getOutputCount() != 1) {
            return null;
        }
        String output = node.getOutput(0);
        if (is(node, "Identity")) {
            return new Operand(output, value.flipped(), value.dataType());
        }
        if (is(node, "Cast")) {
            AttributeProto to = attribute(node, "to");
            return to == null ? null : new Operand(output, value.flipped(), (int) to.getI());
        }
        if (is(node, "Transpose")) {
            AttributeProto order = attribute(node, "perm");
            if (order == null || order.getIntsList().equals(List.of(1L, 0L))) {
                return new Operand(output, !value.flipped(), value.dataType());
            }
            if (order.getIntsList().equals(List.of(0L, 1L))) {
                return new Operand(output, value.flipped(), value.dataType());
            }
        }
        return null;
    }

    /** Whether the node is this operator of the standard set. */
    static boolean is(NodeProto node, String operator) {
        return node.getOpType().equals(operator)
                && (node.getDomain().isEmpty() || node.getDomain().equals("ai.onnx"));
    }

    /** The attribute of this name, or null. */
    static AttributeProto attribute(NodeProto node, String name) {
        for (AttributeProto attribute : node.getAttributeList()) {
            if (attribute.getName().equals(name)) {
                return attribute;
            }
        }
        return null;
    }
}
