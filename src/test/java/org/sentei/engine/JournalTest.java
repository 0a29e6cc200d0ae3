package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CancellationException;
import java.util.function.Consumer;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.ModelZoo;
import org.sentei.format.Safetensors;
import org.sentei.format.SafetensorsWriter;
import org.sentei.format.Sha256;
import org.sentei.format.SyntheticLlama;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceInfo;
import org.sentei.model.ModelException;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/** An interrupted run goes on where it stopped, with the same result; whatever is not its own journal is refused. */
class JournalTest {
    private static final String MODEL = "llama-gqa-tied";
    private static final String WANDA =
            "steps: [{method: wanda, sparsity: 0.5}]\ncalibration: {samples: 4, length: 16}\n";

    @TempDir
    private Path folder;

    private Path output;
    private Path text;
    private Path tokenizer;

    @BeforeEach
    void prepare() throws IOException {
        output = Files.createDirectory(folder.resolve("outputs")).resolve("out");
        text = Runs.words(folder, 400);
        tokenizer = Runs.wordTokenizer(folder);
    }

    private CompressionRequest request(Path model, String recipe) {
        return CompressionRequest.of(model, Recipes.parse(recipe))
                .withCalibration(text)
                .withTokenizer(tokenizer)
                .on("reference", Backend.Options.defaults());
    }

    private static Report run(CompressionRequest request, Path output, Journaling journaling, Progress progress) {
        try (Plan plan = Sentei.plan(request)) {
            return plan.run(output, journaling, progress);
        }
    }

    /** Wants to stop as soon as so many groups are in the journal, and remembers what it was told. */
    private static final class Stop implements Progress {
        private final int behind;
        private final List<String> stages = new ArrayList<>();
        private int resumed = -1;
        private int journaled;

        Stop(int behind) {
            this.behind = behind;
        }

        @Override
        public void advanced(String stage, long done, long total) {
            assertThat(done).as(stage).isBetween(0L, total);
            stages.add(stage);
        }

        @Override
        public void resumed(int groups) {
            resumed = groups;
        }

        @Override
        public void journaled(int groups) {
            assertThat(groups).isEqualTo(Math.max(journaled, resumed) + 1);
            journaled = groups;
        }

        @Override
        public boolean cancelled() {
            return journaled >= behind;
        }
    }

    private static Stop never() {
        return new Stop(Integer.MAX_VALUE);
    }

    /** Starts a run and stops it behind so many groups. */
    private Path interrupted(CompressionRequest request, int groups) {
        assertThatThrownBy(() -> run(request, output, Journaling.ON, new Stop(groups)))
                .isInstanceOf(CancellationException.class)
                .hasNoSuppressedExceptions();
        Path partial = output.resolveSibling(".out.partial");
        assertThat(output).doesNotExist();
        assertThat(Runs.files(partial)).hasSize(groups + 1).contains("lock", "journal/group-0000.safetensors");
        return partial;
    }

    private static String withoutTimes(Path output) throws IOException {
        return Files.readString(output.resolve("report.json")).replaceAll("\"(seconds|started)\" : [^,\n]*", "");
    }

    private static void assertSame(Path expected, Path actual) throws IOException {
        assertThat(Runs.files(actual)).isEqualTo(Runs.files(expected)).contains("report.json");
        for (String file : Runs.files(expected)) {
            if (!file.startsWith("report.")) {
                assertThat(Files.mismatch(expected.resolve(file), actual.resolve(file)))
                        .as(file)
                        .isEqualTo(-1);
            }
        }
        assertThat(withoutTimes(actual)).isEqualTo(withoutTimes(expected));
        assertThat(actual.resolveSibling("." + actual.getFileName() + ".partial"))
                .doesNotExist();
    }

    // ---- going on

    /** Sums over halved batches are rounded in another order, so they must stay halved where there is memory again. */
    @Test
    void batchesThatMemoryHalvedStayHalvedWhereTheRunGoesOnWithMore() throws IOException {
        Path model = folder.resolve("synthetic");
        SyntheticLlama.TINY.write(model, 1, _ -> {});
        CompressionRequest free = Runs.request(model, """
                steps: [{method: stade, sparsity: 0.5, targets: ['*q_proj']}]
                calibration: {samples: 64, length: 64}
                """).on("cpu", Backend.Options.defaults());
        CompressionRequest tight = free.on("cpu", Backend.Options.defaults().withMemory(5_000_000));
        Path undisturbed = folder.resolve("undisturbed");
        Stop whole = never();
        assertThat(run(tight, undisturbed, Journaling.ON, whole).warnings())
                .anySatisfy(warning -> assertThat(warning).contains("half a batch"));
        for (int done = 1; done <= whole.journaled; done++) {
            interrupted(tight, done);
            run(free, output, Journaling.RESUME, never());
            assertSame(undisturbed, output);
            output = folder.resolve("more-" + done).resolve("out");
        }
    }

