package org.sentei.engine;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.SortedSet;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.Recipe.Step;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Targets;
import org.sentei.engine.report.Report;
import org.sentei.engine.report.ReportWriter;
import org.sentei.format.FormatException;
import org.sentei.format.OutputFolder;
import org.sentei.format.Sha256;
import org.sentei.format.TextTokenizer;
import org.sentei.kernel.ApplyMask;
import org.sentei.kernel.AttentionResidual;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Cast;
import org.sentei.kernel.ColumnMoments;
import org.sentei.kernel.CombineInt8;
import org.sentei.kernel.Conv2dInt8;
import org.sentei.kernel.CountValues;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.DeviceInfo;
import org.sentei.kernel.Gemm;
import org.sentei.kernel.Gram;
import org.sentei.kernel.InverseCholesky;
import org.sentei.kernel.Lookup;
import org.sentei.kernel.MaskDifference;
import org.sentei.kernel.MaskStep;
import org.sentei.kernel.MaxPoolInt8;
import org.sentei.kernel.ObsSweep;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.QuadraticForm;
import org.sentei.kernel.RmsNormGradient;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreHistogram;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.StateCounts;
import org.sentei.kernel.View;
import org.sentei.model.AttentionPair;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.model.onnx.OnnxRuntimeLibrary;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A recipe bound to a model and a backend: everything that can be known, and refused, before work starts.
 *
 * <p>Holds the model open, and the {@link Session} whose device and platform thread it works on: any thread, a virtual one
 * included, may call a plan, one after the other.
 */
