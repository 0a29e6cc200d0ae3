package org.sentei.method.easier;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.function.Supplier;
import java.util.function.UnaryOperator;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;

/**
 * Layers of a graph that are linear one behind the other, as one layer: convolutions with what is added to them from their own
 * input, and products with matrices, each with the normalizations and constants around. A merged layer computes what the
 * separate ones did, up to rounding, borders of images included; {@link Border} says how.
 */
public final class Merge {
    private Merge() {}

    /** What keeps the outputs right that are near the border of an image. */
    public enum Border {
        /** Nothing is needed. */
        NONE,
        /** The bias has an own value for every output pixel. */
        BIAS_MAP,
        /** The outputs near the border are computed in separate steps, the others in one. */
        RING,
        /**
         * Nothing: all zeros are in front of the first of the layers, so that the network computes something else near the
         * border.
         */
        PAD_FIRST
    }

    /**
     * Layers that can be merged.
     *
     * @param name of the layers, in their order
     * @param separate multiplications of the separate layers for one sample
     * @param merged multiplications of the merged one
     * @param composed makes the merged layer, which can take long
     */
    public record Candidate(String name, Border border, long separate, long merged, Supplier<Built> composed) {
        /** The graphs, made anew. */
        public Built built() {
            return composed.get();
        }
    }

    /**
     * Graphs with and without a merge.
     *
     * @param pieces the layers alone, as they are and merged: of the same input, to be timed
     * @param graph all of the model, with the merged layer
     * @param reference all of the model, computing the same with separate layers: the model as it was, but for
     *     {@link Border#PAD_FIRST}
     */
    public record Built(Pieces pieces, LayerGraph graph, LayerGraph reference) {}

    /** Two graphs of one input that give the same. */
    public record Pieces(LayerGraph separate, LayerGraph merged) {}

    /**
     * What can be merged, and what cannot.
     *
     * @param refused names of layers, and why they stay as they are
     */
    public record Proposals(List<Candidate> candidates, Map<String, String> refused) {
        /** Copies both. */
        public Proposals {
            candidates = List.copyOf(candidates);
            refused = Map.copyOf(refused);
        }
    }

    /**
     * What is known of a model's values.
     *
     * @param shapes of values, for one sample
     * @param isFixed whether these are the shapes for every sample, but for their number
     * @param padFirst whether zeros may be moved
     */
    public record Terms(Map<String, Shape> shapes, boolean isFixed, boolean padFirst) {
        /** Copies the shapes. */
        public Terms {
            shapes = Map.copyOf(shapes);
        }
    }

    /** Every merge of neighbours in a graph, whether it pays or not: each is one change of the graph as it is. */
    public static Proposals propose(LayerGraph graph, Terms terms) {
        List<Candidate> candidates = new ArrayList<>();
        Map<String, String> refused = new LinkedHashMap<>();
        new ConvolutionMerge(graph, terms, candidates, refused).propose();
        new ProductMerge(graph, terms, candidates).propose();
        return new Proposals(candidates, refused);
    }

    /** A value that layers put in place of others make of one input. */
    record Change(List<Layer> from, List<Layer> to, String input, String output) {
        /**
         * The graphs.
         *
         * @param constants puts what the new layers read into a copy of the graph
         * @param reference changes a copy of the graph to one with the same results and separate layers
         */
        Built in(LayerGraph graph, Terms terms, LayerGraph.Editor constants, UnaryOperator<LayerGraph> reference) {
            Layer last = from.getLast();
            from.forEach(constants::replace);
            LayerGraph changed =
                    constants.replace(last, to.toArray(Layer[]::new)).build();
            LayerGraph as = reference.apply(graph);
            List<Layer> separated = from.stream()
                    .map(layer -> as.layer(layer.name()).orElseThrow())
                    .toList();
            return new Built(new Pieces(piece(as, separated, terms), piece(changed, to, terms)), changed, as);
        }

        private LayerGraph piece(LayerGraph graph, List<Layer> layers, Terms terms) {
            List<OptionalLong> dimensions = Optional.ofNullable(terms.shapes().get(input)).stream()
                    .flatMapToLong(shape -> Arrays.stream(shape.toArray()))
                    .mapToObj(OptionalLong::of)
                    .toList();
            return new LayerGraph(
                            graph.name(),
                            graph.opset(),
                            List.of(new LayerGraph.Port(input, DType.F32, dimensions)),
                            List.of(new LayerGraph.Port(output, DType.F32, List.of())),
                            layers,
                            graph.constants())
                    .upTo(List.of(output));
        }
    }
}
