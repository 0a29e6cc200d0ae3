package org.sentei.platform;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.JarURLConnection;
import java.net.URL;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;

/**
 * Private copies of the native libraries that travel in jars.
 *
 * <p>Libraries that belong together lie in a directory named by the size and CRC-32 of their contents, which a jar notes of
 * every entry, so that nothing is unpacked to find copies again. All are readable by their owner alone: nobody else's file is
 * ever loaded. A file that is found there is used only when its content has that checksum, and a new one appears by an atomic
 * move, so that processes may race.
 *
 * @param directory parent of those directories; created when missing
 */
public record LibraryCache(Path directory) {
    private static final Set<PosixFilePermission> PRIVATE = PosixFilePermissions.fromString("rwx------");

    /**
     * The cache of this user: {@code sentei.native.dir} or {@code SENTEI_NATIVE_DIR} where given, otherwise
     * {@code .cache/sentei/native} in the home directory.
     */
    public static LibraryCache ofUser() {
        return new LibraryCache(Settings.find(Settings.NATIVE_DIR)
                .map(Path::of)
                .orElseGet(() -> Path.of(System.getProperty("user.home"), ".cache", "sentei", "native")));
    }

    /**
     * A file with exactly the content of {@code resource}.
     *
     * @param fileName what the file is called
     * @throws IOException with a remedy, when the cache cannot be written or is not this user's own
     */
    public Path extract(URL resource, String fileName) throws IOException {
        return extract(Map.of(fileName, resource)).resolve(fileName);
    }

    /**
     * A folder of files with exactly the contents of these resources.
     *
     * @param resources by the names that the files get
     * @throws IOException with a remedy, when the cache cannot be written or is not this user's own
     */
    public Path extract(Map<String, URL> resources) throws IOException {
        try {
            SortedMap<String, String> contents = new TreeMap<>();
            for (Map.Entry<String, URL> resource : resources.entrySet()) {
                contents.put(resource.getKey(), content(resource.getValue()));
            }
            Path home = directory.resolve(String.join("_", contents.values()));
            createPrivate(home);
            for (Map.Entry<String, String> content : contents.entrySet()) {
                Path file = home.resolve(content.getKey());
                if (!Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)
                        || !content(Files.newInputStream(file)).equals(content.getValue())) {
                    write(resources.get(content.getKey()), file);
                }
            }
            return home;
        } catch (IOException | UnsupportedOperationException e) {
            throw new IOException(
                    "extracting " + String.join(", ", new TreeSet<>(resources.keySet())) + " to " + directory
                            + " failed: " + e + "; set " + Settings.NATIVE_DIR + " or "
                            + Settings.environmentName(Settings.NATIVE_DIR)
                            + " to a private directory that can be written",
                    e);
        }
    }

    private static void createPrivate(Path home) throws IOException {
        Files.createDirectories(home.getParent());
        try {
            Files.createDirectory(home, PosixFilePermissions.asFileAttribute(PRIVATE));
        } catch (FileAlreadyExistsException e) {
            // Made by an earlier run, or by somebody else: looked at below.
        }
        PosixFileAttributes attributes =
                Files.readAttributes(home, PosixFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
        Path probe = Files.createTempFile(home, "owner", null);
        boolean own = attributes.owner().equals(Files.getOwner(probe));
        Files.delete(probe);
        if (!attributes.isDirectory() || !own || !PRIVATE.containsAll(attributes.permissions())) {
            throw new IOException(home + " is not a directory that this user alone can use (owner " + attributes.owner()
                    + ", " + PosixFilePermissions.toString(attributes.permissions()) + ")");
        }
    }

    private static void write(URL resource, Path file) throws IOException {
        Path temporary = Files.createTempFile(
                file.getParent(), file.getFileName().toString(), null, PosixFilePermissions.asFileAttribute(PRIVATE));
        try {
            try (InputStream in = resource.openStream();
                    OutputStream out = Files.newOutputStream(temporary)) {
                in.transferTo(out);
            }
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private static String content(URL resource) throws IOException {
        if (resource.openConnection() instanceof JarURLConnection jar) {
            return content(jar.getJarEntry().getSize(), jar.getJarEntry().getCrc());
        }
        return content(resource.openStream());
    }

    private static String content(InputStream stream) throws IOException {
        try (CheckedInputStream in = new CheckedInputStream(stream, new CRC32())) {
            long size = in.transferTo(OutputStream.nullOutputStream());
            return content(size, in.getChecksum().getValue());
        }
    }

    private static String content(long size, long checksum) {
        return "%d-%08x".formatted(size, checksum);
    }
}
