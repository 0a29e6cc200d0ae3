package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.model.Transformer;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;

/** Synthetic checkpoints are models like any other, and the same for the same seed. */
final class SyntheticLlamaTest {
    @TempDir
    Path folder;

    private Path write(String name, long seed) throws IOException {
        Path target = folder.resolve(name);
        SyntheticLlama.TINY.write(target, seed, _ -> {});
        return target;
    }

    @Test
    void aCheckpointOpensAsAModelInShards() throws IOException {
        try (HuggingFaceFolder open = HuggingFaceFolder.open(write("model", 1))) {
            Transformer transformer = Transformer.of(open.config(), open);
            assertThat(transformer.parameters()).isEqualTo(SyntheticLlama.TINY.parameters());
            assertThat(transformer.sites()).hasSize(3 * 7 + 1);
            assertThat(open.weights()).hasSizeGreaterThan(2);
            assertThat(open.names())
                    .allSatisfy(name -> assertThat(open.dtype(name)).isEqualTo(DType.BF16));
            assertThat(open.index().orElseThrow().totalSize()).hasValue(SyntheticLlama.TINY.bytes());
        }
    }

    @Test
    void weightsHaveTheVarianceThatKeepsActivationsInScale() throws IOException {
        try (HuggingFaceFolder open = HuggingFaceFolder.open(write("model", 1))) {
            float[] weights = Floats.toArray(open.tensor("model.layers.1.mlp.up_proj.weight"));
            double squares = 0;
            double sum = 0;
            for (float weight : weights) {
                squares += (double) weight * weight;
                sum += weight;
            }
            // 11264 draws: the standard error of the variance is 1.3 % of it
            assertThat(squares / weights.length * 64).isBetween(0.93, 1.07);
            assertThat(Math.abs(sum / weights.length * 8)).isLessThan(0.05);
        }
    }

    @Test
    void equalSeedsGiveEqualFilesAndOthersDoNot() throws IOException {
        try (HuggingFaceFolder first = HuggingFaceFolder.open(write("first", 7));
                HuggingFaceFolder second = HuggingFaceFolder.open(write("second", 7));
                HuggingFaceFolder other = HuggingFaceFolder.open(write("other", 8))) {
            assertThat(first.sha256()).isEqualTo(second.sha256()).isNotEqualTo(other.sha256());
            assertThat(first.tensor("model.layers.0.mlp.up_proj.weight")
                            .data()
                            .mismatch(first.tensor("model.layers.0.mlp.gate_proj.weight")
                                    .data()))
                    .isNotNegative();
        }
    }

    @Test
    void theTokenizerHasOneTokenAByte() throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(write("model", 1).resolve("tokenizer.json"))) {
            assertThat(tokenizer.encode("Hi, 你\n", false)).containsExactly('H', 'i', ',', ' ', 0xe4, 0xbd, 0xa0, '\n');
        }
    }

    @ParameterizedTest
    @CsvSource({"B1,1100048384", "B7,6738415616", "B70,68976648192"})
    void shapesHaveAsManyParametersAsTheModelsTheyAreNamedAfter(SyntheticLlama shape, long parameters) {
        assertThat(shape.parameters()).isEqualTo(parameters);
    }

    @Test
    void workThatIsStoppedLeavesNothing() throws IOException {
        Path target = folder.resolve("stopped");
        assertThatThrownBy(() -> SyntheticLlama.TINY.write(target, 1, written -> {
                    throw new IllegalStateException("at " + written);
                }))
                .isInstanceOf(IllegalStateException.class);
        try (var left = Files.list(folder)) {
            assertThat(left).isEmpty();
        }
    }
}
