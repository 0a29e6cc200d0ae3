package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.sentei.format.OnnxGraphs.constant;
import static org.sentei.format.OnnxGraphs.floats;
import static org.sentei.format.OnnxGraphs.graph;
import static org.sentei.format.OnnxGraphs.integer;
import static org.sentei.format.OnnxGraphs.integers;
import static org.sentei.format.OnnxGraphs.matrix;
import static org.sentei.format.OnnxGraphs.model;
import static org.sentei.format.OnnxGraphs.node;
import static org.sentei.format.OnnxGraphs.number;
import static org.sentei.format.OnnxGraphs.save;

import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.format.onnx.proto.AttributeProto;
import org.sentei.format.onnx.proto.AttributeProto.AttributeType;
import org.sentei.format.onnx.proto.GraphProto;
import org.sentei.format.onnx.proto.TensorProto;
import org.sentei.model.Site;
import org.sentei.model.Site.Role;

class OnnxSitesTest {
    @TempDir
    Path folder;

    @Test
    void matMulWithAnInitializerStoresInputsFirst() {
        List<Site> sites = sites(graph(node("MatMul", "x w", "y")).addInitializer(matrix("w", 3, 2)));

        assertThat(sites).containsExactly(new Site("w", "w", null, 2, 3, true, Role.HEAD, 0, "x"));
    }

    @Test
    void aConstantNodeIsAWeightLikeAnInitializer() {
        List<Site> sites = sites(graph(constant(matrix("fc.w_0", 3, 2)), node("MatMul", "x fc.w_0", "y")));

        assertThat(sites).containsExactly(new Site("fc", "fc.w_0", null, 2, 3, true, Role.HEAD, 0, "x"));
    }

    @Test
    void gemmWithTransposedWeightStoresOutputsFirstAndBringsItsBias() {
        List<Site> sites = sites(graph(
                        node("Gemm", "x layers.3.fc1.weight layers.3.fc1.bias", "h", integer("transB", 1)),
                        node("Relu", "h", "y"))
                .addInitializer(matrix("layers.3.fc1.weight", 2, 3))
                .addInitializer(floats("layers.3.fc1.bias", 1, 2)));

        assertThat(sites)
                .containsExactly(new Site(
                        "layers.3.fc1", "layers.3.fc1.weight", "layers.3.fc1.bias", 2, 3, false, Role.UP, 3, "x"));
    }

    @Test
    void transposeAndCastAndIdentityLeadBackToTheWeight() {
        List<Site> sites = sites(graph(
                        node("Identity", "w", "a"),
                        node("Transpose", "a", "b", integers("perm", 1L, 0L)),
                        node("Cast", "b", "c", integer("to", OnnxGraphs.FLOAT)),
                        node("Transpose", "c", "d"),
                        node("Transpose", "d", "e"),
                        node("MatMul", "x e", "y"))
                .addInitializer(half("w", 2, 3)));

        assertThat(sites).containsExactly(new Site("w", "w", null, 2, 3, false, Role.HEAD, 0, "x"));
    }

    @Test
    void aWeightSharedByNodesIsOneSite() {
        List<Site> sites = sites(graph(
                        node("MatMul", "x w", "a"),
                        node("Add", "a b", "h"),
                        node("MatMul", "h w", "c"),
                        node("Add", "c b", "y"))
                .addInitializer(matrix("w", 2, 2))
                .addInitializer(floats("b", 1, 2)));

        assertThat(sites).singleElement().satisfies(site -> {
            assertThat(site.input()).isEqualTo("x");
            assertThat(site.bias()).isEqualTo("b");
        });
    }

    @Test
    void aSharedWeightWithTwoBiasesHasNoBiasOfItsOwn() {
        List<Site> sites = sites(graph(
                        node("MatMul", "x w", "a"),
                        node("Add", "a b1", "h"),
                        node("MatMul", "h w", "c"),
                        node("Add", "c b2", "y"))
                .addInitializer(matrix("w", 2, 2))
                .addInitializer(floats("b1", 1, 2))
                .addInitializer(floats("b2", 1, 2)));

        assertThat(sites).singleElement().extracting(Site::bias).isNull();
    }

    @Test
    void aMatrixUsedInAnotherWayIsNoSite() {
        TensorProto w = matrix("w", 2, 2);
        TensorProto rows = TensorProto.newBuilder()
                .setName("rows")
                .setDataType(7)
                .addDims(1)
                .addInt64Data(0)
                .build();

        assertThat(sites(graph(node("MatMul", "w x", "y")).addInitializer(w))).isEmpty();
        assertThat(sites(graph(node("MatMul", "x w", "a"), node("Gather", "w rows", "b"), node("Add", "a b", "y"))
                        .addInitializer(w)
                        .addInitializer(rows)))
                .isEmpty();
        assertThat(sites(graph(node("MatMul", "x w", "a"), node("Transpose", "w", "t"), node("MatMul", "a t", "y"))
                        .addInitializer(w)))
                .isEmpty();
        assertThat(sites(graph(node("MatMul", "x w", "a"), node("Identity", "w", "y"))
                        .addInitializer(w)))
                .isEmpty();
        assertThat(sites(graph(node("MatMul", "x x", "y")).addInitializer(w))).isEmpty();
        assertThat(sites(graph(node("Gemm", "x w", "y", number("alpha", 2))).addInitializer(w)))
                .isEmpty();
        assertThat(sites(graph(node("Gemm", "x w", "y", integer("transA", 1))).addInitializer(w)))
                .isEmpty();
    }

