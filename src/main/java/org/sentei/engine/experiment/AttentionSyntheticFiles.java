package org.sentei.engine.experiment;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.sentei.engine.experiment.AttentionSynthetic.Cell;
import org.sentei.engine.experiment.AttentionSynthetic.Method;
import org.sentei.engine.report.Svg;
import org.sentei.format.FormatException;
import org.sentei.format.PendingFile;

/** What {@link AttentionSynthetic} found, for programs ({@code .json}), readers ({@code .md}) and eyes ({@code .svg}). */
public final class AttentionSyntheticFiles {
    private static final String NAME = "attention-synthetic";
    private static final double PANEL = 260;
    private static final double LEFT = 46;
    private static final double TOP = 58;
    private static final double HEIGHT = 240;
    private static final double BOTTOM = 44;
    private static final double LEGEND_LINE = 22;
    /** A line of the grid is so far from the next at most, in errors. */
    private static final double[] GRIDS = {0.02, 0.05, 0.1, 0.2, 0.5, 1};

    private static final int GRID_LINES = 6;

    private static final String STYLE = """
            svg { --paper: #ffffff; --ink: #1c2722; --soft: #5d6b64; --rule: #e3e1d8;
              --c0: #8b938f; --c1: #b06d10; --c2: #4d74d6; --c3: #8a63b8; --c4: #16808b; --c5: #c4533b;
              font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
            @media (prefers-color-scheme: dark) {
              svg { --paper: #161c19; --ink: #e8ece9; --soft: #98a59e; --rule: #2c3531; --c0: #79827d; --c1: #e8b054;
                --c2: #8facf5; --c3: #bb9ce3; --c4: #5fcbd4; --c5: #ee8d77; }
            }
            .paper { fill: var(--paper); } text { fill: var(--ink); } .soft { fill: var(--soft); }
            .title { font-size: 15px; font-weight: 600; } .middle { text-anchor: middle; } .end { text-anchor: end; }
            .grid { stroke: var(--rule); } .line { stroke-width: 2; } .bar { stroke-width: 1; }
            .s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
            .s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); } .f0 { fill: var(--c0); } .f1 { fill: var(--c1); }
            .f2 { fill: var(--c2); } .f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
            """;

    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private AttentionSyntheticFiles() {}

    private record Document(AttentionSyntheticRecipe recipe, List<Cell> cells) {}

    /**
     * Writes the three files; each appears whole or not at all.
     *
     * @throws FormatException when the folder does not take them
     */
    public static void write(Path folder, AttentionSyntheticRecipe recipe, List<Cell> cells) {
        try {
            PendingFile.write(
                    folder.resolve(NAME + ".json"), MAPPER.writeValueAsString(new Document(recipe, cells)) + "\n");
            PendingFile.write(folder.resolve(NAME + ".md"), table(recipe, cells));
            PendingFile.write(folder.resolve(NAME + ".svg"), figure(recipe, cells));
        } catch (IOException e) {
            throw new FormatException(
                    "folder " + folder + " does not take the results (" + e + "): choose another with --out", e);
        }
    }

    /** Means over the seeds and their standard deviation, a row a kind of data and sparsity, the smallest mean bold. */
    static String table(AttentionSyntheticRecipe recipe, List<Cell> cells) {
        StringBuilder text = new StringBuilder("# Attention-matrix pruning on synthetic data\n\n")
                .append("Relative error of the attention matrices of sequences that no method saw, mean of ")
                .append(recipe.seeds().size())
                .append(" seeds, ± their standard deviation.\n\n| data | sparsity |");
        Stream.of(Method.values())
                .forEach(method -> text.append(' ').append(method.title()).append(" |"));
        text.append("\n|---|---:|")
                .append("---:|".repeat(Method.values().length))
                .append('\n');
        for (AttentionSyntheticRecipe.Data data : recipe.data()) {
            for (BigDecimal sparsity : recipe.sparsity()) {
                List<Cell> row = of(cells, data.name(), sparsity);
                double least = row.stream().mapToDouble(Cell::mean).min().orElseThrow();
                text.append("| ")
                        .append(data.name())
                        .append(" | ")
                        .append(sparsity)
                        .append(" |");
                for (Cell cell : row) {
                    String mark = cell.mean() <= least ? "**" : "";
                    text.append(
                            String.format(Locale.ROOT, " %s%.4f%s ±%.4f |", mark, cell.mean(), mark, cell.spread()));
                }
                text.append('\n');
            }
        }
        return text.toString();
    }

