package org.sentei.engine.training;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** Adam (1412.6980) on arrays; a step per array is deterministic, and what it remembers can be kept. */
final class Adam implements Optimizer {
    private static final double FIRST_DECAY = 0.9;
    private static final double SECOND_DECAY = 0.999;
    private static final double TINY = 1e-8;

    private final List<float[]> first = new ArrayList<>();
    private final List<float[]> second = new ArrayList<>();

    Adam(List<float[]> values) {
        for (float[] value : values) {
            first.add(new float[value.length]);
            second.add(new float[value.length]);
        }
    }

    /** Means of the gradients, then of their squares. */
    @Override
    public List<float[]> moments() {
        return Stream.concat(first.stream(), second.stream()).toList();
    }

    @Override
    public void step(int done, List<float[]> values, List<float[]> gradients, double rate) {
        double firstScale = 1 / (1 - Math.pow(FIRST_DECAY, done + 1.0));
        double secondScale = 1 / (1 - Math.pow(SECOND_DECAY, done + 1.0));
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
