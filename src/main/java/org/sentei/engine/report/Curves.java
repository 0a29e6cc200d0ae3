package org.sentei.engine.report;

import java.util.List;

/**
 * How figures went over the steps of a training: a panel a figure, a line a way of training, all over the same steps.
 *
 * @param label what it shows, for who cannot see it
 * @param names of the lines, six at most
 * @param panels two a row
 */
public record Curves(String label, List<String> names, List<Panel> panels) {
    private static final double LEFT = 46;
    private static final double WIDTH = 330;
    private static final double TOP = 34;
    private static final double HEIGHT = 150;
    private static final double ROW = 220;
    private static final int COLUMNS = 2;

    /**
     * A figure.
     *
     * @param lines of each name, in their order; without points where the figure is not known
     */
    public record Panel(String title, List<List<Point>> lines) {}

    /** A value at a step. */
    public record Point(int step, double value) {}

    /** As an SVG file. */
    public String document() {
        return svg().document(Axis.STYLE);
    }

    /** For a page. */
    String inline() {
        return svg().inline("svg.curves {\n" + Axis.STYLE.replace("svg {", "& {") + "}\n");
    }

    private Svg svg() {
        double width = COLUMNS * (LEFT + WIDTH);
        double legend = Math.ceilDiv(panels.size(), COLUMNS) * ROW;
        Svg svg = new Svg(label, "curves", width, legend + 30, false);
        svg.rect("paper", 0, 0, width, legend + 30, "");
        for (int i = 0; i < panels.size(); i++) {
            int row = i / COLUMNS;
            plot(svg, panels.get(i), i % COLUMNS * (LEFT + WIDTH) + LEFT, row * ROW + TOP);
        }
        for (int i = 0; i < names.size(); i++) {
            double x = LEFT + i * 200;
            svg.circle("f" + i, x + 5, legend + 8, 5, "");
            svg.text("", x + 16, legend + 12, names.get(i));
        }
        return svg;
    }

    private static void plot(Svg svg, Panel panel, double left, double top) {
        double right = left + WIDTH - 24;
        double bottom = top + HEIGHT;
        svg.text("soft", left, top - 10, panel.title());
        double highest = panel.lines().stream()
                .flatMap(List::stream)
                .mapToDouble(Point::value)
                .max()
                .orElse(0);
        int steps = panel.lines().stream()
                .flatMap(List::stream)
                .mapToInt(Point::step)
                .max()
                .orElse(0);
        Axis axis = Axis.upTo(highest);
        for (double value : axis.lines()) {
            double y = bottom - value / axis.top() * HEIGHT;
            svg.line("grid", left, y, right, y);
            svg.text("soft end", left - 6, y + 4, Axis.label(value));
        }
        svg.text("soft", left, bottom + 18, "step 0");
        svg.text("soft end", right, bottom + 18, Integer.toString(steps));
        for (int line = 0; line < panel.lines().size(); line++) {
            List<Point> points = panel.lines().get(line);
            if (!points.isEmpty()) {
                svg.curve(
                        "line s" + line,
                        points.stream()
                                .mapToDouble(point -> left + (right - left) * point.step() / Math.max(1, steps))
                                .toArray(),
                        points.stream()
                                .mapToDouble(point -> bottom - point.value() / axis.top() * HEIGHT)
                                .toArray());
            }
        }
    }
}
