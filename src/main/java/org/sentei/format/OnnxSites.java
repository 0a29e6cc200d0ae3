package org.sentei.format;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.sentei.format.OnnxGraph.Operand;
import org.sentei.format.OnnxGraph.Reader;
import org.sentei.format.OnnxGraph.Use;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.StringStringEntryProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.Site;
import org.sentei.model.Site.Role;
import org.sentei.tensor.DType;

/** Finds the linear layers and convolutions of an ONNX graph; {@link OnnxFile#sites} says which nodes count as one. */
final class OnnxSites {
    private static final Pattern BLOCK = Pattern.compile("(?:^|[./_])(?:layers?|h|blocks?)[./_](\\d{1,6})(?=[./_]|$)");
    private static final Pattern LAST_MODULE = Pattern.compile("'([^']+)', '[^']*'\\]$");
    private static final Set<String> ACTIVATIONS = Set.of(
            "Relu",
            "LeakyRelu",
            "PRelu",
            "Elu",
            "Selu",
            "Celu",
            "Gelu",
            "FastGelu",
            "QuickGelu",
            "BiasGelu",
            "Swish",
            "Mish",
            "HardSwish",
            "HardSigmoid",
            "Sigmoid",
            "Softplus",
            "Softsign",
            "ThresholdedRelu",
            "Tanh",
            "Erf");

    /** Which part of a layer's readable name says what the layer does; the first that matches counts. */
    private static final List<NamedRole> NAMED_ROLES = List.of(
            new NamedRole("lm_head|cls\\.predictions\\..*|classifier|embed_out", Role.HEAD),
            new NamedRole("c_attn|qkv|qkv_proj|query_key_value|in_proj|Wqkv", Role.QUERY_KEY_VALUE),
            new NamedRole("query|q_proj|q_lin|to_q|wq", Role.QUERY),
            new NamedRole("key|k_proj|k_lin|to_k|wk", Role.KEY),
            new NamedRole("value|v_proj|v_lin|to_v|wv", Role.VALUE),
            new NamedRole(
                    "(?:attention|attn)\\.(?:output\\.dense|dense|c_proj|proj)|out_proj|o_proj|out_lin|to_out\\.0",
                    Role.ATTENTION_OUTPUT),
            new NamedRole("gate_proj", Role.GATE),
            new NamedRole("intermediate\\.dense|fc1|c_fc|up_proj|lin1|dense_h_to_4h", Role.UP),
            new NamedRole("output\\.dense|fc2|mlp\\.c_proj|down_proj|lin2|dense_4h_to_h", Role.DOWN));

    private final OnnxGraph graph;
    private final Set<String> taken = new HashSet<>();

    private record NamedRole(Pattern pattern, Role role) {
        NamedRole(String ending, Role role) {
            this(Pattern.compile("(?:^|.*[./])(?:" + ending + ")"), role);
        }
    }

    /** Where a layer's bias enters: an input of the Gemm itself, or of the Add behind the MatMul. */
    record Bias(String tensor, int node, int input, int dataType) {
        static final Bias NONE = new Bias(null, -1, -1, 0);
    }

    /**
     * A site with the nodes behind it.
     *
     * @param nodes MatMul or Gemm nodes that read the weight, in the graph's order
     * @param biases the bias of each node
     * @param dataType ONNX's number of the type the layer computes in
     * @param biasEditable false when the nodes disagree about their bias or compute it
     */
    record Found(Site site, List<Integer> nodes, List<Bias> biases, int dataType, boolean biasEditable) {}

    OnnxSites(OnnxGraph graph) {
        this.graph = graph;
    }

    List<Found> find() {
        List<Weight> weights = new ArrayList<>();
        graph.constants().forEach((name, tensor) -> {
            Weight weight = weight(name, tensor);
            if (weight != null) {
                weights.add(weight);
            }
        });
        weights.sort(Comparator.comparing(weight -> weight.nodes().getFirst()));
        Map<String, Integer> biasUses = new HashMap<>();
        for (Weight weight : weights) {
            if (weight.bias() != null) {
                biasUses.merge(weight.bias(), 1, Integer::sum);
            }
        }
        return weights.stream()
                .map(weight -> site(weight, biasUses.getOrDefault(weight.bias(), 0) == 1))
                .toList();
    }

    private record Weight(
            String tensor,
            long rows,
            long cols,
            boolean transposed,
            List<Integer> nodes,
            List<Bias> biases,
            int dataType,
            boolean biasEditable) {
        String bias() {
            return biasEditable ? biases.getFirst().tensor() : null;
        }
    }

    /** The weight of a linear layer or convolution, or null when this constant is anything else. */
    private Weight weight(String name, TensorProto tensor) {
        return tensor.getDimsCount() > 2 ? filters(name, tensor) : matrix(name, tensor);
    }

