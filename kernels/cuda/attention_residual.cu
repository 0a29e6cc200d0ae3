/* attention_residual_*_f32 on tensor cores for heads of 32, 64 and 128, with the numbers of a row that attention_residual.inc has.
 * A group takes FLASH_QUERIES queries of a head, or keys of a key head, 16 a warp, and passes over the tokens on the other side,
 * FLASH_KEYS at a time, in bf16 parts (ADR 25): those that are copied next while these are multiplied.
 *
 * Logits are q k, their differences dq k + q~ dk. Rows of keys multiply the same parts in the same order, left with right
 * exchanged, so that a pair has the same bits either way: where P nears 1, R less that of the largest P would feel an ulp. What
 * is not finite in k~ and q~ is 0 in the products with S; the rows that see it are NaN by their numbers. */
#include "cuda/flash.h"

/* One head's rows of a sequence, and what pruning adds to them. TunedKernels holds their strides to 32 bits: registers are few. */
struct Rows {
    const float *dense, *difference;
    int stride, difference_stride;
};

DEVICE Rows rows_of(IN(float, dense), IN(float, difference), i64 token, int column) {
    return {ROW(dense, token) + column, ROW(difference, token) + column, (int)dense_stride, (int)difference_stride};
}

/* A tile of the tokens on the other side: as they are, their differences, or their sums where they are finite. */
enum Kind { DENSE_ROWS, DIFFERENCES, PRUNED };

template <int HEAD> DEVICE void stage_kind(FlashTile<HEAD> *tile, Kind kind, Rows rows, int first, int end) {
    if (kind == DENSE_ROWS) {
        stage_rows(tile, rows.dense + (i64)first * rows.stride, rows.stride, end - first);
    } else {
        stage_rows(tile, rows.difference + (i64)first * rows.difference_stride, rows.difference_stride, end - first);
    }
}

DEVICE float finite_sum(float dense, float difference) {
    const float pruned = dense + difference;
    return is_finite(pruned) ? pruned : 0;
}

/* Waits for a staged tile and splits it, then has the next one copied. */
template <int HEAD>
DEVICE void take_tile(FlashTile<HEAD> *tile, Kind kind, Rows rows, int first, int end, Kind next_kind, Rows next, int next_first,
    int next_end) {
    await_copies();
    BARRIER;
    split_rows(tile, [=](float4 value, int row, int column) {
        if (kind == PRUNED && first + row < end) {
            const float4 dense = LOAD4(rows.dense + (i64)(first + row) * rows.stride + column);
            value = {finite_sum(dense.x, value.x), finite_sum(dense.y, value.y), finite_sum(dense.z, value.z),
                finite_sum(dense.w, value.w)};
        }
        return value;
    });
    BARRIER;
    if (next_first < next_end) {
        stage_kind(tile, next_kind, next, next_first, next_end);
    }
}

/* add_product with the two sides exchanged: the rows' parts are those of the right side there. */
template <int HEAD>
DEVICE void add_mirrored(float sums[2][4], const uint left[PARTS][4], const FlashTile<HEAD> *tile, int row, int column) {
    float terms[2][4] = {};
    uint right[PARTS][4];
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        load_matrices(right[p], &tile->parts[p][row][column / 4]);
    }
#pragma unroll
    for (int q = PARTS - 1; q >= 0; q--) {
#pragma unroll
        for (int p = PARTS - 1 - q; p >= 0; p--) {
            multiply_add(terms[0], left[q], right[p]);
            multiply_add(terms[1], left[q], right[p] + 2);
        }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        sums[0][e] += terms[0][e];
        sums[1][e] += terms[1][e];
    }
}

/* sums += the warp's 16 rows times those of the tile, of which any are `wanted`, where the rows are `kind` of `rows` from `first`
 * on. ptxas loads nothing ahead over a branch: registers are few. */
