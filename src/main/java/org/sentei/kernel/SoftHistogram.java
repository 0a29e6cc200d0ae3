package org.sentei.kernel;

import java.util.List;
import org.sentei.tensor.DType;

/**
 * A histogram that follows its values smoothly: every value adds a bump to the bins around it (2305.19343),
 *
 * <pre>
 *   e_ik = exp(-((v_i - c_k) / bandwidth)^2)        c_k = first + k spacing
 *   S_k  = sum_i e_ik                                     {@link Mass#BUMPS}
 *   S_k  = sum_i e_ik / sum_l e_il                        {@link Mass#SHARES}: every value has mass 1
 * </pre>
 *
 * Of every value's bumps only the bin nearest to it and {@link Bins#reach} on either side count; what is left out is below
 * e^-25 of what counts there. A value that is not finite adds nothing and is counted as outside.
 *
 * @param values F32 rows x cols
 * @param mass F64 1 x bins, added to
 * @param outside I64 1x1: values more than half a spacing beyond the first or last bin, added to
 */
public record SoftHistogram(View values, Bins bins, Mass kind, View mass, View outside) implements Op {
    /** What a value adds. */
    public enum Mass {
        /** Its bumps as they are: nothing where it lies far from all bins. */
        BUMPS,
        /** Its bumps divided by their sum. */
        SHARES
    }

    /**
     * Bins at equal distances.
     *
     * @param first center of the first
     * @param spacing between neighbours, positive
     * @param count from 2 to {@link #MOST}
     * @param bandwidth of the bumps, positive, at least a quarter of the spacing
     */
    public record Bins(float first, float spacing, int count, float bandwidth) {
        /** Bins that fit in a work-group's local memory. */
        public static final int MOST = 1024;

        /** Checks the ranges. */
        public Bins {
            Check.that(Float.isFinite(first), "soft_histogram", "the first bin must be finite, not " + first);
            Check.that(
                    spacing > 0 && Float.isFinite(spacing),
                    "soft_histogram",
                    "the spacing must be positive, not " + spacing);
            Check.that(
                    count >= 2 && count <= MOST,
                    "soft_histogram",
                    "the number of bins must lie in 2.." + MOST + ", not " + count);
            Check.that(
                    bandwidth >= spacing / 4 && Float.isFinite(bandwidth),
                    "soft_histogram",
                    "the bandwidth must be at least a quarter of the spacing " + spacing + ", not " + bandwidth);
            Check.that(Float.isFinite(first + spacing * (count - 1)), "soft_histogram", "the last bin must be finite");
        }

        /** Bins on either side of the nearest one that a value touches, {@code ceil(5 bandwidth / spacing)}. */
        public int reach() {
            return (int) Math.min(count - 1, Math.ceil(5.0 * bandwidth / spacing));
        }

        /** Bandwidths between neighbouring bins, rounded once. */
        public float step() {
            return (float) ((double) spacing / bandwidth);
        }
    }

    /** Checks types and shapes; an {@link IllegalArgumentException} names the operand that does not fit. */
    public SoftHistogram {
        Check.dtype("soft_histogram", "values", values, DType.F32);
        Check.shape("soft_histogram", "mass", mass, DType.F64, 1, bins.count);
        Check.shape("soft_histogram", "outside", outside, DType.I64, 1, 1);
        Check.apart("soft_histogram", mass, values, outside);
        Check.apart("soft_histogram", outside, values);
    }

    @Override
    public List<View> reads() {
        return List.of(values, mass, outside);
    }

    @Override
    public List<View> writes() {
        return List.of(mass, outside);
    }

    @Override
    public long operations() {
        return (20L + 4 * (2L * bins.reach() + 1)) * values.elements();
    }
}
