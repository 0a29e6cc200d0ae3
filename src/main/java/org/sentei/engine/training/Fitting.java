package org.sentei.engine.training;

import java.util.List;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.engine.recipe.Schedule;

/**
 * How the loss of a network on images is lowered.
 *
 * @param epochs times that all training images are seen
 * @param batch images of a step; those that fill none at the end of an epoch are left out
 * @param learningRate at the start; the schedule multiplies it
 * @param momentum of sgd
 * @param decay of sgd: the loss's L2 penalty
 * @param shift pixels that images are moved by at most
 * @param flip whether images are mirrored left to right
 */
public record Fitting(
        int epochs,
        int batch,
        Method optimizer,
        double learningRate,
        double momentum,
        double decay,
        Schedule schedule,
        int shift,
        boolean flip) {
    /** What moves the weights. */
    public enum Method {
        /** Gradient descent with momentum and weight decay. */
        SGD,
        /** 1412.6980, without decay. */
        ADAM
    }

    /** A {@link RecipeException} names what is out of range. */
    public Fitting {
        range("epochs", epochs, 1, 10_000);
        range("batch", batch, 2, 1 << 16);
        if (!(learningRate > 0 && learningRate < Double.POSITIVE_INFINITY)) {
            throw new RecipeException("learning_rate must be above 0, not " + learningRate);
        }
        range("momentum", momentum, 0, Math.nextDown(1.0));
        range("decay", decay, 0, 1);
        range("shift", shift, 0, 64);
        if (optimizer == Method.ADAM && (momentum != 0 || decay != 0)) {
            throw new RecipeException("adam takes neither momentum nor decay; set both to 0, or optimizer to sgd");
        }
    }

    private static void range(String key, double value, double least, double most) {
        if (!(value >= least && value <= most)) {
            throw new RecipeException(
                    key + " goes from " + plain(least) + " to " + plain(most) + ", not " + plain(value));
        }
    }

    private static String plain(double value) {
        return value == Math.rint(value) && Math.abs(value) < 1e9
                ? Long.toString((long) value)
                : Double.toString(value);
    }

    Optimizer optimizer(List<float[]> values) {
        return switch (optimizer) {
            case SGD -> new Sgd(values, momentum, decay);
            case ADAM -> new Adam(values);
        };
    }

    Augmentation augmentation() {
        return new Augmentation(shift, flip);
    }

    /** Steps of all epochs over so many images. */
    int steps(int images) {
        return Math.multiplyExact(epochs, perEpoch(images));
    }

    /** Steps of one epoch. */
    int perEpoch(int images) {
        return Math.max(1, images / batch);
    }
}
