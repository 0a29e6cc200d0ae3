package org.sentei.method.quantize;

/**
 * {@code q = clamp(rint(x / scale) + zero, low, high)}, {@code x' = scale (q - zero)}; rint rounds half to even
 * (arXiv 1712.05877; ONNX QuantizeLinear).
 *
 * @param zero the number that stands for 0
 * @param low smallest number; the type is signed where it is negative
 * @param high largest number
 */
record Quantizer(float scale, int zero, int low, int high) {
    Quantizer {
        if (!(scale >= Float.MIN_NORMAL && scale < Float.POSITIVE_INFINITY) || zero < low || zero > high) {
            throw new IllegalArgumentException("scale " + scale + ", zero " + zero + " of " + low + ".." + high);
        }
    }

    /** Unsigned bytes over a range, which is widened to hold 0. */
    static Quantizer affine(double min, double max) {
        double from = Math.min(min, 0);
        double to = Math.max(max, 0);
        float scale = usable((to - from) / 255);
        return new Quantizer(scale, (int) Math.clamp(Math.rint(-from / scale), 0, 255), 0, 255);
    }

    /** Signed bytes around 0, the same either way. */
    static Quantizer symmetric(double min, double max) {
        return new Quantizer(usable(Math.max(-min, max) / 127), 0, -127, 127);
    }

    /** What is always zero has any scale; a smaller one than this has no inverse in fp32. */
    private static float usable(double scale) {
        return scale == 0 ? 1 : (float) scale;
    }

    boolean signed() {
        return low < 0;
    }

    int quantize(float x) {
        return (int) Math.clamp(Math.rint(x / scale) + zero, low, high);
    }

    float dequantize(int q) {
        return scale * (q - zero);
    }

    /** What x comes out as. */
    double round(double x) {
        return (double) scale * (Math.clamp(Math.rint(x / scale) + zero, low, high) - zero);
    }
}
