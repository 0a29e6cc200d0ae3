package org.sentei.kernel;

/**
 * Host memory that will be needed on a device, on its way there beside the ops that run. While nobody has taken it, it gives
 * way to whatever else needs the device's memory: then it is copied when it is taken.
 */
public interface Upload extends AutoCloseable {
    /** Whether it travels, or has arrived; otherwise it is copied when it is taken. */
    boolean isUnderway();

    /**
     * New memory with the content of the source, which ops that are given from here on find; the caller's own.
     *
     * @throws DeviceException OUT_OF_MEMORY with the size; others as they occur
     * @throws IllegalStateException when it has been taken or closed
     */
    Buffer take();

    /** Gives it up; does nothing when it has been taken or closed. */
    @Override
    void close();
}
