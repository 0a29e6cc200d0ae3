/* Marks the smallest scores |w| * scale as pruned: bit c % 32 of mask word c / 32. Equal scores are pruned by lower column
 * first, so a mask is that of a stable ascending sort, bit for bit, on every tier (Wanda, 2306.11695, section 3; STADE,
 * 2503.22451).
 *
 * Selection by rows never sorts. Each row is read once:
 *   predict   the threshold lies near the previous row's: a bracket of 1/8 octave to either side of it
 *   compact   one pass makes the keys, counts those below the bracket and packs those inside it
 *   resolve   the threshold, a key of known rank among the packed ones, by bisection of the key range, packing what is
 *             left as the range shrinks
 *   emit      one comparison a key; rows whose threshold value repeats beyond the budget are marked in order
 * A bracket that misses only costs time: the search then starts from all keys and the whole range. So the mask of a row
 * never depends on the rows before it, nor on how rows are split into calls.
 *
 * Groups of 2, 4, 8 or 16 columns that fit a vector are ranked there: the rank of a key is the number of keys of its
 * group that are smaller, or equal and further left, counted over the rotations of the group. */
#include "score_key.h"

#define ALL_LANES (~0u >> (32 - LANES))

/* AHEAD: a row is one stream of memory, too few for one core to fill its bandwidth without asking early. */
enum { BRACKET = 1 << 20, AHEAD = 1024 };

/* The threshold of a selection: keys below `key` are pruned, and the first `ties` of those equal to it. */
struct threshold {
    int32_t key;
    int64_t ties;
};

/* The key of rank `rank` (from 1) among keys[0..count), and how many of the keys equal to it are pruned. The keys of that
 * rank lie in [low, high]. Overwrites the keys and up to LANES elements after them. */
static struct threshold resolve(int32_t *keys, int64_t count, int64_t rank, int32_t low, int32_t high) {
    int64_t below_low = 0, up_to_high = count;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2; /* [low, middle] or [middle + 1, high] */
        const vi bound = splat_int(middle);
        int64_t above = 0, i = 0;
        for (; i + LANES <= count; i += LANES) {
            above += __builtin_popcount(bits_less(bound, load_int(keys + i)));
        }
        for (; i < count; i++) {
            above += keys[i] > middle;
        }
        if (rank > count - above) {
            low = middle + 1;
            below_low = count - above;
        } else {
            high = middle;
            up_to_high = count - above;
        }
        if (up_to_high - below_low <= count / 2) {
            const vi from = splat_int(low), to = splat_int(high);
            int64_t kept = 0;
            for (i = 0; i + LANES <= count; i += LANES) {
                vi v = load_int(keys + i);
                kept += compress(keys + kept, v, ~(bits_less(v, from) | bits_less(to, v)) & ALL_LANES);
            }
            for (; i < count; i++) {
                int32_t key = keys[i];
                keys[kept] = key;
                kept += key >= low && key <= high;
            }
            count = up_to_high = kept;
            rank -= below_low;
            below_low = 0;
        }
    }
    return (struct threshold){low, rank - below_low};
}

/* Writes the mask of one row; every word of it, unused bits as 0. Returns how many ties it took. */
static int64_t emit(const int32_t *keys, uint32_t *words, int64_t cols, struct threshold at) {
    const vi cut = splat_int(at.key);
    int64_t ties = at.ties;
    for (int64_t w = 0; w * 32 < cols; w++) {
        uint32_t less = 0, equal = 0;
        for (int part = 0; part < 32; part += LANES) {
            vi v = load_int(keys + w * 32 + part);
            less |= bits_less(v, cut) << part;
            equal |= bits_equal(v, cut) << part;
        }
        if (cols - w * 32 < 32) {
            uint32_t valid = ~(~0u << (cols - w * 32));
            less &= valid;
            equal &= valid;
        }
        while (equal != 0 && ties > 0) {
            less |= equal & -equal;
            equal &= equal - 1;
            ties--;
        }
        words[w] = less;
    }
    return at.ties - ties;
}

