package org.sentei.engine.recipe;

/** How a learning rate goes down while a training runs. */
public enum Schedule {
    /** It stays. */
    CONSTANT,
    /** A tenth after half of the steps, a hundredth after three quarters (2404.18949, table 4). */
    STEP,
    /** Half a cosine wave, down to almost nothing (1608.03983, without restarts). */
    COSINE;

    /**
     * What the learning rate of a step is multiplied by, from above 0 to 1.
     *
     * @param step from 0 to below {@code steps}
     */
    public double factor(int step, int steps) {
        return switch (this) {
            case CONSTANT -> 1;
            case STEP -> step < steps / 2.0 ? 1 : step < steps * 0.75 ? 0.1 : 0.01;
            case COSINE -> (1 + Math.cos(Math.PI * step / steps)) / 2;
        };
    }
}
