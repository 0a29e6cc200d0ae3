package org.sentei.cli;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Columns of text for people. */
final class Table {
    private final List<List<String>> rows = new ArrayList<>();
    private final String alignment;

    /**
     * @param alignment one letter a column: l or r
     * @param headings one a column
     */
    Table(String alignment, String... headings) {
        this.alignment = alignment;
        rows.add(List.of(headings));
    }

    void row(Object... cells) {
        List<String> row = new ArrayList<>();
        for (Object cell : cells) {
            row.add(
                    switch (cell) {
                        case Double number -> String.format(Locale.ROOT, "%.4g", number);
                        case Long number -> String.format(Locale.ROOT, "%,d", number);
                        case null -> "-";
                        default -> cell.toString();
                    });
        }
        rows.add(row);
    }

    void print(PrintStream out) {
        int[] widths = new int[alignment.length()];
        for (List<String> row : rows) {
            for (int i = 0; i < row.size(); i++) {
                widths[i] = Math.max(widths[i], row.get(i).length());
            }
        }
        for (List<String> row : rows) {
            StringBuilder line = new StringBuilder();
            for (int i = 0; i < row.size(); i++) {
                String space = " ".repeat(widths[i] - row.get(i).length());
                line.append(alignment.charAt(i) == 'l' ? row.get(i) + space : space + row.get(i))
                        .append("  ");
            }
            out.println(line.toString().stripTrailing());
        }
    }
}
