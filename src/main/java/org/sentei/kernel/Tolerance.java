package org.sentei.kernel;

/** How far a result may lie from the reference's; see docs/numerics.md. NaN agrees with NaN alone. */
public sealed interface Tolerance {
    /** Every bit must agree: masks, counts, integers, conversions. */
    record Exact() implements Tolerance {}

    /**
     * {@code |actual - expected| <= terms * 2^-24 * scale}, where scale is the largest finite magnitude in the expected
     * row: the bound of an fp32 computation that adds {@code terms} rounded values. Infinities must agree, and NaN may
     * stand only where the reference has NaN.
     *
     * @param leastScale what the scale is at least: the magnitude of the summands where sums may cancel
     */
    record Rounding(double terms, double leastScale) implements Tolerance {
        /** For sums that do not cancel over a whole row. */
        public Rounding(double terms) {
            this(terms, Float.MIN_NORMAL);
        }
    }
}
