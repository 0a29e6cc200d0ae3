/* Loss and gradients of pruned attention weights against dense ones, for the queries [row_begin, row_end) of one sequence and
 * of the `group` query heads that share a key head; pointers are at the sequence's first token and the head's first column.
 *
 * A block of ROWS queries computes its dense logits s and their differences d = scale (dq k + q~ dk) over all keys that it
 * sees; then, row by row, with A = softmax(s) and m = sum A d, which a softmax does not feel,
 *
 *   F = expm1(d - m),   z = sum A F >= 0,   R = A (F - z) / (1 + z),   P = A (F + 1) / (1 + z),   S = scale P (R - sum P R)
 *
 * so that a small residual is no difference of two large numbers. Where the d of a row lie further apart than APART, A may
 * have underflowed where F is large: there R = softmax(s + d) - softmax(s). R - sum P R is taken with the R of the largest P
 * subtracted from both: it nears sum P R where P nears 1. Then S k~ and S' q~ for KEYS keys at a time.
 *
 * Packed and padded as in attention.c. A pair that is not seen has s = -infinity and, at last, S = 0; what is not finite in k~
 * and q~ is 0 in the products with S, whose rows are NaN already where they see it, so it reaches nothing that does not.
 *
 * Error: (head_size + 8) 2^-24 scale |q| |dk| of a difference, which is relative to the largest difference of the row, and
 * (scale |q| |k| + keys) 2^-24 relative to A. */
#include "kernel.h"

#include <math.h>

/* Sums of STRIP x VECTORS stay in registers: 16 of 32, or 8 of 16. */
enum { STRIP = LANES == 16 ? 8 : 4, VECTORS = 2, STEP = VECTORS * LANES, ROWS = 32, KEYS = 128 };

static const float APART = 32;

struct range {
    int64_t first, last;
};

static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* STRIP x STEP of c = a b, or added to it; rows of a follow each other by a_row, its columns by a_column. */
INLINE void multiply(
    int64_t depth, const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_stride, float *c,
    int64_t c_stride, int add) {
    vf sums[STRIP][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < STRIP; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            sums[i][v] = add ? load(c + i * c_stride + v * LANES) : (vf){0};
        }
    }
    for (int64_t d = 0; d < depth; d++) {
        vf row[VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            row[v] = load(b + d * b_stride + v * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < STRIP; i++) {
            vf factor = splat(a[i * a_row + d * a_column]);
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) {
                sums[i][v] += factor * row[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < STRIP; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            store(c + i * c_stride + v * LANES, sums[i][v]);
        }
    }
}

/* e^x, not below 2^-125.5, and e^x - 1, which is 2^n (e^r - 1) + (2^n - 1): for n = 0 the polynomial alone. */
INLINE vf exponential_and_less_one(vf x, vf *less_one) {
    vi n;
    vf p = exponential_less_one_of_remainder(lane_max(splat(-87.0f), x), &n);
    vf power = (vf)((n + 127) << 23);
    *less_one = p * power + (power - 1.0f);
    return p * power + power;
}

/* Of all lanes, half by half. */
INLINE float total_of(vf v) {
    float lanes[LANES];
    store(lanes, v);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

INLINE float largest_of(vf v) {
    float lanes[LANES];
    store(lanes, v);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int lane = 0; lane < half; lane++) {
            lanes[lane] = lanes[lane] > lanes[lane + half] ? lanes[lane] : lanes[lane + half];
        }
    }
    return lanes[0];
}

/* Place of the largest s + d. */
static int64_t place_of(const float *s, const float *d, int64_t count, float largest) {
    int64_t place = 0;
    for (int64_t k = 0; k < count; k += LANES) {
        const uint32_t equal = bits_of(load(s + k) + load(d + k) == largest);
        if (equal != 0) {
            place = k + __builtin_ctz(equal);
            break;
        }
    }
    return place;
}

