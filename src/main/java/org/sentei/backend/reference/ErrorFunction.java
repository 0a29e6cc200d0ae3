package org.sentei.backend.reference;

/** The Gauss error function, which the JDK lacks. */
final class ErrorFunction {
    private static final double SERIES_LIMIT = 2.5;
    private static final int FRACTION_DEPTH = 120;

    private ErrorFunction() {}

    /**
     * {@code erfc(x) = 1 - erf(x)} with a relative error of at most 2e-12: the series of Abramowitz and Stegun 7.1.6 near zero,
     * their continued fraction 7.1.14, evaluated from its end, further out.
     */
    static double complement(double x) {
        if (x < 0) {
            return 2 - complement(-x);
        }
        if (x < SERIES_LIMIT) {
            double term = x;
            double sum = x;
            for (int n = 1; Math.abs(term) > 1e-18 * sum; n++) {
                term *= 2 * x * x / (2 * n + 1);
                sum += term;
            }
            return 1 - 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
        }
        double fraction = 0;
        for (int n = FRACTION_DEPTH; n >= 1; n--) {
            fraction = n / 2.0 / (x + fraction);
        }
        return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
    }
}
