package org.sentei.kernel;

/** Memory of one backend. Created by {@link Backend#allocate}, owned by a {@link Scope}. */
public interface Buffer extends AutoCloseable {
    /** Size in bytes. */
    long bytes();

    /** Frees the memory; calling it again does nothing. */
    @Override
    void close();
}
