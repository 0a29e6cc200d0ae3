package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.sentei.kernel.Backend;

/** Host memory for what comes back from the device. */
final class HostMemory {
    private HostMemory() {}

    /** @throws ModelException saying what for, when there is none left */
    static MemorySegment allocate(Backend backend, Arena arena, long bytes, String purpose) {
        try {
            return backend.allocateHost(bytes, arena);
        } catch (OutOfMemoryError e) {
            throw new ModelException(
                    purpose + " needs " + bytes + " bytes of host memory, more than there is; give fewer or shorter"
                            + " sequences",
                    e);
        }
    }
}
