package org.sentei.engine;

import org.sentei.model.OneLine;

/** A run failed on the way: non-finite numbers, a full disk, an interruption. The message says where and what to do. */
public final class RunException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy. */
    public RunException(String message) {
        super(OneLine.of(message));
    }

    /** With such a message, and what caused it. */
    public RunException(String message, Throwable cause) {
        super(OneLine.of(message), cause);
    }
}