    private static List<Cell> of(List<Cell> cells, String data, BigDecimal sparsity) {
        return cells.stream()
                .filter(cell -> cell.data().equals(data) && cell.sparsity().compareTo(sparsity) == 0)
                .toList();
    }

    /** Error over sparsity, a panel a kind of data, a line a method with its standard deviation. */
    static String figure(AttentionSyntheticRecipe recipe, List<Cell> cells) {
        int panels = recipe.data().size();
        double width = LEFT + panels * PANEL;
        double height = TOP + HEIGHT + BOTTOM + LEGEND_LINE * 2 + 10;
        Svg svg = new Svg("Error of attention matrices over sparsity", NAME, width, height, false);
        svg.rect("paper", 0, 0, width, height, "");
        svg.text(
                "title",
                LEFT,
                24,
                "Error of the attention matrix on unseen sequences, over the share of W that is pruned");
        double highest = cells.stream()
                .mapToDouble(cell -> cell.mean() + cell.spread())
                .max()
                .orElseThrow();
        double grid = Stream.of(0, 1, 2, 3, 4, 5)
                .map(i -> GRIDS[i])
                .filter(step -> highest / step <= GRID_LINES)
                .findFirst()
                .orElse(highest);
        double unit = HEIGHT / (Math.ceil(highest / grid) * grid);
        for (int panel = 0; panel < panels; panel++) {
            AttentionSyntheticRecipe.Data data = recipe.data().get(panel);
            double left = LEFT + panel * PANEL;
            double right = left + PANEL - 24;
            svg.text("soft", left, TOP - 10, data.name());
            for (int line = 0; line * grid * unit <= HEIGHT + 1e-6; line++) {
                double y = TOP + HEIGHT - line * grid * unit;
                svg.line("grid", left, y, right, y);
                if (panel == 0) {
                    svg.text("soft end", left - 6, y + 4, String.format(Locale.ROOT, "%.2f", line * grid));
                }
            }
            for (int i = 0; i < recipe.sparsity().size(); i++) {
                svg.text(
                        "soft middle",
                        x(i, recipe.sparsity().size(), left, right),
                        TOP + HEIGHT + 20,
                        recipe.sparsity().get(i).toString());
            }
            for (int method = 0; method < Method.values().length; method++) {
                int index = method;
                List<Cell> line = recipe.sparsity().stream()
                        .map(sparsity -> of(cells, data.name(), sparsity).get(index))
                        .toList();
                plot(svg, method, line, left, right, unit);
            }
        }
        Method[] methods = Method.values();
        for (int i = 0; i < methods.length; i++) {
            double x = LEFT + i % 3 * 240;
            int line = i / 3;
            double y = TOP + HEIGHT + BOTTOM + line * LEGEND_LINE + 8;
            svg.circle("f" + i, x + 5, y - 4, 5, "");
            svg.text("", x + 16, y, methods[i].title());
        }
        return svg.document(STYLE);
    }

    private static double x(int index, int of, double left, double right) {
        return left + (right - left) * (index + 0.5) / of;
    }

    private static void plot(Svg svg, int colour, List<Cell> cells, double left, double right, double unit) {
        double lastX = 0;
        double lastY = 0;
        for (int i = 0; i < cells.size(); i++) {
            Cell cell = cells.get(i);
            double x = x(i, cells.size(), left, right);
            double y = TOP + HEIGHT - cell.mean() * unit;
            if (i > 0) {
                svg.line("line s" + colour, lastX, lastY, x, y);
            }
            svg.line("bar s" + colour, x, y - cell.spread() * unit, x, y + cell.spread() * unit);
            svg.circle(
                    "f" + colour,
                    x,
                    y,
                    4,
                    String.format(Locale.ROOT, "%s at %s: %.4f", cell.method().title(), cell.sparsity(), cell.mean()));
            lastX = x;
            lastY = y;
        }
    }
}
