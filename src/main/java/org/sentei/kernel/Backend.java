package org.sentei.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Optional;
import org.sentei.tensor.DType;

/**
 * Runs ops on one device.
 *
 * <p>A backend belongs to the thread that opened it and has one compute stream: ops run in the order they are given.
 * {@link #run(Op)} may return before the work is done; errors surface at {@code run} or at {@link #sync}, never later.
 * {@link #copyOut} waits for the ops that write the view. {@link #upload} and {@link #download} copy beside the ops where a
 * device can.
 */
public interface Backend extends AutoCloseable {
    /** What the device is and has. */
    DeviceInfo info();

    /** A pure question: whether {@link #run(Op)} accepts this op. */
    boolean supports(Op op);

    /**
     * New memory of {@code bytes} bytes, aligned to at least 64 bytes, with unspecified content.
     *
     * @throws DeviceException OUT_OF_MEMORY with the size
     */
    Buffer allocate(long bytes);

    /**
     * As {@link #allocate}, all zeros.
     *
     * @throws DeviceException OUT_OF_MEMORY with the size
     */
    default Buffer allocateZeros(long bytes) {
        Buffer buffer = allocate(bytes);
        try {
            MemorySegment zeros = MemorySegment.ofArray(new byte[(int) Math.min(bytes, 1 << 20)]);
            for (long done = 0; done < bytes; done += zeros.byteSize()) {
                long part = Math.min(bytes - done, zeros.byteSize());
                copyIn(zeros.asSlice(0, part), new View(buffer, done, 1, part, part, DType.U8));
            }
            return buffer;
        } catch (RuntimeException e) {
            buffer.close();
            throw e;
        }
    }

    /** Copies packed rows from host memory into a view; {@code source} holds exactly {@code target.bytes()} bytes. */
    void copyIn(MemorySegment source, View target);

    /** Copies a view into packed rows of host memory; {@code target} holds exactly {@code source.bytes()} bytes. */
    void copyOut(View source, MemorySegment target);

    /** Whether copies run beside ops, so that it pays to begin them early. */
    default boolean copiesBeside() {
        return false;
    }

    /**
     * Memory of the host, aligned to 64 bytes, that copies to and from this backend pass through fastest.
     *
     * @param arena whose closing frees it, by the backend's thread
     * @throws OutOfMemoryError when the host has none
     */
    default MemorySegment allocateHost(long bytes, Arena arena) {
        return arena.allocate(bytes, 64);
    }

    /**
     * Begins to bring host memory to the device, as far as the device copies beside ops and has memory free, and any thread may
     * read the source. The source must stay as it is until the upload is closed, or the memory that was taken is.
     */
    default Upload upload(MemorySegment source) {
        return new LateUpload(this, source);
    }

    /**
     * Begins to copy a view, as the ops given so far leave it, into packed rows of host memory; {@code target} holds exactly
     * {@code source.bytes()} bytes and must not be touched before it has arrived. Ops that are given later, and freeing the
     * view's memory, change nothing of it.
     */
    default Download download(View source, MemorySegment target) {
        copyOut(source, target);
        return Download.DONE;
    }

    /**
     * Runs one op.
     *
     * @throws DeviceException UNSUPPORTED for an op this backend does not have; others as they occur
     */
    void run(Op op);

    /** Waits until all work is done. */
    void sync();

    /** Prepares ops that will run many times; close the result before the views' scope. */
    Sequence prepare(List<Op> ops);

    /** Runs a prepared sequence {@code times} times. */
    void run(Sequence sequence, int times);

    /**
     * Measures, for a second or so on an idle device, how fast it reads, copies and computes with all that this backend
     * uses of it. Empty where speed is not the point.
     */
    default Optional<Ceilings> ceilings() {
        return Optional.empty();
    }

    /** Frees the device; calling it again does nothing. */
    @Override
    void close();

    /** Finds one kind of backend; registered as a service. Asking must be quiet and must not open anything. */
    interface Provider {
        /** Name as {@code --backend} takes it. */
        String name();

        /** Preference of {@code auto}: higher is faster. */
        int rank();

        /**
         * Empty when {@link #open} can succeed, otherwise the reason and its remedy.
         *
         * @throws DeviceException UNSUPPORTED when a setting of the backend has an unknown value; no other backend makes
         *     up for such a mistake
         */
        Optional<String> unavailableBecause();

        /**
         * Whether its device seems to be here, so that {@code auto} says when it cannot use it; false where a machine simply
         * has no such device.
         */
        default boolean isExpected() {
            return true;
        }

        /**
         * Opens the device.
         *
         * @throws DeviceException when it is not available
         */
        Backend open(Options options);

        /**
         * Opens the device with kernels of one op from somebody else, compiled here; those that they leave out stay this
         * backend's own.
         *
         * @throws DeviceException UNSUPPORTED when the backend compiles no kernels, COMPILE with the compiler's words, or when
         *     the source defines no entry of the op
         */
        default Backend open(Options options, UserKernel kernel) {
            throw new DeviceException(
                    name(),
                    "compiling " + kernel.name(),
                    0,
                    "this backend compiles no kernels; give an OpenCL kernel (.cl) or a CUDA kernel (.cu)",
                    DeviceException.Kind.UNSUPPORTED);
        }
    }

    /**
     * How to open a backend.
     *
     * @param device index of the device
     * @param threads host threads to compute with; results do not depend on it
     * @param memoryBytes device memory that may be held at once; results do not depend on it
     */
    record Options(int device, int threads, long memoryBytes) {
        /** Checks the ranges; an {@link IllegalArgumentException} names the values. */
        public Options {
            if (device < 0 || threads < 1 || memoryBytes < 1) {
                throw new IllegalArgumentException("device must be >= 0, threads and memory >= 1, not " + device + ", "
                        + threads + " and " + memoryBytes);
            }
        }

        /** All the memory that the device has. */
        public Options(int device, int threads) {
            this(device, threads, MemoryBudget.UNLIMITED);
        }

        /** The same within a budget. */
        public Options withMemory(long bytes) {
            return new Options(device, threads, bytes);
        }

        /** Device 0 and one thread a processor. */
        public static Options defaults() {
            return new Options(0, Runtime.getRuntime().availableProcessors());
        }
    }
}
