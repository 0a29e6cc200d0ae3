package org.sentei.model;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import org.sentei.tensor.Tensor;

/**
 * A model as a graph runtime takes it.
 *
 * @param name what messages call it, usually its path
 * @param graph serialized in the form of its format, large weights left out
 * @param weights those weights, in native memory
 * @param folder where weights are that the graph says are in other files
 */
public record GraphModel(String name, MemorySegment graph, List<Tensor> weights, Path folder) {
    public GraphModel {
        weights = List.copyOf(weights);
    }
}
