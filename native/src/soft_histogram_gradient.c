/* The gradient of a function of a soft histogram by a range of its values (elements in row-major order), from that by its bins:
 * soft_histogram.h's bumps outwards from the nearest bin, LANES values at a time. Error: some roundings of the largest term. */
#include "soft_histogram.h"

INLINE vf look_up(const float *table, vi index) {
#if defined(__AVX512F__)
    return (vf)_mm512_i32gather_ps((__m512i)index, table, sizeof(float));
#elif defined(__AVX2__)
    return (vf)_mm256_i32gather_ps(table, (__m256i)index, sizeof(float));
#else
    vf values;
    for (int lane = 0; lane < LANES; lane++) {
        values[lane] = table[index[lane]];
    }
    return values;
#endif
}

int KERNEL(soft_histogram_gradient_f32)(
    const float *values, int64_t values_stride, float first, float spacing, float bandwidth, int32_t count,
    int32_t reach, int32_t shares, const float *slope, float *gradient, int64_t gradient_stride, int64_t cols,
    int64_t begin, int64_t end) {
    const struct bins bins = bins_of(first, spacing, bandwidth, count, reach);
    const float h = bins.step, square = expf(-h * h), scale = (float)(2 * bins.per_bandwidth);
    for (int64_t i = begin; i < end;) {
        struct run run;
        run_at(&run, values, values_stride, cols, i, end);
        const struct places places = places_of(&bins, run.values);
        const vf x = places.distance, center = look_up(slope, places.nearest);
        /* sums of e, of e l, of e j h and of e j h l, with e relative to the nearest bump */
        vf mass = splat(1), level = center, drift = splat(0), moved = splat(0);
        vf up = exponential(2 * h * x) * square, down = exponential(-2 * h * x) * square;
        vf above = splat(1), below = splat(1);
        for (int32_t j = 1; j <= reach; j++) {
            const float away = (float)j * h;
            const vi higher = places.nearest + j, lower = places.nearest - j;
            above *= up;
            below *= down;
            up *= square * square;
            down *= square * square;
            const vf of_higher = blend(higher < count, above, splat(0)), of_lower = blend(lower >= 0, below, splat(0));
            const vf slope_higher = of_higher * look_up(slope, higher & (higher < count));
            const vf slope_lower = of_lower * look_up(slope, lower & (lower >= 0));
            mass += of_higher + of_lower;
            level += slope_higher + slope_lower;
            drift += away * (of_higher - of_lower);
            moved += away * (slope_higher - slope_lower);
        }
        vf result;
        if (shares) {
            const vf per_mass = 1.0f / mass;
            result = scale * per_mass * (moved - drift * per_mass * level);
        } else {
            result = scale * exponential(-x * x) * (moved - x * level);
        }
        store_first(
            gradient + run.row * gradient_stride + run.col, blend(places.finite, result, splat(0)), run.count);
        i += run.count;
    }
    return SENTEI_OK;
}