/* s and d of a row, whole vectors, become S / scale and R; returns the sum of R^2. */
static float residual(float *s, float *d, int64_t count) {
    vf most = splat(-INFINITY), highest = splat(-INFINITY), lowest = splat(-INFINITY), pruned_most = splat(-INFINITY);
    for (int64_t k = 0; k < count; k += LANES) {
        const vf logit = load(s + k), difference = load(d + k);
        most = lane_max(logit, most);
        highest = lane_max(difference, highest);
        lowest = lane_max(-difference, lowest);
        pruned_most = lane_max(logit + difference, pruned_most);
    }
    const float maximum = largest_of(most), pruned_maximum = largest_of(pruned_most);
    const int64_t pivot = place_of(s, d, count, pruned_maximum);
    vf totals = {0}, squares = {0}, means = {0};
    const float span = largest_of(highest) + largest_of(lowest);
    if (span > APART && span < INFINITY) { /* below, what is infinite makes NaN of all */
        vf pruned_totals = {0};
        for (int64_t k = 0; k < count; k += LANES) {
            const vf logit = load(s + k), difference = load(d + k);
            const vf dense = exponential(logit - maximum), pruned = exponential(logit + difference - pruned_maximum);
            totals += dense;
            pruned_totals += pruned;
            store(d + k, dense);
            store(s + k, pruned);
        }
        const float share = 1 / total_of(totals), pruned_share = 1 / total_of(pruned_totals);
        for (int64_t k = 0; k < count; k += LANES) {
            const vf pruned = load(s + k) * pruned_share, r = pruned - load(d + k) * share;
            squares += r * r;
            store(s + k, pruned);
            store(d + k, r);
        }
    } else {
        vf weighted = {0}, excess = {0};
        for (int64_t k = 0; k < count; k += LANES) {
            const vf dense = exponential(load(s + k) - maximum);
            totals += dense;
            weighted += dense * load(d + k);
            store(s + k, dense);
        }
        const float share = 1 / total_of(totals), shift = total_of(weighted) * share;
        for (int64_t k = 0; k < count; k += LANES) {
            const vf dense = load(s + k);
            vf f;
            const vf pruned = dense * exponential_and_less_one(load(d + k) - shift, &f);
            f *= dense;
            excess += f;
            store(s + k, pruned);
            store(d + k, f);
        }
        const float z = total_of(excess) * share, pruned_share = share / (1 + z);
        for (int64_t k = 0; k < count; k += LANES) {
            const vf pruned = load(s + k), f = load(d + k); /* A (F + 1) and A F, before their division by sums */
            const vf r = (f - (pruned - f) * z) * pruned_share;
            squares += r * r;
            store(s + k, pruned * pruned_share);
            store(d + k, r);
        }
    }
    const float least = d[pivot];
    for (int64_t k = 0; k < count; k += LANES) {
        means += load(s + k) * (load(d + k) - least);
    }
    const float mean = total_of(means);
    for (int64_t k = 0; k < count; k += LANES) {
        store(s + k, load(s + k) * (load(d + k) - least - mean));
    }
    return total_of(squares);
}

static void fill(float *values, int64_t first, int64_t last, float value) {
    for (int64_t i = first; i < last; i++) {
        values[i] = value;
    }
}

/* Scratch of one call, in one block, which the allocator keeps for the next call; many would go back to the system each time. */
struct buffers {
    float *joint_keys;  /* padded_keys / STEP x 2 head_size x STEP: k above dk */
    float *keys;        /* padded_keys x width: k~ */
    float *gradient;    /* padded_keys x width: of the keys */
    float *queries;     /* ROWS x head_size: scale q */
    float *joint;       /* ROWS x 2 head_size: scale dq beside scale q~ */
    float *pruned;      /* ROWS x width: scale q~ */
    float *products;    /* ROWS x width: gradient of the queries */
    float *logits;      /* ROWS x row */
    float *differences; /* ROWS x row */
    int64_t *before;    /* length + 1: packed keys before each token */
};

enum { LINE = 16 }; /* floats of a cache line */

/* The next `count` floats of a block, on cache lines of their own. */
static float *take(float **next, int64_t count) {
    float *taken = *next;
    *next += round_up(count, LINE);
    return taken;
}

