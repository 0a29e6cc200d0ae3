package org.sentei.engine;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.IntPredicate;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Targets;
import org.sentei.engine.report.Report;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.method.quantize.Quantize;
import org.sentei.model.GraphModel;
import org.sentei.model.ModelException;
import org.sentei.model.TokenBatch;
import org.sentei.model.graph.IntegerExecutor;
import org.sentei.model.graph.LayerGraph;
import org.sentei.model.onnx.OnnxEncoder;
import org.sentei.model.onnx.OnnxSession;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** The step of a recipe that quantizes: an ONNX file takes the place of another, judged on samples and scored on labelled ones. */
final class QuantizationRun {
    /** Labelled samples that every pass is scored on. */
    private static final int STAGE_SAMPLES = 500;

    private static final String KEYS = "keys.txt";

    private final CompressionRequest request;
    private final Backend backend;
    private final Recipe.Quantizing step;
    private final Progress progress;

    /**
     * What is to be told.
     *
     * @param sites as layers that methods worked on
     */
    record Outcome(
            Report.Quantization told,
            Optional<Report.Calibration> calibration,
            List<Report.SiteResult> sites,
            List<Report.Measure> measures,
            List<String> warnings) {}

    QuantizationRun(CompressionRequest request, Backend backend, Progress progress) {
        this.request = request;
        this.backend = backend;
        this.step = request.recipe().quantize().orElseThrow();
        this.progress = progress;
    }

    /** Whether a model takes images: one input of four axes. */
    static boolean takesImages(LayerGraph graph) {
        return graph.inputs().size() == 1
                && graph.inputs().getFirst().dtype() == DType.F32
                && graph.inputs().getFirst().dimensions().size() == 4;
    }

    /** Refuses patterns that no layer has, before work starts. */
    static void check(Recipe.Quantizing step, LayerGraph graph) {
        List<String> names = graph.layers().stream().map(layer -> layer.name()).toList();
        for (List<String> patterns : List.of(step.targets(), step.ignore())) {
            for (String pattern : patterns) {
                if (names.stream().noneMatch(name -> Targets.matches(pattern, name))) {
                    throw new RecipeException(
                            "quantize: " + pattern + " matches no layer of the model; their names are in"
                                    + " its nodes, for example " + names.getFirst());
                }
            }
        }
    }

