package org.sentei.engine;

/** A run failed on the way: non-finite numbers, a full disk, an interruption. The message says where and what to do. */
public final class RunException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public RunException(String message) {
        super(message);
    }

    public RunException(String message, Throwable cause) {
        super(message, cause);
    }
}
