package org.sentei.model;

/** A model cannot be used as it is. The message names the model or tensor, the fact and the remedy. */
public final class ModelException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy. */
    public ModelException(String message) {
        super(OneLine.of(message));
    }

    /** With such a message, and what caused it. */
    public ModelException(String message, Throwable cause) {
        super(OneLine.of(message), cause);
    }
}
