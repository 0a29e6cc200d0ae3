/* Score keys, the order of scores as integers: the bits of the non-negative fp32 product |w| * scale without its sign,
 * which rise with it; every NaN has the largest key of all, 0x7fffffff. The same on every tier: one multiplication,
 * which IEEE 754 rounds one way. */
#ifndef SENTEI_SCORE_KEY_H
#define SENTEI_SCORE_KEY_H

#include "kernel.h"

enum { LARGEST_KEY = 0x7fffffff };

INLINE vi score_keys(vf weights, vf scale) {
    vi key = (vi)((vf)((vi)weights & 0x7fffffff) * scale) & 0x7fffffff;
    return key | ((key > 0x7f800000) & 0x7fffffff);
}

/* Keys of columns c to c + LANES; beyond the last column they are LARGEST_KEY. */
INLINE vi score_keys_at(const float *weights, const float *scale, int64_t c, int64_t cols) {
    int64_t valid = cols - c;
    if (valid >= LANES) {
        return score_keys(load(weights + c), scale ? load(scale + c) : splat(1.0f));
    }
    vi keys = score_keys(load_first(weights + c, valid), scale ? load_first(scale + c, valid) : splat(1.0f));
    return keys | (lanes_of(~0u << valid) & LARGEST_KEY);
}

#endif
