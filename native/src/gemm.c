/* Adds a bias to every row of a product; the product itself is OpenBLAS's. One rounding an element. */
#include "kernel.h"

int KERNEL(gemm_bias_f32)(
    float *c, int64_t c_stride, const float *bias, int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        float *restrict row = c + r * c_stride;
        for (int64_t j = 0; j < cols; j++) {
            row[j] += bias[j];
        }
    }
    return SENTEI_OK;
}
