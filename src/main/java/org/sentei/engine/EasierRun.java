package org.sentei.engine;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Random;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Targets;
import org.sentei.engine.report.Report;
import org.sentei.engine.training.DepthReduction;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.method.easier.Entropy;
import org.sentei.method.easier.Linearization;
import org.sentei.method.easier.Merge;
import org.sentei.method.easier.Merger;
import org.sentei.method.easier.NetworkSize;
import org.sentei.method.easier.Rectifier;
import org.sentei.method.easier.Rectifiers;
import org.sentei.method.quantize.Folding;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.model.ModelException;
import org.sentei.model.graph.Layer;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.graph.Operation;
import org.sentei.tensor.DType;
import org.sentei.tensor.Floats;
import org.sentei.tensor.Shape;
import org.sentei.tensor.Tensor;

/**
 * The step of a recipe that makes a network shallower. At once, without training, activations of lowest entropy become lines that are
 * fitted on samples; behind a training, which did that, none is left to do. What is linear then merges where that is measured to be
 * faster.
 */
final class EasierRun {
    /** Samples on which a merged model is held against the separate one. */
    private static final int VERIFIED = 8;

    private final CompressionRequest request;
    private final Backend backend;
    private final Easier step;
    private final Progress progress;

    /** What is to be told. */
    record Outcome(
            Report.Depth told,
            Optional<Report.Calibration> calibration,
            List<Report.Measure> measures,
            List<String> warnings) {}

    EasierRun(CompressionRequest request, Backend backend, Progress progress) {
        this.request = request;
        this.backend = backend;
        this.step = request.recipe().easier().orElseThrow();
        this.progress = progress;
    }

    /**
     * Refuses, before work starts, patterns that no activation has, and more activations than there are.
     */
    static void check(Easier step, LayerGraph graph) {
        Rectifiers found = Rectifiers.of(graph);
        if (found.all().isEmpty()) {
            throw new RecipeException("easier: " + graph.name() + " has no activation that could become linear"
                    + reasons(found.refused()));
        }
        List<String> names = found.all().stream().map(Rectifier::name).toList();
        for (String pattern :
                Stream.concat(step.targets().stream(), step.ignore().stream()).toList()) {
            if (names.stream().noneMatch(name -> Targets.matches(pattern, name))) {
                throw new RecipeException("easier: " + pattern + " matches no activation of the model; there are "
                        + String.join(", ", names) + reasons(found.refused()));
            }
        }
        long taken = found.all().stream().filter(one -> step.takes(one.name())).count();
        if (step.mode() == Easier.Mode.ONE_SHOT && step.layers() > taken) {
            throw new RecipeException("easier: layers asks for " + step.layers() + " activations, but the model has "
                    + taken + " that can become linear (" + String.join(", ", names) + "); ask for at most as many"
                    + reasons(found.refused()));
        }
    }

    private static String reasons(Map<String, String> refused) {
        return refused.isEmpty()
                ? ""
                : "; left out: "
                        + String.join(
                                "; ",
                                refused.entrySet().stream()
                                        .map(entry -> entry.getKey() + " " + entry.getValue())
                                        .toList());
    }

    /** A measured activation. */
    private record Seen(Rectifier rectifier, Entropy.Measured measured) {}

    /** What every part of a run works on. */
    private record Work(OnnxFile file, SampleRunner runner, SampleRunner.Samples samples, int threads) {
        List<Tensor> sample() {
            return samples.inputs(0);
        }
    }

