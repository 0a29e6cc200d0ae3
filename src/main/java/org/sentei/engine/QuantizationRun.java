package org.sentei.engine;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Supplier;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Targets;
import org.sentei.engine.report.Report;
import org.sentei.format.OnnxFile;
import org.sentei.kernel.Backend;
import org.sentei.method.quantize.Quantize;
import org.sentei.model.graph.IntegerExecutor;
import org.sentei.model.graph.LayerGraph;

/** The step of a recipe that quantizes: an ONNX file takes the place of another, judged on samples and scored on labelled ones. */
final class QuantizationRun {
    /** Labelled samples that every pass is scored on. */
    private static final int STAGE_SAMPLES = 500;
    /** Samples that our own kernels score: enough to tell a tenth of a point. */
    private static final int EXECUTED_SAMPLES = 5000;

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
            Optional<ImageScorer> scorer = Optional.empty();
            if (GraphSamples.takesImages(graph)) {
                ImageData images =
                        images(samples, graph, request.recipe().calibration().samples());
                inputs = images;
                calibration =
                        Optional.of(new Report.Calibration(samples.toString(), images.sha256(), images.count(), 0));
                scorer = request.data()
                        .map(data -> new ImageScorer(
                                file,
                                images(data, graph, Integer.MAX_VALUE),
                                GraphSamples.keys(request.model()),
                                request.options().threads(),
                                progress));
            } else {
                inputs = GraphSamples.tokens(file, graph, windows.get(), arena);
            }
            Optional<ImageScorer> measuring = scorer;
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
                ImageScorer.Score before = new ImageScorer(
                                original,
                                scorer.get().data(),
                                GraphSamples.keys(request.model()),
                                request.options().threads(),
                                progress)
                        .of(original.layers(), Integer.MAX_VALUE);
                ImageScorer.Score after = scorer.get().of(result.graph(), Integer.MAX_VALUE);
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
    private Report.Executor executor(Path model, ImageScorer scorer, ImageScorer.Score runtime) {
        String stage = "quantize: integers on " + backend.info().backend();
        List<String> predicted = new ArrayList<>();
        int count = Math.min(EXECUTED_SAMPLES, scorer.data().count());
        try (OnnxFile file = OnnxFile.open(model);
                IntegerExecutor executor = new IntegerExecutor(
                        file.layers(),
                        backend,
                        new OrtParts(file, request.options().threads()))) {
            String output = file.layers().outputs().getFirst().name();
            for (int sample = 0; sample < count; sample++) {
                progress.advanced(stage, sample, count);
                progress.stopIfCancelled("samples");
                predicted.add(scorer.read(executor.run(scorer.data().inputs(sample), List.of(output))
                        .get(output)));
            }
        }
        ImageScorer.Score own = new ImageScorer.Score(predicted, runtime.right().subList(0, count));
        ImageScorer.Score same = new ImageScorer.Score(
                runtime.predicted().subList(0, count), runtime.right().subList(0, count));
        return new Report.Executor(backend.info().backend(), count, own.share(), same.share(), own.agreement(same));
    }

    private ImageData images(Path source, LayerGraph graph, int most) {
        return ImageData.read(source, request.recipe().images(), graph.inputs().getFirst(), most);
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
}
