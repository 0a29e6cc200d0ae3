package org.sentei.kernel;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.sentei.tensor.DType;

/**
 * A convolution of 8-bit integers drawn from a seed: shapes with strides, dilation, groups, paddings that differ and tails of
 * all kinds. In every fourth the scales are powers of two and weights small, so that many results lie between two integers.
 */
public final class RandomConvolution {
    private final long seed;
    private final Window window;
    private final int images;
    private final int groups;
    private final int channels;
    private final int filters;
    private final byte[] x;
    private final int inputZero;
    private final float inputScale;
    private final byte[] weights;
    private final float[] weightScales;
    private final int[] bias;
    private final int outputZero;
    private final float outputScale;

    /** Draws it. */
    public RandomConvolution(long seed) {
        this.seed = seed;
        SplittableRandom random = new SplittableRandom(seed);
        int height = random.nextInt(1, 19);
        int width = random.nextInt(1, 19);
        int kernelHeight = random.nextInt(1, 5);
        int kernelWidth = random.nextInt(3) == 0 ? kernelHeight : 1 + 2 * random.nextInt(2);
        int dilationY = random.nextInt(1, 3);
        int dilationX = random.nextInt(4) == 0 ? 2 : 1;
        int reachY = (kernelHeight - 1) * dilationY;
        int reachX = (kernelWidth - 1) * dilationX;
        window = new Window(
                height,
                width,
                kernelHeight,
                kernelWidth,
                random.nextInt(3) == 0 ? 2 : 1,
                random.nextInt(3) == 0 ? 3 : 1,
                dilationY,
                dilationX,
                random.nextInt(reachY + 1),
                random.nextInt(reachX + 1),
                Math.max(random.nextInt(reachY + 1), reachY + 1 - height),
                Math.max(random.nextInt(reachX + 1), reachX + 1 - width));
        images = random.nextInt(1, 3);
        switch (random.nextInt(4)) {
            case 0 -> {
                groups = random.nextBoolean() ? 4 * random.nextInt(1, 38) : random.nextInt(1, 150);
                channels = groups;
                filters = groups;
            }
            case 1 -> {
                groups = random.nextInt(2, 5);
                channels = groups * (random.nextBoolean() ? 16 * random.nextInt(1, 3) : random.nextInt(1, 20));
                filters = groups * random.nextInt(1, 40);
            }
            default -> {
                groups = 1;
                channels = switch (random.nextInt(3)) {
                    case 0 -> 16 * random.nextInt(1, 9);
                    case 1 -> 4 * random.nextInt(1, 20);
                    default -> random.nextInt(1, 80);
                };
                filters = random.nextInt(1, 140);
            }
        }
        int size = channels / groups * window.taps();
        boolean isTied = seed % 4 == 0;
        x = new byte[Math.toIntExact(images * window.inputPixels() * channels)];
        random.nextBytes(x);
        weights = new byte[filters * size];
        for (int i = 0; i < weights.length; i++) {
            weights[i] = (byte) (isTied ? random.nextInt(-2, 3) : random.nextInt(-127, 128));
        }
        inputZero = random.nextInt(256);
        outputZero = random.nextInt(256);
        inputScale = isTied ? 1 : (float) random.nextDouble(1e-3, 1e-1);
        weightScales = new float[filters];
        bias = new int[filters];
        for (int filter = 0; filter < filters; filter++) {
            weightScales[filter] = isTied ? 1 : (float) random.nextDouble(1e-4, 1e-2);
            bias[filter] = random.nextInt(isTied ? 100 : 200_000) - (isTied ? 50 : 100_000);
        }
        double spread = 74 * Math.sqrt((double) size) * (isTied ? 1.5 : 73 * 5e-3 * inputScale) / 60;
        outputScale = isTied
                ? Math.max(2, Float.intBitsToFloat(Float.floatToIntBits((float) spread) & 0xff80_0000))
                : (float) spread;
    }

    /** Elements of the result. */
    public long outputs() {
        return images * window.outputPixels() * filters;
    }

