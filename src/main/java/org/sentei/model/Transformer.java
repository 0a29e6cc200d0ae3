package org.sentei.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntUnaryOperator;
import org.sentei.kernel.Activate;
import org.sentei.kernel.Attention;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Embedding;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.LayerNorm;
import org.sentei.kernel.Op;
import org.sentei.kernel.RmsNorm;
import org.sentei.kernel.Rotary;
import org.sentei.kernel.Scope;
import org.sentei.kernel.View;
import org.sentei.model.Site.Role;
import org.sentei.tensor.DType;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * A transformer and its weights: one forward pass for every architecture, built from ops and run block by block, so that
 * the weights of one block are on the device at a time.
 *
 * <p>Hidden states are F32 tokens x width, sequences one below the other. Everything on the device belongs to the scope
 * given; nothing is kept here between calls.
 */
public final class Transformer {
    /** Bytes that the logits of one call may take; sets how many rows are computed at once. */
    private static final long LOGIT_BYTES = 64L << 20;

    /** Tokens that {@link #forward} takes through a block at once. */
    private static final int FORWARD_TOKENS = 4096;

    private final TransformerSpec spec;
    private final TensorSource tensors;
    private final Map<String, Shape> shapes = new LinkedHashMap<>();

    /**
     * A model whose every tensor has been found and fits the specification.
     *
     * @throws ModelException for a tensor that is missing, has another shape or no floating type, and for biases that the
     *     configuration does not know
     */
    public Transformer(TransformerSpec spec, TensorSource tensors) {
        this.spec = spec;
        this.tensors = tensors;
        collectShapes();
        shapes.forEach(this::check);
    }

    /** The model of a configuration and its weights. */
    public static Transformer of(ModelConfig config, TensorSource tensors) {
        return new Transformer(Architectures.read(config, tensors), tensors);
    }

    private void collectShapes() {
        TransformerSpec.Embeddings embeddings = spec.embeddings();
        shapes.put(embeddings.tokens(), Shape.of(embeddings.vocabulary(), embeddings.tableWidth()));
        if (embeddings.projection() != null) {
            shapes.put(embeddings.projection(), Shape.of(spec.width(), embeddings.tableWidth()));
        }
        if (spec.positions() instanceof Positions.Learned learned) {
            shapes.put(learned.table(), Shape.of(learned.entries(), spec.width()));
        }
        if (embeddings.types() != null) {
            shapes.put(embeddings.types(), Shape.of(embeddings.typeCount(), spec.width()));
        }
        collectNorm(embeddings.norm());
        for (TransformerSpec.Block block : spec.blocks()) {
            collectNorm(block.attentionNorm());
            if (block.queryNorm() != null) {
                shapes.put(block.queryNorm() + ".weight", Shape.of(spec.headSize()));
                shapes.put(block.keyNorm() + ".weight", Shape.of(spec.headSize()));
            }
            collectNorm(block.feedForwardNorm());
            block.sites().forEach(this::collectSite);
        }
        collectNorm(spec.finalNorm());
        if (spec.head() != null) {
            if (spec.head().projection() != null) {
                shapes.put(spec.head().projection(), Shape.of(embeddings.tableWidth(), spec.width()));
            }
            collectSite(spec.head().site());
        }
    }

    private void collectNorm(String base) {
        if (base != null) {
            shapes.put(gainName(base), Shape.of(spec.width()));
            if (spec.norm().kind() == TransformerSpec.Norm.Kind.LAYER) {
                shapes.put(biasName(base), Shape.of(spec.width()));
            }
        }
    }

    private void collectSite(Site site) {
        long first = site.transposed() ? site.cols() : site.rows();
        long second = site.transposed() ? site.rows() : site.cols();
        shapes.put(site.weight(), Shape.of(first, second));
        if (site.bias() != null) {
            shapes.put(site.bias(), Shape.of(site.rows()));
        } else if (tensors.contains(site.name() + ".bias")) {
            throw new ModelException("tensor " + site.name() + ".bias is in the file, but the configuration says that"
                    + " the layer has no bias"
                    + biasFlag(site)
                            .map(flag -> "; set \"" + flag + "\" to true")
                            .orElse("; remove the tensor"));
        }
    }

