package org.sentei.engine.training;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.function.Function;
import org.sentei.engine.report.Curves;

/**
 * What came of a training: {@code report.json}.
 *
 * @param requested rate, as the recipe wrote it
 * @param pruned weights that the mask took
 * @param zeros prunable weights that are 0 in the file
 * @param dangling kept weights that lie on no way from input to output along kept ones, biases aside
 * @param prunable weights that could have gone
 * @param accuracy shares of the labels of each split that are right
 * @param served what the same latent weights reach at other rates, without another training; empty where one rate was asked for
 * @param curve the way there
 * @param baseline what magnitude pruning reached from the same seed, or null
 */
public record TrainingReport(
        String sentei,
        String started,
        double seconds,
        long seed,
        Model model,
        Data data,
        String backend,
        String budget,
        String requested,
        long pruned,
        long zeros,
        long dangling,
        long prunable,
        Accuracy accuracy,
        List<Served> served,
        List<Point> curve,
        Baseline baseline,
        List<String> warnings) {
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    /** Copies the lists. */
    public TrainingReport {
        served = List.copyOf(served);
        curve = List.copyOf(curve);
        warnings = List.copyOf(warnings);
    }

    /**
     * The network.
     *
     * @param parameters all of its weights
     */
    public record Model(String architecture, long parameters) {}

    /** What it was trained on. */
    public sealed interface Data {}

    /**
     * A graph.
     *
     * @param isolated nodes that no other reaches
     */
    public record Graph(String source, int nodes, int features, int classes, int isolated) implements Data {}

    /**
     * Sequences of skeletons.
     *
     * @param synthetic whether they were generated, not recorded
     */
    public record Sequences(String source, boolean synthetic, int sequences, int joints, int classes) implements Data {}

    /** Shares of right labels; 0 where a split is empty. */
    public record Accuracy(double train, double valid, double test) {}

    /**
     * A point of the curves.
     *
     * @param loss cross-entropy of the training examples
     * @param divergence of the latent weights from the prior, 0 where none is asked for
     * @param outside share of the latent weights that no bin holds
     * @param rate share of the latent weights at or below the threshold; once the mask is fixed, that of the mask
     * @param valid share of the validation labels that are right, null where there are none
     */
    public record Point(int step, double loss, double divergence, double outside, double rate, Double valid) {}

    /** A network of another rate from the same latent weights. */
    public record Served(String rate, long zeros, Accuracy accuracy) {}

    /** The same budget by magnitude pruning with fine-tuning. */
    public record Baseline(long zeros, long dangling, Accuracy accuracy, List<Point> curve) {
        /** Copies the curve. */
        public Baseline {
            curve = List.copyOf(curve);
        }
    }

    /** Loss, divergence, rate and accuracy over the steps, magnitude pruning beside it, as an SVG file. */
    public String curves() {
        List<String> names = baseline == null ? List.of(budget) : List.of(budget, PmpSettings.Budget.MAGNITUDE.label());
        List<List<Point>> ways = baseline == null ? List.of(curve) : List.of(curve, baseline.curve());
        return new Curves(
                        "Curves of a training",
                        names,
                        List.of(
                                panel("loss of the training examples", ways, Point::loss),
                                panel("accuracy on the validation examples", ways, Point::valid),
                                panel("share of weights at or below the threshold", ways, Point::rate),
                                panel("divergence from the prior", ways, Point::divergence)))
                .document();
    }

    private static Curves.Panel panel(String title, List<List<Point>> ways, Function<Point, Double> figure) {
        return new Curves.Panel(
                title,
                ways.stream()
                        .map(way -> way.stream()
                                .filter(point -> figure.apply(point) != null)
                                .map(point -> new Curves.Point(point.step(), figure.apply(point)))
                                .toList())
                        .toList());
    }

    /** As a JSON document. */
    public String json() {
        return json(this);
    }

    /** A report as a JSON document. */
    static String json(Record report) {
        try {
            return MAPPER.writeValueAsString(report) + "\n";
        } catch (IOException failed) {
            throw new UncheckedIOException("the report cannot be written as JSON", failed);
        }
    }
}