    @Test
    void aMatrixThatANestedGraphReadsIsNoSite() {
        GraphProto body =
                GraphProto.newBuilder().addNode(node("Identity", "w", "inner")).build();
        AttributeProto branch = AttributeProto.newBuilder()
                .setName("then_branch")
                .setType(AttributeType.GRAPH)
                .setG(body)
                .build();

        assertThat(sites(graph(node("MatMul", "x w", "y"), node("If", "c", "z", branch))
                        .addInitializer(matrix("w", 2, 2))))
                .isEmpty();
    }

    @Test
    void integerMatricesAndOtherRanksAreNoSites() {
        TensorProto integers = matrix("w", 2, 2).toBuilder().setDataType(6).build();
        TensorProto batched = matrix("w", 2, 2).toBuilder().addDims(1).build();

        assertThat(sites(graph(node("MatMul", "x w", "y")).addInitializer(integers)))
                .isEmpty();
        assertThat(sites(graph(node("MatMul", "x w", "y")).addInitializer(batched)))
                .isEmpty();
    }

    @Test
    void rolesFollowFromTheGraphWhereNamesAreSilent() {
        GraphProto.Builder graph = graph(
                node("LayerNormalization", "x g", "n"),
                node("MatMul", "n up", "u"),
                node("Div", "u g", "u1"),
                node("Erf", "u1", "u2"),
                node("Add", "u2 g", "u3"),
                node("Mul", "u u3", "u4"),
                node("Mul", "u4 g", "u5"),
                node("MatMul", "u5 down", "d"),
                node("MatMul", "d d", "scores"),
                node("Transpose", "scores", "t", integers("perm", 0L, 2L, 1L, 3L)),
                node("Reshape", "t g", "r"),
                node("MatMul", "r joined", "o"),
                node("MatMul", "o last", "m"),
                node("Add", "m g", "y"));
        for (String name : List.of("up", "down", "joined", "last")) {
            graph.addInitializer(matrix(name, 2, 2));
        }
        graph.addInitializer(floats("g", 1, 1));

        assertThat(sites(graph)).extracting(Site::name).containsExactly("up", "down", "joined", "last");
        assertThat(sites(graph))
                .extracting(Site::role)
                .containsExactly(Role.OTHER, Role.DOWN, Role.ATTENTION_OUTPUT, Role.HEAD);
    }

    @Test
    void theLastProjectionIsTheHeadBehindSoftmaxToo() {
        List<Site> sites = sites(graph(
                        node("MatMul", "x w", "a"),
                        node("Add", "a b", "c"),
                        node("Softmax", "c", "s"),
                        node("Identity", "s", "y"))
                .addInitializer(matrix("w", 2, 2))
                .addInitializer(floats("b", 1, 2)));

        assertThat(sites).extracting(Site::role).containsExactly(Role.HEAD);
    }

    @Test
    void namesAreUniqueAndComeFromTheNodeWhenTensorsAreNumbered() {
        List<Site> sites = sites(graph(
                        node("MatMul", "x onnx::MatMul_1", "a").toBuilder()
                                .setName("/encoder/layer.1/attention/self/query/MatMul")
                                .build(),
                        node("MatMul", "a onnx::MatMul_2", "b").toBuilder()
                                .setName("/encoder/layer.1/attention/self/query/MatMul")
                                .build(),
                        node("Relu", "b", "y"))
                .addInitializer(matrix("onnx::MatMul_1", 2, 2))
                .addInitializer(matrix("onnx::MatMul_2", 2, 2)));

        assertThat(sites)
                .extracting(Site::name)
                .containsExactly("encoder.layer.1.attention.self.query", "encoder.layer.1.attention.self.query_2");
        assertThat(sites).extracting(Site::role).containsOnly(Role.QUERY);
        assertThat(sites).extracting(Site::block).containsOnly(1);
    }

    @Test
    void theModuleThatPyTorchNotedNamesALayerWithoutReadableTensors() {
        List<Site> sites = sites(graph(
                        node("MatMul", "x val_46", "a").toBuilder()
                                .setName("node_linear_3")
                                .addMetadataProps(
                                        OnnxGraphs.entry(
                                                "pkg.torch.onnx.name_scopes",
                                                "['', 'model', 'model.layers.2', 'model.layers.2.self_attn.o_proj', 'linear_3']"))
                                .build(),
                        node("Relu", "a", "y"))
                .addInitializer(matrix("val_46", 2, 2)));

        assertThat(sites)
                .containsExactly(new Site(
                        "model.layers.2.self_attn.o_proj", "val_46", null, 2, 2, true, Role.ATTENTION_OUTPUT, 2, "x"));
    }

    private static TensorProto half(String name, int first, int second) {
        TensorProto.Builder tensor = TensorProto.newBuilder()
                .setName(name)
                .setDataType(OnnxGraphs.FLOAT16)
                .addDims(first)
                .addDims(second);
        for (int i = 0; i < first * second; i++) {
            tensor.addInt32Data(Float.floatToFloat16(i + 1) & 0xffff);
        }
        return tensor.build();
    }

    private List<Site> sites(GraphProto.Builder graph) {
        try (OnnxFile file = OnnxFile.open(save(folder, model(graph)))) {
            return file.sites();
        }
    }
}