    /**
     * Changes a file in its place.
     *
     * @param written the model as the steps before left it
     * @param windows tokens, for models that take them
     * @param rounds of the training before; none for mode one-shot
     * @throws RecipeException when there are no samples
     */
    Outcome run(Path written, Supplier<Calibration> windows, List<Report.Round> rounds) {
        boolean tuned = step.mode() == Easier.Mode.FINE_TUNE;
        Path source = tuned
                ? DepthReduction.learned(request.data().orElseThrow())
                : request.calibration().orElseThrow();
        Path next = written.resolveSibling(written.getFileName() + ".shallow");
        Outcome outcome;
        int threads = request.options().threads();
        try (OnnxFile original = OnnxFile.open(request.model());
                OnnxFile file = OnnxFile.open(written);
                Arena arena = Arena.ofConfined()) {
            LayerGraph dense = file.layers();
            SampleRunner.Samples samples;
            Optional<Report.Calibration> calibration = Optional.empty();
            Optional<ImageScorer> scorer = Optional.empty();
            if (GraphSamples.takesImages(dense)) {
                ImageData images =
                        images(source, dense, request.recipe().calibration().samples());
                samples = images;
                calibration =
                        Optional.of(new Report.Calibration(source.toString(), images.sha256(), images.count(), 0));
                scorer = request.data()
                        .filter(_ -> !tuned)
                        .map(data -> new ImageScorer(
                                file,
                                images(data, dense, Integer.MAX_VALUE),
                                GraphSamples.keys(request.model()),
                                threads,
                                progress));
            } else {
                samples = GraphSamples.tokens(file, dense, windows.get(), arena);
            }
            Work work = new Work(file, new SampleRunner(file, samples, threads, progress), samples, threads);
            List<Seen> seen = measure(work, dense, Rectifiers.of(dense).all());
            Set<String> chosen = tuned ? Set.of() : chosen(seen);
            LayerGraph linear = linearise(work, dense, seen, chosen);
            Merger.Result merged = merge(work, linear);
            LayerGraph given = tuned ? original.layers() : dense;
            outcome = told(work, original, given, linear, merged, seen, chosen, rounds, calibration, scorer);
            file.write(next, merged.graph());
        }
        try {
            Files.move(next, written, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return outcome;
    }

    private ImageData images(Path source, LayerGraph graph, int most) {
        return ImageData.read(source, request.recipe().images(), graph.inputs().getFirst(), most);
    }

    // ---- entropy

    private List<Seen> measure(Work work, LayerGraph graph, List<Rectifier> rectifiers) {
        if (rectifiers.isEmpty()) {
            // Training may have left none.
            return List.of();
        }
        List<String> inputs =
                rectifiers.stream().map(Rectifier::input).distinct().toList();
        List<Entropy> entropies = new ArrayList<>();
        try {
            for (Rectifier rectifier : rectifiers) {
                entropies.add(new Entropy(rectifier.name(), rectifier.units(), step.entropy(), backend));
            }
            int[] count = {0};
            work.runner()
                    .run(
                            List.of(new GraphRunner.Tapped(graph.upTo(inputs), inputs)),
                            0,
                            work.samples().count(),
                            batch -> {
                                count[0]++;
                                for (int i = 0; i < rectifiers.size(); i++) {
                                    entropies
                                            .get(i)
                                            .add(batch.getFirst()
                                                    .get(rectifiers.get(i).input()));
                                    if (count[0] % step.batch() == 0) {
                                        entropies.get(i).endBatch();
                                    }
                                }
                                progress.advanced(
                                        "easier: entropy",
                                        count[0],
                                        work.samples().count());
                            });
            List<Seen> seen = new ArrayList<>();
            for (int i = 0; i < rectifiers.size(); i++) {
                seen.add(new Seen(rectifiers.get(i), entropies.get(i).measured()));
            }
            return seen;
        } finally {
            entropies.reversed().forEach(Entropy::close);
        }
    }

    /** The activations of lowest entropy, the first one first where two are equal. */
    private Set<String> chosen(List<Seen> seen) {
        Set<String> chosen = new LinkedHashSet<>();
        seen.stream()
                .filter(one -> step.takes(one.rectifier().name()))
                .sorted(Comparator.comparingDouble(one -> one.measured().layer()))
                .limit(step.layers())
                .forEach(one -> chosen.add(one.rectifier().name()));
        return chosen;
    }

    // ---- lines

    /**
     * The graph with lines in place of activations, in the order they run: a fitted one makes of what reaches it, behind the lines
     * before it, what the dense graph has there.
     */
    private LayerGraph linearise(Work work, LayerGraph dense, List<Seen> seen, Set<String> chosen) {
        LayerGraph linear = dense;
        int done = 0;
        for (Seen one : seen) {
            Rectifier rectifier = one.rectifier();
            if (!chosen.contains(rectifier.name())) {
                continue;
            }
            progress.advanced("easier: lines", done++, chosen.size());
            LayerGraph before = linear;
            // What goes in may have got another name, from a line before.
            Rectifier there = Rectifiers.of(before).all().stream()
                    .filter(known -> known.name().equals(rectifier.name()))
                    .findFirst()
                    .orElseThrow();
            Linearization line = switch (step.linearise()) {
                case IDENTITY -> Linearization.identity(one.measured().units());
                case SIGN -> Linearization.sign(one.measured());
                case AFFINE -> {
                    Linearization.Fit fit = new Linearization.Fit(there.units());
                    work.runner()
                            .run(
                                    List.of(tapped(before, there.input()), tapped(dense, rectifier.output())),
                                    0,
                                    work.samples().count(),
                                    batch -> fit.add(
                                            batch.getFirst().get(there.input()),
                                            batch.getLast().get(rectifier.output())));
                    yield fit.line();
                }
            };
            linear = line.applyTo(before, there);
        }
        return linear;
    }

    private static GraphRunner.Tapped tapped(LayerGraph graph, String value) {
        return new GraphRunner.Tapped(graph.upTo(List.of(value)), List.of(value));
    }

    // ---- merges

    private Merger.Result merge(Work work, LayerGraph linear) {
        if (step.merge() == Easier.Merging.OFF) {
            return new Merger.Result(linear, List.of());
        }
        LayerGraph folded = Folding.fold(linear);
        boolean isFixed = folded.inputs().stream()
                .allMatch(port -> !port.dimensions().isEmpty()
                        && port.dimensions().stream().skip(1).allMatch(OptionalLong::isPresent));
        Map<String, Shape> shapes = shapes(work, folded);
        Merge.Terms terms = new Merge.Terms(shapes, isFixed, step.merge() == Easier.Merging.PAD_FIRST);
        int[] timed = {0};
        return Merger.run(folded, terms, new Merger.Trial() {
            @Override
            public Merger.Times time(Merge.Pieces pieces) {
                progress.stopIfCancelled("merges");
                progress.advanced("easier: merges timed", timed[0]++, Math.max(timed[0], 1));
                LayerGraph.Port input = pieces.separate().inputs().getFirst();
                return times(
                        pieces.separate(), pieces.merged(), List.of(numbers(input.name(), shapes.get(input.name()))));
            }

            @Override
            public Merger.Times timeWhole(LayerGraph separate, LayerGraph merged) {
                return times(separate, merged, work.sample());
            }

            private Merger.Times times(LayerGraph separate, LayerGraph merged, List<Tensor> inputs) {
                Latency times = Latency.of(work.file(), List.of(separate, merged), inputs, work.threads());
                return new Merger.Times(times.median(0), times.median(1), times.wins(1, 0));
            }

            @Override
            public double difference(LayerGraph changed, LayerGraph reference) {
                return largestDifference(work, changed, reference);
            }
        });
    }

    /** Seeded numbers for pieces to be timed on. */
    private static Tensor numbers(String name, Shape shape) {
        if (shape == null) {
            throw new ModelException("value " + name + " was not seen in any sample; report this");
        }
        Random random = new Random(1);
        float[] values = new float[Math.toIntExact(shape.elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return new Tensor(name, DType.F32, shape, MemorySegment.ofArray(values));
    }

    /** Shapes of what layers with weights read and make of one sample. */
    private Map<String, Shape> shapes(Work work, LayerGraph graph) {
        Set<String> values = new LinkedHashSet<>();
        for (Layer layer : graph.layers()) {
            boolean merges = switch (Operation.of(graph, layer)) {
                case Operation.Convolution _, Operation.Linear _, Operation.Normalization _, Operation.Arithmetic _ ->
                    true;
                default -> false;
            };
            if (merges) {
                Stream.of(layer.input(0), layer.output())
                        .filter(value -> graph.producer(value).isPresent())
                        .forEach(values::add);
            }
        }
        Map<String, Shape> shapes = new HashMap<>();
        List<String> all = List.copyOf(values);
        work.runner()
                .run(
                        List.of(new GraphRunner.Tapped(graph.upTo(all), all)),
                        0,
                        1,
                        batch -> batch.getFirst().forEach((value, tensor) -> shapes.put(value, tensor.shape())));
        work.sample().forEach(input -> shapes.put(input.name(), input.shape()));
        return shapes;
    }

    private double largestDifference(Work work, LayerGraph changed, LayerGraph reference) {
        List<String> outputs = outputs(reference);
        LargestDifference largest = new LargestDifference();
        work.runner()
                .run(
                        List.of(new GraphRunner.Tapped(changed, outputs), new GraphRunner.Tapped(reference, outputs)),
                        0,
                        Math.min(VERIFIED, work.samples().count()),
                        batch -> {
                            for (String output : outputs) {
                                largest.add(
                                        Floats.toArray(batch.getFirst().get(output)),
                                        Floats.toArray(batch.getLast().get(output)));
                            }
                        });
        return largest.relative();
    }

    /** Outputs that models can be compared by. */
    private static List<String> outputs(LayerGraph graph) {
        List<String> outputs = graph.outputs().stream()
                .filter(port -> port.dtype() == DType.F32)
                .map(LayerGraph.Port::name)
                .toList();
        if (outputs.isEmpty()) {
            throw new ModelException(graph.name()
                    + " has no output in fp32 to compare it by before and after; convert the" + " model to fp32");
        }
        return outputs;
    }

    // ---- what is told

    private Outcome told(
            Work work,
            OnnxFile original,
            LayerGraph dense,
            LayerGraph linear,
            Merger.Result merged,
            List<Seen> seen,
            Set<String> chosen,
            List<Report.Round> rounds,
            Optional<Report.Calibration> calibration,
            Optional<ImageScorer> scorer) {
        progress.advanced("easier: score", 0, 1);
        List<Report.Measure> measures = new ArrayList<>();
        if (scorer.isPresent()) {
            ImageScorer.Score before = new ImageScorer(
                            original, scorer.get().data(), GraphSamples.keys(request.model()), work.threads(), progress)
                    .of(original.layers(), Integer.MAX_VALUE);
            ImageScorer.Score after = scorer.get().of(merged.graph(), Integer.MAX_VALUE);
            measures.add(new Report.Measure(scorer.get().metric(), before.share(), after.share()));
            measures.add(new Report.Measure("agreement", 1, after.agreement(before)));
        }
        if (step.mode() == Easier.Mode.ONE_SHOT) {
            measures.add(new Report.Measure("cosine", 1, cosine(work, dense, merged.graph())));
        }
        Latency times = Latency.of(work.file(), List.of(dense, linear, merged.graph()), work.sample(), work.threads());
        NetworkSize before = NetworkSize.of(dense, shapes(work, dense));
        NetworkSize after = NetworkSize.of(merged.graph(), shapes(work, merged.graph()));
        List<String> warnings = new ArrayList<>();
        Rectifiers.of(dense)
                .refused()
                .forEach((name, reason) -> warnings.add("activation " + name + " stays: it " + reason));
        if (merged.decisions().stream().anyMatch(made -> made.isMade() && made.border() == Merge.Border.PAD_FIRST)) {
            warnings.add("merge: pad-first moved zeros, so that the network computes something else near the borders of"
                    + " images; fine-tune it");
        }
        Report.Depth told = new Report.Depth(
                word(step.mode()),
                word(step.linearise()),
                word(step.entropy()),
                seen.stream()
                        .map(one -> new Report.Activation(
                                one.rectifier().name(),
                                one.rectifier().kind().key(),
                                one.measured().units(),
                                one.measured().layer(),
                                one.measured().on().sum(),
                                one.measured().off().sum(),
                                one.measured().zero().sum(),
                                chosen.contains(one.rectifier().name())))
                        .toList(),
                merged.decisions().stream()
                        .map(one -> new Report.LayerMerge(
                                one.layers(),
                                one.border() == null ? null : word(one.border()),
                                one.separate(),
                                one.merged(),
                                one.times().map(Merger.Times::separate).orElse(null),
                                one.times().map(Merger.Times::merged).orElse(null),
                                one.isMade(),
                                one.reason()))
                        .toList(),
                size(before, times.median(0)),
                size(after, times.median(2)),
                times.median(1),
                rounds);
        return new Outcome(told, calibration, measures, warnings);
    }

    private static String word(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    private static Report.Size size(NetworkSize size, double seconds) {
        return new Report.Size(size.depth(), size.activations(), size.parameters(), size.multiplications(), seconds);
    }

    /** Mean cosine between the first outputs of two models. */
    private double cosine(Work work, LayerGraph dense, LayerGraph shallow) {
        List<String> output = outputs(dense).subList(0, 1);
        List<Double> cosines = new ArrayList<>();
        work.runner()
                .run(
                        List.of(new GraphRunner.Tapped(dense, output), new GraphRunner.Tapped(shallow, output)),
                        0,
                        work.samples().count(),
                        batch -> {
                            float[] a = Floats.toArray(batch.getFirst().get(output.getFirst()));
                            float[] b = Floats.toArray(batch.getLast().get(output.getFirst()));
                            double product = 0;
                            double first = 0;
                            double second = 0;
                            for (int i = 0; i < a.length; i++) {
                                product += (double) a[i] * b[i];
                                first += (double) a[i] * a[i];
                                second += (double) b[i] * b[i];
                            }
                            double norm = Math.sqrt(first * second);
                            cosines.add(norm == 0 ? 0 : product / norm);
                        });
        double mean =
                cosines.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
        if (!Double.isFinite(mean)) {
            throw new RunException("the shallow model's outputs are not finite; make fewer activations linear, or use"
                    + " linearise: affine");
        }
        return mean;
    }
}
