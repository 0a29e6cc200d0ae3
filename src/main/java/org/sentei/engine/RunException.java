package org.sentei.engine;

/** A run failed on the way: non-finite numbers, a full disk, an interruption. The message says where and what to do. */
public final class RunException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy. */
    public RunException(String message) {
        super(message);
    }

    /** With such a message, and what caused it. */
    public RunException(String message, Throwable cause) {
        super(message, cause);
    }
}
