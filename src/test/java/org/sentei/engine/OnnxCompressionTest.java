package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.report.Report;
import org.sentei.format.ModelZoo;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.model.Site;
import org.sentei.tensor.Floats;

/** MiniLM through the façade: a graph that ONNX Runtime runs is pruned by the same rules as a folder. */
class OnnxCompressionTest {
    private static final Path MODEL = ModelZoo.configured().locate("all-minilm-l6-v2");

    @TempDir
    private Path folder;

    private Report run(String step, boolean sequential, Path output) {
        return Runs.run(Runs.request(MODEL, """
                        steps: [{%s, targets: ["encoder.layer.0.*", "encoder.layer.1.*"], sparsity: 0.5}]
                        calibration: {samples: 8, length: 32, sequential: %s}
                        """.formatted(step, sequential)), output);
    }

    @Test
    void rowsLoseHalfAndTheOutputIsAModelWithItsTokenizer() throws IOException {
        Path output = folder.resolve("out");
        Report report = run("method: stade, bias: auto", false, output);
        assertThat(report.sites()).hasSize(12).allSatisfy(site -> {
            assertThat(site.pruned()).isEqualTo(site.rows() * (site.cols() / 2));
            assertThat(site.error()).isBetween(1e-3, 1.0);
        });
        int updated = 0;
        Map<String, Report.SiteResult> results = new HashMap<>();
        report.sites().forEach(result -> results.put(result.name(), result));
        try (OnnxFile source = OnnxFile.open(MODEL);
                OnnxFile written = OnnxFile.open(output.resolve(MODEL.getFileName()))) {
            for (Site site : source.sites()) {
                float[] before = Floats.toArray(source.tensor(site.weight()));
                float[] after = Floats.toArray(written.tensor(site.weight()));
                boolean sameBias = Arrays.equals(
                        Floats.toArray(source.tensor(site.bias())), Floats.toArray(written.tensor(site.bias())));
                if (!results.containsKey(site.name())) {
                    assertThat(after).isEqualTo(before);
                    assertThat(sameBias).isTrue();
                    continue;
                }
                assertThat(sameBias).isEqualTo(results.get(site.name()).bias().equals("kept"));
                updated += sameBias ? 0 : 1;
                int[] pruned = new int[Math.toIntExact(site.rows())];
                for (int i = 0; i < before.length; i++) {
                    boolean zero = Float.floatToRawIntBits(after[i]) == 0;
                    if (!zero && Float.floatToRawIntBits(after[i]) != Float.floatToRawIntBits(before[i])) {
                        throw new AssertionError(site.name() + " element " + i + " became " + after[i]);
                    }
                    // the file stores inputs x outputs
                    pruned[i % pruned.length] += zero ? 1 : 0;
                }
                assertThat(pruned).containsOnly(Math.toIntExact(site.cols() / 2));
            }
        }
        assertThat(updated).isPositive();
        Path text = Files.writeString(folder.resolve("a.txt"), "A dog is an animal.\nThe sun shines.\n");
        List<Sentei.Metric> metrics = Sentei.evaluate(
                new Sentei.EvaluationRequest(
                        output.resolve(MODEL.getFileName()),
                        Optional.of(MODEL),
                        text,
                        Optional.empty(),
                        Optional.empty(),
                        Backends.AUTO,
                        Backend.Options.defaults()),
                Progress.NONE);
        assertThat(metrics.getFirst().metric()).isEqualTo("cosine");
        assertThat(metrics.getFirst().value()).isBetween(0.8, 0.9999);
    }

    @Test
    void sequentialCalibrationChangesTheSecondBlockOnly() {
        Path dense = folder.resolve("dense");
        Path sequential = folder.resolve("sequential");
        run("method: wanda", false, dense);
        run("method: wanda", true, sequential);
        int changed = 0;
        try (OnnxFile one = OnnxFile.open(dense.resolve(MODEL.getFileName()));
                OnnxFile other = OnnxFile.open(sequential.resolve(MODEL.getFileName()))) {
            for (Site site : one.sites()) {
                boolean same = Arrays.equals(
                        Floats.toArray(one.tensor(site.weight())), Floats.toArray(other.tensor(site.weight())));
                if (site.block() != 1) {
                    assertThat(same).as(site.name()).isTrue();
                }
                changed += same ? 0 : 1;
            }
        }
        assertThat(changed).isEqualTo(6);
    }
}