    private void check(String name, Shape expected) {
        Shape shape = tensors.shape(name);
        if (!shape.equals(expected)) {
            throw new ModelException("tensor " + name + " is " + shape + ", but the configuration describes " + expected
                    + "; take weights and config.json from one model");
        }
        if (!tensors.dtype(name).isFloating()) {
            throw new ModelException("tensor " + name + " is " + tensors.dtype(name)
                    + ", which the forward pass cannot read; give the model as F32, F16 or BF16");
        }
    }

    /** Old files call a norm's tensors gamma and beta. */
    private String gainName(String base) {
        return tensors.contains(base + ".gamma") ? base + ".gamma" : base + ".weight";
    }

    private String biasName(String base) {
        return tensors.contains(base + ".beta") ? base + ".beta" : base + ".bias";
    }

    /** What the configuration says. */
    public TransformerSpec spec() {
        return spec;
    }

    /** Number of blocks. */
    public int blocks() {
        return spec.blocks().size();
    }

    /**
     * All linear layers in the order they run, the output layer last. An output layer that is the token table itself is
     * not listed: no method can change it alone.
     */
    public List<Site> sites() {
        List<Site> sites = new ArrayList<>();
        spec.blocks().forEach(block -> sites.addAll(block.sites()));
        if (spec.head() != null && !spec.head().tied()) {
            sites.add(spec.head().site());
        }
        return sites;
    }

    /** Elements of all tensors that the forward pass reads. */
    public long parameters() {
        return shapes.values().stream().mapToLong(Shape::elements).sum();
    }

    /**
     * The configuration key that gives a site, and all sites of its role, a bias; empty when the architecture leaves no
     * choice.
     */
    public Optional<String> biasFlag(Site site) {
        return Optional.ofNullable(spec.biasFlags().get(site.role()));
    }

    /**
     * Checks tokens against the model.
     *
     * @throws ModelException for an id outside the vocabulary or a sequence that is too long
     */
    public void check(TokenBatch batch) {
        if (batch.length() > spec.maximumLength()) {
            throw new ModelException("a sequence of " + batch.length() + " tokens is too long for this model; it takes "
                    + spec.maximumLength() + " at most");
        }
        for (int token = 0; token < batch.tokens(); token++) {
            if (batch.id(token) < 0 || batch.id(token) >= spec.embeddings().vocabulary()) {
                throw new ModelException("token id " + batch.id(token) + " at position " + token % batch.length()
                        + " of sequence " + token / batch.length() + " is outside the vocabulary of "
                        + spec.embeddings().vocabulary() + "; use the tokenizer that belongs to the model");
            }
        }
    }

    /** Rotary angles for sequences of this length, or null for a model without them. */
    public BatchGeometry.Angles angles(int length, Scope scope) {
        if (!(spec.positions() instanceof Positions.Rotary rotary)) {
            return null;
        }
        float[] frequencies = rotary.inverseFrequencies(spec.headSize());
        float[] cosine = new float[Math.multiplyExact(length, frequencies.length)];
        float[] sine = new float[cosine.length];
        for (int position = 0; position < length; position++) {
            for (int pair = 0; pair < frequencies.length; pair++) {
                float angle = frequencies[pair] * position;
                cosine[position * frequencies.length + pair] = (float) Math.cos(angle);
                sine[position * frequencies.length + pair] = (float) Math.sin(angle);
            }
        }
        return new BatchGeometry.Angles(
                upload(cosine, length, frequencies.length, scope), upload(sine, length, frequencies.length, scope));
    }

