package org.sentei.kernel;

import java.util.List;

/**
 * Ops prepared once and run many times, always in this order: a CUDA graph where the backend has them, a plain loop
 * elsewhere.
 */
public interface Sequence extends AutoCloseable {
    /** The ops in the order they run. */
    List<Op> ops();

    /** Frees what was prepared; calling it again does nothing. */
    @Override
    void close();
}
