/* output = softmax(scale * query * key^T) * value for each head of each sequence; a task is one head of one sequence,
 * task = sequence * heads + head.
 *
 * The keys that may be seen at all are packed first: keys in steps of KEY_STEP, each as head_size x KEY_STEP, and values
 * as keys x head_size, both padded to whole vectors. A query then sees one range [first, last) of packed keys: all of
 * them, or, with a causal mask, those up to its own token and above its window. A few queries go together: their scores
 * over the union of their ranges, each one's softmax over its own range, then the weighted values, jointly over the
 * common part of the ranges and one by one at the edges, so that no key outside a range is ever multiplied in
 * (0 * infinity is NaN).
 *
 * Scores are fp32 sums over head_size, the maximum is subtracted before exp, weights are normalised after the second
 * product. Error: about (head_size + keys) * 2^-24 relative to the largest |value|, random signs in practice. */
#include "kernel.h"

#include <math.h>

/* Sums of QUERIES x KEY_VECTORS and QUERIES x VALUE_VECTORS stay in registers: 16 of 32, or 8 of 16. */
enum { QUERIES = LANES == 16 ? 8 : 4, KEY_VECTORS = 2, VALUE_VECTORS = 2, KEY_STEP = KEY_VECTORS * LANES };

struct range {
    int64_t first, last;
};

static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* scores[q][k] = query[q] . key[k] for whole steps of keys that cover [first, last). */
static void score_block(
    const float *query, const float *keys, int64_t head_size, int64_t first, int64_t last, float *scores,
    int64_t scores_stride) {
    for (int64_t k = first / KEY_STEP * KEY_STEP; k < last; k += KEY_STEP) {
        const float *step = keys + k * head_size;
        vf sums[QUERIES][KEY_VECTORS] = {0};
        for (int64_t d = 0; d < head_size; d++) {
            vf column[KEY_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < KEY_VECTORS; v++) {
                column[v] = load(step + d * KEY_STEP + v * LANES);
            }
#pragma GCC unroll 8
            for (int q = 0; q < QUERIES; q++) {
                vf component = splat(query[q * head_size + d]);
#pragma GCC unroll 2
                for (int v = 0; v < KEY_VECTORS; v++) {
                    sums[q][v] += component * column[v];
                }
            }
        }
        for (int q = 0; q < QUERIES; q++) {
            for (int v = 0; v < KEY_VECTORS; v++) {
                store(scores + q * scores_stride + k + v * LANES, sums[q][v]);
            }
        }
    }
}

/* Scores of one query become exp(score - maximum) over its range; returns their sum. */
static float exponentials(float *scores, struct range range) {
    const int64_t count = range.last - range.first;
    const int64_t whole = count / LANES * LANES;
    float *p = scores + range.first;
    float maximum = -INFINITY;
    vf maxima = splat(-INFINITY);
    for (int64_t k = 0; k < whole; k += LANES) {
        vf v = load(p + k);
        maxima = blend(maxima > v, maxima, v); /* a NaN is taken, and stays in the sum below at any rate */
    }
    for (int lane = 0; lane < LANES; lane++) {
        maximum = maxima[lane] > maximum ? maxima[lane] : maximum;
    }
    for (int64_t k = whole; k < count; k++) {
        maximum = p[k] > maximum ? p[k] : maximum;
    }
    vf sums = {0};
    for (int64_t k = 0; k < whole; k += LANES) {
        vf e = exponential(load(p + k) - maximum);
        store(p + k, e);
        sums += e;
    }
    float total = sum(sums);
    if (whole < count) {
        vf e = exponential(load_first(p + whole, count - whole) - maximum);
        store_first(p + whole, e, count - whole);
        for (int64_t k = 0; k < count - whole; k++) {
            total += e[k];
        }
    }
    return total;
}

/* output[q] += sum over [first, last) of weights[q][k] value[k], for `queries` rows of padded width. */
INLINE void weigh(
    int queries, const float *weights, int64_t weights_stride, const float *values, int64_t width, int64_t first,
    int64_t last, float *output) {
    for (int64_t d = 0; d < width; d += VALUE_VECTORS * LANES) {
        vf sums[QUERIES][VALUE_VECTORS];
#pragma GCC unroll 8
        for (int q = 0; q < queries; q++) {
#pragma GCC unroll 8
            for (int v = 0; v < VALUE_VECTORS; v++) {
                sums[q][v] = load(output + q * width + d + v * LANES);
            }
        }
        for (int64_t k = first; k < last; k++) {
            vf value[VALUE_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < VALUE_VECTORS; v++) {
                value[v] = load(values + k * width + d + v * LANES);
            }
#pragma GCC unroll 8
            for (int q = 0; q < queries; q++) {
                vf weight = splat(weights[q * weights_stride + k]);
#pragma GCC unroll 8
                for (int v = 0; v < VALUE_VECTORS; v++) {
                    sums[q][v] += weight * value[v];
                }
            }
        }
#pragma GCC unroll 8
        for (int q = 0; q < queries; q++) {
#pragma GCC unroll 8
            for (int v = 0; v < VALUE_VECTORS; v++) {
                store(output + q * width + d + v * LANES, sums[q][v]);
            }
        }
    }
}

