package org.sentei.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;

/**
 * The memory of one backend on the host. Large blocks that are given back are kept for who asks for as many bytes next: to
 * get fresh memory page by page takes as long as most ops that fill it.
 */
final class HostBlocks implements AutoCloseable {
    /** Smaller blocks are cheap enough to make. */
    private static final long SMALLEST_KEPT = 1 << 16;
    /** Bytes that are kept at most; what was given back first goes first. */
    private static final long MOST_KEPT = 1L << 28;

    /** Memory from the system, freed with its arena. */
    record Block(Arena arena, MemorySegment memory) {}

    private final HostAllocator source;
    private final MemoryBudget budget;
    private final Deque<Block> kept = new ArrayDeque<>();
    private long keptBytes;
    private boolean closed;

    /** @param budget of what is in use and what is kept */
    HostBlocks(HostAllocator source, MemoryBudget budget) {
        this.source = source;
        this.budget = budget;
    }

    /**
     * A block of exactly {@code bytes} bytes with unspecified content.
     *
     * @throws OutOfMemoryError when the system has none, even without what is kept
     * @throws DeviceException OUT_OF_MEMORY when the budget has not, even without what is kept
     */
    Block take(long bytes) {
        for (Iterator<Block> blocks = kept.iterator(); blocks.hasNext(); ) {
            Block block = blocks.next();
            if (block.memory().byteSize() == bytes) {
                blocks.remove();
                keptBytes -= bytes;
                return block;
            }
        }
        return zeros(bytes);
    }

    /** As {@link #take}, a block that is all zeros. */
    Block zeros(long bytes) {
        try {
            return fresh(bytes);
        } catch (OutOfMemoryError e) {
            shrink(0);
            return fresh(bytes);
        }
    }

    private Block fresh(long bytes) {
        if (!budget.allows(bytes)) {
            shrink(0);
        }
        budget.take(bytes);
        Arena arena = Arena.ofConfined();
        try {
            return new Block(arena, source.zeros(bytes, arena));
        } catch (OutOfMemoryError e) {
            budget.give(bytes);
            arena.close();
            throw e;
        }
    }

    private void free(Block block) {
        budget.give(block.memory().byteSize());
        block.arena().close();
    }

    /** Takes a block back that nobody uses any more. */
    void give(Block block) {
        long bytes = block.memory().byteSize();
        if (closed || bytes < SMALLEST_KEPT || bytes > MOST_KEPT) {
            free(block);
            return;
        }
        shrink(MOST_KEPT - bytes);
        kept.add(block);
        keptBytes += bytes;
    }

    private void shrink(long most) {
        while (keptBytes > most) {
            Block oldest = kept.remove();
            keptBytes -= oldest.memory().byteSize();
            free(oldest);
        }
    }

    /** Frees what is kept, and from now on what is given back. */
    @Override
    public void close() {
        closed = true;
        shrink(0);
    }
}
