/* What the norms of rows have in common that stay in registers: rows of a multiple of four columns that begin where four
 * floats can be loaded at once. Up to 8 * 4 * WARP columns a warp takes a row, up to 8 * 4 * GROUP columns a group does. */
#ifndef SENTEI_CUDA_NORM_H
#define SENTEI_CUDA_NORM_H

#include "cuda/words.h"

/* Fours of a row that a thread holds, each `threads` fours behind the one before. */
#define HELD 8

/* Groups that shall fit a multiprocessor. For GPUs from compute capability 10.0 on nvcc wants more registers than three leave. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define NORM_RESIDENT 2
#else
#define NORM_RESIDENT 3
#endif

DEVICE void hold_row(const float *x, int cols, int thread, int threads, float4 *held) {
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int c = 4 * (thread + i * threads);
        held[i] = {0, 0, 0, 0};
        if (c < cols) {
            held[i] = LOAD4_ONCE(x + c);
        }
    }
}

/* The sum over a row: of the warp's values, or of the group's by way of `sums`, one place a warp, which no other call uses. */
DEVICE wide sum_of_row(LOCAL_ARG wide *sums, wide value) {
    value = sum_of_warp(value);
    if (sums) {
        if (LANE == 0) {
            sums[WARP_ID] = value;
        }
        BARRIER;
        value = sums[0];
        for (int warp = 1; warp < WARPS_OF_GROUP; warp++) {
            value += sums[warp];
        }
    }
    return value;
}

/* Whether fp32 does for the products with it, because neither it nor what it brings near 1 leaves the range. */
DEVICE bool is_plain(wide scale) { return scale >= 1e-30 && scale <= 1e30; }

#endif
