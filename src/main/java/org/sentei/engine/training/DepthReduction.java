package org.sentei.engine.training;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.sentei.engine.Fingerprint;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Stopwatch;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.Images;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.OnnxFile;
import org.sentei.format.OutputFolder;
import org.sentei.format.SealedFile;
import org.sentei.kernel.Backend;
import org.sentei.kernel.DeviceException;
import org.sentei.method.easier.Entropy;
import org.sentei.method.easier.Linearization;
import org.sentei.method.easier.Rectifier;
import org.sentei.method.easier.Rectifiers;
import org.sentei.model.ModelException;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.Tensor;
import org.sentei.train.TrainableGraph;
import org.sentei.train.TrainableGraph.Weights;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The loop of EASIER (2404.18949): measures the entropy of every activation over the training images, makes that of the lowest
 * linear, trains the network again with a fresh optimizer and the schedule from its start, and so on until the validation accuracy
 * falls by more than delta below that of the network as it came. The last round within delta is the result.
 *
 * <p>Every round is kept in a folder of the output's journal: {@code round-N.onnx} and what is known of it.
 */
public final class DepthReduction {
    private static final Logger LOG = LoggerFactory.getLogger(DepthReduction.class);
    private static final String ROUNDS = "rounds.safetensors";
    /** Images that run at a time where nothing is learned. */
    private static final int MEASURED = 250;

    private final Easier step;
    private final long seed;
    private final LabelledImages images;
    private final Backend backend;
    private final Progress progress;
    private final Fitter fitter;

    private DepthReduction(Easier step, long seed, LabelledImages images, Backend backend, Progress progress) {
        this.step = step;
        this.seed = seed;
        this.images = images;
        this.backend = backend;
        this.progress = progress;
        this.fitter = new Fitter(images, progress);
    }

    /** An activation and how undecided it was before the round. */
    public record Measured(String name, double entropy) {}

    /**
     * A round.
     *
     * @param round from 1; 0 is the network as it came
     * @param linearised activations that became linear in this round
     * @param remaining activations after it
     * @param entropies of all activations that were there before the round, in the order they run
     * @param valid share of the validation labels that are right after it
     * @param test share of the test labels that are right after it
     * @param kept whether the accuracy is within delta
     * @param curve of its training
     */
    public record Round(
            int round,
            List<String> linearised,
            int remaining,
            List<Measured> entropies,
            double valid,
            double test,
            boolean kept,
            List<ImageReport.Point> curve) {
        /** Copies the lists. */
        public Round {
            linearised = List.copyOf(linearised);
            entropies = List.copyOf(entropies);
            curve = List.copyOf(curve);
        }
    }

    /**
     * What came of the loop.
     *
     * @param rounds the first is the network as it came
     * @param graphs after every round within delta, the first as it came
     * @param sample an input, to time graphs on
     * @param stopped why there is no further round
     */
    public record Result(
            List<Round> rounds, List<LayerGraph> graphs, Tensor sample, String stopped, List<String> warnings) {
        /** Copies the lists. */
        public Result {
            rounds = List.copyOf(rounds);
            graphs = List.copyOf(graphs);
            warnings = List.copyOf(warnings);
        }

        /** The network after the last round within delta. */
        public LayerGraph graph() {
            return graphs.getLast();
        }
    }

    /** What the journal says of the rounds. */
    record About(KeptFile.Origin origin, List<Round> rounds) {
        About {
            if (origin == null
                    || rounds == null
                    || rounds.isEmpty()
                    || rounds.stream().anyMatch(Objects::isNull)) {
                throw new IllegalArgumentException("it does not say what it is about");
            }
        }
    }