template <int HEAD, bool MIRRORED>
DEVICE void multiply_rows(float sums[FLASH_KEYS / 8][4], const FlashTile<HEAD> *tile, uint wanted, Kind kind, Rows rows, int first,
    int count) {
    const float *values = kind == DIFFERENCES ? rows.difference : rows.dense;
    const int stride = kind == DIFFERENCES ? rows.difference_stride : rows.stride;
#pragma unroll 1
    for (int d = 0; d < HEAD; d += DEPTH) {
        uint left[PARTS][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int r = fresh(first) + LANE / 4 + i % 2 * 8, column = d + LANE % 4 * 2 + i / 2 * 8;
            float2 pair = {0, 0};
            if (r < count) {
                pair = LOAD2(values + (i64)r * stride + column);
                if (kind == PRUNED) {
                    const float2 more = LOAD2(rows.difference + (i64)r * rows.difference_stride + column);
                    pair = {pair.x + more.x, pair.y + more.y};
                }
            }
            split_pair(pair.x, pair.y, left, i);
        }
#pragma unroll
        for (int j = 0; j < FLASH_KEYS / 8; j += 2) {
            if (fresh(wanted) == 0) {
                continue;
            }
            const int row = j * 8 + LANE % 8 + LANE / 16 * 8, column = d + LANE / 8 % 2 * 8;
            if (MIRRORED) {
                add_mirrored(sums + j, left, tile, row, column);
            } else {
                add_product<false>(sums + j, left, tile, row, column);
            }
        }
    }
}

/* sums += S of the warp's rows times the tile. */
template <int HEAD>
DEVICE void add_slopes(float sums[HEAD / 8][4], const float slopes[FLASH_KEYS / 8][4], const FlashTile<HEAD> *tile, uint wanted) {
#pragma unroll
    for (int j = 0; j < FLASH_KEYS / DEPTH; j++) {
        uint left[PARTS][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = slopes[2 * j + i / 2] + i % 2 * 2;
            split_pair(pair[0], pair[1], left, i);
        }
#pragma unroll
        for (int i = 0; i < HEAD / 8; i += 2) {
            if ((fresh(wanted) >> j * DEPTH & 0xffff) == 0) {
                continue;
            }
            add_product<true>(sums + i, left, tile, j * DEPTH + LANE % 16, i * 8 + LANE / 16 * 8);
        }
    }
}

template <int HEAD>
DEVICE void store_gradient(OUT(float, gradient), i64 token, int column, int first, int length, const float sums[HEAD / 8][4],
    float scale) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int position = first + LANE / 4 + 8 * h;
        if (position < length) {
            float *out = ROW(gradient, token + position) + column + LANE % 4 * 2;
#pragma unroll
            for (int i = 0; i < HEAD / 8; i++) {
                out[i * 8] = scale * sums[i][2 * h];
                out[i * 8 + 1] = scale * sums[i][2 * h + 1];
            }
        }
    }
}

/* S / scale of a pair, from the numbers of its query. */
DEVICE float slope_of(const float *state, float logit, float difference) {
    float r;
    const float pruned = residual_of(
        state[FORM], state[LARGEST], state[SHARE], state[SHIFT], state[EXCESS], logit, difference, &r);
    return pruned * (r - state[PIVOT] - state[MEAN]);
}

/* What a group does: its rows are those of a head from `first` on, and see visible tokens from `back` before to `ahead` behind
 * their own. */
struct ResidualTask {
    i64 sequence, token;
    int head, first, back, ahead;
};

/* Of the tokens from `first` on, those that are visible and in sight of a warp's rows. */
DEVICE uint tokens_in_sight(const int *visible_row, int first, int end, int first_of_warp, int back, int ahead) {
    const int own = first + LANE;
    return BALLOT(own < end && (visible_row == 0 || visible_row[own] != 0))
        & bits_of(first_of_warp - back - first, first_of_warp + 15 + ahead - first);
}

/* Those of them that each of a thread's two rows sees, from the thread's first of every eight on. */
DEVICE void bits_of_rows(
    uint bits[2], uint wanted, const int *visible_row, int first_of_warp, int length, int first, int back, int ahead) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int row = first_of_warp + LANE / 4 + 8 * h;
        const bool is_there = row < length && (visible_row == 0 || visible_row[row] != 0);
        bits[h] = is_there ? (wanted & bits_of(row - back - first, row + ahead - first)) >> LANE % 4 * 2 : 0;
    }
}

