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
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.sentei.engine.experiment.AttentionSynthetic.Cell;
import org.sentei.engine.experiment.AttentionSynthetic.Method;
import org.sentei.engine.report.ErrorBars;
import org.sentei.format.FormatException;
import org.sentei.format.PendingFile;

/** What {@link AttentionSynthetic} found, for programs ({@code .json}), readers ({@code .md}) and eyes ({@code .svg}). */
public final class AttentionSyntheticFiles {
    private static final String NAME = "attention-synthetic";

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
        List<ErrorBars.Panel> panels = recipe.data().stream()
                .map(data -> new ErrorBars.Panel(
                        data.name(),
                        recipe.sparsity().stream().map(BigDecimal::toString).toList(),
                        IntStream.range(0, Method.values().length)
                                .mapToObj(method -> recipe.sparsity().stream()
                                        .map(sparsity ->
                                                of(cells, data.name(), sparsity).get(method))
                                        .map(cell -> new ErrorBars.Point(cell.mean(), cell.spread()))
                                        .toList())
                                .toList()))
                .toList();
        return new ErrorBars(
                        "Error of attention matrices over sparsity",
                        "Error of the attention matrix on unseen sequences, over the share of W that is pruned",
                        Stream.of(Method.values()).map(Method::title).toList(),
                        panels)
                .document();
    }
}
