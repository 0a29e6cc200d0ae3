/* Prunes a block of columns from left to right and moves the error of each pruned weight to those on its right (SparseGPT,
 * 2301.00774, algorithm 1). Compiled without contraction: every operation is rounded to fp32 on its own, so all tiers and
 * backends agree in every bit. One row stays in the first-level cache while the factor of the block passes by. */
#include "score_key.h"

/* Marks the prune smallest of `size` columns from `begin`: the rank of a key is the number of keys that are smaller, or equal
 * and further left. */
static void choose_group(
    const float *w, const float *scale, int32_t *keys, uint32_t *words, int64_t begin, int64_t size, int64_t prune) {
    for (int64_t c = 0; c < size; c += LANES) {
        store_int(keys + c, score_keys_at(w + begin, scale + begin, c, size));
    }
    for (int64_t c = 0; c < size; c++) {
        int64_t rank = 0;
        for (int64_t other = 0; other < size; other++) {
            rank += keys[other] < keys[c] || (keys[other] == keys[c] && other < c);
        }
        words[(begin + c) / 32] |= (uint32_t)(rank < prune) << ((begin + c) % 32);
    }
}

int KERNEL(obs_sweep_f32)(
    float *weights, int64_t weights_stride, const float *factor, int64_t factor_stride, uint32_t *mask,
    int64_t mask_stride, float *errors, int64_t errors_stride, const float *scale, int64_t prune, int64_t size,
    int64_t cols, int64_t row_begin, int64_t row_end) {
    int32_t *keys = scratch(size + LANES, sizeof(int32_t));
    if (keys == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        float *w = weights + r * weights_stride;
        float *e = errors + r * errors_stride;
        uint32_t *words = mask + r * mask_stride;
        if (size > 0) {
            memset(words, 0, (size_t)((cols + 31) / 32) * sizeof(uint32_t));
        }
        for (int64_t j = 0; j < cols; j++) {
            if (size > 0 && j % size == 0) {
                choose_group(w, scale, keys, words, j, size, prune);
            }
            if ((words[j / 32] >> (j % 32) & 1) == 0) {
                e[j] = 0;
                continue;
            }
            const float *u = factor + j * factor_stride;
            const float error = w[j] / u[j];
            const vf by = splat(error);
            w[j] = 0;
            e[j] = -error;
            int64_t k = j + 1;
            for (; k + LANES <= cols; k += LANES) {
                store(w + k, load(w + k) - by * load(u + k));
            }
            for (; k < cols; k++) {
                w[k] -= error * u[k];
            }
        }
    }
    free(keys);
    return SENTEI_OK;
}
