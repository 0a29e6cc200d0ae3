/* What the products of a matrix with a few vectors share, whether all of its weights are stored or only some.
 *
 * The weights come from memory once and set the pace, so several rows are read at the same time: rows far apart, so that
 * each is a long stream of its own to the processor's prefetcher, which share the loads of x. How many rows are taken
 * together changes no sum: a row's products are added in the order of its columns into two accumulators, one for either
 * half of a pair of vectors, and their lanes at the end by halves. Error: (8 + 2 cols) * 2^-24 of the sum of the
 * magnitudes, as in any fp32 product. */
#ifndef SENTEI_GEMV_H
#define SENTEI_GEMV_H

#include "kernel.h"

/* Columns of a pair of vectors, and of a step of the kernels: the bits of a word. Rows at a time at most, and pairs of
 * accumulators. */
enum { PAIR = 2 * LANES, STEP = 64, MOST_ROWS = 4, SUMS = 8 };

/* For loops over rows, vectors and halves, whose arrays then live in registers. */
#define UNROLL _Pragma("GCC unroll 8")

/* Vectors of x in whole steps, zeros behind the last column. bf16 weights split into even and odd columns at the cost of a
 * shift and a mask; with `interleaved`, x has the even columns of a pair in the first vector and the odd ones in the second.
 * NULL without memory. */
INLINE float *arranged(const float *x, int64_t x_stride, int64_t batch, int64_t cols, int interleaved) {
    const int64_t stride = (cols + STEP - 1) / STEP * STEP;
    float *const all = scratch(batch * stride, sizeof(float));
    if (all == NULL) {
        return NULL;
    }
    vi even, odd;
    for (int lane = 0; lane < LANES; lane++) {
        even[lane] = 2 * lane;
        odd[lane] = 2 * lane + 1;
    }
    for (int64_t b = 0; b < batch; b++) {
        float *const to = all + b * stride;
        if (cols > 0) {
            memcpy(to, x + b * x_stride, (size_t)cols * sizeof(float));
        }
        memset(to + cols, 0, (size_t)(stride - cols) * sizeof(float));
        for (int64_t c = 0; interleaved && c < stride; c += PAIR) {
            const vf first = load(to + c), second = load(to + c + LANES);
            store(to + c, __builtin_shuffle(first, second, even));
            store(to + c + LANES, __builtin_shuffle(first, second, odd));
        }
    }
    return all;
}

/* The even and the odd columns of a pair of bf16 vectors. */
INLINE void split(vi words, vf w[2]) {
    w[0] = (vf)(words << 16);
    w[1] = (vf)(words & splat_int(-65536));
}

/* All lanes, added by halves. */
INLINE float sum_halves(vf v) {
#if defined(__AVX512F__)
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#elif defined(__AVX2__)
    __m256 eight = (__m256)v;
#endif
    typedef float vq __attribute__((vector_size(16)));
#if defined(__AVX2__)
    vq four = (vq)_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#else
    vq four = v;
#endif
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* Calls ROWS(rows at a time, vectors at a time, first vector) until all vectors are done;
 * SUMS pairs of accumulators at most. */
#define FOR_VECTORS(batch, ROWS) \
    for (int64_t first = 0; first < (batch);) { \
        const int64_t left = (batch) - first; \
        if (left >= 8) { \
            ROWS(1, 8, first); \
            first += 8; \
        } else if (left >= 4) { \
            ROWS(2, 4, first); \
            first += 4; \
        } else if (left >= 2) { \
            ROWS(4, 2, first); \
            first += 2; \
        } else { \
            ROWS(4, 1, first); \
            first += 1; \
        } \
    }

#endif
