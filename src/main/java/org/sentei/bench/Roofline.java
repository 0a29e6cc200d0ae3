package org.sentei.bench;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.sentei.engine.report.Svg;
import org.sentei.kernel.Ceilings;

/**
 * Draws speed over arithmetic intensity, both logarithmic, below the roof that the measured ceilings make (Williams,
 * Waterman and Patterson, Roofline, 2009). One panel a backend; every case is a number in the plot and a line of the list
 * beside it.
 */
final class Roofline {
    private static final double WIDTH = 1080;
    private static final double LEFT = 70;
    private static final double RIGHT = 640;
    private static final double PLOT_HEIGHT = 420;
    private static final double TOP = 90;
    private static final double BOTTOM = 60;
    private static final double LIST = 672;
    private static final double LINE = 17;
    private static final double MARK = 9;
    private static final int COLOURS = 8;

    private static final String STYLE = """
            svg { --paper: #ffffff; --ink: #1c2722; --soft: #5d6b64; --rule: #e3e1d8;
              --c0: #2f8a5b; --c1: #b06d10; --c2: #4d74d6; --c3: #c4533b; --c4: #8a63b8; --c5: #16808b; --c6: #b8487d;
              --c7: #6d7129; font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
            @media (prefers-color-scheme: dark) {
              svg { --paper: #161c19; --ink: #e8ece9; --soft: #98a59e; --rule: #2c3531; --c0: #5fbf8c; --c1: #e8b054;
                --c2: #8facf5; --c3: #ee8d77; --c4: #bb9ce3; --c5: #5fcbd4; --c6: #eb9cc0; --c7: #c0c272; }
            }
            .paper { fill: var(--paper); } text { fill: var(--ink); } .soft { fill: var(--soft); }
            .title { font-size: 17px; font-weight: 600; } .middle { text-anchor: middle; } .end { text-anchor: end; }
            .grid { stroke: var(--rule); } .roof { stroke: var(--ink); stroke-width: 2; }
            .copy { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; } .lead { stroke: var(--soft); }
            .mark { fill: var(--paper); stroke-width: 1.5; } .number { font-size: 10px; text-anchor: middle; }
            .k0 { stroke: var(--c0); } .k1 { stroke: var(--c1); } .k2 { stroke: var(--c2); } .k3 { stroke: var(--c3); }
            .k4 { stroke: var(--c4); } .k5 { stroke: var(--c5); } .k6 { stroke: var(--c6); } .k7 { stroke: var(--c7); }
            """;

    private Roofline() {}

    /** A document of its own, for light and dark pages. */
    static String draw(BenchReport report) {
        List<Panel> panels = new ArrayList<>();
        double height = 0;
        for (BenchReport.Device device : report.backends()) {
            Panel panel = new Panel(device, report, height);
            panels.add(panel);
            height += panel.height();
        }
        Svg svg = new Svg("Roofline of " + report.results().size() + " cases", "roofline", WIDTH, height, false);
        svg.rect("paper", 0, 0, WIDTH, height, "");
        panels.forEach(panel -> panel.draw(svg));
        return svg.document(STYLE);
    }

    /** A case in the plot: operations a byte and operations a second. */
    private record Point(int number, BenchReport.Result result, double intensity, double rate) {}

    private record Spot(double x, double y) {}

    private static final class Panel {
        private final BenchReport.Device device;
        private final Ceilings ceilings;
        private final int threads;
        private final List<BenchReport.Result> results;
        private final List<Point> points;
        private final List<String> ops;
        private final double top;
        private final double lowX;
        private final double highX;
        private final double lowY;
        private final double highY;

        Panel(BenchReport.Device device, BenchReport report, double top) {
            this.device = device;
            this.ceilings = device.ceilings();
            this.threads = report.threads();
            this.top = top;
            results = report.results().stream()
                    .filter(result -> result.backend().equals(device.name()))
                    .toList();
            ops = results.stream().map(BenchReport.Result::op).distinct().toList();
            points = IntStream.range(0, results.size())
                    .filter(i -> results.get(i).operations() > 0)
                    .mapToObj(i -> point(i + 1, results.get(i)))
                    .toList();
            List<Double> xs = new ArrayList<>(List.of(0.1, 10.0));
            List<Double> ys = new ArrayList<>();
            points.forEach(point -> {
                xs.add(point.intensity());
                ys.add(point.rate());
            });
            if (ceilings != null) {
                xs.add(2 * ceilings.operations() / ceilings.readBandwidth());
                ys.add(2 * ceilings.operations());
                ys.add(0.1 * ceilings.readBandwidth());
            }
            if (ys.isEmpty()) {
                ys.add(1e9);
            }
            lowX = decade(xs, -1);
            highX = decade(xs, 1);
            lowY = decade(ys, -1);
            highY = Math.max(lowY + 1, decade(ys, 1));
        }

        private static Point point(int number, BenchReport.Result result) {
            double bytes = result.bytesRead() + result.bytesWritten();
            return new Point(number, result, result.operations() / bytes, result.operationRate());
        }

        /** The power of ten at or beyond the least (-1) or largest (1). */
        private static double decade(List<Double> values, int direction) {
            return direction < 0
                    ? Math.floor(values.stream().mapToDouble(Math::log10).min().orElse(0))
                    : Math.ceil(values.stream().mapToDouble(Math::log10).max().orElse(1));
        }

