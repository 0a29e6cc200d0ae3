package org.sentei.engine.training;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.sentei.engine.Journaling;
import org.sentei.engine.Progress;
import org.sentei.engine.RunException;
import org.sentei.engine.Version;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.ErrorBars;
import org.sentei.format.FormatException;
import org.sentei.format.PendingFile;
import org.sentei.kernel.Backend;

/**
 * Accuracy over rate: one recipe trained to several rates from several seeds, magnitude pruning beside it.
 *
 * <p>A folder gets {@code rate-R/seed-S} with each network, {@code sweep.json}, {@code sweep.md} and {@code sweep.svg}. What is
 * there already from an earlier run is kept, so that a sweep that was stopped goes on.
 */
public final class RateSweep {
    private static final int MOST = 100;
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();

    private RateSweep() {}

    /**
     * What the seeds came to at a rate.
     *
     * @param zeros of every network
     */
    public record Cell(String rate, String budget, long zeros, Figures valid, Figures test) {}

    /** Accuracies, a seed each, and what they come to. */
    public record Figures(List<Double> seeds, double mean, double deviation) {
        /** Mean and standard deviation, the latter that of a sample and 0 for one seed. */
        static Figures of(List<Double> seeds) {
            double mean =
                    seeds.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
            double squares = seeds.stream()
                    .mapToDouble(value -> (value - mean) * (value - mean))
                    .sum();
            return new Figures(
                    List.copyOf(seeds), mean, seeds.size() < 2 ? 0 : Math.sqrt(squares / (seeds.size() - 1)));
        }
    }

    /**
     * What {@code sweep.json} holds.
     *
     * @param warnings of the single trainings, with their rates and seeds
     */
    public record Result(String data, List<Long> seeds, List<Cell> cells, List<String> warnings) {
        /** Its text. */
        public String json() {
            try {
                return MAPPER.writeValueAsString(this) + "\n";
            } catch (IOException failed) {
                throw new IllegalStateException("a result cannot be written as JSON", failed);
            }
        }
    }

    /**
     * Trains all of them.
     *
     * @param recipe its rate and seed do not matter
     * @param out the folder; made where it is missing
     * @throws RuntimeException as {@link GraphTraining#run}
     */
    public static Result run(
            TrainingRecipe recipe,
            Path data,
            Path out,
            List<BigDecimal> rates,
            List<Long> seeds,
            String backend,
            Backend.Options options,
            Progress progress) {
        if (rates.isEmpty() || seeds.isEmpty() || rates.size() * seeds.size() > MOST) {
            throw new RecipeException("a sweep over " + rates.size() + " rates from " + seeds.size()
                    + " seeds is not possible: give 1 to " + MOST + " trainings");
        }
        rates.forEach(rate -> recipe.to(rate).settings());
        List<Cell> cells = new ArrayList<>();
        List<String> warnings = new ArrayList<>();
        for (BigDecimal rate : rates) {
            List<JsonNode> reports = new ArrayList<>();
            for (long seed : seeds) {
                Path folder = out.resolve("rate-" + rate.toPlainString()).resolve("seed-" + seed);
                TrainingRecipe asked = recipe.to(rate).withSeed(seed);
                if (!Files.exists(folder)) {
                    GraphTraining.run(asked, data, folder, Journaling.RESUME, backend, options, progress);
                }
                JsonNode report = report(folder, asked, data);
                report.path("warnings")
                        .forEach(said ->
                                warnings.add("rate " + rate.toPlainString() + ", seed " + seed + ": " + said.asText()));
                reports.add(report);
            }
            cells.add(cell(rate, recipe.settings().budget().label(), reports));
            if (reports.getFirst().hasNonNull("baseline")) {
                cells.add(cell(
                        rate,
                        PmpSettings.Budget.MAGNITUDE.label(),
                        reports.stream().map(report -> report.get("baseline")).toList()));
            }
        }
        Result result = new Result(data.toString(), seeds, cells, warnings);
        try {
            PendingFile.write(out.resolve("sweep.json"), result.json());
            PendingFile.write(out.resolve("sweep.md"), table(result));
            PendingFile.write(out.resolve("sweep.svg"), figure(result));
        } catch (IOException e) {
            throw new RunException("folder " + out + " does not take the sweep (" + e + "); free space", e);
        }
        return result;
    }

    /** What a finished training wrote, which may be an earlier sweep's. */
    private static JsonNode report(Path folder, TrainingRecipe asked, Path data) {
        try {
            JsonNode report = MAPPER.readTree(folder.resolve("report.json").toFile());
            boolean same = Files.readString(folder.resolve("recipe.yaml")).equals(asked.text())
                    && report.path("seed").asLong() == asked.seed()
                    && report.path("requested")
                            .asText()
                            .equals(asked.settings().rate().toPlainString())
                    && report.path("data").path("source").asText().equals(data.toString())
                    && report.path("sentei").asText().equals(Version.current());
            if (!same) {
                throw new FormatException("folder " + folder + " holds another training than this sweep asks for:"
                        + " remove it, or give another folder");
            }
            return report;
        } catch (IOException e) {
            throw new FormatException(
                    "folder " + folder + " holds no finished training (" + e.getMessage()
                            + "): remove it, or give another folder",
                    e);
        }
    }

    private static Cell cell(BigDecimal rate, String budget, List<JsonNode> reports) {
        List<Long> zeros = reports.stream()
                .map(report -> report.get("zeros").asLong())
                .distinct()
                .toList();
        if (zeros.size() != 1) {
            throw new RunException(
                    "trainings to rate " + rate + " ended in " + zeros + " zeros; that is a defect, report it");
        }
        return new Cell(
                rate.toPlainString(), budget, zeros.getFirst(), figures(reports, "valid"), figures(reports, "test"));
    }

    private static Figures figures(List<JsonNode> reports, String split) {
        return Figures.of(reports.stream()
                .map(report -> report.get("accuracy").get(split).asDouble())
                .toList());
    }

    /** A row a rate and a way there, in percent. */
    static String table(Result result) {
        StringBuilder text = new StringBuilder("# Accuracy over rate\n\n")
                .append(result.data())
                .append(", mean of ")
                .append(result.seeds().size())
                .append(
                        " seeds, ± their standard deviation, in percent.\n\n| rate | zeros | | valid | test |\n|---|---:|---|---|---|\n");
        for (Cell cell : result.cells()) {
            text.append(String.format(
                    Locale.ROOT,
                    "| %s | %,d | %s | %.1f ±%.1f | %.1f ±%.1f |%n",
                    cell.rate(),
                    cell.zeros(),
                    cell.budget(),
                    100 * cell.valid().mean(),
                    100 * cell.valid().deviation(),
                    100 * cell.test().mean(),
                    100 * cell.test().deviation()));
        }
        return text.toString();
    }

    private static String figure(Result result) {
        List<String> rates = result.cells().stream().map(Cell::rate).distinct().toList();
        List<String> budgets =
                result.cells().stream().map(Cell::budget).distinct().toList();
        List<List<ErrorBars.Point>> lines = budgets.stream()
                .map(budget -> result.cells().stream()
                        .filter(cell -> cell.budget().equals(budget))
                        .map(cell -> new ErrorBars.Point(
                                cell.test().mean(), cell.test().deviation()))
                        .toList())
                .toList();
        return new ErrorBars(
                        "Accuracy on the test split over the rate",
                        "Accuracy on the test split over the share of zeros",
                        budgets,
                        List.of(new ErrorBars.Panel(
                                Path.of(result.data()).getFileName().toString(), rates, lines)))
                .document();
    }
}
