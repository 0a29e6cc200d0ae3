package org.sentei.kernel;

import java.util.ArrayList;
import java.util.List;
import org.sentei.tensor.DType;

/**
 * Convolution of 8-bit images with 8-bit filters, exact in 32-bit integers and rounded once to 8 bits:
 *
 * <pre>
 * acc(p, k) = sum over taps t and channels c of u(p, t, c) * w(k, t, c) + bias(k)
 * y(p, k)   = clamp(rint(f32(acc) * scale(k) [+ f32(residual - residual zero) * residual scale]) + zero, low, high)
 * </pre>
 *
 * <p>u is x counted from the lowest value of its type, x or x + 128, and the zero point {@code inputZero} in the padding. Zero
 * points of x are in the bias already ({@link Int8Filters}), so an I8 image takes the same way as a U8 one. Each fp32
 * operation is rounded by itself, rint takes halves to even, and all backends give the same bits: those of ONNX Runtime's
 * QLinearConv with U8 images on processors with VNNI. A residual is added before rounding: one rounding less than QLinearConv
 * and QLinearAdd have. Sums that do not fit 32 bits wrap; {@link Int8Filters#pack} refuses filters that could make one.
 *
 * <p>Images are NHWC, see {@link Window}. A fully connected layer is a window of 1 x 1 over images of one pixel; an average
 * over windows without padding is a depthwise convolution with weights of 1.
 *
 * @param x U8 or I8, images * height * width x channels
 * @param weights I8, as {@link Int8Filters.Layout} places them
 * @param bias I32 1 x filters
 * @param scale F32 1 x filters, normal and positive: input scale * weight scale / output scale
 * @param residual added to every element of y, or null
 * @param y U8 or I8, images * output height * output width x filters; may be the residual itself
 * @param groups parts of the channels that are convolved apart, each with as many filters; a divisor of both. With one
 *     channel and one filter a group the convolution is depthwise
 */
public record Conv2dInt8(
        View x,
        int inputZero,
        View weights,
        View bias,
        View scale,
        Residual residual,
        View y,
        Levels levels,
        Window window,
        int groups)
        implements Op {
    /**
     * What is added before rounding.
     *
     * @param values U8 or I8 of the shape of y
     * @param scale its scale / output scale
     */
    public record Residual(View values, int zero, float scale) {}

    /** Checks types, shapes and ranges; an {@link IllegalArgumentException} names what does not fit. */
    public Conv2dInt8 {
        Levels.bytes("conv2d_int8", "x", x, inputZero);
        levels.check("conv2d_int8", y);
        window.check("conv2d_int8", x, y);
        Int8Filters.Layout layout =
                new Int8Filters.Layout(Math.toIntExact(y.cols()), Math.toIntExact(x.cols()), groups, window.taps());
        Check.shape("conv2d_int8", "weights", weights, DType.I8, layout.rows(), layout.cols());
        Check.shape("conv2d_int8", "bias", bias, DType.I32, 1, y.cols());
        Check.shape("conv2d_int8", "scale", scale, DType.F32, 1, y.cols());
        Check.apart("conv2d_int8", y, x, weights, bias, scale);
        if (residual != null) {
            View values = residual.values();
            Levels.bytes("conv2d_int8", "the residual", values, residual.zero());
            Check.shape("conv2d_int8", "the residual", values, values.dtype(), y.rows(), y.cols());
            Levels.factor("conv2d_int8", "the scale of the residual", residual.scale());
            Check.that(
                    !y.overlaps(values) || (y.offset() == values.offset() && y.stride() == values.stride()),
                    "conv2d_int8",
                    "the output overlaps the residual without being it");
        }
    }

    /** Where the weights lie. */
    public Int8Filters.Layout layout() {
        return new Int8Filters.Layout((int) y.cols(), (int) x.cols(), groups, window.taps());
    }

    @Override
    public List<View> reads() {
        List<View> views = new ArrayList<>(List.of(x, weights, bias, scale));
        if (residual != null) {
            views.add(residual.values());
        }
        return views;
    }

    @Override
    public List<View> writes() {
        return List.of(y);
    }

    @Override
    public long operations() {
        return 2 * y.elements() * window.taps() * (x.cols() / groups);
    }
}
