package org.sentei.model.graph;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Runs in float what of a quantized graph is no op on integers, for an {@link IntegerExecutor}. */
public interface FloatParts {
    /** Makes a part ready to run; it is asked for once. */
    Part open(LayerGraph part);

    /** A part of the graph in float. */
    interface Part extends AutoCloseable {
        /** What comes out for the part's inputs. */
        Map<String, Tensor> run(List<Tensor> inputs, Collection<String> wanted);

        /** The type of an output. */
        DType dtype(String output);

        @Override
        void close();
    }
}
