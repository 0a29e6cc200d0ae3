package org.sentei.format;

import org.sentei.model.OneLine;

/** A file is missing, damaged or hostile. The message names the file, the fact and the remedy. */
public final class FormatException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** With a message of subject, fact and remedy. */
    public FormatException(String message) {
        super(OneLine.of(message));
    }

    /** With such a message, and what caused it. */
    public FormatException(String message, Throwable cause) {
        super(OneLine.of(message), cause);
    }
}
