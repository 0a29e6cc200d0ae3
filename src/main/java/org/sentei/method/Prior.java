package org.sentei.method;

import org.apache.commons.numbers.gamma.InverseErf;

/**
 * What latent weights are to be distributed like (2305.19343): a law with mean 0 and standard deviation 1. Its quantiles say
 * where a threshold must lie so that a given share of the weights falls below it.
 */
public enum Prior {
    /** Normal. */
    GAUSSIAN {
        @Override
        public double quantile(double probability) {
            return Math.sqrt(2) * InverseErf.value(2 * probability - 1);
        }
    },
    /** Double exponential with scale {@code 1 / sqrt 2}. */
    LAPLACE {
        @Override
        public double quantile(double probability) {
            double tail = Math.min(probability, 1 - probability);
            return Math.signum(0.5 - probability) * Math.log(2 * tail) / Math.sqrt(2);
        }
    },
    /** On {@code -sqrt 3 .. sqrt 3}. */
    UNIFORM {
        @Override
        public double quantile(double probability) {
            return Math.sqrt(3) * (2 * probability - 1);
        }
    };

    /** Where the distribution function reaches {@code probability}, in 0..1 (exclusive). */
    public abstract double quantile(double probability);

    /** What |v| stays below with probability {@code rate}, in 0..1 (exclusive of 1). */
    public double threshold(double rate) {
        return rate == 0 ? 0 : quantile((1 + rate) / 2);
    }
}