/* Keys of one row, padded with LARGEST_KEY to whole mask words. */
static void make_keys(const float *weights, const float *scale, int64_t cols, int32_t *keys) {
    for (int64_t c = 0; c < cols; c += LANES) {
        store_int(keys + c, score_keys_at(weights, scale, c, cols));
    }
}

static void fill_row(uint32_t *words, int64_t cols, uint32_t value) {
    for (int64_t w = 0; w * 32 < cols; w++) {
        words[w] = cols - w * 32 < 32 ? value & ~(~0u << (cols - w * 32)) : value;
    }
}

int KERNEL(score_select_row_f32)(
    const float *weights, int64_t weights_stride, const float *scale, uint32_t *mask, int64_t mask_stride,
    int64_t prune, int64_t cols, int64_t row_begin, int64_t row_end) {
    if (prune == 0 || prune == cols) {
        for (int64_t r = row_begin; r < row_end; r++) {
            fill_row(mask + r * mask_stride, cols, prune == 0 ? 0 : ~0u);
        }
        return SENTEI_OK;
    }
    const int64_t padded = (cols + 31) / 32 * 32;
    int32_t *keys = scratch(2 * padded + LANES, sizeof(int32_t));
    if (keys == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    int32_t *candidates = keys + padded;
    int32_t low = 0, high = -1; /* an empty bracket: nothing is known before the first row */
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = weights + r * weights_stride;
        int64_t below = 0, inside = 0;
        const vi from = splat_int(low), to = splat_int(high);
        for (int64_t c = 0; c < cols; c += LANES) {
            __builtin_prefetch(row + c + AHEAD);
            vi v = score_keys_at(row, scale, c, cols);
            store_int(keys + c, v);
            uint32_t under = bits_less(v, from);
            uint32_t within = ~(under | bits_less(to, v)) & ALL_LANES;
            below += __builtin_popcount(under);
            inside += compress(candidates + inside, v, within);
        }
        /* high < LARGEST_KEY, so the padding of the last vector is never inside. */
        struct threshold at;
        if (below < prune && prune <= below + inside) {
            at = resolve(candidates, inside, prune - below, low, high);
        } else {
            memcpy(candidates, keys, (size_t)cols * sizeof(int32_t));
            at = resolve(candidates, cols, prune, 0, LARGEST_KEY);
        }
        low = at.key > BRACKET ? at.key - BRACKET : 0;
        high = at.key < LARGEST_KEY - BRACKET ? at.key + BRACKET : LARGEST_KEY - 1;
        emit(keys, mask + r * mask_stride, cols, at);
    }
    free(keys);
    return SENTEI_OK;
}

#if LANES == 16
#define LANE_INDEX {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif LANES == 8
#define LANE_INDEX {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANE_INDEX {0, 1, 2, 3}
#endif

/* The mask bits of one vector of whole groups of `size` lanes, a power of two. */
INLINE uint32_t group_bits(vi keys, int32_t prune, int32_t size) {
    const vi lane = LANE_INDEX;
    const vi place = lane & (size - 1);
    vi rank = {0};
    for (int32_t turn = 1; turn < size; turn++) {
        vi source = (lane & ~(size - 1)) | ((place + turn) & (size - 1));
        vi other = __builtin_shuffle(keys, source);
        vi further_left = place + turn >= size;
        rank -= (other < keys) | ((other == keys) & further_left);
    }
    return bits_of(rank < prune);
}

INLINE void groups_row(
    const float *row, const float *scale, uint32_t *words, int64_t cols, int32_t prune, int32_t size) {
    for (int64_t w = 0; w * 32 < cols; w++) {
        uint32_t word = 0;
        for (int part = 0; part < 32 && w * 32 + part < cols; part += LANES) {
            word |= group_bits(score_keys_at(row, scale, w * 32 + part, cols), prune, size) << part;
        }
        words[w] = cols - w * 32 < 32 ? word & ~(~0u << (cols - w * 32)) : word;
    }
}

