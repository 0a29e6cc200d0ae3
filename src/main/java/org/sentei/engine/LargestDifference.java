package org.sentei.engine;

/** How far outputs of one model are from those of another, at most. NaN anywhere, or other sizes, make it NaN. */
final class LargestDifference {
    private double largest;
    private double magnitude;

    void add(float[] now, float[] then) {
        if (now.length != then.length) {
            largest = Double.NaN;
            return;
        }
        for (int i = 0; i < then.length; i++) {
            // Math.max gives NaN where either is.
            largest = Math.max(largest, Math.abs((double) now[i] - then[i]));
            magnitude = Math.max(magnitude, Math.abs(then[i]));
        }
    }

    /** As a share of the other model's largest output. */
    double relative() {
        return largest == 0 ? 0 : largest / magnitude;
    }
}
