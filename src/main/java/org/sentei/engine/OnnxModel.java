package org.sentei.engine;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.format.OutputFolder;
import org.sentei.format.Storage;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Op;
import org.sentei.kernel.Scope;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.TokenBatch;
import org.sentei.model.onnx.OnnxEncoder;
import org.sentei.model.onnx.OnnxRuntimeLibrary;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Tensor;

/** An ONNX graph that takes tokens, run by ONNX Runtime. */
final class OnnxModel implements OpenModel {
    private static final int BATCH_WINDOWS = 16;
    private static final int LONGEST = 512;
    /** Tokens of a batch whose inputs of all sites are held at once: few enough for caches. */
    private static final int CALIBRATION_TOKENS = 1024;

    private final OnnxFile file;
    private final int threads;

    private OnnxModel(OnnxFile file, int threads) {
        this.file = file;
        this.threads = threads;
    }

    static OnnxModel open(Path path, int threads) {
        return new OnnxModel(OnnxFile.open(path), threads);
    }

    @Override
    public Path path() {
        return file.path();
    }

    @Override
    public String architecture() {
        return "onnx";
    }

    @Override
    public long parameters() {
        return file.parameters();
    }

    @Override
    public long bytes() {
        return file.bytes();
    }

    @Override
    public String sha256() {
        return file.sha256();
    }

    /** ONNX Runtime does not promise the same bits for any number of threads. */
    @Override
    public Map<String, String> traits(boolean running) {
        return running
                ? Map.of("graph_runtime", "onnxruntime " + OnnxRuntimeLibrary.version() + ", " + threads + " threads")
                : Map.of();
    }

    @Override
    public TensorSource tensors() {
        return file;
    }

    @Override
    public List<Site> sites() {
        return file.sites();
    }

    @Override
    public List<AttentionPair> attentions() {
        return file.attentions();
    }

    @Override
    public boolean sequentialByDefault() {
        return false;
    }

    @Override
    public boolean biasPossible(Site site) {
        return file.takesBias(site);
    }

    @Override
    public boolean takesImages() {
        return GraphSamples.takesImages(file.layers());
    }

    @Override
    public void checkEasier(Easier step) {
        EasierRun.check(step, file.layers());
    }

    @Override
    public void checkQuantizing(Recipe.Quantizing step) {
        QuantizationRun.check(step, file.layers());
    }

    @Override
    public int maximumLength() {
        return LONGEST;
    }

    @Override
    public int calibrationTokens() {
        return CALIBRATION_TOKENS;
    }

    @Override
    public boolean isEncoder() {
        return true;
    }

    @Override
    public Path defaultTokenizer() {
        List<Path> candidates = tokenizers();
        return candidates.stream()
                .filter(Files::exists)
                .findFirst()
                .orElseThrow(
                        () -> new FormatException("model " + path() + " has no tokenizer: name one with --tokenizer,"
                                + " or put it at " + candidates.get(0) + " or " + candidates.get(1)));
    }

    private List<Path> tokenizers() {
        String stem = path().getFileName().toString().replaceFirst("\\.onnx$", "");
        return List.of(path().resolveSibling("tokenizer.json"), path().resolveSibling(stem + "-tokenizer.json"));
    }

    @Override
    public Optional<Report.Binding> graphRuntime() {
        OnnxRuntimeLibrary.require();
        return Optional.of(new Report.Binding("onnx_graph", "onnxruntime", "CPU"));
    }

    @Override
    public Set<Class<? extends Op>> ops() {
        return Set.of();
    }

    @Override
    public List<List<Site>> groups(List<Site> targeted, boolean sequential) {
        return sequential ? StillWalk.byBlock(targeted) : List.of(targeted);
    }

    @Override
    public List<List<Site>> held(List<Site> targeted, boolean sequential, boolean running) {
        return groups(targeted, sequential);
    }

    @Override
    public Walk walk(List<Site> targeted, Supplier<Calibration> calibration, boolean sequential, Scope scope) {
        return new OnnxWalk(file, threads, targeted, calibration, sequential, scope);
    }

    @Override
    public List<Tensor> forward(TokenBatch batch, Backend backend, Arena arena) {
        try (OnnxSession session = session(arena)) {
            List<String> outputs =
                    session.outputs().stream().map(OnnxSession.Port::name).toList();
            return session.run(new OnnxEncoder(session).feed(batch), outputs).values().stream()
                    .map(OnnxModel::toFloat)
                    .toList();
        }
    }

    private OnnxSession session(Arena arena) {
        OnnxRuntimeLibrary.require();
        return OnnxSession.open(file.tapped(List.of(), List.of(), arena), threads);
    }

    private static Tensor toFloat(Tensor tensor) {
        if (!tensor.dtype().isFloating()) {
            throw new ModelException("output " + tensor.name() + " is " + tensor.dtype() + ", no floating numbers");
        }
        return new Tensor(tensor.name(), DType.F32, tensor.shape(), MemorySegment.ofArray(Floats.toArray(tensor)));
    }

    /** Mean of the first output over the text's tokens; one that has a row a text is taken as it is. */
    @Override
    public void embed(List<int[]> texts, Scope scope, Consumer<float[]> consumer) {
        try (Arena arena = Arena.ofConfined();
                OnnxSession session = session(arena)) {
            String output = session.outputs().getFirst().name();
            new OnnxEncoder(session).run(texts, BATCH_WINDOWS, List.of(output), batch -> {
                Tensor rows = batch.rows().get(output);
                int width = Math.toIntExact(rows.shape().dimension(1));
                boolean pooled = rows.shape().dimension(0) == batch.lengths().size();
                long next = 0;
                for (int length : batch.lengths()) {
                    int tokens = pooled ? 1 : length;
                    double[] mean = new double[width];
                    for (long i = 0; i < (long) tokens * width; i++) {
                        mean[(int) (i % width)] += Floats.get(rows.dtype(), rows.data(), next * width + i) / tokens;
                    }
                    next += tokens;
                    consumer.accept(Embeddings.unit(mean));
                }
            });
        }
    }

    /** Every place does, but what will be copied there must be the model's own. */
    @Override
    public void checkOutput(OutputFolder output) {
        companions().forEach(file::beside);
    }

    /** Names of the files that go with a model. */
    private List<String> companions() {
        return Stream.concat(
                        tokenizers().stream()
                                .map(tokenizer -> tokenizer.getFileName().toString()),
                        Stream.of("tokenizer_config.json", "config.json", "vocab.txt"))
                .toList();
    }

    @Override
    public void checkStorage(Storage storage) {
        if (storage != Storage.DENSE) {
            throw new RecipeException("storage: " + storage.key() + " is for Hugging Face folders, but " + path()
                    + " is an ONNX graph, whose runtimes read no packed weights; use storage: dense");
        }
    }

    @Override
    public Report.Storage storage() {
        return new Report.Storage(Storage.DENSE.key(), 0, 0, 0, bytes(), Readers.ofGraph());
    }

    @Override
    public List<String> write(OutputFolder output, List<Edit> edits, Storage storage) throws IOException {
        try {
            file.write(output.path().resolve(path().getFileName()), edits);
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
        for (String name : companions()) {
            Optional<Path> companion = file.beside(name);
            if (companion.isPresent()) {
                Files.copy(companion.get(), output.path().resolve(name));
            }
        }
        return List.of();
    }

    @Override
    public void close() {
        file.close();
    }
}
