package org.sentei.tensor;

import java.util.Arrays;
import java.util.stream.Collectors;
import java.util.stream.LongStream;

/** Dimensions of a tensor, outermost first. A shape without dimensions is a scalar of one element. */
public final class Shape {
    private final long[] dimensions;
    private final long elements;

    private Shape(long[] dimensions) {
        long product = 1;
        boolean empty = false;
        for (long dimension : dimensions) {
            if (dimension < 0) {
                throw new IllegalArgumentException(
                        "shape " + Arrays.toString(dimensions) + " has a negative dimension");
            }
            empty |= dimension == 0;
        }
        if (!empty) {
            for (long dimension : dimensions) {
                product = Math.multiplyExact(product, dimension);
            }
        }
        this.dimensions = dimensions;
        this.elements = empty ? 0 : product;
    }

    /**
     * The shape with these dimensions.
     *
     * @throws IllegalArgumentException for a negative dimension
     * @throws ArithmeticException when the number of elements exceeds a {@code long}
     */
    public static Shape of(long... dimensions) {
        return new Shape(dimensions.clone());
    }

    /** How many dimensions. */
    public int rank() {
        return dimensions.length;
    }

    /** Size along an axis, from 0. */
    public long dimension(int axis) {
        return dimensions[axis];
    }

    /** Product of all dimensions. */
    public long elements() {
        return elements;
    }

    /** All dimensions, a copy. */
    public long[] toArray() {
        return dimensions.clone();
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Shape shape && Arrays.equals(dimensions, shape.dimensions);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(dimensions);
    }

    /** For example {@code 4096x11008}; {@code scalar} without dimensions. */
    @Override
    public String toString() {
        return dimensions.length == 0
                ? "scalar"
                : LongStream.of(dimensions).mapToObj(Long::toString).collect(Collectors.joining("x"));
    }
}
