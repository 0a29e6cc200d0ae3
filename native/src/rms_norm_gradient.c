/* The gradient of an RMS norm by its input, row by row: s (gain d - s^2 mean(gain d x) x) with s = 1 / sqrt(mean(x^2) + epsilon);
 * the gradient may be d.
 *
 * All of it in fp64, rounded to fp32 once: the two summands cancel where a row has few columns. */
#include "kernel.h"

#include <math.h>

int KERNEL(rms_norm_gradient_f32)(
    const float *x, int64_t x_stride, const float *gain, const float *slope, int64_t slope_stride, float *gradient,
    int64_t gradient_stride, float epsilon, int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *from = x + r * x_stride, *d = slope + r * slope_stride;
        float *to = gradient + r * gradient_stride;
        vd squares = {0}, products = {0};
        int64_t c = 0;
        for (; c + HALF <= cols; c += HALF) {
            const vd v = load_wide(from + c);
            squares += v * v;
            products += load_wide(gain + c) * load_wide(d + c) * v;
        }
        double square = sum_double(squares), product = sum_double(products);
        for (; c < cols; c++) {
            square += (double)from[c] * from[c];
            product += (double)gain[c] * d[c] * from[c];
        }
        const double scale = 1 / sqrt(square / (double)cols + (double)epsilon);
        const double pull = product * scale * scale / (double)cols;

        for (c = 0; c + HALF <= cols; c += HALF) {
            store_narrow(to + c, scale * (load_wide(gain + c) * load_wide(d + c) - pull * load_wide(from + c)));
        }
        for (; c < cols; c++) {
            to[c] = (float)(scale * ((double)gain[c] * d[c] - pull * from[c]));
        }
    }
    return SENTEI_OK;
}
