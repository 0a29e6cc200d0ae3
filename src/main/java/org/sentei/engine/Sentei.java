package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.HuggingFaceWriter;
import org.sentei.format.OutputFolder;
import org.sentei.format.SafetensorsWriter;
import org.sentei.format.Storage;
import org.sentei.format.SyntheticLlama;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.model.TokenBatch;

/**
 * The façade for embedding: plan a compression and run it, look into a model, measure it.
 *
 * <pre>{@code
 * Recipe recipe = Recipes.load("stade-50");
 * var request = CompressionRequest.of(Path.of("model"), recipe).withCalibration(Path.of("calibration.txt"));
 * try (Plan plan = Sentei.plan(request)) {
 *     Report report = plan.run(Path.of("smaller"), Progress.NONE);
 * }
 * }</pre>
 *
 * <p>Nothing here is global: every call opens what it needs and closes it; a {@link Plan} is closed by the caller. Calls may
 * come from any thread, a virtual one included, and several at once do not disturb each other. Work is done on a platform
 * thread that the call or the plan owns; {@link Progress} is heard there. Interrupting the calling thread cancels like
 * {@link Progress#cancelled}: the call returns when it has cleaned up, and the thread stays interrupted. What is thrown is
 * listed at each method, besides {@link NullPointerException} for an argument that is null and not said to be one.
 */
public final class Sentei {
    private Sentei() {}

    /**
     * Opens backend and model and resolves the recipe, and begins to read the calibration text, of whose faults the plan's
     * first run tells; touches no output. Close the plan when done.
     *
     * @throws org.sentei.kernel.DeviceException when the backend is not available or lacks an op; checked first
     * @throws FormatException when the model cannot be read
     * @throws org.sentei.model.ModelException when its architecture is not supported
     * @throws RecipeException when the recipe does not fit the model
     */
    public static Plan plan(CompressionRequest request) {
        return Plan.of(request);
    }

    /**
     * What a file of statistics holds.
     *
     * @param inputs distinct activations that sites read
     * @param tokens that were seen
     * @param batches that were seen
     * @param total batches of the whole calibration data: a compression needs all of them
     * @param made devices and programs that collected
     */
    public record Collected(int inputs, long tokens, int batches, int total, List<String> made) {
        /** Copies the list. */
        public Collected {
            made = List.copyOf(made);
        }

        /** Whether one device that takes whole batches could get other bits than these did. */
        public boolean mayRoundDifferently() {
            return Statistics.mayRoundDifferently(made);
        }
    }

    /**
     * Merges what {@link Plan#saveStatistics} collected of disjoint shards of one text: in whatever order they are given, the
     * result is byte for byte the same, and that of a single pass once all are there.
     *
     * @param shards one at least
     * @param file a new one, in a folder that exists
     * @throws FormatException when a shard cannot be read, is of something else than the first or overlaps another, or the
     *     file is there already
     * @throws RunException when the file cannot be written
     */
    public static Collected mergeStatistics(List<Path> shards, Path file) {
        checkFree(file);
        Statistics merged = Statistics.read(shards.getFirst());
        for (Path shard : shards.subList(1, shards.size())) {
            merged = merged.merge(Statistics.read(shard), "statistics " + shard);
        }
        merged.write(file);
        return merged.summary();
    }

    /** Refuses a place where no new file can be. */
    static void checkFree(Path file) {
        Path folder = file.toAbsolutePath().normalize().getParent();
        if (folder == null || !Files.isDirectory(folder)) {
            throw new FormatException(
                    "output " + file + " cannot be there, for " + folder + " is no folder: give another place");
        }
        if (Files.exists(file)) {
            throw new FormatException("output " + file + " exists already: remove it or choose another name");
        }
    }

    /**
     * Lists the sites of a model, with their zeros.
     *
     * @param model a Hugging Face folder or an {@code .onnx} file
     * @throws org.sentei.format.FormatException when the model cannot be read
     * @throws org.sentei.model.ModelException when its architecture is not supported
     */
    public static Inspection inspect(Path model) {
        return OwnThread.once("sentei-inspect", Progress.NONE, _ -> {
            try (OpenModel open = OpenModel.open(model, 1)) {
                return Inspection.of(open);
            }
        });
    }