        double height() {
            return TOP + Math.max(PLOT_HEIGHT, LINE * (results.size() + 1)) + BOTTOM;
        }

        private double x(double intensity) {
            return LEFT + (RIGHT - LEFT) * (Math.log10(intensity) - lowX) / (highX - lowX);
        }

        private double y(double rate) {
            return top + TOP + PLOT_HEIGHT * (highY - Math.log10(rate)) / (highY - lowY);
        }

        void draw(Svg svg) {
            String isa = device.isa().isEmpty() ? "" : ", " + device.isa();
            svg.text("title", LEFT, top + 30, device.name() + " on " + device.device() + isa);
            String measured = ceilings == null
                    ? "ceilings not measured"
                    : "measured with " + threads + " host threads: read " + giga(ceilings.readBandwidth())
                            + " GB/s, copy "
                            + giga(ceilings.copyBandwidth()) + " GB/s (dashed), fp32 " + giga(ceilings.operations())
                            + " GFLOP/s";
            svg.text("soft", LEFT, top + 50, measured);
            axes(svg);
            if (ceilings != null) {
                roof(svg, ceilings);
            }
            marks(svg);
            list(svg);
        }

        private void axes(Svg svg) {
            double bottom = top + TOP + PLOT_HEIGHT;
            for (double power = lowX; power <= highX; power++) {
                double at = x(Math.pow(10, power));
                svg.line("grid", at, top + TOP, at, bottom);
                svg.text("soft middle", at, bottom + 20, number(Math.pow(10, power)));
            }
            for (double power = lowY; power <= highY; power++) {
                double at = y(Math.pow(10, power));
                svg.line("grid", LEFT, at, RIGHT, at);
                svg.text("soft end", LEFT - 8, at + 4, number(Math.pow(10, power - 9)));
            }
            svg.text("soft middle", (LEFT + RIGHT) / 2, bottom + 42, "operations a byte");
            svg.text("soft end", LEFT - 8, top + TOP - 14, "GFLOP/s");
        }

        private void roof(Svg svg, Ceilings roof) {
            slope(svg, "copy", roof.copyBandwidth(), roof.operations());
            double ridge = slope(svg, "roof", roof.readBandwidth(), roof.operations());
            svg.line("roof", x(ridge), y(roof.operations()), RIGHT, y(roof.operations()));
        }

        /** The part of a bandwidth's line that lies in the plot; returns where it meets the peak. */
        private double slope(Svg svg, String cssClass, double bandwidth, double peak) {
            double from = Math.max(Math.pow(10, lowX), Math.pow(10, lowY) / bandwidth);
            double ridge = peak / bandwidth;
            svg.line(cssClass, x(from), y(from * bandwidth), x(ridge), y(peak));
            return ridge;
        }

        private void marks(Svg svg) {
            List<Spot> taken = new ArrayList<>();
            for (Point point : points) {
                Spot at = new Spot(x(point.intensity()), y(point.rate()));
                Spot free = free(at, taken);
                taken.add(free);
                if (!free.equals(at)) {
                    svg.line("lead", at.x(), at.y(), free.x(), free.y());
                    svg.circle("mark " + colour(point.result()), at.x(), at.y(), 2, "");
                }
                String tooltip = point.result().name() + ": " + giga(point.rate()) + " GFLOP/s, "
                        + giga(point.result().bandwidth()) + " GB/s";
                svg.circle("mark " + colour(point.result()), free.x(), free.y(), MARK, tooltip);
                svg.text("number", free.x(), free.y() + 3.5, Integer.toString(point.number()));
            }
        }

        /** The nearest place on a growing circle around {@code at} where a mark covers no other. */
        private static Spot free(Spot at, List<Spot> taken) {
            for (int step = 0; step < 400; step++) {
                double angle = 2.4 * step;
                double radius = 4 * Math.sqrt(step) * Math.signum(step);
                Spot spot = new Spot(at.x() + radius * Math.cos(angle), at.y() + radius * Math.sin(angle));
                if (taken.stream()
                        .noneMatch(other -> Math.hypot(other.x() - spot.x(), other.y() - spot.y()) < 2 * MARK)) {
                    return spot;
                }
            }
            return at;
        }

        private void list(Svg svg) {
            for (int i = 0; i < results.size(); i++) {
                BenchReport.Result result = results.get(i);
                double y = top + TOP + LINE * (i + 0.5);
                svg.circle("mark " + colour(result), LIST, y - 4, 8, "");
                svg.text("number", LIST, y - 0.5, Integer.toString(i + 1));
                svg.text("", LIST + 16, y, result.op() + " " + result.label());
                String share = result.ceilingPercent() == null
                        ? giga(result.bandwidth()) + " GB/s"
                        : String.format(Locale.ROOT, "%.0f %%", result.ceilingPercent());
                svg.text("end", WIDTH - 16, y, share);
            }
            String unplaced = points.size() < results.size() ? "; without arithmetic not in the plot" : "";
            svg.text(
                    "soft end",
                    WIDTH - 16,
                    top + TOP - LINE,
                    (ceilings == null ? "speed" : "share of the nearer ceiling") + unplaced);
        }

        private String colour(BenchReport.Result result) {
            return "k" + ops.indexOf(result.op()) % COLOURS;
        }
    }

    private static String giga(double value) {
        return number(value / 1e9);
    }

    private static String number(double value) {
        return new BigDecimal(value)
                .round(new MathContext(3))
                .stripTrailingZeros()
                .toPlainString();
    }
}
