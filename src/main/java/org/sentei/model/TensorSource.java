package org.sentei.model;

import java.util.Collection;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** Named tensors of an open model, read on demand. */
public interface TensorSource {
    /** All names, in the file's order. */
    Collection<String> names();

    /** Whether there is a tensor of this name. */
    boolean contains(String name);

    /**
     * The tensor of this name; its memory is valid while the source is open.
     *
     * @throws ModelException when there is none, naming it and the model
     */
    Tensor tensor(String name);

    /** Element type of the tensor of this name, which may be cheaper to tell than to get the tensor. */
    default DType dtype(String name) {
        return tensor(name).dtype();
    }

    /** Shape of the tensor of this name, which may be cheaper to tell than to get the tensor. */
    default Shape shape(String name) {
        return tensor(name).shape();
    }
}
