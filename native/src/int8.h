/* What kernels of 8-bit integers share. */
#ifndef SENTEI_INT8_H
#define SENTEI_INT8_H

#include "kernel.h"

/* The one rule by which a real value becomes an 8-bit integer: clamped, rounded to the nearest integer, halves to even, by
 * adding 1.5 * 2^23, whose sum has the integer in its low bits; then the zero point. NaN becomes low. */
struct levels {
    float least, most;
    int32_t zero;
};

INLINE struct levels levels_of(int32_t zero, int32_t low, int32_t high) {
    return (struct levels){(float)(low - zero), (float)(high - zero), zero};
}

INLINE uint8_t quantized(float value, struct levels levels) {
    const float shift = 12582912.0f;
    value = value > levels.least ? value : levels.least;
    value = value < levels.most ? value : levels.most;
    const float shifted = value + shift;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint8_t)(bits + levels.zero); /* the low bits of the shift are 0 */
}

/* The same in each lane, of which the low byte counts. */
INLINE vi quantized_lanes(vf value, struct levels levels) {
    value = blend(value > levels.least, value, splat(levels.least));
    value = blend(value < levels.most, value, splat(levels.most));
    return (vi)(value + 12582912.0f) + levels.zero;
}

/* The input pixel under a tap of an output pixel's window, -1 in the padding. */
INLINE int64_t input_pixel(const struct sentei_window *w, int64_t image, int32_t p, int32_t q, int32_t r, int32_t s) {
    const int32_t i = p * w->stride_y - w->top + r * w->dilation_y, j = q * w->stride_x - w->left + s * w->dilation_x;
    return i >= 0 && i < w->height && j >= 0 && j < w->width ? (image * w->height + i) * w->width + j : -1;
}

#endif
