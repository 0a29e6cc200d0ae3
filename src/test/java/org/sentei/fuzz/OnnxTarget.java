package org.sentei.fuzz;

import static org.sentei.format.OnnxGraphs.bytes;
import static org.sentei.format.OnnxGraphs.constant;
import static org.sentei.format.OnnxGraphs.external;
import static org.sentei.format.OnnxGraphs.floats;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.integers;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.UnknownFieldSet;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.format.OnnxFile;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;

/** An ONNX graph whose fields or whose bytes are damaged; run by ONNX Runtime as often as wanted when it is accepted. */
final class OnnxTarget implements FuzzTarget {
    private static final int INT64 = 7;
    private static final List<String> OPERATORS = List.of(
            "MatMul",
            "Gemm",
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Mod",
            "Pow",
            "Sqrt",
            "Erf",
            "Relu",
            "Gelu",
            "Softmax",
            "LayerNormalization",
            "Gather",
            "GatherND",
            "GatherElements",
            "ScatterND",
            "Reshape",
            "Transpose",
            "Slice",
            "Concat",
            "Split",
            "Squeeze",
            "Unsqueeze",
            "Shape",
            "Size",
            "Range",
            "ConstantOfShape",
            "Expand",
            "Tile",
            "Pad",
            "Where",
            "Cast",
            "Identity",
            "Constant",
            "If",
            "Loop",
            "Scan",
            "ReduceMean",
            "ReduceSum",
            "TopK",
            "NonZero",
            "OneHot",
            "CumSum",
            "Conv",
            "MaxPool",
            "AveragePool",
            "Resize",
            "Upsample",
            "DepthToSpace",
            "SpaceToDepth",
            "Einsum",
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "MatMulInteger",
            "QLinearMatMul",
            "LSTM",
            "GRU",
            "RNN",
            "BatchNormalization",
            "InstanceNormalization",
            "Attention",
            "EyeLike",
            "Trilu",
            "Unique",
            "Compress",
            "BitShift",
            "RandomNormal",
            "Multinomial",
            "SequenceConstruct",
            "SequenceAt",
            "StringNormalizer",
            "TfIdfVectorizer",
            "ConvTranspose",
            "RoiAlign",
            "NonMaxSuppression",
            "DFT",
            "STFT",
            "GridSample",
            "LpPool",
            "Dropout",
            "Clip",
            "ArgMax",
            "Flatten",
            "Bernoulli",
            "MyFunction");
    private static final List<String> STRINGS = strings();

    private final boolean runs;
    private final List<ModelProto> seeds = new ArrayList<>();

    /** @param runs whether every accepted graph is given to ONNX Runtime */
    OnnxTarget(boolean runs) {
        this.runs = runs;
    }

    private static List<String> strings() {
        List<String> strings = new ArrayList<>(OPERATORS);
        strings.addAll(List.of(
                "",
                " ",
                "x",
                "y",
                "w",
                "b",
                "input_ids",
                "attention_mask",
                "token_type_ids",
                "table",
                "hidden",
                "mask",
                "value",
                "to",
                "axis",
                "axes",
                "perm",
                "shape",
                "transB",
                "alpha",
                "domain",
                "ai.onnx",
                "ai.onnx.ml",
                "com.microsoft",
                "local",
                "then_branch",
                "else_branch",
                "body",
                "weights.bin",
                "../weights.bin",
                "/etc/passwd",
                "location",
                "offset",
                "length",
                "-1",
                "0",
                "4",
                "18446744073709551616",
                "words.json",
                "a\nb\u001b[31m",
                "n".repeat(2000),
                "encoder.layer.0.output.dense.weight",
                "layers.999999.q_proj.bias",
                "equation",
                "ij,jk->ik",
                "mode",
                "dim",
                "kernel_shape",
                "strides",
                "pads",
                "group",
                "auto_pad"));
        return strings;
    }

    private static ValueInfoProto tokens(String name) {
        return ValueInfoProto.newBuilder()
                .setName(name)
                .setType(TypeProto.newBuilder()
                        .setTensorType(TypeProto.Tensor.newBuilder().setElemType(INT64)))
                .build();
    }

