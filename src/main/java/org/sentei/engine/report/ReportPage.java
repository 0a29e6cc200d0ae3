package org.sentei.engine.report;

import static org.sentei.engine.report.Svg.escape;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.sentei.engine.recipe.Recipe;

/** Renders a report as one HTML page that needs nothing else: no scripts, no fonts, no network. */
final class ReportPage {
    /** Kinds of layers that get charts of their own; with more, all layers share theirs. */
    private static final int MAX_KINDS = 12;
    /** Bars of a chart that still have gaps between them. */
    private static final int SEPARATE_BARS = 48;
    /** Layers of a table that is open from the start. */
    private static final int OPEN_TABLE = 12;

    private static final double PLOT_HEIGHT = 100;
    /** Signal to noise that fills a bar. */
    private static final double FULL_DECIBELS = 60;

    private final Report report;
    private final Recipe recipe;
    private final List<Group> groups;
    private final StringBuilder html = new StringBuilder(64 * 1024);

    /** Layers of one kind, block by block. */
    private record Group(String kind, List<Report.SiteResult> sites) {}

    private ReportPage(Report report, Recipe recipe) {
        this.report = report;
        this.recipe = recipe;
        this.groups = groups(report.sites());
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
                <meta name="color-scheme" content="light dark">
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
        html.append(DepthSection.render(report.depth()));
        quantization();
        layers();
        html.append(AttentionSection.render(report.attention()));
        table();
        storage();
        backends();
        provenance();
        html.append("</main>\n<footer>Written by Sentei ")
                .append(escape(report.sentei()))
                .append(". The same figures are in report.json.</footer>\n</body>\n</html>\n");
    }

    // ---- what was kept, what was lost

    private void header() {
        Svg mark = new Svg("", "mark", 24, 24, false);
        for (int i = 0; i < 9; i++) {
            // The logo is a 3 by 3 mask with its odd cells pruned.
            mark.rect(i % 2 == 0 ? "kept" : "cut", 2 + i % 3 * 7, 2 + i / 3 * 7, 6, 6, "");
        }
        html.append("<header>\n<div class=\"brand\">").append(mark).append("Sentei report</div>\n<h1>");
        html.append(escape(name())).append("</h1>\n<p class=\"lead\">");
        html.append(escape(report.model().architecture())).append(", ");
        html.append(magnitude(report.model().parameters())).append(" parameters");
        if (!report.sites().isEmpty()) {
            html.append("; ").append(escape(String.join(", ", methods()))).append(" on ");
            html.append(layerCount(report.sites().size()));
        }
        html.append("</p>\n<p class=\"summary\">").append(summary()).append("</p>\n</header>\n");
    }

    private String summary() {
        Report.Totals totals = report.totals();
        StringBuilder text = new StringBuilder();
        if (!report.sites().isEmpty()) {
            text.append("<b>")
                    .append(percent(totals.sparsity()))
                    .append("</b> of the weights in the edited layers are zero, ");
            text.append(percent(share())).append(" of the whole model. ");
        }
        if (report.depth() != null) {
            text.append(DepthSection.summary(report.depth()));
        }
        if (report.quality().isEmpty()) {
            text.append("Its quality was not measured: the run had no data for that. ");
        } else {
            Report.Measure first = report.quality().getFirst();
            text.append(escape(readable(first.metric()))).append(" went from ");
            text.append(significant(first.before())).append(" to <b>").append(significant(first.after()));
            text.append("</b>").append(escape(change(first))).append(". ");
        }
        List<Report.SiteResult> measured = measured(report.sites());
        if (!measured.isEmpty()) {
            Report.SiteResult worst = worst(measured);
            text.append("The median layer's output error on calibration data is <b>");
            text.append(significant(median(measured))).append("</b>, the worst ");
            text.append(significant(worst.error())).append(" (<code>");
            text.append(escape(worst.name())).append("</code>). ");
        }
        long before = totals.bytesBefore();
        long after = totals.bytesAfter();
        text.append("The weight files have <b>").append(bytes(after)).append("</b>, ");
        text.append(
                report.storage().packedTensors() > 0
                        ? percent((double) after / before) + " of the " + bytes(before) + " before."
                        : "zeros included; before it was " + bytes(before) + ".");
        return text.toString();
    }

