package org.sentei.kernel;

/**
 * Where the windows of a convolution or a pooling lie over images.
 *
 * <p>Images are views of rank 2 with the channels innermost (NHWC): the pixel (row {@code i}, column {@code j}) of image
 * {@code n} is row {@code (n * height + i) * width + j} of the view, its columns are the channels. Tap (r, s) of the window of
 * the output pixel (p, q) is the pixel ({@code p * strideY - top + r * dilationY}, {@code q * strideX - left + s *
 * dilationX}); outside of the image it is padding.
 *
 * @param top rows of padding above the image, and so on; what the last stride does not reach needs none
 */
public record Window(
        int height,
        int width,
        int kernelHeight,
        int kernelWidth,
        int strideY,
        int strideX,
        int dilationY,
        int dilationX,
        int top,
        int left,
        int bottom,
        int right) {
    /** What an edge, with its padding, may measure, so that places in it can be computed in 32 bits. */
    private static final int LARGEST = 1 << 30;

    /** Checks the ranges; an {@link IllegalArgumentException} names what does not fit. */
    public Window {
        check("height", height, kernelHeight, strideY, dilationY, top, bottom);
        check("width", width, kernelWidth, strideX, dilationX, left, right);
    }

    /** Equal sides: a square kernel, one stride, the same padding everywhere and no dilation. */
    public static Window square(int height, int width, int kernel, int stride, int padding) {
        return new Window(height, width, kernel, kernel, stride, stride, 1, 1, padding, padding, padding, padding);
    }

    private static void check(String edge, int size, int kernel, int stride, int dilation, int before, int after) {
        Check.that(
                size >= 1 && kernel >= 1 && stride >= 1 && dilation >= 1 && before >= 0 && after >= 0,
                "window",
                "a " + edge + " of " + size + " with a kernel of " + kernel + ", stride " + stride + ", dilation "
                        + dilation + " and padding " + before + " and " + after + " has a size that is not positive");
        long padded = (long) size + before + after;
        long reach = (kernel - 1L) * dilation + 1;
        Check.that(
                stride <= LARGEST && padded <= LARGEST && reach <= padded,
                "window",
                "a kernel that reaches over " + reach + " does not fit the padded " + edge + " of " + padded);
    }

    /** Rows of an output image. */
    public int outputHeight() {
        return (height + top + bottom - (kernelHeight - 1) * dilationY - 1) / strideY + 1;
    }

    /** Columns of an output image. */
    public int outputWidth() {
        return (width + left + right - (kernelWidth - 1) * dilationX - 1) / strideX + 1;
    }

    /** Pixels of a window. */
    public int taps() {
        return Math.multiplyExact(kernelHeight, kernelWidth);
    }

    /** Pixels of an input image. */
    public long inputPixels() {
        return (long) height * width;
    }

    /** Pixels of an output image. */
    public long outputPixels() {
        return (long) outputHeight() * outputWidth();
    }

    /** Checks that rows are whole images, and those of the output as many. */
    void check(String op, View x, View y) {
        Check.that(
                x.rows() % inputPixels() == 0,
                op,
                "x must have whole images of " + height + " x " + width + " rows, not " + x.rows());
        long rows = x.rows() / inputPixels() * outputPixels();
        Check.that(
                y.rows() == rows,
                op,
                "y must have " + rows + " rows, images of " + outputHeight() + " x " + outputWidth() + ", not "
                        + y.rows());
    }
}
