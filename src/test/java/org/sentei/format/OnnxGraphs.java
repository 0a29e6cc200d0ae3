package org.sentei.format;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.AttributeProto.AttributeType;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.OperatorSetIdProto;
import org.sentei.format.onnx.proto.StringStringEntryProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;

/** Small ONNX models for tests. */
public final class OnnxGraphs {
    public static final int FLOAT = 1;
    public static final int FLOAT16 = 10;

    private OnnxGraphs() {}

    /** A graph that reads x of rows x features and returns y. */
    public static GraphProto.Builder graph(NodeProto... nodes) {
        return GraphProto.newBuilder()
                .setName("test")
                .addInput(ValueInfoProto.newBuilder()
                        .setName("x")
                        .setType(TypeProto.newBuilder()
                                .setTensorType(TypeProto.Tensor.newBuilder().setElemType(FLOAT))))
                .addOutput(ValueInfoProto.newBuilder()
                        .setName("y")
                        .setType(TypeProto.newBuilder()
                                .setTensorType(TypeProto.Tensor.newBuilder().setElemType(FLOAT))))
                .addAllNode(List.of(nodes));
    }

    public static NodeProto node(String operator, String inputs, String output, AttributeProto... attributes) {
        return NodeProto.newBuilder()
                .setOpType(operator)
                .addAllInput(List.of(inputs.split(" ", -1)))
                .addOutput(output)
                .addAllAttribute(List.of(attributes))
                .build();
    }

    /** A Constant node that holds the tensor under the tensor's own name. */
    public static NodeProto constant(TensorProto tensor) {
        return NodeProto.newBuilder()
                .setOpType("Constant")
                .addOutput(tensor.getName())
                .addAttribute(AttributeProto.newBuilder()
                        .setName("value")
                        .setType(AttributeType.TENSOR)
                        .setT(tensor))
                .build();
    }

    public static AttributeProto integer(String name, long value) {
        return AttributeProto.newBuilder()
                .setName(name)
                .setType(AttributeType.INT)
                .setI(value)
                .build();
    }

    public static AttributeProto number(String name, float value) {
        return AttributeProto.newBuilder()
                .setName(name)
                .setType(AttributeType.FLOAT)
                .setF(value)
                .build();
    }

    public static AttributeProto integers(String name, Long... values) {
        return AttributeProto.newBuilder()
                .setName(name)
                .setType(AttributeType.INTS)
                .addAllInts(List.of(values))
                .build();
    }

    /** A matrix as raw bytes; its values are 1, 2, 3 and so on. */
    public static TensorProto matrix(String name, int first, int second) {
        float[] values = new float[first * second];
        for (int i = 0; i < values.length; i++) {
            values[i] = i + 1;
        }
        return floats(name, values).toBuilder()
                .clearDims()
                .addDims(first)
                .addDims(second)
                .build();
    }

    /** A vector as raw bytes. */
    public static TensorProto floats(String name, float... values) {
        return TensorProto.newBuilder()
                .setName(name)
                .setDataType(FLOAT)
                .addDims(values.length)
                .setRawData(bytes(values))
                .build();
    }

    public static ByteString bytes(float... values) {
        ByteBuffer buffer = ByteBuffer.allocate(values.length * 4).order(ByteOrder.LITTLE_ENDIAN);
        for (float value : values) {
            buffer.putFloat(value);
        }
        return ByteString.copyFrom(buffer.flip());
    }

    /** The same tensor with its bytes in a file beside the model. */
    public static TensorProto external(TensorProto tensor, String location, String offset, String length) {
        return tensor.toBuilder()
                .clearRawData()
                .setDataLocation(TensorProto.DataLocation.EXTERNAL)
                .addExternalData(entry("location", location))
                .addExternalData(entry("offset", offset))
                .addExternalData(entry("length", length))
                .build();
    }

    public static StringStringEntryProto entry(String key, String value) {
        return StringStringEntryProto.newBuilder().setKey(key).setValue(value).build();
    }

    public static ModelProto model(GraphProto.Builder graph) {
        return ModelProto.newBuilder()
                .setIrVersion(7)
                .addOpsetImport(OperatorSetIdProto.newBuilder().setDomain("").setVersion(14))
                .setGraph(graph)
                .build();
    }

    public static Path save(Path folder, ModelProto model) {
        return save(folder.resolve("model.onnx"), model.toByteArray());
    }

    public static Path save(Path file, byte[] bytes) {
        try {
            return Files.write(file, bytes);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    public static ModelProto load(Path file) {
        try {
            return ModelProto.parseFrom(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