DEVICE bool sees(const uint bits[2], int j, int e) { return (bits[e / 2] >> (j * 8 + e % 2) & 1) != 0; }

/* The next eight columns' values take the place of the first ones, so that a loop over them needs no code for each. */
DEVICE void rotate(float values[FLASH_KEYS / 8][4], int e, float last) {
#pragma unroll
    for (int j = 1; j < FLASH_KEYS / 8; j++) {
        values[j - 1][e] = values[j][e];
    }
    values[FLASH_KEYS / 8 - 1][e] = last;
}

DEVICE ResidualTask task_of_queries(int group, int heads, int length, int causal, int window) {
    const int tiles = (length + FLASH_QUERIES - 1) / FLASH_QUERIES, sequence = group / tiles / heads;
    /* With a causal mask the last queries see the most: they begin first. */
    return {sequence, (i64)sequence * length, group / tiles % heads, (tiles - 1 - group % tiles) * FLASH_QUERIES,
        (window > 0 ? window : length) - 1, causal ? 0 : length};
}

/* What a query's pass over its keys has found, in the four threads that share its row. */
struct RowSums {
    float form, largest, total, shift, excess, pruned_largest, top, top_difference, highest, lowest, pivot, sum, more;
};

DEVICE void add_pair(RowSums *row, int pass, float s, float d) {
    if (pass == 0) {
        row->form = DIFFERENCE;
        if (s > row->largest) {
            const float shrink = EXP(row->largest - s);
            row->sum *= shrink;
            row->more *= shrink;
            row->largest = s;
        }
        const float weight = EXP(s - row->largest);
        row->sum += weight;
        row->more = FMA(weight, d, row->more);
        if (s + d > row->pruned_largest) {
            row->pruned_largest = s + d;
            row->top = s;
            row->top_difference = d;
        }
        row->highest = d > row->highest ? d : row->highest;
        row->lowest = -d > row->lowest ? -d : row->lowest;
    } else if (pass == 1) {
        row->sum += row->form == DIRECT ? EXP(s + d - row->shift) : EXP(s - row->largest) * expm1(d - row->shift);
    } else {
        float r;
        const float pruned = residual_of(row->form, row->largest, row->total, row->shift, row->excess, s, d, &r);
        row->sum = FMA(pruned, r - row->pivot, row->sum);
        row->more = FMA(r, r, row->more);
    }
}

/* What the row's four threads found becomes what the next pass needs. */
DEVICE void finish_pass(RowSums *row, int pass) {
    if (pass == 0) {
        const float own = row->largest, own_pruned = row->pruned_largest;
        row->largest = largest_of_row(own);
        const float shrink = own == row->largest ? 1 : EXP(own - row->largest);
        row->total = 1 / sum_of_row(row->sum * shrink);
        row->shift = sum_of_row(row->more * shrink) * row->total;
        row->pruned_largest = largest_of_row(own_pruned);
        const float own_top = own_pruned == row->pruned_largest ? row->top : -INFINITY;
        row->top = largest_of_row(own_top);
        row->top_difference = largest_of_row(own_top == row->top ? row->top_difference : -INFINITY);
        row->form = largest_of_row(row->form);
        const float span = largest_of_row(row->highest) + largest_of_row(row->lowest);
        if (span > APART && span < INFINITY) { /* else what is infinite makes NaN of all */
            row->form = DIRECT;
            row->shift = row->pruned_largest;
        }
    } else if (pass == 1) {
        const float sum = sum_of_row(row->sum);
        row->excess = row->form == DIRECT ? 1 / sum : sum * row->total;
        residual_of(
            row->form, row->largest, row->total, row->shift, row->excess, row->top, row->top_difference, &row->pivot);
    } else {
        return;
    }
    row->sum = 0;
    row->more = 0;
}

