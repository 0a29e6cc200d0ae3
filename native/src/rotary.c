/* Rotary position embedding (RoFormer, 2104.09864), rotate-half layout, in place: within each head of 2 * half columns
 *
 *   x_j        <- x_j cos - x_(j+half) sin
 *   x_(j+half) <- x_(j+half) cos + x_j sin
 *
 * with cos and sin from row (i % length) of the tables, half columns each. Error: 2 ulp of |x_j| + |x_(j+half)|. */
#include "kernel.h"

int KERNEL(rotary_f32)(
    float *x, int64_t x_stride, const float *cosine, int64_t cosine_stride, const float *sine, int64_t sine_stride,
    int64_t length, int64_t heads, int64_t half, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *cos_row = cosine + r % length * cosine_stride;
        const float *sin_row = sine + r % length * sine_stride;
        for (int64_t h = 0; h < heads; h++) {
            float *low = x + r * x_stride + h * 2 * half;
            float *high = low + half;
            int64_t j = 0;
            for (; j + LANES <= half; j += LANES) {
                vf a = load(low + j), b = load(high + j), c = load(cos_row + j), s = load(sin_row + j);
                store(low + j, a * c - b * s);
                store(high + j, b * c + a * s);
            }
            for (; j < half; j++) {
                float a = low[j], b = high[j];
                low[j] = a * cos_row[j] - b * sin_row[j];
                high[j] = b * cos_row[j] + a * sin_row[j];
            }
        }
    }
    return SENTEI_OK;
}
