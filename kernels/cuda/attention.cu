/* attention_f32 on tensor cores for heads of 32, 64, 96 and 128 (2205.14135, 2307.08691). A group takes FLASH_QUERIES queries
 * of one head, 16 a warp, and passes over the keys that any of them may see, FLASH_KEYS at a time; the sums of a query stay in
 * the four threads that share its row. Values are copied while scores are multiplied, the next keys while weights are; the
 * thread that copied an element splits it into bf16 parts (ADR 26), queries and weights are split in registers.
 *
 * A key that a query may not see has the weight 0, which makes a NaN of a value that is not finite. So a row whose sums are not
 * finite, or small where parts were cut off, is computed again in fp32 from the keys that it sees. */
#include "cuda/flash.h"

#define SMALLEST 7.9e-31f /* 2^-100: all parts of what is larger are normal numbers of bf16 */

/* What a group does, and that a query sees the visible keys from `back` before its own to `ahead` behind it. */
struct FlashTask {
    i64 sequence, token;
    int head, key_head, first_query, back, ahead;
};

DEVICE FlashTask task_of(int group, int heads, int key_heads, int length, int causal, int window) {
    const int tiles = (length + FLASH_QUERIES - 1) / FLASH_QUERIES;
    const int sequence = group / tiles / heads, head = group / tiles % heads;
    /* With a causal mask the last queries see the most: they begin first. */
    const int first_query = (tiles - 1 - group % tiles) * FLASH_QUERIES;
    return {sequence, (i64)sequence * length, head, head / (heads / key_heads), first_query,
        (window > 0 ? window : length) - 1, causal ? 0 : length};
}

/* Whether bf16 may have cut off parts of it. */
DEVICE bool is_small(float value) { return value != 0 && fabs(value) < SMALLEST; }

template <int HEAD> DEVICE float score_of(const float *query, const float *key, float scale) {
    float score = 0;
#pragma unroll 4
    for (int d = 0; d < HEAD; d++) {
        score = FMA(query[d], key[d], score);
    }
    return score * scale;
}

/* Elements of a row, two of every eight, without tensor cores: keys from `first` to `last` that are visible. */
template <int HEAD>
DEVICE void attend_again(float *output, int first, int last, const int *visible, const float *query, const float *keys,
    i64 key_stride, const float *values, i64 value_stride, float scale) {
    float largest = -INFINITY;
#pragma unroll 1
    for (int k = first; k <= last; k++) {
        if (visible == 0 || visible[k] != 0) {
            largest = fmaxf(largest, score_of<HEAD>(query, keys + k * key_stride, scale));
        }
    }
#pragma unroll 1
    for (int column = LANE % 4 * 2; column < HEAD; column += column % 2 == 0 ? 1 : 7) {
        float total = 0, sum = 0;
#pragma unroll 1
        for (int k = first; k <= last; k++) {
            if (visible == 0 || visible[k] != 0) {
                const float weight = EXP(score_of<HEAD>(query, keys + k * key_stride, scale) - largest);
                total += weight;
                sum = FMA(weight, values[k * value_stride + column], sum);
            }
        }
        output[column] = total == 0 ? 0 : sum / total;
    }
}