/* Maxima, the total and m; then z or the total of the pruned weights; then what is summed over residuals. */
template <int HEAD>
DEVICE void residual_rows(FlashTile<HEAD> *tile, IN(float, query), IN(float, key), IN(float, query_difference),
    IN(float, key_difference), IN(int, visible), OUT(float, states), int heads, int key_heads, int length, float scale,
    int causal, int window) {
    const ResidualTask task = task_of_queries((int)GROUP_ID, heads, length, causal, window);
    const int column = task.head * HEAD, key_column = task.head / (heads / key_heads) * HEAD;
    const Rows queries = rows_of(MATRIX(query), MATRIX(query_difference), task.token, column);
    const Rows keys = rows_of(MATRIX(key), MATRIX(key_difference), task.token, key_column);
    const int first_of_warp = task.first + WARP_ID * 16, end = causal ? min(task.first + FLASH_QUERIES, length) : length;
    const int first_seen = max(0, task.first - task.back);
    const int *visible_row = visible == 0 ? 0 : ROW(visible, task.sequence);
    RowSums rows[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        rows[h] = {BLIND, -INFINITY, 0, 0, 0, -INFINITY, 0, 0, -INFINITY, -INFINITY, 0, 0, 0};
    }
    stage_kind(tile, DENSE_ROWS, keys, first_seen, end);
#pragma unroll 1
    for (int pass = 0; pass < 3; pass++) {
#pragma unroll 1
        for (int first = first_seen; first < end; first += FLASH_KEYS) {
            float logits[FLASH_KEYS / 8][4] = {}, differences[FLASH_KEYS / 8][4] = {};
            const uint wanted = tokens_in_sight(visible_row, first, end, first_of_warp, task.back, task.ahead);
            take_tile(tile, DENSE_ROWS, keys, first, end, DIFFERENCES, keys, first, end);
            if (wanted != 0) {
                multiply_rows<HEAD, false>(logits, tile, wanted, DENSE_ROWS, queries, first_of_warp, length);
                multiply_rows<HEAD, false>(differences, tile, wanted, DIFFERENCES, queries, first_of_warp, length);
            }
            /* Behind the last tile the next pass begins. */
            const bool is_last = first + FLASH_KEYS >= end;
            take_tile(tile, DIFFERENCES, keys, first, end, DENSE_ROWS, keys, is_last ? first_seen : first + FLASH_KEYS,
                is_last && pass == 2 ? 0 : end);
            if (wanted == 0) {
                continue;
            }
            multiply_rows<HEAD, false>(differences, tile, wanted, PRUNED, queries, first_of_warp, length);
            uint bits[2];
            bits_of_rows(bits, wanted, visible_row, first_of_warp, length, first, task.back, task.ahead);
#pragma unroll 1
            for (int j = 0; j < FLASH_KEYS / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (sees(bits, j, e)) {
                        add_pair(&rows[e / 2], pass, scale * logits[0][e], scale * differences[0][e]);
                    }
                    rotate(logits, e, 0);
                    rotate(differences, e, 0);
                }
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            finish_pass(&rows[h], pass);
        }
    }
    const ResidualTask same = task_of_queries(fresh((int)GROUP_ID), heads, length, causal, window);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int position = same.first + WARP_ID * 16 + LANE / 4 + 8 * h;
        const float mean = sum_of_row(rows[h].sum), squares = sum_of_row(rows[h].more);
        if (position < length && LANE % 4 == 0) {
            float *state = ROW(states, (same.sequence * heads + same.head) * length + position);
            state[FORM] = rows[h].form;
            state[LARGEST] = rows[h].largest;
            state[SHARE] = rows[h].total;
            state[SHIFT] = rows[h].shift;
            state[EXCESS] = rows[h].excess;
            state[PIVOT] = rows[h].pivot;
            state[MEAN] = mean;
            state[SQUARES] = squares;
        }
    }
}

