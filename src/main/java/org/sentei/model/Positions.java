package org.sentei.model;

/** How a transformer tells positions apart. */
public sealed interface Positions {

    /**
     * A table of trained vectors added to the embeddings.
     *
     * @param table name of the table's tensor
     * @param entries rows of the table
     * @param offset row of position 0
     * @param followsMask whether positions count the visible tokens only, a masked token being position -1
     */
    record Learned(String table, long entries, int offset, boolean followsMask) implements Positions {}

    /**
     * Queries and keys turned by angles that grow with the position (2104.09864).
     *
     * @param theta base of the geometric series of wavelengths
     */
    record Rotary(double theta, Scaling scaling) implements Positions {

        /**
         * Angle a position for each pair of components, in fp32 as transformers keeps them.
         *
         * @param headSize components of a head, even
         */
        public float[] inverseFrequencies(int headSize) {
            float[] frequencies = new float[headSize / 2];
            for (int pair = 0; pair < frequencies.length; pair++) {
                float exponent = 2f * pair / headSize;
                frequencies[pair] = scaling.scale(1f / (float) Math.pow((float) theta, exponent));
            }
            return frequencies;
        }
    }

    /** How the angles change for contexts longer than those of pretraining. */
    sealed interface Scaling {
        /** The frequency to use instead of a pair's own. */
        float scale(float inverseFrequency);
    }

    /** Angles as they are. */
    record Unscaled() implements Scaling {
        @Override
        public float scale(float inverseFrequency) {
            return inverseFrequency;
        }
    }

    /** Every angle divided by the factor (position interpolation, 2306.15595). */
    record Linear(double factor) implements Scaling {
        @Override
        public float scale(float inverseFrequency) {
            return inverseFrequency / (float) factor;
        }
    }

    /**
     * Llama 3.1: wavelengths beyond {@code context / low} are divided by the factor, those below {@code context / high}
     * stay, those between are blended.
     *
     * @param low {@code low_freq_factor}
     * @param high {@code high_freq_factor}
     * @param context positions of pretraining
     */
    record Llama3(double factor, double low, double high, long context) implements Scaling {
        @Override
        public float scale(float inverseFrequency) {
            double wavelength = 2 * Math.PI / inverseFrequency;
            if (wavelength > context / low) {
                return (float) (inverseFrequency / factor);
            }
            if (wavelength < context / high) {
                return inverseFrequency;
            }
            double kept = (context / wavelength - low) / (high - low);
            return (float) ((1 - kept) * inverseFrequency / factor + kept * inverseFrequency);
        }
    }
}