    /** What the blocks need to know of a batch; {@code angles} are those of its length. */
    public BatchGeometry geometry(TokenBatch batch, BatchGeometry.Angles angles, Scope scope) {
        View visible = null;
        if (batch.hasMask()) {
            visible = upload(token -> batch.visible(token) ? 1 : 0, batch.sequences(), batch.length(), scope);
        }
        return new BatchGeometry(batch.sequences(), batch.length(), visible, angles);
    }

    /**
     * The first hidden states of a batch.
     *
     * @throws ModelException as {@link #check(TokenBatch)}
     */
    public View embed(TokenBatch batch, Scope scope) {
        check(batch);
        TransformerSpec.Embeddings embeddings = spec.embeddings();
        View hidden = scope.matrix(batch.tokens(), spec.width());
        try (Scope scratch = scope.child()) {
            WeightLoader loader = new WeightLoader(scratch);
            if (embeddings.projection() == null) {
                lookUp(embeddings.tokens(), batch::id, hidden, false, loader, scratch);
            } else {
                View narrow = scratch.matrix(batch.tokens(), embeddings.tableWidth());
                lookUp(embeddings.tokens(), batch::id, narrow, false, loader, scratch);
                View projection =
                        loader.matrix(tensors.tensor(embeddings.projection()), spec.width(), embeddings.tableWidth());
                run(scratch, new Gemm(narrow, projection, true, null, hidden, false));
            }
            if (spec.positions() instanceof Positions.Learned learned) {
                int[] rows = positionRows(batch, learned);
                lookUp(learned.table(), token -> rows[token], hidden, true, loader, scratch);
            }
            if (embeddings.types() != null) {
                lookUp(embeddings.types(), token -> 0, hidden, true, loader, scratch);
            }
            if (embeddings.norm() != null) {
                normalize(loadNorm(embeddings.norm(), loader), hidden, hidden, scratch);
            }
            loader.checkFinite();
        }
        return hidden;
    }

    private static int[] positionRows(TokenBatch batch, Positions.Learned learned) {
        int[] rows = new int[batch.tokens()];
        int seen = 0;
        for (int token = 0; token < rows.length; token++) {
            int position = token % batch.length();
            if (learned.followsMask()) {
                seen = (position == 0 ? 0 : seen) + (batch.visible(token) ? 1 : 0);
                position = batch.visible(token) ? seen - 1 : -1;
            }
            rows[token] = position + learned.offset();
        }
        return rows;
    }

    /** Looks rows up in a compact copy of the table that holds only those that occur. */
    private void lookUp(
            String table, IntUnaryOperator rows, View output, boolean accumulate, WeightLoader loader, Scope scratch) {
        Map<Integer, Integer> places = new LinkedHashMap<>();
        int[] ids = new int[Math.toIntExact(output.rows())];
        for (int token = 0; token < ids.length; token++) {
            int next = places.size();
            Integer known = places.putIfAbsent(rows.applyAsInt(token), next);
            ids[token] = known == null ? next : known;
        }
        View entries = loader.rows(tensors.tensor(table), List.copyOf(places.keySet()), output.cols());
        View indices = upload(token -> ids[token], 1, ids.length, scratch);
        run(scratch, new Embedding(entries, indices, output, accumulate));
    }

    /** Names of the tensors that {@link #load} brings, in its order. */
    public List<String> tensors(int index) {
        TransformerSpec.Block block = spec.blocks().get(index);
        List<String> names = new ArrayList<>();
        block.sites().forEach(site -> names.addAll(site.tensors()));
        names.addAll(normTensors(block.attentionNorm()));
        if (block.queryNorm() != null) {
            names.add(block.queryNorm() + ".weight");
            names.add(block.keyNorm() + ".weight");
        }
        names.addAll(normTensors(block.feedForwardNorm()));
        return names;
    }

