/* gram_f32 on tensor cores: a tile of GRAM_TILE x GRAM_TILE of the sum, 64 x 32 of it a warp. Elements of x are split into bf16
 * parts, so that the sum is as good as one in fp32; DEPTH rows are multiplied while the next are on their way. An element of
 * the sum over a chunk that is not finite, as where an infinity was split, is summed again as the portable kernel does it.
 *
 * Two groups a multiprocessor leave 128 registers a thread: of what a loop does not change, fresh() has little kept. */
#include "cuda/tensor.h"

#define GRAM_TILE 128
#define GRAM_DOWN 4   /* products of 16 x 8 of a warp, downwards and across */
#define GRAM_ACROSS 4
#define GRAM_SUMS (4 * GRAM_DOWN * GRAM_ACROSS)
#define GRAM_LOADS (2 * DEPTH * GRAM_TILE / 4 / GROUP)

struct alignas(16) GramSlab {
    float staged[GRAM_LOADS * GROUP][4]; /* each by the thread that splits it */
    uint2 parts[2][PARTS][DEPTH][GRAM_TILE / 4 + 2];
};

/* Has the columns of both sides of the tile copied from DEPTH rows; zeros beyond. */
DEVICE void stage(GramSlab *slab, IN(float, x), int row, int rows, int cols, const int columns[2], bool packed) {
#pragma unroll 1
    for (int i = 0; i < GRAM_LOADS; i++) {
        const int place = fresh(LOCAL_ID) + i * GROUP, side = i / (GRAM_LOADS / 2);
        const int r = row + place / (GRAM_TILE / 4) % DEPTH, c = columns[side] + place % (GRAM_TILE / 4) * 4;
        const int count = r < rows ? max(0, min(4, cols - c)) : 0;
        const float *from = count > 0 ? ROW(x, r) + c : ROW(x, 0);
        if (packed) {
            copy4_async(slab->staged[place], from, count);
        } else {
            for (int j = 0; j < 4; j++) {
                copy1_async(slab->staged[place] + j, j < count ? from + j : from, j < count);
            }
        }
    }
}

DEVICE void split_staged(GramSlab *slab) {
#pragma unroll 1
    for (int i = 0; i < GRAM_LOADS; i++) {
        const int place = fresh(LOCAL_ID) + i * GROUP, side = i / (GRAM_LOADS / 2);
        const int r = place / (GRAM_TILE / 4) % DEPTH, c = place % (GRAM_TILE / 4);
        const float4 value = *(const float4 *)slab->staged[place];
        uint first[PARTS], second[PARTS];
        split(value.x, value.y, first);
        split(value.z, value.w, second);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            slab->parts[side][p][r][c] = {first[p], second[p]};
        }
    }
}

/* Adds the products of DEPTH rows to a warp's part of the tile, which begins at (m, n). */
DEVICE void add_products(float sums[GRAM_DOWN][GRAM_ACROSS][4], const GramSlab *slab, int m, int n) {
    uint right[PARTS][GRAM_ACROSS * 2];
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
#pragma unroll
        for (int j = 0; j < GRAM_ACROSS; j += 2) {
            load_transposed(right[p] + 2 * j, &slab->parts[1][p][LANE % 16][(n + j * 8 + LANE / 16 * 8) / 4]);
        }
    }
#pragma unroll
    for (int i = 0; i < GRAM_DOWN; i++) {
        float terms[GRAM_ACROSS][4] = {};
#pragma unroll
        for (int p = PARTS - 1; p >= 0; p--) {
            uint left[4];
            const int row = LANE % 8 + LANE / 16 * 8;
            load_transposed(left, &slab->parts[0][p][row][(m + i * 16 + LANE / 8 % 2 * 8) / 4]);
#pragma unroll
            for (int q = PARTS - 1 - p; q >= 0; q--) {
#pragma unroll
                for (int j = 0; j < GRAM_ACROSS; j++) {
                    multiply_add(terms[j], left, right[q] + 2 * j);
                }
            }
        }
#pragma unroll
        for (int j = 0; j < GRAM_ACROSS; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                sums[i][j][e] += terms[j][e];
            }
        }
    }
}

/* Where the sums of a thread belong in its warp's part. */
DEVICE int gram_row(int place) { return place / 4 / GRAM_ACROSS * 16 + LANE / 4 + place % 4 / 2 * 8; }
DEVICE int gram_column(int place) { return place / 4 % GRAM_ACROSS * 8 + LANE % 4 * 2 + place % 2; }

TUNED_KERNEL(gram_tensor_f32, 2)(IN(float, x), int rows, int cols, int chunk, OUT(double, sum)) {
    LOCAL GramSlab slab;
    const int tiles = (cols + GRAM_TILE - 1) / GRAM_TILE;
    int down = 0, across = (int)GROUP_ID;
    while (across >= tiles - down) {
        across -= tiles - down;
        down++;
    }
    const int columns[2] = {down * GRAM_TILE, (down + across) * GRAM_TILE};
    const int m = WARP_ID / 4 * GRAM_DOWN * 16, n = WARP_ID % 4 * GRAM_ACROSS * 8;
    const int row = columns[0] + m, col = columns[1] + n;
    const bool packed = IS_PACKED4(x);
    stage(&slab, x, x_first, x_stride, 0, rows, cols, columns, packed);
    float sums[GRAM_DOWN][GRAM_ACROSS][4] = {};
    for (int k = 0; k < rows; k += DEPTH) {
        await_copies();
        BARRIER;
        split_staged(&slab);
        BARRIER;
        if (k + DEPTH < rows) {
            stage(&slab, x, x_first, x_stride, k + DEPTH, rows, cols, columns, packed);
        }
        add_products(sums, &slab, m, n);
        if ((k + DEPTH) % chunk != 0 && k + DEPTH < rows) {
            continue;
        }
        unsigned long long again = 0;
#pragma unroll
        for (int place = 0; place < GRAM_SUMS; place++) {
            float *value = &sums[place / 4 / GRAM_ACROSS][place / 4 % GRAM_ACROSS][place % 4];
            const int y = fresh(row) + gram_row(place), z = col + gram_column(place);
            if (y <= z && z < cols) {
                if (is_finite(*value)) {
                    ROW(sum, y)[z] += *value;
                } else {
                    again |= 1ull << place;
                }
            }
            *value = 0;
        }
        for (int place = 0; again != 0; place++, again >>= 1) {
            if ((again & 1) != 0) {
                const int y = fresh(row) + gram_row(place), z = col + gram_column(place);
                float value = 0;
                for (int r = k - k % chunk; r < rows && r < k + DEPTH; r++) {
                    value = FMA(ROW(x, r)[y], ROW(x, r)[z], value);
                }
                ROW(sum, y)[z] += value;
            }
        }
    }
}
