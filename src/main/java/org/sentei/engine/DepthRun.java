package org.sentei.engine;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.engine.training.DepthReduction;
import org.sentei.engine.training.DepthReport;
import org.sentei.format.OnnxFile;
import org.sentei.format.OutputFolder;
import org.sentei.format.PendingFile;
import org.sentei.kernel.Backend;
import org.sentei.model.graph.LayerGraph;

/** The step that trains a network with fewer and fewer activations, over an ONNX file in the output folder. */
final class DepthRun {
    private final CompressionRequest request;
    private final Backend backend;
    private final Progress progress;
    private final Easier step;

    /** What the report is told. */
    record Outcome(List<Report.Round> rounds, List<Report.Measure> measures, List<String> warnings) {}

    DepthRun(CompressionRequest request, Backend backend, Progress progress) {
        this.request = request;
        this.backend = backend;
        this.progress = progress;
        this.step = request.recipe().easier().orElseThrow();
    }

    /** Refuses what cannot be trained, before work starts. */
    static void check(CompressionRequest request, boolean images) {
        if (!images) {
            throw new RecipeException(
                    "easier with mode fine-tune trains networks of images, one input of batch, channels,"
                            + " rows and columns, which this model is not; use mode one-shot");
        }
        if (request.data().isEmpty()) {
            throw new RecipeException("easier with mode fine-tune trains on labelled images, but there are none; name a"
                    + " folder with --data");
        }
    }

    /**
     * Rewrites a file in its place; the rounds stay beside it as {@code rounds.json} and {@code rounds.svg}.
     *
     * @param weights hash of the model that came
     */
    Outcome run(Path written, OutputFolder output, String weights, Journaling journaling, Stopwatch watch)
            throws IOException {
        Path next = written.resolveSibling(written.getFileName() + ".shallow");
        DepthReduction.Result result;
        Latency times;
        try (OnnxFile file = OnnxFile.open(written)) {
            LayerGraph graph = file.layers();
            result = DepthReduction.run(
                    step,
                    request.recipe().seed(),
                    request.recipe().images(),
                    request.data().orElseThrow(),
                    graph,
                    backend,
                    output,
                    fingerprint(weights),
                    journaling,
                    watch,
                    progress);
            progress.advanced("easier: rounds timed", 0, 1);
            times = Latency.of(
                    file,
                    result.graphs(),
                    List.of(result.sample()),
                    request.options().threads());
            file.write(next, result.graph());
        }
        Files.move(next, written, StandardCopyOption.REPLACE_EXISTING);
        DepthReport report = new DepthReport(step, result);
        PendingFile.write(output.path().resolve("rounds.json"), report.json());
        PendingFile.write(output.path().resolve("rounds.svg"), report.curves());
        DepthReduction.Round first = result.rounds().getFirst();
        DepthReduction.Round last = result.rounds().stream()
                .filter(DepthReduction.Round::kept)
                .reduce((_, later) -> later)
                .orElseThrow();
        List<String> warnings = new ArrayList<>(result.warnings());
        if (last.round() == 0) {
            warnings.add("easier: every activation stays, " + result.stopped());
        }
        return new Outcome(
                rounds(result, times),
                List.of(
                        new Report.Measure("top1", first.test(), last.test()),
                        new Report.Measure("top1_valid", first.valid(), last.valid()),
                        new Report.Measure("activations", first.remaining(), last.remaining())),
                warnings);
    }

    private static List<Report.Round> rounds(DepthReduction.Result result, Latency times) {
        List<Report.Round> rounds = new ArrayList<>();
        int graph = 0;
        for (DepthReduction.Round round : result.rounds()) {
            rounds.add(new Report.Round(
                    round.round(),
                    round.linearised(),
                    round.entropies().stream()
                            .filter(measured -> round.linearised().contains(measured.name()))
                            .map(DepthReduction.Measured::entropy)
                            .toList(),
                    round.remaining(),
                    round.valid(),
                    round.test(),
                    round.kept(),
                    round.kept() ? Double.valueOf(times.median(graph++)) : null));
        }
        return rounds;
    }

    /** All that the result depends on, but for the learning rate, which may be lowered on the way. */
    private Map<String, String> fingerprint(String weights) {
        Map<String, String> fields = new HashMap<>(Fingerprint.fields(backend.info()));
        fields.put("sentei", Version.current());
        fields.put("model.weights", weights);
        fields.put("recipe.seed", Long.toString(request.recipe().seed()));
        fields.put("recipe.steps", request.recipe().steps().toString());
        fields.put("recipe.images", request.recipe().images().toString());
        fields.put("recipe.easier", step.withLearningRate(1).toString());
        return fields;
    }
}
