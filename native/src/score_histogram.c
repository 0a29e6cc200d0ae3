/* Adds the score keys of a range of rows to a histogram of int64 bins: the upper 16 bits of each 31-bit key
 * (prefix < 0), or the lower 15 bits of the keys whose upper half is `prefix`. Exact. */
#include "score_key.h"

enum { LOW_BITS = 15, LOW_MASK = (1 << LOW_BITS) - 1 };

int KERNEL(score_histogram_f32)(
    const float *weights, int64_t weights_stride, const float *scale, int32_t prefix, int64_t *histogram, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = weights + r * weights_stride;
        for (int64_t c = 0; c < cols; c += LANES) {
            int valid = cols - c < LANES ? (int)(cols - c) : LANES;
            vi keys = score_keys_at(row, scale, c, cols);
            if (prefix < 0) {
                vi bins = keys >> LOW_BITS;
                for (int lane = 0; lane < valid; lane++) {
                    histogram[bins[lane]]++;
                }
            } else {
                int32_t matching[LANES];
                uint32_t bits = bits_equal(keys >> LOW_BITS, splat_int(prefix)) & (~0u >> (32 - valid));
                if (bits != 0) {
                    int64_t count = compress(matching, keys & LOW_MASK, bits);
                    for (int64_t i = 0; i < count; i++) {
                        histogram[matching[i]]++;
                    }
                }
            }
        }
    }
    return SENTEI_OK;
}