    /**
     * What to measure.
     *
     * @param original the model to hold it against
     * @param data text for decoders; for encoders also a {@code .tsv} with query and answer, or sentence1, sentence2 and
     *     score
     * @param tokenizer a {@code tokenizer.json}; each model's own when empty
     * @param length tokens of a perplexity window; the smaller of 512 and the model's maximum when empty
     */
    public record EvaluationRequest(
            Path model,
            Optional<Path> original,
            Path data,
            Optional<Path> tokenizer,
            Optional<Integer> length,
            String backend,
            Backend.Options options) {}

    /**
     * How far a model's query and key weights move the attention matrices of its original: the error {@code ||P - A|| / ||A||}
     * over all heads and windows of a text, the mean over layers first, then layer by layer. All layers read what the
     * original's read.
     *
     * @param request with an original, and a text; its length is that of windows of attention, 128 when empty
     * @throws RuntimeException as {@link #evaluate}
     */
    public static List<Metric> attentionErrors(EvaluationRequest request, Progress progress) {
        return OwnThread.once("sentei-attention", progress, watched -> {
            Path original = request.original()
                    .orElseThrow(() -> new FormatException("attention errors are those of a model against its original:"
                            + " name that with --against"));
            try (Backend backend = Backends.find(request.backend()).open(request.options());
                    OpenModel model =
                            OpenModel.open(request.model(), request.options().threads());
                    OpenModel dense = OpenModel.open(original, request.options().threads());
                    TextTokenizer tokenizer = dense.tokenizer(request.tokenizer())) {
                TextData data = TextData.read(request.data());
                return AttentionErrors.of(model, dense, tokenizer, data, request.length(), backend, watched);
            }
        });
    }

    /**
     * A measured figure.
     *
     * @param metric perplexity, mrr, top1, spearman or cosine
     * @param original the same of the original, null without one
     */
    public record Metric(String metric, double value, Double original) {}

    /**
     * Measures a model, and the original beside it.
     *
     * @return perplexity for a decoder; for an encoder what the data allow: mrr and top1, or spearman, and with an original
     *     the mean cosine of their vectors
     * @throws org.sentei.kernel.DeviceException when the backend is not available, or fails
     * @throws org.sentei.format.FormatException when model, data or tokenizer cannot be read or do not fit each other
     * @throws org.sentei.model.ModelException when the architecture is not supported
     * @throws RunException when a figure is not finite
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it, or the thread is interrupted
     */
    public static List<Metric> evaluate(EvaluationRequest request, Progress progress) {
        return OwnThread.once("sentei-evaluate", progress, watched -> measure(request, watched));
    }

    private static List<Metric> measure(EvaluationRequest request, Progress progress) {
        try (Backend backend = Backends.find(request.backend()).open(request.options());
                OpenModel model =
                        OpenModel.open(request.model(), request.options().threads());
                TextTokenizer tokenizer = model.tokenizer(request.tokenizer())) {
            Evaluation evaluation = new Evaluation(TextData.read(request.data()), request.length(), backend, progress);
            if (request.original().isEmpty()) {
                return evaluation.alone(model, tokenizer);
            }
            try (OpenModel original = OpenModel.open(
                            request.original().get(), request.options().threads());
                    TextTokenizer own = original.tokenizer(request.tokenizer())) {
                return evaluation.compare(evaluation.measure(model, tokenizer), evaluation.measure(original, own));
            }
        }
    }

