package org.sentei.engine.report;

import static org.sentei.engine.report.ReportPage.grouped;
import static org.sentei.engine.report.ReportPage.significant;
import static org.sentei.engine.report.Svg.escape;

import java.util.List;
import java.util.function.Function;

/** The part of the report page about a network that got shallower: entropies, sizes, merges. */
final class DepthSection {
    private static final double PLOT_HEIGHT = 100;

    private final Report.Depth depth;
    private final StringBuilder html = new StringBuilder();

    private DepthSection(Report.Depth depth) {
        this.depth = depth;
    }

    /** Nothing for null. */
    static String render(Report.Depth depth) {
        if (depth == null) {
            return "";
        }
        DepthSection section = new DepthSection(depth);
        section.sizes();
        section.rounds();
        section.entropies();
        section.merges();
        return section.html.toString();
    }

    /** One sentence about it. */
    static String summary(Report.Depth depth) {
        boolean tuned = !depth.rounds().isEmpty();
        long linear = tuned
                ? depth.rounds().stream()
                        .filter(Report.Round::kept)
                        .mapToLong(round -> round.linearised().size())
                        .sum()
                : depth.activations().stream().filter(Report.Activation::linear).count();
        long all = tuned
                ? depth.rounds().getFirst().remaining()
                : depth.activations().size();
        return "<b>" + linear + " of " + all + "</b> activations are linear, "
                + depth.merges().stream().filter(Report.LayerMerge::made).count()
                + " merges of layers were made; the longest path has "
                + depth.after().depth() + " layers with weights, "
                + depth.before().depth() + " before, and a run takes "
                + milliseconds(depth.after().seconds()) + ", "
                + milliseconds(depth.before().seconds()) + " before. ";
    }

    private void sizes() {
        Report.Size before = depth.before();
        Report.Size after = depth.after();
        html.append(
                        "<h2>Depth</h2>\n<p class=\"note\">Seconds are medians of runs on one sample in ONNX Runtime, in rounds that ")
                .append("alternate between the models; with lines and nothing merged a run takes ")
                .append(milliseconds(depth.linearSeconds()))
                .append(".</p>\n<div class=\"panel\"><div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\"></th>")
                .append(
                        "<th scope=\"col\" class=\"n\">Before</th><th scope=\"col\" class=\"n\">After</th></tr></thead>\n<tbody>\n");
        row("Layers with weights on the longest path", grouped(before.depth()), grouped(after.depth()));
        row("Activations on a path at most", grouped(before.activations()), grouped(after.activations()));
        row("Parameters", grouped(before.parameters()), grouped(after.parameters()));
        row("Multiplications", grouped(before.multiplications()), grouped(after.multiplications()));
        row("A run", milliseconds(before.seconds()), milliseconds(after.seconds()));
        html.append("</tbody></table></div></div>\n");
    }

    private void row(String name, String before, String after) {
        html.append("<tr><th scope=\"row\">")
                .append(escape(name))
                .append("</th><td class=\"n\">")
                .append(before)
                .append("</td><td class=\"n\">")
                .append(after)
                .append("</td></tr>\n");
    }

    private void rounds() {
        List<Report.Round> rounds = depth.rounds();
        if (rounds.isEmpty()) {
            return;
        }
        html.append(
                        "<h2>Rounds</h2>\n<p class=\"note\">A round makes activations linear and trains the network again; round 0 is ")
                .append(
                        "the network as it came. Entropy is that of the round's activations before it, a run is one sample in ")
                .append("ONNX Runtime with nothing merged.</p>\n<div class=\"panel\">")
                .append(new Curves(
                                "Accuracy, time and entropy by round",
                                List.of("rounds"),
                                List.of(
                                        panel("accuracy on held-out images", Report.Round::valid),
                                        panel("accuracy on test images", Report.Round::test),
                                        panel("milliseconds of a run", DepthSection::time),
                                        panel("entropy of what became linear", DepthSection::entropy)))
                        .inline())
                .append(
                        "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Round</th><th scope=\"col\">Linear</th>")
                .append("<th scope=\"col\" class=\"n\">Entropy</th><th scope=\"col\" class=\"n\">Held out</th>")
                .append("<th scope=\"col\" class=\"n\">Test</th><th scope=\"col\" class=\"n\">A run</th>")
                .append("<th scope=\"col\">Kept</th></tr></thead>\n<tbody>\n");
        for (Report.Round round : rounds) {
            html.append("<tr><th scope=\"row\">")
                    .append(round.round())
                    .append("</th><td>")
                    .append(escape(String.join(", ", round.linearised())));
            for (String figure : List.of(
                    entropy(round) == null ? "–" : significant(entropy(round)),
                    ReportPage.percent(round.valid()),
                    ReportPage.percent(round.test()),
                    round.seconds() == null ? "–" : milliseconds(round.seconds()))) {
                html.append("</td><td class=\"n\">").append(figure);
            }
            html.append("</td><td>").append(round.kept() ? "yes" : "no").append("</td></tr>\n");
        }
        html.append("</tbody></table></div></div>\n");
    }

