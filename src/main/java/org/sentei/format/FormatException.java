package org.sentei.format;

/** A file is missing, damaged or hostile. The message names the file, the fact and the remedy. */
public final class FormatException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public FormatException(String message) {
        super(message);
    }

    public FormatException(String message, Throwable cause) {
        super(message, cause);
    }
}
