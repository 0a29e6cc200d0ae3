package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.engine.report.Report;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;

/** A calibrated compression on every device backend beside the one on the processor. */
class BackendAgreementTest {
    private static final String RECIPE =
            "{steps: [{method: stade, sparsity: 0.5}], calibration: {samples: 16, length: 64}}";
    /** Statistics are sums of fp32 rounding errors apart, so a pick may differ where two scores are that close. */
    private static final double SHARE_OF_CLOSE_SCORES = 1e-5;

    private static final double ERROR_TOLERANCE = 1e-5;

    @TempDir
    private Path folder;

    static List<String> devices() {
        return AvailableBackends.names().stream()
                .filter(name -> !List.of("reference", "cpu").contains(name))
                .toList();
    }

    @ParameterizedTest(allowZeroInvocations = true)
    @MethodSource("devices")
    void masksAndErrorsAreThoseOfTheProcessorAndRunsRepeat(String device) throws IOException {
        assumeThat(AvailableBackends.names()).contains("cpu");
        Path model = Runs.model("austen-llama");
        Report expected = run(model, "cpu", folder.resolve("cpu"));
        Report actual = run(model, device, folder.resolve("first"));
        run(model, device, folder.resolve("second"));
        assertThat(actual.backends()).extracting(Report.Binding::backend).containsOnly(device);

        Map<String, boolean[][]> masks = Runs.masks(model, folder.resolve("cpu"), expected);
        Map<String, boolean[][]> others = Runs.masks(model, folder.resolve("first"), actual);
        assertThat(others.keySet()).isEqualTo(masks.keySet());
        long different = masks.keySet().stream()
                .mapToLong(site -> different(masks.get(site), others.get(site)))
                .sum();
        assertThat(different).isLessThanOrEqualTo((long)
                (SHARE_OF_CLOSE_SCORES * expected.totals().parameters()));
        for (int i = 0; i < expected.sites().size(); i++) {
            double wanted = expected.sites().get(i).error();
            double got = actual.sites().get(i).error();
            assertThat(Math.abs(got / wanted - 1) <= ERROR_TOLERANCE)
                    .as("%s: %s instead of %s", expected.sites().get(i).name(), got, wanted)
                    .isTrue();
        }
        assertThat(Files.mismatch(
                        folder.resolve("first/model.safetensors"), folder.resolve("second/model.safetensors")))
                .isEqualTo(-1);
    }

    private static Report run(Path model, String backend, Path output) {
        return Runs.run(Runs.request(model, RECIPE).on(backend, Backend.Options.defaults()), output);
    }

    private static long different(boolean[][] mask, boolean[][] other) {
        long count = 0;
        for (int row = 0; row < mask.length; row++) {
            for (int col = 0; col < mask[row].length; col++) {
                count += mask[row][col] == other[row][col] ? 0 : 1;
            }
        }
        return count;
    }
}
