package org.sentei.model;

import java.util.Collection;
import org.sentei.tensor.Tensor;

/** Named tensors of an open model, read on demand. */
public interface TensorSource {
    /** All names, in the file's order. */
    Collection<String> names();

    boolean contains(String name);

    /**
     * The tensor of this name; its memory is valid while the source is open.
     *
     * @throws ModelException when there is none, naming it and the model
     */
    Tensor tensor(String name);
}
