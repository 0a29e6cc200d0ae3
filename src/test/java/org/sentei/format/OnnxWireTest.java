package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Optional;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.TensorProto;

/** A model whose large initializers stay in the file is what protobuf reads, and is written as protobuf would. */
class OnnxWireTest {
    private static final UnknownFieldSet UNKNOWN = UnknownFieldSet.newBuilder()
            .addField(77, UnknownFieldSet.Field.newBuilder().addVarint(-1).build())
            .addField(
                    5000,
                    UnknownFieldSet.Field.newBuilder()
                            .addFixed32(3)
                            .addFixed64(4)
                            .build())
            .build();

    @Test
    void largeInitializersStayInTheFile() throws IOException {
        ModelProto wanted = large();
        ModelProto parsed = OnnxWire.parse(direct(wanted.toByteArray()));
        assertThat(parsed.getGraph().getInitializerList())
                .extracting(OnnxWire::isLarge)
                .containsExactly(false, true, false, true);
        assertThat(parsed.getSerializedSize()).isLessThan(2 * OnnxWire.LARGE);
        assertThat(readAndWritten(wanted.toByteArray())).isEqualTo(wanted);
    }

    @Test
    void bytesThatWereChangedAreWritten() throws IOException {
        ModelProto model = OnnxWire.parse(direct(large().toByteArray()));
        byte[] ones = new byte[OnnxWire.LARGE];
        Arrays.fill(ones, (byte) 1);
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        OnnxWire.write(model, tensor -> ByteBuffer.wrap(ones), Channels.newChannel(written));
        assertThat(ModelProto.parseFrom(written.toByteArray()).getGraph().getInitializerList())
                .extracting(tensor -> tensor.getRawData().equals(ByteString.copyFrom(ones)))
                .containsExactly(false, true, false, true);
    }

    @Test
    void nothingIsWrittenBeyondTheSizeOfOneFile(@TempDir Path folder) throws IOException {
        GraphProto.Builder graph = large().getGraph().toBuilder().addInitializer(tensor("more", OnnxWire.LARGE));
        ByteBuffer gigabyte;
        try (RandomAccessFile sparse =
                new RandomAccessFile(folder.resolve("sparse").toFile(), "rw")) {
            sparse.setLength(1 << 30);
            gigabyte = sparse.getChannel().map(MapMode.READ_ONLY, 0, 1 << 30);
        }
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        assertThatThrownBy(() -> OnnxWire.write(
                        OnnxWire.parse(direct(model(graph).toByteArray())),
                        tensor -> gigabyte.duplicate(),
                        Channels.newChannel(written)))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("2 GiB");
        assertThat(written.size()).isZero();
    }

    @Test
    void aGraphInTwoPartsIsMergedAsProtobufDoes() throws IOException {
        ByteString twice = large().toByteString().concat(large().toByteString());
        ModelProto parsed = readAndWritten(twice.toByteArray());
        assertThat(parsed).isEqualTo(ModelProto.parseFrom(twice));
        assertThat(parsed.getGraph().getInitializerCount()).isEqualTo(8);
    }

    @Test
    void rawDataThatComesTwiceIsTheLast() throws IOException {
        ByteString tensor =
                tensor("w", OnnxWire.LARGE).toByteString().concat(tensor("w", 8).toByteString());
        ByteString graph = ByteString.copyFrom(new byte[] {GraphProto.INITIALIZER_FIELD_NUMBER << 3 | 2})
                .concat(varint(tensor.size()))
                .concat(tensor);
        ByteString bytes = ByteString.copyFrom(new byte[] {ModelProto.GRAPH_FIELD_NUMBER << 3 | 2})
                .concat(varint(graph.size()))
                .concat(graph);
        ModelProto parsed = readAndWritten(bytes.toByteArray());
        assertThat(parsed).isEqualTo(ModelProto.parseFrom(bytes));
        assertThat(parsed.getGraph().getInitializer(0).getRawData().size()).isEqualTo(8);
    }

    @Test
    void readsMutatedFilesAsProtobufDoes() {
        byte[] seed = large().toByteArray();
        SplittableRandom random = new SplittableRandom(5);
        int read = 0;
        int cases = 3000;
        for (int n = 0; n < cases; n++) {
            byte[] bytes = seed.clone();
            for (int i = random.nextInt(1, 4); i > 0; i--) {
                bytes[random.nextInt(bytes.length < 400 || random.nextBoolean() ? bytes.length : 400)] =
                        (byte) random.nextInt(256);
            }
            Optional<ModelProto> wanted = parsed(() -> ModelProto.parseFrom(bytes));
            assertThat(parsed(() -> readAndWritten(bytes)))
                    .as("case %d of seed 5", n)
                    .isEqualTo(wanted);
            read += wanted.isPresent() ? 1 : 0;
        }
        assertThat(read).isBetween(cases / 20, cases - cases / 20);
    }

    private static ModelProto readAndWritten(byte[] bytes) throws IOException {
        ByteBuffer file = direct(bytes);
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        OnnxWire.write(
                OnnxWire.parse(file),
                tensor -> file.slice(number(tensor, "offset"), number(tensor, "length")),
                Channels.newChannel(written));
        return ModelProto.parseFrom(written.toByteArray());
    }

    private static int number(TensorProto tensor, String key) {
        return tensor.getExternalDataList().stream()
                .filter(entry -> entry.getKey().equals(key))
                .mapToInt(entry -> Integer.parseInt(entry.getValue()))
                .findFirst()
                .orElseThrow();
    }

    private interface Parse {
        ModelProto run() throws IOException;
    }

    private static Optional<ModelProto> parsed(Parse parse) {
        try {
            return Optional.of(parse.run());
        } catch (IOException e) {
            return Optional.empty();
        }
    }

    private static ModelProto large() {
        return model(graph(node("MatMul", "x w", "h"), node("Relu", "h", "y"))
                        .addInitializer(matrix("w", 2, 2))
                        .addInitializer(tensor("first", OnnxWire.LARGE))
                        .addInitializer(tensor("just smaller", OnnxWire.LARGE - 4))
                        .addInitializer(
                                tensor("last", 2 * OnnxWire.LARGE).toBuilder().setUnknownFields(UNKNOWN))
                        .setUnknownFields(UNKNOWN))
                .toBuilder()
                .setUnknownFields(UNKNOWN)
                .build();
    }

    private static TensorProto tensor(String name, int bytes) {
        byte[] content = new byte[bytes];
        new SplittableRandom(bytes).nextBytes(content);
        return TensorProto.newBuilder()
                .setName(name)
                .setDataType(1)
                .addDims(bytes / Float.BYTES)
                .setRawData(ByteString.copyFrom(content))
                .build();
    }

    private static ByteString varint(int value) {
        return ByteString.copyFrom(
                new byte[] {(byte) (value | 0x80), (byte) (value >>> 7 | 0x80), (byte) (value >>> 14)});
    }

    private static ByteBuffer direct(byte[] bytes) {
        return ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
    }
}
