package org.sentei.engine;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** Which Sentei this is. */
public final class Version {
    private Version() {}

    /** For example {@code 0.1.0}. */
    public static String current() {
        try (InputStream stream = Version.class.getResourceAsStream("version.txt")) {
            if (stream == null) {
                throw new IllegalStateException("resource version.txt is missing from the jar");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8).strip();
        } catch (IOException failed) {
            throw new UncheckedIOException("resource version.txt cannot be read", failed);
        }
    }
}
