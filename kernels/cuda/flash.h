/* Tiles of one head's rows, split into bf16 parts in shared memory, for kernels that multiply the rows of FLASH_QUERIES tokens, 16
 * a warp, with those of FLASH_KEYS others at a time: attention.cu and attention_residual.cu. */
#ifndef SENTEI_CUDA_FLASH_H
#define SENTEI_CUDA_FLASH_H

#include "cuda/tensor.h"

#define FLASH_QUERIES 128 /* of a group, 16 a warp */
#define FLASH_KEYS 32     /* of a tile, as many as a word has bits */

#define MATRIX(name) name, name##_first, name##_stride

template <int HEAD> struct alignas(16) FlashTile {
    float staged[FLASH_KEYS * HEAD / 4][4]; /* each by the thread that splits it */
    uint2 parts[PARTS][FLASH_KEYS][HEAD / 4 + 2];
};

/* A word's bits from the first to the last. */
DEVICE uint bits_of(int first, int last) {
    const uint from = first <= 0 ? ~0u : first < 32 ? ~0u << first : 0;
    return last < 0 ? 0 : last < 31 ? from & ((2u << last) - 1) : from;
}

/* Has FLASH_KEYS rows of one head copied, zeros from `end` on. */
template <int HEAD> DEVICE void stage_rows(FlashTile<HEAD> *tile, const float *rows, i64 stride, int end) {
#pragma unroll 1
    for (int i = 0; i < FLASH_KEYS * HEAD / 4 / GROUP; i++) {
        const int place = fresh(LOCAL_ID) + i * GROUP, row = place / (HEAD / 4);
        copy4_async(tile->staged[place], row < end ? rows + row * stride + place % (HEAD / 4) * 4 : rows, row < end ? 4 : 0);
    }
}

/* Splits what this thread had copied, as prepare(four, row, column) has made it. */
template <int HEAD, class Prepare> DEVICE void split_rows(FlashTile<HEAD> *tile, Prepare prepare) {
#pragma unroll 1
    for (int i = 0; i < FLASH_KEYS * HEAD / 4 / GROUP; i++) {
        const int place = fresh(LOCAL_ID) + i * GROUP;
        const float4 value = prepare(*(const float4 *)tile->staged[place], place / (HEAD / 4), place % (HEAD / 4) * 4);
        uint first[PARTS], second[PARTS];
        split(value.x, value.y, first);
        split(value.z, value.w, second);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            tile->parts[p][place / (HEAD / 4)][place % (HEAD / 4)] = {first[p], second[p]};
        }
    }
}

/* sums += left * right, 16 x DEPTH times DEPTH x 16, where each thread names a row of the right side's matrices. */
template <bool TRANSPOSED, int HEAD>
DEVICE void add_product(float sums[2][4], const uint left[PARTS][4], const FlashTile<HEAD> *tile, int key, int column) {
    float terms[2][4] = {};
#pragma unroll
    for (int q = PARTS - 1; q >= 0; q--) {
        const uint2 *row = &tile->parts[q][key][column / 4];
        uint right[4];
        if (TRANSPOSED) {
            load_transposed(right, row);
        } else {
            load_matrices(right, row);
        }
#pragma unroll
        for (int p = PARTS - 1 - q; p >= 0; p--) {
            multiply_add(terms[0], left[p], right);
            multiply_add(terms[1], left[p], right + 2);
        }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        sums[0][e] += terms[0][e];
        sums[1][e] += terms[1][e];
    }
}

/* Makes the parts of two neighbours the i-th word of fragments. */
DEVICE void split_pair(float first, float second, uint fragments[PARTS][4], int i) {
    uint own[PARTS];
    split(first, second, own);
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        fragments[p][i] = own[p];
    }
}

/* The larger, or the sum, of the values of the four threads that share a row. */
DEVICE float largest_of_row(float value) {
    value = fmaxf(value, SHUFFLE_XOR(value, 1));
    return fmaxf(value, SHUFFLE_XOR(value, 2));
}

DEVICE float sum_of_row(float value) {
    value += SHUFFLE_XOR(value, 1);
    return value + SHUFFLE_XOR(value, 2);
}

#endif