    /**
     * Runs a model once and writes what comes out, for checking against other tools: tensor {@code output} with the logits of
     * a decoder or the last hidden states of an encoder; the outputs of an ONNX graph under their own names. All F32.
     *
     * @param inputIds one row a sequence, all of one length
     * @param attentionMask 1 for tokens and 0 for padding; null when nothing is padded
     * @param output the safetensors file to write
     * @param backend name of a backend, or {@link Backends#AUTO}
     * @throws org.sentei.kernel.DeviceException when the backend is not available, or fails
     * @throws org.sentei.format.FormatException when the model cannot be read
     * @throws org.sentei.model.ModelException when its architecture is not supported, or the ids do not fit it
     * @throws RunException when the output cannot be written
     */
    public static void forward(
            Path model, int[][] inputIds, int[][] attentionMask, Path output, String backend, Backend.Options options) {
        Path folder = output.toAbsolutePath().normalize().getParent();
        if (folder == null || !Files.isDirectory(folder)) {
            throw new FormatException(
                    "output " + output + " cannot be there, for " + folder + " is no folder: give another place");
        }
        OwnThread.once("sentei-forward", Progress.NONE, _ -> {
            try (Backend device = Backends.find(backend).open(options);
                    OpenModel open = OpenModel.open(model, options.threads());
                    Arena arena = Arena.ofConfined()) {
                TokenBatch batch = TokenBatch.of(inputIds, attentionMask);
                SafetensorsWriter.write(output, open.forward(batch, device, arena));
                return null;
            } catch (IOException e) {
                throw new RunException(
                        "the output " + output + " cannot be written: " + e.getMessage() + "; choose another place", e);
            }
        });
    }

    /**
     * What {@link #unpack} did.
     *
     * @param tensors weights that were in bitmask storage
     * @param bytesBefore size of the weight files as they were
     * @param bytesAfter size of the dense ones
     */
    public record Unpacked(int tensors, long bytesBefore, long bytesAfter) {}

    /**
     * Writes a folder in bitmask storage as the dense one that it stands for: byte for byte what {@code storage: dense} would
     * have written; files other than weights are copied.
     *
     * @param folder a Hugging Face folder
     * @param output absent or empty; nothing appears there unless everything went well
     * @throws FormatException when the folder cannot be read, or nothing in it is packed
     * @throws RunException when the output cannot be written
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it, or the thread is interrupted
     */
    public static Unpacked unpack(Path folder, Path output, Progress progress) {
        return OwnThread.once("sentei-unpack", progress, watched -> writeDense(folder, output, watched));
    }

    private static Unpacked writeDense(Path folder, Path output, Progress progress) {
        try (HuggingFaceFolder packed = HuggingFaceFolder.open(folder)) {
            int tensors = packed.packed().tensors();
            if (tensors == 0) {
                throw new FormatException(
                        "model " + folder + " is stored dense already: there is nothing to unpack, use it as it is");
            }
            long total = packed.denseBytes();
            try (OutputFolder dense = OutputFolder.create(output)) {
                HuggingFaceWriter.write(
                        packed,
                        List.of(),
                        Map.of(),
                        Storage.DENSE,
                        dense,
                        written -> progress.checkpoint("unpacking", written, total));
                dense.commit();
            }
            return new Unpacked(tensors, packed.bytes(), total);
        } catch (IOException e) {
            throw new RunException(
                    "the output " + output + " cannot be written: " + e.getMessage()
                            + "; make room or choose another place",
                    e);
        }
    }

    /**
     * Writes a synthetic checkpoint: random weights in the shape of a Llama model, to measure speed and memory on.
     *
     * @param output absent or empty; nothing appears there unless everything went well
     * @throws FormatException when the output is not free
     * @throws RunException when it cannot be written
     * @throws java.util.concurrent.CancellationException when {@code progress} asks for it, or the thread is interrupted
     */
    public static void synthesize(SyntheticLlama shape, long seed, Path output, Progress progress) {
        OwnThread.once("sentei-synthesize", progress, watched -> {
            try {
                shape.write(output, seed, written -> watched.checkpoint("writing", written, shape.bytes()));
                return null;
            } catch (IOException e) {
                throw new RunException(
                        "the output " + output + " cannot be written: " + e.getMessage()
                                + "; make room or choose another place",
                        e);
            }
        });
    }
}