    private String name() {
        String path = report.model().path();
        String trimmed = path.endsWith("/") && path.length() > 1 ? path.substring(0, path.length() - 1) : path;
        int name = trimmed.lastIndexOf('/');
        // half of all ONNX files are called model.onnx
        int folder = trimmed.endsWith(".onnx") && name > 0 ? trimmed.lastIndexOf('/', name - 1) : name;
        return trimmed.substring(folder + 1);
    }

    private List<String> methods() {
        return report.sites().stream().map(Report.SiteResult::method).distinct().toList();
    }

    private double share() {
        return (double) report.totals().zeros() / Math.max(1, report.model().parameters());
    }

    private static List<Report.SiteResult> measured(List<Report.SiteResult> sites) {
        return sites.stream().filter(site -> site.error() != null).toList();
    }

    private static Report.SiteResult worst(List<Report.SiteResult> measured) {
        return measured.stream().reduce((a, b) -> b.error() > a.error() ? b : a).orElseThrow();
    }

    private static double median(List<Report.SiteResult> measured) {
        double[] errors =
                measured.stream().mapToDouble(Report.SiteResult::error).sorted().toArray();
        return (errors[(errors.length - 1) / 2] + errors[errors.length / 2]) / 2;
    }

    private void cards() {
        Report.Totals totals = report.totals();
        html.append("<section class=\"cards\" aria-label=\"Summary\">\n");
        card(
                "Zeros in edited layers",
                percent(totals.sparsity()),
                grouped(totals.zeros()) + " of " + grouped(totals.parameters()),
                totals.sparsity());
        card(
                "Zeros in the whole model",
                percent(share()),
                "of " + grouped(report.model().parameters()) + " parameters",
                share());
        if (!report.quality().isEmpty()) {
            Report.Measure first = report.quality().getFirst();
            card(
                    readable(first.metric()),
                    significant(first.after()),
                    "was " + significant(first.before()) + change(first),
                    -1);
        }
        List<Report.SiteResult> measured = measured(report.sites());
        if (!measured.isEmpty()) {
            card(
                    "Output error",
                    significant(median(measured)),
                    "median layer; the worst " + significant(worst(measured).error()),
                    -1);
        }
        card("Weight files", bytes(totals.bytesAfter()), "was " + bytes(totals.bytesBefore()), -1);
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
                    .rect("part", 0, 0, 100 * Math.min(1, share), 1, value));
        }
        html.append("</div>\n");
    }

    private void warnings() {
        if (report.warnings().isEmpty()) {
            return;
        }
        html.append("<section class=\"warnings\" aria-labelledby=\"warnings\">\n<h2 id=\"warnings\">");
        html.append(
                report.warnings().size() == 1
                        ? "One warning"
                        : report.warnings().size() + " warnings");
        html.append("</h2>\n<ul>\n");
        for (String warning : report.warnings()) {
            html.append("<li>").append(escape(warning)).append("</li>\n");
        }
        html.append("</ul>\n</section>\n");
    }

    private void quality() {
        html.append("<h2>Quality before and after</h2>\n");
        if (report.quality().isEmpty()) {
            html.append(
                    "<p class=\"note\">Not measured: the run was given no data for it (<code>--data</code>).</p>\n");
            return;
        }
        html.append(
                        "<ul class=\"legend\"><li><i class=\"before\"></i>before</li><li><i class=\"after\"></i>after</li></ul>\n")
                .append("<div class=\"panel\">\n");
        for (Report.Measure measure : report.quality()) {
            double scale = Math.max(Math.abs(measure.before()), Math.abs(measure.after()));
            double unit = scale == 0 ? 0 : 100 / scale;
            String name = readable(measure.metric());
            String figures = significant(measure.before()) + " → " + significant(measure.after()) + change(measure);
            html.append("<div class=\"measure\"><div class=\"head\"><b>")
                    .append(escape(name))
                    .append("</b><small>");
            html.append(lowerIsBetter(measure.metric()) ? "lower is better" : "higher is better");
            html.append("</small><span>").append(escape(figures)).append("</span></div>");
            html.append(new Svg(name + ": " + figures, "pair", 100, 19, true)
                    .rect("all", 0, 0, 100, 8, "")
                    .rect("before", 0, 0, Math.abs(measure.before()) * unit, 8, "before: " + measure.before())
                    .rect("all", 0, 11, 100, 8, "")
                    .rect("after", 0, 11, Math.abs(measure.after()) * unit, 8, "after: " + measure.after()));
            html.append("</div>\n");
        }
        html.append("</div>\n");
    }

    private static boolean lowerIsBetter(String metric) {
        return metric.endsWith("perplexity");
    }

    private static String change(Report.Measure measure) {
        if (measure.before() == 0) {
            return "";
        }
        double change = (measure.after() - measure.before()) / Math.abs(measure.before());
        return String.format(Locale.ROOT, " (%+.1f\u00a0%%)", 100 * change);
    }

    // ---- layers

    private void layers() {
        if (report.sites().isEmpty()) {
            return;
        }
        html.append("<h2>Layers, kind by kind</h2>\n<p class=\"note\">");
        List<Report.SiteResult> measured = measured(report.sites());
        html.append(
                measured.isEmpty()
                        ? "Output errors were not measured: the run had no calibration data. "
                        : "Output error is ‖Y − Ŷ‖ / ‖Y‖ on calibration data (its first "
                                + Report.ERROR_TOKENS
                                + " tokens for methods other than sparsegpt), on one scale for all kinds. ");
        html.append(
                        "Bars follow the model's order; point at one for its figures. Dashes are the sparsity that was asked for. ")
                .append(
                        "Weights are counted by value, exact zeros left out; the outermost bins take what lies beyond.</p>\n")
                .append("<ul class=\"legend\"><li><i class=\"outline\"></i>weights before</li>")
                .append("<li><i class=\"after\"></i>weights after</li></ul>\n");
        double top = ceiling(
                measured.stream().mapToDouble(Report.SiteResult::error).max().orElse(0));
        Map<String, Report.Weights> weights = new HashMap<>();
        report.weights().forEach(histogram -> weights.put(histogram.site(), histogram));
        for (Group group : groups) {
            html.append("<section class=\"panel kind")
                    .append(groups.size() == 1 ? " wide" : "")
                    .append("\">\n<h3>")
                    .append(escape(group.kind))
                    .append("</h3>\n<p class=\"detail\">")
                    .append(escape(describe(group)))
                    .append("</p>\n<div class=\"charts\">\n");
            if (!measured.isEmpty()) {
                errors(group, top);
            }
            sparsities(group);
            histogram(group, weights);
            html.append("</div>\n</section>\n");
        }
    }

    private static String describe(Group group) {
        List<Report.SiteResult> sites = group.sites;
        List<String> shapes = sites.stream()
                .map(site -> site.rows() + " × " + site.cols())
                .distinct()
                .toList();
        List<Report.SiteResult> measured = measured(sites);
        return layerCount(sites.size())
                + (shapes.size() == 1 ? " of " + shapes.getFirst() : "")
                + (measured.isEmpty()
                        ? ""
                        : "; median error " + significant(median(measured)) + ", worst "
                                + significant(worst(measured).error()));
    }

    private void errors(Group group, double top) {
        Svg svg = bars("Output error of " + group.kind, group.sites.size());
        for (int i = 0; i < group.sites.size(); i++) {
            Report.SiteResult site = group.sites.get(i);
            bar(svg, "after", i, group.sites.size(), site.error() == null ? 0 : site.error() / top, site);
        }
        figure("Output error", svg, significant(top), "0", first(group), last(group));
    }

    private void sparsities(Group group) {
        List<Report.SiteResult> sites = group.sites;
        Svg svg = bars("Sparsity of " + group.kind, sites.size());
        for (int i = 0; i < sites.size(); i++) {
            bar(svg, "after", i, sites.size(), sites.get(i).sparsity(), sites.get(i));
        }
        int start = 0;
        for (int i = 1; i <= sites.size(); i++) {
            double asked = sites.get(start).requested();
            if (i == sites.size() || sites.get(i).requested() != asked) {
                svg.line("asked", start, PLOT_HEIGHT * (1 - asked), i, PLOT_HEIGHT * (1 - asked));
                start = i;
            }
        }
        figure("Zeros", svg, "100\u00a0%", "0", first(group), last(group));
    }

    private static Svg bars(String label, int count) {
        Svg svg = new Svg(label, "bars", count, PLOT_HEIGHT, true);
        for (int i = 0; i <= 4; i++) {
            svg.line("grid", 0, PLOT_HEIGHT * i / 4, count, PLOT_HEIGHT * i / 4);
        }
        return svg;
    }

    private static void bar(Svg svg, String cssClass, int index, int count, double share, Report.SiteResult site) {
        double width = count > SEPARATE_BARS ? 1 : 0.76;
        double tall = PLOT_HEIGHT * Math.clamp(share, 0, 1);
        svg.rect(cssClass, index + (1 - width) / 2, PLOT_HEIGHT - tall, width, tall, describe(site));
    }

    private static String describe(Report.SiteResult site) {
        return site.name() + "\n" + site.rows() + " × " + site.cols() + ", " + site.method()
                + (site.score() == null || site.score().equals(site.method()) ? "" : " (score " + site.score() + ")")
                + "\nzeros " + percent(site.sparsity()) + ", asked for " + percent(site.requested())
                + (site.error() == null ? "" : "\nerror " + significant(site.error()));
    }

    private void histogram(Group group, Map<String, Report.Weights> weights) {
        List<Report.Weights> parts = group.sites.stream()
                .map(site -> weights.get(site.name()))
                .filter(Objects::nonNull)
                .toList();
        if (parts.isEmpty()) {
            return;
        }
        Report.Weights sum = Report.Weights.sum(group.kind, parts);
        double highest = Math.max(1, Math.max(highest(sum.before()), highest(sum.after())));
        String zeros =
                "exact zeros: " + grouped(sum.zerosBefore()) + " before, " + grouped(sum.zerosAfter()) + " after";
        Svg svg = new Svg(
                        "Weights of " + group.kind + " by value; " + zeros,
                        "bars",
                        Report.Weights.BINS,
                        PLOT_HEIGHT,
                        true)
                .line("grid", Report.Weights.BINS / 2.0, 0, Report.Weights.BINS / 2.0, PLOT_HEIGHT)
                .steps("after", sum.after(), PLOT_HEIGHT / highest, PLOT_HEIGHT, zeros)
                .steps("outline", sum.before(), PLOT_HEIGHT / highest, PLOT_HEIGHT, "")
                .line("grid", 0, PLOT_HEIGHT, Report.Weights.BINS, PLOT_HEIGHT);
        String limit = significant(sum.limit());
        figure("Weights", svg, compact((long) highest), "0", "−" + limit, "0", limit);
    }

    private static double highest(List<Long> bins) {
        return bins.stream().mapToLong(Long::longValue).max().orElse(0);
    }

    private void figure(String caption, Svg svg, String top, String bottom, String... below) {
        html.append(framed(caption, svg, top, bottom, below));
    }

    /** A drawing with a caption and the ends of its axes. */
    static String framed(String caption, Svg svg, String top, String bottom, String... below) {
        StringBuilder figure = new StringBuilder();
        figure.append("<figure><figcaption>").append(caption).append("</figcaption><div class=\"plot\">");
        figure.append("<div class=\"axis\" aria-hidden=\"true\"><span>")
                .append(top)
                .append("</span><span>");
        figure.append(bottom).append("</span></div>").append(svg);
        figure.append("<div class=\"below\" aria-hidden=\"true\">");
        for (String label : below) {
            figure.append("<span>").append(escape(label)).append("</span>");
        }
        return figure.append("</div></div></figure>\n").toString();
    }

    private static String first(Group group) {
        return place(group.sites.getFirst(), "first");
    }

    private static String last(Group group) {
        return group.sites.size() == 1 ? "" : place(group.sites.getLast(), "last");
    }

    /** Where in the model a layer is, as far as its name tells. */
    private static String place(Report.SiteResult site, String otherwise) {
        String[] parts = parts(site.name());
        int number = lastNumber(parts);
        return number < 0 ? otherwise : "block " + parts[number];
    }

    private static List<Group> groups(List<Report.SiteResult> sites) {
        Map<String, List<Report.SiteResult>> byKind = sites.stream()
                .collect(Collectors.groupingBy(site -> kind(site.name()), LinkedHashMap::new, Collectors.toList()));
        if (byKind.size() > MAX_KINDS) {
            return List.of(new Group("All layers", sites));
        }
        List<Group> groups = new ArrayList<>();
        byKind.forEach((kind, members) -> groups.add(new Group(kind, members)));
        return groups;
    }

    /** What is left of a layer's name behind its last number. */
    private static String kind(String name) {
        String[] parts = parts(name);
        return String.join(".", List.of(parts).subList(lastNumber(parts) + 1, parts.length));
    }

    private static String[] parts(String name) {
        return name.split("[./]", -1);
    }

    /** The last part but one that is a number; -1 without one. */
    private static int lastNumber(String[] parts) {
        for (int i = parts.length - 2; i >= 0; i--) {
            if (!parts[i].isEmpty() && parts[i].chars().allMatch(c -> c >= '0' && c <= '9')) {
                return i;
            }
        }
        return -1;
    }

    private void table() {
        if (report.sites().isEmpty()) {
            return;
        }
        int count = report.sites().size();
        html.append("<h2>Every layer</h2>\n<div class=\"panel\"><details")
                .append(count <= OPEN_TABLE ? " open" : "")
                .append("><summary>")
                .append(count == 1 ? "The layer" : "All " + layerCount(count))
                .append(" as a table</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\"")
                .append(" aria-label=\"Every layer\"><table>\n<thead><tr><th scope=\"col\">Layer</th>")
                .append("<th scope=\"col\">Method</th><th scope=\"col\" class=\"n\">Outputs × inputs</th>")
                .append("<th scope=\"col\" class=\"n\">Asked for</th><th scope=\"col\" class=\"n\">Zeros</th>")
                .append("<th scope=\"col\" class=\"n\">Error</th><th scope=\"col\">Bias</th>")
                .append("<th scope=\"col\" class=\"n\">Time</th></tr></thead>\n<tbody>\n");
        for (Report.SiteResult site : report.sites()) {
            html.append("<tr><th scope=\"row\"><code>")
                    .append(escape(site.name()))
                    .append("</code></th><td>");
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

    // ---- passes of quantization

    private void quantization() {
        Report.Quantization quantized = report.quantization();
        if (quantized == null) {
            return;
        }
        html.append(
                        "<h2>What every pass is worth</h2>\n<p class=\"note\">Signal to noise is that of the outputs against the ")
                .append(
                        "float model's, on samples that no range was fitted to; behind every pass the layers are rounded by ")
                .append("largest magnitudes unless a pass before says otherwise. A bar is 60 dB.</p>\n")
                .append("<div class=\"panel\"><div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Pass</th>")
                .append("<th scope=\"col\" class=\"n\">Signal to noise</th><th scope=\"col\"></th>")
                .append("<th scope=\"col\" class=\"n\">Score</th></tr></thead>\n<tbody>\n");
        for (Report.Pass pass : quantized.passes()) {
            row(pass.name(), pass.signalToNoise(), pass.score() == null ? "–" : percent(pass.score()));
        }
        html.append("</tbody></table></div></div>\n");
        Report.Paired paired = quantized.paired();
        if (paired != null) {
            html.append("<p class=\"note\">Samples that came out right: ")
                    .append(grouped(paired.both()))
                    .append(" of both models, ")
                    .append(grouped(paired.onlyBefore()))
                    .append(" before alone, ")
                    .append(grouped(paired.onlyAfter()))
                    .append(" after alone, ")
                    .append(grouped(paired.neither()))
                    .append(" of none.</p>\n");
        }
        Report.Executor executor = quantized.executor();
        if (executor != null) {
            html.append("<p class=\"note\">On our own integer kernels, backend ")
                    .append(escape(executor.backend()))
                    .append(", ")
                    .append(percent(executor.score()))
                    .append(" of ")
                    .append(grouped(executor.samples()))
                    .append(" samples came out right, in ONNX Runtime ")
                    .append(percent(executor.runtimeScore()))
                    .append("; ")
                    .append(percent(executor.agreement()))
                    .append(" of the predictions are the same.</p>\n");
        }
        html.append("<h2>Layers in integers</h2>\n<div class=\"panel\"><details><summary>")
                .append(layerCount(quantized.layers().size()))
                .append(" in integers, ")
                .append(grouped(quantized.inFloat().size()))
                .append(" in float</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\"")
                .append(" aria-label=\"Layers in integers\"><table>\n<thead><tr><th scope=\"col\">Layer</th>")
                .append("<th scope=\"col\" class=\"n\">Signal to noise</th><th scope=\"col\"></th>")
                .append("<th scope=\"col\" class=\"n\">Zeros before, after</th></tr></thead>\n<tbody>\n");
        for (Report.QuantizedLayer layer : quantized.layers()) {
            row(layer.name(), layer.signalToNoise(), grouped(layer.zerosBefore()) + ", " + grouped(layer.zerosAfter()));
        }
        html.append("</tbody></table></div>\n<p class=\"note\">In float: ")
                .append(escape(String.join(", ", quantized.inFloat())))
                .append("</p></details></div>\n");
    }

    private void row(String name, Double decibels, String last) {
        html.append("<tr><th scope=\"row\"><code>")
                .append(escape(name))
                .append("</code></th><td class=\"n\">")
                .append(decibels == null ? "–" : String.format(Locale.ROOT, "%.1f dB", decibels))
                .append("</td><td>");
        if (decibels != null) {
            html.append(new Svg(name + ": " + significant(decibels) + " dB", "share", FULL_DECIBELS, 1, true)
                    .rect("all", 0, 0, FULL_DECIBELS, 1, "")
                    .rect("part", 0, 0, Math.clamp(decibels, 0, FULL_DECIBELS), 1, ""));
        }
        html.append("</td><td class=\"n\">").append(last).append("</td></tr>\n");
    }

    // ---- files, where it ran and where it came from

    private void storage() {
        Report.Storage storage = report.storage();
        Report.Totals totals = report.totals();
        html.append("<h2>Files, and what reads them</h2>\n<div class=\"panel\"><dl>\n");
        entry("Storage", escape(storage.format()));
        entry("Weight files", grouped(totals.bytesAfter()) + " bytes; " + grouped(totals.bytesBefore()) + " before");
        if (storage.packedTensors() > 0) {
            entry(
                    "Packed",
                    grouped(storage.packedTensors()) + " weights: " + grouped(storage.packedBytes()) + " of "
                            + grouped(storage.packedDenseBytes()) + " bytes ("
                            + percent((double) storage.packedBytes() / storage.packedDenseBytes()) + ")");
            entry("Unpacked", grouped(storage.denseBytes()) + " bytes, by <code>sentei unpack</code>");
        }
        for (Report.Reader reader : storage.readers()) {
            entry(reader.tool(), escape(reader.reads()));
        }
        html.append("</dl></div>\n");
    }

    private void backends() {
        if (report.backends().isEmpty()) {
            return;
        }
        Map<String, List<Report.Binding>> byDevice = report.backends().stream()
                .collect(Collectors.groupingBy(
                        binding -> binding.backend() + "\n" + binding.device(),
                        LinkedHashMap::new,
                        Collectors.toList()));
        html.append(
                        "<h2>Which backend ran what</h2>\n<div class=\"panel\"><div class=\"scroll\"><table class=\"backends\">\n")
                .append("<thead><tr><th scope=\"col\">Backend</th><th scope=\"col\">Device</th>")
                .append("<th scope=\"col\">Ops</th></tr></thead>\n<tbody>\n");
        for (List<Report.Binding> ops : byDevice.values()) {
            html.append("<tr><th scope=\"row\">")
                    .append(escape(ops.getFirst().backend()))
                    .append("</th><td>");
            html.append(escape(ops.getFirst().device())).append("</td><td>");
            html.append(ops.stream()
                    .map(binding -> "<code>" + escape(binding.op()) + "</code>")
                    .collect(Collectors.joining(" ")));
            html.append("</td></tr>\n");
        }
        html.append("</tbody></table></div></div>\n");
    }

    private void provenance() {
        html.append("<h2>Provenance</h2>\n<div class=\"panel\"><dl>\n");
        entry("Model", code(report.model().path()));
        entry("SHA-256 of its weights", code(report.model().sha256()));
        if (report.calibration() != null) {
            Report.Calibration calibration = report.calibration();
            entry(
                    "Calibration",
                    code(calibration.source()) + ", " + grouped(calibration.samples()) + " windows, "
                            + grouped(calibration.tokens()) + " tokens");
            entry("SHA-256 of the text", code(calibration.sha256()));
        }
        entry("Seed", String.valueOf(report.seed()));
        entry("Started", escape(report.started().toString()));
        entry("Took", duration(report.seconds()));
        entry("Sentei", escape(report.sentei()));
        html.append("</dl></div>\n<h2>Recipe</h2>\n<div class=\"panel\"><pre tabindex=\"0\">");
        html.append(escape(recipe.text())).append("</pre></div>\n");
    }

    /** A term and its description, which is HTML already. */
    private void entry(String name, String value) {
        html.append("<dt>")
                .append(escape(name))
                .append("</dt><dd>")
                .append(value)
                .append("</dd>\n");
    }

    private static String code(String text) {
        return "<code>" + escape(text) + "</code>";
    }

    // ---- numbers for people

    private static String layerCount(int count) {
        return count == 1 ? "1 layer" : grouped(count) + " layers";
    }

    private static String readable(String metric) {
        String spaced = metric.replace('_', ' ');
        return switch (metric) {
            case "mrr" -> "Mean reciprocal rank";
            case "top1" -> "Top-1 accuracy";
            case "top5" -> "Top-5 accuracy";
            case "cosine" -> "Cosine to the original";
            case "spearman" -> "Spearman correlation";
            default -> spaced.isEmpty() ? spaced : Character.toUpperCase(spaced.charAt(0)) + spaced.substring(1);
        };
    }

    /** The smallest of 1, 2, 4, 6, 8 times a power of ten that is not below {@code value}; 1 for zero. */
    private static double ceiling(double value) {
        if (value <= 0) {
            return 1;
        }
        double power = Math.pow(10, Math.floor(Math.log10(value)));
        for (double digit : new double[] {1, 2, 4, 6, 8}) {
            if (digit * power >= value) {
                return digit * power;
            }
        }
        return 10 * power;
    }

    /** Three digits that count, more where the whole part has more. */
    static String significant(double value) {
        double size = Math.abs(value);
        if (size == 0) {
            return "0";
        }
        if (size >= 1e6 || size < 1e-4) {
            return String.format(Locale.ROOT, "%.2e", value);
        }
        int decimals = Math.clamp((long) (2 - Math.floor(Math.log10(size))), 0, 6);
        String text = String.format(Locale.ROOT, "%." + decimals + "f", value);
        return text.contains(".") ? text.replaceFirst("\\.?0+$", "") : text;
    }

    static String percent(double share) {
        return String.format(Locale.ROOT, "%.1f\u00a0%%", 100 * share);
    }

    static String grouped(long count) {
        return String.format(Locale.ROOT, "%,d", count);
    }

    private static String magnitude(long count) {
        if (count >= 1_000_000_000) {
            return String.format(Locale.ROOT, "%.2f billion", count / 1e9);
        }
        return count >= 1_000_000 ? String.format(Locale.ROOT, "%.1f million", count / 1e6) : grouped(count);
    }

    /** For axes, where there is little room. */
    private static String compact(long count) {
        String[] units = {"", "\u00a0k", "\u00a0M", "\u00a0G", "\u00a0T"};
        double size = count;
        int unit = 0;
        while (size >= 1000 && unit < units.length - 1) {
            size /= 1000;
            unit++;
        }
        return significant(size) + units[unit];
    }

    private static String bytes(long bytes) {
        String[] units = {"B", "KiB", "MiB", "GiB", "TiB"};
        double size = bytes;
        int unit = 0;
        while (size >= 1024 && unit < units.length - 1) {
            size /= 1024;
            unit++;
        }
        return String.format(Locale.ROOT, unit == 0 ? "%.0f\u00a0%s" : "%.1f\u00a0%s", size, units[unit]);
    }

    private static String duration(double seconds) {
        if (seconds < 120) {
            return String.format(Locale.ROOT, seconds < 10 ? "%.2f\u00a0s" : "%.1f\u00a0s", seconds);
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