    /** What a backend makes of it: images * pixels x filters, U8. */
    public byte[] run(Backend backend) {
        return run(backend, DType.U8, false);
    }

    /**
     * The same with another input type, whose values and zero point are 128 less, and otherwise with what ONNX has no operator
     * for: a residual, a clamp, and I8 results.
     */
    public byte[] run(Backend backend, DType inputType, boolean isExtended) {
        int lowest = Levels.lowest(inputType);
        DType outputType = isExtended ? DType.I8 : DType.U8;
        int lowestOutput = Levels.lowest(outputType);
        Int8Filters packed = Int8Filters.pack(
                new Int8Filters.Layout(filters, channels, groups, window.taps()),
                weights,
                weightScales,
                bias,
                new Int8Filters.Scales(inputScale, inputZero + lowest, lowest, outputScale));
        byte[] input = x.clone();
        for (int i = 0; i < input.length; i++) {
            input[i] = (byte) (input[i] + lowest);
        }
        try (Scope scope = new Scope(backend)) {
            View image = scope.matrix(inputType, images * window.inputPixels(), channels);
            View filter = scope.matrix(
                    DType.I8, packed.layout().rows(), packed.layout().cols());
            View offset = scope.matrix(DType.I32, 1, filters);
            View scale = scope.matrix(1, filters);
            View y = scope.matrix(outputType, images * window.outputPixels(), filters);
            backend.copyIn(MemorySegment.ofArray(input), image);
            backend.copyIn(packed.weights(), filter);
            backend.copyIn(packed.bias(), offset);
            backend.copyIn(packed.scale(), scale);
            Conv2dInt8.Residual residual = null;
            Levels levels = Levels.of(outputType, outputZero + lowestOutput);
            if (isExtended) {
                byte[] added = new byte[Math.toIntExact(outputs())];
                new SplittableRandom(seed).nextBytes(added);
                View values = scope.matrix(DType.U8, y.rows(), y.cols());
                backend.copyIn(MemorySegment.ofArray(added), values);
                residual = new Conv2dInt8.Residual(values, 100, seed % 4 == 0 ? 0.5f : 0.3f);
                levels = new Levels(levels.zero(), -100, 110);
            }
            backend.run(new Conv2dInt8(
                    image, inputZero + lowest, filter, offset, scale, residual, y, levels, window, groups));
            byte[] result = new byte[Math.toIntExact(outputs())];
            backend.copyOut(y, MemorySegment.ofArray(result));
            return result;
        }
    }

    /** Where the window lies. */
    public Window window() {
        return window;
    }

    /** Images, channels, filters and groups. */
    public int[] sizes() {
        return new int[] {images, channels, filters, groups};
    }

    /** The images as ONNX has them: images x channels x height x width. */
    public byte[] channelsFirst() {
        return turned(x, window.inputPixels(), channels);
    }

    /** A result of ONNX's layout in ours. */
    public byte[] channelsLast(byte[] y) {
        return turned(y, filters, Math.toIntExact(window.outputPixels()));
    }

    private byte[] turned(byte[] from, long rows, int cols) {
        byte[] to = new byte[from.length];
        int size = Math.toIntExact(rows * cols);
        for (int i = 0; i < from.length; i++) {
            int place = i % size;
            to[i - place + place % cols * (int) rows + place / cols] = from[i];
        }
        return to;
    }

    /** Filters x channels of a group x kernel height x kernel width. */
    public byte[] weights() {
        return weights.clone();
    }

    /** One a filter. */
    public float[] weightScales() {
        return weightScales.clone();
    }

    /** One a filter. */
    public int[] bias() {
        return bias.clone();
    }

    /** Scales of the input and of the output. */
    public float[] scales() {
        return new float[] {inputScale, outputScale};
    }

    /** Zero points of the input and of the output, U8. */
    public int[] zeros() {
        return new int[] {inputZero, outputZero};
    }

    @Override
    public String toString() {
        return "seed " + seed + ": " + window + Arrays.toString(sizes());
    }
}
