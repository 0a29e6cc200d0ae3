package org.sentei.method;

/**
 * What one weight is worth: {@code |w_ij| * scale_j} with a scale of its input; the smallest go first.
 *
 * <p>With y = W x + b, removing w_ij leaves an error of {@code w_ij^2 E[x_j^2]} when the bias is frozen (Wanda,
 * 2306.11695) and of {@code w_ij^2 var(x_j)} when the bias may take up the mean (STADE, 2503.22451).
 */
public enum WeightScore {
    /** {@code |w|} alone. */
    MAGNITUDE,
    /** {@code |w| * sqrt(E[x^2])}. */
    WANDA,
    /** {@code |w| * std(x)}, sample standard deviation. */
    STADE;

    /** Scale of every input column, fp32; null for {@link #MAGNITUDE}, which needs none and takes null moments. */
    public float[] scale(Moments moments) {
        return switch (this) {
            case MAGNITUDE -> null;
            case WANDA -> moments.rootMeanSquares();
            case STADE -> moments.standardDeviations();
        };
    }
}
