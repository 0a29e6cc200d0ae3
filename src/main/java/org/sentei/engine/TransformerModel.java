package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.FormatException;
import org.sentei.format.HuggingFaceFolder;
import org.sentei.format.HuggingFaceWriter;
import org.sentei.format.OutputFolder;
import org.sentei.format.Storage;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Attention;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Cast;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.Op;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.Scope;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.HiddenStates;
import org.sentei.model.LinearObserver;
import org.sentei.model.Site;
import org.sentei.model.TensorSource;
import org.sentei.model.TokenBatch;
import org.sentei.model.Transformer;
import org.sentei.model.TransformerSpec;
import org.sentei.tensor.Tensor;

/** A Hugging Face folder with a transformer, run block by block from ops. */
final class TransformerModel implements OpenModel {
    private static final String TOKENIZER = "tokenizer.json";
    /** Texts that go through a block before the next block is loaded. */
    private static final int TEXTS_AT_ONCE = 256;

    private final HuggingFaceFolder folder;
    private final Transformer transformer;

    private TransformerModel(HuggingFaceFolder folder, Transformer transformer) {
        this.folder = folder;
        this.transformer = transformer;
    }

    static TransformerModel open(Path path) {
        HuggingFaceFolder folder = HuggingFaceFolder.open(path);
        try {
            return new TransformerModel(folder, Transformer.of(folder.config(), folder));
        } catch (RuntimeException e) {
            folder.close();
            throw e;
        }
    }

    Transformer transformer() {
        return transformer;
    }

    @Override
    public Path path() {
        return folder.path();
    }

    @Override
    public String architecture() {
        return transformer.spec().modelType();
    }

    @Override
    public long parameters() {
        return transformer.parameters();
    }

    @Override
    public long bytes() {
        return folder.bytes();
    }

    @Override
    public String sha256() {
        return folder.sha256();
    }

    @Override
    public Map<String, String> traits(boolean running) {
        return Map.of("model.config", folder.configSha256());
    }

    @Override
    public TensorSource tensors() {
        return folder;
    }

    @Override
    public List<Site> sites() {
        return transformer.sites();
    }

    @Override
    public List<AttentionPair> attentions() {
        TransformerSpec spec = transformer.spec();
        List<AttentionPair> pairs = new ArrayList<>();
        for (TransformerSpec.Block block : spec.blocks()) {
            Optional<Site> query = site(block, Site.Role.QUERY);
            Optional<Site> key = site(block, Site.Role.KEY);
            if (query.isPresent() && key.isPresent()) {
                pairs.add(new AttentionPair(
                        query.get(),
                        key.get(),
                        spec.heads(),
                        spec.keyHeads(),
                        spec.headSize(),
                        block.scale(),
                        spec.causal(),
                        block.window()));
            }
        }
        return pairs;
    }

    private static Optional<Site> site(TransformerSpec.Block block, Site.Role role) {
        return block.sites().stream().filter(site -> site.role() == role).findFirst();
    }

    @Override
    public boolean sequentialByDefault() {
        return true;
    }

    @Override
    public boolean biasPossible(Site site) {
        return site.bias() != null || transformer.biasFlag(site).isPresent();
    }

    @Override
    public boolean takesImages() {
        return false;
    }

    @Override
    public void checkEasier(Easier step) {
        throw new RecipeException("easier: " + path()
                + " is a Hugging Face folder, but only ONNX graphs get shallower; export it to ONNX first");
    }

    @Override
    public void checkQuantizing(Recipe.Quantizing step) {
        throw new RecipeException("quantize: " + path()
                + " is a Hugging Face folder, but only ONNX graphs are quantized;" + " export it to ONNX first");
    }

    @Override
    public int maximumLength() {
        return Math.toIntExact(transformer.spec().maximumLength());
    }

    @Override
    public int calibrationTokens() {
        return Calibration.BATCH_TOKENS;
    }

    @Override
    public boolean isEncoder() {
        return transformer.spec().head() == null;
    }

    @Override
    public Path defaultTokenizer() {
        Path file = path().resolve(TOKENIZER);
        if (!Files.exists(file)) {
            throw new FormatException(
                    "model " + path() + " has no " + TOKENIZER + "; put it there or name one with --tokenizer");
        }
        return file;
    }

    @Override
    public Optional<Report.Binding> graphRuntime() {
        return Optional.empty();
    }

    @Override
    public Set<Class<? extends Op>> ops() {
        TransformerSpec spec = transformer.spec();
        return Set.of(
                Cast.class,
                CountValues.class,
                Embedding.class,
                Gemm.class,
                Attention.class,
                Activate.class,
                Rotary.class,
                spec.norm().kind() == TransformerSpec.Norm.Kind.RMS ? RmsNorm.class : LayerNorm.class);
    }