    /**
     * Quantizes a file in its place.
     *
     * @param written the model as the steps before left it
     * @param windows tokens, for models that take them
     * @throws RecipeException when there are no samples
     */
    Outcome run(Path written, Supplier<Calibration> windows) {
        Path samples = request.calibration()
                .orElseThrow(() -> new RecipeException("quantize finds ranges on samples, but there are none; name a"
                        + " folder of images, an idx file or a text with --calibration"));
        Quantize.Result result;
        Report.Quantization told;
        List<Report.Measure> measures = new ArrayList<>();
        Optional<Report.Calibration> calibration = Optional.empty();
        List<String> warnings;
        Path next = written.resolveSibling(written.getFileName() + ".int8");
        long started = System.nanoTime();
        try (OnnxFile original = OnnxFile.open(request.model());
                OnnxFile file = OnnxFile.open(written);
                Arena arena = Arena.ofConfined()) {
            LayerGraph graph = file.layers();
            SampleRunner.Samples inputs;
            Optional<Scorer> scorer = Optional.empty();
            if (takesImages(graph)) {
                ImageData images =
                        images(samples, graph, request.recipe().calibration().samples());
                inputs = images;
                calibration =
                        Optional.of(new Report.Calibration(samples.toString(), images.sha256(), images.count(), 0));
                scorer = request.data().map(data -> new Scorer(file, images(data, graph, Integer.MAX_VALUE), keys()));
            } else {
                inputs = tokens(file, graph, windows.get(), arena);
            }
            Optional<Scorer> measuring = scorer;
            SampleRunner runner =
                    new SampleRunner(file, inputs, request.options().threads(), progress);
            result = Quantize.run(
                    graph,
                    step.how(),
                    step::takes,
                    runner,
                    changed -> measuring
                            .map(score -> OptionalDouble.of(
                                    score.of(changed, STAGE_SAMPLES).share()))
                            .orElse(OptionalDouble.empty()),
                    stage -> progress.advanced("quantize: " + stage, 0, 1));
            file.write(next, result.graph());
            warnings = new ArrayList<>(result.notes());
            Report.Paired paired = null;
            Report.Executor executor = null;
            if (scorer.isPresent()) {
                progress.advanced("quantize: score", 0, 1);
                Scorer.Score before =
                        new Scorer(original, scorer.get().data, keys()).of(original.layers(), Integer.MAX_VALUE);
                Scorer.Score after = scorer.get().of(result.graph(), Integer.MAX_VALUE);
                measures.add(new Report.Measure(scorer.get().metric(), before.share(), after.share()));
                measures.add(new Report.Measure("agreement", 1, after.agreement(before)));
                paired = after.paired(before);
                executor = executor(next, scorer.get(), after);
            }
            told = told(result, paired, executor);
        }
        try {
            Files.move(next, written, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new Outcome(told, calibration, sites(result, (System.nanoTime() - started) * 1e-9), measures, warnings);
    }

    /** The file that was written, on our own kernels, beside ONNX Runtime. */
    private Report.Executor executor(Path model, Scorer scorer, Scorer.Score runtime) {
        progress.advanced("quantize: integers on " + backend.info().backend(), 0, 1);
        List<String> predicted = new ArrayList<>();
        int count = Math.min(STAGE_SAMPLES, scorer.data.count());
        try (OnnxFile file = OnnxFile.open(model);
                IntegerExecutor executor = new IntegerExecutor(
                        file.layers(),
                        backend,
                        new OrtParts(file, request.options().threads()))) {
            String output = file.layers().outputs().getFirst().name();
            for (int sample = 0; sample < count; sample++) {
                progress.stopIfCancelled("samples");
                predicted.add(scorer.read(executor.run(scorer.data.inputs(sample), List.of(output))
                        .get(output)));
            }
        }
        Scorer.Score own = new Scorer.Score(predicted, runtime.right().subList(0, count));
        Scorer.Score same = new Scorer.Score(
                runtime.predicted().subList(0, count), runtime.right().subList(0, count));
        return new Report.Executor(backend.info().backend(), count, own.share(), same.share(), own.agreement(same));
    }

    private ImageData images(Path source, LayerGraph graph, int most) {
        return ImageData.read(source, request.recipe().images(), graph.inputs().getFirst(), most);
    }

    /** Characters that a recogniser's outputs stand for, when the model has such a file. */
    private Optional<List<String>> keys() {
        Path file = request.model().toAbsolutePath().resolveSibling(KEYS);
        try {
            return Files.isRegularFile(file)
                    ? Optional.of(Files.readAllLines(file, StandardCharsets.UTF_8))
                    : Optional.empty();
        } catch (IOException e) {
            throw new ModelException(file + " cannot be read: " + e.getMessage() + "; it is one character a line", e);
        }
    }

    private SampleRunner.Samples tokens(OnnxFile file, LayerGraph graph, Calibration windows, Arena arena) {
        GraphModel runnable = file.runnable(graph, List.of(), arena);
        List<List<Tensor>> fed = new ArrayList<>();
        try (OnnxSession session = OnnxSession.open(runnable, 1)) {
            OnnxEncoder encoder = new OnnxEncoder(session);
            for (Calibration.Batches batches : List.of(windows.fitting(), windows.heldOut())) {
                for (int batch = 0; batch < batches.count(); batch++) {
                    for (int[] window : batches.batches().get(batch)) {
                        int[] mask = new int[window.length];
                        Arrays.fill(mask, 1);
                        fed.add(encoder.feed(TokenBatch.of(new int[][] {window}, new int[][] {mask})));
                    }
                }
            }
        }
        return new SampleRunner.Samples() {
            @Override
            public int count() {
                return fed.size();
            }

            @Override
            public List<Tensor> inputs(int sample) {
                return fed.get(sample);
            }
        };
    }

    private Report.Quantization told(Quantize.Result result, Report.Paired paired, Report.Executor executor) {
        return new Report.Quantization(
                step.how().form().name().toLowerCase(Locale.ROOT),
                result.layers().stream()
                        .map(layer -> new Report.QuantizedLayer(
                                layer.name(),
                                layer.operator(),
                                layer.rows(),
                                layer.cols(),
                                layer.zerosBefore(),
                                layer.zerosAfter(),
                                layer.signalToNoise().isPresent()
                                        ? layer.signalToNoise().getAsDouble()
                                        : null))
                        .toList(),
                result.stages().stream()
                        .map(stage -> new Report.Pass(
                                stage.pass(),
                                Double.isFinite(stage.signalToNoise()) ? stage.signalToNoise() : null,
                                stage.score().isPresent() ? stage.score().getAsDouble() : null))
                        .toList(),
                result.inFloat(),
                paired,
                executor);
    }

    private static List<Report.SiteResult> sites(Quantize.Result result, double seconds) {
        return result.layers().stream()
                .map(layer -> new Report.SiteResult(
                        layer.name(),
                        Recipe.Quantizing.KEY,
                        layer.rows(),
                        layer.cols(),
                        0,
                        0,
                        layer.zerosAfter(),
                        layer.parameters(),
                        layer.signalToNoise().isPresent()
                                ? Double.valueOf(
                                        Math.pow(10, -layer.signalToNoise().getAsDouble() / 20))
                                : null,
                        seconds / result.layers().size(),
                        (double) layer.zerosAfter() / layer.parameters(),
                        "unstructured",
                        null,
                        null,
                        null,
                        null))
                .toList();
    }

    /** Scores a graph on labelled images: the largest output, or the text that a recogniser reads. */
    private final class Scorer {
        private final OnnxFile file;
        private final ImageData data;
        private final Optional<List<String>> keys;

        /** Predictions of a graph, and what would be right. */
        private record Score(List<String> predicted, List<String> right) {
            double share() {
                return (double) count(this::isRight) / predicted.size();
            }

            private boolean isRight(int sample) {
                return predicted.get(sample).equals(right.get(sample));
            }

            private long count(IntPredicate which) {
                return IntStream.range(0, predicted.size()).filter(which).count();
            }

            double agreement(Score other) {
                return (double) count(i -> predicted.get(i).equals(other.predicted.get(i))) / predicted.size();
            }

            Report.Paired paired(Score before) {
                return new Report.Paired(
                        count(i -> isRight(i) && before.isRight(i)),
                        count(i -> !isRight(i) && before.isRight(i)),
                        count(i -> isRight(i) && !before.isRight(i)),
                        count(i -> !isRight(i) && !before.isRight(i)));
            }
        }

        Scorer(OnnxFile file, ImageData data, Optional<List<String>> keys) {
            this.file = file;
            this.data = data;
            this.keys = keys;
            if (!data.labelled()) {
                throw new RecipeException(
                        "images " + data.source()
                                + " have no labels to score on; give a labels.csv or a folder for every class, or leave --data out");
            }
        }

        String metric() {
            return keys.isPresent() ? "exact_match" : "top1";
        }

        Score of(LayerGraph graph, int most) {
            String output = graph.outputs().getFirst().name();
            List<String> predicted = new ArrayList<>();
            List<String> right = new ArrayList<>();
            int count = Math.min(most, data.count());
            new SampleRunner(file, data, request.options().threads(), progress)
                    .run(
                            List.of(new GraphRunner.Tapped(graph, List.of(output))),
                            0,
                            count,
                            (List<Map<String, Tensor>> batch) ->
                                    predicted.add(read(batch.getFirst().get(output))));
            for (int i = 0; i < count; i++) {
                String label = data.label(i);
                right.add(keys.isPresent() ? label.replace(" ", "") : label);
            }
            return new Score(predicted, right);
        }

        private String read(Tensor output) {
            if (output.dtype() != DType.F32) {
                throw new ModelException("output " + output.name() + " is " + output.dtype() + ", no scores in fp32");
            }
            return Predictions.read(output, keys);
        }
    }
}
