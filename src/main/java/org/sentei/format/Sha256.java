package org.sentei.format;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** A SHA-256 that grows with what it is given. */
public final class Sha256 {
    private static final int CHUNK_BYTES = 1 << 18;

    private final MessageDigest digest;

    /** Starts with nothing. */
    public Sha256() {
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    /** Adds bytes. */
    public Sha256 add(byte[] bytes) {
        digest.update(bytes);
        return this;
    }

    /** Adds the bytes of a segment. */
    public Sha256 add(MemorySegment segment) {
        byte[] chunk = new byte[CHUNK_BYTES];
        for (long at = 0; at < segment.byteSize(); at += CHUNK_BYTES) {
            int bytes = (int) Math.min(CHUNK_BYTES, segment.byteSize() - at);
            MemorySegment.copy(segment, ValueLayout.JAVA_BYTE, at, chunk, 0, bytes);
            digest.update(chunk, 0, bytes);
        }
        return this;
    }

    /**
     * Adds the content of a file.
     *
     * @throws FormatException when it cannot be read
     */
    public Sha256 add(Path file) {
        byte[] chunk = new byte[CHUNK_BYTES];
        try (InputStream in = Files.newInputStream(file)) {
            for (int bytes = in.read(chunk); bytes >= 0; bytes = in.read(chunk)) {
                digest.update(chunk, 0, bytes);
            }
            return this;
        } catch (IOException e) {
            throw new FormatException(file + " cannot be read: " + e.getMessage(), e);
        }
    }

    /** The hash in lower-case hexadecimal digits; what follows starts anew. */
    public String hex() {
        return HexFormat.of().formatHex(digest.digest());
    }
}