    /**
     * Runs the loop, from the start or from the last round or step that was kept.
     *
     * @param step of mode fine-tune
     * @param how images become inputs of the model
     * @param data labelled images, as for a training
     * @param model the network as it came, with one input of images
     * @param output whose journal has a folder for this
     * @param fingerprint what the result depends on besides the data
     * @throws DeviceException when PyTorch is not available
     * @throws FormatException when the data are missing or wrong, or the journal is of another run or damaged
     * @throws ModelException when the network holds what cannot be trained
     * @throws RecipeException when the network has no activation that the recipe takes
     * @throws RunException when a loss is not finite; what was kept stays
     */
    public static Result run(
            Easier step,
            long seed,
            Images how,
            Path data,
            LayerGraph model,
            Backend backend,
            OutputFolder output,
            Map<String, String> fingerprint,
            Journaling journaling,
            Stopwatch watch,
            Progress progress)
            throws IOException {
        GraphTraining.requireTorch();
        try (TrainableGraph net = new TrainableGraph(model)) {
            LOG.debug(
                    "{}: {} parameters are trained",
                    model.name(),
                    net.parameters().size());
        }
        progress.advanced("easier: images", 0, 1);
        LabelledImages images = LabelledImages.read(
                data,
                sized(how, model.inputs().getFirst()),
                new LabelledImages.Sizes(step.tuning().samples(), step.tuning().valid()),
                classes(model));
        return new DepthReduction(step, seed, images, backend, progress)
                .run(model, output, fingerprint, journaling, watch);
    }

    /** Where the images are that are learned, of data that have others for testing. */
    public static Path learned(Path data) {
        return LabelledImages.learned(data);
    }

    /** With the sizes of the model where the recipe gives none. */
    private static Images sized(Images how, LayerGraph.Port input) {
        return new Images(
                size(how.height(), input, 2, "height"),
                size(how.width(), input, 3, "width"),
                how.order(),
                how.fit(),
                how.scale(),
                how.mean(),
                how.deviation());
    }

    private static Optional<Integer> size(Optional<Integer> wanted, LayerGraph.Port input, int axis, String what) {
        OptionalLong fixed = input.dimensions().size() == 4 ? input.dimensions().get(axis) : OptionalLong.empty();
        if (wanted.isEmpty() && fixed.isEmpty()) {
            throw new ModelException("the model leaves the " + what + " of its images free; say it in the recipe:"
                    + " images: {" + what + ": 224}");
        }
        return wanted.or(() -> Optional.of(Math.toIntExact(fixed.getAsLong())));
    }

    /** Classes that a model tells, where its output says it. */
    static OptionalLong classes(LayerGraph model) {
        List<OptionalLong> scores = model.outputs().getFirst().dimensions();
        return scores.size() < 2 ? OptionalLong.empty() : scores.get(1);
    }

    private Result run(
            LayerGraph model,
            OutputFolder output,
            Map<String, String> fingerprint,
            Journaling journaling,
            Stopwatch watch)
            throws IOException {
        Path folder = output.journal().resolve(Easier.KEY);
        Files.createDirectories(folder);
        FitJournal fits = new FitJournal(
                output, folder, fingerprint(fingerprint), step.tuning().learningRate(), watch, progress);
        List<Round> rounds = new ArrayList<>(rounds(folder, output, fits));
        if (journaling == Journaling.RESUME) {
            progress.resumed(rounds.size());
        }
        int total = taken(model).size();
        if (total == 0) {
            throw new RecipeException("easier: " + model.name() + " has no activation that can become linear"
                    + Rectifiers.of(model).refused().values().stream()
                            .findFirst()
                            .map(reason -> " (" + reason + ")")
                            .orElse("")
                    + "; give a network with rectifiers, or other targets");
        }
        List<LayerGraph> graphs = new ArrayList<>(List.of(model));
        for (Round round : rounds) {
            if (round.kept() && round.round() > 0) {
                graphs.add(read(folder, round.round(), output));
            }
        }
        if (rounds.isEmpty()) {
            rounds.add(asItCame(model));
            save(folder, output, fits, rounds, journaling);
        }
        String stopped = null;
        while (stopped == null) {
            stopped = stopped(rounds, graphs.getLast());
            if (stopped == null) {
                progress.checkpoint("easier: round " + rounds.size(), rounds.size() - 1, total);
                round(graphs.getLast(), rounds, total, folder, output, fits, journaling)
                        .ifPresent(graphs::add);
            }
        }
        float[] pixels = Arrays.copyOf(images.train().pixels(), images.form().size());
        Tensor sample = images.batch(model.inputs().getFirst().name(), pixels);
        return new Result(rounds, graphs, sample, stopped, fits.warnings());
    }

    private List<Rectifier> taken(LayerGraph graph) {
        return Rectifiers.of(graph).all().stream()
                .filter(rectifier -> step.takes(rectifier.name()))
                .toList();
    }

