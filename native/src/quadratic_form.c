/* d' G d and d' s of every row d = a - b, where the caller multiplies: p = d G in fp32 by BLAS, between these kernels. Error
 * of a form: that of p plus cols * 2^-53, relative to |d|' |G| |d|. */
#include "kernel.h"

/* The symmetric matrix whose upper triangle is gram, in fp32. */
int KERNEL(quadratic_form_symmetric_f64)(
    const double *gram, int64_t gram_stride, float *symmetric, int64_t cols, int64_t row_begin, int64_t row_end) {
    enum { BLOCK = 16 };
    for (int64_t r = row_begin; r < row_end; r++) {
        for (int64_t c = r; c < cols; c++) {
            symmetric[r * cols + c] = (float)gram[r * gram_stride + c];
        }
    }
    /* Below the diagonal columns become rows: a few of them at a time, so that lines of both sides stay in the cache. */
    for (int64_t first = 0; first < row_end; first += BLOCK) {
        for (int64_t r = row_begin; r < row_end; r++) {
            int64_t end = first + BLOCK < r ? first + BLOCK : r;
            for (int64_t c = first; c < end; c++) {
                symmetric[r * cols + c] = (float)gram[c * gram_stride + r];
            }
        }
    }
    return SENTEI_OK;
}

int KERNEL(quadratic_form_difference_f32)(
    const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *d, int64_t cols, int64_t row_begin,
    int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        for (int64_t c = 0; c < cols; c++) {
            d[r * cols + c] = a[r * a_stride + c] - b[r * b_stride + c];
        }
    }
    return SENTEI_OK;
}

int KERNEL(quadratic_form_f32)(
    const float *d, int64_t d_stride, const float *p, const double *sum, double *forms, int64_t forms_stride,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *x = d + r * d_stride;
        const float *y = p + r * cols;
        vd squares = {0}, sums = {0};
        int64_t c = 0;
        for (; c + HALF <= cols; c += HALF) {
            vd wide = load_wide(x + c);
            squares += wide * load_wide(y + c);
            sums += wide * load_double(sum + c);
        }
        double square = sum_double(squares), total = sum_double(sums);
        for (; c < cols; c++) {
            square += (double)x[c] * (double)y[c];
            total += (double)x[c] * sum[c];
        }
        forms[r * forms_stride] = square;
        forms[r * forms_stride + 1] = total;
    }
    return SENTEI_OK;
}
