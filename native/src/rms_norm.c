/* y = x / sqrt(mean(x^2) + epsilon) * gain, row by row; y may be x.
 *
 * Squares and their sum in fp64, the result rounded to fp32 once: error 1/2 ulp plus cols * 2^-53. */
#include "kernel.h"

#include <math.h>

int KERNEL(rms_norm_f32)(
    const float *x, int64_t x_stride, const float *gain, float *y, int64_t y_stride, float epsilon, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *from = x + r * x_stride;
        float *to = y + r * y_stride;
        vd squares = {0};
        int64_t c = 0;
        for (; c + HALF <= cols; c += HALF) {
            vd v = load_wide(from + c);
            squares += v * v;
        }
        double square = sum_double(squares);
        for (; c < cols; c++) {
            square += (double)from[c] * from[c];
        }
        const double inverse = 1 / sqrt(square / (double)cols + (double)epsilon);

        for (c = 0; c + HALF <= cols; c += HALF) {
            store_narrow(to + c, load_wide(from + c) * inverse * load_wide(gain + c));
        }
        for (; c < cols; c++) {
            to[c] = (float)(from[c] * inverse * gain[c]);
        }
    }
    return SENTEI_OK;
}