    /** A row for every output channel, whose columns are the inputs' channels times the window. */
    private Weight filters(String name, TensorProto tensor) {
        long rows = tensor.getDims(0);
        long elements = tensor.getDimsList().stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
        List<Use> uses = elements == 0 || !isFloating(tensor.getDataType()) ? null : graph.uses(name);
        if (uses == null || uses.isEmpty()) {
            return null;
        }
        boolean filters = uses.stream().allMatch(use -> {
            NodeProto node = graph.node(use.reader().node());
            return OnnxGraph.is(node, "Conv")
                    && use.reader().input() == 1
                    && node.getOutputCount() == 1
                    && isFloating(use.dataType())
                    && graph.operand(node.getInput(0)) == null;
        });
        if (!filters) {
            return null;
        }
        List<Integer> nodes =
                uses.stream().map(use -> use.reader().node()).sorted().toList();
        return new Weight(
                name,
                rows,
                elements / rows,
                false,
                nodes,
                nodes.stream().map(_ -> Bias.NONE).toList(),
                uses.getFirst().dataType(),
                false);
    }

    private Weight matrix(String name, TensorProto tensor) {
        if (tensor.getDimsCount() != 2
                || tensor.getDims(0) == 0
                || tensor.getDims(1) == 0
                || !isFloating(tensor.getDataType())) {
            return null;
        }
        List<Use> uses = graph.uses(name);
        if (uses == null || uses.isEmpty()) {
            return null;
        }
        Boolean inputsFirst = null;
        List<Integer> nodes = new ArrayList<>();
        for (Use use : uses) {
            NodeProto node = graph.node(use.reader().node());
            boolean gemm = OnnxGraph.is(node, "Gemm");
            boolean layer = use.reader().input() == 1
                    && isFloating(use.dataType())
                    && (gemm ? isPlain(node) : OnnxGraph.is(node, "MatMul"))
                    && node.getOutputCount() == 1
                    && graph.operand(node.getInput(0)) == null;
            boolean here = !use.flipped() ^ (gemm && integer(node, "transB") != 0);
            if (!layer || (inputsFirst != null && inputsFirst != here)) {
                return null;
            }
            inputsFirst = here;
            nodes.add(use.reader().node());
        }
        nodes.sort(Comparator.naturalOrder());
        long rows = tensor.getDims(inputsFirst ? 1 : 0);
        long cols = tensor.getDims(inputsFirst ? 0 : 1);
        List<Bias> biases = nodes.stream().map(node -> bias(node, rows)).toList();
        boolean editable = biases.stream()
                .allMatch(bias -> bias != null
                        && Objects.equals(bias.tensor(), biases.getFirst().tensor()));
        return new Weight(
                name, rows, cols, inputsFirst, nodes, biases, uses.getFirst().dataType(), editable);
    }

    /** Gemm(x, w, c) without a scale and without a transposed input is a linear layer. */
    private static boolean isPlain(NodeProto gemm) {
        AttributeProto alpha = OnnxGraph.attribute(gemm, "alpha");
        AttributeProto beta = OnnxGraph.attribute(gemm, "beta");
        return integer(gemm, "transA") == 0
                && (alpha == null || alpha.getF() == 1)
                && (beta == null || beta.getF() == 1);
    }

    private static long integer(NodeProto node, String attribute) {
        AttributeProto found = OnnxGraph.attribute(node, attribute);
        return found == null ? 0 : found.getI();
    }

    private static boolean isFloating(int dataType) {
        return OnnxTensors.dtype(dataType).map(DType::isFloating).orElse(false);
    }

    /** The bias of one node, or null when it is computed or has another shape. */
    private Bias bias(int index, long rows) {
        NodeProto node = graph.node(index);
        if (OnnxGraph.is(node, "Gemm")) {
            boolean none = node.getInputCount() < 3 || node.getInput(2).isEmpty();
            return none ? Bias.NONE : constantBias(index, 2, rows);
        }
        Reader reader = graph.onlyReader(node.getOutput(0));
        if (reader != null) {
            NodeProto next = graph.node(reader.node());
            if (OnnxGraph.is(next, "Add") && next.getInputCount() == 2 && next.getOutputCount() == 1) {
                Bias added = constantBias(reader.node(), 1 - reader.input(), rows);
                if (added != null) {
                    return added;
                }
            }
        }
        return Bias.NONE;
    }

    private Bias constantBias(int node, int input, long rows) {
        Operand operand = graph.operand(graph.node(node).getInput(input));
        if (operand == null || !isFloating(operand.dataType())) {
            return null;
        }
        TensorProto tensor = graph.constants().get(operand.name());
        return tensor.getDimsCount() == 1 && tensor.getDims(0) == rows && isFloating(tensor.getDataType())
                ? new Bias(operand.name(), node, input, operand.dataType())
                : null;
    }

