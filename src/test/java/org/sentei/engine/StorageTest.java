package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Recipes;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.ModelZoo;
import org.sentei.format.SafetensorsWriter;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** Bitmask storage of whole models: small, read like the dense model, and given back byte for byte. */
class StorageTest {
    private static final String MAGNITUDE = "steps: [{method: magnitude, sparsity: 0.5}]\n";
    private static final String STADE = """
            steps: [{method: stade, sparsity: 0.5, bias: auto}]
            calibration: {samples: 4, length: 16}
            """;

    @TempDir
    private Path folder;

    /** Both storages of one compression. */
    private record Both(Path dense, Path packed, Report report) {}

    private Both compress(Path model, String recipe) {
        Path dense = folder.resolve("dense");
        Path packed = folder.resolve("packed");
        Runs.run(request(model, recipe), dense);
        return new Both(dense, packed, Runs.run(request(model, recipe + "storage: bitmask"), packed));
    }

    private static CompressionRequest request(Path model, String recipe) {
        CompressionRequest request = CompressionRequest.of(model, Recipes.parse(recipe));
        return recipe.contains("stade") ? request.withCalibration(Runs.CALIBRATION) : request;
    }

    /** The model in another element type, in one file or in shards. */
    private Path recast(String model, DType dtype, int shards) throws IOException {
        Path target = Files.createDirectory(folder.resolve(model + "-" + dtype + "-" + shards));
        for (String name : Runs.files(Runs.model(model))) {
            if (!name.endsWith(".safetensors")) {
                Files.copy(Runs.model(model).resolve(name), target.resolve(name));
            }
        }
        List<List<Tensor>> parts = new ArrayList<>();
        for (int i = 0; i < shards; i++) {
            parts.add(new ArrayList<>());
        }
        List<String> index = new ArrayList<>();
        try (HuggingFaceFolder source = HuggingFaceFolder.open(Runs.model(model))) {
            for (String name : source.names()) {
                Tensor tensor = source.tensor(name);
                long elements = tensor.shape().elements();
                MemorySegment data = MemorySegment.ofArray(new byte[Math.toIntExact(dtype.bytesFor(elements))]);
                for (long i = 0; i < elements; i++) {
                    Floats.set(dtype, data, i, Floats.get(tensor.dtype(), tensor.data(), i));
                }
                int shard = index.size() % shards;
                parts.get(shard).add(new Tensor(name, dtype, tensor.shape(), data));
                index.add("\"" + name + "\": \"model-" + shard + ".safetensors\"");
            }
        }
        if (shards == 1) {
            SafetensorsWriter.write(target.resolve("model.safetensors"), parts.getFirst());
            return target;
        }
        for (int i = 0; i < shards; i++) {
            SafetensorsWriter.write(target.resolve("model-" + i + ".safetensors"), parts.get(i));
        }
        Files.writeString(
                target.resolve("model.safetensors.index.json"),
                "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" + String.join(",\n", index) + "}}\n");
        return target;
    }

    private static void assertSame(Path one, Path other, String except) throws IOException {
        assertThat(Runs.files(other)).isEqualTo(Runs.files(one));
        for (String file : Runs.files(one)) {
            if (!file.matches(except)) {
                assertThat(Files.mismatch(one.resolve(file), other.resolve(file)))
                        .as(file)
                        .isEqualTo(-1);
            }
        }
    }

    private static final String REPORTS = "report\\..*|recipe\\.yaml";

    @ParameterizedTest
    @CsvSource({
        "austen-llama, BF16, 1, false",
        "austen-opt,   BF16, 1, false",
        "austen-opt,   F16,  1, false",
        "austen-llama, F32,  1, false",
        "austen-llama, F16,  3, true"
    })
    void unpackingGivesWhatDenseStorageWrites(String name, DType dtype, int shards, boolean addsBiases)
            throws IOException {
        Both both = compress(recast(name, dtype, shards), addsBiases ? STADE : MAGNITUDE);
        Path unpacked = folder.resolve("unpacked");

        Sentei.Unpacked said = Sentei.unpack(both.packed(), unpacked, Progress.NONE);

        assertSame(both.dense(), unpacked, REPORTS);
        assertSame(both.packed(), unpacked, ".*\\.safetensors");
        Report.Storage storage = both.report().storage();
        assertThat(storage.format()).isEqualTo("bitmask");
        assertThat(said.tensors()).isEqualTo(storage.packedTensors()).isEqualTo(name.equals("austen-opt") ? 24 : 28);
        assertThat(said.bytesBefore())
                .isEqualTo(weights(both.packed()))
                .isEqualTo(both.report().totals().bytesAfter());
        assertThat(said.bytesAfter()).isEqualTo(weights(both.dense())).isEqualTo(storage.denseBytes());
        // half of the values and one bit an element; every site of these models has whole bytes in a row
        double share = 0.5 + 1.0 / dtype.bits();
        assertThat((double) storage.packedBytes() / storage.packedDenseBytes()).isEqualTo(share);
        long saved = storage.packedDenseBytes() - storage.packedBytes();
        assertThat(said.bytesAfter() - said.bytesBefore()).isBetween(saved - 20_000, saved);
        assertThat(both.report().sites().stream().anyMatch(site -> "added".equals(site.bias())))
                .isEqualTo(addsBiases);
    }

