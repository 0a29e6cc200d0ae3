/* Into and out of the reverse order in which LAPACK factors and inverts: element (i, j) of the one is (n-1-i, n-1-j) of the
 * other, which turns the upper triangle into the lower. Exact but for the addition of the shift and the rounding to fp32. */
#include "kernel.h"

int KERNEL(inverse_cholesky_load_f64)(
    const double *gram, int64_t gram_stride, double shift, double *reversed, int64_t size, int64_t row_begin,
    int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const double *from = gram + (size - 1 - r) * gram_stride + size - 1;
        double *to = reversed + r * size;
        for (int64_t c = 0; c < r; c++) {
            to[c] = from[-c];
        }
        to[r] = (from[-r] == 0 ? 1 : from[-r]) + shift;
    }
    return SENTEI_OK;
}

int KERNEL(inverse_cholesky_store_f32)(
    const double *reversed, float *factor, int64_t factor_stride, int64_t size, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const double *from = reversed + (size - 1 - r) * size + size - 1;
        float *to = factor + r * factor_stride;
        for (int64_t c = 0; c < r; c++) {
            to[c] = 0;
        }
        for (int64_t c = r; c < size; c++) {
            to[c] = (float)from[-c];
        }
    }
    return SENTEI_OK;
}
