package org.sentei.format;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/**
 * A folder that appears whole or not at all.
 *
 * <p>Files are written under {@link #path()}, a hidden sibling of the target; {@link #commit()} moves it to the target in one
 * step. Closing without a commit removes what was written.
 */
public final class OutputFolder implements AutoCloseable {
    private final Path target;
    private final Path partial;
    private final List<Path> createdParents;
    private boolean committed;

    private OutputFolder(Path target, Path partial, List<Path> createdParents) {
        this.target = target;
        this.partial = partial;
        this.createdParents = createdParents;
    }

    /**
     * Begins a folder.
     *
     * @param target absent or empty
     * @throws FormatException when it is neither, or when another run left its partial output there
     * @throws IOException when nothing can be written there
     */
    public static OutputFolder create(Path target) throws IOException {
        Path absolute = Files.exists(target)
                ? target.toRealPath()
                : target.toAbsolutePath().normalize();
        checkFree(absolute);
        Path parent = absolute.getParent();
        List<Path> missing = new ArrayList<>();
        for (Path folder = parent; !Files.exists(folder); folder = folder.getParent()) {
            missing.add(folder);
        }
        Files.createDirectories(parent);
        Path partial = parent.resolve("." + absolute.getFileName() + ".partial");
        try {
            Files.createDirectory(partial);
        } catch (FileAlreadyExistsException e) {
            throw new FormatException(
                    partial + " exists: another run writes to " + target
                            + ", or was killed; in the latter case remove it",
                    e);
        }
        return new OutputFolder(absolute, partial, missing);
    }

    /** Where to write until the commit. */
    public Path path() {
        return partial;
    }

    /**
     * Forces everything to the disk and gives the folder its name.
     *
     * @throws FormatException when the target has been filled meanwhile
     */
    public void commit() throws IOException {
        List<Path> written;
        try (Stream<Path> files = Files.walk(partial)) {
            written = files.toList();
        }
        for (Path file : written) {
            force(file);
        }
        try {
            Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            checkFree(target);
            throw e;
        }
        committed = true;
        force(target.getParent());
    }

    /** Removes everything that was not committed. */
    @Override
    public void close() throws IOException {
        if (committed) {
            return;
        }
        if (Files.exists(partial)) {
            List<Path> written;
            try (Stream<Path> files = Files.walk(partial)) {
                written = files.sorted(Comparator.reverseOrder()).toList();
            }
            for (Path file : written) {
                Files.delete(file);
            }
        }
        for (Path parent : createdParents) {
            try {
                Files.deleteIfExists(parent);
            } catch (DirectoryNotEmptyException e) {
                return; // somebody else uses it by now
            }
        }
    }

    private static void checkFree(Path target) throws IOException {
        if (!Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        if (!Files.isDirectory(target)) {
            throw new FormatException("output " + target + " is no folder: give one that is absent or empty");
        }
        try (Stream<Path> content = Files.list(target)) {
            if (content.findAny().isPresent()) {
                throw new FormatException(
                        "output folder " + target + " is not empty: give another one, or empty it yourself");
            }
        }
    }

    private static void force(Path file) throws IOException {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }
}
