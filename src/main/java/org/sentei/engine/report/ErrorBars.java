package org.sentei.engine.report;

import java.util.List;
import java.util.Locale;

/**
 * Means with their spread over a few categories: a panel a kind of data, a line a method.
 *
 * @param label what it shows, for who cannot see it
 * @param title above the panels
 * @param methods names of the lines, six at most
 */
public record ErrorBars(String label, String title, List<String> methods, List<Panel> panels) {
    private static final double PANEL = 260;
    private static final double LEFT = 46;
    private static final double TOP = 58;
    private static final double HEIGHT = 240;
    private static final double BOTTOM = 44;
    private static final double LEGEND_LINE = 22;
    private static final int LEGEND_COLUMNS = 3;
    private static final double LEGEND_COLUMN = 240;
    /**
     * A kind of data.
     *
     * @param categories along the x axis
     * @param lines a point a category, for each method
     */
    public record Panel(String name, List<String> categories, List<List<Point>> lines) {}

    /** A mean and how far its parts lie from it. */
    public record Point(double mean, double spread) {}

    /** As an SVG file. */
    public String document() {
        int legend = Math.ceilDiv(methods.size(), LEGEND_COLUMNS);
        double width = LEFT + Math.max(panels.size() * PANEL, Math.min(methods.size(), LEGEND_COLUMNS) * LEGEND_COLUMN);
        double height = TOP + HEIGHT + BOTTOM + LEGEND_LINE * legend + 10;
        Svg svg = new Svg(label, "error-bars", width, height, false);
        svg.rect("paper", 0, 0, width, height, "");
        svg.text("title", LEFT, 24, title);
        double highest = panels.stream()
                .flatMap(panel -> panel.lines().stream())
                .flatMap(List::stream)
                .mapToDouble(point -> point.mean() + point.spread())
                .max()
                .orElseThrow();
        Axis axis = Axis.upTo(highest);
        double unit = HEIGHT / axis.top();
        for (int i = 0; i < panels.size(); i++) {
            Panel panel = panels.get(i);
            double left = LEFT + i * PANEL;
            double right = left + PANEL - 24;
            svg.text("soft", left, TOP - 10, panel.name());
            for (double value : axis.lines()) {
                double y = TOP + HEIGHT - value * unit;
                svg.line("grid", left, y, right, y);
                if (i == 0) {
                    svg.text("soft end", left - 6, y + 4, Axis.label(value));
                }
            }
            int categories = panel.categories().size();
            for (int c = 0; c < categories; c++) {
                svg.text(
                        "soft middle",
                        x(c, categories, left, right),
                        TOP + HEIGHT + 20,
                        panel.categories().get(c));
            }
            for (int method = 0; method < methods.size(); method++) {
                plot(svg, method, panel, left, right, unit);
            }
        }
        for (int i = 0; i < methods.size(); i++) {
            double x = LEFT + i % LEGEND_COLUMNS * LEGEND_COLUMN;
            int line = i / LEGEND_COLUMNS;
            double y = TOP + HEIGHT + BOTTOM + line * LEGEND_LINE + 8;
            svg.circle("f" + i, x + 5, y - 4, 5, "");
            svg.text("", x + 16, y, methods.get(i));
        }
        return svg.document(Axis.STYLE);
    }

    private static double x(int index, int of, double left, double right) {
        return left + (right - left) * (index + 0.5) / of;
    }

    private void plot(Svg svg, int method, Panel panel, double left, double right, double unit) {
        List<Point> points = panel.lines().get(method);
        double lastX = 0;
        double lastY = 0;
        for (int i = 0; i < points.size(); i++) {
            Point point = points.get(i);
            double x = x(i, points.size(), left, right);
            double y = TOP + HEIGHT - point.mean() * unit;
            if (i > 0) {
                svg.line("line s" + method, lastX, lastY, x, y);
            }
            svg.line("bar s" + method, x, y - point.spread() * unit, x, y + point.spread() * unit);
            svg.circle(
                    "f" + method,
                    x,
                    y,
                    4,
                    String.format(
                            Locale.ROOT,
                            "%s at %s: %.4f",
                            methods.get(method),
                            panel.categories().get(i),
                            point.mean()));
            lastX = x;
            lastY = y;
        }
    }
}
