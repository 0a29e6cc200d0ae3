package org.sentei.kernel;

/** A backend failed. The message names the backend, the call, the code and its symbol, and what can be done. */
public final class DeviceException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What kind of failure it was, for callers that react to it. */
    public enum Kind {
        /** No memory of this size; a smaller batch may succeed. */
        OUT_OF_MEMORY,
        /** The backend is missing, or has no kernel for this op. */
        UNSUPPORTED,
        /** A kernel could not be compiled or loaded. */
        COMPILE,
        /** A kernel was refused or ended in an error. */
        LAUNCH,
        /** The device is gone; the session is unusable. */
        LOST,
        /** A broken invariant: a bug. */
        INTERNAL
    }

    private final Kind kind;
    private final String backend;

    /**
     * A failure that the backend itself reported, or found.
     *
     * @param call the failing call or step
     * @param code the native code, 0 where there is none
     * @param symbol the code's name or the fact, and the remedy
     */
    public DeviceException(String backend, String call, int code, String symbol, Kind kind) {
        super(backend + ": " + call + " failed" + (code == 0 ? "" : " with code " + code) + ": " + symbol);
        this.kind = kind;
        this.backend = backend;
    }

    /** As above, with the exception that caused it. */
    public DeviceException(String backend, String call, String fact, Kind kind, Throwable cause) {
        super(backend + ": " + call + " failed: " + fact, cause);
        this.kind = kind;
        this.backend = backend;
    }

    /** What callers can react to. */
    public Kind kind() {
        return kind;
    }

    /** Name of the backend that failed. */
    public String backend() {
        return backend;
    }
}