public final class Plan implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Plan.class);

    private static final int SPEED_TEST_SIZE = 192;
    /** Forward passes that a group costs: its statistics, its new outputs, and about one more for the Gram matrices. */
    private static final int PASSES = 3;
    /** Widest intermediate results of a batch that live at once: input, dense and edited output, next input. */
    private static final int LIVE_ACTIVATIONS = 4;

    private final Session session;
    private final boolean ownsSession;
    private final AtomicBoolean closed = new AtomicBoolean();
    private final CompressionRequest request;
    private final Recipe recipe;
    private final Backend backend;
    private final OpenModel model;
    private final Map<Site, Step> steps = new LinkedHashMap<>();
    private final Set<Site> biasPossible = new HashSet<>();
    private final List<Report.Binding> bindings = new ArrayList<>();
    private final List<String> warnings = new ArrayList<>();
    /** Whether the model's data are images. */
    private final boolean images;

    /** Windows of the request's text, in the making while the plan is: the same for every run. */
    private final Optional<Supplier<Calibration>> calibration;

    private final Optional<Statistics> statistics;

    private Plan(Session session, boolean ownsSession, CompressionRequest request, OpenModel model) {
        this.session = session;
        this.ownsSession = ownsSession;
        this.request = request;
        this.recipe = request.recipe();
        this.backend = session.backend();
        this.model = model;
        recipe.quantize().ifPresent(model::checkQuantizing);
        this.images = model.takesImages();
        if (recipe.easier().isPresent()) {
            model.checkEasier(recipe.easier().get());
            if (isTuned()) {
                DepthRun.check(request, images);
            }
        }
        this.calibration = request.calibration().filter(_ -> !images).map(text -> {
            FutureTask<Calibration> windows = new FutureTask<>(() -> calibration(TextData.read(text)));
            Thread.ofPlatform().daemon().start(windows);
            return () -> OwnThread.await(windows);
        });
        this.statistics = request.statistics().map(Statistics::read);
        List<Site> sites = model.sites();
        List<List<Site>> targets = Targets.resolve(recipe, sites);
        for (Site site : sites) {
            for (int i = 0; i < targets.size(); i++) {
                if (targets.get(i).contains(site)) {
                    steps.put(site, recipe.steps().get(i));
                }
            }
        }
        steps.forEach(this::check);
        model.checkStorage(recipe.storage());
        checkCalibration();
        checkStatistics();
        warnings.addAll(Backends.passedOver(request.backend()));
        warnOfMissingBiases();
        bind();
        checkMemory();
        LOG.debug(
                "{}: {} of {} sites of {} will be edited, on {}",
                model.path(),
                steps.size(),
                sites.size(),
                model.architecture(),
                backend.info());
    }

    static Plan of(CompressionRequest request) {
        loadBeside(request);
        Session session = Session.open(request.backend(), request.options());
        try {
            return in(session, request, true);
        } catch (RuntimeException | Error e) {
            session.close();
            throw e;
        }
    }

    /** A plan for the session's device, which the request names. */
    static Plan in(Session session, CompressionRequest request, boolean ownsSession) {
        loadBeside(request);
        return session.thread().call(() -> open(session, request, ownsSession));
    }

    /** Native libraries load while backend and model are opened; whoever needs one hears what became of it. */
    private static void loadBeside(CompressionRequest request) {
        if (!Files.isDirectory(request.model())) {
            Thread.ofPlatform().daemon().start(OnnxRuntimeLibrary::isAvailable);
        }
        if (request.calibration().isPresent()) {
            Thread.ofPlatform().daemon().start(TextTokenizer::isAvailable);
        }
    }

    /** Opens the model and resolves the recipe. */
    private static Plan open(Session session, CompressionRequest request, boolean ownsSession) {
        OpenModel model = OpenModel.open(request.model(), request.options().threads());
        try {
            return new Plan(session, ownsSession, request, model);
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    private <T> T call(Progress progress, Function<Progress, T> work) {
        return session.thread().call(progress, watched -> {
            if (closed.get()) {
                throw new IllegalStateException("the plan is closed already; make another one");
            }
            return work.apply(watched);
        });
    }

    private void check(Site site, Step step) {
        if (step.pattern() != null && site.cols() % step.pattern().of() != 0) {
            throw new RecipeException("site " + site.name() + " has " + site.cols() + " inputs, which pattern "
                    + step.pattern() + " does not divide; ignore the site or choose another pattern");
        }
        if (step.method() == Recipe.Method.ATTENTION) {
            checkAttention(site, step);
        }
        if (step.method() != Recipe.Method.STADE || step.bias() == Recipe.Bias.OFF) {
            return;
        }
        if (model.biasPossible(site)) {
            biasPossible.add(site);
        } else if (step.bias() == Recipe.Bias.PAPER) {
            throw new RecipeException("site " + site.name() + " has no bias, and the configuration of a "
                    + model.architecture() + " model cannot give it one; use bias: auto or bias: off");
        }
        if (step.bias() == Recipe.Bias.AUTO && recipe.calibration().samples() < 4) {
            throw new RecipeException("bias: auto holds out a quarter of the calibration samples, but there are only "
                    + recipe.calibration().samples() + "; calibrate on at least 4");
        }
    }

    private void checkAttention(Site site, Step step) {
        Optional<AttentionPair> pair = model.attentions().stream()
                .filter(found -> found.query().equals(site) || found.key().equals(site))
                .findFirst();
        if (pair.isEmpty()) {
            throw new RecipeException("site " + site.name()
                    + switch (site.role()) {
                        case QUERY_KEY_VALUE ->
                            " makes queries, keys and values in one matrix, but attention prunes those of queries and of keys"
                                    + " apart; prune it by another method";
                        case QUERY, KEY ->
                            " makes queries or keys, but the graph does not bring them to a softmax in a way that attention"
                                    + " knows: heads split behind the bias, a scale, a mask of padding; prune it by another"
                                    + " method";
                        default ->
                            " makes neither queries nor keys, which are all that attention prunes; leave targets out, or"
                                    + " name them, for example [\"*.q_proj\", \"*.k_proj\"]";
                    });
        }
        Step other = steps.get(
                pair.get().query().equals(site) ? pair.get().key() : pair.get().query());
        if (other != null && other.method() == Recipe.Method.ATTENTION && !other.equals(step)) {
            throw new RecipeException("sites " + pair.get().query().name() + " and "
                    + pair.get().key().name()
                    + " meet in one attention, but are in two steps of method attention; give them to one step");
        }
        if (recipe.calibration().samples() < 4) {
            throw new RecipeException("attention holds out a quarter of the calibration samples, but there are only "
                    + recipe.calibration().samples() + "; calibrate on at least 4");
        }
        long kept = site.parameters() - step.budget(site.rows(), site.cols()).pruned(site.rows(), site.cols());
        if (kept < site.rows()) {
            throw new RecipeException("sparsity " + step.sparsity() + " keeps " + kept + " weights of site "
                    + site.name() + ", which has " + site.rows()
                    + " outputs: some would be left without any; prune less");
        }
        if (model.ops().isEmpty() && !sequential()) {
            throw new RecipeException("attention prunes a graph block by block, which calibration.sequential: false"
                    + " contradicts; leave sequential out");
        }
    }

    private void checkCalibration() {
        if (images && (recipe.calibrated() || recipe.quality().gated() || statistics.isPresent())) {
            throw new RecipeException("model " + model.path() + " takes images, but methods that look at activations,"
                    + " statistics files and quality gates are for text; prune by magnitude, or quantize");
        }
        int length = recipe.calibration().length();
        if ((recipe.calibrated() || calibration.isPresent()) && length > model.maximumLength()) {
            throw new RecipeException("calibration.length is " + length + ", but the model takes "
                    + model.maximumLength() + " tokens at most; choose a shorter one");
        }
    }

    private void checkStatistics() {
        if (statistics.isEmpty()) {
            return;
        }
        Path file = request.statistics().orElseThrow();
        if (request.calibration().isPresent()) {
            throw new RecipeException("statistics " + file + " stand for the calibration text "
                    + request.calibration().get() + "; give only one of the two");
        }
        checkShardable();
        statistics.get().check(file, windowsIdentity(), steps.keySet());
        if (Statistics.mayRoundDifferently(statistics.get().made())) {
            warnings.add("statistics " + file + " come from devices that may round differently ("
                    + String.join("; ", statistics.get().made())
                    + "): masks can differ from those of a single pass where scores nearly tie");
        }
    }

    /** Refuses recipes whose statistics cannot be collected before anything is compressed. */
    private void checkShardable() {
        if (sequential()) {
            throw new RecipeException(
                    "calibration is sequential: what a block reads depends on what became of the blocks"
                            + " before it, so that statistics cannot be collected beforehand or in shards; write"
                            + " sequential: false under calibration");
        }
        steps.forEach((site, step) -> {
            if (step.method() == Recipe.Method.SPARSEGPT || step.method() == Recipe.Method.ATTENTION) {
                throw new RecipeException(
                        "site " + site.name() + " is for " + step.method().key()
                                + ", which needs Gram matrices, not moments alone: files of statistics hold none; give it a"
                                + " recipe of its own, with --calibration");
            }
        });
    }

    /** What a file of statistics and a run must have in common, apart from the hash of the weights. */
    private Map<String, String> windowsIdentity() {
        Map<String, String> identity = new HashMap<>(model.traits(false));
        identity.put(
                "calibration.samples", Integer.toString(recipe.calibration().samples()));
        identity.put("calibration.length", Integer.toString(recipe.calibration().length()));
        if (model.ops().isEmpty()) {
            // A graph runtime may fuse other layers where other values are looked at.
            identity.put("inputs", String.join(" ", inputs()));
        }
        return identity;
    }

    private SortedSet<String> inputs() {
        return steps.keySet().stream().map(Site::input).collect(Collectors.toCollection(TreeSet::new));
    }

    private void warnOfMissingBiases() {
        List<Site> lacking = steps.entrySet().stream()
                .filter(entry -> entry.getValue().bias() == Recipe.Bias.AUTO && !biasPossible.contains(entry.getKey()))
                .map(Map.Entry::getKey)
                .toList();
        if (!lacking.isEmpty()) {
            warnings.add("the configuration of a " + model.architecture() + " model gives " + lacking.size()
                    + " of the targeted sites no bias (the first is "
                    + lacking.getFirst().name()
                    + "): they are pruned without a bias update");
        }
    }

    private void bind() {
        Set<Class<? extends Op>> ops = new LinkedHashSet<>();
        if (!steps.isEmpty()) {
            ops.addAll(List.of(Cast.class, CountValues.class, ScoreSelect.class, ApplyMask.class));
        }
        if (observed() && !steps.isEmpty()) {
            ops.add(ColumnMoments.class);
            ops.add(Gemm.class);
            ops.addAll(model.ops());
        }
        if (recipe.easier().isPresent()) {
            ops.add(StateCounts.class);
        }
        if (images && recipe.quantize().isPresent() && request.data().isPresent()) {
            ops.addAll(List.of(Conv2dInt8.class, CombineInt8.class, MaxPoolInt8.class, Lookup.class));
        }
        if (observed() || recipe.easier().isPresent() || recipe.quantize().isPresent()) {
            model.graphRuntime().ifPresent(bindings::add);
        }
        if (steps.values().stream().anyMatch(step -> step.scope() != Recipe.Scope.ROW)) {
            ops.add(ScoreHistogram.class);
        }
        boolean descending = steps.values().stream().anyMatch(step -> step.method() == Recipe.Method.ATTENTION);
        if (descending || steps.values().stream().anyMatch(step -> step.method() == Recipe.Method.SPARSEGPT)) {
            ops.addAll(List.of(Gram.class, QuadraticForm.class, InverseCholesky.class, ObsSweep.class));
        }
        if (descending) {
            ops.addAll(List.of(AttentionResidual.class, MaskStep.class, MaskDifference.class, RmsNormGradient.class));
        }
        List<String> missing = ops.stream()
                .filter(op -> !backend.supports(OpCases.example(op)))
                .map(Op::stem)
                .sorted()
                .toList();
        if (!missing.isEmpty()) {
            throw new DeviceException(
                    backend.info().backend(),
                    "planning",
                    0,
                    "it has no kernel for " + String.join(", ", missing) + "; choose another backend",
                    DeviceException.Kind.UNSUPPORTED);
        }
        ops.stream()
                .map(Op::stem)
                .sorted()
                .forEach(op -> bindings.add(new Report.Binding(
                        op, backend.info().backend(), backend.info().device())));
    }

    /**
     * A site and what will become of it.
     *
     * @param pruned weights that will be pruned; null where a budget spans several sites
     */
    public record PlannedSite(String name, String method, long rows, long cols, double requested, Long pruned) {}

    /** Every targeted site in the model's order. */
    public List<PlannedSite> sites() {
        return steps.entrySet().stream()
                .map(entry -> planned(entry.getKey(), entry.getValue()))
                .toList();
    }

    private static PlannedSite planned(Site site, Step step) {
        Long pruned = switch (step.scope()) {
            case ROW -> Math.multiplyExact(site.rows(), step.countPerRow(site.cols()));
            case LAYER -> step.floorCount(site.parameters());
            case GLOBAL -> null;
        };
        return new PlannedSite(
                site.name(),
                step.method().key(),
                site.rows(),
                site.cols(),
                step.sparsity().doubleValue(),
                pruned);
    }

    /** Which backend runs which op. */
    public List<Report.Binding> bindings() {
        return List.copyOf(bindings);
    }

    /** What will not be as one might expect. */
    public List<String> warnings() {
        return List.copyOf(warnings);
    }

    /** Device memory that the run needs at its widest, estimated from the largest group of sites and one batch. */
    public long memoryBytes() {
        long widest = steps.keySet().stream()
                .mapToLong(site -> site.rows() + site.cols())
                .max()
                .orElse(0);
        long largest = steps.keySet().stream().mapToLong(Site::parameters).max().orElse(0);
        long tokens =
                (long) recipe.calibration().samples() * recipe.calibration().length();
        long batch = Math.min(
                tokens, Math.max(Calibration.BATCH_TOKENS, recipe.calibration().length()));
        return groupBytes()
                + largest * Float.BYTES
                + (observed() ? evidenceBytes(tokens) + batch * widest * Float.BYTES * LIVE_ACTIVATIONS : 0)
                + sweepBytes()
                + AttentionPruning.memoryBytes(descended(), tokens);
    }

    private long groupBytes() {
        return bytes(largestGroup());
    }

    private List<Site> largestGroup() {
        return model.held(List.copyOf(steps.keySet()), sequential(), observed()).stream()
                .max(Comparator.comparingLong(Plan::bytes))
                .orElse(List.of());
    }

    private static long bytes(List<Site> sites) {
        return sites.stream().mapToLong(site -> Float.BYTES * site.parameters()).sum();
    }

    private long evidenceBytes(long tokens) {
        return model.groups(List.copyOf(steps.keySet()), sequential()).stream()
                .mapToLong(group -> InputStatistics.bytes(Compressor.evidence(steps, group), tokens))
                .max()
                .orElse(0);
    }

    private List<AttentionPair> descended() {
        return AttentionPruning.targeted(model.attentions(), steps);
    }

    private void checkMemory() {
        long allowed = request.options().memoryBytes();
        List<Site> group = largestGroup();
        if (bytes(group) > allowed) {
            Site largest = Collections.max(group, Comparator.comparingLong(Site::parameters));
            throw new DeviceException(
                    backend.info().backend(),
                    "planning",
                    0,
                    "the weights of the largest group of layers take " + bytes(group)
                            + " bytes on the device as F32, the largest of them, " + largest.weight() + ", "
                            + Float.BYTES * largest.parameters() + ", and the budget (--device-memory) allows "
                            + allowed
                            + "; a group must fit whole: allow more, or leave layers out of the recipe's targets",
                    DeviceException.Kind.OUT_OF_MEMORY);
        }
    }

    private long sweepBytes() {
        List<Site> swept = steps.keySet().stream()
                .filter(site -> Set.of(Recipe.Method.SPARSEGPT, Recipe.Method.ATTENTION)
                        .contains(steps.get(site).method()))
                .toList();
        return model.groups(swept, sequential()).stream()
                .mapToLong(Sweeps::memoryBytes)
                .max()
                .orElse(0);
    }

    /** How long the run will take, estimated from its matrix products and the measured speed of a small one. */
    public double seconds() {
        return call(Progress.NONE, _ -> estimateSeconds());
    }

    private double estimateSeconds() {
        long parameters = steps.keySet().stream().mapToLong(Site::parameters).sum();
        double tokens =
                (double) recipe.calibration().samples() * recipe.calibration().length();
        int passes = observed() ? PASSES : 0;
        double descents = descended().stream()
                .mapToDouble(pair -> AttentionPruning.operations(
                        pair,
                        steps,
                        recipe.calibration().samples(),
                        recipe.calibration().length()))
                .sum();
        return (2.0 * parameters * (tokens * passes + 1) + descents) / operationsPerSecond();
    }

    private double operationsPerSecond() {
        try (Scope scope = new Scope(backend)) {
            View a = zeros(scope);
            View b = zeros(scope);
            Gemm product = new Gemm(a, b, true, null, scope.matrix(SPEED_TEST_SIZE, SPEED_TEST_SIZE), false);
            backend.run(product);
            backend.sync();
            long start = System.nanoTime();
            backend.run(product);
            backend.sync();
            return product.operations() / ((System.nanoTime() - start) * 1e-9);
        }
    }

    private static View zeros(Scope scope) {
        View view = scope.matrix(SPEED_TEST_SIZE, SPEED_TEST_SIZE);
        float[] values = new float[SPEED_TEST_SIZE * SPEED_TEST_SIZE];
        scope.backend().copyIn(MemorySegment.ofArray(values), view);
        return view;
    }

    private boolean observed() {
        return statistics.isEmpty() && (recipe.calibrated() || calibration.isPresent());
    }

    private boolean sequential() {
        boolean descending = recipe.steps().stream().anyMatch(step -> step.method() == Recipe.Method.ATTENTION);
        return recipe.calibration().sequential().orElse(descending || model.sequentialByDefault());
    }

    /** As {@link #run(Path, Journaling, Progress)}, leaving nothing when it ends early. */
    public Report run(Path folder, Progress progress) {
        return run(folder, Journaling.OFF, progress);
    }

    /**
     * Compresses the model into a new folder. Nothing appears there unless everything went well; a model that misses a
     * quality gate is kept under {@code rejected} in it. A plan may run several times, into different folders.
     *
     * @param folder absent or empty
     * @param journaling whether a run that ends early can be continued: not one that ends in a {@link FormatException},
     *     {@link ModelException} or {@link RecipeException}, which leaves only what was there before
     * @param progress hears from the plan's thread
     * @return what was done and measured, as {@code report.json} in the folder has it
     * @throws RecipeException when the recipe needs data that the request does not name
     * @throws FormatException when calibration text, data or tokenizer cannot be read; when the folder is not free, or to
     *     resume, what is there is of another run or damaged
     * @throws GateException when a quality gate was missed
     * @throws RunException when the output cannot be written or numbers are not finite
     * @throws DeviceException when the backend fails, for example with OUT_OF_MEMORY
     * @throws CancellationException when {@code progress} asks for it, or the calling thread is interrupted, which it then
     *     stays
     * @throws IllegalStateException when the plan is closed
     */
    public Report run(Path folder, Journaling journaling, Progress progress) {
        return call(progress, watched -> compressInto(folder, journaling, watched));
    }

    private Report compressInto(Path folder, Journaling journaling, Progress progress) {
        Stopwatch watch = Stopwatch.start();
        if (observed() && request.calibration().isEmpty()) {
            throw new RecipeException("the recipe's methods look at activations, but there is no calibration text;"
                    + " name one with --calibration FILE");
        }
        if (recipe.easier().isPresent() && !isTuned() && request.calibration().isEmpty()) {
            throw new RecipeException(
                    "easier measures activations on samples, but there are none; name a folder of images,"
                            + " an idx file or a text with --calibration");
        }
        if (recipe.quantize().isPresent() && request.calibration().isEmpty()) {
            throw new RecipeException(
                    "quantize finds ranges on samples, but there are none; name a folder of images, an"
                            + " idx file or a text with --calibration");
        }
        if (recipe.quality().gated() && request.data().isEmpty()) {
            throw new RecipeException(
                    "the recipe has a quality gate, but there is no data to measure on; name some with --data");
        }
        try (OutputFolder output = journaling.open(folder)) {
            try {
                return run(folder, output, journaling, watch, progress);
            } catch (FormatException | ModelException | RecipeException refused) {
                output.dropJournal();
                throw refused;
            }
        } catch (IOException e) {
            throw new RunException(
                    "the output " + folder + " cannot be written: " + e.getMessage()
                            + "; make room or choose another place",
                    e);
        }
    }

    private Report run(Path folder, OutputFolder output, Journaling journaling, Stopwatch watch, Progress progress)
            throws IOException {
        model.checkOutput(output);
        Optional<TextData> data = request.data().filter(_ -> !images).map(TextData::read);
        try (ExecutorService aside = Executors.newCachedThreadPool()) {
            // To hash a small model takes as long as to load it.
            Supplier<String> weights = beside(aside, model::sha256);
            try (Journal journal = journaling == Journaling.OFF
                    ? Journal.off(watch)
                    : Journal.open(
                            output, beside(aside, () -> fingerprint(data, weights.get())), steps, watch, progress)) {
                if (journaling == Journaling.RESUME && !journal.beginsInside()) {
                    progress.resumed(journal.decided().size());
                }
                return run(folder, output, journal, journaling, progress, data, weights);
            } catch (IOException | RuntimeException | Error e) {
                aside.shutdownNow(); // nobody waits for a large model's hash
                throw e;
            }
        }
    }

    private static <T> Supplier<T> beside(ExecutorService aside, Callable<T> work) {
        Future<T> result = aside.submit(work);
        return () -> OwnThread.await(result);
    }

    private Report run(
            Path folder,
            OutputFolder output,
            Journal journal,
            Journaling journaling,
            Progress progress,
            Optional<TextData> data,
            Supplier<String> weights)
            throws IOException {
        Optional<QualityCheck> quality = data.map(read -> new QualityCheck(
                recipe.quality(),
                model,
                request.tokenizer(),
                new Evaluation(read, Optional.empty(), backend, progress)));
        statistics.ifPresent(
                collected -> collected.checkWeights(request.statistics().orElseThrow(), weights.get()));
        List<String> said = new ArrayList<>(warnings);
        List<Compressor.Outcome> outcomes = compress(journal, progress, said);
        outcomes.forEach(outcome -> outcome.warning().ifPresent(said::add));
        List<Edit> edits = outcomes.stream().map(Compressor.Outcome::edit).toList();
        said.addAll(model.write(output, edits, recipe.storage()));
        Path written = Files.isDirectory(request.model())
                ? output.path()
                : output.path().resolve(request.model().getFileName());
        List<Report.Measure> measured = new ArrayList<>();
        long bytesAfter;
        Report.Storage storage;
        List<Report.Weights> histograms;
        List<Report.Round> rounds = List.of();
        if (isTuned()) {
            DepthRun.Outcome trained = new DepthRun(request, backend, progress)
                    .run(written, output, weights.get(), journaling, journal.watch());
            rounds = trained.rounds();
            measured.addAll(trained.measures());
            said.addAll(trained.warnings());
        }
        try (OpenModel compressed = OpenModel.open(written, request.options().threads())) {
            bytesAfter = compressed.bytes();
            storage = compressed.storage();
            histograms = WeightHistograms.of(
                    edits.stream().map(Edit::site).toList(),
                    model.tensors(),
                    compressed.tensors(),
                    request.options().threads());
            if (!steps.isEmpty() && !storage.format().equals(recipe.storage().key())) {
                said.add("no weight has zeros enough to get smaller by storage: "
                        + recipe.storage().key() + "; all are stored " + storage.format());
            }
            if (recipe.easier().isEmpty() && recipe.quantize().isEmpty()) {
                quality.ifPresent(check -> measured.addAll(check.after(compressed)));
            }
        }
        List<Report.Round> before = rounds;
        Optional<EasierRun.Outcome> shallow = recipe.easier()
                .map(_ -> new EasierRun(request, backend, progress).run(written, calibration.orElse(null), before));
        if (shallow.isPresent()) {
            said.addAll(shallow.get().warnings());
            try (OpenModel linear = OpenModel.open(written, request.options().threads())) {
                bytesAfter = linear.bytes();
                if (recipe.quantize().isEmpty()) {
                    measured.addAll(shallow.get().measures());
                    quality.ifPresent(check -> measured.addAll(check.after(linear)));
                }
            }
        }
        Optional<QuantizationRun.Outcome> quantized = recipe.quantize()
                .map(_ -> new QuantizationRun(request, backend, progress).run(written, calibration.orElse(null)));
        if (quantized.isPresent()) {
            said.addAll(quantized.get().warnings());
            measured.addAll(quantized.get().measures());
            try (OpenModel integers = OpenModel.open(written, request.options().threads())) {
                bytesAfter = integers.bytes();
                quality.ifPresent(check -> measured.addAll(check.after(integers)));
            }
        }
        Optional<String> missed = quality.flatMap(check -> check.missed(measured));
        missed.ifPresent(said::add);
        List<Report.SiteResult> results = outcomes.isEmpty()
                ? quantized.map(QuantizationRun.Outcome::sites).orElse(List.of())
                : outcomes.stream().map(Compressor.Outcome::reported).toList();
        Report report = new Report(
                Version.current(),
                journal.watch().started(),
                journal.watch().seconds(),
                recipe.seed(),
                new Report.Model(
                        request.model().toString(),
                        weights.get(),
                        model.architecture(),
                        model.parameters(),
                        model.bytes()),
                calibration
                        .map(Supplier::get)
                        .map(Calibration::reported)
                        .or(() -> statistics.map(Statistics::reported))
                        .or(() -> shallow.flatMap(EasierRun.Outcome::calibration))
                        .or(() -> quantized.flatMap(QuantizationRun.Outcome::calibration))
                        .orElse(null),
                bindings,
                results,
                Report.Totals.of(results, model.bytes(), bytesAfter),
                storage,
                measured,
                shallow.map(EasierRun.Outcome::told).orElse(null),
                quantized.map(QuantizationRun.Outcome::told).orElse(null),
                histograms,
                outcomes.stream()
                        .flatMap(outcome -> Optional.ofNullable(outcome.attention()).stream())
                        .toList(),
                said);
        ReportWriter.write(output.path(), report, recipe);
        if (missed.isPresent()) {
            reject(output.path());
            output.commit();
            throw new GateException(missed.get() + "; the result is kept under " + folder.resolve("rejected"), report);
        }
        output.commit();
        return report;
    }

    /** Whether the network is trained with fewer activations. */
    private boolean isTuned() {
        return recipe.easier()
                .filter(step -> step.mode() == Easier.Mode.FINE_TUNE)
                .isPresent();
    }

    private Fingerprint fingerprint(Optional<TextData> data, String weights) {
        boolean running = calibration.isPresent() || data.isPresent();
        Map<String, String> fields = new HashMap<>(model.traits(running));
        fields.put("model.weights", weights);
        calibration.ifPresent(
                made -> fields.put("calibration", made.get().data().sha256()));
        request.statistics()
                .ifPresent(
                        file -> fields.put("statistics", new Sha256().add(file).hex()));
        data.ifPresent(read -> fields.put("data", read.sha256()));
        if (running) {
            Path tokenizer = request.tokenizer().orElseGet(model::defaultTokenizer);
            fields.put("tokenizer", new Sha256().add(tokenizer).hex());
        }
        return Fingerprint.of(fields, recipe, backend.info());
    }

    private Calibration calibration(TextData data) {
        if (!data.table().isEmpty()) {
            throw new FormatException("calibration data " + data.source()
                    + " is a table; give running text, a .txt or .jsonl file or a folder of them");
        }
        try (TextTokenizer tokenizer = model.tokenizer(request.tokenizer())) {
            int[] tokens = tokenizer.encode(data.text(), model.isEncoder());
            int length = recipe.calibration().length();
            return Calibration.of(
                    data,
                    data.windows(tokens, recipe.calibration().samples(), length),
                    Math.max(1, model.calibrationTokens() / length));
        }
    }

    private List<Compressor.Outcome> compress(Journal journal, Progress progress, List<String> said) {
        List<Site> targeted = List.copyOf(steps.keySet());
        List<Walk> walks = new ArrayList<>();
        try (Scope scope = new Scope(backend)) {
            Supplier<Walk> walk = () -> {
                walks.add(
                        calibration.isEmpty()
                                ? new StillWalk(targeted, model.tensors(), scope)
                                : model.walk(targeted, calibration.get(), sequential(), scope));
                return walks.getLast();
            };
            InputStatistics.Source source = calibration.isPresent()
                    ? InputStatistics::collect
                    : (group, evidence, owner, heard) -> statistics
                            .map(collected -> collected.of(evidence.keySet()))
                            .orElse(Map.of());
            AttentionPruning attention = new AttentionPruning(
                    descended(), steps, () -> calibration.orElseThrow().get(), recipe.seed(), journal, progress);
            List<Compressor.Outcome> outcomes = new Compressor(
                            steps, biasPossible, model.tensors(), source, attention, scope, progress)
                    .run(walk, journal.decided(), journal::append);
            if (walks.stream().anyMatch(Walk::halved)
                    || journal.decided().stream().anyMatch(Compressor.GroupOutcome::halved)) {
                said.add(
                        "the device's memory held only half a batch of calibration windows at a time: statistics are sums"
                                + " in another order, and scores that nearly tie may fall the other way than with more memory");
            }
            return outcomes;
        }
    }

    /**
     * Collects the statistics of a shard of the calibration data, from the model as it is, into a file: what
     * {@link CompressionRequest#withStatistics} takes when all shards are merged.
     *
     * @param file a new one, in a folder that exists
     * @throws RecipeException when the recipe's statistics cannot be collected apart from its decisions, when the request names
     *     no text, or when there are fewer batches of windows than shards
     * @throws FormatException when calibration text or tokenizer cannot be read, or the file is there already
     * @throws RunException when the file cannot be written or a statistic is not finite
     * @throws DeviceException when the backend fails
     * @throws CancellationException as {@link #run}
     * @throws IllegalStateException when the plan is closed
     */
    public Sentei.Collected saveStatistics(Shard shard, Path file, Progress progress) {
        return call(progress, watched -> collectInto(shard, file, watched));
    }

    private Sentei.Collected collectInto(Shard shard, Path file, Progress progress) {
        Sentei.checkFree(file);
        checkShardable();
        if (calibration.isEmpty()) {
            throw new RecipeException("there is no calibration text; name one with --calibration FILE");
        }
        Calibration whole = calibration.get().get();
        int batches = whole.fitting().count() + whole.heldOut().count();
        if (shard.count() > batches) {
            throw new RecipeException("shard " + shard + ": shards consist of whole batches of at most "
                    + model.calibrationTokens() + " tokens, of which the calibration data have " + batches
                    + "; cut them into " + batches + " shards at most");
        }
        Map<String, String> identity = Statistics.identity(model.sha256(), windowsIdentity());
        identity.put(
                "tokenizer",
                new Sha256()
                        .add(request.tokenizer().orElseGet(model::defaultTokenizer))
                        .hex());
        Map<String, InputStatistics.Collected> collected = new HashMap<>();
        boolean halved;
        try (Scope scope = new Scope(backend);
                Walk walk = model.walk(List.copyOf(steps.keySet()), () -> whole.part(shard), false, scope)) {
            for (int group = 0; ; group++) {
                progress.checkpoint("statistics", group, walk.groups());
                Optional<Walk.Group> next = walk.next();
                if (next.isEmpty()) {
                    break;
                }
                try (Walk.Group open = next.get()) {
                    Map<Site, InputStatistics.Evidence> sites = open.sites().stream()
                            .filter(steps::containsKey)
                            .collect(Collectors.toMap(Function.identity(), _ -> InputStatistics.Evidence.NONE));
                    collected.putAll(InputStatistics.observe(open, sites, scope, progress));
                    open.commit(List.of());
                }
            }
            halved = walk.halved();
        }
        collected.values().forEach(InputStatistics.Collected::total);
        Statistics statisticsOfShard = Statistics.of(
                new Statistics.Origin(identity, halved ? maker() + Statistics.HALVED : maker(), whole), collected);
        statisticsOfShard.write(file);
        return statisticsOfShard.summary();
    }

    private String maker() {
        DeviceInfo device = backend.info();
        String runtime = model.traits(true).getOrDefault("graph_runtime", "");
        return Stream.of(
                        "sentei " + Version.current(),
                        device.backend(),
                        device.device(),
                        device.driver(),
                        device.isa(),
                        runtime)
                .filter(part -> !part.isEmpty())
                .collect(Collectors.joining(", "));
    }

    private static void reject(Path folder) throws IOException {
        Path rejected = folder.resolve("rejected");
        List<Path> content;
        try (Stream<Path> entries = Files.list(folder)) {
            content = entries.toList();
        }
        Files.createDirectory(rejected);
        for (Path entry : content) {
            Files.move(entry, rejected.resolve(entry.getFileName()));
        }
    }

    /**
     * Closes the model, and the backend unless it is another's session, after what other threads have asked of this plan;
     * again, it does nothing.
     *
     * @throws IllegalStateException inside of {@link Progress}, which can cancel instead
     */
    @Override
    public void close() {
        session.thread().refuseInside();
        if (closed.getAndSet(true)) {
            return;
        }
        if (ownsSession) {
            session.close(model::close);
        } else {
            session.thread().call(() -> {
                model.close();
                return null;
            });
        }
    }
}
