package org.sentei.engine;

import org.sentei.engine.recipe.RecipeException;

/**
 * A share of the calibration data.
 *
 * @param index counted from 1
 * @param count of how many
 */
public record Shard(int index, int count) {
    /** All of it. */
    public static final Shard WHOLE = new Shard(1, 1);

    /** Refuses other than {@code 1 <= index <= count} with a {@link RecipeException}. */
    public Shard {
        if (index < 1 || count < index) {
            throw new RecipeException(
                    "shard " + index + "/" + count + ": shards are counted from 1, for example 1/4 to 4/4");
        }
    }

    /** The first of {@code size} things that is in the shard. */
    int begin(int size) {
        return Math.toIntExact((long) size * (index - 1) / count);
    }

    /** The first of {@code size} things behind those in the shard. */
    int end(int size) {
        return Math.toIntExact((long) size * index / count);
    }

    @Override
    public String toString() {
        return index + "/" + count;
    }
}