    private void assertGoesOnBehindEveryGroup(CompressionRequest request, int groups) throws IOException {
        Path undisturbed = folder.resolve("undisturbed");
        Stop whole = never();
        run(request, undisturbed, Journaling.ON, whole);
        assertThat(whole.journaled).isEqualTo(groups);
        for (int done = 1; done <= groups; done++) {
            interrupted(request, done);
            Stop progress = never();
            run(request, output, Journaling.RESUME, progress);
            assertThat(progress.resumed).isEqualTo(done);
            assertThat(progress.journaled).isEqualTo(done == groups ? 0 : groups);
            assertSame(undisturbed, output);
            output = folder.resolve("outputs-" + done).resolve("out");
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "llama-gqa-tied | 2 | steps: [{method: wanda, sparsity: 0.5}]",
                "llama-gqa-tied | 2 | steps: [{method: stade, sparsity: 0.5, bias: paper}]",
                "llama-gqa-tied | 2 | steps: [{method: stade, variant: policy, sparsity: 0.4, scope: global}]",
                "qwen2-bias | 3 | steps: [{method: wanda, sparsity: 0.3, scope: layer, targets: ['*']}]",
                "opt | 2 | steps: [{method: stade, sparsity: 0.5, bias: auto}]",
                "gpt2 | 2 | steps: [{method: wanda, pattern: '2:4', targets: ['*.1.*']}]",
                "bert | 2 | steps: [{method: magnitude, sparsity: 0.5}]",
                "llama-gqa-tied | 2 | steps: [{method: sparsegpt, sparsity: 0.5}]",
                "gpt2 | 2 | steps: [{method: sparsegpt, pattern: '2:4'}]"
            })
    void aRunGoesOnBehindEveryGroup(String model, int groups, String steps) throws IOException {
        String calibration = "\ncalibration: {samples: 4, length: 16}\n";
        assertGoesOnBehindEveryGroup(request(Runs.model(model), steps + calibration), groups);
    }

    @Test
    void aRunThatIsNotSequentialGoesOnToo() throws IOException {
        String recipe = WANDA.replace("length: 16", "length: 16, sequential: false");
        assertGoesOnBehindEveryGroup(request(Runs.model(MODEL), recipe), 2);
    }

