package org.sentei.engine.report;

import static org.sentei.engine.report.Svg.escape;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import org.sentei.engine.recipe.Recipe;

/** Renders a report as one HTML page that needs nothing else: no scripts, no fonts, no network. */
final class ReportPage {
    private static final int COLOURS = 8;
    private static final double PLOT_WIDTH = 1000;
    private static final double PLOT_HEIGHT = 200;

    private final Report report;
    private final Recipe recipe;
    private final List<String> kinds;
    private final StringBuilder html = new StringBuilder(64 * 1024);

    private ReportPage(Report report, Recipe recipe) {
        this.report = report;
        this.recipe = recipe;
        this.kinds = kinds(report.sites());
    }

    static String render(Report report, Recipe recipe) {
        ReportPage page = new ReportPage(report, recipe);
        page.all();
        return page.html.toString();
    }

    private void all() {
        html.append("""
                <!DOCTYPE html>
                <html lang="en">
                <head>
                <meta charset="utf-8">
                <meta name="viewport" content="width=device-width, initial-scale=1">
                <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
                <title>Sentei: %s</title>
                <style>
                %s</style>
                </head>
                <body>
                """.formatted(escape(name()), style()));
        header();
        html.append("<main>\n");
        cards();
        warnings();
        quality();
        plots();
        sites();
        backends();
        provenance();
        html.append("</main>\n<footer>Written by Sentei ")
                .append(escape(report.sentei()))
                .append(". The same figures are in report.json.</footer>\n</body>\n</html>\n");
    }

    private void header() {
        Svg mark = new Svg("Sentei", "mark", 24, 24, false);
        for (int i = 0; i < 9; i++) {
            // The logo is a 3 by 3 mask with its odd cells pruned.
            mark.rect(i % 2 == 0 ? "kept" : "cut", 2 + i % 3 * 7, 2 + i / 3 * 7, 6, 6, "");
        }
        html.append("<header>\n<div class=\"brand\">").append(mark).append("Sentei</div>\n<h1>");
        html.append(escape(name())).append("</h1>\n<p class=\"lead\">");
        html.append(escape(report.model().architecture())).append(", ");
        html.append(magnitude(report.model().parameters())).append(" parameters. ");
        html.append(escape(String.join(", ", methods()))).append(" on ");
        html.append(report.sites().size()).append(report.sites().size() == 1 ? " layer.</p>" : " layers.</p>");
        html.append("\n</header>\n");
    }

    private String name() {
        String path = report.model().path();
        String trimmed = path.endsWith("/") && path.length() > 1 ? path.substring(0, path.length() - 1) : path;
        return trimmed.substring(trimmed.lastIndexOf('/') + 1);
    }

    private List<String> methods() {
        return report.sites().stream().map(Report.SiteResult::method).distinct().toList();
    }

    // ---- summary

    private void cards() {
        Report.Totals totals = report.totals();
        html.append("<section class=\"cards\" aria-label=\"Summary\">\n");
        card(
                "Zeros in edited layers",
                percent(totals.sparsity()),
                grouped(totals.zeros()) + " of " + grouped(totals.parameters()),
                totals.sparsity());
        double share = (double) totals.zeros() / Math.max(1, report.model().parameters());
        card(
                "Share of the whole model",
                percent(share),
                "of " + grouped(report.model().parameters()) + " parameters",
                share);
        if (!report.quality().isEmpty()) {
            Report.Measure first = report.quality().getFirst();
            card(
                    readable(first.metric()),
                    significant(first.after()),
                    "was " + significant(first.before()) + change(first),
                    -1);
        }
        card("Size on disk", bytes(totals.bytesAfter()), "was " + bytes(totals.bytesBefore()), -1);
        card("Time", duration(report.seconds()), "seed " + report.seed(), -1);
        html.append("</section>\n");
    }

    private void card(String name, String value, String detail, double share) {
        html.append("<div class=\"card\"><div class=\"name\">").append(escape(name));
        html.append("</div><div class=\"value\">").append(escape(value));
        html.append("</div><div class=\"detail\">").append(escape(detail)).append("</div>");
        if (share >= 0) {
            html.append(new Svg(name + ": " + value, "share", 100, 1, true)
                    .rect("all", 0, 0, 100, 1, "")
                    .rect("part", 0, 0, 100 * share, 1, value));
        }
        html.append("</div>\n");
    }