    private Found site(Weight weight, boolean ownBias) {
        NodeProto first = graph.node(weight.nodes().getFirst());
        String readable = name(weight, ownBias, first);
        String name = readable;
        for (int i = 2; !taken.add(name); i++) {
            name = readable + "_" + i;
        }
        String input = first.getInput(0);
        Site site = new Site(
                name,
                weight.tensor(),
                weight.bias(),
                weight.rows(),
                weight.cols(),
                weight.transposed(),
                role(readable, weight, input),
                block(readable),
                input);
        return new Found(site, weight.nodes(), weight.biases(), weight.dataType(), weight.biasEditable());
    }

    /** The bias keeps its readable name where exporters fold a transposed weight into a numbered constant. */
    private static String name(Weight weight, boolean ownBias, NodeProto node) {
        String stem = ownBias ? stem(weight.bias(), ".bias", ".b_0") : null;
        if (stem == null) {
            stem = stem(weight.tensor(), ".weight", ".w_0");
        }
        if (stem == null) {
            stem = scope(node);
        }
        if (stem == null && !node.getName().isEmpty()) {
            stem = node.getName()
                    .replaceFirst("^/", "")
                    .replaceFirst("/(?:MatMul|Gemm)$", "")
                    .replace('/', '.');
        }
        return stem == null || stem.isEmpty() ? weight.tensor() : stem;
    }

    /** The module that PyTorch's exporter notes for a node: the last but one of a printed list of scopes. */
    private static String scope(NodeProto node) {
        for (StringStringEntryProto entry : node.getMetadataPropsList()) {
            if (entry.getKey().equals("pkg.torch.onnx.name_scopes")) {
                Matcher matcher = LAST_MODULE.matcher(entry.getValue());
                return matcher.find() ? matcher.group(1) : null;
            }
        }
        return null;
    }

    private static String stem(String name, String... endings) {
        for (String ending : endings) {
            if (name.endsWith(ending) && name.length() > ending.length()) {
                return name.substring(0, name.length() - ending.length());
            }
        }
        return null;
    }

    private static int block(String name) {
        Matcher matcher = BLOCK.matcher(name);
        return matcher.find() ? Integer.parseInt(matcher.group(1)) : 0;
    }

    private Role role(String name, Weight weight, String input) {
        for (NamedRole named : NAMED_ROLES) {
            if (named.pattern().matcher(name).matches()) {
                return named.role();
            }
        }
        for (int i = 0; i < weight.nodes().size(); i++) {
            Bias bias = weight.biases().get(i);
            int last = bias == null || bias.tensor() == null ? weight.nodes().get(i) : bias.node();
            if (isLast(graph.node(last).getOutput(0))) {
                return Role.HEAD;
            }
        }
        if (comesFromActivation(input, 6)) {
            return Role.DOWN;
        }
        return comesFromHeads(input) ? Role.ATTENTION_OUTPUT : Role.OTHER;
    }

    /** An output of the graph, directly or through activations and softmax. */
    private boolean isLast(String value) {
        String current = value;
        for (int step = 0; step < 4; step++) {
            Reader reader = graph.onlyReader(current);
            if (graph.isOutput(current) || reader == null) {
                return graph.isOutput(current);
            }
            NodeProto node = graph.node(reader.node());
            boolean keepsRows = ACTIVATIONS.contains(node.getOpType())
                    || OnnxGraph.is(node, "Softmax")
                    || OnnxGraph.is(node, "LogSoftmax")
                    || OnnxGraph.is(node, "Identity")
                    || OnnxGraph.is(node, "Cast");
            if (!keepsRows || node.getOutputCount() != 1) {
                return false;
            }
            current = node.getOutput(0);
        }
        return false;
    }

    /** An activation, or one spelled out as products and sums of constants: GELU by Erf or Tanh, SiLU by Sigmoid. */
    private boolean comesFromActivation(String value, int depth) {
        NodeProto node = graph.producer(value);
        if (node == null || depth == 0) {
            return false;
        }
        if (ACTIVATIONS.contains(node.getOpType())) {
            return true;
        }
        boolean passes = OnnxGraph.is(node, "Mul")
                || OnnxGraph.is(node, "Cast")
                || OnnxGraph.is(node, "Dropout")
                || (OnnxGraph.is(node, "Add")
                        && node.getInputList().stream().anyMatch(in -> graph.operand(in) != null));
        return passes && node.getInputList().stream().limit(2).anyMatch(in -> comesFromActivation(in, depth - 1));
    }

    /** Attention heads laid side by side: MatMul, Transpose, Reshape. */
    private boolean comesFromHeads(String value) {
        String current = value;
        for (String operator : List.of("Reshape", "Transpose", "MatMul")) {
            NodeProto node = graph.producer(current);
            if (node == null || !OnnxGraph.is(node, operator) || node.getInputCount() == 0) {
                return false;
            }
            current = node.getInput(0);
        }
        return true;
    }
}
