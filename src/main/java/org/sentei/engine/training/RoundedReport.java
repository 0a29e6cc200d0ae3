package org.sentei.engine.training;

import java.util.List;
import org.sentei.engine.report.Curves;

/**
 * What came of a training for few bits: {@code report.json}.
 *
 * @param layers that round
 * @param curve a point an epoch
 */
public record RoundedReport(
        String sentei,
        String started,
        double seconds,
        long seed,
        RoundedRecipe.Bits bits,
        Accuracy accuracy,
        List<LayerBits> layers,
        List<ImageReport.Point> curve,
        List<String> warnings) {
    /** Copies the lists. */
    public RoundedReport {
        layers = List.copyOf(layers);
        curve = List.copyOf(curve);
        warnings = List.copyOf(warnings);
    }

    /**
     * Shares of the test labels that are right.
     *
     * @param before of the model as it came
     * @param rounded with rounded numbers, and no training
     * @param trained with rounded numbers, after training
     */
    public record Accuracy(double before, double rounded, double trained) {}

    /**
     * A layer that rounds.
     *
     * @param weights bits
     * @param input bits of what it reads
     */
    public record LayerBits(String name, int weights, int input) {}

    /** Loss and accuracy over the epochs, as an SVG file. */
    public String curves() {
        return new Curves(
                        "Curves of a training for few bits", List.of(bits.inner() + " bits"), ImageReport.panels(curve))
                .document();
    }

    /** As a JSON document. */
    public String json() {
        return TrainingReport.json(this);
    }
}