    private void warnings() {
        if (report.warnings().isEmpty()) {
            return;
        }
        html.append("<ul class=\"warnings\" aria-label=\"Warnings\">\n");
        for (String warning : report.warnings()) {
            html.append("<li>").append(escape(warning)).append("</li>\n");
        }
        html.append("</ul>\n");
    }

    private void quality() {
        if (report.quality().isEmpty()) {
            return;
        }
        html.append("<h2>Quality before and after</h2>\n<div class=\"panel\">\n");
        for (Report.Measure measure : report.quality()) {
            double scale = Math.max(Math.abs(measure.before()), Math.abs(measure.after()));
            double unit = scale == 0 ? 0 : 100 / scale;
            String name = readable(measure.metric());
            html.append("<div class=\"measure\"><div class=\"head\"><b>")
                    .append(escape(name))
                    .append("</b><span>");
            html.append(significant(measure.before())).append(" → ").append(significant(measure.after()));
            html.append(escape(change(measure))).append("</span></div>");
            html.append(new Svg(name + " before and after", "pair", 100, 20, true)
                    .rect("all", 0, 0, 100, 8, "")
                    .rect("before", 0, 0, Math.abs(measure.before()) * unit, 8, "before: " + measure.before())
                    .rect("all", 0, 11, 100, 8, "")
                    .rect("after", 0, 11, Math.abs(measure.after()) * unit, 8, "after: " + measure.after()));
            html.append("</div>\n");
        }
        html.append("</div>\n<p class=\"note\">Upper bar: before. Lower bar: after.</p>\n");
    }

    private static String change(Report.Measure measure) {
        if (measure.before() == 0) {
            return "";
        }
        double change = (measure.after() - measure.before()) / Math.abs(measure.before());
        return String.format(Locale.ROOT, " (%+.1f %%)", 100 * change);
    }

    // ---- layers

    private void plots() {
        List<Report.SiteResult> sites = report.sites();
        if (sites.isEmpty()) {
            return;
        }
        if (sites.stream().anyMatch(site -> site.error() != null)) {
            html.append("<h2>Output error of each layer</h2>\n<p class=\"note\">‖Y − Ŷ‖ / ‖Y‖ on calibration data, ")
                    .append("layers in the model's order. Point at a bar for its figures.</p>\n");
            double highest = sites.stream()
                    .mapToDouble(site -> site.error() == null ? 0 : site.error())
                    .max()
                    .orElse(0);
            plot(
                    "Output error of each layer",
                    site -> site.error() == null ? 0 : site.error(),
                    ceiling(highest),
                    false);
        }
        html.append(
                        "<h2>Sparsity of each layer</h2>\n<p class=\"note\">Exact zeros afterwards; the dashes are what the ")
                .append("recipe asked for.</p>\n");
        plot("Sparsity of each layer", Report.SiteResult::sparsity, 1, true);
    }

