package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.OnnxGraphs.constant;
import static org.sentei.format.OnnxGraphs.external;
import static org.sentei.format.OnnxGraphs.floats;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;
import static org.sentei.format.OnnxGraphs.save;

import com.google.protobuf.ByteString;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.AttributeProto.AttributeType;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.NodeProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.tensor.BitMask;

class OnnxHostileTest {
    @TempDir
    Path folder;

    @Test
    void refusesWhatIsNoFile() {
        assertRefused(folder.resolve("absent.onnx"), "no file");
        assertRefused(folder, "no file");
    }

    @Test
    void refusesEveryTruncation() {
        byte[] whole = small().toByteArray();
        for (int length = 0; length < whole.length; length++) {
            byte[] part = Arrays.copyOf(whole, length);
            // A cut between two fields of the model leaves a well-formed message; everywhere else it must be refused.
            if (isModel(part)) {
                continue;
            }
            assertRefused(save(folder.resolve("cut.onnx"), part), "cut.onnx");
        }
    }

    @Test
    void refusesAModelWithoutNodes() {
        assertRefused(save(folder, ModelProto.getDefaultInstance()), "no graph with nodes");
        assertRefused(save(folder, model(graph().addInitializer(matrix("w", 2, 2)))), "no graph with nodes");
        assertRefused(
                save(folder.resolve("text.onnx"), "not a model".getBytes(StandardCharsets.UTF_8)), "no ONNX model");
    }

    @Test
    void refusesMoreThanOneMessageCanHold() throws IOException {
        Path large = folder.resolve("large.onnx");
        try (RandomAccessFile sparse = new RandomAccessFile(large.toFile(), "rw")) {
            sparse.setLength(1L << 31);
        }
        assertRefused(large, "external data");
    }

    @Test
    void refusesTensorsThatContradictThemselves() {
        assertTensorRefused(matrix("w", 2, 2).toBuilder().setDims(0, 3).build(), "needs 24 bytes, but has 16");
        assertTensorRefused(matrix("w", 2, 2).toBuilder().setDims(0, -2).build(), "negative");
        assertTensorRefused(
                matrix("w", 2, 2).toBuilder().setDims(0, Long.MAX_VALUE).build(), "impossible");
        assertTensorRefused(
                matrix("w", 2, 2).toBuilder().setDims(0, 1L << 61).setDims(1, 1).build(), "impossible");
        assertTensorRefused(matrix("w", 2, 2).toBuilder().addFloatData(1).build(), "twice");
        assertTensorRefused(
                matrix("w", 2, 2).toBuilder().clearRawData().addFloatData(1).build(), "1 stored values");
        assertTensorRefused(matrix("w", 2, 2).toBuilder().clearName().build(), "without a name");
        assertRefused(
                save(
                        folder,
                        model(graph(constant(
                                matrix("w", 2, 2).toBuilder().setDims(0, 3).build())))),
                "needs 24");
    }

