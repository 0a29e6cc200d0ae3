package org.sentei.engine.report;

import static org.sentei.engine.report.ReportPage.percent;
import static org.sentei.engine.report.ReportPage.significant;
import static org.sentei.engine.report.Svg.escape;

import java.util.List;

/** The part of the report page about attention matrices: what each method does to them, the descents, a picture. */
final class AttentionSection {
    private static final double PLOT_HEIGHT = 100;
    private static final int LEVELS = 15;

    private final List<Report.Attention> layers;
    private final StringBuilder html = new StringBuilder();

    private AttentionSection(List<Report.Attention> layers) {
        this.layers = layers;
    }

    /** Nothing where there are no layers. */
    static String render(List<Report.Attention> layers) {
        if (layers.isEmpty()) {
            return "";
        }
        AttentionSection section = new AttentionSection(layers);
        section.all();
        return section.html.toString();
    }

    private void all() {
        html.append(
                "<h2>Attention matrices</h2>\n<p class=\"note\">Error is ‖P − A‖ / ‖A‖ over all heads, A the dense attention"
                        + " matrices and P the pruned ones, on calibration windows that no gradient saw. Every method prunes the same"
                        + " sites with the same budget; sparsegpt changes the weights that stay as well.</p>\n");
        table();
        html.append("<ul class=\"legend\"><li><i class=\"before\"></i>error on the windows of each step</li>")
                .append("<li><i class=\"after\"></i>on held-out windows</li></ul>\n");
        layers.forEach(this::layer);
        layers.stream().filter(layer -> layer.picture() != null).findFirst().ifPresent(this::picture);
    }

    private void table() {
        List<String> methods = layers.getFirst().methods().stream()
                .map(Report.MethodError::method)
                .toList();
        html.append("<div class=\"panel scroll\"><table class=\"attention\"><thead><tr><th>Queries</th>");
        methods.forEach(
                method -> html.append("<th class=\"n\">").append(escape(method)).append("</th>"));
        html.append("</tr></thead><tbody>\n");
        for (Report.Attention layer : layers) {
            html.append("<tr><th><code>").append(escape(layer.query())).append("</code></th>");
            for (String method : methods) {
                String error = layer.methods().stream()
                        .filter(found -> found.method().equals(method))
                        .map(found -> significant(found.error()))
                        .findFirst()
                        .orElse("");
                html.append("<td class=\"n\">").append(error).append("</td>");
            }
            html.append("</tr>\n");
        }
        html.append("</tbody></table></div>\n");
    }

    private void layer(Report.Attention layer) {
        String kept = layer.step() == 0
                ? "the mask it started from (" + layer.start() + ") is kept"
                : "the mask after step " + layer.step() + " is kept";
        html.append("<section class=\"panel kind\">\n<h3>")
                .append(escape(layer.query()))
                .append("</h3>\n<p class=\"detail\">")
                .append(escape("with " + layer.key() + "; " + layer.descent() + ", "
                        + layer.errors().size() + " steps, " + kept))
                .append("</p>\n<div class=\"charts\">\n");
        curve(layer);
        densities(layer);
        html.append("</div>\n</section>\n");
    }

    private void curve(Report.Attention layer) {
        double top = Double.MIN_NORMAL;
        for (double error : layer.errors()) {
            top = Math.max(top, error);
        }
        for (Report.Look look : layer.heldOut()) {
            top = Math.max(top, look.error());
        }
        int steps = Math.max(1, layer.errors().size());
        Svg svg = new Svg("Error over steps of " + layer.query(), "bars", steps, PLOT_HEIGHT, true);
        for (int i = 0; i <= 4; i++) {
            svg.line("grid", 0, PLOT_HEIGHT * i / 4, steps, PLOT_HEIGHT * i / 4);
        }
        double unit = PLOT_HEIGHT / top;
        double[] x = new double[layer.errors().size()];
        double[] y = new double[x.length];
        for (int i = 0; i < x.length; i++) {
            // a step sees the masks that the one before it left
            x[i] = i;
            y[i] = PLOT_HEIGHT - layer.errors().get(i) * unit;
        }
        svg.curve("fit", x, y);
        svg.curve(
                "held",
                layer.heldOut().stream().mapToDouble(Report.Look::step).toArray(),
                layer.heldOut().stream()
                        .mapToDouble(look -> PLOT_HEIGHT - look.error() * unit)
                        .toArray());
        html.append(ReportPage.framed("Error", svg, significant(top), "0", "step 0", Integer.toString(steps)));
    }

    private void densities(Report.Attention layer) {
        int heads = layer.queryDensity().size() + layer.keyDensity().size();
        Svg svg = new Svg("Weights kept by each head of " + layer.query(), "bars", heads, PLOT_HEIGHT, true);
        for (int i = 0; i <= 4; i++) {
            svg.line("grid", 0, PLOT_HEIGHT * i / 4, heads, PLOT_HEIGHT * i / 4);
        }
        densities(svg, "after", "query head ", 0, layer.queryDensity());
        densities(svg, "before", "key head ", layer.queryDensity().size(), layer.keyDensity());
        html.append(ReportPage.framed("Kept by head", svg, "100\u00a0%", "0", "queries", "keys"));
    }

    private static void densities(Svg svg, String cssClass, String label, int from, List<Double> densities) {
        for (int head = 0; head < densities.size(); head++) {
            double tall = PLOT_HEIGHT * Math.clamp(densities.get(head), 0, 1);
            svg.rect(
                    cssClass,
                    from + head + 0.12,
                    PLOT_HEIGHT - tall,
                    0.76,
                    tall,
                    label + head + ": " + percent(densities.get(head)));
        }
    }

    private void picture(Report.Attention layer) {
        Report.Picture picture = layer.picture();
        html.append("<section class=\"panel kind\">\n<h3>")
                .append(escape("Head " + picture.head() + " of " + layer.query()))
                .append("</h3>\n<p class=\"detail\">")
                .append(escape("The first " + picture.tokens()
                        + " tokens of a held-out window: a row's token looks at a column's, darker for more. The head that"
                        + " lost most."))
                .append("</p>\n<div class=\"matrices\">\n");
        for (Report.Panel panel : picture.panels()) {
            Svg svg =
                    new Svg("Attention matrix, " + panel.method(), "matrix", picture.tokens(), picture.tokens(), false);
            for (int level = 1; level <= LEVELS; level++) {
                svg.cells(
                        panel.levels(),
                        Character.forDigit(level, LEVELS + 1),
                        picture.tokens(),
                        (double) level / LEVELS);
            }
            html.append("<figure>").append(svg).append("<figcaption>").append(escape(panel.method()));
            html.append("</figcaption></figure>\n");
        }
        html.append("</div>\n</section>\n");
    }
}
