package org.sentei.engine.recipe;

import java.util.List;
import java.util.Optional;

/**
 * How an image becomes the input of a model: scaled to a size, {@code (byte scale - mean) / deviation} channel by channel.
 *
 * @param height rows; the model's own when empty
 * @param width columns; the model's own when empty
 * @param order channels of the input
 * @param fit what becomes of another ratio of width and height
 * @param scale of a byte
 * @param mean one for all channels, or one for each in their order
 * @param deviation likewise
 */
public record Images(
        Optional<Integer> height,
        Optional<Integer> width,
        Order order,
        Fit fit,
        double scale,
        List<Double> mean,
        List<Double> deviation) {
    /** Copies the lists; a {@link RecipeException} names what is out of range. */
    public Images {
        mean = List.copyOf(mean);
        deviation = List.copyOf(deviation);
        int channels = order == Order.GRAY ? 1 : 3;
        for (List<Double> numbers : List.of(mean, deviation)) {
            if (numbers.size() != 1 && numbers.size() != channels) {
                throw new RecipeException("images: " + numbers.size() + " numbers of mean or deviation for " + channels
                        + " channels; give one for all or one for each");
            }
        }
        if (deviation.stream().anyMatch(number -> !(number > 0)) || !(scale > 0)) {
            throw new RecipeException("images: scale and deviation must be positive, for example scale: 0.00392157");
        }
    }

    /** Channels of the input. */
    public enum Order {
        GRAY,
        RGB,
        BGR
    }

    /** What becomes of another ratio of width and height. */
    public enum Fit {
        /** It changes. */
        STRETCH,
        /** The height fits and the right side is filled with zeros; what is too wide for that is squeezed. */
        PAD
    }

    /** What a recipe without the key gets: the model's size, colors from 0 to 1. */
    public static final Images DEFAULT = new Images(
            Optional.empty(), Optional.empty(), Order.RGB, Fit.STRETCH, 1.0 / 255, List.of(0.0), List.of(1.0));
}