template <int HEAD>
DEVICE void attend(FlashTile<HEAD> *tile, int *is_cut, IN(float, query), IN(float, key), IN(float, value), IN(int, visible),
    OUT(float, output), int heads, int key_heads, int length, float scale, int causal, int window) {
    /* Products of 16 x 8 between two branches, over which ptxas loads nothing ahead: as many as registers hold. */
    constexpr int TOGETHER = HEAD > 64 ? 4 : 2;
    const FlashTask task = task_of((int)GROUP_ID, heads, key_heads, length, causal, window);
    const int first_warp = task.first_query + WARP_ID * 16; /* the warp's first query, and what it sees */
    const int first_in_sight = first_warp - task.back, last_in_sight = first_warp + task.ahead;
    const int last_query = min(task.first_query + FLASH_QUERIES, length), end = causal ? last_query : length;
    const int first_seen = window > 0 ? max(0, task.first_query - window + 1) : 0;
    const float *queries = ROW(query, task.token) + task.head * HEAD;
    const float *all_keys = ROW(key, task.token) + task.key_head * HEAD;
    const float *all_values = ROW(value, task.token) + task.key_head * HEAD;
    const int *visible_row = visible == 0 ? 0 : ROW(visible, task.sequence);

    const auto noted = [is_cut](float4 value, int, int) {
        if (is_small(value.x) || is_small(value.y) || is_small(value.z) || is_small(value.w)) {
            *is_cut = 1;
        }
        return value;
    };
    float sums[HEAD / 8][4] = {}, maximum[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    if (LOCAL_ID == 0) {
        *is_cut = 0;
    }
    stage_rows(tile, all_keys + first_seen * key_stride, key_stride, end - first_seen);
#pragma unroll 1
    for (int first_key = first_seen; first_key < end; first_key += FLASH_KEYS) {
        float scores[FLASH_KEYS / 8][4] = {};
        const int own_key = first_key + LANE;
        /* The keys that are visible and not too far away from all queries of the warp. */
        const uint wanted = BALLOT(own_key < end && (visible_row == 0 || visible_row[own_key] != 0))
            & bits_of(first_in_sight - first_key, last_in_sight + 15 - first_key);
        await_copies();
        BARRIER;
        split_rows(tile, noted);
        BARRIER;
        stage_rows(tile, all_values + first_key * value_stride, value_stride, end - first_key);
#pragma unroll 1
        for (int d = 0; d < HEAD; d += DEPTH) {
            uint left[PARTS][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int r = fresh(first_warp) + LANE / 4 + i % 2 * 8;
                float2 pair = {0, 0};
                if (r < length) {
                    pair = LOAD2(queries + r * query_stride + d + LANE % 4 * 2 + i / 2 * 8);
                }
                split_pair(pair.x, pair.y, left, i);
            }
#pragma unroll
            for (int j = 0; j < FLASH_KEYS / 8; j += TOGETHER) {
                if (fresh(wanted) == 0) {
                    continue;
                }
#pragma unroll
                for (int half = 0; half < TOGETHER; half += 2) {
                    const int k = (j + half) * 8 + LANE % 8 + LANE / 16 * 8;
                    add_product<false>(scores + j + half, left, tile, k, d + LANE / 8 % 2 * 8);
                }
            }
        }
        await_copies();
        BARRIER;
        split_rows(tile, noted);
        if (first_key + FLASH_KEYS < end) {
            stage_rows(tile, all_keys + (first_key + FLASH_KEYS) * key_stride, key_stride, end - first_key - FLASH_KEYS);
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int place = LANE / 4 + 8 * h - first_key;
            const uint bits = (wanted & bits_of(first_in_sight + place, last_in_sight + place)) >> LANE % 4 * 2;
            float largest = maximum[h];
#pragma unroll
            for (int j = 0; j < FLASH_KEYS / 8; j++) {
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    const bool seen = (bits >> (j * 8 + e % 2) & 1) != 0;
                    scores[j][e] = seen ? scores[j][e] * scale : -INFINITY;
                    largest = fmaxf(largest, scores[j][e]);
                }
            }
            largest = largest_of_row(largest);
            const float middle = largest == -INFINITY ? 0 : largest, shrink = EXP(maximum[h] - middle);
            maximum[h] = largest;
            total[h] *= shrink;
#pragma unroll
            for (int i = 0; i < HEAD / 8; i++) {
                sums[i][2 * h] *= shrink;
                sums[i][2 * h + 1] *= shrink;
            }
#pragma unroll
            for (int j = 0; j < FLASH_KEYS / 8; j++) {
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    scores[j][e] = EXP(scores[j][e] - middle);
                    total[h] += scores[j][e];
                }
            }
        }
        BARRIER;
#pragma unroll
        for (int j = 0; j < FLASH_KEYS / DEPTH; j++) {
            uint left[PARTS][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = scores[2 * j + i / 2] + i % 2 * 2;
                split_pair(pair[0], pair[1], left, i);
            }
#pragma unroll
            for (int i = 0; i < HEAD / 8; i += TOGETHER) {
                if ((fresh(wanted) >> j * DEPTH & 0xffff) == 0) {
                    continue;
                }
#pragma unroll
                for (int half = 0; half < TOGETHER; half += 2) {
                    const int c = (i + half) * 8 + LANE / 16 * 8;
                    add_product<true>(sums + i + half, left, tile, j * DEPTH + LANE % 16, c);
                }
            }
        }
    }
    const FlashTask same = task_of(fresh((int)GROUP_ID), heads, key_heads, length, causal, window);
    const bool is_exact = *is_cut == 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int position = same.first_query + WARP_ID * 16 + LANE / 4 + 8 * h;
        const float weight = sum_of_row(total[h]), share = 1 / weight;
        float *out = ROW(output, same.token + position) + same.head * HEAD;
        bool good = weight > 0;
