package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.model.Site;
import org.sentei.tensor.Tensor;

/** SparseGPT through the façade: what is in the folder it leaves, and what the report says of it. */
class SparseGptRunTest {
    private static final String MODEL = "llama-gqa-tied";

    @TempDir
    private Path folder;

    private Path text;
    private Path tokenizer;

    @BeforeEach
    void prepare() throws IOException {
        text = Runs.words(folder, 800);
        tokenizer = Runs.wordTokenizer(folder);
    }

    private CompressionRequest request(Path model, String step, int samples) {
        return CompressionRequest.of(
                        model,
                        Recipes.parse("steps: [{method: sparsegpt, " + step + "}]\ncalibration: {samples: " + samples
                                + ", length: 16}"))
                .withCalibration(text)
                .withTokenizer(tokenizer);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "llama-gqa-tied | sparsity: 0.37",
                "gpt2 | sparsity: 0.5, block: 32",
                "mistral-window | sparsity: 0.3, scope: row, block: 32",
                "qwen2-bias | pattern: '2:4'",
                "opt | pattern: '4:8', block: 32",
                "bert | sparsity: 0.5"
            })
    void theMaskIsExactAndTheOtherWeightsMakeUpForIt(String name, String step) {
        Path model = Runs.model(name);
        for (String backend : AvailableBackends.names()) {
            Path output = folder.resolve(backend);
            Report report = Runs.run(request(model, step, 20).on(backend, Backend.Options.defaults()), output);
            Set<String> edited = new HashSet<>();
            try (HuggingFaceFolder source = HuggingFaceFolder.open(model);
                    HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
                for (Site site : Runs.sites(model)) {
                    report.sites().stream()
                            .filter(result -> result.name().equals(site.name()))
                            .forEach(result -> {
                                check(result, site, Runs.weights(source, site), Runs.weights(written, site));
                                edited.add(site.weight());
                            });
                }
                for (String tensor : source.names()) {
                    if (!edited.contains(tensor)) {
                        assertThat(Runs.bytes(written.tensor(tensor))).isEqualTo(Runs.bytes(source.tensor(tensor)));
                    }
                }
            }
            assertThat(edited).isNotEmpty().hasSameSizeAs(report.sites());
            assertThat(report.warnings()).noneMatch(warning -> warning.contains("damping"));
        }
    }

    private static void check(Report.SiteResult result, Site site, float[][] before, float[][] after) {
        BigDecimal sparsity = BigDecimal.valueOf(result.requested());
        long zeros = 0;
        long changed = 0;
        for (int row = 0; row < before.length; row++) {
            for (int col = 0; col < before[row].length; col++) {
                int bits = Float.floatToRawIntBits(after[row][col]);
                zeros += bits == 0 ? 1 : 0;
                changed += bits != 0 && bits != Float.floatToRawIntBits(before[row][col]) ? 1 : 0;
            }
            if (result.pattern().contains(":")) {
                int of = Integer.parseInt(result.pattern().substring(2));
                for (int col = 0; col < before[row].length; col += of) {
                    int gone = 0;
                    for (int at = col; at < col + of; at++) {
                        gone += after[row][at] == 0 ? 1 : 0;
                    }
                    assertThat(gone).as(site.name()).isEqualTo(of / 2);
                }
            }
        }
        long expected = sparsity.multiply(BigDecimal.valueOf(site.parameters())).longValue();
        long ofRows =
                site.rows() * sparsity.multiply(BigDecimal.valueOf(site.cols())).longValue();
        assertThat(result.pruned()).isEqualTo(result.zeros()).isEqualTo(zeros).isIn(expected, ofRows);
        assertThat(changed).as(site.name()).isGreaterThan((site.parameters() - zeros) / 4);
        assertThat(result.method()).isEqualTo("sparsegpt");
        assertThat(result.damping()).isEqualTo(0.01);
        assertThat(result.score()).isNull();
        assertThat(result.bias()).isNull();
        assertThat(result.error()).isBetween(1e-6, 0.9);
    }

    @Test
    void rowsOfBlocksHaveBudgetsOfTheirOwn() {
        Path output = folder.resolve("out");
        Path model = Runs.model("austen-llama");
        Runs.run(
                Runs.request(
                        model,
                        "steps: [{method: sparsegpt, sparsity: 0.3, scope: row, block: 64, targets: ['*.0.*.o_proj']}]"
                                + "\ncalibration: {samples: 4, length: 64}"),
                output);
        Site site = Runs.sites(model).stream()
                .filter(candidate -> candidate.name().endsWith("layers.0.self_attn.o_proj"))
                .findFirst()
                .orElseThrow();
        try (HuggingFaceFolder written = HuggingFaceFolder.open(output)) {
            for (float[] row : Runs.weights(written, site)) {
                long[] zeros = new long[3];
                for (int col = 0; col < row.length; col++) {
                    zeros[col / 64] += row[col] == 0 ? 1 : 0;
                }
                assertThat(zeros).containsExactly(19, 38 - 19, 57 - 38);
            }
        }
    }

    @Test
    void theErrorIsBelowWandasAtTheSameSparsity() {
        Path model = Runs.model("austen-opt");
        String rest = ", sparsity: 0.5, targets: ['*.0.*']}]\ncalibration: {samples: 16, length: 64}";
        Report swept = Runs.run(Runs.request(model, "steps: [{method: sparsegpt" + rest), folder.resolve("swept"));
        Report masked = Runs.run(Runs.request(model, "steps: [{method: wanda" + rest), folder.resolve("masked"));
        for (int i = 0; i < swept.sites().size(); i++) {
            assertThat(swept.sites().get(i).error())
                    .as(swept.sites().get(i).name())
                    .isLessThan(masked.sites().get(i).error());
        }
    }

    @Test
    void neitherThreadsNorRepetitionChangeAByte() throws IOException {
        Path model = Runs.model(MODEL);
        List<Path> outputs = Stream.of(1, 2, 3, 2)
                .map(threads -> {
                    Path output = folder.resolve("out" + folder.toFile().list().length);
                    Runs.run(request(model, "sparsity: 0.5", 8).on("auto", new Backend.Options(0, threads)), output);
                    return output.resolve("model.safetensors");
                })
                .toList();
        for (Path output : outputs) {
            assertThat(output).hasSameBinaryContentAs(outputs.getFirst());
        }
    }

    @Test
    void theReportWarnsWhereMoreDampingWasNeeded() {
        Report report = Runs.run(request(Runs.model(MODEL), "sparsity: 0.5, damping: 1e-8", 2), folder.resolve("out"));
        assertThat(report.sites()).anySatisfy(site -> assertThat(site.damping()).isGreaterThan(5e-8));
        report.sites().stream()
                .filter(site -> site.damping() != 1e-8)
                .forEach(site -> assertThat(report.warnings())
                        .anySatisfy(warning -> assertThat(warning)
                                .startsWith("site " + site.name())
                                .contains("damping 1.0E-8")
                                .contains("" + site.damping())));
    }

    @Test
    void momentsWithoutAFactorEndInOneError() {
        CompressionRequest request = request(Runs.model(MODEL), "sparsity: 0.5, damping: 1e-29", 2);
        assertThatThrownBy(() -> Runs.run(request, folder.resolve("out")))
                .isInstanceOf(RunException.class)
                .hasMessageContaining("site model.layers.0.self_attn.q_proj")
                .hasMessageContaining("no Cholesky factor")
                .hasMessageContaining("raise damping");
        assertThat(folder.resolve("out")).doesNotExist();
    }

    @Test
    void momentsThatOverflowEndInOneError() throws IOException {
        Path model = Files.createDirectory(folder.resolve("large"));
        try (Stream<Path> files = Files.list(Runs.model(MODEL))) {
            for (Path file : files.toList()) {
                Files.copy(file, model.resolve(file.getFileName()));
            }
        }
        String norm = "model.layers.1.post_attention_layernorm.weight";
        Path weights = model.resolve("model.safetensors");
        byte[] bytes = Files.readAllBytes(weights);
        int at;
        try (HuggingFaceFolder folderOfModel = HuggingFaceFolder.open(model)) {
            Tensor tensor = folderOfModel.tensor(norm);
            assertThat(tensor.dtype().name()).isEqualTo("F32");
            at = indexOf(bytes, Runs.bytes(tensor));
        }
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putFloat(at, 1e21f);
        Files.write(weights, bytes);
        assertThatThrownBy(() ->
                        Runs.run(request(model, "sparsity: 0.5, targets: ['*.gate_proj']", 4), folder.resolve("out")))
                .isInstanceOf(RunException.class)
                .hasMessageContaining("site model.layers.1.mlp.gate_proj")
                .hasMessageContaining("not finite");
    }

    private static int indexOf(byte[] bytes, byte[] part) {
        for (int i = 0; i + part.length <= bytes.length; i++) {
            if (ByteBuffer.wrap(bytes, i, part.length).equals(ByteBuffer.wrap(part))) {
                return i;
            }
        }
        throw new AssertionError("the tensor is not in the file");
    }

    @Test
    void thePlanCountsTheMomentsAndNamesTheOps() {
        try (Plan swept = Sentei.plan(request(Runs.model("austen-llama"), "sparsity: 0.5", 4));
                Plan masked = Sentei.plan(Runs.request(
                        Runs.model("austen-llama"),
                        "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: {samples: 4, length: 16}"))) {
            // inputs of q, k, v; of o; of gate, up; of down: moments in fp64, their factors in fp32
            long inputs = 3 * 192 * 192 + 512 * 512;
            assertThat(swept.memoryBytes()).isGreaterThan(12 * inputs);
            assertThat(swept.memoryBytes() - masked.memoryBytes()).isBetween(8 * inputs, 20 * inputs);
            assertThat(swept.bindings())
                    .extracting(Report.Binding::op)
                    .contains("gram", "inverse_cholesky", "obs_sweep", "score_histogram");
            assertThat(swept.sites()).allSatisfy(site -> {
                assertThat(site.method()).isEqualTo("sparsegpt");
                assertThat(site.pruned()).isEqualTo(site.rows() * site.cols() / 2);
            });
        }
    }
}
