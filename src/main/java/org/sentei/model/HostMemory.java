package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Host memory for what comes back from the device. */
final class HostMemory {
    private HostMemory() {}

    /** @throws ModelException saying what for, when there is none left */
    static MemorySegment allocate(Arena arena, long bytes, String purpose) {
        try {
            return arena.allocate(bytes, Double.BYTES);
        } catch (OutOfMemoryError e) {
            throw new ModelException(
                    purpose + " needs " + bytes + " bytes of host memory, more than there is; give fewer or shorter"
                            + " sequences",
                    e);
        }
    }
}
