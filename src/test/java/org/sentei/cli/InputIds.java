package org.sentei.cli;

import java.nio.file.Path;
import org.sentei.model.TokenBatch;

/** Opens the input of {@code forward} to tests of other packages. */
public final class InputIds {
    private InputIds() {}

    /** Reads a file as the command does. */
    public static TokenBatch read(Path file) {
        Tokens tokens = Tokens.read(file);
        return TokenBatch.of(Tokens.array(tokens.inputIds()), Tokens.array(tokens.attentionMask()));
    }
}
