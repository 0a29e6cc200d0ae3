/* d' G d and d' s of every row d = a - b. The caller multiplies by BLAS in fp32 between these kernels: p = d U, with G = U + U'
 * for the upper triangle U that has half of the diagonal, so that d' G d = 2 d' U d takes half of the products. Error of a
 * form: that of p plus cols * 2^-53, relative to |d|' |G| |d|. */
#include "kernel.h"

/* U in fp32, where the products in blocks of columns read it: on and above the diagonal, and zeros in the blocks on it. */
int KERNEL(quadratic_form_upper_f64)(
    const double *gram, int64_t gram_stride, float *upper, int64_t cols, int64_t block, int64_t row_begin,
    int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const double *g = gram + r * gram_stride;
        float *u = upper + r * cols;
        for (int64_t c = r / block * block; c < r; c++) {
            u[c] = 0;
        }
        u[r] = (float)(g[r] / 2);
        for (int64_t c = r + 1; c < cols; c++) {
            u[c] = (float)g[c];
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
        forms[r * forms_stride] = 2 * square;
        forms[r * forms_stride + 1] = total;
    }
    return SENTEI_OK;
}
