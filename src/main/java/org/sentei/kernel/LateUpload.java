package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import org.sentei.tensor.DType;

/** Copies when it is taken, and not before. */
final class LateUpload implements Upload {
    private final Backend backend;
    private final MemorySegment source;
    private boolean ended;

    LateUpload(Backend backend, MemorySegment source) {
        this.backend = backend;
        this.source = source;
    }

    @Override
    public boolean isUnderway() {
        return false;
    }

    @Override
    public Buffer take() {
        if (ended) {
            throw new IllegalStateException("the upload has been taken or closed already");
        }
        ended = true;
        Buffer buffer = backend.allocate(source.byteSize());
        try {
            backend.copyIn(source, View.of(buffer, DType.U8, 1, source.byteSize()));
            return buffer;
        } catch (RuntimeException e) {
            buffer.close();
            throw e;
        }
    }

    @Override
    public void close() {
        ended = true;
    }
}
