package org.sentei.method.quantize;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.model.graph.LayerGraph;

/**
 * A graph that passes rewrite before anything is rounded.
 *
 * @param known what batch normalizations said of values, by name
 * @param notes what passes left undone, and why
 */
record FloatGraph(LayerGraph graph, Map<String, Gaussians> known, List<String> notes) {
    FloatGraph {
        known = Map.copyOf(known);
        notes = List.copyOf(notes);
    }

    static FloatGraph of(LayerGraph graph) {
        return new FloatGraph(graph, Map.of(), List.of());
    }

    FloatGraph with(LayerGraph changed) {
        return new FloatGraph(changed, known, notes);
    }

    FloatGraph knowing(Map<String, Gaussians> more) {
        Map<String, Gaussians> all = new HashMap<>(known);
        all.putAll(more);
        return new FloatGraph(graph, all, notes);
    }

    FloatGraph noting(List<String> more) {
        List<String> all = new ArrayList<>(notes);
        all.addAll(more);
        return new FloatGraph(graph, known, all);
    }
}