    private String stopped(List<Round> rounds, LayerGraph graph) {
        Round last = rounds.getLast();
        if (!last.kept()) {
            return String.format(
                    Locale.ROOT,
                    "round %d lost %.2f points of validation accuracy, more than delta's %.2f",
                    last.round(),
                    100 * (rounds.getFirst().valid() - last.valid()),
                    100 * step.delta());
        }
        int done = rounds.stream().mapToInt(round -> round.linearised().size()).sum();
        if (done >= step.layers()) {
            return done + " activations are linear, as many as the recipe's layers";
        }
        return taken(graph).isEmpty() ? "no activation is left" : null;
    }

    private Round asItCame(LayerGraph model) {
        try (TrainableGraph net = new TrainableGraph(model)) {
            Weights weights = net.weights();
            return new Round(
                    0,
                    List.of(),
                    taken(model).size(),
                    List.of(),
                    fitter.accuracy(net, weights, images.valid()),
                    fitter.accuracy(net, weights, images.test()),
                    true,
                    List.of());
        }
    }

    /** One round; gives its graph where that is within delta. */
    private Optional<LayerGraph> round(
            LayerGraph graph,
            List<Round> rounds,
            int total,
            Path folder,
            OutputFolder output,
            FitJournal fits,
            Journaling journaling)
            throws IOException {
        int number = rounds.size();
        List<Rectifier> there = taken(graph);
        Map<String, Entropy.Measured> measured = new LinkedHashMap<>();
        Map<String, Linearization> lines = new HashMap<>();
        measure(graph, there, measured, lines);
        int done = rounds.stream().mapToInt(round -> round.linearised().size()).sum();
        List<Rectifier> chosen = choose(there, measured, number, step.layers() - done);
        LayerGraph straight = graph;
        for (Rectifier rectifier : chosen) {
            straight = lines.get(rectifier.name()).applyTo(straight, rectifier);
        }
        try (TrainableGraph net = new TrainableGraph(straight)) {
            Weights weights = net.weights();
            Easier.Tuning tuning = step.tuning();
            Fitting how = new Fitting(
                    tuning.epochs(),
                    step.batch(),
                    Fitting.Method.SGD,
                    tuning.learningRate(),
                    tuning.momentum(),
                    tuning.decay(),
                    tuning.schedule(),
                    tuning.shift(),
                    tuning.flip());
            int steps = how.steps(images.train().count());
            List<ImageReport.Point> curve = fitter.fit(
                    net,
                    weights,
                    how,
                    new SplittableRandom(seed + number).nextLong(),
                    fits.of(number, journaling),
                    new Fitter.Stage(
                            "round " + number + " without "
                                    + String.join(
                                            ", ",
                                            chosen.stream().map(Rectifier::name).toList()),
                            (number - 1) * steps,
                            total * steps));
            LayerGraph fitted = net.with(weights);
            double valid = fitter.accuracy(net, weights, images.valid());
            boolean kept = valid >= rounds.getFirst().valid() - step.delta();
            rounds.add(new Round(
                    number,
                    chosen.stream().map(Rectifier::name).toList(),
                    taken(fitted).size(),
                    there.stream()
                            .map(rectifier -> new Measured(
                                    rectifier.name(),
                                    measured.get(rectifier.name()).layer()))
                            .toList(),
                    valid,
                    fitter.accuracy(net, weights, images.test()),
                    kept,
                    curve));
            if (kept && journaling != Journaling.OFF) {
                Files.deleteIfExists(file(folder, number));
                OnnxFile.create(file(folder, number), fitted);
            }
            save(folder, output, fits, rounds, journaling);
            return kept ? Optional.of(fitted) : Optional.empty();
        }
    }

