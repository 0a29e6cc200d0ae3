package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CancellationException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.model.Fixtures;
import org.sentei.model.ModelException;
import org.sentei.model.Transformer;
import org.sentei.tensor.DType;

/** Two trained language models on a novel they have not seen, against figures computed with PyTorch in fp32. */
class PerplexityTest {
    private static final Path RESOURCES = Path.of("src/test/resources");
    private static final int LENGTH = 128;
    private static final double TOLERANCE = 0.002;

    /** The reference computes plainly and slowly, and OpenCL may run on the processor: the first windows are enough. */
    private static final Set<String> SLOW = Set.of("reference", "opencl");

    @ParameterizedTest
    @CsvSource({"austen-llama, 58.60972", "austen-opt, 77.50443"})
    void firstWindowsOnEverySlowBackend(String model, double expected) throws IOException {
        for (String backend : AvailableBackends.names()) {
            if (SLOW.contains(backend)) {
                check(backend, model, 8 * LENGTH, expected);
            }
        }
    }

    static List<String> fastBackends() {
        return AvailableBackends.names().stream()
                .filter(name -> !SLOW.contains(name))
                .toList();
    }

    @ParameterizedTest(allowZeroInvocations = true)
    @MethodSource("fastBackends")
    void wholeNovelOnEveryFastBackend(String backend) throws IOException {
        check(backend, "austen-llama", Integer.MAX_VALUE, 37.961);
        check(backend, "austen-opt", Integer.MAX_VALUE, 45.007);
    }

    private static void check(String backendName, String name, int limit, double expected) throws IOException {
        int[] tokens = tokens(name);
        try (HuggingFaceFolder folder = HuggingFaceFolder.open(RESOURCES.resolve("models", name));
                Backend backend = AvailableBackends.open(backendName)) {
            double perplexity = Perplexity.of(
                    Transformer.of(folder.config(), folder),
                    Arrays.copyOf(tokens, Math.min(limit, tokens.length)),
                    LENGTH,
                    backend,
                    Progress.NONE);
            double error = Math.abs(perplexity / expected - 1);
            assertThat(error <= TOLERANCE)
                    .as("perplexity %s, expected %s", perplexity, expected)
                    .isTrue();
        }
    }

    private static int[] tokens(String name) throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(RESOURCES.resolve("models", name, "tokenizer.json"))) {
            return tokenizer.encode(Files.readString(RESOURCES.resolve("text/heldout.txt")), false);
        }
    }

    @Test
    void whatCannotBeScoredIsRefused() {
        try (HuggingFaceFolder decoder = HuggingFaceFolder.open(RESOURCES.resolve("models/gpt2"));
                HuggingFaceFolder encoder = HuggingFaceFolder.open(RESOURCES.resolve("models/bert"));
                Backend backend = AvailableBackends.open("reference")) {
            Transformer gpt2 = Transformer.of(decoder.config(), decoder);
            Transformer bert = Transformer.of(encoder.config(), encoder);
            int[] tokens = new int[70];
            assertThatThrownBy(() -> Perplexity.of(gpt2, tokens, 65, backend, Progress.NONE))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("windows of 65 tokens");
            assertThatThrownBy(() -> Perplexity.of(gpt2, tokens, 1, backend, Progress.NONE))
                    .isInstanceOf(ModelException.class);
            assertThatThrownBy(() -> Perplexity.of(gpt2, new int[63], 64, backend, Progress.NONE))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("63 tokens");
            assertThatThrownBy(() -> Perplexity.of(bert, tokens, 10, backend, Progress.NONE))
                    .isInstanceOf(ModelException.class)
                    .hasMessageContaining("bert");
        }
    }

    @Test
    void logitsThatOverflowAreAnError() {
        byte[] huge = new byte[32 * Float.BYTES];
        for (int i = 0; i < 32; i++) {
            MemorySegment.ofArray(huge).setAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i, 3e38f);
        }
        try (Fixtures.Changed source =
                        new Fixtures.Changed("gpt2").put("transformer.ln_f.weight", DType.F32, huge, 32);
                Backend backend = AvailableBackends.open("reference")) {
            Transformer model = source.model();
            assertThatThrownBy(() -> Perplexity.of(model, new int[20], 10, backend, Progress.NONE))
                    .isInstanceOf(RunException.class)
                    .hasMessageContaining("window 0");
        }
    }

    @Test
    void progressIsHeardAndCancels() {
        try (HuggingFaceFolder folder = HuggingFaceFolder.open(RESOURCES.resolve("models/gpt2"));
                Backend backend = AvailableBackends.open("reference")) {
            Transformer model = Transformer.of(folder.config(), folder);
            List<Long> heard = new ArrayList<>();
            Perplexity.of(model, new int[20], 10, backend, (stage, done, total) -> {
                assertThat(total).isEqualTo(3);
                heard.add(done);
            });
            assertThat(heard).containsExactly(0L, 1L, 2L, 3L);
            Progress impatient = new Progress() {
                private long last;

                @Override
                public void advanced(String stage, long done, long total) {
                    last = done;
                }

                @Override
                public boolean cancelled() {
                    return last > 0;
                }
            };
            assertThatThrownBy(() -> Perplexity.of(model, new int[20], 10, backend, impatient))
                    .isInstanceOf(CancellationException.class);
        }
    }
}
