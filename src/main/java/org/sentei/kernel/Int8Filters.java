package org.sentei.kernel;

import java.lang.foreign.MemorySegment;

/**
 * What a {@link Conv2dInt8} multiplies with, computed once: weights in the order in which kernels read them, the bias with the
 * zero point of the input folded in, and the scale of every filter.
 *
 * @param weights I8, {@code layout.rows()} x {@code layout.cols()}, packed
 * @param bias I32, one a filter
 * @param scale F32, one a filter
 */
public record Int8Filters(Layout layout, MemorySegment weights, MemorySegment bias, MemorySegment scale) {
    /** Filters of a block. */
    public static final int BLOCK = 16;
    /** Products that are summed at a time: neighbours in memory. */
    public static final int DEPTH = 4;

    /**
     * Where a weight lies: a row of the matrix is a block of {@value #BLOCK} filters of one group, and along it come steps of
     * {@value #BLOCK} times {@value #DEPTH} weights, {@value #DEPTH} neighbours of the first filter, then of the second, and so
     * on. Neighbours are channels, and steps go through the channels of one tap after the other; in a depthwise convolution
     * neighbours are taps and blocks go over the groups. What fills the last block or step up is 0.
     *
     * @param channels of the input, those of all groups
     * @param taps pixels of a window
     */
    public record Layout(int filters, int channels, int groups, int taps) {
        /** Checks the ranges; an {@link IllegalArgumentException} names what does not fit. */
        public Layout {
            Check.that(
                    groups >= 1 && filters >= 1 && channels >= 1 && filters % groups == 0 && channels % groups == 0,
                    "conv2d_int8",
                    groups + " groups cannot share " + channels + " channels and " + filters + " filters");
            Check.that(taps >= 1, "conv2d_int8", "a window of " + taps + " pixels");
            long steps = Math.ceilDiv((long) channels / groups, DEPTH) * (long) taps;
            Check.that(
                    steps * BLOCK * DEPTH < Integer.MAX_VALUE,
                    "conv2d_int8",
                    "a filter of " + taps + " x " + channels / groups + " weights is too large");
        }

        /** Whether every group has one channel and one filter. */
        public boolean depthwise() {
            return channels == groups && filters == groups;
        }

        /** Blocks of a group, or of all groups of a depthwise convolution. */
        public int blocks() {
            return Math.ceilDiv(depthwise() ? filters : filters / groups, BLOCK);
        }

        /** Steps of a block. */
        public int steps() {
            return depthwise() ? Math.ceilDiv(taps, DEPTH) : taps * Math.ceilDiv(channels / groups, DEPTH);
        }

        /** Rows of the matrix. */
        public long rows() {
            return depthwise() ? blocks() : (long) groups * blocks();
        }

        /** Columns of the matrix. */
        public long cols() {
            return (long) steps() * BLOCK * DEPTH;
        }

        /** Row of a filter's weights. */
        public long row(int filter) {
            int ofGroup = filters / groups;
            return depthwise() ? filter / BLOCK : (long) filter / ofGroup * blocks() + filter % ofGroup / BLOCK;
        }

        /**
         * Column of a weight.
         *
         * @param channel of the group
         */
        public long col(int filter, int tap, int channel) {
            int lane = (depthwise() ? filter : filter % (filters / groups)) % BLOCK;
            int neighbour = depthwise() ? tap : channel;
            int step = neighbour / DEPTH + (depthwise() ? 0 : tap * Math.ceilDiv(channels / groups, DEPTH));
            return ((long) step * BLOCK + lane) * DEPTH + neighbour % DEPTH;
        }
    }

    /**
     * The scales between which a convolution computes: real values are {@code scale * (integer - zero point)}; that of weights
     * is one a filter, with zero point 0.
     *
     * @param lowest {@link Levels#lowest} of the input's type
     */
    public record Scales(float input, int inputZero, int lowest, float output) {}

    /**
     * Packs filters; their scale is {@code f32(f32(input * weight scale) / output)}.
     *
     * @param weights in the order of ONNX: filters x channels of a group x kernel height x kernel width
     * @param weightScale one a filter
     * @param bias one a filter, in units of input scale * weight scale, or null for zeros
     * @throws IllegalArgumentException when an array has another length, when a scale is not a normal positive number, and when
     *     a sum could leave 32 bits for some input, with the number of the filter
     */
    public static Int8Filters pack(Layout layout, byte[] weights, float[] weightScale, int[] bias, Scales scales) {
        int size = Math.multiplyExact(layout.taps, layout.channels / layout.groups);
        Check.that(
                weights.length == (long) layout.filters * size
                        && weightScale.length == layout.filters
                        && (bias == null || bias.length == layout.filters),
                "conv2d_int8",
                layout.filters + " filters of " + size + " weights cannot be made of " + weights.length + " weights, "
                        + weightScale.length + " scales" + (bias == null ? "" : " and " + bias.length + " biases"));
        byte[] packed = new byte[Math.toIntExact(Math.multiplyExact(layout.rows(), layout.cols()))];
        int[] folded = new int[layout.filters];
        float[] scale = new float[layout.filters];
        for (int filter = 0; filter < layout.filters; filter++) {
            long start = layout.row(filter) * layout.cols();
            long sum = 0;
            long magnitude = 0;
            for (int i = 0; i < size; i++) {
                byte weight = weights[filter * size + i];
                packed[(int) (start + layout.col(filter, i % layout.taps, i / layout.taps))] = weight;
                sum += weight;
                magnitude += Math.abs(weight);
            }
            long moved = (bias == null ? 0 : bias[filter]) - (scales.inputZero - scales.lowest) * sum;
            long most = Math.abs(moved) + 255 * magnitude;
            Check.that(
                    most <= Integer.MAX_VALUE,
                    "conv2d_int8",
                    "sums of filter " + filter + " can reach " + most
                            + ", more than 32 bits hold: its bias is too large for"
                            + " its scale, or it has too many weights (" + size + ")");
            folded[filter] = (int) moved;
            scale[filter] = scales.input * weightScale[filter] / scales.output;
            Levels.factor("conv2d_int8", "the scale of filter " + filter, scale[filter]);
        }
        return new Int8Filters(
                layout, MemorySegment.ofArray(packed), MemorySegment.ofArray(folded), MemorySegment.ofArray(scale));
    }
}
