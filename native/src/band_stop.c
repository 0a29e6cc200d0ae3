/* weights = gain v psi(v) and slope = gain d(v psi)/dv; slope may be NULL.
 *
 * sigmoid  psi = 1 / (1 + exp(-z)), z = sharpness v^2 - bend; d = psi (1 + 2 sharpness v^2 / (1 + exp(z)))
 * tanh     psi = (1 - exp(-s)) / (1 + exp(-s)), s = sharpness v^2; d = psi + 4 s exp(-s) / (1 + exp(-s))^2
 *
 * Error: that of the exponent, which grows with it, |z| 2^-24, and a few ulp. Near 0 tanh's psi is s / 2 from its series. */
#include "kernel.h"

INLINE vf sigmoid(vf v, float sharpness, float bend, vf *rise) {
    vf s = sharpness * v * v;
    s = blend(s > 1e30f, splat(1e30f), s);
    vf z = s - bend;
    vf held = 1.0f / (1.0f + exponential(z)), passed = 1.0f / (1.0f + exponential(-z));
    *rise = passed * (1.0f + 2.0f * s * held);
    return passed;
}

/* e^-s - 1 to a few ulp also where s is small. */
INLINE vf exponential_less_one(vf x) {
    vi n;
    vf small = exponential_less_one_of_remainder(x, &n);
    return blend(n == 0, small, exponential(x) - 1.0f);
}

INLINE vf hyperbolic(vf v, float sharpness, vf *rise) {
    vf s = sharpness * v * v;
    s = blend(s > 88.0f, splat(88.0f), s);
    vf less = exponential_less_one(-s), e = less + 1.0f, per = 1.0f / (1.0f + e);
    vf passed = -less * per;
    *rise = passed + 4.0f * s * e * per * per;
    return passed;
}

int KERNEL(band_stop_f32)(
    int32_t tanh_form, const float *latents, int64_t latents_stride, float *weights, int64_t weights_stride,
    float *slope, int64_t slope_stride, float sharpness, float bend, float gain, int64_t cols, int64_t row_begin,
    int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *from = latents + r * latents_stride;
        for (int64_t c = 0; c < cols; c += LANES) {
            const int64_t run = cols - c < LANES ? cols - c : LANES;
            const vf v = run < LANES ? load_first(from + c, run) : load(from + c);
            vf rise;
            const vf passed = tanh_form ? hyperbolic(v, sharpness, &rise) : sigmoid(v, sharpness, bend, &rise);
            store_first(weights + r * weights_stride + c, gain * (v * passed), run);
            if (slope) {
                store_first(slope + r * slope_stride + c, gain * rise, run);
            }
        }
    }
    return SENTEI_OK;
}
