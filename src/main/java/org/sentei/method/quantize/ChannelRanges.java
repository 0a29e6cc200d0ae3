package org.sentei.method.quantize;

import java.util.Arrays;
import org.sentei.tensor.Shape;

/** What was seen of every channel of a value: extremes, 0 among them, and mean squares. */
final class ChannelRanges {
    private final boolean image;
    private double[] low = {};
    private double[] high = {};
    private double[] squares = {};
    private long counted;

    /** @param image whether axis 1 counts channels; else the last does */
    ChannelRanges(boolean image) {
        this.image = image;
    }

    void add(float[] values, Shape shape) {
        Channels channels = Channels.of(shape, image);
        int count = channels.count();
        if (low.length == 0) {
            low = new double[count];
            high = new double[count];
            squares = new double[count];
        }
        for (int i = 0; i < values.length; i++) {
            int channel = channels.channel(i);
            low[channel] = Math.min(low[channel], values[i]);
            high[channel] = Math.max(high[channel], values[i]);
            squares[channel] += (double) values[i] * values[i];
        }
        counted += values.length / count;
    }

    double low(int channel) {
        return low[channel];
    }

    double high(int channel) {
        return high[channel];
    }

    /** Largest magnitude. */
    double range(int channel) {
        return Math.max(-low[channel], high[channel]);
    }

    /** Of the channel that has most. */
    double largest() {
        return Math.max(
                -Arrays.stream(low).min().orElse(0), Arrays.stream(high).max().orElse(0));
    }

    double meanSquare(int channel) {
        return squares[channel] / counted;
    }
}
