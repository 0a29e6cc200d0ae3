package org.sentei.format;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.OperatorSetIdProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TensorShapeProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.model.GraphNetwork;
import org.sentei.tensor.DType;

/**
 * A graph network as an ONNX graph of dense products, its zeros among the weights.
 *
 * <p>Over nodes it reads {@code features} (nodes x features) and {@code adjacency} (nodes x nodes, normalized, self-loops
 * included) and gives {@code scores} (nodes x classes); over skeletons it reads {@code signals} (batch x joints x signal) and
 * gives {@code scores} (batch x classes).
 */
final class NetworkOnnx {
    private static final int OPSET = 17;
    private static final int IR_VERSION = 8;
    private static final int FLOAT = OnnxTensors.number(DType.F32);

    private final GraphProto.Builder graph = GraphProto.newBuilder();

    private NetworkOnnx() {}

    /**
     * The graph.
     *
     * @param parameters in the network's order
     */
    static ModelProto of(GraphNetwork network, List<float[]> parameters) {
        NetworkOnnx onnx = new NetworkOnnx();
        for (int i = 0; i < parameters.size(); i++) {
            onnx.weights(network.parameters().get(i), parameters.get(i));
        }
        switch (network) {
            case GraphNetwork.Nodes nodes -> onnx.nodes(nodes);
            case GraphNetwork.Skeletons skeletons -> onnx.skeletons(skeletons);
        }
        return ModelProto.newBuilder()
                .setIrVersion(IR_VERSION)
                .setProducerName("sentei")
                .addOpsetImport(OperatorSetIdProto.newBuilder().setVersion(OPSET))
                .setGraph(onnx.graph.setName(network.architecture()))
                .build();
    }

    private void nodes(GraphNetwork.Nodes network) {
        graph.addInput(value("features", "nodes", network.features()));
        graph.addInput(value("adjacency", "nodes", "nodes"));
        graph.addOutput(value("scores", "nodes", network.classes()));
        layer("features", "layer0", "heard");
        node("Relu", "hidden", "heard");
        layer("hidden", "layer1", "scores");
    }

    private void layer(String input, String name, String output) {
        node("MatMul", name + ".said", input, name + ".weight");
        node("MatMul", name + ".sum", "adjacency", name + ".said");
        node("Add", output, name + ".sum", name + ".bias");
    }

    private void skeletons(GraphNetwork.Skeletons network) {
        graph.addInput(value("signals", "batch", network.joints(), network.signal()));
        graph.addOutput(value("scores", "batch", network.classes()));
        node("MatMul", "encoder.product", "signals", "encoder.weight");
        node("Add", "encoder.sum", "encoder.product", "encoder.bias");
        node("Relu", "encoded", "encoder.sum");
        NodeProto.Builder sum =
                NodeProto.newBuilder().setOpType("Sum").setName("heads").addOutput("heads.sum");
        for (int k = 0; k < network.heads(); k++) {
            String head = "head" + k;
            node("MatMul", head + ".heard", head + ".adjacency", "encoded");
            node("MatMul", head + ".product", head + ".heard", head + ".weight");
            sum.addInput(head + ".product");
        }
        graph.addNode(sum.addInput("heads.bias"));
        node("Relu", "filtered", "heads.sum");
        node("Flatten", "flat", "filtered");
        node("MatMul", "classifier.product", "flat", "classifier.weight");
        node("Add", "scores", "classifier.product", "classifier.bias");
    }

    private void weights(GraphNetwork.Parameter parameter, float[] values) {
        ByteBuffer bytes = ByteBuffer.allocate(values.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        graph.addInitializer(TensorProto.newBuilder()
                .setName(parameter.name())
                .setDataType(FLOAT)
                .addDims(parameter.rows())
                .addDims(parameter.cols())
                .setRawData(ByteString.copyFrom(bytes)));
    }

    private void node(String type, String output, String... inputs) {
        graph.addNode(NodeProto.newBuilder()
                .setOpType(type)
                .setName(output)
                .addOutput(output)
                .addAllInput(List.of(inputs)));
    }

    /** @param sizes numbers, or names of those that may vary */
    private static ValueInfoProto value(String name, Object... sizes) {
        TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
        for (Object size : sizes) {
            shape.addDim(
                    size instanceof Integer number
                            ? TensorShapeProto.Dimension.newBuilder().setDimValue(number)
                            : TensorShapeProto.Dimension.newBuilder().setDimParam((String) size));
        }
        return ValueInfoProto.newBuilder()
                .setName(name)
                .setType(TypeProto.newBuilder()
                        .setTensorType(
                                TypeProto.Tensor.newBuilder().setElemType(FLOAT).setShape(shape)))
                .build();
    }
}
