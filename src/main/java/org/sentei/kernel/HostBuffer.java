package org.sentei.kernel;

import java.lang.foreign.MemorySegment;

/** Buffer in host memory, aligned to 64 bytes: what backends that compute on the host allocate. */
public final class HostBuffer implements Buffer {
    private final String backend;
    private final HostBlocks blocks;
    private final HostBlocks.Block block;
    private boolean closed;

    /**
     * Memory of {@code bytes} bytes.
     *
     * @param zeros whether it is all zeros; unspecified otherwise
     * @throws DeviceException OUT_OF_MEMORY with the size
     */
    HostBuffer(String backend, HostBlocks blocks, long bytes, boolean zeros) {
        this.backend = backend;
        this.blocks = blocks;
        try {
            block = zeros ? blocks.zeros(bytes) : blocks.take(bytes);
        } catch (OutOfMemoryError e) {
            throw new DeviceException(
                    backend,
                    "allocating " + bytes + " bytes",
                    "the host has no memory of this size left; use a smaller batch",
                    DeviceException.Kind.OUT_OF_MEMORY,
                    e);
        }
    }

    @Override
    public long bytes() {
        return block.memory().byteSize();
    }

    /**
     * The memory of a view, from its first element to the end of its last.
     *
     * @throws DeviceException INTERNAL for a buffer of another backend, or one that is closed
     */
    public static MemorySegment segment(String backend, View view) {
        if (!(view.buffer() instanceof HostBuffer buffer) || !buffer.backend.equals(backend)) {
            throw new DeviceException(
                    backend, "using " + view, 0, "it lies in another backend's memory", DeviceException.Kind.INTERNAL);
        }
        if (buffer.closed) {
            throw new DeviceException(
                    backend, "using " + view, 0, "its scope is closed already", DeviceException.Kind.INTERNAL);
        }
        return buffer.block.memory().asSlice(view.offset(), view.span());
    }

    /** {@link Backend#copyIn} for host memory. */
    public static void copyIn(String backend, MemorySegment source, View target) {
        checkSize(backend, source, target);
        copyRows(source, rowBytes(target), segment(backend, target), strideBytes(target), target);
    }

    /** {@link Backend#copyOut} for host memory. */
    public static void copyOut(String backend, View source, MemorySegment target) {
        checkSize(backend, target, source);
        copyRows(segment(backend, source), strideBytes(source), target, rowBytes(source), source);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            blocks.give(block);
        }
    }

    private static long rowBytes(View view) {
        return view.cols() * view.dtype().bytes();
    }

    private static long strideBytes(View view) {
        return view.stride() * view.dtype().bytes();
    }

    private static void copyRows(
            MemorySegment source, long sourceStride, MemorySegment target, long targetStride, View view) {
        if (view.isPacked() || view.bytes() == 0) {
            MemorySegment.copy(source, 0, target, 0, view.bytes());
            return;
        }
        for (long row = 0; row < view.rows(); row++) {
            MemorySegment.copy(source, row * sourceStride, target, row * targetStride, rowBytes(view));
        }
    }

    private static void checkSize(String backend, MemorySegment host, View view) {
        if (host.byteSize() != view.bytes()) {
            throw new DeviceException(
                    backend,
                    "copying " + view,
                    0,
                    "the host side has " + host.byteSize() + " bytes instead of " + view.bytes(),
                    DeviceException.Kind.INTERNAL);
        }
    }
}
