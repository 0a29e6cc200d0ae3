/* -w where the mask prunes, +0 where it keeps; exact. Bit c % 32 of mask word c / 32 marks column c. */
#include "kernel.h"

int KERNEL(mask_difference_f32)(
    const float *weights, int64_t weights_stride, const uint32_t *mask, int64_t mask_stride, float *difference,
    int64_t difference_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *w = weights + r * weights_stride;
        float *target = difference + r * difference_stride;
        const uint32_t *words = mask + r * mask_stride;
        for (int64_t c = 0; c < cols; c++) {
            target[c] = words[c / 32] >> (c % 32) & 1 ? -w[c] : 0;
        }
    }
    return SENTEI_OK;
}
