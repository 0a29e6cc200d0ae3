/* Pruned weights become +0; bias_i += sum over pruned j of w_ij mean_j where mean and bias are given (STADE 2503.22451,
 * optimal bias). Bit c % 32 of mask word c / 32 marks column c.
 *
 * The sum runs in fp64 (products of two fp32 values are exact there) and is rounded once with the bias: error 1/2 ulp of
 * the result plus cols * 2^-53 * sum |w mean|. Unpruned columns do not enter, whatever their mean holds. */
#include "kernel.h"

INLINE vd masked_products(vf weights, vf mean, vi pruned) {
    union {
        vf whole;
        vh half[2];
    } w = {(vf)((vi)weights & pruned)}, m = {(vf)((vi)mean & pruned)};
    return __builtin_convertvector(w.half[0], vd) * __builtin_convertvector(m.half[0], vd)
        + __builtin_convertvector(w.half[1], vd) * __builtin_convertvector(m.half[1], vd);
}

int KERNEL(apply_mask_f32)(
    float *weights, int64_t weights_stride, const uint32_t *mask, int64_t mask_stride, const float *mean, float *bias,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        float *w = weights + r * weights_stride;
        const uint32_t *words = mask + r * mask_stride;
        vd sums = {0};
        for (int64_t c = 0; c < cols; c += LANES) {
            uint32_t bits = words[c / 32] >> (c % 32);
            if (LANES < 32) {
                bits &= (1u << (LANES % 32)) - 1;
            }
            if (bits == 0) {
                continue;
            }
            vi pruned = lanes_of(bits);
            if (c + LANES <= cols) {
                vf v = load(w + c);
                if (mean) {
                    sums += masked_products(v, load(mean + c), pruned);
                }
                store(w + c, (vf)((vi)v & ~pruned));
            } else {
                vf v = load_first(w + c, cols - c);
                if (mean) {
                    sums += masked_products(v, load_first(mean + c, cols - c), pruned);
                }
                store_first(w + c, (vf)((vi)v & ~pruned), cols - c);
            }
        }
        if (bias) {
            bias[r] = (float)((double)bias[r] + sum_double(sums));
        }
    }
    return SENTEI_OK;
}