    private static TensorProto longs(String name, long... values) {
        TensorProto.Builder tensor =
                TensorProto.newBuilder().setName(name).setDataType(INT64).addDims(values.length);
        for (long value : values) {
            tensor.addInt64Data(value);
        }
        return tensor.build();
    }

    private static TensorProto scaled(String name, int rows, int cols) {
        float[] values = new float[rows * cols];
        for (int i = 0; i < values.length; i++) {
            values[i] = (i * 37 % 101 - 50) / 80f;
        }
        return matrix(name, rows, cols).toBuilder().setRawData(bytes(values)).build();
    }

    private static GraphProto.Builder encoder(NodeProto... nodes) {
        return graph(nodes).clearInput().addInput(tokens("input_ids")).addInput(tokens("attention_mask"));
    }

    private static NodeProto branch(String condition, String output) {
        GraphProto nested = graph(node("MatMul", "hidden w2", "deep"))
                .clearInput()
                .clearOutput()
                .addOutput(ValueInfoProto.newBuilder().setName("deep"))
                .build();
        return NodeProto.newBuilder()
                .setOpType("If")
                .addInput(condition)
                .addOutput(output)
                .addAttribute(branchOf("then_branch", nested))
                .addAttribute(branchOf("else_branch", nested))
                .build();
    }

    private static AttributeProto branchOf(String name, GraphProto graph) {
        return AttributeProto.newBuilder()
                .setName(name)
                .setType(AttributeProto.AttributeType.GRAPH)
                .setG(graph)
                .build();
    }

