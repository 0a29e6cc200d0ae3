package org.sentei.engine.recipe;

import org.sentei.model.OneLine;

/** A recipe cannot be carried out. The message names the key or site, the fact and the nearest valid name. */
public final class RecipeException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy. */
    public RecipeException(String message) {
        super(OneLine.of(message));
    }

    /** With such a message, and what caused it. */
    public RecipeException(String message, Throwable cause) {
        super(OneLine.of(message), cause);
    }
}
