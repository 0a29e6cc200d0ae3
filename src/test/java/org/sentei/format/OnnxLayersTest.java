package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.integers;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;
import static org.sentei.format.OnnxGraphs.save;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** ONNX models as graphs of typed layers, and back. */
class OnnxLayersTest {
    private static final Path DEPTHWISE = Path.of("src/test/resources/quantize/depthwise.onnx");

    @TempDir
    Path folder;

    @Test
    void layersOfARealNetworkHaveTheirTypes() {
        try (OnnxFile file = OnnxFile.open(DEPTHWISE)) {
            LayerGraph graph = file.layers();
            Operation depthwise =
                    Operation.of(graph, graph.layer("/first/first.3/Conv").orElseThrow());
            Operation clip =
                    Operation.of(graph, graph.layer("/first/first.5/Clip").orElseThrow());

            assertThat(depthwise).isInstanceOfSatisfying(Operation.Convolution.class, conv -> {
                assertThat(conv.groups()).isEqualTo(48);
                assertThat(conv.padded()).isTrue();
            });
            // its bounds are the values of Constant nodes
            assertThat(clip).isEqualTo(new Operation.Activation(Operation.Function.CLIP, 0, 6));
            assertThat(graph.layers()).noneMatch(layer -> layer.is("Constant"));
            assertThat(graph.inputs().getFirst().dimensions().get(1)).hasValue(1);
            assertThat(graph.inputs().getFirst().dimensions().get(0)).isEmpty();
        }
    }

    @Test
    void aWrittenGraphComputesWhatTheOriginalDoes() {
        Path copy = folder.resolve("copy.onnx");
        try (OnnxFile file = OnnxFile.open(DEPTHWISE)) {
            file.write(copy, file.layers());
        }
        assertThat(run(copy)).containsExactly(run(DEPTHWISE));
    }

    @Test
    void layersThatAreNotKnownTravelThroughWithTheirAttributes() {
        Path source = save(
                folder,
                model(graph(node("TopK", "x k", "y", integer("axis", -1)).toBuilder()
                                .addOutput("indices")
                                .build())
                        .addInitializer(TensorProto.newBuilder()
                                .setName("k")
                                .setDataType(7)
                                .addDims(1)
                                .addInt64Data(1))));
        Path copy = folder.resolve("copy.onnx");
        try (OnnxFile file = OnnxFile.open(source)) {
            file.write(copy, file.layers());
        }
        try (OnnxFile file = OnnxFile.open(copy)) {
            LayerGraph graph = file.layers();
            Layer top = graph.layers().getFirst();
            assertThat(Operation.of(graph, top)).isInstanceOf(Operation.Unknown.class);
            assertThat(top.whole("axis", 0)).isEqualTo(-1);
            assertThat(top.outputs()).containsExactly("y", "indices");
        }
    }

    @Test
    void editsRemoveWhatNobodyNeedsAnyMore() {
        Path source = save(
                folder,
                model(graph(
                                node("MatMul", "x w", "h"),
                                node("Transpose", "h", "t", integers("perm", 1L, 0L)),
                                node("Relu", "h", "y"))
                        .addInitializer(matrix("w", 2, 2))
                        .addInitializer(matrix("unused", 2, 2))));
        try (OnnxFile file = OnnxFile.open(source)) {
            LayerGraph graph = file.layers();
            LayerGraph built = graph.edit().build();

            assertThat(built.layers()).extracting(Layer::operator).containsExactly("MatMul", "Relu");
            assertThat(built.constants()).containsOnlyKeys("w");
            assertThatThrownBy(() -> graph.edit().redirect("y", "h").build())
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("output y");
        }
    }

    @Test
    void aGraphThatCouldNotRunIsRefused() {
        Path source = save(folder, model(graph(node("Relu", "later", "y"), node("Relu", "x", "later"))));
        try (OnnxFile file = OnnxFile.open(source)) {
            assertThatThrownBy(file::layers)
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("reads later before anything makes it");
        }
    }

    private static float[] run(Path model) {
        float[] image = new float[28 * 28];
        for (int i = 0; i < image.length; i++) {
            image[i] = (float) Math.sin(i);
        }
        Tensor input = new Tensor("image", DType.F32, Shape.of(1, 1, 28, 28), MemorySegment.ofArray(image));
        try (OnnxFile file = OnnxFile.open(model);
                Arena arena = Arena.ofConfined()) {
            GraphModel runnable = file.runnable(file.layers(), List.of("logits"), arena);
            try (OnnxSession session = OnnxSession.open(runnable, 1)) {
                Map<String, Tensor> outputs = session.run(List.of(input), List.of("logits"));
                return Floats.toArray(outputs.get("logits"));
            }
        }
    }
}
