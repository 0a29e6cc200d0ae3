package org.sentei.kernel;

/** Memory of a device on its way to the host, beside the ops that run. */
@FunctionalInterface
public interface Download {
    /** One that has arrived. */
    Download DONE = () -> {};

    /**
     * Waits until the host has all of it; again, does nothing.
     *
     * @throws DeviceException as failures of the device occur
     */
    void await();
}
