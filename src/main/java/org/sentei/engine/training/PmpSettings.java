package org.sentei.engine.training;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.Locale;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Schedule;
import org.sentei.kernel.SoftHistogram;
import org.sentei.method.Prior;
import org.sentei.model.GraphNetwork;

/**
 * How a network is trained to a budget.
 *
 * @param rate share of the prunable weights that are 0 in the end, from 0 to below 1, exactly as written
 * @param fromRate the least rate that the same latent weights are trained to serve; the rate itself for one network alone
 * @param budget what leads there
 * @param prior the distribution that latent weights follow
 * @param steps of training, all examples in each
 * @param tuning share of the steps that come last, with the mask fixed
 * @param learningRate of Adam
 * @param schedule how it goes down over all steps
 * @param strength what the divergence from the prior, or the distance from the budget, is multiplied by (lambda)
 * @param bins of the histogram
 * @param mass what a latent weight adds to the histogram
 * @param sharpness of the band-stop filter at the first step
 * @param lastSharpness at the last step before the mask is fixed; it grows geometrically
 * @param dropout share of the inputs of each layer left out at a step
 * @param gain of a network's first weights over what keeps the variance of its signals: pruned ones are fewer, and latent
 *     weights keep the spread they begin with
 * @param decay added to a weight's gradient, times the weight
 * @param connected whether kept weights must lie on ways from input to output; see {@link org.sentei.method.Connections}
 */
public record PmpSettings(
        BigDecimal rate,
        BigDecimal fromRate,
        Budget budget,
        Prior prior,
        int steps,
        double tuning,
        double learningRate,
        Schedule schedule,
        double strength,
        int bins,
        SoftHistogram.Mass mass,
        double sharpness,
        double lastSharpness,
        double gain,
        double dropout,
        double decay,
        boolean connected) {

    private static final int MOST_DECIMALS = 30;

    /** What leads to the budget. All end in the exact mask of the largest latent weights, and fine-tuning. */
    public enum Budget {
        /**
         * Filter and weights are trained together; the divergence of the latent weights' histogram from the prior's is part of
         * the loss.
         */
        @JsonProperty("prior-kl")
        PRIOR_KL,
        /** The same with the squared distance of the sorted latent weights from the prior's quantiles. */
        @JsonProperty("prior-ot")
        PRIOR_OT,
        /** The same without a prior: the threshold is the quantile of the latent weights themselves. */
        @JsonProperty("dynamic-quantile")
        DYNAMIC_QUANTILE,
        /**
         * The filter has no threshold, {@link org.sentei.kernel.BandStop.Form.Tanh}; the squared distance between its mean over
         * all latent weights and the share that stays is part of the loss (2412.12887).
         */
        @JsonProperty("budget-loss")
        BUDGET_LOSS,
        /** Magnitude pruning: a dense network first, its smallest weights go at once. */
        @JsonProperty("magnitude")
        MAGNITUDE;

        /** As recipes write it. */
        String label() {
            return name().toLowerCase(Locale.ROOT).replace('_', '-');
        }
    }

    /** A {@link RecipeException} says which setting is out of its range. */
    public PmpSettings {
        rate("rate", rate);
        rate("from_rate", fromRate);
        if (fromRate.compareTo(rate) > 0) {
            throw new RecipeException("from_rate " + fromRate + " is above rate " + rate + ": give one that is not");
        }
        range("steps", steps, 1, 1_000_000);
        range("tuning", tuning, 0, 1);
        range("learning_rate", learningRate, 1e-9, 1e30);
        range("strength", strength, 0, 1e9);
        range("bins", bins, 8, 1024);
        range("sharpness", sharpness, 1e-3, 1e4);
        range("last_sharpness", lastSharpness, sharpness, 1e6);
        range("gain", gain, 1e-3, 1e3);
        range("dropout", dropout, 0, 0.99);
        range("decay", decay, 0, 1);
    }

    static void rate(String key, BigDecimal rate) {
        if (rate.scale() < 0 || rate.scale() > MOST_DECIMALS) {
            // Exact arithmetic on a rate like 1e-999999999 would not end.
            throw new RecipeException(key + " " + rate + " is not written with at most " + MOST_DECIMALS
                    + " digits after the point: give one like 0.9");
        }
        if (rate.signum() < 0 || rate.compareTo(BigDecimal.ONE) >= 0) {
            throw new RecipeException(key + " " + rate + " is outside [0, 1): give the share of the weights that go,"
                    + " for example 0.9");
        }
    }

    private static void range(String key, double value, double least, double most) {
        if (!(value >= least && value <= most)) {
            throw new RecipeException(key + " " + value + " is outside [" + least + ", " + most + "]");
        }
    }

    /** Whether the latent weights are trained to serve more than one rate. */
    boolean manyRates() {
        return fromRate.compareTo(rate) < 0;
    }

    /** Steps before the mask is fixed; a dense network is fine-tuned for the second half. */
    int joint() {
        return steps - (int) Math.round(steps * (budget == Budget.MAGNITUDE ? 0.5 : tuning));
    }

    /** What latent weights of a parameter are multiplied by. */
    float scale(GraphNetwork.Parameter parameter) {
        return (float) (gain * parameter.deviation());
    }

    /** Weights of {@code count} that go: floor(rate count + 1/2), in exact arithmetic. */
    public long pruned(long count) {
        return pruned(rate, count);
    }

    /** Those of a rate. */
    static long pruned(BigDecimal rate, long count) {
        return rate.multiply(BigDecimal.valueOf(count))
                .add(new BigDecimal("0.5"))
                .setScale(0, RoundingMode.FLOOR)
                .longValueExact();
    }
}
