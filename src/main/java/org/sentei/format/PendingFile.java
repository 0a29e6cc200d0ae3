package org.sentei.format;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.UUID;

/** A file under a temporary name that appears under its own name complete or not at all. */
public final class PendingFile implements AutoCloseable {
    private static final String SUFFIX = ".tmp";

    private final Path target;
    private final Path temporary;
    private final FileChannel channel;

    /** Opens an empty file in the target's folder, which is made if need be. */
    PendingFile(Path target) throws IOException {
        this.target = target.toAbsolutePath();
        Path folder = this.target.getParent();
        Files.createDirectories(folder);
        this.temporary = folder.resolve("." + target.getFileName() + "." + UUID.randomUUID() + SUFFIX);
        this.channel = FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
    }

    /**
     * Writes a file in place of one that may be there.
     *
     * @throws IOException when its folder does not take it; nothing has changed then
     */
    public static void write(Path target, String text) throws IOException {
        try (PendingFile file = new PendingFile(target)) {
            ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) {
                file.channel.write(bytes);
            }
            file.force();
            file.publish();
        }
    }

    /** Whether the name is one that only an unpublished file has. */
    static boolean isTemporary(Path file) {
        String name = file.getFileName().toString();
        return name.startsWith(".") && name.endsWith(SUFFIX);
    }

    FileChannel channel() {
        return channel;
    }

    /** Waits until the content is on the disk. */
    void force() throws IOException {
        channel.force(true);
    }

    /** Gives the forced content its name, in place of a file that has it. */
    void publish() throws IOException {
        channel.close();
        Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        try (FileChannel folder = FileChannel.open(target.getParent(), StandardOpenOption.READ)) {
            folder.force(true);
        }
    }

    /** Removes the temporary file unless it was published. */
    @Override
    public void close() throws IOException {
        channel.close();
        Files.deleteIfExists(temporary);
    }
}
