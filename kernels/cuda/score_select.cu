/* Selection by rows with the keys in registers: a row is read once. A group takes row after row, because the threshold of
 * one predicts that of the next:
 *
 *   predict   a bracket of an eighth of an octave to either side of the last row's threshold
 *   compact   one pass counts the keys below the bracket and packs those inside it, some hundred
 *   resolve   the key of the wanted rank among the packed ones, eight bits at a time by counting in shared memory
 *   emit      four keys of a thread make four bits, eight threads a word
 *
 * A bracket that misses costs time alone: the search then starts from all keys. Rows whose threshold repeats beyond the budget
 * are marked in the order of the columns. A thread holds columns 4 (thread + GROUP i) to 4 (thread + GROUP i) + 3 for each i;
 * what lies behind the last column has a key above all others. */
#include "cuda/words.h"

#define BRACKET (1u << 20)
#define SURVIVORS 1024
#define BEYOND 0xffffffffu
#define BINS 256

struct Search {
    uint bins[BINS];
    uint survivors[SURVIVORS];
    uint sums[2][WARPS_OF_GROUP];
    uint chosen, before, found;
};

/* The sum of the values of the threads before this one, and of all. Alternate `turn`: it says which of two places to use. */
DEVICE uint sum_before(LOCAL_ARG Search *search, int turn, uint value, uint *total) {
    uint sum = value;
    for (int step = 1; step < WARP; step *= 2) {
        const uint left = SHUFFLE_UP(sum, step);
        sum += LANE >= step ? left : 0;
    }
    if (LANE == WARP - 1) {
        search->sums[turn][WARP_ID] = sum;
    }
    BARRIER;
    uint before = 0, all = 0;
    for (int warp = 0; warp < WARPS_OF_GROUP; warp++) {
        before += warp < WARP_ID ? search->sums[turn][warp] : 0;
        all += search->sums[turn][warp];
    }
    *total = all;
    return before + sum - value;
}

/* Which bin holds the key of this rank; the rank becomes that within the bin, and `found` the keys in it. */
DEVICE uint pick(LOCAL_ARG Search *search, int turn, uint *rank, uint *found) {
    uint total;
    const uint own = search->bins[LOCAL_ID], before = sum_before(search, turn, own, &total);
    if (*rank - before < own) {
        search->chosen = (uint)LOCAL_ID;
        search->before = before;
        search->found = own;
    }
    BARRIER;
    *rank -= search->before;
    *found = search->found;
    return search->chosen;
}

/* The key of rank `rank`, from 0, among keys in [low, low + 2^bits): of the `count` packed ones, or of this thread's. The rank
 * becomes that among its equals, `equals` how many they are. */
template <int KEYS>
DEVICE uint resolve(LOCAL_ARG Search *search, const uint *keys, int count, uint low, int bits, uint *rank, uint *equals) {
    uint prefix = 0;
    int turn = 0;
    for (int shift = bits; shift > 0; turn ^= 1) {
        const int upper = shift;
        shift = shift > 8 ? shift - 8 : 0;
        search->bins[LOCAL_ID] = 0;
        BARRIER;
        if (count > 0) {
            for (int i = LOCAL_ID; i < count; i += GROUP) {
                const uint key = search->survivors[i] - low;
                if (key >> upper == prefix) {
                    ATOMIC_ADD(&search->bins[key >> shift & (BINS - 1)], 1u);
                }
            }
        } else {
#pragma unroll
            for (int i = 0; i < KEYS; i++) {
                const uint key = keys[i] - low;
                if (key >> upper == prefix) {
                    ATOMIC_ADD(&search->bins[key >> shift & (BINS - 1)], 1u);
                }
            }
        }
        BARRIER;
        const uint digit = pick(search, turn, rank, equals);
        prefix = prefix << (upper - shift) | digit;
    }
    return low + prefix;
}

template <int KEYS>
DEVICE void load_keys(const float *w, const float *s, int cols, bool packed, uint *keys) {
#pragma unroll
    for (int i = 0; i < KEYS; i += 4) {
        const int c = 4 * (LOCAL_ID + GROUP * (i / 4));
        if (packed && c + 4 <= cols) {
            const float4 weight = LOAD4_ONCE(w + c);
            float4 scale = {1, 1, 1, 1};
            if (s) {
                scale = LOAD4(s + c);
            }
            keys[i] = score_key(weight.x, scale.x);
            keys[i + 1] = score_key(weight.y, scale.y);
            keys[i + 2] = score_key(weight.z, scale.z);
            keys[i + 3] = score_key(weight.w, scale.w);
        } else {
            for (int j = 0; j < 4; j++) {
                keys[i + j] = c + j < cols ? score_key(w[c + j], s ? s[c + j] : 1) : BEYOND;
            }
        }
    }
}

/* Four bits of each of eight neighbouring threads, as one word that all of them get. */
DEVICE uint join_nibbles(uint nibble) {
    uint word = nibble << (4 * (LANE % 8));
    for (int step = 1; step < 8; step *= 2) {
        word |= SHUFFLE_XOR(word, step);
    }
    return word;
}

