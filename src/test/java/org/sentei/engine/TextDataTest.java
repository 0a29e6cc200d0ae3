package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.format.FormatException;

class TextDataTest {
    @TempDir
    private Path folder;

    private TextData read(String name, String content) throws IOException {
        return TextData.read(Files.writeString(folder.resolve(name), content));
    }

    @Test
    void plainTextIsTakenAsItIs() throws IOException {
        TextData data = read("a.txt", "one\r\ntwo\n\n three ");
        assertThat(data.text()).isEqualTo("one\r\ntwo\n\n three ");
        assertThat(data.table()).isEmpty();
        assertThat(data.sha256()).isEqualTo("4c9e2f5c69904d073c190e583370b62cba7d5e80844d882b4a044fb7d6cb9997");
    }

    @Test
    void aByteOrderMarkIsNoPartOfTheText() throws IOException {
        assertThat(read("a.txt", "\uFEFFone").text()).isEqualTo("one");
        assertThat(read("a.jsonl", "\uFEFF{\"text\": \"one\"}").text()).isEqualTo("one");
        assertThat(read("a.tsv", "\uFEFFquery\tanswer\na\tb").column("query")).containsExactly("a");
    }

    @Test
    void documentsOfJsonLinesAreJoinedByBlankLines() throws IOException {
        TextData data =
                read("a.jsonl", "{\"text\": \"one\", \"id\": 1}\n\n{\"id\": 2, \"text\": \"tw\\u00f6\\n\"}\r\n");
        assertThat(data.text()).isEqualTo("one\n\ntwö\n");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "{\"texts\": \"one\"} | line 2 has no text",
                "{\"text\": 1}        | line 2 has no text",
                "[\"text\"]           | line 2 has no text",
                "{\"text\": \"one\"   | line 2 is no JSON",
                "{\"text\": \"a\"} {} | line 2 is no JSON",
                "text                 | line 2 is no JSON",
            })
    void damagedJsonLinesNameTheLine(String line, String message) {
        assertThatThrownBy(() -> read("a.jsonl", "{\"text\": \"fine\"}\n" + line))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("a.jsonl")
                .hasMessageContaining(message);
    }

    @Test
    void jsonNestedWithoutEndIsAnError() {
        assertThatThrownBy(() -> read("a.jsonl", "{\"text\": " + "[".repeat(500_000)))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("line 1");
    }

    @Test
    void tablesHaveAHeadingAndColumns() throws IOException {
        TextData data = read("a.tsv", "sentence1\tsentence2\tscore\r\na b\tc\t1.5\r\n\r\n\td\t2\r\n");
        assertThat(data.text()).isEmpty();
        assertThat(data.column("sentence1")).containsExactly("a b", "");
        assertThat(data.column("score")).containsExactly("1.5", "2");
        assertThatThrownBy(() -> data.column("answer"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no column answer");
    }

    @Test
    void tablesWithRaggedRowsOrNoneAreErrors() {
        assertThatThrownBy(() -> read("a.tsv", "query\tanswer\na\tb\nc\td\te"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("row 3 has 3 columns, the heading 2");
        assertThatThrownBy(() -> read("a.tsv", "query\tanswer\n"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no rows");
        assertThatThrownBy(() -> read("a.tsv", "")).isInstanceOf(FormatException.class);
    }

    @Test
    void whatIsNoUtf8IsAnError() throws IOException {
        Path file = Files.write(folder.resolve("latin.txt"), "caf\u00e9".getBytes(StandardCharsets.ISO_8859_1));
        assertThatThrownBy(() -> TextData.read(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("latin.txt is no UTF-8 text");
    }

    @Test
    void foldersAreReadInTheOrderOfNames() throws IOException {
        Files.writeString(folder.resolve("b.txt"), "second");
        Files.writeString(folder.resolve("a.jsonl"), "{\"text\": \"first\"}");
        Files.writeString(folder.resolve("c.md"), "not text");
        TextData data = TextData.read(folder);
        assertThat(data.text()).isEqualTo("first\n\nsecond");

        Files.writeString(folder.resolve("b.txt"), "changed");
        assertThat(TextData.read(folder).sha256()).isNotEqualTo(data.sha256());
    }

    @Test
    void missingEmptyAndStrangeDataAreErrors() throws IOException {
        assertThatThrownBy(() -> TextData.read(folder.resolve("absent.txt")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("does not exist");
        assertThatThrownBy(() -> TextData.read(folder))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("holds no .txt or .jsonl");
        assertThatThrownBy(() -> read("a.pdf", "text"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("a.pdf has an unknown ending");
    }

    @Test
    void windowsAreConsecutiveAndThePartialOneIsDropped() throws IOException {
        TextData data = read("a.txt", "x");
        int[] tokens = {0, 1, 2, 3, 4, 5, 6};
        List<int[]> windows = data.windows(tokens, 2, 3);
        assertThat(windows).hasSize(2);
        assertThat(windows.get(0)).containsExactly(0, 1, 2);
        assertThat(windows.get(1)).containsExactly(3, 4, 5);
        assertThatThrownBy(() -> data.windows(tokens, 3, 3))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("its 7 tokens give 2 windows of 3, the recipe wants 3")
                .hasMessageContaining("give more text");
        assertThatThrownBy(() -> data.windows(new int[0], 1, 2))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("0 tokens");
    }
}
