package org.sentei.engine;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.sentei.engine.recipe.Recipe;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.report.Report;
import org.sentei.format.TextTokenizer;

/**
 * The quality of a model before and after, and the gates of a recipe that it must pass.
 *
 * <p>The model as it came is measured first, so that data that do not fit it, or cannot feed the gates, are refused before
 * anything long begins.
 */
final class QualityCheck {
    private final Recipe.Quality gates;
    private final OpenModel model;
    private final Optional<Path> tokenizer;
    private final Evaluation evaluation;
    private final Evaluation.Measured before;

    /**
     * Measures the model as it came.
     *
     * @throws RecipeException when a gate needs a figure that this model on these data does not give
     */
    QualityCheck(Recipe.Quality gates, OpenModel model, Optional<Path> tokenizer, Evaluation evaluation) {
        this.gates = gates;
        this.model = model;
        this.tokenizer = tokenizer;
        this.evaluation = evaluation;
        this.before = measure(model);
        checkGate("max_perplexity_increase", gates.maxPerplexityIncrease(), Evaluation.PERPLEXITY);
        checkGate("min_cosine", gates.minCosine(), Evaluation.COSINE);
    }

    private Evaluation.Measured measure(OpenModel measured) {
        try (TextTokenizer original = model.tokenizer(tokenizer)) {
            return evaluation.measure(measured, original);
        }
    }

    private void checkGate(String gate, Optional<Double> limit, String metric) {
        if (limit.isPresent() && !before.gives(metric)) {
            throw new RecipeException("quality gate " + gate + " needs the " + metric + ", which cannot be measured of "
                    + (model.isEncoder() ? "an encoder" : "a decoder") + "; remove the gate");
        }
    }

    /** Every figure of the model as it came and of the compressed one. */
    List<Report.Measure> after(OpenModel compressed) {
        return evaluation.compare(measure(compressed), before).stream()
                .map(metric -> new Report.Measure(metric.metric(), metric.original(), metric.value()))
                .toList();
    }

    /** What the first missed gate has to say; empty when all are passed. */
    Optional<String> missed(List<Report.Measure> measures) {
        for (Report.Measure measure : measures) {
            Optional<Double> rise = gates.maxPerplexityIncrease();
            if (measure.metric().equals(Evaluation.PERPLEXITY)
                    && rise.isPresent()
                    && !(measure.after() <= measure.before() * (1 + rise.get()))) {
                return Optional.of("quality gate max_perplexity_increase " + rise.get()
                        + " missed: perplexity rose from " + measure.before() + " to " + measure.after());
            }
            Optional<Double> least = gates.minCosine();
            if (measure.metric().equals(Evaluation.COSINE) && least.isPresent() && !(measure.after() >= least.get())) {
                return Optional.of(
                        "quality gate min_cosine " + least.get() + " missed: the mean cosine is " + measure.after());
            }
        }
        return Optional.empty();
    }
}
