/* column_moments_f32 in fp32, for GPUs that do little fp64. Eight threads read 32 columns of a row, four columns each; 32 rows
 * are under way at a time. A thread sums d = x - shift and d^2 of CHUNK of its rows, where shift is its running mean, so that
 * little cancels, then merges the chunk in fp64 (Chan, Golub and LeVeque 1983):
 *
 *   mean_B = shift + S1 / n_B      M2_B = S2 - S1^2 / n_B      squares_B = S2 + 2 shift S1 + n_B shift^2
 *
 * A chunk whose squares leave the fp32 range is done again in fp64. The 32 threads of a column merge in a fixed order. */
#include "cuda/words.h"

#define MOMENTS_COLUMNS 32
#define MOMENTS_STEPS (GROUP / (MOMENTS_COLUMNS / 4))
#define CHUNK 64
#define FLIGHT 4

struct Moments {
    double count, mean, m2, squares;
};

DEVICE void merge_moments(Moments *into, double count, double mean, double m2, double squares) {
    const double share = count / (into->count + count), difference = mean - into->mean;
    into->mean += difference * share;
    into->m2 += m2 + difference * difference * (into->count * share);
    into->squares += squares;
    into->count += count;
}

DEVICE float4 load_columns(const float *x, int columns, bool packed) {
    if (packed && columns >= 4) {
        return LOAD4_ONCE(x);
    }
    float4 value = {0, 0, 0, 0};
    if (columns > 0) {
        value.x = x[0];
    }
    if (columns > 1) {
        value.y = x[1];
    }
    if (columns > 2) {
        value.z = x[2];
    }
    if (columns > 3) {
        value.w = x[3];
    }
    return value;
}

/* A chunk of one column, in fp64 and two passes. */
DEVICE void merge_exact(Moments *into, const float *x, i64 stride, int rows) {
    double sum = 0, deviations = 0, squares = 0;
    for (int i = 0; i < rows; i++) {
        sum += x[i * stride];
    }
    const double mean = sum / rows;
    for (int i = 0; i < rows; i++) {
        const double value = x[i * stride];
        deviations += (value - mean) * (value - mean);
        squares += value * value;
    }
    merge_moments(into, rows, mean, deviations, squares);
}

DEVICE void merge_chunk(Moments *into, const float *x, i64 stride, int rows, float shift, float s1, float s2) {
    if (!(s2 <= 1e37f && shift * shift <= 1e37f) || (s2 < 1e-30f && s1 != 0)) {
        merge_exact(into, x, stride, rows);
        return;
    }
    const double count = rows, sum = s1, middle = shift, m2 = s2 - sum * (sum / count);
    merge_moments(into, count, middle + sum / count, m2 < 0 ? 0 : m2, s2 + middle * (2 * sum + count * middle));
}

TUNED_KERNEL(column_moments_fast_f32, 2)(IN(float, x), int rows, int cols, int range, OUT(double, partial)) {
    LOCAL double sums[3][MOMENTS_STEPS][MOMENTS_COLUMNS];
    const int across = (cols + MOMENTS_COLUMNS - 1) / MOMENTS_COLUMNS, step = LOCAL_ID / (MOMENTS_COLUMNS / 4);
    const i64 part = GROUP_ID / across, begin = part * range, end = begin + range < rows ? begin + range : rows;
    const int within = LOCAL_ID % (MOMENTS_COLUMNS / 4) * 4, column = (int)(GROUP_ID % across) * MOMENTS_COLUMNS + within;
    const bool packed = IS_PACKED4(x);
    const i64 stride = MOMENTS_STEPS * x_stride;
    Moments moments[4] = {};
    for (i64 row = begin + step; row < end && column < cols;) {
        const i64 left = (end - row + MOMENTS_STEPS - 1) / MOMENTS_STEPS;
        const int count = left < CHUNK ? (int)left : CHUNK;
        const float *values = ROW(x, row) + column;
        float4 shift = load_columns(values, cols - column, packed);
        if (moments[0].count > 0) {
            shift = {(float)moments[0].mean, (float)moments[1].mean, (float)moments[2].mean, (float)moments[3].mean};
        }
        float4 s1 = {0, 0, 0, 0}, s2 = {0, 0, 0, 0};
        for (int i = 0; i < count; i += FLIGHT) {
            float4 flight[FLIGHT];
#pragma unroll
            for (int j = 0; j < FLIGHT; j++) {
                flight[j] = i + j < count ? load_columns(values + (i + j) * stride, cols - column, packed) : shift;
            }
#pragma unroll
            for (int j = 0; j < FLIGHT; j++) {
                const float4 d = {
                    flight[j].x - shift.x, flight[j].y - shift.y, flight[j].z - shift.z, flight[j].w - shift.w};
                s1 = {s1.x + d.x, s1.y + d.y, s1.z + d.z, s1.w + d.w};
                s2 = {FMA(d.x, d.x, s2.x), FMA(d.y, d.y, s2.y), FMA(d.z, d.z, s2.z), FMA(d.w, d.w, s2.w)};
            }
        }
        merge_chunk(&moments[0], values, stride, count, shift.x, s1.x, s2.x);
        if (column + 1 < cols) {
            merge_chunk(&moments[1], values + 1, stride, count, shift.y, s1.y, s2.y);
        }
        if (column + 2 < cols) {
            merge_chunk(&moments[2], values + 2, stride, count, shift.z, s1.z, s2.z);
        }
        if (column + 3 < cols) {
            merge_chunk(&moments[3], values + 3, stride, count, shift.w, s1.w, s2.w);
        }
        row += (i64)count * MOMENTS_STEPS;
    }
    for (int j = 0; j < 4; j++) {
        sums[0][step][within + j] = moments[j].mean;
        sums[1][step][within + j] = moments[j].m2;
        sums[2][step][within + j] = moments[j].squares;
    }
    BARRIER;
    const int own = (int)(GROUP_ID % across) * MOMENTS_COLUMNS + LOCAL_ID;
    if (LOCAL_ID < MOMENTS_COLUMNS && own < cols) {
        Moments merged = {};
        for (int i = 0; i < MOMENTS_STEPS && begin + i < end; i++) {
            const double count = (double)((end - begin - i + MOMENTS_STEPS - 1) / MOMENTS_STEPS);
            merge_moments(&merged, count, sums[0][i][LOCAL_ID], sums[1][i][LOCAL_ID], sums[2][i][LOCAL_ID]);
        }
        ROW(partial, 3 * part)[own] = merged.mean;
        ROW(partial, 3 * part + 1)[own] = merged.m2;
        ROW(partial, 3 * part + 2)[own] = merged.squares;
    }
}
