/* y = (x - mean) / sqrt(var + epsilon) * gain + bias, row by row, population variance; y may be x.
 *
 * Two passes over the row in fp64 (mean, then squared deviations), the result rounded to fp32 once: error 1/2 ulp plus
 * cols * 2^-53. */
#include "kernel.h"

#include <math.h>

int KERNEL(layer_norm_f32)(
    const float *x, int64_t x_stride, const float *gain, const float *bias, float *y, int64_t y_stride, float epsilon,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *from = x + r * x_stride;
        float *to = y + r * y_stride;
        vd sums = {0};
        int64_t c = 0;
        for (; c + HALF <= cols; c += HALF) {
            sums += load_wide(from + c);
        }
        double total = sum_double(sums);
        for (; c < cols; c++) {
            total += from[c];
        }
        const double mean = total / (double)cols;

        vd squares = {0};
        for (c = 0; c + HALF <= cols; c += HALF) {
            vd deviation = load_wide(from + c) - mean;
            squares += deviation * deviation;
        }
        double square = sum_double(squares);
        for (; c < cols; c++) {
            square += (from[c] - mean) * (from[c] - mean);
        }
        const double inverse = 1 / sqrt(square / (double)cols + (double)epsilon);

        for (c = 0; c + HALF <= cols; c += HALF) {
            vd normal = (load_wide(from + c) - mean) * inverse;
            store_narrow(to + c, normal * load_wide(gain + c) + load_wide(bias + c));
        }
        for (; c < cols; c++) {
            to[c] = (float)((from[c] - mean) * inverse * gain[c] + bias[c]);
        }
    }
    return SENTEI_OK;
}
