package org.sentei.engine.training;

import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import org.sentei.engine.recipe.Easier;
import org.sentei.engine.report.Curves;
import org.sentei.engine.training.DepthReduction.Round;

/** What the loop of EASIER says of its rounds. */
public record DepthReport(String order, String linearise, double delta, String stopped, List<Round> rounds) {
    /** Copies the rounds. */
    public DepthReport {
        rounds = List.copyOf(rounds);
    }

    /** Of a loop that has ended. */
    public DepthReport(Easier step, DepthReduction.Result result) {
        this(
                step.order().name().toLowerCase(Locale.ROOT),
                step.linearise().name().toLowerCase(Locale.ROOT),
                step.delta(),
                result.stopped(),
                result.rounds());
    }

    /** As a JSON document. */
    public String json() {
        return TrainingReport.json(this);
    }

    /** Accuracy and entropies over the rounds, as an SVG file. */
    public String curves() {
        return new Curves(
                        "Rounds of EASIER",
                        List.of(order),
                        List.of(
                                panel("accuracy on the validation images, by round", rounds, Round::valid),
                                panel("accuracy on the test images, by round", rounds, Round::test),
                                panel(
                                        "entropy of what became linear, in bits, by round",
                                        rounds.subList(1, rounds.size()),
                                        DepthReport::entropy),
                                panel("activations that remain, by round", rounds, Round::remaining)))
                .document();
    }

    private static double entropy(Round round) {
        return round.entropies().stream()
                .filter(measured -> round.linearised().contains(measured.name()))
                .mapToDouble(DepthReduction.Measured::entropy)
                .max()
                .orElse(0);
    }

    private static Curves.Panel panel(String title, List<Round> rounds, ToDoubleFunction<Round> figure) {
        return new Curves.Panel(
                title,
                List.of(rounds.stream()
                        .map(round -> new Curves.Point(round.round(), figure.applyAsDouble(round)))
                        .toList()));
    }
}
