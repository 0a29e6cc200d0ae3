/* y = the 8-bit integer nearest to x / scale + zero; exact. */
#include "int8.h"

int KERNEL(quantize_f32)(
    const float *x, int64_t x_stride, float scale, uint8_t *y, int64_t y_stride, int32_t zero, int32_t low,
    int32_t high, int64_t cols, int64_t row_begin, int64_t row_end) {
    const struct levels levels = levels_of(zero, low, high);
    for (int64_t r = row_begin; r < row_end; r++) {
        for (int64_t c = 0; c < cols; c++) {
            y[r * y_stride + c] = quantized(x[r * x_stride + c] / scale, levels);
        }
    }
    return SENTEI_OK;
}
