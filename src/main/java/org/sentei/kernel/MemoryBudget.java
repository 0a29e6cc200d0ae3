package org.sentei.kernel;

/**
 * How much memory a backend may hold at once, and how much it does: every buffer counts, and what the backend keeps or takes
 * for itself. Belongs to the backend's thread.
 */
public final class MemoryBudget {
    /** More than any device has. */
    public static final long UNLIMITED = Long.MAX_VALUE;

    private final String backend;
    private final long limit;
    private long used;

    /**
     * A budget of which nothing is used.
     *
     * @param backend named in errors
     * @param limit bytes, or {@link #UNLIMITED}
     */
    public MemoryBudget(String backend, long limit) {
        this.backend = backend;
        this.limit = limit;
    }

    /** Whether so many bytes more may be taken. */
    public boolean allows(long bytes) {
        return bytes <= limit - used;
    }

    /**
     * Takes bytes of the budget, before the device is asked for them.
     *
     * @throws DeviceException OUT_OF_MEMORY with all sizes, when they are more than are left
     */
    public void take(long bytes) {
        if (!allows(bytes)) {
            throw new DeviceException(
                    backend,
                    "allocating " + bytes + " bytes",
                    0,
                    used + " of the " + limit
                            + " bytes that the budget (--device-memory) allows are in use; allow more,"
                            + " or calibrate on shorter windows",
                    DeviceException.Kind.OUT_OF_MEMORY);
        }
        used += bytes;
    }

    /** Gives bytes back that were taken. */
    public void give(long bytes) {
        used -= bytes;
    }

    /** Bytes that are taken. */
    public long used() {
        return used;
    }
}