    /** A function of the model's own, which the schema here carries as an unknown field. */
    private static UnknownFieldSet function() {
        NodeProto body = node("Relu", "a", "r");
        try {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            CodedOutputStream output = CodedOutputStream.newInstance(bytes);
            output.writeString(1, "MyFunction");
            output.writeString(4, "a");
            output.writeString(5, "r");
            output.writeMessage(7, body);
            output.writeByteArray(9, new byte[] {0x0a, 0, 0x10, 14});
            output.writeString(10, "local");
            output.flush();
            return UnknownFieldSet.newBuilder()
                    .addField(
                            25,
                            UnknownFieldSet.Field.newBuilder()
                                    .addLengthDelimited(ByteString.copyFrom(bytes.toByteArray()))
                                    .build())
                    .build();
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private void prepare(Path folder) throws IOException {
        ModelUse.prepare(Files.createDirectories(folder));
        Files.write(folder.resolve("weights.bin"), new byte[512]);
        TensorProto typed = TensorProto.newBuilder()
                .setName("typed")
                .setDataType(1)
                .addDims(2)
                .addDims(3)
                .addFloatData(1)
                .addFloatData(2)
                .addFloatData(3)
                .addFloatData(4)
                .addFloatData(5)
                .addFloatData(6)
                .build();
        seeds.add(model(graph(
                        node("MatMul", "x w", "m"),
                        node("Add", "m b", "a"),
                        node("Relu", "a", "r"),
                        constant(matrix("w2", 4, 3)),
                        node("Transpose", "w2", "w2t", integers("perm", 1L, 0L)),
                        node("Gemm", "r w2t b4", "g"),
                        node("Gemm", "g typed", "g2", integer("transB", 0)),
                        node("Identity", "g2", "y"))
                .addInitializer(matrix("w", 2, 3))
                .addInitializer(floats("b", 1, 2, 3))
                .addInitializer(floats("b4", 1, 2, 3, 4))
                .addInitializer(typed)));
        seeds.add(model(encoder(
                        node("Gather", "table input_ids", "hidden"),
                        node("MatMul", "hidden w1", "up"),
                        node("Add", "up encoder.layer.0.intermediate.dense.bias", "upb"),
                        node("Erf", "upb", "e"),
                        node("Add", "e one", "e1"),
                        node("Mul", "upb e1", "act"),
                        node("MatMul", "act w2", "down"),
                        node("Add", "down hidden", "res"),
                        node("Cast", "attention_mask", "fm", integer("to", 1)),
                        node("Unsqueeze", "fm last", "um"),
                        node("Mul", "res um", "y"))
                .addInitializer(scaled("table", 1030, 4)) // stays in the file
                .addInitializer(scaled("w1", 4, 8))
                .addInitializer(scaled("w2", 8, 4))
                .addInitializer(floats("one", 1))
                .addInitializer(longs("last", 2))
                .addInitializer(floats("encoder.layer.0.intermediate.dense.bias", 1, 2, 3, 4, 5, 6, 7, 8))));
        seeds.add(model(encoder(
                        node("Gather", "table input_ids", "hidden"),
                        node("Shape", "hidden", "s"),
                        node("Gather", "s zero", "n"),
                        node("Div", "n two", "half"),
                        node("Unsqueeze", "half axis0", "half1"),
                        node("Concat", "half1 two1", "target", integer("axis", 0)),
                        node("ConstantOfShape", "target", "cs"),
                        node("Range", "zero n one", "rg"),
                        node("Slice", "hidden axis0 two1", "sl"),
                        node("Cast", "one", "cond", integer("to", 9)),
                        branch("cond", "br"),
                        node("ReduceMean", "br", "rm"),
                        node("Softmax", "hidden", "sm"),
                        node("Add", "sm rm", "y"))
                .addInitializer(scaled("table", 97, 4))
                .addInitializer(scaled("w2", 4, 4))
                .addInitializer(longs("zero", 0).toBuilder().clearDims())
                .addInitializer(longs("one", 1).toBuilder().clearDims())
                .addInitializer(longs("two", 2).toBuilder().clearDims())
                .addInitializer(longs("two1", 2))
                .addInitializer(longs("axis0", 0))));
        seeds.add(model(encoder(
                                node("Gather", "table input_ids", "hidden"),
                                NodeProto.newBuilder(node("MyFunction", "hidden", "f"))
                                        .setDomain("local")
                                        .build(),
                                node("MatMul", "f outside", "m"),
                                node("DequantizeLinear", "q scale", "dq"),
                                node("MatMul", "m dq", "y"))
                        .addInitializer(scaled("table", 1030, 4))
                        .addInitializer(external(matrix("outside", 4, 4), "weights.bin", "0", "64"))
                        .addInitializer(floats("scale", 0.5f).toBuilder().clearDims())
                        .addInitializer(TensorProto.newBuilder()
                                .setName("q")
                                .setDataType(3)
                                .addDims(4)
                                .addDims(4)
                                .setRawData(ByteString.copyFrom(new byte[16]))))
                .toBuilder()
                .addOpsetImport(org.sentei.format.onnx.proto.OperatorSetIdProto.newBuilder()
                        .setDomain("local")
                        .setVersion(1))
                .setIrVersion(8)
                .setUnknownFields(function())
                .build());
    }

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        if (seeds.isEmpty()) {
            prepare(folder);
        }
        ModelProto seed = seeds.get(runs ? 1 + random.nextInt(3) : random.nextInt(4));
        byte[] damaged = seed.toByteArray();
        int way = random.nextInt(16);
        if (runs || way < 10) {
            damaged = ProtoMutator.mutate(seed, random, STRINGS).toByteArray();
        }
        if (way == 9 || way == 10 || way == 11) {
            damaged = ProtoMutator.misframed(damaged, ModelProto.getDescriptor(), random);
        } else if (way == 15 || (way >= 12 && !runs)) {
            damaged = ByteMutator.mutate(damaged, random);
        }
        Path input = Files.write(folder.resolve("model.onnx"), damaged);
        return new Case(
                input,
                List.of(
                        input.toString(),
                        "tensor ",
                        "site ",
                        "value \"",
                        "the model takes",
                        "output ",
                        "step ",
                        "calibration"),
                () -> {
                    if (!runs) {
                        try (OnnxFile file = OnnxFile.open(input)) {
                            ModelUse.read(file);
                            file.sites().forEach(file::takesBias);
                        }
                        ModelUse.model(input, folder, random);
                    } else {
                        ModelUse.forward(input, folder, "reference", true);
                    }
                });
    }
}
