package org.sentei.format;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnsafeByteOperations;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.AttributeProto.AttributeType;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.OperatorSetIdProto;
import org.sentei.format.onnx.proto.StringStringEntryProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TensorShapeProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.model.GraphModel;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** An ONNX model as a graph of layers, and back: {@link OnnxFile#layers} and its writing twins are the contract. */
final class OnnxLayers {
    /** The file format's version from which weights need not be inputs and all operators here have their types. */
    private static final long IR_VERSION = 8;

    private final Path source;
    private final ModelProto model;
    private final OnnxTensors tensors;

    OnnxLayers(Path source, ModelProto model, OnnxTensors tensors) {
        this.source = source;
        this.model = model;
        this.tensors = tensors;
    }

    /** For a graph that no file holds yet. */
    static OnnxLayers empty(Path target) {
        return new OnnxLayers(
                target, ModelProto.newBuilder().setProducerName("sentei").build(), null);
    }

    // ---- reading

    LayerGraph read() {
        GraphProto graph = model.getGraph();
        Map<String, Tensor> constants = new LinkedHashMap<>();
        for (TensorProto tensor : graph.getInitializerList()) {
            if (OnnxTensors.dtype(tensor.getDataType()).isEmpty()) {
                throw new FormatException(source + ": tensor \"" + tensor.getName() + "\" has ONNX's type "
                        + tensor.getDataType() + ", which a graph that is rewritten cannot carry; convert it first");
            }
            constants.put(tensor.getName(), tensors.tensor(tensor.getName(), tensor));
        }
        List<Layer> layers = new ArrayList<>();
        Set<String> names = new HashSet<>();
        for (NodeProto node : graph.getNodeList()) {
            AttributeProto value = OnnxGraph.is(node, "Constant") ? OnnxGraph.attribute(node, "value") : null;
            if (value != null
                    && value.hasT()
                    && node.getOutputCount() == 1
                    && OnnxTensors.dtype(value.getT().getDataType()).isPresent()) {
                constants.put(node.getOutput(0), tensors.tensor(node.getOutput(0), value.getT()));
            } else {
                layers.add(layer(node, names));
            }
        }
        List<LayerGraph.Port> inputs = graph.getInputList().stream()
                .filter(input -> !constants.containsKey(input.getName()))
                .map(OnnxLayers::port)
                .toList();
        return new LayerGraph(
                source.toString(),
                opset(),
                inputs,
                graph.getOutputList().stream().map(OnnxLayers::port).toList(),
                layers,
                constants);
    }

    private long opset() {
        return model.getOpsetImportList().stream()
                .filter(set -> set.getDomain().isEmpty() || set.getDomain().equals("ai.onnx"))
                .mapToLong(OperatorSetIdProto::getVersion)
                .max()
                .orElseThrow(() -> new FormatException(
                        source + " does not say which version of the operators it uses; export it again"));
    }

    private static LayerGraph.Port port(ValueInfoProto value) {
        TypeProto.Tensor type = value.getType().getTensorType();
        List<OptionalLong> dimensions = type.getShape().getDimList().stream()
                .map(size -> size.hasDimValue() && size.getDimValue() > 0
                        ? OptionalLong.of(size.getDimValue())
                        : OptionalLong.empty())
                .toList();
        return new LayerGraph.Port(
                value.getName(), OnnxTensors.dtype(type.getElemType()).orElse(null), dimensions);
    }

    private static Layer layer(NodeProto node, Set<String> names) {
        String stem = node.getName().isEmpty()
                ? node.getOutputList().stream()
                        .filter(output -> !output.isEmpty())
                        .findFirst()
                        .orElse(node.getOpType())
                : node.getName();
        String name = stem;
        for (int i = 2; !names.add(name); i++) {
            name = stem + "_" + i;
        }
        Map<String, Attribute> attributes = new LinkedHashMap<>();
        List<String> captures = new ArrayList<>();
        for (AttributeProto attribute : node.getAttributeList()) {
            attributes.put(attribute.getName(), attribute(attribute));
            capture(attribute, captures);
        }
        return new Layer(
                name,
                node.getDomain().equals("ai.onnx") ? "" : node.getDomain(),
                node.getOpType(),
                node.getInputList(),
                node.getOutputList(),
                attributes,
                captures);
    }

    private static Attribute attribute(AttributeProto attribute) {
        return switch (attribute.getType()) {
            case INT -> new Attribute.Whole(attribute.getI());
            case FLOAT -> new Attribute.Decimal(attribute.getF());
            case STRING -> new Attribute.Text(attribute.getS().toStringUtf8());
            case INTS -> new Attribute.Wholes(attribute.getIntsList());
            case FLOATS -> new Attribute.Decimals(attribute.getFloatsList());
            case UNDEFINED, TENSOR, GRAPH, STRINGS, TENSORS, GRAPHS ->
                new Attribute.Raw(MemorySegment.ofArray(attribute.toByteArray()).asReadOnly());
        };
    }

    /** What nested graphs read and do not make themselves. */
    private static void capture(AttributeProto attribute, List<String> captures) {
        List<GraphProto> nested = new ArrayList<>(attribute.getGraphsList());
        if (attribute.hasG()) {
            nested.add(attribute.getG());
        }
        for (GraphProto graph : nested) {
            Set<String> own = new HashSet<>();
            graph.getInputList().forEach(input -> own.add(input.getName()));
            graph.getInitializerList().forEach(tensor -> own.add(tensor.getName()));
            List<String> read = new ArrayList<>();
            for (NodeProto node : graph.getNodeList()) {
                read.addAll(node.getInputList());
                node.getAttributeList().forEach(inner -> capture(inner, read));
                own.addAll(node.getOutputList());
            }
            graph.getOutputList().forEach(output -> read.add(output.getName()));
            read.stream()
                    .filter(value -> !value.isEmpty() && !own.contains(value) && !captures.contains(value))
                    .forEach(captures::add);
        }
    }

    // ---- writing

    /** The model with these layers: constants inside, all else as it was. */
    ModelProto write(LayerGraph graph) {
        long bytes = graph.constants().values().stream()
                .mapToLong(tensor -> tensor.data().byteSize())
                .sum();
        if (bytes > Integer.MAX_VALUE / 2) {
            throw new FormatException(source + ": its weights have " + bytes
                    + " bytes, too many to rewrite its graph; quantize a smaller model");
        }
        ModelProto.Builder written = message(graph);
        graph.constants()
                .values()
                .forEach(tensor ->
                        written.getGraphBuilder().addInitializer(tensor(tensor).setRawData(raw(tensor))));
        return written.build();
    }

    /** The model with these layers and more outputs, for running it; large weights are views where they can be. */
    GraphModel runnable(LayerGraph graph, Collection<String> tapped, Arena arena) {
        ModelProto.Builder written = message(graph);
        GraphProto.Builder proto = written.getGraphBuilder();
        List<Tensor> weights = new ArrayList<>();
        for (Tensor tensor : graph.constants().values()) {
            if (tensor.dtype() == DType.F32 && tensor.data().byteSize() >= OnnxWire.LARGE) {
                MemorySegment bytes = tensor.data();
                weights.add(
                        bytes.isNative()
                                ? tensor
                                : new Tensor(
                                        tensor.name(),
                                        tensor.dtype(),
                                        tensor.shape(),
                                        arena.allocateFrom(JAVA_BYTE, bytes, JAVA_BYTE, 0, bytes.byteSize())));
                proto.addInitializer(tensor(tensor)
                        .setDataLocation(TensorProto.DataLocation.EXTERNAL)
                        .addExternalData(entry("location", OnnxWire.THIS_FILE))
                        .addExternalData(entry("offset", "0"))
                        .addExternalData(entry("length", Long.toString(bytes.byteSize()))));
            } else {
                proto.addInitializer(tensor(tensor).setRawData(raw(tensor)));
            }
        }
        tapped.stream()
                .filter(value -> !graph.isOutput(value))
                .distinct()
                .forEach(value -> proto.addOutput(ValueInfoProto.newBuilder().setName(value)));
        return new GraphModel(
                source.toString(),
                arena.allocateFrom(JAVA_BYTE, written.build().toByteArray()),
                weights,
                tensors.folder());
    }

    /** Everything but the constants. */
    private ModelProto.Builder message(LayerGraph graph) {
        ModelProto.Builder written = model.toBuilder();
        written.setIrVersion(Math.max(IR_VERSION, model.getIrVersion())).clearOpsetImport();
        written.addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(graph.opset()));
        model.getOpsetImportList().stream()
                .filter(set -> !set.getDomain().isEmpty() && !set.getDomain().equals("ai.onnx"))
                .forEach(written::addOpsetImport);
        GraphProto.Builder proto = written.getGraphBuilder();
        proto.clearNode().clearInitializer().clearValueInfo().clearInput().clearOutput();
        Map<String, ValueInfoProto> known = new LinkedHashMap<>();
        model.getGraph().getInputList().forEach(value -> known.put(value.getName(), value));
        model.getGraph().getOutputList().forEach(value -> known.put(value.getName(), value));
        graph.inputs().forEach(port -> proto.addInput(value(known, port)));
        graph.outputs().forEach(port -> proto.addOutput(value(known, port)));
        graph.layers().forEach(layer -> proto.addNode(node(layer)));
        return written;
    }

    /** As the file has it; of other ports, such as a part's own inputs, what is known of type and sizes. */
    private static ValueInfoProto value(Map<String, ValueInfoProto> known, LayerGraph.Port port) {
        ValueInfoProto.Builder value = ValueInfoProto.newBuilder().setName(port.name());
        if (port.dtype() != null) {
            TypeProto.Tensor.Builder type = TypeProto.Tensor.newBuilder().setElemType(OnnxTensors.number(port.dtype()));
            for (int i = 0; i < port.dimensions().size(); i++) {
                OptionalLong size = port.dimensions().get(i);
                TensorShapeProto.Dimension.Builder dimension =
                        type.getShapeBuilder().addDimBuilder();
                if (size.isPresent()) {
                    dimension.setDimValue(size.getAsLong());
                } else {
                    dimension.setDimParam(i == 0 ? "batch" : port.name() + "." + i);
                }
            }
            value.setType(TypeProto.newBuilder().setTensorType(type));
        }
        return known.getOrDefault(port.name(), value.build());
    }

    private static NodeProto node(Layer layer) {
        NodeProto.Builder node = NodeProto.newBuilder()
                .setName(layer.name())
                .setOpType(layer.operator())
                .addAllInput(layer.inputs())
                .addAllOutput(layer.outputs());
        if (!layer.domain().isEmpty()) {
            node.setDomain(layer.domain());
        }
        layer.attributes().forEach((name, value) -> node.addAttribute(attribute(name, value)));
        return node.build();
    }

    private static AttributeProto attribute(String name, Attribute value) {
        AttributeProto.Builder proto = AttributeProto.newBuilder().setName(name);
        return switch (value) {
            case Attribute.Whole(long number) ->
                proto.setType(AttributeType.INT).setI(number).build();
            case Attribute.Decimal(float number) ->
                proto.setType(AttributeType.FLOAT).setF(number).build();
            case Attribute.Text(String text) ->
                proto.setType(AttributeType.STRING)
                        .setS(ByteString.copyFromUtf8(text))
                        .build();
            case Attribute.Wholes(List<Long> numbers) ->
                proto.setType(AttributeType.INTS).addAllInts(numbers).build();
            case Attribute.Decimals(List<Float> numbers) ->
                proto.setType(AttributeType.FLOATS).addAllFloats(numbers).build();
            case Attribute.Raw(MemorySegment content) -> {
                try {
                    yield AttributeProto.parseFrom(content.asByteBuffer());
                } catch (InvalidProtocolBufferException e) {
                    throw new IllegalStateException("attribute " + name + " was no attribute", e);
                }
            }
        };
    }

    private static TensorProto.Builder tensor(Tensor tensor) {
        TensorProto.Builder proto =
                TensorProto.newBuilder().setName(tensor.name()).setDataType(OnnxTensors.number(tensor.dtype()));
        for (long dimension : tensor.shape().toArray()) {
            proto.addDims(dimension);
        }
        return proto;
    }

    private static ByteString raw(Tensor tensor) {
        return tensor.data().isNative()
                ? UnsafeByteOperations.unsafeWrap(tensor.data().asByteBuffer())
                : UnsafeByteOperations.unsafeWrap(tensor.data().toArray(JAVA_BYTE));
    }

    private static StringStringEntryProto entry(String key, String value) {
        return StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
    }
}