/* Keys below cut, and of those equal to it the first `ties` of `equals`. */
template <int KEYS>
DEVICE void emit(LOCAL_ARG Search *search, const uint *keys, int cols, uint cut, uint ties, uint equals, uint *mask) {
    const bool some = ties < equals;
    uint taken = 0;
#pragma unroll
    for (int i = 0; i < KEYS; i += 4) {
        const int c = 4 * (LOCAL_ID + GROUP * (i / 4));
        uint less = 0, equal = 0;
        for (int j = 0; j < 4; j++) {
            less |= (uint)(keys[i + j] < cut) << j;
            equal |= (uint)(keys[i + j] == cut) << j;
        }
        if (some) { /* for all threads of the group or for none */
            uint total;
            uint before = taken + sum_before(search, i / 4 % 2, (uint)POPCOUNT(equal), &total);
            taken += total;
            while (equal != 0 && before < ties) {
                const uint lowest = equal & (0u - equal);
                less |= lowest;
                equal ^= lowest;
                before++;
            }
        } else {
            less |= equal;
        }
        const uint word = join_nibbles(less);
        if (LANE % 8 == 0 && c < cols) {
            mask[c / 32] = word;
        }
    }
}

template <int KEYS>
DEVICE void select_rows(LOCAL_ARG Search *search, IN(float, weights), int cols, IN(float, scale), int prune,
    OUT(uint, mask), int rows) {
    const float *s = scale ? ROW(scale, 0) : 0;
    const bool packed = IS_PACKED4(weights) && (!scale || IS_PACKED4(scale));
    uint predicted = BEYOND;
    for (i64 row = GROUP_ID; row < rows; row += GROUPS) {
        uint keys[KEYS];
        load_keys<KEYS>(ROW(weights, row), s, cols, packed, keys);
        uint cut = 0, rank = (uint)prune - 1, equals = 1;
        if (prune > 0) {
            bool resolved = false;
            if (predicted != BEYOND) {
                const uint low = predicted < BRACKET ? 0 : predicted - BRACKET;
                uint below = 0, inside = 0;
#pragma unroll
                for (int i = 0; i < KEYS; i++) {
                    below += keys[i] < low;
                    inside += keys[i] - low < 2 * BRACKET;
                }
                uint totals;
                uint at = sum_before(search, 0, below << 16 | inside, &totals) & 0xffffu;
                const uint all_below = totals >> 16, all_inside = totals & 0xffffu;
                if (rank - all_below < all_inside && all_inside <= SURVIVORS) {
#pragma unroll
                    for (int i = 0; i < KEYS; i++) {
                        if (keys[i] - low < 2 * BRACKET) {
                            search->survivors[at++] = keys[i];
                        }
                    }
                    rank -= all_below;
                    cut = resolve<KEYS>(search, keys, (int)all_inside, low, 21, &rank, &equals);
                    resolved = true;
                }
            }
            if (!resolved) {
                cut = resolve<KEYS>(search, keys, 0, 0, 31, &rank, &equals);
            }
            predicted = cut;
        }
        emit<KEYS>(search, keys, cols, cut, prune > 0 ? rank + 1 : 0, equals, ROW(mask, row));
    }
}

/* score_select_row_f32 for up to 4096 columns, one group after the other. */
TUNED_KERNEL(score_select_row4096_f32, 4)(
    IN(float, weights), int cols, IN(float, scale), int prune, OUT(uint, mask), int rows) {
    LOCAL Search search;
    select_rows<16>(&search, weights, weights_first, weights_stride, cols, scale, scale_first, scale_stride, prune, mask,
        mask_first, mask_stride, rows);
}

/* The same for up to 11264. */
TUNED_KERNEL(score_select_row11264_f32, 2)(
    IN(float, weights), int cols, IN(float, scale), int prune, OUT(uint, mask), int rows) {
    LOCAL Search search;
    select_rows<44>(&search, weights, weights_first, weights_stride, cols, scale, scale_first, scale_stride, prune, mask,
        mask_first, mask_stride, rows);
}

/* score_select_groups_f32 for groups of four columns: a thread has one of them. A group of threads takes 4 GROUP columns of a
 * row. */
TUNED_KERNEL(score_select_groups4_f32, 6)(
    IN(float, weights), int cols, IN(float, scale), int prune, OUT(uint, mask)) {
    const int stripes = (cols + 4 * GROUP - 1) / (4 * GROUP), first = (int)(GROUP_ID % stripes) * 4 * GROUP;
    const int c = first + 4 * LOCAL_ID;
    const i64 row = GROUP_ID / stripes;
    const float *s = scale ? ROW(scale, 0) : 0;
    uint nibble = 0;
    if (c < cols) {
        const bool packed = IS_PACKED4(weights) && (!scale || IS_PACKED4(scale));
        uint keys[4];
        const float *w = ROW(weights, row) + first;
        load_keys<4>(w, s ? s + first : 0, cols - first, packed, keys);
        int ranks[4];
        rank_four(keys, ranks);
        for (int i = 0; i < 4; i++) {
            nibble |= (uint)(ranks[i] < prune) << i;
        }
    }
    const uint word = join_nibbles(nibble);
    if (LANE % 8 == 0 && c < cols) {
        ROW(mask, row)[c / 32] = word;
    }
}