#pragma unroll
        for (int i = 0; i < HEAD / 8; i++) {
            const float2 result = {sums[i][2 * h] * share, sums[i][2 * h + 1] * share};
            good = good && is_finite(result.x) && is_finite(result.y)
                && (is_exact || (fabs(result.x) >= SMALLEST && fabs(result.y) >= SMALLEST));
            if (position < length) {
                STORE2(out + i * 8 + LANE % 4 * 2, result);
            }
        }
        if (position < length && !good) {
            attend_again<HEAD>(out, max(0, position - same.back), min(position + same.ahead, length - 1),
                visible == 0 ? 0 : ROW(visible, same.sequence), ROW(query, same.token + position) + same.head * HEAD,
                ROW(key, same.token) + same.key_head * HEAD, key_stride, ROW(value, same.token) + same.key_head * HEAD,
                value_stride, scale);
        }
    }
}

TUNED_KERNEL(attention_tensor32_f32, 2)(IN(float, query), IN(float, key), IN(float, value), IN(int, visible),
    OUT(float, output), int heads, int key_heads, int length, float scale, int causal, int window) {
    LOCAL FlashTile<32> tile;
    LOCAL int is_cut; /* whether an element was small */
    attend<32>(&tile, &is_cut, MATRIX(query), MATRIX(key), MATRIX(value), MATRIX(visible), MATRIX(output), heads, key_heads, length,
        scale, causal, window);
}

TUNED_KERNEL(attention_tensor64_f32, 2)(IN(float, query), IN(float, key), IN(float, value), IN(int, visible),
    OUT(float, output), int heads, int key_heads, int length, float scale, int causal, int window) {
    LOCAL FlashTile<64> tile;
    LOCAL int is_cut; /* whether an element was small */
    attend<64>(&tile, &is_cut, MATRIX(query), MATRIX(key), MATRIX(value), MATRIX(visible), MATRIX(output), heads, key_heads, length,
        scale, causal, window);
}

TUNED_KERNEL(attention_tensor96_f32, 1)(IN(float, query), IN(float, key), IN(float, value), IN(int, visible),
    OUT(float, output), int heads, int key_heads, int length, float scale, int causal, int window) {
    LOCAL FlashTile<96> tile;
    LOCAL int is_cut; /* whether an element was small */
    attend<96>(&tile, &is_cut, MATRIX(query), MATRIX(key), MATRIX(value), MATRIX(visible), MATRIX(output), heads, key_heads, length,
        scale, causal, window);
}

TUNED_KERNEL(attention_tensor128_f32, 1)(IN(float, query), IN(float, key), IN(float, value), IN(int, visible),
    OUT(float, output), int heads, int key_heads, int length, float scale, int causal, int window) {
    LOCAL FlashTile<128> tile;
    LOCAL int is_cut; /* whether an element was small */
    attend<128>(&tile, &is_cut, MATRIX(query), MATRIX(key), MATRIX(value), MATRIX(visible), MATRIX(output), heads, key_heads, length,
        scale, causal, window);
}