    private static Double time(Report.Round round) {
        return round.seconds() == null ? null : Double.valueOf(1e3 * round.seconds());
    }

    /** The lowest of them; null where there is none. */
    private static Double entropy(Report.Round round) {
        return round.entropies().stream().min(Double::compare).orElse(null);
    }

    private Curves.Panel panel(String title, Function<Report.Round, Double> figure) {
        return new Curves.Panel(
                title,
                List.of(depth.rounds().stream()
                        .filter(round -> figure.apply(round) != null)
                        .map(round -> new Curves.Point(round.round(), figure.apply(round)))
                        .toList()));
    }

    private void entropies() {
        List<Report.Activation> activations = depth.activations();
        html.append(
                        "<h2>Entropy of the activations</h2>\n<p class=\"note\">Bits, the mean over an activation's units, by the rule ")
                .append(escape(depth.entropy()))
                .append("; what is linear now (")
                .append(escape(depth.linearise()))
                .append(") is set off.</p>\n<ul class=\"legend\"><li><i class=\"before\"></i>still there</li>")
                .append("<li><i class=\"after\"></i>linear</li></ul>\n");
        Svg svg = new Svg("entropy of every activation", "bars", activations.size(), PLOT_HEIGHT, true);
        for (int i = 0; i <= 4; i++) {
            svg.line("grid", 0, PLOT_HEIGHT * i / 4, activations.size(), PLOT_HEIGHT * i / 4);
        }
        double most = activations.stream()
                .mapToDouble(Report.Activation::entropy)
                .max()
                .orElse(0);
        double unit = most > 0 ? PLOT_HEIGHT / most : 0;
        for (int i = 0; i < activations.size(); i++) {
            Report.Activation one = activations.get(i);
            svg.rect(
                    one.linear() ? "after" : "before",
                    i + 0.12,
                    PLOT_HEIGHT - one.entropy() * unit,
                    0.76,
                    one.entropy() * unit,
                    one.name() + ": " + significant(one.entropy()) + " bits");
        }
        html.append("<div class=\"panel\">")
                .append(ReportPage.framed("Entropy", svg, significant(most), "0", "first", "last"))
                .append(
                        "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Activation</th><th scope=\"col\">Function</th>")
                .append("<th scope=\"col\" class=\"n\">Units</th><th scope=\"col\" class=\"n\">Entropy</th>")
                .append("<th scope=\"col\" class=\"n\">On</th><th scope=\"col\" class=\"n\">Off</th>")
                .append("<th scope=\"col\" class=\"n\">Zero</th><th scope=\"col\">Now</th></tr></thead>\n<tbody>\n");
        for (Report.Activation one : activations) {
            double all = Math.max(1, one.on() + one.off() + one.zero());
            html.append("<tr><th scope=\"row\"><code>")
                    .append(escape(one.name()))
                    .append("</code></th><td>")
                    .append(escape(one.function()));
            for (String figure : List.of(
                    grouped(one.units()),
                    significant(one.entropy()),
                    ReportPage.percent(one.on() / all),
                    ReportPage.percent(one.off() / all),
                    ReportPage.percent(one.zero() / all))) {
                html.append("</td><td class=\"n\">").append(figure);
            }
            html.append("</td><td>").append(one.linear() ? "linear" : "").append("</td></tr>\n");
        }
        html.append("</tbody></table></div></div>\n");
    }

    private void merges() {
        if (depth.merges().isEmpty()) {
            return;
        }
        long made = depth.merges().stream().filter(Report.LayerMerge::made).count();
        html.append("<h2>Merged layers</h2>\n<div class=\"panel\"><details open><summary>")
                .append(made)
                .append(" made, ")
                .append(depth.merges().size() - made)
                .append(
                        " refused</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Merged layers\">")
                .append("<table>\n<thead><tr><th scope=\"col\">Layers</th><th scope=\"col\">Border</th>")
                .append("<th scope=\"col\" class=\"n\">Multiplications</th><th scope=\"col\" class=\"n\">Separate</th>")
                .append("<th scope=\"col\" class=\"n\">Merged</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n");
        for (Report.LayerMerge merge : depth.merges()) {
            html.append("<tr><th scope=\"row\"><code>")
                    .append(escape(merge.layers()))
                    .append("</code></th><td>")
                    .append(merge.border() == null ? "–" : escape(merge.border()))
                    .append("</td><td class=\"n\">")
                    .append(merge.border() == null ? "–" : grouped(merge.separate()) + " → " + grouped(merge.merged()))
                    .append("</td><td class=\"n\">")
                    .append(merge.separateSeconds() == null ? "–" : milliseconds(merge.separateSeconds()))
                    .append("</td><td class=\"n\">")
                    .append(merge.mergedSeconds() == null ? "–" : milliseconds(merge.mergedSeconds()))
                    .append("</td><td>")
                    .append(merge.made() ? "<b>made</b>: " : "refused: ")
                    .append(escape(merge.reason()))
                    .append("</td></tr>\n");
        }
        html.append("</tbody></table></div></details></div>\n");
    }

    private static String milliseconds(double seconds) {
        return significant(1e3 * seconds) + "\u00a0ms";
    }
}
