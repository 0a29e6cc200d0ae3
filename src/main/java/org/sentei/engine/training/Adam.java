package org.sentei.engine.training;

import java.util.ArrayList;
import java.util.List;

/** Adam (1412.6980) on arrays; a step per array is deterministic, and what it remembers can be kept. */
final class Adam {
    private static final double FIRST_DECAY = 0.9;
    private static final double SECOND_DECAY = 0.999;
    private static final double TINY = 1e-8;

    private final List<float[]> first = new ArrayList<>();
    private final List<float[]> second = new ArrayList<>();
    private long step;

    Adam(List<float[]> values) {
        for (float[] value : values) {
            first.add(new float[value.length]);
            second.add(new float[value.length]);
        }
    }

    /** Moves the values against their gradients, all by about the rate. */
    void step(List<float[]> values, List<float[]> gradients, double rate) {
        step++;
        double firstScale = 1 / (1 - Math.pow(FIRST_DECAY, (double) step));
        double secondScale = 1 / (1 - Math.pow(SECOND_DECAY, (double) step));
        for (int i = 0; i < values.size(); i++) {
            float[] value = values.get(i);
            float[] gradient = gradients.get(i);
            float[] mean = first.get(i);
            float[] square = second.get(i);
            for (int j = 0; j < value.length; j++) {
                mean[j] = (float) (FIRST_DECAY * mean[j] + (1 - FIRST_DECAY) * gradient[j]);
                square[j] = (float) (SECOND_DECAY * square[j] + (1 - SECOND_DECAY) * gradient[j] * gradient[j]);
                value[j] -= (float) (rate * (firstScale * mean[j]) / (Math.sqrt(secondScale * square[j]) + TINY));
            }
        }
    }
}
