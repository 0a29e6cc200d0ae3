/* y = the sum or the product of two 8-bit tensors, rounded once to 8 bits; exact. */
#include "int8.h"

int KERNEL(combine_int8_u8)(
    int32_t product, const uint8_t *a, int64_t a_stride, int32_t a_lowest, int32_t a_zero, float a_scale,
    const uint8_t *b, int64_t b_stride, int32_t b_lowest, int32_t b_zero, float b_scale, int64_t shared, uint8_t *y,
    int64_t y_stride, int32_t zero, int32_t low, int32_t high, int64_t cols, int64_t row_begin, int64_t row_end) {
    const struct levels levels = levels_of(zero, low, high);
    for (int64_t r = row_begin; r < row_end; r++) {
        const uint8_t *left = a + r * a_stride, *right = b + r / shared * b_stride;
        uint8_t *target = y + r * y_stride;
        if (product) {
            for (int64_t c = 0; c < cols; c++) {
                const int32_t of_a = (uint8_t)(left[c] - a_lowest) - a_zero;
                const int32_t of_b = (uint8_t)(right[c] - b_lowest) - b_zero;
                target[c] = quantized((float)(of_a * of_b) * a_scale, levels);
            }
        } else {
            for (int64_t c = 0; c < cols; c++) {
                const int32_t of_a = (uint8_t)(left[c] - a_lowest) - a_zero;
                const int32_t of_b = (uint8_t)(right[c] - b_lowest) - b_zero;
                target[c] = quantized((float)of_a * a_scale + (float)of_b * b_scale, levels);
            }
        }
    }
    return SENTEI_OK;
}