template <int HEAD>
DEVICE void residual_query(FlashTile<HEAD> *tile, IN(float, query), IN(float, key), IN(float, query_difference),
    IN(float, key_difference), IN(int, visible), IN(float, states), OUT(float, gradient), int heads, int key_heads, int length,
    float scale, int causal, int window) {
    const ResidualTask task = task_of_queries((int)GROUP_ID, heads, length, causal, window);
    const int column = task.head * HEAD, key_column = task.head / (heads / key_heads) * HEAD;
    const Rows queries = rows_of(MATRIX(query), MATRIX(query_difference), task.token, column);
    const Rows keys = rows_of(MATRIX(key), MATRIX(key_difference), task.token, key_column);
    const int first_of_warp = task.first + WARP_ID * 16, end = causal ? min(task.first + FLASH_QUERIES, length) : length;
    const int first_seen = max(0, task.first - task.back);
    const int *visible_row = visible == 0 ? 0 : ROW(visible, task.sequence);
    float sums[HEAD / 8][4] = {};
    stage_kind(tile, DENSE_ROWS, keys, first_seen, end);
#pragma unroll 1
    for (int first = first_seen; first < end; first += FLASH_KEYS) {
        float logits[FLASH_KEYS / 8][4] = {}, differences[FLASH_KEYS / 8][4] = {};
        const uint wanted = tokens_in_sight(visible_row, first, end, first_of_warp, task.back, task.ahead);
        take_tile(tile, DENSE_ROWS, keys, first, end, DIFFERENCES, keys, first, end);
        if (wanted != 0) {
            multiply_rows<HEAD, false>(logits, tile, wanted, DENSE_ROWS, queries, first_of_warp, length);
            multiply_rows<HEAD, false>(differences, tile, wanted, DIFFERENCES, queries, first_of_warp, length);
        }
        take_tile(tile, DIFFERENCES, keys, first, end, PRUNED, keys, first, end);
        if (wanted != 0) {
            multiply_rows<HEAD, false>(differences, tile, wanted, PRUNED, queries, first_of_warp, length);
        }
        take_tile(tile, PRUNED, keys, first, end, DENSE_ROWS, keys, first + FLASH_KEYS, end);
        if (wanted == 0) {
            continue;
        }
        uint bits[2];
        bits_of_rows(bits, wanted, visible_row, first_of_warp, length, first, task.back, task.ahead);
#pragma unroll 1
        for (int j = 0; j < FLASH_KEYS / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float slope = 0;
                if (sees(bits, j, e)) {
                    const i64 position = first_of_warp + LANE / 4 + e / 2 * 8;
                    slope = slope_of(
                        ROW(states, (task.sequence * heads + task.head) * length + position), scale * logits[0][e],
                        scale * differences[0][e]);
                }
                rotate(logits, e, slope);
                rotate(differences, e, 0);
            }
        }
        add_slopes(sums, logits, tile, wanted);
    }
    const ResidualTask same = task_of_queries(fresh((int)GROUP_ID), heads, length, causal, window);
    store_gradient<HEAD>(MATRIX(gradient), same.token, same.head * HEAD, same.first + WARP_ID * 16, length, sums, scale);
}

/* Numbers of the queries of a tile. */
typedef float TileStates[FLASH_KEYS][STATES];

