package org.sentei.train;

import org.sentei.model.OneLine;

/** The engine that differentiates cannot be used. The message has subject, fact and remedy. */
public final class TrainingException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy, and what caused it. */
    public TrainingException(String message, Throwable cause) {
        super(OneLine.of(message), cause);
    }
}
