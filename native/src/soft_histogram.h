/* How values lie among equally spaced bins: what soft_histogram.c and soft_histogram_gradient.c share.
 *
 * With x a value's distance from its nearest bin and h the bins' spacing, both in bandwidths, the bump at the bin j places
 * further is exp(-(x - j h)^2) = exp(-x^2) u^j q_j with u = exp(2 x h) and q_j = exp(-(j h)^2): two exponentials a value,
 * whatever the number of bins. */
#ifndef SENTEI_SOFT_HISTOGRAM_H
#define SENTEI_SOFT_HISTOGRAM_H

#include "kernel.h"

#include <math.h>

struct bins {
    double first, spacing, per_spacing, per_bandwidth;
    float step;     /* h */
    int32_t count, reach;
};

INLINE struct bins bins_of(float first, float spacing, float bandwidth, int32_t count, int32_t reach) {
    return (struct bins){first, spacing, 1.0 / spacing, 1.0 / bandwidth, (float)((double)spacing / bandwidth), count, reach};
}

/* LANES values: their nearest bins, distances and which are finite. A distance is kept below 1e18, where its bump is 0 too. */
struct places {
    vi nearest, finite;
    vf distance;
};

/* The values of a row from element i of rows x cols on, before `end`: LANES of them at most. */
struct run {
    int64_t row, col, count;
    const float *values; /* LANES floats that can be read */
    float ragged[LANES];
};

INLINE void run_at(struct run *run, const float *values, int64_t stride, int64_t cols, int64_t i, int64_t end) {
    run->row = i / cols;
    run->col = i - run->row * cols;
    const int64_t left = cols - run->col < end - i ? cols - run->col : end - i;
    run->count = left < LANES ? left : LANES;
    run->values = values + run->row * stride + run->col;
    if (run->count < LANES) {
        store(run->ragged, load_first(run->values, run->count));
        run->values = run->ragged;
    }
}

INLINE vl within(const struct bins *bins, vd value, vd *distance) {
    vd place = (value - splat_double(bins->first)) * bins->per_spacing + 0.5;
    vd last = splat_double(bins->count - 1);
    place = (vd)((vl)place & (place > 0)); /* NaN becomes 0 */
    vl beyond = place > last;
    place = (vd)((beyond & (vl)last) | (~beyond & (vl)place));
    vl nearest = __builtin_convertvector(place, vl);
    *distance = (value - (bins->first + __builtin_convertvector(nearest, vd) * bins->spacing)) * bins->per_bandwidth;
    return nearest;
}

INLINE struct places places_of(const struct bins *bins, const float *values) {
    struct places places;
    vd low, high;
    int32_t nearest[LANES];
    float distance[LANES];
    vl bins_low = within(bins, load_wide(values), &low), bins_high = within(bins, load_wide(values + HALF), &high);
    store_narrow(distance, low);
    store_narrow(distance + HALF, high);
    for (int lane = 0; lane < HALF; lane++) {
        nearest[lane] = (int32_t)bins_low[lane];
        nearest[lane + HALF] = (int32_t)bins_high[lane];
    }
    places.nearest = load_int(nearest);
    places.finite = ((vi)load(values) & 0x7fffffff) < 0x7f800000;
    vf x = load(distance);
    x = blend(x > 1e18f, splat(1e18f), x);
    x = blend(x < -1e18f, splat(-1e18f), x);
    places.distance = blend(places.finite, x, splat(0));
    return places;
}

#endif
