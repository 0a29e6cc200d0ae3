package org.sentei.method.quantize;

/** The standard normal distribution. */
final class Normal {
    /** Beyond this the tail is below the smallest double. */
    private static final double LIMIT = 39;

    private Normal() {}

    static double density(double x) {
        return Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
    }

    /**
     * The share below x: Marsaglia's series {@code 1/2 + phi(x) (x + x^3/3 + x^5/15 + ...)} in the middle, a continued fraction
     * in the tails, about 15 digits of each.
     */
    static double cumulative(double x) {
        if (Double.isNaN(x)) {
            return x;
        }
        if (x > 3 || x < -3) {
            double tail = Math.abs(x) > LIMIT ? 0 : tail(Math.abs(x));
            return x > 0 ? 1 - tail : tail;
        }
        double term = x;
        double sum = x;
        for (int i = 3; Math.abs(term) > 1e-17; i += 2) {
            term *= x * x / i;
            sum += term;
        }
        return 0.5 + density(x) * sum;
    }

    private static double tail(double x) {
        double fraction = x;
        for (int k = 150; k >= 1; k--) {
            fraction = x + k / fraction;
        }
        return density(x) / fraction;
    }
}
