package org.sentei.method.quantize;

import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Tensor;

/** Carries calibration samples through graphs. */
public interface GraphRunner {
    /** How many samples there are. */
    int samples();

    /**
     * A graph, and what of it is looked at.
     *
     * @param values names of values
     */
    record Tapped(LayerGraph graph, List<String> values) {
        /** Copies the list. */
        public Tapped {
            values = List.copyOf(values);
        }
    }

    /**
     * Carries the same samples through every graph, a batch at a time.
     *
     * @param from first sample
     * @param to first sample that is not run any more
     * @param batch gets the values of every graph, by name; they are valid until it returns
     */
    void run(List<Tapped> graphs, int from, int to, Consumer<List<Map<String, Tensor>>> batch);
}