template <int HEAD>
DEVICE void residual_key(FlashTile<HEAD> *tile, TileStates *tile_states, IN(float, query), IN(float, key),
    IN(float, query_difference), IN(float, key_difference), IN(int, visible), IN(float, states), OUT(float, gradient),
    int heads, int key_heads, int length, float scale, int causal, int window) {
    const int tiles = (length + FLASH_QUERIES - 1) / FLASH_QUERIES, sequence = (int)GROUP_ID / tiles / key_heads;
    const int members = heads / key_heads, key_head = (int)GROUP_ID / tiles % key_heads;
    /* The first keys are seen by the most queries. */
    const ResidualTask task = {sequence, (i64)sequence * length, key_head, (int)GROUP_ID % tiles * FLASH_QUERIES,
        causal ? 0 : length, (window > 0 ? window : length) - 1};
    const Rows keys = rows_of(MATRIX(key), MATRIX(key_difference), task.token, key_head * HEAD);
    const int first_of_warp = task.first + WARP_ID * 16;
    const int first_seeing = causal ? task.first : 0;
    const int end = window > 0 && task.first + FLASH_QUERIES - 1 < length - window ? task.first + FLASH_QUERIES - 1 + window : length;
    const int *visible_row = visible == 0 ? 0 : ROW(visible, task.sequence);
    float sums[HEAD / 8][4] = {};
#pragma unroll 1
    for (int member = 0; member < members; member++) {
        const int head = key_head * members + member;
        const Rows queries = rows_of(MATRIX(query), MATRIX(query_difference), task.token, head * HEAD);
        stage_kind(tile, DENSE_ROWS, queries, first_seeing, end);
#pragma unroll 1
        for (int first = first_seeing; first < end; first += FLASH_KEYS) {
            float logits[FLASH_KEYS / 8][4] = {}, differences[FLASH_KEYS / 8][4] = {};
            const uint wanted = tokens_in_sight(visible_row, first, end, first_of_warp, task.back, task.ahead);
            take_tile(tile, DENSE_ROWS, queries, first, end, DIFFERENCES, queries, first, end);
            const int q = first + LOCAL_ID / STATES;
            if (q < end) {
                (*tile_states)[LOCAL_ID / STATES][LOCAL_ID % STATES] =
                    ROW(states, (task.sequence * heads + head) * length + q)[LOCAL_ID % STATES];
            }
            if (wanted != 0) {
                multiply_rows<HEAD, true>(logits, tile, wanted, DENSE_ROWS, keys, first_of_warp, length);
            }
            take_tile(tile, DIFFERENCES, queries, first, end, PRUNED, queries, first, end);
            if (wanted != 0) {
                multiply_rows<HEAD, true>(differences, tile, wanted, DENSE_ROWS, keys, first_of_warp, length);
            }
            take_tile(tile, PRUNED, queries, first, end, DENSE_ROWS, queries, first + FLASH_KEYS, end);
            if (wanted == 0) {
                continue;
            }
            multiply_rows<HEAD, true>(differences, tile, wanted, DIFFERENCES, keys, first_of_warp, length);
            uint bits[2];
            bits_of_rows(bits, wanted, visible_row, first_of_warp, length, first, task.back, task.ahead);
#pragma unroll 1
            for (int j = 0; j < FLASH_KEYS / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    float slope = 0;
                    if (sees(bits, j, e)) {
                        slope = slope_of((*tile_states)[j * 8 + LANE % 4 * 2 + e % 2], scale * logits[0][e],
                            scale * differences[0][e]);
                    }
                    rotate(logits, e, slope);
                    rotate(differences, e, 0);
                }
            }
            add_slopes(sums, logits, tile, wanted);
        }
    }
    store_gradient<HEAD>(MATRIX(gradient), task.token, key_head * HEAD, first_of_warp, length, sums, scale);
}

#define OPERANDS \
    IN(float, query), IN(float, key), IN(float, query_difference), IN(float, key_difference), IN(int, visible)
#define GEOMETRY int heads, int key_heads, int length, float scale, int causal, int window
#define GIVEN MATRIX(query), MATRIX(key), MATRIX(query_difference), MATRIX(key_difference), MATRIX(visible)

#define RESIDUAL_KERNELS(head, rows_resident, resident) \
    TUNED_KERNEL(attention_residual_rows_tensor##head##_f32, rows_resident)(OPERANDS, OUT(float, states), GEOMETRY) { \
        LOCAL FlashTile<head> tile; \
        residual_rows<head>(&tile, GIVEN, MATRIX(states), heads, key_heads, length, scale, causal, window); \
    } \
    TUNED_KERNEL(attention_residual_query_tensor##head##_f32, resident) \
    (OPERANDS, IN(float, states), OUT(float, gradient), GEOMETRY) { \
        LOCAL FlashTile<head> tile; \
        residual_query<head>(&tile, GIVEN, MATRIX(states), MATRIX(gradient), heads, key_heads, length, scale, causal, window); \
    } \
    TUNED_KERNEL(attention_residual_key_tensor##head##_f32, resident) \
    (OPERANDS, IN(float, states), OUT(float, gradient), GEOMETRY) { \
        LOCAL FlashTile<head> tile; \
        LOCAL TileStates tile_states; \
        residual_key<head>(&tile, &tile_states, GIVEN, MATRIX(states), MATRIX(gradient), heads, key_heads, length, scale, \
            causal, window); \
    }

RESIDUAL_KERNELS(32, 2, 2)
RESIDUAL_KERNELS(64, 2, 2)
RESIDUAL_KERNELS(128, 2, 1)
