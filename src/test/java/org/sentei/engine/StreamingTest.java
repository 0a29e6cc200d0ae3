package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import org.assertj.core.api.InstanceOfAssertFactories;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.SyntheticLlama;
import org.sentei.kernel.AvailableBackends;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Scope;
import org.sentei.model.HeadWeights;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;

/** Models that are larger than what the device may hold: block by block, in smaller batches where it must be. */
final class StreamingTest {
    /** The weights of a block take 184 kB as F32, those of all three with embeddings and head 812 kB. */
    private static final long BUDGET = 400_000;

    @TempDir
    private static Path shared;

    private static Path model;

    @TempDir
    private Path folder;

    private static List<String> names() {
        return AvailableBackends.names();
    }

    @BeforeAll
    static void synthesize() throws IOException {
        model = shared.resolve("synthetic");
        SyntheticLlama.TINY.write(model, 1, _ -> {});
    }

    private Report run(String backend, String recipe, long memory, Path output) {
        Backend.Options options = Backend.Options.defaults().withMemory(memory);
        return Runs.run(Runs.request(model, recipe).on(backend, options), output);
    }

    @ParameterizedTest
    @MethodSource("names")
    void aRunWithinABudgetEqualsTheOneWithoutBitForBit(String backend) throws IOException {
        String recipe = "steps: [{method: stade, sparsity: 0.5}]\ncalibration: {samples: 4, length: 16}";
        Path free = folder.resolve("free-" + backend);
        Path within = folder.resolve("within-" + backend);
        Report first = run(backend, recipe, Long.MAX_VALUE, free);
        Report second = run(backend, recipe, BUDGET, within);
        assertThat(second.sites().stream().map(Report.SiteResult::error))
                .containsExactlyElementsOf(
                        first.sites().stream().map(Report.SiteResult::error).toList());
        try (var files = Files.list(free)) {
            for (Path file : files.toList()) {
                String name = file.getFileName().toString();
                if (!name.startsWith("report.")) {
                    assertThat(within.resolve(name)).hasSameBinaryContentAs(file);
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void aBudgetThatHoldsNoBlockIsRefusedBeforeTheWork(String backend) {
        String recipe = "steps: [{method: magnitude, sparsity: 0.5}]\ncalibration: {samples: 4, length: 16}";
        assertThatThrownBy(() -> run(backend, recipe, 180_000, folder.resolve("none-" + backend)))
                .asInstanceOf(InstanceOfAssertFactories.type(DeviceException.class))
                .matches(e -> e.kind() == DeviceException.Kind.OUT_OF_MEMORY)
                .extracting(Throwable::getMessage, InstanceOfAssertFactories.STRING)
                .contains("take 184320 bytes", "model.layers.0.mlp.", "45056, and", "allows 180000", "allow more");
    }

    @ParameterizedTest
    @MethodSource("names")
    void anOutputLayerThatDoesNotFitIsRefusedBeforeTheWorkToo(String backend) {
        String recipe = "steps: [{method: magnitude, sparsity: 0.5, targets: ['lm_head']}]";
        CompressionRequest request = CompressionRequest.of(model, Recipes.parse(recipe))
                .on(backend, Backend.Options.defaults().withMemory(131_000));
        assertThatThrownBy(() -> Sentei.plan(request).close())
                .asInstanceOf(InstanceOfAssertFactories.type(DeviceException.class))
                .matches(e -> e.kind() == DeviceException.Kind.OUT_OF_MEMORY)
                .extracting(Throwable::getMessage, InstanceOfAssertFactories.STRING)
                .contains("planning", "lm_head.weight, 131072, and", "allows 131000", "leave layers out");
    }

    @ParameterizedTest
    @MethodSource("names")
    void weightsThatDoNotFitInTheMiddleAreNamed(String backend) {
        try (HuggingFaceFolder weights = HuggingFaceFolder.open(model);
                Backend opened =
                        Backends.find(backend).open(Backend.Options.defaults().withMemory(140_000));
                Scope scope = new Scope(opened)) {
            Transformer transformer = Transformer.of(weights.config(), weights);
            assertThatThrownBy(() -> transformer.load(0, scope))
                    .asInstanceOf(InstanceOfAssertFactories.type(DeviceException.class))
                    .matches(e -> e.kind() == DeviceException.Kind.OUT_OF_MEMORY)
                    .extracting(Throwable::getMessage, InstanceOfAssertFactories.STRING)
                    .contains("bringing tensor model.layers.0.mlp.", "45056 bytes as F32", "22528 as BF16")
                    .contains("allow more with --device-memory", "of the 140000 bytes");
        }
    }

    @ParameterizedTest
    @MethodSource("names")
    void batchesThatDoNotFitAreHalvedOnce(String backend) {
        float[] free = lastStates(backend, Long.MAX_VALUE, false);
        assertThat(lastStates(backend, 800_000, true)).isEqualTo(free);
        assertThatThrownBy(() -> lastStates(backend, 500_000, true))
                .asInstanceOf(InstanceOfAssertFactories.type(DeviceException.class))
                .matches(e -> e.kind() == DeviceException.Kind.OUT_OF_MEMORY);
    }

    /** Hidden states of eight sequences of 64 tokens behind the first block. */
    private float[] lastStates(String backend, long memory, boolean halved) {
        int[][] ids = new int[8][64];
        IntStream.range(0, 8 * 64).forEach(i -> ids[i / 64][i % 64] = (i * 37) % 256);
        try (HuggingFaceFolder weights = HuggingFaceFolder.open(model);
                Backend opened =
                        Backends.find(backend).open(Backend.Options.defaults().withMemory(memory));
                Scope scope = new Scope(opened);
                HiddenStates states = new HiddenStates(
                        Transformer.of(weights.config(), weights), List.of(TokenBatch.of(ids)), scope)) {
            Transformer transformer = Transformer.of(weights.config(), weights);
            float[] values = new float[8 * 64 * 64];
            try (Scope block = scope.child()) {
                states.advance(transformer.load(0, block), LinearObserver.NONE);
            }
            states.finish(new HeadWeights(null, null, null), LinearObserver.NONE, (first, rows) -> {
                float[] part = new float[(int) rows.elements()];
                opened.copyOut(rows, MemorySegment.ofArray(part));
                System.arraycopy(part, 0, values, (int) first * 64, part.length);
            });
            assertThat(states.halve()).as("can still be halved").isEqualTo(!halved);
            return values;
        }
    }
}
