package org.sentei.model;

/** A model cannot be used as it is. The message names the model or tensor, the fact and the remedy. */
public final class ModelException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public ModelException(String message) {
        super(message);
    }

    public ModelException(String message, Throwable cause) {
        super(message, cause);
    }
}
