package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.format.SyntheticLlama;

/** Copies beside kernels on the emulated driver, which runs nothing before somebody waits for it, and then in a random order. */
class CudaBesideTest {
    @TempDir
    private static Path folder;

    private static EmulatedDriver driver;

    @BeforeAll
    static void build() throws IOException, InterruptedException {
        driver = EmulatedDriver.build(folder);
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2})
    void theLackOfAnyKindOfWaitIsNoticed(int seed) throws Exception {
        EmulatedDriver.Outcome outcome = driver.run(Map.of("SENTEI_EMULATED_SEED", "" + seed), "beside");

        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        assertThat(outcome.of("failure")).isEmpty();
        assertThat(outcome.of("exact")).containsExactly("true");
        assertThat(outcome.of("unnoticed")).isEmpty();
        assertThat(outcome.of("noticed")).hasSize(7);
        assertThat(outcome.count("leaked")).isZero();
        assertThat(outcome.count("contexts")).isZero();
        assertThat(outcome.count("damaged")).isZero();
    }

    /** Eight batches through three blocks; the emulated device's time says what could run beside what. */
    @Test
    void allCopiesBehindTheFirstBlocksLieUnderKernelsWhereTheBudgetHoldsTwo() throws Exception {
        Path model = folder.resolve("synthetic");
        SyntheticLlama.TINY.write(model, 1, _ -> {});
        Path trace = folder.resolve("trace.json");
        EmulatedDriver.Outcome free = states(model, trace, Long.MAX_VALUE);
        JsonNode document = new ObjectMapper().readTree(trace.toFile());
        EmulatedDriver.Outcome tight = states(model, trace, 260_000);

        assertThat(free.of("ahead")).containsExactly("2");
        assertThat(tight.of("ahead")).containsExactly("0");
        assertThat(tight.of("states")).hasSize(1).isEqualTo(free.of("states"));
        assertThat(share(document)).isBetween(0.99, 1.01);
        assertThat(share(new ObjectMapper().readTree(trace.toFile()))).isLessThan(0.9);
        double copied =
                spans(document, "copy", "").stream().mapToDouble(Span::length).sum();
        double hidden = hidden(document, spans(document, "copy", ""));
        JsonNode totals = document.get("otherData");
        assertThat(totals.get("copy_us").asDouble()).isBetween(copied * 0.999, copied * 1.001);
        assertThat(totals.get("copy_under_kernels_us").asDouble()).isBetween(hidden * 0.999, hidden * 1.001);
        assertThat(totals.get("spans_left_out").asInt()).isZero();
    }

    private static EmulatedDriver.Outcome states(Path model, Path trace, long memory) throws Exception {
        EmulatedDriver.Outcome outcome =
                driver.run(Map.of("SENTEI_CUDA_TRACE", trace.toString()), "states", model.toString(), "" + memory);
        assertThat(outcome.exit()).as(outcome.errors()).isZero();
        assertThat(outcome.of("failure")).isEmpty();
        assertThat(outcome.count("leaked")).isZero();
        return outcome;
    }

    /** What ran, in microseconds. */
    private record Span(double begin, double end, int lane) {
        double length() {
            return end - begin;
        }
    }

    /** Of the time of copies beside the kernels, between the first attention and the last, that in which a kernel ran. */
    private static double share(JsonNode document) {
        List<Span> attentions = spans(document, "kernel", "attention");
        List<Span> copies = spans(document, "copy", "").stream()
                .filter(copy ->
                        copy.lane > 0 && copy.begin > attentions.getFirst().end && copy.end < attentions.getLast().end)
                .toList();
        assertThat(copies).hasSizeGreaterThan(40);
        return hidden(document, copies)
                / copies.stream().mapToDouble(Span::length).sum();
    }

    private static double hidden(JsonNode document, List<Span> copies) {
        double hidden = 0;
        for (Span copy : copies) {
            for (Span kernel : spans(document, "kernel", "")) {
                hidden += Math.max(0, Math.min(copy.end, kernel.end) - Math.max(copy.begin, kernel.begin));
            }
        }
        return hidden;
    }

    /** What ran of a kind, with a name that begins so, in the order of the calls. */
    private static List<Span> spans(JsonNode document, String kind, String name) {
        return StreamSupport.stream(document.get("traceEvents").spliterator(), false)
                .filter(event -> event.path("cat").asText().equals(kind)
                        && event.get("name").asText().startsWith(name))
                .map(event -> new Span(
                        event.get("ts").asDouble(),
                        event.get("ts").asDouble() + event.get("dur").asDouble(),
                        event.get("tid").asInt()))
                .toList();
    }
}
