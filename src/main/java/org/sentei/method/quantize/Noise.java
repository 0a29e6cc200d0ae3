package org.sentei.method.quantize;

import java.util.Arrays;
import org.sentei.tensor.Shape;

/** What rounding does to some values, of all samples together. */
final class Noise {
    /** What reports print for no noise at all, and the other way round. */
    private static final double MOST = 200;

    private double signal;
    private double noise;
    /** Sums of the errors of every channel. */
    private double[] sums = {};

    private long counted;

    /** @param shape of both; axis 1 of images counts channels, else the last does */
    void add(float[] dense, float[] rounded, Shape shape) {
        Channels channels = Channels.of(shape, shape.rank() == 4);
        sums = sums.length < channels.count() ? Arrays.copyOf(sums, channels.count()) : sums;
        for (int i = 0; i < dense.length; i++) {
            double off = (double) dense[i] - rounded[i];
            signal += (double) dense[i] * dense[i];
            noise += off * off;
            sums[channels.channel(i)] += off;
        }
        counted += dense.length / channels.count();
    }

    double decibels() {
        return decibels(noise);
    }

    /** The same without what all samples have in common, which a correction of biases takes away. */
    double decibelsAround() {
        double common = Arrays.stream(sums).map(sum -> sum * sum / counted).sum();
        return decibels(Math.max(0, noise - common));
    }

    private double decibels(double left) {
        if (!(left > 0) || !(signal > 0)) {
            return left == 0 ? MOST : -MOST;
        }
        return Math.clamp(10 * Math.log10(signal / left), -MOST, MOST);
    }
}
