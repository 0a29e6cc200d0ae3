package org.sentei.method.quantize;

import org.apache.commons.numbers.gamma.Erfc;

/** The standard normal distribution. */
final class Normal {
    private Normal() {}

    static double density(double x) {
        return Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
    }

    /** The share below x, also far out in the tail. */
    static double cumulative(double x) {
        return Erfc.value(-x / Math.sqrt(2)) / 2;
    }
}
