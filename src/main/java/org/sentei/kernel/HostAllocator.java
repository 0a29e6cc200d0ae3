package org.sentei.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Where a backend on the host gets its memory from. */
@FunctionalInterface
public interface HostAllocator {
    /** What Java offers: cleared, and so mapped, at once. */
    HostAllocator JAVA = (bytes, arena) -> arena.allocate(bytes, 64);

    /**
     * New memory, all zeros, aligned to 64 bytes, that is freed with the arena.
     *
     * @throws OutOfMemoryError when there is none
     */
    MemorySegment zeros(long bytes, Arena arena);
}
