package org.sentei.backend.gpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Download;

/**
 * One device behind a driver: memory, copies and launches on one stream, in the order of the calls, and copies beside it.
 *
 * <p>Callers have checked everything that can be checked without the driver: the thread, that handles are alive, that ranges
 * lie in their memory. Failures of the driver are {@link org.sentei.kernel.DeviceException}s, here or at {@link #sync}.
 */
public interface GpuDevice extends AutoCloseable {
    /** What it is and has. */
    DeviceInfo info();

    /** Whether it computes in fp64; the kernels of {@link Launch#fp64} exist only then. */
    boolean hasFp64();

    /**
     * New memory of at least one byte, with unspecified content, within the device's budget; what is kept for reuse goes
     * before this fails.
     *
     * @return its handle, never 0
     * @throws org.sentei.kernel.DeviceException OUT_OF_MEMORY with the sizes
     */
    long allocate(long bytes);

    /** Frees memory without a wait; work that was launched on it before, copies included, still finds it. */
    void free(long handle);

    /** As {@link org.sentei.kernel.Backend#allocateHost}. */
    default MemorySegment allocateHost(long bytes, Arena arena) {
        return arena.allocate(bytes, 64);
    }

    /** Rows of bytes inside memory. */
    record Region(long handle, long offset, long rows, long rowBytes, long strideBytes) {
        /** Whether no gap lies between rows. */
        public boolean isPacked() {
            return rows <= 1 || rowBytes == strideBytes;
        }
    }

    /**
     * Begins to fill memory, all of it, beside the launches: behind those before this call and beside those after it. Nobody
     * else may use the memory before {@link Transfer#order}.
     *
     * @param source native memory of which any thread may read
     */
    Transfer upload(MemorySegment source, long handle);

    /** Begins to copy to packed rows of native host memory, behind the launches so far and beside those to come. */
    Download download(Region source, MemorySegment target);

    /** Memory that is being filled. */
    interface Transfer {
        /** What is launched from here on comes behind the copy. */
        void order();

        /** Waits until the host's side is not read any more. */
        void await();

        /** Copies no more than is under way already: the content is unspecified. To be ordered all the same. */
        void cancel();
    }

    /** Copies packed rows from native host memory, which may change as soon as this returns. */
    void copyIn(MemorySegment source, Region target);

    /** Copies to packed rows of native host memory, behind all work launched before; done when this returns. */
    void copyOut(Region source, MemorySegment target);

    /**
     * Makes the kernels of a file ready, so that what is wrong with them is said now.
     *
     * @param file {@link Launch#file}
     */
    void load(String file);

    /** Runs a kernel; may return before it is done. */
    void launch(Launch launch);

    /** Makes launches ready to run again and again; the memory that they name stays where it is. */
    Prepared prepare(List<Launch> launches);

    /** Waits until all work is done. */
    void sync();

    @Override
    void close();

    /** Launches that are ready to run. */
    interface Prepared extends AutoCloseable {
        /** Runs them in their order; may return before they are done. */
        void run();

        @Override
        void close();
    }
}