/* Scratch of one call. */
struct buffers {
    float *keys;     /* padded_keys / KEY_STEP x head_size x KEY_STEP */
    float *values;   /* length x width */
    float *queries;  /* QUERIES x head_size */
    float *scores;   /* QUERIES x padded_keys */
    float *outputs;  /* QUERIES x width */
    int64_t *before; /* length + 1: packed keys before each token */
};

int KERNEL(attention_f32)(
    const float *query, int64_t query_stride, const float *key, int64_t key_stride, const float *value,
    int64_t value_stride, const int32_t *visible, int64_t visible_stride, float *output, int64_t output_stride,
    int64_t heads, int64_t key_heads, int64_t head_size, int64_t length, float scale, int32_t causal, int64_t window,
    int64_t task_begin, int64_t task_end) {
    const int64_t padded_keys = round_up(length, KEY_STEP);
    const int64_t width = round_up(head_size, VALUE_VECTORS * LANES);
    struct buffers b = {
        scratch(head_size * padded_keys, sizeof(float)),
        scratch(length * width, sizeof(float)),
        scratch(QUERIES * head_size, sizeof(float)),
        scratch(QUERIES * padded_keys, sizeof(float)),
        scratch(QUERIES * width, sizeof(float)),
        scratch(length + 1, sizeof(int64_t)),
    };
    int status = SENTEI_OUT_OF_MEMORY;
    if (!b.keys || !b.values || !b.queries || !b.scores || !b.outputs || !b.before) {
        goto done;
    }
    memset(b.keys, 0, (size_t)(head_size * padded_keys) * sizeof(float));
    memset(b.values, 0, (size_t)(length * width) * sizeof(float));
    for (int64_t task = task_begin; task < task_end; task++) {
        const int64_t sequence = task / heads, head = task % heads;
        const int64_t token = sequence * length;
        const float *head_query = query + token * query_stride + head * head_size;
        const float *head_key = key + token * key_stride + head / (heads / key_heads) * head_size;
        const float *head_value = value + token * value_stride + head / (heads / key_heads) * head_size;
        float *head_output = output + token * output_stride + head * head_size;

        int64_t packed = 0;
        for (int64_t t = 0; t < length; t++) {
            b.before[t] = packed;
            if (visible == NULL || visible[sequence * visible_stride + t] != 0) {
                float *column = b.keys + packed / KEY_STEP * KEY_STEP * head_size + packed % KEY_STEP;
                for (int64_t d = 0; d < head_size; d++) {
                    column[d * KEY_STEP] = head_key[t * key_stride + d];
                }
                memcpy(b.values + packed * width, head_value + t * value_stride, (size_t)head_size * sizeof(float));
                packed++;
            }
        }
        b.before[length] = packed;

        for (int64_t t0 = 0; t0 < length; t0 += QUERIES) {
            const int queries = (int)min_of(QUERIES, length - t0);
            struct range ranges[QUERIES], all = {packed, 0}, common = {0, packed};
            memset(b.queries, 0, (size_t)(QUERIES * head_size) * sizeof(float));
            memset(b.outputs, 0, (size_t)(QUERIES * width) * sizeof(float));
            for (int q = 0; q < queries; q++) {
                const int64_t t = t0 + q;
                ranges[q].first = causal && window > 0 ? b.before[max_of(0, t + 1 - window)] : 0;
                ranges[q].last = causal ? b.before[t + 1] : packed;
                all.first = min_of(all.first, ranges[q].first);
                all.last = max_of(all.last, ranges[q].last);
                common.first = max_of(common.first, ranges[q].first);
                common.last = min_of(common.last, ranges[q].last);
                for (int64_t d = 0; d < head_size; d++) {
                    b.queries[q * head_size + d] = head_query[t * query_stride + d] * scale;
                }
            }
            score_block(b.queries, b.keys, head_size, all.first, all.last, b.scores, padded_keys);
            float totals[QUERIES];
            for (int q = 0; q < queries; q++) {
                totals[q] = exponentials(b.scores + q * padded_keys, ranges[q]);
            }
            if (queries < QUERIES || common.first >= common.last) {
                common.first = common.last = all.first;
            } else {
                weigh(
                    QUERIES, b.scores, padded_keys, b.values, width, common.first, common.last, b.outputs);
            }
            for (int q = 0; q < queries; q++) {
                const float *weights = b.scores + q * padded_keys;
                float *sums = b.outputs + q * width;
                const int apart = common.first == common.last;
                const int64_t left_end = apart ? ranges[q].first : common.first;
                const int64_t right_begin = apart ? ranges[q].first : common.last;
                weigh(1, weights, 0, b.values, width, ranges[q].first, left_end, sums);
                weigh(1, weights, 0, b.values, width, right_begin, ranges[q].last, sums);
                float *row = head_output + (t0 + q) * output_stride;
                const int blind = ranges[q].first >= ranges[q].last;
                for (int64_t d = 0; d < head_size; d++) {
                    row[d] = blind ? 0 : sums[d] / totals[q];
                }
            }
        }
    }
    status = SENTEI_OK;
done:
    free(b.keys);
    free(b.values);
    free(b.queries);
    free(b.scores);
    free(b.outputs);
    free(b.before);
    return status;
}
