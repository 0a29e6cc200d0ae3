package org.sentei.method.quantize;

import org.sentei.tensor.Shape;

/**
 * Which channel an element belongs to.
 *
 * @param count of the channels
 * @param area elements between two channels: 1 where the last axis counts them
 */
record Channels(int count, int area) {
    /** @param image whether axis 1 counts channels; else the last does */
    static Channels of(Shape shape, boolean image) {
        if (shape.rank() == 0) {
            return new Channels(1, 1);
        }
        int count = Math.toIntExact(shape.dimension(image ? 1 : shape.rank() - 1));
        long area = 1;
        for (int axis = 2; image && axis < shape.rank(); axis++) {
            area *= shape.dimension(axis);
        }
        return new Channels(count, Math.toIntExact(area));
    }

    int channel(int element) {
        return element / area % count;
    }
}
