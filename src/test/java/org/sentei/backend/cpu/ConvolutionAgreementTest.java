package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.sentei.format.OnnxGraphs;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.OperatorSetIdProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.format.onnx.proto.TypeProto;
import org.sentei.format.onnx.proto.ValueInfoProto;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.RandomConvolution;
import org.sentei.kernel.Window;
import org.sentei.model.onnx.OnnxRuntimeLibrary;
import org.sentei.tensor.DType;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A million results of random convolutions are the same bits on every tier and backend, and in ONNX Runtime. */
class ConvolutionAgreementTest {
    private static final Logger LOG = LoggerFactory.getLogger(ConvolutionAgreementTest.class);
    private static final long OUTPUTS = 1_000_000;
    /** Types of ONNX. */
    private static final int UINT8 = 2;

    private static final int INT8 = 3;
    private static final int INT32 = 6;

    @Test
    void everyTierAndBackendGivesTheBitsOfTheReference() {
        List<Backend> backends = new ArrayList<>();
        try (Backend reference = AvailableBackends.open("reference")) {
            Tiers.ofThisMachine().forEach(tier -> backends.add(NativeProvider.open(new Backend.Options(0, 2), tier)));
            AvailableBackends.names().stream()
                    .filter(name -> !List.of("reference", NativeBackend.NAME).contains(name))
                    .forEach(name -> backends.add(AvailableBackends.open(name)));
            long outputs = 0;
            for (long seed = 1; outputs < OUTPUTS; seed++) {
                RandomConvolution convolution = new RandomConvolution(seed);
                DType type = seed % 2 == 0 ? DType.U8 : DType.I8;
                boolean isExtended = seed % 3 == 0;
                byte[] expected = convolution.run(reference, type, isExtended);
                for (Backend backend : backends) {
                    assertThat(convolution.run(backend, type, isExtended))
                            .as("%s on %s", convolution, backend.info())
                            .isEqualTo(expected);
                }
                outputs += convolution.outputs();
            }
            LOG.info("{} outputs are the same on {} tiers and backends", outputs, backends.size());
        } finally {
            backends.forEach(Backend::close);
        }
    }

    @Test
    void onnxRuntimeGivesTheSameBitsOnProcessorsWithVnni() throws IOException, OrtException {
        String flags = Files.readString(Path.of("/proc/cpuinfo"));
        assumeTrue(
                flags.contains("avx512_vnni") || flags.contains("avx_vnni"),
                "without VNNI, ONNX Runtime's sums of 8-bit products saturate");
        OnnxRuntimeLibrary.require();
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (Backend backend = AvailableBackends.open(NativeBackend.NAME)) {
            long outputs = 0;
            for (long seed = 1; outputs < OUTPUTS; seed++) {
                RandomConvolution convolution = new RandomConvolution(seed);
                assertThat(convolution.run(backend))
                        .as(convolution.toString())
                        .isEqualTo(convolution.channelsLast(run(environment, convolution)));
                outputs += convolution.outputs();
            }
            LOG.info("{} outputs are the same in ONNX Runtime {}", outputs, environment.getVersion());
        }
    }

    private static byte[] run(OrtEnvironment environment, RandomConvolution convolution) throws OrtException {
        Window window = convolution.window();
        int[] sizes = convolution.sizes();
        byte[] x = convolution.channelsFirst();
        long[] shape = {sizes[0], sizes[1], window.height(), window.width()};
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(1);
            try (OrtSession session =
                            environment.createSession(model(convolution).toByteArray(), options);
                    OnnxTensor input = OnnxTensor.createTensor(
                            environment,
                            ByteBuffer.allocateDirect(x.length).put(x).flip(),
                            shape,
                            OnnxJavaType.UINT8);
                    OrtSession.Result result = session.run(Map.of("x", input))) {
                ByteBuffer y = ((OnnxTensor) result.get(0)).getByteBuffer();
                byte[] bytes = new byte[y.remaining()];
                y.get(bytes);
                return bytes;
            }
        }
    }

    private static ModelProto model(RandomConvolution convolution) {
        Window w = convolution.window();
        int[] sizes = convolution.sizes();
        float[] scales = convolution.scales();
        int[] zeros = convolution.zeros();
        byte[] weights = convolution.weights();
        ByteBuffer bias = ByteBuffer.allocate(4 * sizes[2]).order(ByteOrder.LITTLE_ENDIAN);
        for (int value : convolution.bias()) {
            bias.putInt(value);
        }
        GraphProto.Builder graph = GraphProto.newBuilder()
                .setName("test")
                .addInput(value("x"))
                .addOutput(value("y"))
                .addNode(OnnxGraphs.node(
                        "QLinearConv",
                        "x xs xz w ws wz ys yz b",
                        "y",
                        OnnxGraphs.integers("strides", (long) w.strideY(), (long) w.strideX()),
                        OnnxGraphs.integers("dilations", (long) w.dilationY(), (long) w.dilationX()),
                        OnnxGraphs.integers(
                                "pads", (long) w.top(), (long) w.left(), (long) w.bottom(), (long) w.right()),
                        OnnxGraphs.integer("group", sizes[3])))
                .addInitializer(scalar(OnnxGraphs.floats("xs", scales[0])))
                .addInitializer(bytes("xz", UINT8, (byte) zeros[0]))
                .addInitializer(bytes("w", INT8, weights).toBuilder()
                        .addDims(sizes[2])
                        .addDims(sizes[1] / sizes[3])
                        .addDims(w.kernelHeight())
                        .addDims(w.kernelWidth()))
                .addInitializer(OnnxGraphs.floats("ws", convolution.weightScales()))
                .addInitializer(
                        bytes("wz", INT8, new byte[sizes[2]]).toBuilder().addDims(sizes[2]))
                .addInitializer(scalar(OnnxGraphs.floats("ys", scales[1])))
                .addInitializer(bytes("yz", UINT8, (byte) zeros[1]))
                .addInitializer(TensorProto.newBuilder()
                        .setName("b")
                        .setDataType(INT32)
                        .addDims(sizes[2])
                        .setRawData(ByteString.copyFrom(bias.flip())));
        return ModelProto.newBuilder()
                .setIrVersion(8)
                .addOpsetImport(OperatorSetIdProto.newBuilder().setVersion(13))
                .setGraph(graph)
                .build();
    }

    private static ValueInfoProto value(String name) {
        return ValueInfoProto.newBuilder()
                .setName(name)
                .setType(TypeProto.newBuilder()
                        .setTensorType(TypeProto.Tensor.newBuilder().setElemType(UINT8)))
                .build();
    }

    private static TensorProto scalar(TensorProto tensor) {
        return tensor.toBuilder().clearDims().build();
    }

    private static TensorProto bytes(String name, int type, byte... values) {
        return TensorProto.newBuilder()
                .setName(name)
                .setDataType(type)
                .setRawData(ByteString.copyFrom(values))
                .build();
    }
}
