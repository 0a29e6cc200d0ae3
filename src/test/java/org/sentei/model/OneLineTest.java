package org.sentei.model;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class OneLineTest {
    @Test
    void lineBreaksBecomeSpacesAndWhatCannotBeSeenQuestionMarks() {
        assertThat(OneLine.of("tensor a\n  b\r\nc\u2028d")).isEqualTo("tensor a b c d");
        assertThat(OneLine.of("\u001b[31mred\u0000 \u202e \ud800")).isEqualTo("?[31mred? ? ?");
        assertThat(OneLine.of("größe 大小 \ud83d\ude00")).isEqualTo("größe 大小 \ud83d\ude00");
    }

    @Test
    void aLongMessageKeepsItsBeginningAndItsEnd() {
        String line = OneLine.of("file x: name " + "n".repeat(1_000_000) + " is too long; rename it");
        assertThat(line)
                .hasSize(2000)
                .startsWith("file x: name n")
                .endsWith("; rename it")
                .contains(" ... ");
    }

    @Test
    void messagesOfErrorsAreOneLine() {
        assertThat(new ModelException("a\nb")).hasMessage("a b");
    }
}
