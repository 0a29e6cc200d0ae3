package org.sentei.engine.training;

import java.util.List;
import java.util.function.ToDoubleFunction;
import org.sentei.engine.report.Curves;

/**
 * What came of the training of a network of images: {@code report.json}.
 *
 * @param accuracy shares of the labels that are right
 * @param curve a point an epoch
 */
public record ImageReport(
        String sentei,
        String started,
        double seconds,
        long seed,
        Model model,
        Data data,
        Accuracy accuracy,
        List<Point> curve,
        List<String> warnings) {
    /** Copies the lists. */
    public ImageReport {
        curve = List.copyOf(curve);
        warnings = List.copyOf(warnings);
    }

    /**
     * The network.
     *
     * @param parameters that are trained
     */
    public record Model(String architecture, long parameters) {}

    /**
     * The end of an epoch.
     *
     * @param loss mean over the epoch's steps
     * @param valid share of the validation labels that are right
     */
    public record Point(int epoch, double loss, double valid) {}

    /** How many images were for what. */
    public record Data(String source, int classes, int train, int valid, int test) {}

    /** Shares of right labels. */
    public record Accuracy(double train, double valid, double test) {}

    /** Loss and accuracy over the epochs, as an SVG file. */
    public String curves() {
        return new Curves("Curves of a training", List.of(model.architecture()), panels(curve)).document();
    }

    static List<Curves.Panel> panels(List<Point> curve) {
        return List.of(
                panel("loss of the training images, by epoch", curve, Point::loss),
                panel("accuracy on the validation images, by epoch", curve, Point::valid));
    }

    private static Curves.Panel panel(String title, List<Point> curve, ToDoubleFunction<Point> figure) {
        return new Curves.Panel(
                title,
                List.of(curve.stream()
                        .map(point -> new Curves.Point(point.epoch(), figure.applyAsDouble(point)))
                        .toList()));
    }

    /** As a JSON document. */
    public String json() {
        return TrainingReport.json(this);
    }
}
