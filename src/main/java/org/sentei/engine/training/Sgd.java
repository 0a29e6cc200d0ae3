package org.sentei.engine.training;

import java.util.List;

/**
 * Gradient descent with momentum and weight decay: {@code v = momentum v + g + decay w}, {@code w = w - rate v}, where the decay
 * is that of the loss's L2 penalty.
 */
final class Sgd implements Optimizer {
    private final double momentum;
    private final double decay;
    private final List<float[]> velocities;

    Sgd(List<float[]> values, double momentum, double decay) {
        this.momentum = momentum;
        this.decay = decay;
        velocities = values.stream().map(value -> new float[value.length]).toList();
    }

    @Override
    public List<float[]> moments() {
        return velocities;
    }

    @Override
    public void step(int done, List<float[]> values, List<float[]> gradients, double rate) {
        for (int i = 0; i < values.size(); i++) {
            float[] value = values.get(i);
            float[] gradient = gradients.get(i);
            float[] velocity = velocities.get(i);
            for (int j = 0; j < value.length; j++) {
                velocity[j] = (float) (momentum * velocity[j] + gradient[j] + decay * value[j]);
                value[j] = (float) (value[j] - rate * velocity[j]);
            }
        }
    }
}
