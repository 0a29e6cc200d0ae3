package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.LabelledGraph;

/** WordNet's nouns, in a file of the same form with drawn ones. */
class WordNetFolderTest {
    private static final int NODES = 1200;

    @TempDir
    private Path folder;

    private static String file() {
        StringBuilder text = new StringBuilder("  1 This software and database is being provided to you\n");
        for (int node = 0; node < NODES; node++) {
            text.append(String.format(
                    Locale.ROOT,
                    "%08d %02d n 02 thing_%d 0 other 1 003 @ %08d n 0000 + 00001234 v 0101 ~ %08d n 0000 | a thing of the kind"
                            + " kind%c; \"not so rare%d\"  %n",
                    node * 7,
                    3 + node % 5,
                    node,
                    node / 2 * 7,
                    (node + 1) % NODES * 7,
                    'a' + node % 5,
                    node));
        }
        return text.toString();
    }

    private LabelledGraph read(String text) throws IOException {
        Files.writeString(folder.resolve("data.noun"), text);
        return WordNetFolder.read(folder);
    }

    @Test
    void synsetsAreNodesAndWordsOfTheirGlossesFeatures() throws IOException {
        LabelledGraph graph = read(file());
        assertThat(WordNetFolder.isOne(folder)).isTrue();
        assertThat(graph.nodes()).isEqualTo(NODES);
        assertThat(graph.classes()).isEqualTo(5);
        assertThat(graph.label(0)).isZero();
        assertThat(graph.label(8)).isEqualTo(3);
        // kind, kinda to kinde, not, rare, the, thing
        assertThat(graph.features()).isEqualTo(10);
        assertThat(graph.featureStarts()[1]).isEqualTo(6);
        // itself, its parent and children, its neighbours in the ring
        assertThat(graph.degree(100)).isEqualTo(1 + 1 + 2 + 2);
        assertThat(graph.members(Split.TRAIN)).hasSize(5 * WordNetFolder.TRAIN);
        assertThat(graph.members(Split.VALID)).hasSize(WordNetFolder.VALID);
        assertThat(graph.members(Split.TEST)).hasSize(NODES - 5 * WordNetFolder.TRAIN - WordNetFolder.VALID);
        assertThat(read(file()).members(Split.TRAIN)).containsExactly(graph.members(Split.TRAIN));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '!',
            value = {
                "00000014 04 n 01 word 0 000 a gloss!line 1202: it is no synset",
                "00000014 04 n 01 word 0 000 | again!line 1202: synset 00000014 is there twice",
                "99 04 n 01 word 0 001 @ 00000014 | gloss!line 1202: it ends before its 1 pointers",
                "99 04 n 01 word 0 -1 | gloss!line 1202: field 7 is no number",
                "99 0f n 01 word 0 000 | gloss!line 1202: field 2 is",
                "99 04 n zz word 0 000 | gloss!line 1202: field 4 is no number",
                "99 04 n 01 word 0 001 @ 00000015 n 0000 | gloss!leads to the noun 00000015"
            })
    void aWrongLineIsNamed(String line, String message) {
        assertThatThrownBy(() -> read(file() + line + "\n"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(message);
    }

    @Test
    void tooFewNounsAreRefused() {
        assertThatThrownBy(() -> read("")).isInstanceOf(FormatException.class).hasMessageContaining("only 0 nouns");
    }

    @Test
    void damagedFilesEndInOneKindOfError() throws IOException {
        byte[] whole = file().getBytes(StandardCharsets.ISO_8859_1);
        SplittableRandom random = new SplittableRandom(3);
        for (int round = 0; round < 100; round++) {
            byte[] damaged = whole.clone();
            for (int i = 0; i <= round % 3; i++) {
                damaged[random.nextInt(damaged.length)] = (byte) random.nextInt(256);
            }
            Files.write(folder.resolve("data.noun"), damaged);
            assertThatCode(() -> {
                        try {
                            WordNetFolder.read(folder);
                        } catch (FormatException expected) {
                            assertThat(expected.getMessage()).contains("data.noun");
                        }
                    })
                    .doesNotThrowAnyException();
        }
    }
}
