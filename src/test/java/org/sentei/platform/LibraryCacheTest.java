package org.sentei.platform;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A class file stands for a library: to the cache both are bytes. */
class LibraryCacheTest {
    private static final URL IN_A_FOLDER = resource(LibraryCache.class);
    private static final URL IN_A_JAR = resource(Test.class);

    @TempDir
    Path directory;

    private static URL resource(Class<?> type) {
        return type.getResource(type.getSimpleName() + ".class");
    }

    private static byte[] content(URL resource) throws IOException {
        try (var stream = resource.openStream()) {
            return stream.readAllBytes();
        }
    }

    private Path extract() throws IOException {
        return new LibraryCache(directory.resolve("cache")).extract(IN_A_FOLDER, "lib.so");
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aCopyHasTheContentOfItsResource(boolean jar) throws IOException {
        URL resource = jar ? IN_A_JAR : IN_A_FOLDER;
        assertThat(resource.getProtocol()).isEqualTo(jar ? "jar" : "file");

        Path copy = new LibraryCache(directory).extract(resource, "lib.so");

        assertThat(copy).hasFileName("lib.so").hasBinaryContent(content(resource));
        assertThat(new LibraryCache(directory).extract(resource, "lib.so")).isEqualTo(copy);
    }

    @Test
    void librariesThatBelongTogetherShareAFolderOfTheirOwn() throws IOException {
        Map<String, URL> resources = Map.of("a.so", IN_A_FOLDER, "b.so", IN_A_JAR);

        Path folder = new LibraryCache(directory).extract(resources);

        assertThat(folder).isNotEqualTo(new LibraryCache(directory).extract(Map.of("a.so", IN_A_FOLDER)));
        assertThat(folder.resolve("a.so")).hasBinaryContent(content(IN_A_FOLDER));
        assertThat(folder.resolve("b.so")).hasBinaryContent(content(IN_A_JAR));
    }

    @Test
    void aPlantedFileIsReplaced() throws IOException {
        Path real = extract();
        byte[] content = Files.readAllBytes(real);
        Files.writeString(real, "junk");

        assertThat(extract()).isEqualTo(real).hasBinaryContent(content);
    }

    @Test
    void aPlantedLinkIsReplacedByAFile() throws IOException {
        Path real = extract();
        Path elsewhere = directory.resolve("elsewhere");
        Files.move(real, elsewhere);
        Files.createSymbolicLink(real, elsewhere);

        extract();

        assertThat(Files.isSymbolicLink(real)).isFalse();
        assertThat(real).hasSameBinaryContentAs(elsewhere);
    }

    @Test
    void aDirectoryThatOthersCanEnterIsRefused() throws IOException {
        Path real = extract();
        Files.setPosixFilePermissions(real.getParent(), PosixFilePermissions.fromString("rwxrwxrwx"));

        assertThatThrownBy(this::extract)
                .isInstanceOf(IOException.class)
                .hasMessageContaining("this user alone")
                .hasMessageContaining("SENTEI_NATIVE_DIR");
    }

    @Test
    void aCacheThatCannotBeMadeIsAnErrorWithARemedy() throws IOException {
        Path file = Files.createFile(directory.resolve("file"));

        assertThatThrownBy(() -> new LibraryCache(file.resolve("below")).extract(IN_A_FOLDER, "lib.so"))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("sentei.native.dir");
    }

    @Test
    void nothingTemporaryStaysBehindAndFilesArePrivate() throws IOException {
        Path real = extract();

        try (Stream<Path> files = Files.list(real.getParent())) {
            assertThat(files).containsExactly(real);
        }
        assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(real)))
                .isEqualTo("rwx------");
        assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(real.getParent())))
                .isEqualTo("rwx------");
    }
}