    @Test
    void aRunWithoutDataGoesOnToo() throws IOException {
        CompressionRequest request = CompressionRequest.of(
                Runs.model(MODEL), Recipes.parse("steps: [{method: magnitude, sparsity: 0.5, scope: global}]"));
        assertGoesOnBehindEveryGroup(request.on("reference", Backend.Options.defaults()), 2);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void aRunOfAnOnnxGraphGoesOnToo(boolean sequential) throws IOException {
        assertGoesOnBehindEveryGroup(
                Runs.request(ModelZoo.configured().locate("all-minilm-l6-v2"), """
                        steps: [{method: stade, targets: ["encoder.layer.0.attention.*", "encoder.layer.1.attention.*"], sparsity: 0.5}]
                        calibration: {samples: 4, length: 16, sequential: %s}
                        """.formatted(sequential)),
                sequential ? 2 : 1);
    }

    @Test
    void aRunIsInterruptedMoreThanOnceAndTheReportSaysWhenItStarted() throws IOException {
        CompressionRequest request = request(Runs.model("qwen2-bias"), WANDA.replace("0.5", "0.5, targets: ['*']"))
                .withData(text);
        Path undisturbed = folder.resolve("undisturbed");
        run(request, undisturbed, Journaling.OFF, Progress.NONE);
        Instant before = Instant.now();
        interrupted(request, 1);
        Instant after = Instant.now();
        for (int done = 2; done <= 3; done++) {
            int behind = done;
            assertThatThrownBy(() -> run(request, output, Journaling.RESUME, new Stop(behind)))
                    .isInstanceOf(CancellationException.class);
        }
        Report report = run(request, output, Journaling.RESUME, Progress.NONE);
        assertSame(undisturbed, output);
        assertThat(report.started()).isBetween(before, after);
        assertThat(report.quality()).hasSize(1);
        double sites =
                report.sites().stream().mapToDouble(Report.SiteResult::seconds).sum();
        assertThat(report.seconds()).isGreaterThan(sites);
    }

    @Test
    void nothingToResumeMeansTheBeginning() throws IOException {
        Path undisturbed = folder.resolve("undisturbed");
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        run(request, undisturbed, Journaling.OFF, Progress.NONE);
        // what a kill in the middle of the first entry and of the output leaves
        Path partial = Files.createDirectories(output.resolveSibling(".out.partial"));
        Files.createDirectories(partial.resolve("output/sub"));
        Files.writeString(partial.resolve("output/model.safetensors"), "torn");
        Files.createDirectories(partial.resolve("journal"));
        Files.writeString(partial.resolve("journal/.group-0000.safetensors.1234.tmp"), "torn");
        Stop progress = never();
        run(request, output, Journaling.RESUME, progress);
        assertThat(progress.resumed).isZero();
        assertSame(undisturbed, output);
    }

    // ---- what stays and what goes

    @Test
    void aRunThatIsStoppedBeforeItsFirstGroupLeavesNothing() {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        assertThatThrownBy(() -> run(request, output, Journaling.ON, new Stop(0)))
                .isInstanceOf(CancellationException.class);
        assertThat(output.getParent()).isEmptyDirectory();
    }

    @Test
    void withoutJournalingNothingIsLeft() {
        List<Integer> told = new ArrayList<>();
        Progress progress = new Progress() {
            private int groups;

            @Override
            public void advanced(String stage, long done, long total) {
                groups += stage.endsWith("done") ? 1 : 0;
            }

            @Override
            public void journaled(int count) {
                told.add(count);
            }

            @Override
            public boolean cancelled() {
                return groups > 0;
            }
        };
        assertThatThrownBy(() -> run(request(Runs.model(MODEL), WANDA), output, Journaling.OFF, progress))
                .isInstanceOf(CancellationException.class);
        assertThat(output.getParent()).isEmptyDirectory();
        assertThat(told).isEmpty();
    }

    @Test
    void remainsAreRefusedUntilSomebodyResumes() {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        Path partial = interrupted(request, 1);
        List<String> files = Runs.files(partial);
        for (Journaling journaling : List.of(Journaling.OFF, Journaling.ON)) {
            assertThatThrownBy(() -> run(request, output, journaling, Progress.NONE))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContainingAll(partial.toString(), "--resume", "remove");
        }
        assertThat(Runs.files(partial)).isEqualTo(files);
    }

    @Test
    void aFinishedFolderIsNotResumed() {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        run(request, output, Journaling.RESUME, Progress.NONE);
        assertThatThrownBy(() -> run(request, output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContainingAll(output.toString(), "is not empty");
    }

    /** A copy of the model in which one value of its second block is another. */
    private Path broken(String tensor, float value) throws IOException {
        Path copy = copy();
        Path weights = copy.resolve("model.safetensors");
        ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(weights)).order(ByteOrder.LITTLE_ENDIAN);
        int header = Math.toIntExact(bytes.getLong(0));
        JsonNode entry = new ObjectMapper()
                .readTree(new String(bytes.array(), 8, header, StandardCharsets.UTF_8))
                .get(tensor);
        bytes.putFloat(8 + header + entry.get("data_offsets").get(0).intValue(), value);
        Files.write(weights, bytes.array());
        return copy;
    }

    private Path copy() throws IOException {
        Path copy = Files.createDirectory(folder.resolve("copy"));
        try (Stream<Path> files = Files.list(Runs.model(MODEL))) {
            for (Path file : files.toList()) {
                Files.copy(file, copy.resolve(file.getFileName()));
            }
        }
        return copy;
    }

    @Test
    void numbersThatAreNotFiniteLeaveTheGroupsBeforeThem() throws IOException {
        CompressionRequest request = request(broken("model.layers.1.post_attention_layernorm.weight", 3e38f), WANDA);
        Stop progress = never();
        assertThatThrownBy(() -> run(request, output, Journaling.ON, progress)).isInstanceOf(RunException.class);
        assertThat(progress.journaled).isEqualTo(1);
        assertThat(output.resolveSibling(".out.partial/journal/group-0000.safetensors"))
                .exists();
        assertThatThrownBy(() -> run(request, output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(RunException.class);
        assertThat(output.resolveSibling(".out.partial/journal/group-0000.safetensors"))
                .exists();
    }

    /** A damaged model is the caller's mistake: nothing of the run stays, but what was there before it does. */
    @Test
    void wrongInputLeavesOnlyWhatWasThereBefore() throws IOException {
        CompressionRequest request = request(broken("model.layers.1.mlp.up_proj.weight", Float.NaN), WANDA);
        Stop progress = never();
        assertThatThrownBy(() -> run(request, output, Journaling.ON, progress)).isInstanceOf(ModelException.class);
        assertThat(progress.journaled).isEqualTo(1);
        assertThat(output.getParent()).isEmptyDirectory();
        Path partial = interrupted(request, 1);
        List<String> files = Runs.files(partial);
        assertThatThrownBy(() -> run(request, output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(ModelException.class);
        assertThat(Runs.files(partial)).isEqualTo(files);
    }

    @Test
    void twoRunsDoNotWriteToOneFolder() throws IOException {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        List<Throwable> refusals = new ArrayList<>();
        run(request, output, Journaling.ON, (stage, done, total) -> {
            for (Journaling journaling : Journaling.values()) {
                refusals.add(catchThrowableOfType(
                        FormatException.class, () -> run(request, output, journaling, Progress.NONE)));
            }
        });
        assertThat(refusals)
                .isNotEmpty()
                .allSatisfy(refusal -> assertThat(refusal)
                        .hasMessageContainingAll("another run writes to", output.toString(), "wait"));
        assertThat(output.resolve("report.json")).exists();
    }

    // ---- journals of other runs

    private void assertForeign(CompressionRequest begun, CompressionRequest resumed, String... parts) {
        Path partial = interrupted(begun, 1);
        List<String> files = Runs.files(partial);
        Stop progress = never();
        assertThatThrownBy(() -> run(resumed, output, Journaling.RESUME, progress))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("is the journal of another run")
                .hasMessageContainingAll(parts)
                .hasMessageContaining("remove " + partial);
        assertThat(progress.stages).isEmpty();
        assertThat(Runs.files(partial)).isEqualTo(files);
        run(begun, output, Journaling.RESUME, Progress.NONE);
        assertThat(output.resolve("report.json")).exists();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "recipe.seed was 0 there and is 5 here | calibration: | seed: 5; calibration:",
                "recipe.steps was | sparsity: 0.5 | sparsity: 0.6",
                "recipe.steps was | sparsity: 0.5 | 'sparsity: 0.5, ignore: [''*.q_proj'']'",
                "recipe.calibration was Calibration[samples=4 | samples: 4 | samples: 5",
                "recipe.quality was | calibration: | quality: {max_perplexity_increase: 9}; calibration:"
            })
    void anotherRecipeIsRefused(String part, String old, String changed) {
        CompressionRequest begun = request(Runs.model(MODEL), WANDA).withData(text);
        CompressionRequest other = request(Runs.model(MODEL), WANDA.replace(old, changed.replace("; ", "\n")))
                .withData(text);
        assertForeign(begun, other, part);
    }

    @Test
    void otherDataAreRefused() throws IOException {
        Path more = Files.writeString(folder.resolve("more.txt"), Files.readString(text) + " w1");
        CompressionRequest begun = request(Runs.model(MODEL), WANDA).withData(text);
        String hash = new Sha256().add(text).hex();
        String other = new Sha256().add(more).hex();
        assertForeign(begun, begun.withCalibration(more), "calibration was " + hash, other);
        output = folder.resolve("two/out");
        assertForeign(begun, begun.withData(more), "data was " + hash, other);
        output = folder.resolve("three/out");
        assertForeign(request(Runs.model(MODEL), WANDA), begun, "data was nothing there and is " + hash);
    }

    @Test
    void anotherTokenizerIsRefused() throws IOException {
        CompressionRequest begun = request(Runs.model(MODEL), WANDA);
        Path other = Files.writeString(folder.resolve("other.json"), Files.readString(tokenizer) + "\n");
        assertForeign(begun, begun.withTokenizer(other), "tokenizer was");
    }

    @Test
    void anotherBackendIsRefused() {
        CompressionRequest begun = request(Runs.model(MODEL), WANDA);
        assertForeign(
                begun, begun.on("cpu", Backend.Options.defaults()), "backend was reference there and is cpu here");
    }

    @Test
    void theNumberOfThreadsIsNoDifference() throws IOException {
        CompressionRequest begun = request(Runs.model(MODEL), WANDA).on("cpu", new Backend.Options(0, 1));
        Path undisturbed = folder.resolve("undisturbed");
        run(begun, undisturbed, Journaling.OFF, Progress.NONE);
        interrupted(begun, 1);
        run(begun.on("cpu", new Backend.Options(0, 2)), output, Journaling.RESUME, Progress.NONE);
        assertSame(undisturbed, output);
    }

    @Test
    void anotherModelIsRefused() throws IOException {
        Path copy = copy();
        CompressionRequest begun = request(copy, WANDA);
        Path partial = interrupted(begun, 1);
        Path config = copy.resolve("config.json");
        String original = Files.readString(config);
        Files.writeString(config, original + "\n");
        assertThatThrownBy(() -> run(begun, output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("model.config was");
        Files.writeString(config, original);
        byte[] weights = Files.readAllBytes(copy.resolve("model.safetensors"));
        weights[weights.length - 1] ^= 1;
        Files.write(copy.resolve("model.safetensors"), weights);
        assertThatThrownBy(() -> run(begun, output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("model.weights was");
        assertThat(partial).exists();
    }

    @Test
    void versionDeviceAndDriverCount() {
        DeviceInfo device = new DeviceInfo("cpu", "device", "driver", 1, "avx2");
        Fingerprint one = Fingerprint.of(Map.of(), Recipes.parse(WANDA), device);
        assertThat(one.fields()).containsEntry("sentei", Version.current());
        record Case(DeviceInfo device, String fact) {}
        for (Case other : List.of(
                new Case(
                        new DeviceInfo("cpu", "other", "driver", 1, "avx2"),
                        "backend.device was other there and is device here"),
                new Case(
                        new DeviceInfo("cpu", "device", "other", 1, "avx2"),
                        "backend.driver was other there and is driver here"),
                new Case(
                        new DeviceInfo("cpu", "device", "driver", 1, "scalar"),
                        "backend.isa was scalar there and is avx2 here"))) {
            assertThat(one.difference(Fingerprint.of(Map.of(), Recipes.parse(WANDA), other.device())))
                    .contains(other.fact());
        }
        assertThat(one.difference(Fingerprint.of(
                        Map.of(), Recipes.parse(WANDA), new DeviceInfo("cpu", "device", "driver", 2, "avx2"))))
                .isEmpty();
    }

    // ---- damaged journals

    private void assertDamaged(CompressionRequest request, String... parts) {
        List<String> files = Runs.files(output.getParent());
        assertThatThrownBy(() -> run(request, output, Journaling.RESUME, Progress.NONE))
                .isExactlyInstanceOf(FormatException.class)
                .hasMessageContainingAll("is damaged", "remove ")
                .hasMessageContainingAll(parts);
        assertThat(Runs.files(output.getParent())).isEqualTo(files);
    }

    @Test
    void anEntryThatLostOrChangedBytesIsAnError() throws IOException {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        Path entry = interrupted(request, 1).resolve("journal/group-0000.safetensors");
        byte[] whole = Files.readAllBytes(entry);
        for (int length : new int[] {0, 7, 100, whole.length / 2, whole.length - 1}) {
            Files.write(entry, Arrays.copyOf(whole, length));
            assertDamaged(request, "group-0000");
        }
        for (int at = 0; at < whole.length; at += 1 + whole.length / 40) {
            byte[] changed = whole.clone();
            changed[at] ^= 4;
            Files.write(entry, changed);
            assertDamaged(request, "group-0000");
        }
        Files.write(entry, whole);
        run(request, output, Journaling.RESUME, Progress.NONE);
    }

    @Test
    void entriesThatAreMissingOrTooManyAreAnError() throws IOException {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        Path journal = interrupted(request, 2).resolve("journal");
        Path first = journal.resolve("group-0000.safetensors");
        Path aside = Files.move(first, folder.resolve("aside"));
        assertDamaged(request, "no group-0000.safetensors");
        Files.copy(journal.resolve("group-0001.safetensors"), first);
        assertDamaged(request, "group-0001", "is decided twice");
        Files.move(aside, first, StandardCopyOption.REPLACE_EXISTING);
        Files.copy(first, journal.resolve("notes.txt"));
        assertDamaged(request, "no group-0002.safetensors");
    }

    @Test
    void somebodyElsesFolderIsNotTouched() throws IOException {
        Path precious =
                Files.createDirectories(output.resolveSibling(".out.partial")).resolve("precious.txt");
        Files.writeString(precious, "kept");
        assertThatThrownBy(() -> run(request(Runs.model(MODEL), WANDA), output, Journaling.RESUME, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContainingAll("precious.txt", "remove");
        assertThat(Runs.files(output.getParent())).containsExactly(".out.partial/precious.txt");
    }

    /** Rewrites an entry, hash included, so that only what it says is wrong. */
    private void forge(Path entry, Consumer<ObjectNode> about, UnaryOperator<Tensor> change) throws IOException {
        ObjectMapper mapper = new ObjectMapper();
        List<Tensor> forged = new ArrayList<>();
        Sha256 hash = new Sha256();
        try (Arena arena = Arena.ofConfined()) {
            Safetensors source = Safetensors.map(entry, arena);
            for (String name : source.names()) {
                Tensor tensor = change.apply(source.tensor(name));
                if (name.equals("sha256")) {
                    continue;
                }
                if (name.equals("about")) {
                    ObjectNode json = (ObjectNode) mapper.readTree(tensor.data().toArray(ValueLayout.JAVA_BYTE));
                    about.accept(json);
                    tensor = bytes(name, mapper.writeValueAsBytes(json));
                }
                hash.add(tensor.name().getBytes(StandardCharsets.UTF_8)).add(tensor.data());
                forged.add(tensor);
            }
            forged.add(bytes("sha256", hash.hex().getBytes(StandardCharsets.US_ASCII)));
            SafetensorsWriter.write(entry, forged);
        }
    }

    private static Tensor bytes(String name, byte[] content) {
        return new Tensor(name, DType.U8, Shape.of(content.length), MemorySegment.ofArray(content));
    }

    @Test
    void anEntryThatLiesIsAnError() throws IOException {
        CompressionRequest request = request(Runs.model(MODEL), WANDA);
        Path entry = interrupted(request, 1).resolve("journal/group-0000.safetensors");
        byte[] whole = Files.readAllBytes(entry);
        List<Consumer<ObjectNode>> lies = List.of(
                about -> about.remove("fingerprint"),
                about -> about.putNull("fingerprint"),
                about -> about.withObject("fingerprint").putNull("sentei"),
                about -> about.put("more", 1),
                about -> about.put("started", "yesterday"),
                about -> about.put("seconds", -1),
                about -> about.put("seconds", "NaN"),
                about -> about.putNull("sites"),
                about -> about.withArray("sites").addNull(),
                about -> about.withArray("sites").add(about.withArray("sites").get(0)),
                about -> site(about).put("site", "model.layers.9.mlp.up_proj"),
                about -> site(about).putNull("site"),
                about -> site(about).put("score", "LUCK"),
                about -> site(about).putNull("zeros"),
                about -> site(about).put("zeros", 1L << 60),
                about -> site(about).put("zeros", 0),
                about -> site(about).put("error", "NaN"),
                about -> site(about).put("seconds", "Infinity"));
        for (Consumer<ObjectNode> lie : lies) {
            Files.write(entry, whole);
            forge(entry, lie, tensor -> tensor);
            assertDamaged(request, "group-0000");
        }
        List<UnaryOperator<Tensor>> changes = List.of(
                mask -> new Tensor("other", mask.dtype(), mask.shape(), mask.data()),
                mask -> new Tensor(mask.name(), DType.F32, mask.shape(), mask.data()),
                mask -> new Tensor(
                        mask.name(), mask.dtype(), Shape.of(mask.shape().elements()), mask.data()),
                mask -> new Tensor(mask.name(), mask.dtype(), mask.shape(), filled(mask)));
        for (UnaryOperator<Tensor> change : changes) {
            Files.write(entry, whole);
            forge(entry, about -> {}, tensor -> tensor.name().equals("mask.0") ? change.apply(tensor) : tensor);
            assertDamaged(request, "group-0000");
        }
        // the groups themselves are known only to the walk
        Files.write(entry, whole);
        forge(entry, about -> about.withArray("sites").remove(6), tensor -> tensor);
        assertThatThrownBy(() -> run(request, output, Journaling.RESUME, Progress.NONE))
                .isExactlyInstanceOf(FormatException.class)
                .hasMessageContaining("other groups of sites");
        assertThat(entry).exists();
    }

    private static ObjectNode site(ObjectNode about) {
        return (ObjectNode) about.withArray("sites").get(0);
    }

    private static MemorySegment filled(Tensor tensor) {
        return MemorySegment.ofArray(new byte[Math.toIntExact(tensor.data().byteSize())])
                .fill((byte) -1);
    }
}
