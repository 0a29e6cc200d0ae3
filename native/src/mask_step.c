/* A step of descent on a mask or on scores, with the gradient d = w g; an element without a finite one stays and is counted.
 *
 * Soft: m <- clip(m - rate (d + decay m), 0, 1), difference = (m - 1) w. Adam (1412.6980): means of d and of d^2, s <- max(0,
 * s - rate first_correction f / (sqrt(second_correction v) + epsilon)), and d^2 must be finite too. Error: a few roundings of
 * the step and of the state. */
#include "kernel.h"

#include <math.h>

int KERNEL(mask_step_soft_f32)(
    const float *weights, int64_t weights_stride, const float *gradient, int64_t gradient_stride, float *state,
    int64_t state_stride, float *difference, int64_t difference_stride, float rate, float decay, int64_t *invalid,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    int64_t count = 0;
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *w = weights + r * weights_stride, *g = gradient + r * gradient_stride;
        float *mask = state + r * state_stride, *target = difference + r * difference_stride;
        for (int64_t c = 0; c < cols; c++) {
            const float slope = w[c] * g[c], magnitude = fabsf(slope);
            const int valid = magnitude < INFINITY;
            float m = mask[c] - rate * (slope + decay * mask[c]);
            m = m > 1 ? 1 : m;
            m = m < 0 ? 0 : m;
            m = valid ? m : mask[c];
            count += !valid;
            mask[c] = m;
            target[c] = (m - 1) * w[c];
        }
    }
    *invalid = count;
    return SENTEI_OK;
}

int KERNEL(mask_step_adam_f32)(
    const float *weights, int64_t weights_stride, const float *gradient, int64_t gradient_stride, float *state,
    int64_t state_stride, float *first, int64_t first_stride, float *second, int64_t second_stride, float rate,
    float beta1, float beta2, float first_correction, float second_correction, float epsilon, int64_t *invalid,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    int64_t count = 0;
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *w = weights + r * weights_stride, *g = gradient + r * gradient_stride;
        float *score = state + r * state_stride, *f = first + r * first_stride, *v = second + r * second_stride;
        for (int64_t c = 0; c < cols; c++) {
            const float slope = w[c] * g[c], square = slope * slope;
            const int valid = square < INFINITY;
            const float mean = beta1 * f[c] + (1 - beta1) * slope, mean_square = beta2 * v[c] + (1 - beta2) * square;
            const float s = score[c] - rate * (first_correction * mean)
                / (sqrtf(second_correction * mean_square) + epsilon);
            count += !valid;
            f[c] = valid ? mean : f[c];
            v[c] = valid ? mean_square : v[c];
            score[c] = !valid ? score[c] : s > 0 ? s : 0;
        }
    }
    *invalid = count;
    return SENTEI_OK;
}
