package org.sentei.cli;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.sentei.format.FormatException;

/** Files that a command reads as a whole. */
final class SmallFile {
    private static final int MAX_BYTES = 16 << 20;

    private SmallFile() {}

    /**
     * The content of a file.
     *
     * @param kind what messages call it
     * @throws FormatException when it is missing or too large
     */
    static byte[] bytes(String kind, Path file) {
        try (InputStream stream = Files.newInputStream(file)) {
            byte[] bytes = stream.readNBytes(MAX_BYTES + 1);
            if (bytes.length > MAX_BYTES) {
                throw new FormatException(kind + " " + file + " is larger than " + MAX_BYTES + " bytes; split it");
            }
            return bytes;
        } catch (IOException failed) {
            throw new FormatException(kind + " " + file + " cannot be read: " + failed, failed);
        }
    }

    /** As {@link #bytes}, decoded as UTF-8; what is none becomes a replacement character. */
    static String text(String kind, Path file) {
        return new String(bytes(kind, file), StandardCharsets.UTF_8);
    }
}