    /** Counts states over all training images, and fits lines where the recipe wants the nearest ones. */
    private void measure(
            LayerGraph graph,
            List<Rectifier> rectifiers,
            Map<String, Entropy.Measured> measured,
            Map<String, Linearization> lines) {
        Map<String, Entropy> counters = new LinkedHashMap<>();
        Map<String, Linearization.Fit> sums = new HashMap<>();
        boolean affine = step.linearise() == Linearization.Form.AFFINE;
        Set<String> wanted = new LinkedHashSet<>();
        try (TrainableGraph net = new TrainableGraph(graph)) {
            for (Rectifier rectifier : rectifiers) {
                counters.put(
                        rectifier.name(), new Entropy(rectifier.name(), rectifier.units(), step.entropy(), backend));
                wanted.add(rectifier.input());
                if (affine) {
                    sums.put(rectifier.name(), new Linearization.Fit(rectifier.units()));
                    wanted.add(rectifier.output());
                }
            }
            Weights weights = net.weights();
            String input = net.graph().inputs().getFirst().name();
            LabelledImages.Part part = images.train();
            int size = images.form().size();
            // The rule of the authors' repository is about mini-batches of a training.
            int batch = step.entropy() == Entropy.Rule.EASIER_REPO ? step.batch() : MEASURED;
            for (int from = 0; from < part.count(); from += batch) {
                progress.stopIfCancelled("entropies");
                float[] pixels = new float[Math.min(batch, part.count() - from) * size];
                System.arraycopy(part.pixels(), from * size, pixels, 0, pixels.length);
                net.values(weights, List.of(images.batch(input, pixels)), wanted, values -> {
                    for (Rectifier rectifier : rectifiers) {
                        Tensor in = values.get(rectifier.input());
                        counters.get(rectifier.name()).add(in);
                        counters.get(rectifier.name()).endBatch();
                        if (affine) {
                            sums.get(rectifier.name()).add(in, values.get(rectifier.output()));
                        }
                    }
                });
            }
            for (Rectifier rectifier : rectifiers) {
                Entropy.Measured states = counters.get(rectifier.name()).measured();
                measured.put(rectifier.name(), states);
                lines.put(
                        rectifier.name(),
                        switch (step.linearise()) {
                            case IDENTITY -> Linearization.identity(states.units());
                            case SIGN -> Linearization.sign(states);
                            case AFFINE -> sums.get(rectifier.name()).line();
                        });
            }
        } finally {
            counters.values().forEach(Entropy::close);
        }
    }

    /**
     * One activation, the first of equal ones; more only where the recipe takes all whose entropy is 0.
     *
     * @param most that the recipe's layers leave
     */
    private List<Rectifier> choose(List<Rectifier> there, Map<String, Entropy.Measured> measured, int round, int most) {
        Comparator<Rectifier> byEntropy = Comparator.comparingDouble(
                rectifier -> measured.get(rectifier.name()).layer());
        Rectifier chosen = switch (step.order()) {
            case LOWEST -> there.stream().min(byEntropy).orElseThrow();
            case HIGHEST -> there.stream().min(byEntropy.reversed()).orElseThrow();
            case RANDOM -> there.get(new SplittableRandom(-seed - round).nextInt(there.size()));
        };
        if (!step.zeroEntropyAll()) {
            return List.of(chosen);
        }
        Stream<Rectifier> idle = there.stream()
                .filter(rectifier -> !rectifier.equals(chosen)
                        && measured.get(rectifier.name()).layer() == 0);
        return Stream.concat(Stream.of(chosen), idle).limit(most).toList();
    }

    // ---- journal

    private Fingerprint fingerprint(Map<String, String> others) {
        Map<String, String> fields = new HashMap<>(others);
        fields.put("data", images.sha256());
        return new Fingerprint(fields);
    }

    private static Path file(Path folder, int round) {
        return folder.resolve("round-" + round + ".onnx");
    }

    private static List<Round> rounds(Path folder, OutputFolder output, FitJournal fits) {
        Path file = folder.resolve(ROUNDS);
        if (!Files.exists(file)) {
            return List.of();
        }
        About about = KeptFile.read(output, file, About.class, SealedFile::about);
        fits.resumed(about.origin());
        return about.rounds();
    }

    private void save(Path folder, OutputFolder output, FitJournal fits, List<Round> rounds, Journaling journaling) {
        if (journaling == Journaling.OFF) {
            return;
        }
        KeptFile.write(output, folder.resolve(ROUNDS), List.of(), new About(fits.origin(), rounds));
        progress.journaled(rounds.size());
    }

    /** A round's graph, with weights of its own. */
    private static LayerGraph read(Path folder, int round, OutputFolder output) {
        Path path = file(folder, round);
        try (OnnxFile file = OnnxFile.open(path)) {
            LayerGraph graph = file.layers();
            LayerGraph.Editor edit = graph.edit();
            graph.constants()
                    .values()
                    .forEach(tensor -> edit.constant(new Tensor(
                            tensor.name(),
                            tensor.dtype(),
                            tensor.shape(),
                            MemorySegment.ofArray(tensor.data().toArray(ValueLayout.JAVA_BYTE)))));
            return edit.build();
        } catch (FormatException | UncheckedIOException e) {
            throw output.damagedJournal(path, e);
        }
    }
}
