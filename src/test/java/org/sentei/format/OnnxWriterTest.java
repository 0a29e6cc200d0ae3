package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.OnnxGraphs.bytes;
import static org.sentei.format.OnnxGraphs.constant;
import static org.sentei.format.OnnxGraphs.entry;
import static org.sentei.format.OnnxGraphs.external;
import static org.sentei.format.OnnxGraphs.floats;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.load;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;
import static org.sentei.format.OnnxGraphs.save;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.ModelProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

class OnnxWriterTest {
    @TempDir
    Path temporary;

    private Path folder;
    private Path target;

    @BeforeEach
    void makeFolder() throws IOException {
        folder = Files.createDirectory(temporary.resolve("in"));
        target = temporary.resolve("out").resolve("model.onnx");
    }

    @Test
    void prunesInTheFilesOrientation() {
        write(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 3, 2)), null, 0, 1, 1, 2);
        assertThat(floatsOf("w")).containsExactly(1, 2, 0, 4, 5, 0);

        write(
                graph(node("Gemm", "x w", "y", integer("transB", 1))).addInitializer(matrix("w", 2, 3)),
                null,
                0,
                1,
                1,
                2);
        assertThat(floatsOf("w")).containsExactly(1, 0, 3, 4, 5, 0);
    }

    @Test
    void prunesAWeightInAConstantNode() {
        ModelProto before = model(graph(constant(matrix("w", 2, 2)), node("MatMul", "x w", "y")));
        write(before, null, 1, 0);

        assertThat(floatsOf("w")).containsExactly(1, 0, 3, 4);
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(31, 40);
    }

    @Test
    void keepsEveryBitOfWeightsThatStay() {
        int nan = 0x7fc0_1234;
        float[] values = {Float.intBitsToFloat(nan), Float.NEGATIVE_INFINITY, -0.0f, Float.MIN_VALUE};
        TensorProto w = matrix("w", 2, 2).toBuilder().setRawData(bytes(values)).build();
        write(graph(node("MatMul", "x w", "y")).addInitializer(w), null, 0, 1);

        try (OnnxFile file = OnnxFile.open(target)) {
            MemorySegment data = file.tensor("w").data();
            byte[] expected = bytes(values).toByteArray();
            Arrays.fill(expected, 8, 12, (byte) 0);
            assertThat(data.toArray(ValueLayout.JAVA_BYTE)).isEqualTo(expected);
        }
    }

    @Test
    void prunesHalfPrecisionInTypedFields() {
        TensorProto.Builder w = TensorProto.newBuilder()
                .setName("w")
                .setDataType(OnnxGraphs.FLOAT16)
                .addDims(2)
                .addDims(2);
        for (int i = 1; i <= 4; i++) {
            w.addInt32Data(Float.floatToFloat16(-i) & 0xffff);
        }
        write(
                graph(node("Cast", "w", "w32", integer("to", OnnxGraphs.FLOAT)), node("MatMul", "x w32", "y"))
                        .addInitializer(w),
                null,
                0,
                0);

        assertThat(floatsOf("w")).containsExactly(0, -2, -3, -4);
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(-30, -42);
    }

    @Test
    void keepsUnknownFieldsAndEverythingElse() {
        UnknownFieldSet unknown = UnknownFieldSet.newBuilder()
                .addField(
                        77,
                        UnknownFieldSet.Field.newBuilder()
                                .addLengthDelimited(ByteString.copyFromUtf8("kept"))
                                .addVarint(5)
                                .build())
                .build();
        GraphProto.Builder graph = graph(
                        node("MatMul", "x w", "a").toBuilder()
                                .setUnknownFields(unknown)
                                .build(),
                        node("Relu", "a", "y"))
                .addInitializer(matrix("w", 2, 2).toBuilder().setUnknownFields(unknown))
                .addInitializer(floats("spare", 1, 2))
                .setUnknownFields(unknown);
        ModelProto before = model(graph).toBuilder().setUnknownFields(unknown).build();
        write(before, null, 0, 0);

        ModelProto.Builder expected = before.toBuilder();
        expected.getGraphBuilder().getInitializerBuilder(0).setRawData(bytes(0, 2, 3, 4));
        assertThat(load(target)).isEqualTo(expected.build());
    }

    @Test
    void replacesTheBiasThatIsThere() {
        write(
                graph(node("MatMul", "x w", "a"), node("Add", "b a", "y"))
                        .addInitializer(matrix("w", 2, 2))
                        .addInitializer(floats("b", 1, 2)),
                new float[] {100, 200});

        assertThat(floatsOf("b")).containsExactly(100, 200);
        assertThat(load(target).getGraph().getNodeCount()).isEqualTo(2);
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(131, 242);
    }

    @Test
    void copiesABiasThatOthersReadToo() {
        write(
                graph(node("MatMul", "x w", "a"), node("Add", "a b", "h"), node("Add", "h b", "y"))
                        .addInitializer(matrix("w", 2, 2))
                        .addInitializer(floats("b", 1, 2)),
                new float[] {100, 200});

        assertThat(floatsOf("b")).containsExactly(1, 2);
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(132, 244);
    }

    @Test
    void addsABiasBehindMatMul() {
        write(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 2, 2)), new float[] {100, 200});

        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(131, 242);
        try (OnnxFile file = OnnxFile.open(target)) {
            assertThat(file.sites()).singleElement().extracting(Site::bias).isEqualTo("new.bias");
        }
    }

    @Test
    void addsABiasToGemm() {
        write(graph(node("Gemm", "x w", "y")).addInitializer(matrix("w", 2, 2)), new float[] {100, 200});
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(131, 242);

        write(graph(node("Gemm", "x w ", "y")).addInitializer(matrix("w", 2, 2)), new float[] {100, 200});
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(131, 242);
    }

    @Test
    void aSharedWeightIsPrunedOnceAndGetsOneBiasForAll() {
        write(
                graph(node("MatMul", "x w", "h"), node("MatMul", "h w", "y")).addInitializer(matrix("w", 2, 2)),
                new float[] {1, 2},
                1,
                1);

        assertThat(floatsOf("w")).containsExactly(1, 2, 3, 0);
        assertThat(run(new float[] {1, 1}, 1, 2)).containsExactly(18, 12);
    }

    @Test
    void refusesABiasThatIsNotOne() {
        GraphProto.Builder graph = graph(
                        node("MatMul", "x w", "a"),
                        node("Add", "a b1", "h"),
                        node("MatMul", "h w", "c"),
                        node("Add", "c b2", "y"))
                .addInitializer(matrix("w", 2, 2))
                .addInitializer(floats("b1", 1, 2))
                .addInitializer(floats("b2", 1, 2));

        assertThatThrownBy(() -> write(graph, new float[] {1, 2}))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("site w");
        assertThat(target).doesNotExist();
    }

    @Test
    void refusesEditsOfAnotherModelAndTwoOfOneSite() {
        Path path = save(folder, model(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 2, 2))));
        Site other = new Site("w", "w", null, 2, 2, false, Site.Role.HEAD, 0, "x");
        try (OnnxFile file = OnnxFile.open(path)) {
            Edit foreign = new Edit(other, BitMask.none(2, 2), null);
            Edit edit = new Edit(file.sites().getFirst(), BitMask.none(2, 2), null);

            assertThatThrownBy(() -> file.write(target, List.of(foreign))).isInstanceOf(ModelException.class);
            assertThatThrownBy(() -> file.write(target, List.of(edit, edit))).isInstanceOf(ModelException.class);
        }
        assertThat(target).doesNotExist();
    }

    @Test
    void rewritesExternalDataBesideTheTarget() throws IOException {
        byte[] content = new byte[100];
        new SplittableRandom(3).nextBytes(content);
        System.arraycopy(bytes(1, 2, 3, 4).toByteArray(), 0, content, 32, 16);
        Files.createDirectory(folder.resolve("data"));
        save(folder.resolve("data/weights.bin"), content);
        ModelProto before = model(graph(node("MatMul", "x w", "y"))
                .addInitializer(external(matrix("w", 2, 2), "data/weights.bin", "32", "16")));
        write(before, null, 0, 1);

        byte[] expected = content.clone();
        Arrays.fill(expected, 40, 44, (byte) 0);
        assertThat(Files.readAllBytes(target.resolveSibling("data/weights.bin")))
                .isEqualTo(expected);
        assertThat(Files.readAllBytes(folder.resolve("data/weights.bin"))).isEqualTo(content);
        assertThat(load(target)).isEqualTo(before);
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(1, 42);
    }

    @Test
    void editsAnExternalTensorWhoseTypeAloneTellsItsLength() throws IOException {
        save(folder.resolve("w.bin"), bytes(1, 2, 3, 4, 5).toByteArray());
        TensorProto w = external(matrix("w", 2, 2), "w.bin", "0", "16");
        TensorProto open = w.toBuilder().removeExternalData(2).build();
        write(
                model(graph(node("MatMul", "x w", "y"))
                        .addInitializer(open)
                        .addInitializer(external(floats("v", 1), "w.bin", "16", "4"))),
                null,
                0,
                0);

        assertThat(Files.readAllBytes(target.resolveSibling("w.bin")))
                .isEqualTo(bytes(0, 2, 3, 4, 5).toByteArray());
    }

    @Test
    void runsEditsInMemoryAsItWouldWriteThem() {
        save(folder.resolve("w.bin"), bytes(1, 2, 3, 4).toByteArray());
        Path path = save(
                folder,
                model(graph(node("MatMul", "x w", "y"))
                        .addInitializer(external(matrix("w", 2, 2), "w.bin", "0", "16"))));
        try (OnnxFile file = OnnxFile.open(path);
                Arena arena = Arena.ofConfined()) {
            Site site = file.sites().getFirst();
            BitMask mask = BitMask.none(2, 2);
            mask.set(0, 1);
            Tensor bias = new Tensor("new.bias", DType.F32, Shape.of(2), MemorySegment.ofArray(new float[] {100, 200}));
            List<Edit> edits = List.of(new Edit(site, mask, bias));
            assertThat(run(file, edits, arena)).containsExactly(101, 242);

            file.write(target, edits);
            assertThat(run(file, List.of(), arena)).containsExactly(31, 42);
        }
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(101, 242);
    }

    @Test
    void writesNewWeightsInTheOrientationOfTheFile() {
        Path path = save(folder, model(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 2, 2))));
        try (OnnxFile file = OnnxFile.open(path);
                Arena arena = Arena.ofConfined()) {
            Site site = file.sites().getFirst();
            BitMask mask = BitMask.none(2, 2);
            mask.set(0, 1);
            Tensor weight = new Tensor("w", DType.F32, Shape.of(2, 2), MemorySegment.ofArray(new float[] {5, 0, 6, 7}));
            List<Edit> edits = List.of(new Edit(site, mask, weight, null));
            assertThat(run(file, edits, arena)).containsExactly(5, 76);

            file.write(target, edits);
        }
        assertThat(run(new float[] {1, 10}, 1, 2)).containsExactly(5, 76);
        assertThat(floatsOf("w")).containsExactly(5, 6, 0, 7);
    }

    private static float[] run(OnnxFile file, List<Edit> edits, Arena arena) {
        try (OnnxSession session = OnnxSession.open(file.tapped(List.of(), edits, arena), 1)) {
            Tensor x = new Tensor("x", DType.F32, Shape.of(1, 2), MemorySegment.ofArray(new float[] {1, 10}));
            return Floats.toArray(session.run(List.of(x), List.of("y")).get("y"));
        }
    }

    @Test
    void saysWhichSitesTakeABias() {
        TensorProto w = matrix("w", 2, 2);
        ModelProto plain = model(graph(node("MatMul", "x w", "y")).addInitializer(w));
        ModelProto.Builder old = plain.toBuilder();
        old.getOpsetImportBuilder(0).setVersion(6);
        ModelProto computed =
                model(graph(node("Relu", "x", "c"), node("Gemm", "x w c", "y")).addInitializer(w));

        assertThat(takesBias(plain)).isTrue();
        assertThat(takesBias(model(graph(node("Gemm", "x w", "y")).addInitializer(w))))
                .isTrue();
        assertThat(takesBias(old.build())).isFalse();
        assertThat(takesBias(computed)).isFalse();
        assertThatThrownBy(() -> write(old.build(), new float[] {1, 2})).isInstanceOf(ModelException.class);
        assertThatThrownBy(() -> write(computed, new float[] {1, 2})).isInstanceOf(ModelException.class);
    }

    private boolean takesBias(ModelProto model) {
        try (OnnxFile file = OnnxFile.open(save(folder, model))) {
            return file.takesBias(file.sites().getFirst());
        }
    }

    @Test
    void refusesToMixExternalData() {
        save(folder.resolve("w.bin"), bytes(1, 2, 3, 4, 5).toByteArray());
        TensorProto w = external(matrix("w", 2, 2), "w.bin", "0", "16");
        Path inside = folder.resolve("other.onnx");
        Path outside = target;

        target = inside;
        assertThatThrownBy(() -> write(graph(node("MatMul", "x w", "y")).addInitializer(w), null, 0, 0))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("another folder");
        target = outside.resolveSibling("w.bin");
        assertThatThrownBy(() -> write(graph(node("MatMul", "x w", "y")).addInitializer(w), null, 0, 0))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("another name");
        target = outside;
        TensorProto respelled = external(floats("v", 1), "./w.bin", "12", "4");
        assertThatThrownBy(() -> write(
                        graph(node("MatMul", "x w", "y")).addInitializer(w).addInitializer(respelled), null, 0, 0))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("share bytes");
        TensorProto overlapping = external(floats("v", 1), "w.bin", "12", "4");
        assertThatThrownBy(() -> write(
                        graph(node("MatMul", "x w", "y")).addInitializer(w).addInitializer(overlapping), null, 0, 0))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("share bytes");
        TensorProto checked =
                w.toBuilder().addExternalData(entry("checksum", "00")).build();
        assertThatThrownBy(() -> write(graph(node("MatMul", "x w", "y")).addInitializer(checked), null, 0, 0))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("checksum");
        assertThat(outside).doesNotExist();
        assertThat(inside).doesNotExist();
    }

    @Test
    void leavesNoTemporaryFilesWhenWritingFails() throws IOException {
        Path path = save(folder, model(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 2, 2))));
        Path occupied = Files.createDirectories(target.resolve("inside")).getParent();
        try (OnnxFile file = OnnxFile.open(path)) {
            assertThatThrownBy(() -> file.write(occupied, List.of())).isInstanceOf(UncheckedIOException.class);
        }
        try (Stream<Path> files = Files.list(occupied.getParent())) {
            assertThat(files).containsExactly(occupied);
        }
    }

    private void write(GraphProto.Builder graph, float[] bias, long... pruned) {
        write(model(graph), bias, pruned);
    }

    /** Prunes (row, col) pairs of the only site. */
    private void write(ModelProto model, float[] bias, long... pruned) {
        try (OnnxFile file = OnnxFile.open(save(folder, model))) {
            Site site = file.sites().getFirst();
            BitMask mask = BitMask.none(site.rows(), site.cols());
            for (int i = 0; i < pruned.length; i += 2) {
                mask.set(pruned[i], pruned[i + 1]);
            }
            Tensor values = bias == null
                    ? null
                    : new Tensor(
                            site.bias() == null ? "new.bias" : site.bias(),
                            DType.F32,
                            Shape.of(bias.length),
                            MemorySegment.ofArray(bias));
            file.write(target, List.of(new Edit(site, mask, values)));
        }
    }

    private float[] floatsOf(String name) {
        try (OnnxFile file = OnnxFile.open(target)) {
            return Floats.toArray(file.tensor(name));
        }
    }

    private float[] run(float[] x, long... shape) {
        try (OnnxFile file = OnnxFile.open(target);
                Arena arena = Arena.ofConfined();
                OnnxSession session = OnnxSession.open(file.tapped(List.of(), List.of(), arena), 1)) {
            Tensor input = new Tensor("x", DType.F32, Shape.of(shape), MemorySegment.ofArray(x));
            return Floats.toArray(session.run(List.of(input), List.of("y")).get("y"));
        }
    }
}
