package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.sentei.method.easier.Rectifier.Kind;
import org.sentei.method.easier.Rectifier.Units;
import org.sentei.method.quantize.Graphs;
import org.sentei.model.graph.Attribute;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

class RectifiersTest {
    private static List<Kind> kinds(Graphs graphs) {
        return Rectifiers.of(graphs.build(4, 5)).all().stream()
                .map(Rectifier::kind)
                .toList();
    }

    @Test
    void rectifiersBehindConvolutionsHaveChannels() {
        LayerGraph graph = Graphs.of()
                .conv(6, 4, 1, 1, 0)
                .norm(6)
                .then("Relu")
                .conv(6, 6, 3, 6, 1)
                .then("Clip", 0, 6)
                .then("LeakyRelu")
                .then("HardSwish")
                .build(4, 5);
        Rectifiers found = Rectifiers.of(graph);
        assertThat(found.refused()).isEmpty();
        assertThat(found.all())
                .extracting(Rectifier::kind)
                .containsExactly(Kind.RELU, Kind.RELU6, Kind.LEAKY_RELU, Kind.HARD_SWISH);
        assertThat(found.all()).extracting(Rectifier::units).containsOnly(new Units.Channels(2));
        assertThat(found.all().getFirst().input()).isEqualTo("norm1.y");
    }

    @Test
    void whatIsSpelledOutIsFoundAsAWhole() {
        // GELU as PyTorch exports it
        Graphs gelu = Graphs.of().conv(6, 4, 1, 1, 0);
        String x = gelu.last();
        gelu.then("Div", 1.4142135f).then("Erf").then("Add", 1);
        gelu.layer("gated", "Mul", List.of(x, gelu.last()), Map.of()).then("Mul", 0.5f);
        Rectifiers found = Rectifiers.of(gelu.build(4, 5));
        assertThat(found.all()).hasSize(1);
        assertThat(found.all().getFirst().kind()).isEqualTo(Kind.GELU);
        assertThat(found.all().getFirst().input()).isEqualTo(x);
        assertThat(found.all().getFirst().layers())
                .extracting(Layer::operator)
                .containsExactly("Div", "Erf", "Add", "Mul", "Mul");

        // halved first
        Graphs halved = Graphs.of().conv(6, 4, 1, 1, 0);
        String y = halved.last();
        halved.then("Mul", 0.5f);
        String half = halved.last();
        halved.layer("scaled", "Mul", List.of(y, "root"), Map.of())
                .constant("root", Shape.of(), (float) Math.sqrt(0.5))
                .then("Erf")
                .then("Add", 1);
        halved.layer("gated", "Mul", List.of(half, halved.last()), Map.of());
        assertThat(kinds(halved)).containsExactly(Kind.GELU);

        // by tanh
        Graphs tanh = Graphs.of().conv(6, 4, 1, 1, 0);
        String z = tanh.last();
        tanh.then("Pow", 3).then("Mul", 0.044715f);
        tanh.layer("cubic", "Add", List.of(z, tanh.last()), Map.of())
                .then("Mul", (float) Math.sqrt(2 / Math.PI))
                .then("Tanh")
                .then("Add", 1);
        tanh.layer("gated", "Mul", List.of(z, tanh.last()), Map.of()).then("Mul", 0.5f);
        assertThat(kinds(tanh)).containsExactly(Kind.GELU_TANH);

        Graphs silu = Graphs.of().conv(6, 4, 1, 1, 0);
        String s = silu.last();
        silu.then("Sigmoid");
        silu.layer("gated", "Mul", List.of(silu.last(), s), Map.of());
        assertThat(kinds(silu)).containsExactly(Kind.SILU);
    }

    @Test
    void hardSwishIsOneRectifierAndAGateIsNone() {
        // as Paddle exports it
        Graphs swish = Graphs.of().conv(6, 4, 1, 1, 0);
        String x = swish.last();
        swish.then("Add", 3).then("Clip", 0, 6);
        swish.layer("gated", "Mul", List.of(x, swish.last()), Map.of()).then("Div", 6);
        assertThat(kinds(swish)).containsExactly(Kind.HARD_SWISH);

        Graphs gate = Graphs.of()
                .conv(6, 4, 1, 1, 0)
                .then("Add", 3)
                .then("Clip", 0, 6)
                .then("Div", 6);
        assertThat(kinds(gate)).isEmpty();
        assertThat(kinds(Graphs.of().conv(6, 4, 1, 1, 0).then("HardSigmoid"))).isEmpty();
        assertThat(kinds(Graphs.of().conv(6, 4, 1, 1, 0).then("Sigmoid"))).isEmpty();
        assertThat(kinds(Graphs.of().conv(6, 4, 1, 1, 0).then("Tanh"))).isEmpty();
        assertThat(kinds(Graphs.of().conv(6, 4, 1, 1, 0).then("Clip", 0, 1))).isEmpty();
    }

    @Test
    void linearLayersCountAlongTheLastAxis() {
        Graphs graphs = Graphs.of().constant("w", Shape.of(5, 8), 1);
        graphs.layer("up", "MatMul", List.of("x", "w"), Map.of())
                .constant("b", Shape.of(8), 1)
                .layer("bias", "Add", List.of("b", "up.y"), Map.of())
                .then("Relu");
        Rectifiers found = Rectifiers.of(graphs.build(4, 5));
        assertThat(found.all()).extracting(Rectifier::units).containsExactly(new Units.Last());
    }

    @Test
    void partsThatOthersReadAreSharedAndRefused() {
        Graphs shared = Graphs.of().conv(6, 4, 1, 1, 0);
        String x = shared.last();
        shared.then("Add", 3).then("Clip", 0, 6);
        String clipped = shared.last();
        shared.layer("gated", "Mul", List.of(x, clipped), Map.of()).then("Div", 6);
        shared.layer("both", "Add", List.of(shared.last(), clipped), Map.of());
        Rectifiers found = Rectifiers.of(shared.build(4, 5));
        assertThat(found.all()).isEmpty();
        assertThat(found.refused().toString()).contains("shares " + clipped).contains("both");
    }

    @Test
    void withoutWeightsBeforeItOrInNestedGraphsNothingIsFound() {
        Rectifiers bare = Rectifiers.of(Graphs.of().then("Relu").build(4, 5));
        assertThat(bare.all()).isEmpty();
        assertThat(bare.refused().toString()).contains("no convolution or product");

        Graphs nested = Graphs.of().constant("on", Shape.of(), 1).conv(6, 4, 1, 1, 0);
        String x = nested.last();
        nested.layer("choice", "If", List.of("on"), Map.<String, Attribute>of())
                .layer("sum", "Add", List.of(x, "choice.y"), Map.of());
        assertThat(Rectifiers.of(nested.build(4, 5)).refused())
                .containsEntry("choice", "runs nested graphs, whose activations stay as they are");
    }
}