    @Override
    public List<List<Site>> held(List<Site> targeted, boolean sequential, boolean running) {
        if (!running) {
            return groups(targeted, sequential);
        }
        int last = targeted.stream().mapToInt(Site::block).max().orElse(-1);
        boolean withHead = targeted.stream().anyMatch(site -> site.role() == Site.Role.HEAD);
        Stream<List<Site>> blocks = transformer.spec().blocks().stream()
                .limit(withHead ? transformer.blocks() : last + 1)
                .map(TransformerSpec.Block::sites);
        return withHead
                ? Stream.concat(
                                blocks,
                                Stream.of(List.of(transformer.spec().head().site())))
                        .toList()
                : blocks.toList();
    }

    @Override
    public Walk walk(List<Site> targeted, Supplier<Calibration> calibration, boolean sequential, Scope scope) {
        return new TransformerWalk(transformer, folder, targeted, calibration.get(), sequential, scope);
    }

    @Override
    public List<Tensor> forward(TokenBatch batch, Backend backend, Arena arena) {
        return List.of(transformer.forward(batch, backend, arena));
    }

    /** Mean of the last hidden states over the text's tokens. */
    @Override
    public void embed(List<int[]> texts, Scope scope, Consumer<float[]> consumer) {
        for (int first = 0; first < texts.size(); first += TEXTS_AT_ONCE) {
            List<int[]> part = texts.subList(first, Math.min(first + TEXTS_AT_ONCE, texts.size()));
            for (double[] sum : sums(part, scope)) {
                consumer.accept(Embeddings.unit(sum));
            }
        }
    }

    /** Sums of the last hidden states, every text beside others of its length, so that nothing is padded. */
    private List<double[]> sums(List<int[]> texts, Scope parent) {
        int width = Math.toIntExact(transformer.spec().width());
        List<double[]> sums = texts.stream().map(_ -> new double[width]).toList();
        Map<Integer, List<Integer>> byLength = IntStream.range(0, texts.size())
                .boxed()
                .collect(Collectors.groupingBy(text -> texts.get(text).length, TreeMap::new, Collectors.toList()));
        List<TokenBatch> batches = new ArrayList<>();
        List<double[]> sumOfToken = new ArrayList<>();
        byLength.forEach((length, group) -> {
            batches.addAll(Calibration.batches(group.stream().map(texts::get).toList()));
            group.forEach(text -> sumOfToken.addAll(Collections.nCopies(length, sums.get(text))));
        });
        try (Scope scope = parent.child();
                HiddenStates states = new HiddenStates(transformer, batches, scope)) {
            for (int block = 0; block < transformer.blocks(); block++) {
                try (Scope blockScope = scope.child()) {
                    states.advance(transformer.load(block, blockScope), LinearObserver.NONE);
                }
            }
            try (Scope headScope = scope.child()) {
                states.finish(transformer.loadHead(headScope), LinearObserver.NONE, (first, rows) -> {
                    float[] values = new float[Math.toIntExact(rows.elements())];
                    scope.backend().copyOut(rows, MemorySegment.ofArray(values));
                    for (int i = 0; i < values.length; i++) {
                        sumOfToken.get(Math.toIntExact(first + i / width))[i % width] += values[i];
                    }
                });
            }
        }
        return sums;
    }

    @Override
    public void checkOutput(OutputFolder output) throws IOException {
        HuggingFaceWriter.checkApart(folder, output);
    }

    @Override
    public void checkStorage(Storage storage) {
        switch (storage) {
            case DENSE, BITMASK -> {} // safetensors hold both
        }
    }

    @Override
    public Report.Storage storage() {
        HuggingFaceFolder.Packed packed = folder.packed();
        Storage storage = packed.tensors() == 0 ? Storage.DENSE : Storage.BITMASK;
        return new Report.Storage(
                storage.key(),
                packed.tensors(),
                packed.denseBytes(),
                packed.bytes(),
                folder.denseBytes(),
                Readers.ofFolder(storage));
    }

    @Override
    public List<String> write(OutputFolder output, List<Edit> edits, Storage storage) throws IOException {
        Edits.Completed completed = Edits.complete(edits, sites(), transformer::biasFlag);
        Map<String, Boolean> changes =
                completed.flags().stream().collect(Collectors.toMap(Function.identity(), _ -> true));
        return HuggingFaceWriter.write(folder, completed.edits(), changes, storage, output, _ -> {});
    }

    @Override
    public void close() {
        folder.close();
    }
}
