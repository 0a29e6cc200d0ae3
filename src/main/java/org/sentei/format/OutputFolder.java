package org.sentei.format;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
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
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;

/**
 * A folder that appears whole or not at all.
 *
 * <p>Until {@link #commit()} everything is in a hidden sibling of the target, {@code .NAME.partial}: under {@link #path()}
 * the files of the folder, under {@link #journal()} what lets a later run continue this one, and a file that is locked while
 * a run lives. The commit moves the files to the target in one step. Closing removes everything else, but a journal only
 * after the commit or where {@link #keepJournal} did not ask for it.
 */
public final class OutputFolder implements AutoCloseable {
    private static final String OUTPUT = "output";
    private static final String JOURNAL = "journal";
    private static final String LOCK = "lock";
    private static final Set<String> CONTENT = Set.of(OUTPUT, JOURNAL, LOCK);

    private final Path target;
    private final Path partial;
    private final FileChannel lock;
    private final List<Path> created;
    private boolean foundJournal;
    private boolean keepJournal;
    private boolean committed;

    private OutputFolder(Path target, Path partial, FileChannel lock, List<Path> created) {
        this.target = target;
        this.partial = partial;
        this.lock = lock;
        this.created = created;
    }

    /**
     * Begins a folder.
     *
     * @param target absent or empty
     * @throws FormatException when it is neither, when another run writes to it, or when a killed one left something there
     * @throws IOException when nothing can be written there
     */
    public static OutputFolder create(Path target) throws IOException {
        return begin(target, false);
    }

    /**
     * Begins a folder where a killed run may have begun it before: its journal is there again, its other files are gone.
     *
     * @param target absent or empty
     * @throws FormatException when it is neither, or when another run writes to it
     * @throws IOException when nothing can be written there
     */
    public static OutputFolder resume(Path target) throws IOException {
        return begin(target, true);
    }

    private static OutputFolder begin(Path target, boolean resume) throws IOException {
        Path absolute = Files.exists(target)
                ? target.toRealPath()
                : target.toAbsolutePath().normalize();
        checkFree(absolute);
        Path parent = absolute.getParent();
        List<Path> created = new ArrayList<>();
        for (Path folder = parent; !Files.exists(folder); folder = folder.getParent()) {
            created.add(folder);
        }
        Path existing = created.isEmpty() ? parent : created.getLast().getParent();
        if (!Files.isDirectory(existing)) {
            throw new FormatException("output " + target + " cannot be there, for " + existing
                    + " is no folder: give one that is absent or empty");
        }
        Files.createDirectories(parent);
        Path partial = parent.resolve("." + absolute.getFileName() + ".partial");
        try {
            Files.createDirectory(partial);
            created.addFirst(partial);
        } catch (FileAlreadyExistsException e) {
            checkRemains(partial);
        }
        boolean found = !created.contains(partial);
        try {
            FileChannel lock = lock(partial, target);
            if (found && !resume) {
                lock.close();
                throw new FormatException(partial + " holds what a killed run into " + target
                        + " left: continue that run with --resume, or remove the folder");
            }
            OutputFolder output = new OutputFolder(absolute, partial, lock, created);
            try {
                output.prepare();
            } catch (IOException e) {
                output.close();
                throw e;
            }
            return output;
        } catch (IOException | RuntimeException e) {
            removeEmpty(created);
            throw e;
        }
    }

    /** Another version's layout, or a folder of somebody else, is not ours to change. */
    private static void checkRemains(Path partial) throws IOException {
        if (!Files.isDirectory(partial, LinkOption.NOFOLLOW_LINKS)) {
            throw new FormatException(partial + " is no folder, but the output is built there: remove it");
        }
        try (Stream<Path> content = Files.list(partial)) {
            Optional<Path> foreign = content.filter(file -> Files.isSymbolicLink(file)
                            || !CONTENT.contains(file.getFileName().toString()))
                    .findFirst();
            if (foreign.isPresent()) {
                throw new FormatException(partial + " holds " + foreign.get().getFileName()
                        + ", which no run of this version leaves there: remove the folder");
            }
        }
    }

    private static FileChannel lock(Path partial, Path target) throws IOException {
        Path file = partial.resolve(LOCK);
        FileChannel channel =
                FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
        boolean locked = false;
        try {
            // a run that ends removes the file before it unlocks it
            locked = channel.tryLock() != null && Files.exists(file);
        } catch (OverlappingFileLockException sameProcess) {
            locked = false;
        } finally {
            if (!locked) {
                channel.close();
            }
        }
        if (!locked) {
            throw new FormatException("another run writes to " + target + " (" + file
                    + " is locked): wait until it has ended, or give another folder");
        }
        return channel;
    }

    private void prepare() throws IOException {
        delete(path());
        Files.createDirectories(journal());
        try (Stream<Path> entries = Files.list(journal())) {
            for (Path entry : entries.toList()) {
                if (PendingFile.isTemporary(entry)) {
                    Files.delete(entry);
                } else {
                    foundJournal = true;
                }
            }
        }
        keepJournal = foundJournal;
        Files.createDirectory(path());
        force(partial);
        force(partial.getParent());
    }

    /** Where to write the folder's files until the commit. */
    public Path path() {
        return partial.resolve(OUTPUT);
    }

    /** A folder for what lets a later run continue this one; never a part of the output. */
    public Path journal() {
        return partial.resolve(JOURNAL);
    }

    /** What helps where a journal does not. */
    public String journalRemedy() {
        return "remove " + partial + " to start from the beginning";
    }

    /** The failure of a journal's file that no kill leaves behind. */
    public FormatException damagedJournal(Path entry, Exception cause) {
        return new FormatException(
                "journal entry " + entry + " is damaged, and not by a kill (" + cause.getMessage() + "): "
                        + journalRemedy(),
                cause);
    }

    /** From now on the journal outlives this object, unless there is a commit. */
    public void keepJournal() {
        keepJournal = true;
    }

    /** Takes {@link #keepJournal} back; a journal that was there from the beginning is kept anyway. */
    public void dropJournal() {
        keepJournal = foundJournal;
    }

    /**
     * Forces everything to the disk and gives the folder its name.
     *
     * @throws FormatException when the target has been filled meanwhile
     */
    public void commit() throws IOException {
        List<Path> written;
        try (Stream<Path> files = Files.walk(path())) {
            written = files.toList();
        }
        for (Path file : written) {
            force(file);
        }
        try {
            Files.move(path(), target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            checkFree(target);
            throw e;
        }
        committed = true;
        force(target.getParent());
    }

    /** Removes everything that was not committed and is not to be kept. */
    @Override
    public void close() throws IOException {
        if (!lock.isOpen()) {
            return;
        }
        try (lock) {
            delete(path());
            if (keepJournal && !committed) {
                return;
            }
            delete(journal());
            Files.delete(partial.resolve(LOCK));
            removeEmpty(List.of(partial));
        }
        if (!committed) {
            removeEmpty(created);
        }
    }

    /** Removes folders, inner ones first, as far as nobody else uses them by now. */
    private static void removeEmpty(List<Path> folders) throws IOException {
        for (Path folder : folders) {
            try {
                Files.deleteIfExists(folder);
            } catch (DirectoryNotEmptyException e) {
                return;
            }
        }
    }

    /** Links are removed, not followed. */
    private static void delete(Path folder) throws IOException {
        if (!Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        List<Path> content;
        try (Stream<Path> files = Files.walk(folder)) {
            content = files.sorted(Comparator.reverseOrder()).toList();
        }
        for (Path file : content) {
            Files.delete(file);
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