    /** Names of the tensors that {@link #loadHead} brings. */
    public List<String> headTensors() {
        List<String> names = new ArrayList<>();
        if (spec.finalNorm() != null) {
            names.addAll(normTensors(spec.finalNorm()));
        }
        if (spec.head() != null) {
            if (spec.head().projection() != null) {
                names.add(spec.head().projection());
            }
            names.addAll(spec.head().site().tensors());
        }
        return names;
    }

    private List<String> normTensors(String base) {
        return spec.norm().kind() == TransformerSpec.Norm.Kind.RMS
                ? List.of(gainName(base))
                : List.of(gainName(base), biasName(base));
    }

    /**
     * Brings the weights of a block onto the device.
     *
     * @throws ModelException for a tensor with NaN or infinite values
     */
    public BlockWeights load(int index, Scope scope) {
        return load(index, Uploads.none(), scope);
    }

    /** As above, for tensors some of which are on their way. */
    public BlockWeights load(int index, Uploads uploads, Scope scope) {
        TransformerSpec.Block block = spec.blocks().get(index);
        WeightLoader loader = new WeightLoader(scope, uploads);
        Map<Role, LinearWeights> linears = new EnumMap<>(Role.class);
        for (Site site : block.sites()) {
            linears.put(site.role(), LinearWeights.load(site, tensors, loader));
        }
        BlockWeights weights = new BlockWeights(
                index,
                linears,
                loadNorm(block.attentionNorm(), loader),
                loadHeadNorm(block.queryNorm(), loader),
                loadHeadNorm(block.keyNorm(), loader),
                loadNorm(block.feedForwardNorm(), loader));
        loader.checkFinite();
        return weights;
    }

    /**
     * Brings what follows the last block onto the device.
     *
     * @throws ModelException for a tensor with NaN or infinite values
     */
    public HeadWeights loadHead(Scope scope) {
        return loadHead(Uploads.none(), scope);
    }

    /** As above, for tensors some of which are on their way. */
    public HeadWeights loadHead(Uploads uploads, Scope scope) {
        WeightLoader loader = new WeightLoader(scope, uploads);
        NormWeights norm = spec.finalNorm() == null ? null : loadNorm(spec.finalNorm(), loader);
        View projection = null;
        LinearWeights linear = null;
        if (spec.head() != null) {
            if (spec.head().projection() != null) {
                projection = loader.matrix(
                        tensors.tensor(spec.head().projection()),
                        spec.embeddings().tableWidth(),
                        spec.width());
            }
            linear = LinearWeights.load(spec.head().site(), tensors, loader);
        }
        loader.checkFinite();
        return new HeadWeights(norm, projection, linear);
    }

    private NormWeights loadNorm(String base, WeightLoader loader) {
        return new NormWeights(
                loader.matrix(tensors.tensor(gainName(base)), 1, spec.width()),
                spec.norm().kind() == TransformerSpec.Norm.Kind.RMS
                        ? null
                        : loader.matrix(tensors.tensor(biasName(base)), 1, spec.width()));
    }

    private NormWeights loadHeadNorm(String base, WeightLoader loader) {
        return base == null
                ? null
                : new NormWeights(loader.matrix(tensors.tensor(base + ".weight"), 1, spec.headSize()), null);
    }

    /**
     * Runs one block.
     *
     * @param hidden F32 tokens x width, updated
     * @param scratch owner of a child scope for intermediate results, which are freed before this returns
     * @param observer called before each linear layer
     */
    public void runBlock(
            BlockWeights weights, View hidden, BatchGeometry geometry, Scope scratch, LinearObserver observer) {
        attend(weights, hidden, geometry, scratch, observer);
        feedForward(weights, hidden, scratch, observer);
    }

