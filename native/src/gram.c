/* Adds a block of X' X in fp32, from the matrix product, to the fp64 sum: one rounding to fp64 an element. Of a block on the
 * diagonal only the elements on and above it. */
#include "kernel.h"

int KERNEL(gram_add_f32)(
    const float *product, int64_t product_stride, double *sum, int64_t sum_stride, int32_t diagonal, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *p = product + r * product_stride;
        double *s = sum + r * sum_stride;
        int64_t c = diagonal ? r : 0;
        for (; c + HALF <= cols; c += HALF) {
            store_double(s + c, load_double(s + c) + load_wide(p + c));
        }
        for (; c < cols; c++) {
            s[c] += (double)p[c];
        }
    }
    return SENTEI_OK;
}
