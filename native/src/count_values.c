/* Counts zeros of either sign, NaNs and infinities; exact. */
#include "kernel.h"

int KERNEL(count_values_f32)(
    const float *x, int64_t x_stride, int64_t cols, int64_t row_begin, int64_t row_end, int64_t *counts) {
    const vi infinity = splat_int(0x7f800000);
    int64_t zeros = 0, nans = 0, infinities = 0;
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = x + r * x_stride;
        for (int64_t c = 0; c < cols; c += LANES) {
            int64_t valid = cols - c < LANES ? cols - c : LANES;
            vi magnitude = (vi)(valid == LANES ? load(row + c) : load_first(row + c, valid)) & 0x7fffffff;
            /* Lanes beyond the last column hold zeros that do not count. */
            zeros += __builtin_popcount(bits_equal(magnitude, (vi){0})) - (LANES - valid);
            nans += __builtin_popcount(bits_less(infinity, magnitude));
            infinities += __builtin_popcount(bits_equal(magnitude, infinity));
        }
    }
    counts[0] += zeros;
    counts[1] += nans;
    counts[2] += infinities;
    return SENTEI_OK;
}
