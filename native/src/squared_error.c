/* partial[0] = sum (expected - actual)^2 and partial[1] = sum expected^2 over a range of rows, in fp64 throughout: error
 * (elements of the range) * 2^-53, relative. The caller adds the ranges in order. */
#include "kernel.h"

int KERNEL(squared_error_f32)(
    const float *expected, int64_t expected_stride, const float *actual, int64_t actual_stride, int64_t cols,
    int64_t row_begin, int64_t row_end, double *partial) {
    vd errors = {0}, squares = {0};
    double error = 0, square = 0;
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *e = expected + r * expected_stride;
        const float *a = actual + r * actual_stride;
        int64_t c = 0;
        for (; c + HALF <= cols; c += HALF) {
            vd wanted = load_wide(e + c);
            vd difference = wanted - load_wide(a + c);
            errors += difference * difference;
            squares += wanted * wanted;
        }
        for (; c < cols; c++) {
            double difference = (double)e[c] - (double)a[c];
            error += difference * difference;
            square += (double)e[c] * (double)e[c];
        }
    }
    partial[0] = sum_double(errors) + error;
    partial[1] = sum_double(squares) + square;
    return SENTEI_OK;
}
