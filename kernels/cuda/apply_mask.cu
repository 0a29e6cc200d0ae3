/* apply_mask for rows of a multiple of four columns that begin where four floats can be loaded at once. A group takes
 * MASK_ROWS rows, a thread four columns of all of them at a time: a mean is loaded, and widened, once for all of these rows,
 * whose loads are in flight together. A word of the mask is loaded once for the eight threads that share it. */
#include "cuda/words.h"

#define MASK_ROWS 4

/* Clears this many rows; sums[i] gets what their pruned weights contributed, in this thread, where there are means. */
template <int ROWS>
DEVICE void clear_rows(float *weights, i64 stride, int cols, const uint *mask, i64 mask_stride, const float *means, wide *sums) {
    for (int c = 4 * LOCAL_ID; c < cols; c += 4 * GROUP) {
        uint nibbles[ROWS];
        float4 w[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            nibbles[i] = mask[i * mask_stride + c / 32] >> (c % 32) & 0xfu;
            w[i] = LOAD4_ONCE(weights + i * stride + c);
        }
        if (means) {
            const float4 mean = LOAD4(means + c);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                sums[i] += nibbles[i] & 1 ? (wide)w[i].x * mean.x : 0;
                sums[i] += nibbles[i] & 2 ? (wide)w[i].y * mean.y : 0;
                sums[i] += nibbles[i] & 4 ? (wide)w[i].z * mean.z : 0;
                sums[i] += nibbles[i] & 8 ? (wide)w[i].w * mean.w : 0;
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float4 kept = {nibbles[i] & 1 ? 0 : w[i].x, nibbles[i] & 2 ? 0 : w[i].y, nibbles[i] & 4 ? 0 : w[i].z,
                nibbles[i] & 8 ? 0 : w[i].w};
            STORE4(weights + i * stride + c, kept);
        }
    }
}

/* Those of this group, which are fewer in the last one. */
DEVICE int clear_group(OUT(float, weights), int cols, IN(uint, mask), const float *means, int rows, wide *sums) {
    const i64 first = GROUP_ID * MASK_ROWS;
    if (rows - first >= MASK_ROWS) {
        clear_rows<MASK_ROWS>(ROW(weights, first), weights_stride, cols, ROW(mask, first), mask_stride, means, sums);
        return MASK_ROWS;
    }
    const int count = (int)(rows - first);
#pragma unroll
    for (int i = 0; i < MASK_ROWS - 1; i++) {
        if (i < count) {
            clear_rows<1>(ROW(weights, first + i), weights_stride, cols, ROW(mask, first + i), mask_stride, means, sums + i);
        }
    }
    return count;
}

TUNED_KERNEL(apply_mask_rows4_f32, 4)(OUT(float, weights), int cols, IN(uint, mask), int rows) {
    wide none[MASK_ROWS];
    clear_group(weights, weights_first, weights_stride, cols, mask, mask_first, mask_stride, 0, rows, none);
}

TUNED_KERNEL(apply_mask_bias_rows4_f32, 3)(
    OUT(float, weights), int cols, IN(uint, mask), IN(float, mean), OUT(float, bias), int rows) {
    LOCAL wide partial[MASK_ROWS][WARPS_OF_GROUP];
    wide sums[MASK_ROWS] = {};
    const int count = clear_group(
        weights, weights_first, weights_stride, cols, mask, mask_first, mask_stride, ROW(mean, 0), rows, sums);
#pragma unroll
    for (int i = 0; i < MASK_ROWS; i++) {
        const wide sum = sum_of_warp(sums[i]);
        if (LANE == 0) {
            partial[i][WARP_ID] = sum;
        }
    }
    BARRIER;
    if (LOCAL_ID < count) {
        float *own = ROW(bias, 0) + GROUP_ID * MASK_ROWS + LOCAL_ID;
        wide shift = 0;
        for (int warp = 0; warp < WARPS_OF_GROUP; warp++) {
            shift += partial[LOCAL_ID][warp];
        }
        *own = (float)(*own + shift);
    }
}
