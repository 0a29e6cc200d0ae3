package org.sentei.engine;

import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceInfo;

/**
 * A device held open for many plans: they share its context, its compiled kernels and the memory that it keeps. Any thread may
 * call; one piece of work runs at a time.
 */
public final class Session implements AutoCloseable {
    private final OwnThread thread;
    private final String name;
    private final Backend.Options options;
    private final Backend backend;

    private Session(OwnThread thread, String name, Backend.Options options) {
        this.thread = thread;
        this.name = name;
        this.options = options;
        this.backend = Backends.find(name).open(options);
    }

    /**
     * Opens a device.
     *
     * @param backend name of a backend, or {@link Backends#AUTO}
     * @throws org.sentei.kernel.DeviceException when it is not available
     */
    public static Session open(String backend, Backend.Options options) {
        OwnThread thread = new OwnThread("sentei-plan");
        try {
            return thread.call(() -> new Session(thread, backend, options));
        } catch (RuntimeException | Error e) {
            thread.close();
            throw e;
        }
    }

    /**
     * As {@link Sentei#plan}, on this device, whatever the request says of backend and options. Close the plan before the
     * session.
     *
     * @throws IllegalStateException when the session is closed
     */
    public Plan plan(CompressionRequest request) {
        return Plan.in(this, request.on(name, options), false);
    }

    /** What the device is and has. */
    public DeviceInfo info() {
        return backend.info();
    }

    OwnThread thread() {
        return thread;
    }

    Backend backend() {
        return backend;
    }

    /** Does the last work and closes the device; again, it does nothing. */
    void close(Runnable last) {
        thread.close(() -> {
            try (backend) {
                last.run();
            }
        });
    }

    /**
     * Closes the device; again, it does nothing.
     *
     * @throws IllegalStateException inside of {@link Progress}, which can cancel instead
     */
    @Override
    public void close() {
        close(() -> {});
    }
}
