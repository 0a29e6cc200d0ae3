package org.sentei.backend.cuda;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.MemoryBudget;

/**
 * Memory of a device within a budget. What is freed is kept for who asks for as many bytes next, for the driver takes memory
 * back only when all work is done.
 */
final class MemoryPool {
    /** A driver's own calls. */
    interface Source {
        /** New memory; its handle. */
        long allocate(long bytes);

        /** Takes memory back behind all work. */
        void free(long handle);
    }

    private final Source source;
    private final MemoryBudget budget;
    private final long mostKept;
    private final Map<Long, Long> sizes = new HashMap<>();
    private final Map<Long, Deque<Long>> keptBySize = new HashMap<>();
    /** The oldest first. */
    private final Set<Long> kept = new LinkedHashSet<>();

    private long keptBytes;

    /**
     * An empty pool.
     *
     * @param budget of what is in use and what is kept
     * @param mostKept bytes that are kept at most; what was freed first goes first
     */
    MemoryPool(Source source, MemoryBudget budget, long mostKept) {
        this.source = source;
        this.budget = budget;
        this.mostKept = mostKept;
    }

    /**
     * Memory that nobody uses any more, or new one.
     *
     * @throws DeviceException OUT_OF_MEMORY when neither budget nor device has it, even without what is kept
     */
    long allocate(long bytes) {
        Deque<Long> fitting = keptBySize.get(bytes);
        if (fitting != null) {
            long handle = fitting.getFirst();
            unkeep(handle);
            return handle;
        }
        while (!budget.allows(bytes) && !kept.isEmpty()) {
            freeOldest();
        }
        budget.take(bytes);
        try {
            long handle = fresh(bytes);
            sizes.put(handle, bytes);
            return handle;
        } catch (RuntimeException e) {
            budget.give(bytes);
            throw e;
        }
    }

    private long fresh(long bytes) {
        while (true) {
            try {
                return source.allocate(bytes);
            } catch (DeviceException full) {
                if (full.kind() != DeviceException.Kind.OUT_OF_MEMORY || kept.isEmpty()) {
                    throw full;
                }
                freeOldest();
            }
        }
    }

    /** Takes memory back; whoever gets it next comes behind the work on it. */
    void free(long handle) {
        long bytes = sizes.get(handle);
        kept.add(handle);
        keptBySize.computeIfAbsent(bytes, _ -> new ArrayDeque<>()).add(handle);
        keptBytes += bytes;
        while (keptBytes > mostKept) {
            freeOldest();
        }
    }

    private void freeOldest() {
        long handle = kept.iterator().next();
        unkeep(handle);
        giveBack(handle);
    }

    private void unkeep(long handle) {
        long bytes = sizes.get(handle);
        kept.remove(handle);
        Deque<Long> same = keptBySize.get(bytes);
        same.remove(handle);
        if (same.isEmpty()) {
            keptBySize.remove(bytes);
        }
        keptBytes -= bytes;
    }

    private void giveBack(long handle) {
        budget.give(sizes.remove(handle));
        source.free(handle);
    }

    /** Frees everything, in use or not. */
    void clear() {
        kept.clear();
        keptBySize.clear();
        keptBytes = 0;
        List.copyOf(sizes.keySet()).forEach(this::giveBack);
    }
}
