/* y = f(x) or f(x) * multiplier, element by element; y may be x.
 *
 * relu       x if x > 0 or NaN, else +0: exact
 * gelu       x Phi(x), Phi(x) = erfc(-x / sqrt 2) / 2 through erfc(z) = exp(-z^2) t P(t), t = 1 / (1 + 0.4 z), with P of
 *            degree 9 fitted here (reweighted least squares towards the minimax error 1e-8 on 0 <= z <= 10.5); taking the
 *            complement keeps the tail of negative x relatively accurate
 * gelu_tanh  0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
 * silu       x / (1 + exp(-x))
 *
 * Error: a few ulp of the result, growing with x^2 eps in GELU's tail. */
#include "kernel.h"

INLINE vf relu(vf x) { return blend((x > 0.0f) | (x != x), x, (vf){0}); }

INLINE vf gelu(vf x) {
    vf z = (vf)((vi)x & 0x7fffffff) * 0.70710678119f;
    vf t = 1.0f / (1.0f + 0.4f * z);
    vf p = t * -0.02863682061433792f + 0.19282197952270508f;
    p = p * t - 0.48662900924682617f;
    p = p * t + 0.5312276482582092f;
    p = p * t - 0.27092409133911133f;
    p = p * t + 0.2648743987083435f;
    p = p * t + 0.13215623795986176f;
    p = p * t + 0.21439078450202942f;
    p = p * t + 0.22501526772975922f;
    p = p * t + 0.2257036715745926f;
    vf tail = 0.5f * t * p * exponential(-z * z);
    return x * blend(x < 0.0f, tail, 1.0f - tail);
}

INLINE vf gelu_tanh(vf x) {
    vf u = 0.79788456080f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exponential(-2.0f * u));
}

INLINE vf silu(vf x) { return x / (1.0f + exponential(-x)); }

/* One row; inlined for every function, so that the loop holds no call. */
INLINE void row(vf (*f)(vf), const float *x, const float *multiplier, float *y, int64_t cols) {
    int64_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        vf v = f(load(x + c));
        store(y + c, multiplier ? v * load(multiplier + c) : v);
    }
    if (c < cols) {
        vf v = f(load_first(x + c, cols - c));
        store_first(y + c, multiplier ? v * load_first(multiplier + c, cols - c) : v, cols - c);
    }
}

int KERNEL(activate_f32)(
    int32_t function, const float *x, int64_t x_stride, const float *multiplier, int64_t multiplier_stride, float *y,
    int64_t y_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *from = x + r * x_stride;
        const float *by = multiplier ? multiplier + r * multiplier_stride : NULL;
        float *to = y + r * y_stride;
        switch (function) {
            case SENTEI_RELU:
                row(relu, from, by, to, cols);
                break;
            case SENTEI_GELU:
                row(gelu, from, by, to, cols);
                break;
            case SENTEI_GELU_TANH:
                row(gelu_tanh, from, by, to, cols);
                break;
            case SENTEI_SILU:
                row(silu, from, by, to, cols);
                break;
            default:
                return SENTEI_BAD_ARGUMENT;
        }
    }
    return SENTEI_OK;
}
