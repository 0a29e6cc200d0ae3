package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import java.util.List;

/** What backends that compute on the host have in common: host memory, one owning thread, ops that run at once. */
public abstract class HostBackend implements Backend {
    private final String name;
    private final Thread owner = Thread.currentThread();
    private final HostBlocks blocks;
    private boolean closed;

    /**
     * A backend that belongs to the calling thread.
     *
     * @param memoryBytes buffers may take so many bytes at once
     */
    protected HostBackend(String name, HostAllocator memory, long memoryBytes) {
        this.name = name;
        this.blocks = new HostBlocks(memory, new MemoryBudget(name, memoryBytes));
    }

    /** Runs one op to its end; the thread and the backend's state have been checked. */
    protected abstract void execute(Op op);

    @Override
    public final void run(Op op) {
        check("running " + op.name());
        execute(op);
    }

    @Override
    public boolean supports(Op op) {
        return true;
    }

    @Override
    public final Buffer allocate(long bytes) {
        check("allocating");
        return new HostBuffer(name, blocks, bytes, false);
    }

    @Override
    public final Buffer allocateZeros(long bytes) {
        check("allocating");
        return new HostBuffer(name, blocks, bytes, true);
    }

    @Override
    public final void copyIn(MemorySegment source, View target) {
        check("copying in");
        HostBuffer.copyIn(name, source, target);
    }

    @Override
    public final void copyOut(View source, MemorySegment target) {
        check("copying out");
        HostBuffer.copyOut(name, source, target);
    }

    @Override
    public final void sync() {
        check("waiting");
    }

    @Override
    public final Sequence prepare(List<Op> ops) {
        check("preparing a sequence");
        return new OpLoop(List.copyOf(ops));
    }

    @Override
    public final void run(Sequence sequence, int times) {
        for (int i = 0; i < times; i++) {
            sequence.ops().forEach(this::run);
        }
    }

    @Override
    public void close() {
        closed = true;
        blocks.close();
    }

    /** Fails when another thread calls, or after closing. */
    protected final void check(String call) {
        if (!Thread.currentThread().equals(owner)) {
            throw new WrongThreadException(
                    name + ": " + call + ": the backend belongs to " + owner + ", not to " + Thread.currentThread());
        }
        if (closed) {
            throw new DeviceException(name, call, 0, "the backend is closed already", DeviceException.Kind.INTERNAL);
        }
    }

    /** Ops in a list: on the host there is nothing to prepare. */
    private record OpLoop(List<Op> ops) implements Sequence {
        @Override
        public void close() {
            // Nothing is held.
        }
    }
}
