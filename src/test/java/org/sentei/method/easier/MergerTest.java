package org.sentei.method.easier;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.sentei.method.easier.Merger.Decision;
import org.sentei.method.easier.Merger.Times;
import org.sentei.method.quantize.Folding;
import org.sentei.method.quantize.Graphs;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Shape;

/** Which merges are made, with times that follow from the multiplications. */
class MergerTest {
    private static final Map<String, Shape> SHAPES = Map.of("x", Shape.of(1, 24, 14, 14));

    /** A run takes as long as it has multiplications, and a merged model differs by so much. */
    private static Merger.Trial trial(double difference) {
        return new Merger.Trial() {
            @Override
            public Times time(Merge.Pieces pieces) {
                return timeWhole(pieces.separate(), pieces.merged());
            }

            @Override
            public Times timeWhole(LayerGraph separate, LayerGraph merged) {
                double before = work(separate);
                double after = work(merged);
                return new Times(before, after, after < before ? 1 : 0);
            }

            @Override
            public double difference(LayerGraph changed, LayerGraph reference) {
                return difference;
            }
        };
    }

    private static double work(LayerGraph piece) {
        return piece.layers().stream()
                .flatMap(layer -> Kernel.of(piece, layer).stream())
                .mapToDouble(kernel -> kernel.outline().multiplications(1))
                .sum();
    }

    private static Merger.Result merged(LayerGraph graph, double difference) {
        Map<String, Shape> shapes = new HashMap<>(SHAPES);
        // all values have the input's size
        graph.layers().forEach(layer -> shapes.put(layer.output(), Shape.of(1, 24, 14, 14)));
        return Merger.run(graph, new Merge.Terms(shapes, true, false), trial(difference));
    }

    private static LayerGraph invertedResidual() {
        Graphs graphs =
                Graphs.of().conv(144, 24, 1, 1, 0).conv(144, 144, 3, 144, 1).conv(24, 144, 1, 1, 0);
        return graphs.layer("sum", "Add", List.of(graphs.last(), "x"), Map.of()).build(24, 14);
    }

    @Test
    void aWholeInvertedResidualPaysWhereItsPartsDoNot() {
        Merger.Result result = merged(invertedResidual(), 0);
        assertThat(result.graph().layers()).extracting(Layer::operator).containsExactly("Conv", "Add");
        List<Decision> made =
                result.decisions().stream().filter(Decision::isMade).toList();
        assertThat(made).extracting(Decision::layers).containsExactly("conv0 + conv1 + conv2");
        // C6: 0.63 of the work
        assertThat((double) made.getFirst().merged() / made.getFirst().separate())
                .isBetween(0.62, 0.64);
        assertThat(result.decisions())
                .filteredOn(decision -> decision.layers().equals("conv0 + conv1"))
                .allSatisfy(decision -> {
                    assertThat(decision.isMade()).isFalse();
                    assertThat(decision.reason()).contains("times the multiplications; not timed");
                });
    }

    @Test
    void whatCostsMoreStaysApartWithItsNumbers() {
        LayerGraph basic =
                Graphs.of().conv(24, 24, 3, 1, 0).conv(24, 24, 3, 1, 0).build(24, 14);
        Merger.Result result = merged(basic, 0);
        assertThat(result.graph()).isSameAs(basic);
        assertThat(result.decisions()).hasSize(1);
        assertThat(result.decisions().getFirst().reason())
                .contains("times as fast, faster in 0 % of the rounds; a merge must gain 1.03");
        assertThat(result.decisions().getFirst().times()).isPresent();
    }

    @Test
    void aMergeThatChangesOutputsOrIsNotFiniteIsRefused() {
        for (double difference : new double[] {2e-4, Double.NaN}) {
            LayerGraph graph = invertedResidual();
            Merger.Result result = merged(graph, difference);
            assertThat(result.graph()).isSameAs(graph);
            assertThat(result.decisions()).noneMatch(Decision::isMade);
            assertThat(result.decisions())
                    .anyMatch(decision -> decision.reason().contains("of the largest, beyond"));
        }
    }

    @Test
    void aMergeThatSlowsTheWholeModelDownIsRefused() {
        LayerGraph graph = invertedResidual();
        Map<String, Shape> shapes = new HashMap<>(SHAPES);
        graph.layers().forEach(layer -> shapes.put(layer.output(), Shape.of(1, 24, 14, 14)));
        Merger.Trial pieces = trial(0);
        Merger.Result result = Merger.run(graph, new Merge.Terms(shapes, true, false), new Merger.Trial() {
            @Override
            public Times time(Merge.Pieces alone) {
                return pieces.time(alone);
            }

            @Override
            public Times timeWhole(LayerGraph separate, LayerGraph merged) {
                return new Times(1, 1.1, 0);
            }

            @Override
            public double difference(LayerGraph changed, LayerGraph reference) {
                return 0;
            }
        });
        assertThat(result.graph()).isSameAs(graph);
        assertThat(result.decisions()).anyMatch(decision -> decision.reason().contains("the whole model 0.91 times"));
    }

    @Test
    void mergedLayersMergeOn() {
        Graphs graphs = Graphs.of();
        for (int i = 0; i < 4; i++) {
            graphs.conv(24, 24, 1, 1, 0);
        }
        Merger.Result result = merged(Folding.fold(graphs.build(24, 14)), 0);
        assertThat(result.graph().layers()).hasSize(1);
        assertThat(result.decisions().stream().filter(Decision::isMade)).hasSize(1);
        assertThat(result.decisions())
                .filteredOn(decision -> !decision.isMade())
                .allSatisfy(decision -> assertThat(decision.reason()).contains("saves more"));
    }
}
