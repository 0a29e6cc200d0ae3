/* obs_sweep_f32 for blocks of up to 128 columns, a multiple of four, that begin where four floats can be loaded at once; with
 * a given mask, or groups of four or eight columns. A group of threads takes SWEEP_ROWS rows and keeps the upper triangle of
 * the factor in shared memory, each row from the four columns of its diagonal on. Eight threads share a row, each with four
 * columns of every 32: thread `lane` has columns 32 q + 4 lane to 32 q + 4 lane + 3 in w[q].
 *
 * The sweep goes four columns at a time. All threads of a row get these four, prune them one after the other, each for
 * itself, and then let their own columns to the right follow. There is no barrier after the factor's load: what threads tell
 * each other stays within a warp. The order of what a weight goes through is that of the columns, so the bits are those of
 * obs_sweep_f32. */
#include "cuda/words.h"

#define SWEEP_LANES 8
#define SWEEP_ROWS (GROUP / SWEEP_LANES)
#define SWEEP_COLUMNS 128
#define SWEEP_WORDS (SWEEP_COLUMNS / 32)
/* Fours of a row, and of the triangle that is kept. */
#define SWEEP_FOURS (SWEEP_COLUMNS / 4)
#define SWEEP_KEPT (2 * SWEEP_FOURS * (SWEEP_FOURS + 1))

/* The first four of row 4 * four + r of the triangle. */
DEVICE int kept_row(int four, int r) { return 2 * four * (2 * SWEEP_FOURS + 1 - four) + r * (SWEEP_FOURS - four); }

/* Which of this thread's four columns go: those whose rank within the group is below prune. */
DEVICE uint choose(const float *w, float4 scale, int prune, int size) {
    const uint keys[4] = {score_key(w[0], scale.x), score_key(w[1], scale.y), score_key(w[2], scale.z), score_key(w[3], scale.w)};
    int ranks[4];
    rank_four(keys, ranks);
    if (size == 8) { /* the other four are the neighbour's; of equal keys the one to the left is the smaller */
        const uint right = LANE % 2;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint other = SHUFFLE_XOR(keys[j], 1);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                ranks[i] += other < keys[i] + right;
            }
        }
    }
    uint nibble = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        nibble |= (uint)(ranks[i] < prune) << i;
    }
    return nibble;
}

DEVICE float part_of(float4 value, int i) { return i == 0 ? value.x : i == 1 ? value.y : i == 2 ? value.z : value.w; }

TUNED_KERNEL(obs_sweep_block128_f32, 2)(OUT(float, weights), int rows, int cols, IN(float, factor), OUT(uint, mask),
    OUT(float, errors), IN(float, scale), int prune, int size) {
    LOCAL float4 upper[SWEEP_KEPT];
    for (int i = LOCAL_ID; i < SWEEP_COLUMNS * SWEEP_FOURS; i += GROUP) {
        const int j = i / SWEEP_FOURS, k = i % SWEEP_FOURS;
        if (k >= j / 4) {
            float4 value = {0, 0, 0, 0};
            if (4 * k < cols) { /* and so j too */
                value = LOAD4(ROW(factor, j) + 4 * k);
            }
            upper[kept_row(j / 4, j % 4) + k - j / 4] = value;
        }
    }
    BARRIER;
    const i64 row = GROUP_ID * SWEEP_ROWS + LOCAL_ID / SWEEP_LANES;
    const int lane = LOCAL_ID % SWEEP_LANES;
    const bool alive = row < rows;
    float w[SWEEP_WORDS][4];
#pragma unroll
    for (int q = 0; q < SWEEP_WORDS; q++) {
        const int c = 32 * q + 4 * lane;
        float4 value = {0, 0, 0, 0};
        if (alive && c < cols) {
            value = LOAD4_ONCE(ROW(weights, row) + c);
        }
        w[q][0] = value.x;
        w[q][1] = value.y;
        w[q][2] = value.z;
        w[q][3] = value.w;
    }
#pragma unroll
    for (int q = 0; q < SWEEP_WORDS; q++) {
        const int c = 32 * q + 4 * lane;
        const bool own = alive && c < cols;
        uint word = size == 0 && alive && 32 * q < cols ? ROW(mask, row)[q] : 0;
        float4 scales = {1, 1, 1, 1};
        if (size > 0 && c < cols) {
            scales = LOAD4(ROW(scale, 0) + c);
        }
        float error[4] = {0, 0, 0, 0};
#pragma unroll 1
        for (int t = 0; t < SWEEP_LANES && 32 * q + 4 * t < cols; t++) {
            const int owner = LANE - lane + t;
            if (size == 4 || (size == 8 && t % 2 == 0)) {
                const uint nibble = choose(w[q], scales, prune, size);
                word |= SHUFFLE(nibble, owner) << (4 * t);
                if (size == 8) {
                    word |= SHUFFLE(nibble, owner + 1) << (4 * t + 4);
                }
            }
            const uint pruned = word >> (4 * t);
            const int four = 8 * q + t, first = kept_row(four, 0), next = SWEEP_FOURS - four;
            float v[4], e[4];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                v[r] = SHUFFLE(w[q][r], owner);
            }
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const float4 u = upper[first + r * next];
                e[r] = DIV_RN(v[r], part_of(u, r));
#pragma unroll
                for (int k = r + 1; k < 4; k++) {
                    v[k] = pruned >> r & 1 ? SUB_RN(v[k], MUL_RN(e[r], part_of(u, k))) : v[k];
                }
                if (lane == t) {
                    error[r] = pruned >> r & 1 ? -e[r] : 0;
                    w[q][r] = pruned >> r & 1 ? 0 : v[r];
                }
            }
#pragma unroll
            for (int p = q; p < SWEEP_WORDS; p++) {
                if (p > q || lane > t) {
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        const float4 u = upper[first + r * next + 8 * p + lane - four];
                        const bool follows = pruned >> r & 1; /* a select: rows of a warp seldom agree */
                        w[p][0] = follows ? SUB_RN(w[p][0], MUL_RN(e[r], u.x)) : w[p][0];
                        w[p][1] = follows ? SUB_RN(w[p][1], MUL_RN(e[r], u.y)) : w[p][1];
                        w[p][2] = follows ? SUB_RN(w[p][2], MUL_RN(e[r], u.z)) : w[p][2];
                        w[p][3] = follows ? SUB_RN(w[p][3], MUL_RN(e[r], u.w)) : w[p][3];
                    }
                }
            }
        }
        if (own) {
            const float4 value = {w[q][0], w[q][1], w[q][2], w[q][3]}, moved = {error[0], error[1], error[2], error[3]};
            STORE4(ROW(weights, row) + c, value);
            STORE4(ROW(errors, row) + c, moved);
        }
        if (size > 0 && own && lane == 0) {
            ROW(mask, row)[q] = word;
        }
    }
}