    private void attend(
            BlockWeights weights, View hidden, BatchGeometry geometry, Scope parent, LinearObserver observer) {
        try (Scope scratch = parent.child()) {
            View input = spec.postNorm() ? hidden : normalized(weights.attentionNorm(), hidden, scratch);
            View query;
            View key;
            View value;
            LinearWeights fused = weights.linear(Role.QUERY_KEY_VALUE);
            if (fused == null) {
                query = apply(weights.linear(Role.QUERY), input, scratch, observer);
                key = apply(weights.linear(Role.KEY), input, scratch, observer);
                value = apply(weights.linear(Role.VALUE), input, scratch, observer);
            } else {
                View all = apply(fused, input, scratch, observer);
                long queryEnd = (long) spec.heads() * spec.headSize();
                long keyEnd = queryEnd + (long) spec.keyHeads() * spec.headSize();
                query = all.cols(0, queryEnd);
                key = all.cols(queryEnd, keyEnd);
                value = all.cols(keyEnd, all.cols());
            }
            if (weights.queryNorm() != null) {
                normalizeHeads(weights.queryNorm(), query, scratch);
                normalizeHeads(weights.keyNorm(), key, scratch);
            }
            if (geometry.angles() != null) {
                View cosine = geometry.angles().cosine();
                View sine = geometry.angles().sine();
                run(scratch, new Rotary(query, cosine, sine, spec.heads()));
                run(scratch, new Rotary(key, cosine, sine, spec.keyHeads()));
            }
            TransformerSpec.Block block = spec.blocks().get(weights.index());
            View heads = scratch.matrix(hidden.rows(), query.cols());
            run(
                    scratch,
                    new Attention(
                            query,
                            key,
                            value,
                            geometry.visible(),
                            heads,
                            new Attention.Geometry(
                                    spec.heads(),
                                    spec.keyHeads(),
                                    spec.headSize(),
                                    geometry.length(),
                                    block.scale(),
                                    spec.causal(),
                                    block.window())));
            apply(weights.linear(Role.ATTENTION_OUTPUT), heads, hidden, true, scratch, observer);
            if (spec.postNorm()) {
                normalize(weights.attentionNorm(), hidden, hidden, scratch);
            }
        }
    }

    private void feedForward(BlockWeights weights, View hidden, Scope parent, LinearObserver observer) {
        try (Scope scratch = parent.child()) {
            View input = spec.postNorm() ? hidden : normalized(weights.feedForwardNorm(), hidden, scratch);
            LinearWeights gate = weights.linear(Role.GATE);
            View inner;
            if (gate == null) {
                inner = apply(weights.linear(Role.UP), input, scratch, observer);
                run(scratch, new Activate(spec.activation(), inner, null, inner));
            } else {
                inner = apply(gate, input, scratch, observer);
                View up = apply(weights.linear(Role.UP), input, scratch, observer);
                run(scratch, new Activate(spec.activation(), inner, up, inner));
            }
            apply(weights.linear(Role.DOWN), inner, hidden, true, scratch, observer);
            if (spec.postNorm()) {
                normalize(weights.feedForwardNorm(), hidden, hidden, scratch);
            }
        }
    }

    /** Takes the model's output rows as they are computed. */
    @FunctionalInterface
    public interface OutputConsumer {
        /**
         * Some rows of the output.
         *
         * @param first token of the first row
         * @param output F32 rows x vocabulary, or x width for a model without a head; valid during the call
         */
        void rows(long first, View output);
    }

    /**
     * Turns the last hidden states into the model's output: logits, or the hidden states themselves for a model without a
     * head.
     *
     * @param hidden F32 tokens x width; stays as it is
     */
    public void finish(
            HeadWeights weights, View hidden, Scope parent, LinearObserver observer, OutputConsumer consumer) {
        long outputs =
                weights.linear() == null ? spec.width() : spec.head().site().rows();
        long step = Math.max(1, LOGIT_BYTES / (Float.BYTES * outputs));
        for (long first = 0; first < hidden.rows(); first += step) {
            try (Scope scratch = parent.child()) {
                View rows = hidden.rows(first, Math.min(first + step, hidden.rows()));
                View output = weights.norm() == null ? rows : normalized(weights.norm(), rows, scratch);
                if (weights.projection() != null) {
                    View narrow =
                            scratch.matrix(rows.rows(), weights.projection().rows());
                    run(scratch, new Gemm(output, weights.projection(), true, null, narrow, false));
                    output = narrow;
                }
                if (weights.linear() != null) {
                    output = apply(weights.linear(), output, scratch, observer);
                }
                consumer.rows(first, output);
            }
        }
    }