/* Finite values of k~ or q~ for the products with S. */
static float finite(float value) { return isfinite(value) ? value : 0; }

int KERNEL(attention_residual_f32)(
    const float *query, int64_t query_stride, const float *key, int64_t key_stride, const float *query_difference,
    int64_t query_difference_stride, const float *key_difference, int64_t key_difference_stride, const int32_t *visible,
    double *loss, float *query_gradient, int64_t query_gradient_stride, float *key_gradient,
    int64_t key_gradient_stride, int64_t group, int64_t head_size, int64_t length, float scale, int32_t causal,
    int64_t window, int64_t row_begin, int64_t row_end) {
    /* Tokens that a query of these can see. */
    const int64_t first_token = causal && window > 0 ? max_of(0, row_begin + 1 - window) : 0;
    const int64_t last_token = causal ? row_end : length;
    const int64_t padded_keys = round_up(last_token - first_token, STEP);
    const int64_t width = round_up(head_size, STEP);
    const int64_t row = padded_keys + LANES; /* rows apart by a power of two would share a set of the cache */
    float *const memory = scratch(
        padded_keys * 2 * (head_size + width) + ROWS * (3 * head_size + 2 * width + 2 * row) + 2 * (length + 1) + 10 * LINE,
        sizeof(float));
    if (!memory) {
        return SENTEI_OUT_OF_MEMORY;
    }
    float *next = memory;
    const struct buffers b = {
        .joint_keys = take(&next, padded_keys * 2 * head_size),
        .keys = take(&next, padded_keys * width),
        .gradient = take(&next, padded_keys * width),
        .queries = take(&next, ROWS * head_size),
        .joint = take(&next, ROWS * 2 * head_size),
        .pruned = take(&next, ROWS * width),
        .products = take(&next, ROWS * width),
        .logits = take(&next, ROWS * row),
        .differences = take(&next, ROWS * row),
        .before = (int64_t *)take(&next, 2 * (length + 1)),
    };
    memset(b.keys, 0, (size_t)(padded_keys * width) * sizeof(float));
    memset(b.gradient, 0, (size_t)(padded_keys * width) * sizeof(float));
    int64_t packed = 0;
    for (int64_t t = 0; t < length; t++) {
        b.before[t] = packed;
        if (t >= first_token && t < last_token && (visible == NULL || visible[t] != 0)) {
            const float *dense = key + t * key_stride, *difference = key_difference + t * key_difference_stride;
            float *column = b.joint_keys + packed / STEP * STEP * 2 * head_size + packed % STEP;
            float *pruned = b.keys + packed * width;
            for (int64_t d = 0; d < head_size; d++) {
                column[d * STEP] = dense[d];
                column[(head_size + d) * STEP] = difference[d];
            }
            for (int64_t d = 0; d < head_size; d++) {
                pruned[d] = finite(dense[d] + difference[d]);
            }
            packed++;
        }
    }
    b.before[length] = packed;
    for (int64_t k = packed; k % STEP != 0; k++) {
        for (int64_t d = 0; d < 2 * head_size; d++) {
            b.joint_keys[k / STEP * STEP * 2 * head_size + d * STEP + k % STEP] = 0;
        }
    }

    for (int64_t head = 0; head < group; head++) {
        loss[head] = 0;
        for (int64_t t0 = row_begin; t0 < row_end; t0 += ROWS) {
            const int64_t queries = min_of(ROWS, row_end - t0);
            struct range ranges[ROWS], all = {packed, 0};
            memset(b.queries, 0, (size_t)(ROWS * head_size) * sizeof(float));
            memset(b.joint, 0, (size_t)(ROWS * 2 * head_size) * sizeof(float));
            memset(b.pruned, 0, (size_t)(ROWS * width) * sizeof(float));
            memset(b.products, 0, (size_t)(ROWS * width) * sizeof(float));
            for (int64_t q = 0; q < ROWS; q++) {
                const int64_t t = t0 + q;
                if (q >= queries || (visible != NULL && visible[t] == 0)) {
                    ranges[q].first = ranges[q].last = 0;
                    continue;
                }
                ranges[q].first = causal && window > 0 ? b.before[max_of(0, t + 1 - window)] : 0;
                ranges[q].last = causal ? b.before[t + 1] : packed;
                all.first = min_of(all.first, ranges[q].first);
                all.last = max_of(all.last, ranges[q].last);
                const float *dense = query + t * query_stride + head * head_size;
                const float *difference = query_difference + t * query_difference_stride + head * head_size;
                for (int64_t d = 0; d < head_size; d++) {
                    b.queries[q * head_size + d] = scale * dense[d];
                    b.joint[q * 2 * head_size + d] = scale * difference[d];
                    b.joint[(q * 2 + 1) * head_size + d] = scale * (dense[d] + difference[d]);
                    b.pruned[q * width + d] = finite(scale * (dense[d] + difference[d]));
                }
            }
            all.first = all.first / STEP * STEP;
            all.last = round_up(all.last, STEP);
            for (int64_t k = all.first; k < all.last; k += STEP) {
                for (int64_t q = 0; q < queries; q += STRIP) {
                    multiply(
                        head_size, b.queries + q * head_size, head_size, 1, b.joint_keys + k * 2 * head_size, STEP,
                        b.logits + q * row + k, row, 0);
                    multiply(
                        2 * head_size, b.joint + q * 2 * head_size, 2 * head_size, 1, b.joint_keys + k * 2 * head_size,
                        STEP, b.differences + q * row + k, row, 0);
                }
            }
            for (int64_t q = 0; q < ROWS; q++) {
                float *s = b.logits + q * row, *d = b.differences + q * row;
                const struct range own = ranges[q];
                if (own.first < own.last) {
                    const int64_t first = own.first / LANES * LANES, last = round_up(own.last, LANES);
                    fill(s, first, own.first, -INFINITY);
                    fill(s, own.last, last, -INFINITY);
                    fill(d, first, own.first, d[own.first]);
                    fill(d, own.last, last, d[own.first]);
                    loss[head] += 0.5 * (double)residual(s + first, d + first, last - first);
                    fill(s, all.first, own.first, 0);
                    fill(s, own.last, all.last, 0);
                } else {
                    fill(s, all.first, all.last, 0);
                }
            }
            if (query_gradient == NULL) {
                continue;
            }
            for (int64_t first = all.first; first < all.last; first += KEYS) {
                const int64_t last = min_of(first + KEYS, all.last);
                for (int64_t c = 0; c < width; c += STEP) {
                    for (int64_t q = 0; q < queries; q += STRIP) {
                        multiply(
                            last - first, b.logits + q * row + first, row, 1, b.keys + first * width + c, width,
                            b.products + q * width + c, width, 1);
                    }
                    for (int64_t k = first; k < last; k += STRIP) {
                        multiply(
                            queries, b.logits + k, 1, row, b.pruned + c, width, b.gradient + k * width + c, width, 1);
                    }
                }
            }
            for (int64_t q = 0; q < queries; q++) {
                float *target = query_gradient + (t0 + q) * query_gradient_stride + head * head_size;
                for (int64_t d = 0; d < head_size; d++) {
                    target[d] = scale * b.products[q * width + d];
                }
            }
        }
    }
    if (key_gradient != NULL) {
        for (int64_t t = 0; t < length; t++) {
            float *target = key_gradient + t * key_gradient_stride;
            if (b.before[t + 1] > b.before[t]) {
                memcpy(target, b.gradient + b.before[t] * width, (size_t)head_size * sizeof(float));
            } else {
                memset(target, 0, (size_t)head_size * sizeof(float));
            }
        }
    }
    free(memory);
    return SENTEI_OK;
}

int KERNEL(attention_residual_merge_f32)(
    const float *partial, int64_t parts, int64_t part_stride, float *gradient, int64_t gradient_stride, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        for (int64_t c = 0; c < cols; c++) {
            float total = partial[r * cols + c];
            for (int64_t p = 1; p < parts; p++) {
                total += partial[p * part_stride + r * cols + c];
            }
            gradient[r * gradient_stride + c] = total;
        }
    }
    return SENTEI_OK;
}