    private void plot(String label, ToDoubleFunction<Report.SiteResult> height, double top, boolean asked) {
        List<Report.SiteResult> sites = report.sites();
        html.append("<div class=\"panel\">\n");
        if (kinds.size() > 1) {
            html.append("<ul class=\"legend\">");
            for (int i = 0; i < kinds.size(); i++) {
                html.append("<li><i class=\"k")
                        .append(i)
                        .append("\"></i>")
                        .append(escape(kinds.get(i)))
                        .append("</li>");
            }
            html.append("</ul>\n");
        }
        html.append("<div class=\"plot\"><div class=\"axis\" aria-hidden=\"true\">");
        Svg svg = new Svg(label, "bars", PLOT_WIDTH, PLOT_HEIGHT, true);
        int ticks = 5;
        for (int i = 0; i <= ticks; i++) {
            html.append("<span>").append(significant(top * (ticks - i) / ticks)).append("</span>");
            svg.line("grid", 0, PLOT_HEIGHT * i / ticks, PLOT_WIDTH, PLOT_HEIGHT * i / ticks);
        }
        html.append("</div>");
        double step = PLOT_WIDTH / sites.size();
        double width = Math.min(0.78 * step, 60);
        for (int i = 0; i < sites.size(); i++) {
            Report.SiteResult site = sites.get(i);
            double tall = PLOT_HEIGHT * Math.min(1, height.applyAsDouble(site) / top);
            int kind = Math.max(0, kinds.indexOf(kind(site.name())));
            svg.rect("k" + kind, i * step + (step - width) / 2, PLOT_HEIGHT - tall, width, tall, describe(site));
        }
        if (asked) {
            for (int i = 0; i < sites.size(); i++) {
                double y = PLOT_HEIGHT * (1 - sites.get(i).requested());
                svg.line("asked", i * step, y, (i + 1) * step, y);
            }
        }
        html.append(svg)
                .append("<div class=\"below\"><span>first layer</span><span>last layer</span></div></div>\n</div>\n");
    }

    private static String describe(Report.SiteResult site) {
        return site.name() + "\n" + site.rows() + " × " + site.cols() + ", " + site.method()
                + (site.score() == null || site.score().equals(site.method()) ? "" : " (score " + site.score() + ")")
                + "\nzeros " + percent(site.sparsity()) + ", asked for " + percent(site.requested())
                + (site.error() == null ? "" : "\nerror " + significant(site.error()));
    }

    /** What is left of the layers' names without numbers and common beginning; empty when there are too many to colour. */
    private static List<String> kinds(List<Report.SiteResult> sites) {
        List<String> kinds = new ArrayList<>();
        for (Report.SiteResult site : sites) {
            String kind = kind(site.name());
            if (!kinds.contains(kind)) {
                kinds.add(kind);
            }
            if (kinds.size() > COLOURS) {
                return List.of();
            }
        }
        return kinds;
    }

    private static String kind(String name) {
        String[] parts = name.split("[./]");
        int last = parts.length;
        int from = 0;
        for (int i = 0; i < last - 1; i++) {
            if (!parts[i].isEmpty() && parts[i].chars().allMatch(Character::isDigit)) {
                from = i + 1;
            }
        }
        return String.join(".", List.of(parts).subList(from, last));
    }

    private void sites() {
        if (report.sites().isEmpty()) {
            return;
        }
        html.append("<h2>Layers</h2>\n<div class=\"panel\"><details><summary>All ")
                .append(report.sites().size())
                .append(" layers as a table</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>Layer</th>")
                .append("<th>Method</th><th class=\"n\">Outputs × inputs</th><th class=\"n\">Asked for</th>")
                .append("<th class=\"n\">Zeros</th><th class=\"n\">Error</th><th>Bias</th><th class=\"n\">Time</th>")
                .append("</tr></thead>\n<tbody>\n");
        for (Report.SiteResult site : report.sites()) {
            html.append("<tr><td><code>").append(escape(site.name())).append("</code></td><td>");
            html.append(escape(site.method())).append("</td><td class=\"n\">");
            html.append(site.rows()).append(" × ").append(site.cols()).append("</td><td class=\"n\">");
            html.append(percent(site.requested())).append("</td><td class=\"n\">");
            html.append(percent(site.sparsity())).append("</td><td class=\"n\">");
            html.append(site.error() == null ? "–" : significant(site.error())).append("</td><td>");
            html.append(site.bias() == null ? "–" : escape(site.bias())).append("</td><td class=\"n\">");
            html.append(duration(site.seconds())).append("</td></tr>\n");
        }
        html.append("</tbody></table></div></details></div>\n");
    }

    // ---- where it ran and where it came from

    private void backends() {
        html.append("<h2>Which backend ran what</h2>\n<div class=\"panel\"><div class=\"scroll\"><table>\n")
                .append("<thead><tr><th>Op</th><th>Backend</th><th>Device</th></tr></thead>\n<tbody>\n");
        for (Report.Binding binding : report.backends()) {
            html.append("<tr><td><code>").append(escape(binding.op())).append("</code></td><td>");
            html.append(escape(binding.backend())).append("</td><td>");
            html.append(escape(binding.device())).append("</td></tr>\n");
        }
        html.append("</tbody></table></div></div>\n");
    }