    /**
     * One forward pass over all blocks.
     *
     * @param arena owner of the result
     * @return F32 tensor {@code output}: sequences x length x vocabulary (logits) or x width (last hidden states)
     * @throws ModelException as {@link #check(TokenBatch)}
     */
    public Tensor forward(TokenBatch batch, Backend backend, Arena arena) {
        check(batch);
        long cols = spec.head() == null ? spec.width() : spec.head().site().rows();
        Shape shape = Shape.of(batch.sequences(), batch.length(), cols);
        MemorySegment output =
                HostMemory.allocate(backend, arena, DType.F32.bytesFor(shape.elements()), "the output " + shape);
        try (Scope scope = new Scope(backend);
                HiddenStates states = new HiddenStates(this, batch.split(FORWARD_TOKENS), scope)) {
            for (int block = 0; block < blocks(); block++) {
                try (Scope blockScope = scope.child()) {
                    states.advance(load(block, blockScope), LinearObserver.NONE);
                }
            }
            try (Scope headScope = scope.child()) {
                states.finish(
                        loadHead(headScope),
                        LinearObserver.NONE,
                        (first, rows) -> backend.copyOut(
                                rows, output.asSlice(first * cols * Float.BYTES, rows.elements() * Float.BYTES)));
            }
        }
        return new Tensor("output", DType.F32, shape, output);
    }

    private View apply(LinearWeights linear, View input, Scope scratch, LinearObserver observer) {
        View output = scratch.matrix(input.rows(), linear.site().rows());
        apply(linear, input, output, false, scratch, observer);
        return output;
    }

    private static void apply(
            LinearWeights linear, View input, View output, boolean accumulate, Scope scratch, LinearObserver observer) {
        observer.linear(linear, input);
        run(scratch, new Gemm(input, linear.weight(), true, linear.bias(), output, accumulate));
    }

    private View normalized(NormWeights weights, View x, Scope scratch) {
        View y = scratch.matrix(x.rows(), x.cols());
        normalize(weights, x, y, scratch);
        return y;
    }

    private void normalize(NormWeights weights, View x, View y, Scope scratch) {
        float epsilon = spec.norm().epsilon();
        run(
                scratch,
                weights.bias() == null
                        ? new RmsNorm(x, weights.gain(), y, epsilon)
                        : new LayerNorm(x, weights.gain(), weights.bias(), y, epsilon));
    }

    private void normalizeHeads(NormWeights weights, View x, Scope scratch) {
        View heads = x.reshape(x.elements() / spec.headSize(), spec.headSize());
        normalize(weights, heads, heads, scratch);
    }

    private static void run(Scope scope, Op op) {
        scope.backend().run(op);
    }

    private static View upload(float[] values, long rows, long cols, Scope scope) {
        try (Arena arena = Arena.ofConfined()) {
            View view = scope.matrix(rows, cols);
            scope.backend().copyIn(arena.allocateFrom(ValueLayout.JAVA_FLOAT, values), view);
            return view;
        }
    }

    private static View upload(IntUnaryOperator values, int rows, int cols, Scope scope) {
        try (Arena arena = Arena.ofConfined()) {
            View view = scope.matrix(DType.I32, rows, cols);
            MemorySegment host = arena.allocate(ValueLayout.JAVA_INT, view.elements());
            for (int i = 0; i < view.elements(); i++) {
                host.setAtIndex(ValueLayout.JAVA_INT, i, values.applyAsInt(i));
            }
            scope.backend().copyIn(host, view);
            return view;
        }
    }
}
