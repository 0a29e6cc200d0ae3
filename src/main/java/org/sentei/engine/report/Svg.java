package org.sentei.engine.report;

import java.util.List;
import java.util.Locale;

/** Writes SVG for pages and files: shapes with tooltips, histograms, lines, text. Colours come from a style sheet. */
public final class Svg {
    private final StringBuilder body = new StringBuilder();

    /**
     * @param label what the drawing shows, for who cannot see it; empty for mere decoration
     * @param stretch whether the drawing fills its box without keeping its proportions
     */
    public Svg(String label, String cssClass, double width, double height, boolean stretch) {
        body.append(label.isEmpty() ? "<svg aria-hidden=\"true" : "<svg role=\"img\" aria-label=\"" + escape(label))
                .append("\" class=\"")
                .append(escape(cssClass))
                .append("\" viewBox=\"0 0 ")
                .append(number(width))
                .append(' ')
                .append(number(height))
                .append(stretch ? "\" preserveAspectRatio=\"none\">" : "\">");
    }

    /** A rectangle; {@code tooltip} may be empty. */
    public Svg rect(String cssClass, double x, double y, double width, double height, String tooltip) {
        body.append("<rect class=\"").append(escape(cssClass)).append('"');
        attribute("x", x);
        attribute("y", y);
        attribute("width", width);
        attribute("height", height);
        return closed("rect", tooltip);
    }

    /** A disc; {@code tooltip} may be empty. */
    public Svg circle(String cssClass, double x, double y, double radius, String tooltip) {
        body.append("<circle class=\"").append(escape(cssClass)).append('"');
        attribute("cx", x);
        attribute("cy", y);
        attribute("r", radius);
        return closed("circle", tooltip);
    }

    /** One line of text whose base line starts, or is anchored by its class, at a point. */
    public Svg text(String cssClass, double x, double y, String text) {
        body.append("<text class=\"").append(escape(cssClass)).append('"');
        attribute("x", x);
        attribute("y", y);
        body.append('>').append(escape(text)).append("</text>");
        return this;
    }

    private Svg closed(String element, String tooltip) {
        if (tooltip.isEmpty()) {
            body.append("/>");
        } else {
            body.append("><title>")
                    .append(escape(tooltip))
                    .append("</title></")
                    .append(element)
                    .append('>');
        }
        return this;
    }

    /** A straight line from (x1, y1) to (x2, y2). */
    public Svg line(String cssClass, double x1, double y1, double x2, double y2) {
        body.append("<line class=\"").append(escape(cssClass)).append('"');
        attribute("x1", x1);
        attribute("y1", y1);
        attribute("x2", x2);
        attribute("y2", y2);
        body.append("/>");
        return this;
    }

    /**
     * A histogram: columns of width 1 from x = 0, closed along the bottom, without gaps.
     *
     * @param unit height of one count
     * @param bottom y of the columns' foot
     * @param tooltip may be empty
     */
    Svg steps(String cssClass, List<Long> counts, double unit, double bottom, String tooltip) {
        body.append("<path class=\"")
                .append(escape(cssClass))
                .append("\" d=\"M0 ")
                .append(number(bottom));
        for (int i = 0; i < counts.size(); i++) {
            body.append('V')
                    .append(number(bottom - counts.get(i) * unit))
                    .append('H')
                    .append(i + 1);
        }
        body.append('V').append(number(bottom)).append("Z\"");
        return closed("path", tooltip);
    }

    /** A line through points, of which there are as many x as y. */
    Svg curve(String cssClass, double[] x, double[] y) {
        body.append("<path class=\"").append(escape(cssClass)).append("\" d=\"M");
        for (int i = 0; i < x.length; i++) {
            body.append(i == 0 ? "" : "L").append(number(x[i])).append(' ').append(number(y[i]));
        }
        body.append(x.length == 0 ? "0 0\"/>" : "\"/>");
        return this;
    }

    /**
     * The unit squares of a grid, row by row, whose character is this one.
     *
     * @param opacity of their fill
     */
    Svg cells(String grid, char wanted, int columns, double opacity) {
        StringBuilder path = new StringBuilder();
        for (int at = 0; at < grid.length(); at++) {
            int end = at;
            while (end < grid.length() && grid.charAt(end) == wanted && end / columns == at / columns) {
                end++;
            }
            if (end > at) {
                path.append('M').append(at % columns).append(' ').append(at / columns);
                path.append('h').append(end - at).append("v1h").append(at - end).append('z');
                at = end - 1;
            }
        }
        if (!path.isEmpty()) {
            body.append("<path fill-opacity=\"")
                    .append(number(opacity))
                    .append("\" d=\"")
                    .append(path)
                    .append("\"/>");
        }
        return this;
    }

    private void attribute(String name, double value) {
        body.append(' ').append(name).append("=\"").append(number(value)).append('"');
    }

    private static String number(double value) {
        if (!Double.isFinite(value)) {
            throw new IllegalArgumentException("a drawing has finite coordinates, not " + value);
        }
        String text = String.format(Locale.ROOT, "%.3f", value);
        return text.endsWith(".000") ? text.substring(0, text.length() - 4) : text;
    }

    /** Text for HTML and SVG, inside elements and quoted attributes alike. */
    static String escape(String text) {
        StringBuilder escaped = new StringBuilder(text.length() + 16);
        text.codePoints().forEach(c -> {
            switch (c) {
                case '&' -> escaped.append("&amp;");
                case '<' -> escaped.append("&lt;");
                case '>' -> escaped.append("&gt;");
                case '"' -> escaped.append("&quot;");
                case '\'' -> escaped.append("&#39;");
                default -> {
                    boolean printable = c == '\n' || c == '\t' || !Character.isISOControl(c);
                    boolean surrogate = c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE;
                    escaped.appendCodePoint(printable && !surrogate ? c : 0xFFFD);
                }
            }
        });
        return escaped.toString();
    }

    /** A file of its own, with its style sheet inside. */
    public String document(String style) {
        int inside = body.indexOf(">") + 1;
        return "<svg xmlns=\"http://www.w3.org/2000/svg\""
                + body.substring("<svg".length(), inside)
                + "\n<style>\n"
                + escape(style)
                + "</style>\n"
                + body.substring(inside)
                + "</svg>\n";
    }

    /** Inline, for a page, with a style sheet that must say itself that it is for this drawing alone. */
    String inline(String style) {
        int inside = body.indexOf(">") + 1;
        return body.substring(0, inside) + "\n<style>\n" + escape(style) + "</style>\n" + body.substring(inside)
                + "</svg>\n";
    }

    /** Inline, for a page. */
    @Override
    public String toString() {
        return body + "</svg>";
    }
}
