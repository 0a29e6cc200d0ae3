package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class TokenizerPatternTest {
    /** Of GPT-2, Llama 3, GPT-4o, DeepSeek, BLOOM, CLIP and others. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "\\s+",
                " {2,}",
                "[0-9][0-9][0-9]",
                "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                        + "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t)?|\\s+",
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
                " ?[^(\\s|[.,!?…。，、।۔،])]+",
                "(?:\\d{3})+(?!\\d)",
                "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+",
                "[^\\n]+|[\\n]+"
            })
    void expressionsOfPublishedTokenizersAreSimpleEnough(String pattern) {
        assertThat(TokenizerPattern.refusal(pattern)).isEmpty();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ' ',
            value = {
                "(a+)+$ several",
                "(a*)*b several",
                "(a|a)*b several",
                "(?:a|ab){2,} several",
                "(a?){99} several",
                "a** repetition",
                "a{2}{3} repetition",
                "a{1001} 1000",
                "a{ brace",
                "x*x*x*x*y row",
                "(x*x*)(x*x*)y row",
                "(a)\\1 refers",
                "\\g<0> refers",
                "(?<n>a) rare",
                "(?~a) rare",
                "(*FAIL) rare",
                "(a open",
                "a) closes",
                "[a early",
                "( early",
                "\\ early"
            })
    void expressionsThatMatchInVeryManyWaysAreRefused(String pattern, String reason) {
        assertThat(TokenizerPattern.refusal(pattern)).contains(reason);
    }
}
