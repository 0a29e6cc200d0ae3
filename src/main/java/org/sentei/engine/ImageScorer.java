package org.sentei.engine;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.OnnxFile;
import org.sentei.method.quantize.GraphRunner;
import org.sentei.model.ModelException;
import org.sentei.model.graph.LayerGraph;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/** Scores a graph on labelled images: the largest output, or the text that a recogniser reads. */
final class ImageScorer {
    private final OnnxFile file;
    private final ImageData data;
    private final Optional<List<String>> keys;
    private final int threads;
    private final Progress progress;

    /** Predictions of a graph, and what would be right. */
    record Score(List<String> predicted, List<String> right) {
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

    ImageScorer(OnnxFile file, ImageData data, Optional<List<String>> keys, int threads, Progress progress) {
        this.file = file;
        this.data = data;
        this.keys = keys;
        this.threads = threads;
        this.progress = progress;
        if (!data.labelled()) {
            throw new RecipeException(
                    "images " + data.source()
                            + " have no labels to score on; give a labels.csv or a folder for every class, or leave --data out");
        }
    }

    ImageData data() {
        return data;
    }

    /** The name in reports. */
    String metric() {
        return keys.isPresent() ? "exact_match" : "top1";
    }

    Score of(LayerGraph graph, int most) {
        String output = graph.outputs().getFirst().name();
        List<String> predicted = new ArrayList<>();
        List<String> right = new ArrayList<>();
        int count = Math.min(most, data.count());
        new SampleRunner(file, data, threads, progress)
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

    /** What a row of scores stands for. */
    String read(Tensor output) {
        if (output.dtype() != DType.F32) {
            throw new ModelException("output " + output.name() + " is " + output.dtype() + ", no scores in fp32");
        }
        return Predictions.read(output, keys);
    }
}