    private void provenance() {
        html.append("<h2>Provenance</h2>\n<div class=\"panel\"><dl>\n");
        entry("Model", report.model().path());
        entry("SHA-256", report.model().sha256());
        if (report.calibration() != null) {
            Report.Calibration calibration = report.calibration();
            entry(
                    "Calibration",
                    calibration.source() + ", " + grouped(calibration.samples()) + " windows, "
                            + grouped(calibration.tokens()) + " tokens");
            entry("SHA-256", calibration.sha256());
        }
        entry("Seed", String.valueOf(report.seed()));
        entry("Started", report.started().toString());
        entry("Sentei", report.sentei());
        html.append("</dl></div>\n<h2>Recipe</h2>\n<div class=\"panel\"><pre>");
        html.append(escape(recipe.text())).append("</pre></div>\n");
    }

    private void entry(String name, String value) {
        html.append("<dt>").append(escape(name)).append("</dt><dd><code>");
        html.append(escape(value)).append("</code></dd>\n");
    }

    // ---- numbers for people

    private static String readable(String metric) {
        String spaced = metric.replace('_', ' ');
        return switch (metric) {
            case "mrr" -> "Mean reciprocal rank";
            case "top1" -> "Top-1 accuracy";
            case "top5" -> "Top-5 accuracy";
            default -> spaced.isEmpty() ? spaced : Character.toUpperCase(spaced.charAt(0)) + spaced.substring(1);
        };
    }

    /** The smallest of 1, 2.5, 5 times a power of ten that is not below {@code value}; 1 for zero. */
    private static double ceiling(double value) {
        if (value <= 0) {
            return 1;
        }
        double power = Math.pow(10, Math.floor(Math.log10(value)));
        for (double digit : new double[] {1, 2.5, 5}) {
            if (digit * power >= value) {
                return digit * power;
            }
        }
        return 10 * power;
    }

    private static String significant(double value) {
        double size = Math.abs(value);
        if (size == 0) {
            return "0";
        }
        if (size >= 1e6 || size < 1e-4) {
            return String.format(Locale.ROOT, "%.3g", value);
        }
        int decimals = Math.clamp((long) (3 - Math.floor(Math.log10(size))), 0, 6);
        String text = String.format(Locale.ROOT, "%." + decimals + "f", value);
        return text.contains(".") ? text.replaceFirst("\\.?0+$", "") : text;
    }

    private static String percent(double share) {
        return String.format(Locale.ROOT, "%.1f %%", 100 * share);
    }

    private static String grouped(long count) {
        return String.format(Locale.ROOT, "%,d", count);
    }

    private static String magnitude(long count) {
        if (count >= 1_000_000_000) {
            return String.format(Locale.ROOT, "%.2f billion", count / 1e9);
        }
        return count >= 1_000_000 ? String.format(Locale.ROOT, "%.1f million", count / 1e6) : grouped(count);
    }

    private static String bytes(long bytes) {
        String[] units = {"B", "KiB", "MiB", "GiB", "TiB"};
        double size = bytes;
        int unit = 0;
        while (size >= 1024 && unit < units.length - 1) {
            size /= 1024;
            unit++;
        }
        return String.format(Locale.ROOT, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
    }

    private static String duration(double seconds) {
        if (seconds < 120) {
            return String.format(Locale.ROOT, seconds < 10 ? "%.2f s" : "%.1f s", seconds);
        }
        long whole = Math.round(seconds);
        return whole < 7200
                ? whole / 60 + " min " + whole % 60 + " s"
                : whole / 3600 + " h " + whole / 60 % 60 + " min";
    }

    private static String style() {
        try (InputStream stream = ReportPage.class.getResourceAsStream("report.css")) {
            if (stream == null) {
                throw new IllegalStateException("resource report.css is missing from the jar");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException failed) {
            throw new UncheckedIOException("resource report.css cannot be read", failed);
        }
    }
}