    @Test
    void refusesNamesThatAreDefinedTwice() {
        TensorProto w = matrix("w", 2, 2);
        assertRefused(
                save(
                        folder,
                        model(graph(node("MatMul", "x w", "y"))
                                .addInitializer(w)
                                .addInitializer(w))),
                "twice");
        assertRefused(save(folder, model(graph(node("Relu", "x", "y"), node("Relu", "x", "y")))), "twice");
        assertRefused(save(folder, model(graph(node("Relu", "x", "w")).addInitializer(w))), "twice");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../secret.bin",
                "/etc/hostname",
                "sub/../../secret.bin",
                ".",
                "link.bin",
                "",
                "a\0b",
                "sub/../model.onnx"
            })
    void refusesExternalDataOutsideOfTheFolder(String location) throws IOException {
        Path inside = Files.createDirectories(folder.resolve("model"));
        save(folder.resolve("secret.bin"), new byte[64]);
        Files.createDirectories(inside.resolve("sub"));
        Files.deleteIfExists(inside.resolve("link.bin"));
        Files.createSymbolicLink(inside.resolve("link.bin"), folder.resolve("secret.bin"));
        Path path = save(inside, withExternal(location, "0", "16"));

        assertThatThrownBy(() -> OnnxFile.open(path)).isInstanceOf(FormatException.class);
    }

    @Test
    void filesBesideTheModelMayNotLinkOutOfItsFolder() throws IOException {
        Path secret = Files.createDirectory(folder.resolve("home")).resolve("secret");
        Files.writeString(secret, "key");
        Path inside = Files.createDirectory(folder.resolve("hostile"));
        Files.createSymbolicLink(inside.resolve("tokenizer.json"), secret);
        try (OnnxFile file = OnnxFile.open(save(inside, small()))) {
            assertThat(file.beside("vocab.txt")).isEmpty();
            assertThatThrownBy(() -> file.beside("tokenizer.json"))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("leads out of the folder");
        }
    }

    @Test
    void linksOfTheHubsCacheMayLeadToItsBlobs() throws IOException {
        Path blob = Files.createDirectory(folder.resolve("blobs")).resolve("t");
        Files.writeString(blob, "{}");
        Path snapshot = Files.createDirectories(folder.resolve("snapshots/1/onnx"));
        Files.createSymbolicLink(snapshot.resolve("tokenizer.json"), Path.of("../../../blobs/t"));
        try (OnnxFile file = OnnxFile.open(save(snapshot, small()))) {
            assertThat(file.beside("tokenizer.json")).contains(blob.toRealPath());
        }
    }

    @Test
    void refusesExternalRangesThatDoNotFit() {
        save(folder.resolve("w.bin"), new byte[20]);

        assertRefused(save(folder, withExternal("w.bin", "8", "16")), "which has 20");
        assertRefused(save(folder, withExternal("w.bin", "0", "8")), "needs 16 bytes, but has 8");
        assertRefused(save(folder, withExternal("w.bin", "-1", "16")), "external offset");
        assertRefused(save(folder, withExternal("w.bin", "9223372036854775807", "16")), "which has 20");
        assertRefused(save(folder, withExternal("w.bin", "0", "many")), "external length");
        assertRefused(save(folder, withExternal("absent.bin", "0", "16")), "absent.bin is missing");
        ModelProto.Builder noLength = withExternal("w.bin", "8", "16").toBuilder();
        noLength.getGraphBuilder().getInitializerBuilder(0).removeExternalData(2);
        assertRefused(save(folder, noLength.build()), "needs 16 bytes, but has 12");
    }

    @Test
    void refusesGraphsNestedTooDeep() {
        GraphProto nested = GraphProto.getDefaultInstance();
        for (int depth = 0; depth < 200; depth++) {
            nested = GraphProto.newBuilder()
                    .addNode(NodeProto.newBuilder()
                            .setOpType("If")
                            .addAttribute(AttributeProto.newBuilder()
                                    .setName("then_branch")
                                    .setType(AttributeType.GRAPH)
                                    .setG(nested)))
                    .build();
        }
        assertRefused(save(folder, ModelProto.newBuilder().setGraph(nested).build()), "no ONNX model");
    }

    @Test
    void survivesGraphsThatRunInCircles() {
        GraphProto.Builder circles = graph(
                        node("Identity", "b", "a"),
                        node("Transpose", "a", "b"),
                        node("MatMul", "x a", "c"),
                        node("Mul", "m m", "m"),
                        node("MatMul", "m w", "y"))
                .addInitializer(matrix("w", 2, 2));
        try (OnnxFile file = OnnxFile.open(save(folder, model(circles)))) {
            assertThat(file.sites()).extracting(Site::weight).containsExactly("w");
        }
    }

    @Test
    void longChainsCostNoMoreThanTheirLength() {
        GraphProto.Builder graph = graph();
        graph.addNode(node("Identity", "w", "v0"));
        int length = 20_000;
        for (int i = 0; i < length; i++) {
            graph.addNode(node("Identity", "v" + i, "v" + (i + 1)));
            graph.addNode(node("MatMul", "v" + length + " v" + length, "m" + i));
        }
        graph.addInitializer(matrix("w", 2, 2));
        long start = System.nanoTime();
        try (OnnxFile file = OnnxFile.open(save(folder, model(graph)))) {
            assertThat(file.sites()).isEmpty();
        }
        assertThat(System.nanoTime() - start).isLessThan(10_000_000_000L);
    }

    @Test
    void mutatedFilesAreReadOrRefusedAndNeverAnythingElse() {
        save(folder.resolve("w.bin"), new byte[64]);
        List<byte[]> seeds =
                List.of(small().toByteArray(), withExternal("w.bin", "16", "16").toByteArray());
        SplittableRandom random = new SplittableRandom(11);
        int refused = 0;
        int cases = 4000;
        Path file = folder.resolve("mutated.onnx");
        Path target = folder.resolve("out").resolve("mutated.onnx");
        for (int n = 0; n < cases; n++) {
            byte[] bytes = mutate(seeds.get(n % seeds.size()), random);
            save(file, bytes);
            try (OnnxFile opened = OnnxFile.open(file)) {
                for (String name : opened.names()) {
                    assertThat(opened.tensor(name).data().byteSize()).isNotNegative();
                }
                List<Edit> edits = new ArrayList<>();
                for (Site site : opened.sites()) {
                    BitMask mask = BitMask.none(site.rows(), site.cols());
                    mask.set(site.rows() - 1, site.cols() - 1);
                    edits.add(new Edit(site, mask, null));
                }
                // Writing waits for the disk, so not every case can.
                if (n % 21 == 0) {
                    opened.write(target, edits);
                    OnnxFile.open(target).close();
                }
            } catch (FormatException | ModelException e) {
                assertThat(e).hasMessageContaining("mutated.onnx");
                refused++;
            } catch (RuntimeException | Error e) {
                throw new AssertionError(
                        "case " + n + " of seed 11: " + HexFormat.of().formatHex(bytes), e);
            }
        }
        assertThat(refused).isBetween(cases / 20, cases - cases / 20);
    }

    private static byte[] mutate(byte[] seed, SplittableRandom random) {
        byte[] bytes = seed.clone();
        int changes = 1 + random.nextInt(4);
        for (int i = 0; i < changes; i++) {
            int at = random.nextInt(bytes.length);
            switch (random.nextInt(4)) {
                case 0 -> bytes[at] = (byte) random.nextInt(256);
                case 1 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
                case 2 -> bytes[at] = (byte) (random.nextBoolean() ? 0xff : 0x7f);
                default -> {
                    int from = random.nextInt(bytes.length);
                    int length = Math.min(random.nextInt(12), bytes.length - Math.max(at, from));
                    System.arraycopy(bytes, from, bytes, at, length);
                }
            }
        }
        return bytes;
    }

    @Test
    void aSumWithoutAnOutputIsNoBias() {
        NodeProto sum = node("Add", "h b", "s").toBuilder().clearOutput().build();
        Path file = save(
                folder,
                model(graph(node("MatMul", "x w", "h"), sum, node("Relu", "x", "y"))
                        .addInitializer(matrix("w", 2, 2))
                        .addInitializer(floats("b", 1, 2))));
        try (OnnxFile open = OnnxFile.open(file)) {
            assertThat(open.sites()).singleElement().extracting(Site::bias).isNull();
        }
    }

    /** One of everything that is read. */
    private static ModelProto small() {
        return model(graph(
                        constant(matrix("c", 2, 2)),
                        node("Transpose", "c", "t"),
                        node("MatMul", "x t", "a"),
                        node("Add", "a b", "h"),
                        node("Gemm", "h w b", "g", integer("transB", 1)),
                        node("Relu", "g", "y"))
                .addInitializer(matrix("w", 2, 2))
                .addInitializer(floats("b", 1, 2))
                .addInitializer(TensorProto.newBuilder()
                        .setName("typed")
                        .setDataType(11)
                        .addDims(2)
                        .addDoubleData(1)
                        .addDoubleData(2)));
    }

    private static ModelProto withExternal(String location, String offset, String length) {
        return model(graph(node("MatMul", "x w", "y"))
                .addInitializer(external(matrix("w", 2, 2), location, offset, length)));
    }

    private static boolean isModel(byte[] bytes) {
        try {
            return ModelProto.parseFrom(ByteString.copyFrom(bytes)).getGraph().getNodeCount() > 0;
        } catch (IOException e) {
            return false;
        }
    }

    private void assertTensorRefused(TensorProto tensor, String fact) {
        assertRefused(save(folder, model(graph(node("MatMul", "x w", "y")).addInitializer(tensor))), fact);
    }

    private static void assertRefused(Path path, String fact) {
        assertThatThrownBy(() -> OnnxFile.open(path))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(path.toString())
                .hasMessageContaining(fact);
    }
}
