package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class OutputFolderTest {
    @TempDir
    private Path folder;

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void theFolderAppearsAtTheCommit(boolean existsBefore) throws IOException {
        Path target = folder.resolve("out");
        if (existsBefore) {
            Files.createDirectory(target);
        }
        try (OutputFolder output = OutputFolder.create(target)) {
            Files.createDirectory(output.path().resolve("sub"));
            Files.writeString(output.path().resolve("sub/x"), "y");
            assertThat(target.resolve("sub")).doesNotExist();
            output.commit();
        }
        assertThat(target.resolve("sub/x")).hasContent("y");
        assertThat(folder).isDirectoryContaining(target::equals);
        assertThat(folder.toFile().list()).containsExactly("out");
    }

    @Test
    void withoutACommitNothingStays() throws IOException {
        try (OutputFolder output = OutputFolder.create(folder.resolve("a/b/out"))) {
            Files.createDirectory(output.path().resolve("sub"));
            Files.writeString(output.path().resolve("sub/x"), "y");
        }
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void aTargetInUseIsRefused() throws IOException {
        Files.writeString(folder.resolve("file"), "x");
        assertThatThrownBy(() -> OutputFolder.create(folder))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(folder.toString())
                .hasMessageContaining("is not empty");
        assertThatThrownBy(() -> OutputFolder.create(folder.resolve("file")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is no folder");
        Files.createSymbolicLink(folder.resolve("link"), Path.of("nowhere"));
        assertThatThrownBy(() -> OutputFolder.create(folder.resolve("link")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is no folder");
        assertThat(folder.toFile().list()).containsExactlyInAnyOrder("file", "link");
    }

    @Test
    void aTargetFilledMeanwhileIsLeftAlone() throws IOException {
        Path target = folder.resolve("out");
        try (OutputFolder output = OutputFolder.create(target)) {
            Files.writeString(output.path().resolve("x"), "ours");
            Files.createDirectory(target);
            Files.writeString(target.resolve("x"), "theirs");
            assertThatThrownBy(output::commit)
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("is not empty");
        }
        assertThat(target.resolve("x")).hasContent("theirs");
        assertThat(folder.toFile().list()).containsExactly("out");
    }

    @Test
    void refusesAPlaceUnderAFile() throws IOException {
        Path file = Files.writeString(folder.resolve("file"), "x");
        for (Path target : List.of(file.resolve("out"), file.resolve("deep/out"))) {
            assertThatThrownBy(() -> OutputFolder.create(target))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining(file + " is no folder");
        }
    }

    @Test
    void twoRunsDoNotWriteToOneTarget() throws IOException {
        Path target = folder.resolve("out");
        try (OutputFolder output = OutputFolder.create(target)) {
            assertThatThrownBy(() -> OutputFolder.create(target))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining(target.toString())
                    .hasMessageContaining("another run");
            assertThatThrownBy(() -> OutputFolder.resume(target)).hasMessageContaining("another run");
            output.commit();
        }
    }

    @Test
    void aJournalIsKeptForTheRunThatResumes() throws IOException {
        Path target = folder.resolve("a/out");
        try (OutputFolder output = OutputFolder.create(target)) {
            Files.writeString(output.path().resolve("x"), "torn");
            Files.writeString(output.journal().resolve("entry"), "whole");
            Files.writeString(output.journal().resolve(".entry2.uuid.tmp"), "torn");
            output.keepJournal();
        }
        assertThat(target).doesNotExist();
        assertThatThrownBy(() -> OutputFolder.create(target))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(folder.resolve("a/.out.partial").toString())
                .hasMessageContaining("--resume")
                .hasMessageContaining("remove");
        try (OutputFolder output = OutputFolder.resume(target)) {
            assertThat(output.path()).isEmptyDirectory();
            assertThat(output.journal().toFile().list()).containsExactly("entry");
            output.dropJournal();
        }
        try (OutputFolder output = OutputFolder.resume(target)) {
            assertThat(output.journal().resolve("entry")).hasContent("whole");
            Files.writeString(output.path().resolve("x"), "whole");
            output.commit();
        }
        assertThat(target.toFile().list()).containsExactly("x");
        assertThat(folder.resolve("a").toFile().list()).containsExactly("out");
    }

    @Test
    void aJournalThatIsNotKeptGoes() throws IOException {
        try (OutputFolder output = OutputFolder.resume(folder.resolve("a/out"))) {
            Files.writeString(output.journal().resolve("entry"), "whole");
            output.keepJournal();
            output.dropJournal();
        }
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void whatNoRunLeftIsNotTakenOver() throws IOException {
        Path partial = folder.resolve(".out.partial");
        Files.writeString(partial, "file");
        assertThatThrownBy(() -> OutputFolder.resume(folder.resolve("out")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is no folder");
        Files.delete(partial);
        Files.createDirectory(partial);
        Files.createSymbolicLink(partial.resolve("output"), folder);
        assertThatThrownBy(() -> OutputFolder.resume(folder.resolve("out")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("holds output");
        assertThat(partial.toFile().list()).containsExactly("output");
    }
}
