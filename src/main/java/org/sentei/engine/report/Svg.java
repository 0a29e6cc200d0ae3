package org.sentei.engine.report;

import java.util.Locale;

/** Writes inline SVG for reports: rectangles and lines with tooltips. Colours come from the page's style sheet. */
final class Svg {
    private final StringBuilder body = new StringBuilder();

    /**
     * @param label what the drawing shows, for who cannot see it
     * @param stretch whether the drawing fills its box without keeping its proportions
     */
    Svg(String label, String cssClass, double width, double height, boolean stretch) {
        body.append("<svg role=\"img\" aria-label=\"")
                .append(escape(label))
                .append("\" class=\"")
                .append(escape(cssClass))
                .append("\" viewBox=\"0 0 ")
                .append(number(width))
                .append(' ')
                .append(number(height))
                .append(stretch ? "\" preserveAspectRatio=\"none\">" : "\">");
    }

    /** A rectangle; {@code tooltip} may be empty. */
    Svg rect(String cssClass, double x, double y, double width, double height, String tooltip) {
        body.append("<rect class=\"").append(escape(cssClass)).append('"');
        attribute("x", x);
        attribute("y", y);
        attribute("width", width);
        attribute("height", height);
        if (tooltip.isEmpty()) {
            body.append("/>");
        } else {
            body.append("><title>").append(escape(tooltip)).append("</title></rect>");
        }
        return this;
    }

    Svg line(String cssClass, double x1, double y1, double x2, double y2) {
        body.append("<line class=\"").append(escape(cssClass)).append('"');
        attribute("x1", x1);
        attribute("y1", y1);
        attribute("x2", x2);
        attribute("y2", y2);
        body.append("/>");
        return this;
    }

    private void attribute(String name, double value) {
        body.append(' ').append(name).append("=\"").append(number(value)).append('"');
    }

    private static String number(double value) {
        if (!Double.isFinite(value)) {
            throw new IllegalArgumentException("a drawing has finite coordinates, not " + value);
        }
        return String.format(Locale.ROOT, "%.3f", value);
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

    @Override
    public String toString() {
        return body + "</svg>";
    }
}
