package org.sentei.backend.gpu;

import org.sentei.kernel.Buffer;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.View;

/** Memory of one {@link GpuBackend}. */
final class GpuBuffer implements Buffer {
    private final GpuBackend owner;
    private final long bytes;
    /** What fills it, or null. */
    private final GpuDevice.Transfer transfer;
    /** 0 once closed. */
    private long handle;

    GpuBuffer(GpuBackend owner, long handle, long bytes, GpuDevice.Transfer transfer) {
        this.owner = owner;
        this.handle = handle;
        this.bytes = bytes;
        this.transfer = transfer;
    }

    /**
     * The handle of a view's memory.
     *
     * @throws DeviceException INTERNAL for a buffer of another backend, or one that is closed
     */
    static long handle(GpuBackend owner, View view) {
        if (!(view.buffer() instanceof GpuBuffer buffer) || buffer.owner != owner) {
            throw broken(owner, view, "it lies in another backend's memory");
        }
        if (buffer.handle == 0) {
            throw broken(owner, view, "its scope is closed already");
        }
        return buffer.handle;
    }

    private static DeviceException broken(GpuBackend owner, View view, String fact) {
        return new DeviceException(owner.name(), "using " + view, 0, fact, DeviceException.Kind.INTERNAL);
    }

    @Override
    public long bytes() {
        return bytes;
    }

    @Override
    public void close() {
        if (handle != 0) {
            long freed = handle;
            handle = 0;
            owner.free(freed, transfer);
        }
    }
}
