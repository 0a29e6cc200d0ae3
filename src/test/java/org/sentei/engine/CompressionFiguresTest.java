package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.nio.file.Path;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.kernel.AvailableBackends;

/**
 * Perplexity of compressed models on a novel they have not seen, against figures that other code computed with PyTorch in
 * fp32. These are some of the tables in docs/methods, which have the commands for all.
 */
class CompressionFiguresTest {
    private static final double TOLERANCE = 0.01;

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "austen-llama | method: magnitude, sparsity: 0.5                           |  43.149",
                "austen-llama | method: stade, bias: paper, pattern: '2:4'                 |  51.764",
                "austen-llama | method: stade, variant: stade-w, bias: paper, pattern: '4:8' | 47.585",
                "austen-opt   | method: wanda, sparsity: 0.5                               |  55.111",
                "austen-opt   | method: stade, bias: off, pattern: '4:8'                   |  66.511",
                "austen-opt   | method: stade, bias: paper, pattern: '2:4'                 | 100.528",
                "austen-llama | method: sparsegpt, sparsity: 0.5                           |  41.001",
                "austen-opt   | method: sparsegpt, pattern: '2:4'                          |  51.353",
            },
            quoteCharacter = '"')
    void perplexitiesArePyTorchs(String name, String step, double expected) {
        assumeThat(AvailableBackends.names()).as("plain Java takes too long").contains("cpu");
        Path output = folder.resolve("out");
        Runs.run(
                Runs.request(Runs.model(name), "steps: [{" + step + "}]\ncalibration: {samples: 64, length: 128}"),
                output);
        double perplexity = Runs.perplexity(output, 128);
        assertThat(Math.abs(perplexity / expected - 1) <= TOLERANCE)
                .as("perplexity %s, expected %s", perplexity, expected)
                .isTrue();
    }
}