    private static long weights(Path folder) {
        return Runs.files(folder).stream()
                .filter(file -> file.endsWith(".safetensors"))
                .mapToLong(file -> folder.resolve(file).toFile().length())
                .sum();
    }

    @Test
    void aPackedModelIsReadLikeTheDenseOne() throws IOException {
        Both both = compress(Runs.model("austen-opt"), MAGNITUDE);

        Inspection dense = Sentei.inspect(both.dense());
        Inspection packed = Sentei.inspect(both.packed());
        assertThat(packed.sites()).isEqualTo(dense.sites());
        assertThat(packed.totals().zeros()).isEqualTo(both.report().totals().zeros());
        assertThat(packed.totals().bytes()).isLessThan(dense.totals().bytes());
        assertThat(Runs.perplexity(both.packed(), 64)).isEqualTo(Runs.perplexity(both.dense(), 64));
        assertThat(forward(both.packed())).isEqualTo(forward(both.dense()));

        String again = "steps: [{method: magnitude, sparsity: 0.75}]\n";
        Path fromDense = folder.resolve("from-dense");
        Path fromPacked = folder.resolve("from-packed");
        Runs.run(request(both.dense(), again), fromDense);
        Runs.run(request(both.packed(), again), fromPacked);
        assertSame(fromDense, fromPacked, "report\\..*");
    }

    private byte[] forward(Path model) throws IOException {
        Path output = folder.resolve("out.safetensors");
        Sentei.forward(model, new int[][] {{1, 2, 3, 4}}, null, output, Backends.AUTO, Backend.Options.defaults());
        return Files.readAllBytes(output);
    }

    /** Weights in the file's own orientation are packed too: GPT-2 stores inputs x outputs. */
    @Test
    void transposedWeightsComeBack() throws IOException {
        Both both = compress(Runs.model("gpt2"), MAGNITUDE);
        Sentei.unpack(both.packed(), folder.resolve("unpacked"), Progress.NONE);
        assertSame(both.dense(), folder.resolve("unpacked"), REPORTS);
    }

    @Test
    void aModelThatGainsNothingStaysDenseAndSaysSo() {
        Report report = Runs.run(
                request(Runs.model("gpt2"), "steps: [{method: magnitude, sparsity: 0}]\nstorage: bitmask"),
                folder.resolve("out"));
        assertThat(report.storage().format()).isEqualTo("dense");
        assertThat(report.storage().packedTensors()).isZero();
        assertThat(report.warnings()).anySatisfy(warning -> assertThat(warning).contains("stored dense"));
    }

    @Test
    void whatIsNotPackedCannotBeUnpacked() {
        Path output = folder.resolve("out");
        assertThatThrownBy(() -> Sentei.unpack(Runs.model("gpt2"), output, Progress.NONE))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("stored dense already");
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void unpackingCanBeCancelledAndLeavesNothing() {
        Both both = compress(Runs.model("gpt2"), MAGNITUDE);
        Path output = folder.resolve("out");
        Progress impatient = new Progress() {
            private int heard;

            @Override
            public void advanced(String stage, long done, long total) {
                assertThat(done).isPositive().isLessThanOrEqualTo(total);
                heard++;
            }

            @Override
            public boolean cancelled() {
                return heard > 3;
            }
        };
        assertThatThrownBy(() -> Sentei.unpack(both.packed(), output, impatient))
                .isInstanceOf(CancellationException.class);
        assertThat(folder.toFile().list()).containsExactlyInAnyOrder("dense", "packed");
    }

    @Test
    void anOnnxGraphHasNoPlaceForPackedWeights() {
        CompressionRequest request = CompressionRequest.of(
                ModelZoo.configured().locate("all-minilm-l6-v2"), Recipes.parse(MAGNITUDE + "storage: bitmask"));
        assertThatThrownBy(() -> Sentei.plan(request))
                .isInstanceOf(RecipeException.class)
                .hasMessageContaining("storage: bitmask is for Hugging Face folders")
                .hasMessageContaining("use storage: dense");
    }
}