/* Groups of any size: each is a selection of its own. */
static int groups_any(
    const float *weights, int64_t weights_stride, const float *scale, uint32_t *mask, int64_t mask_stride,
    int64_t prune, int64_t size, int64_t cols, int64_t row_begin, int64_t row_end) {
    int32_t *keys = scratch(cols + size + 2 * LANES, sizeof(int32_t));
    if (keys == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    int32_t *candidates = keys + (cols + LANES - 1) / LANES * LANES;
    for (int64_t r = row_begin; r < row_end; r++) {
        uint32_t *words = mask + r * mask_stride;
        fill_row(words, cols, 0);
        make_keys(weights + r * weights_stride, scale, cols, keys);
        for (int64_t begin = 0; begin < cols; begin += size) {
            memcpy(candidates, keys + begin, (size_t)size * sizeof(int32_t));
            struct threshold at = resolve(candidates, size, prune, 0, LARGEST_KEY);
            for (int64_t c = begin; c < begin + size; c++) {
                int tie = keys[c] == at.key && at.ties > 0;
                at.ties -= tie;
                words[c / 32] |= (uint32_t)(keys[c] < at.key || tie) << (c % 32);
            }
        }
    }
    free(keys);
    return SENTEI_OK;
}

int KERNEL(score_select_groups_f32)(
    const float *weights, int64_t weights_stride, const float *scale, uint32_t *mask, int64_t mask_stride,
    int64_t prune, int64_t size, int64_t cols, int64_t row_begin, int64_t row_end) {
    if (size < 1 || cols % size != 0) {
        return SENTEI_BAD_ARGUMENT;
    }
    const int in_vector = prune > 0 && prune < size && size <= LANES && (size & (size - 1)) == 0;
    if (!in_vector && prune > 0 && prune < size) {
        return groups_any(
            weights, weights_stride, scale, mask, mask_stride, prune, size, cols, row_begin, row_end);
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = weights + r * weights_stride;
        uint32_t *words = mask + r * mask_stride;
        if (!in_vector) {
            fill_row(words, cols, prune == 0 ? 0 : ~0u);
        } else if (size == 2) {
            groups_row(row, scale, words, cols, (int32_t)prune, 2);
        } else if (size == 4) {
            groups_row(row, scale, words, cols, (int32_t)prune, 4);
#if LANES >= 8
        } else if (size == 8) {
            groups_row(row, scale, words, cols, (int32_t)prune, 8);
#endif
#if LANES >= 16
        } else {
            groups_row(row, scale, words, cols, (int32_t)prune, 16);
#endif
        }
    }
    return SENTEI_OK;
}

int KERNEL(score_select_cut_f32)(
    const float *weights, int64_t weights_stride, const float *scale, uint32_t *mask, int64_t mask_stride, int32_t cut,
    int64_t ties, int64_t cols, int64_t row_begin, int64_t row_end) {
    int32_t *keys = scratch((cols + 31) / 32 * 32, sizeof(int32_t));
    if (keys == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        make_keys(weights + r * weights_stride, scale, cols, keys);
        ties -= emit(keys, mask + r * mask_stride, cols, (struct threshold){cut, ties});
    }
    free(keys);
    return SENTEI_OK;
}

int KERNEL(score_select_ties_f32)(
    const float *weights, int64_t weights_stride, const float *scale, int32_t cut, int64_t *count, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    const vi wanted = splat_int(cut);
    int64_t equal = 0;
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = weights + r * weights_stride;
        for (int64_t c = 0; c < cols; c += LANES) {
            uint32_t bits = bits_equal(score_keys_at(row, scale, c, cols), wanted);
            equal += __builtin_popcount(cols - c < LANES ? bits & ~(~0u << (cols - c)) : bits);
        }
    }
    *count = equal;
    return SENTEI_OK;
}
