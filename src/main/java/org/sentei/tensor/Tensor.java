package org.sentei.tensor;

import java.lang.foreign.MemorySegment;

/**
 * A named, typed, shaped, read-only view of somebody else's memory: little-endian, row-major, densely packed.
 *
 * @param name the tensor's name in its file
 * @param data exactly the bytes of the elements; valid as long as its owner (a model file, a scope) is open
 */
public record Tensor(String name, DType dtype, Shape shape, MemorySegment data) {
    /** Checks that the bytes are as many as type and shape need; otherwise an {@link IllegalArgumentException}. */
    public Tensor {
        long expected = dtype.bytesFor(shape.elements());
        if (data.byteSize() != expected) {
            throw new IllegalArgumentException("tensor " + name + " of " + dtype + " " + shape + " needs " + expected
                    + " bytes, but has " + data.byteSize());
        }
        data = data.asReadOnly();
    }

    /**
     * Says that the elements will not be read again soon: those of a mapped file leave this process's memory until somebody
     * does. Work on a model that is larger than the memory says it of every tensor.
     */
    public void release() {
        if (data.isMapped()) {
            data.unload();
        }
    }
}
