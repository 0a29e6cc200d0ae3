/* Adds the bumps of a range of values (elements in row-major order) to bins, and counts the values outside of them.
 *
 * The factors u^j of a value's bumps are added to the row of its nearest bin in a table with one column for each j, all of them
 * at once: neighbouring values rarely meet in one row. q_j is the same for all values of a column and comes in when the
 * table's diagonals are summed up in fp64, after so many values that fp32 has lost nothing by then. Error: 2e-7 of a value's
 * mass from the exponentials and powers, 2^-24 for each value that a row of the table gathered. */
#include "soft_histogram.h"

/* Values between two sums over the table: so few that fp32 loses little even where all of them lie in one row. */
enum { BLOCK = 256 };

/* A value outside of the bins, from where their shares may fall faster than the powers of u can be written down. */
static void add_shares(const struct bins *bins, float distance, float *row) {
    const double h = bins->step, away = 2 * fabs((double)distance) * h;
    double sum = 0;
    for (int32_t j = 0; j <= bins->reach; j++) {
        sum += exp(-j * (away + j * h * h));
    }
    for (int32_t j = 0; j <= bins->reach; j++) {
        row[bins->reach + (distance > 0 ? -j : j)] += (float)(exp(-j * away) / sum);
    }
}

/* Rows from lowest to highest; factors holds q_j from -reach on. */
static void sum_up(
    const struct bins *bins, float *table, int64_t width, const double *factors, int32_t lowest, int32_t highest,
    double *mass) {
    const int32_t reach = bins->reach;
    for (int32_t bin = lowest; bin <= highest; bin++) {
        float *row = table + bin * width;
        const int32_t from = bin < reach ? reach - bin : 0;
        const int32_t to = bins->count - bin + reach < 2 * reach + 1 ? bins->count - bin + reach : 2 * reach + 1;
        for (int32_t j = from; j < to; j++) {
            mass[bin - reach + j] += row[j] * factors[j];
        }
        memset(row, 0, (size_t)width * sizeof(float));
    }
}

/* One over the sum of the bumps that exist, relative to the nearest one. */
INLINE vf per_sum(const struct bins *bins, const struct places *places) {
    const float h = bins->step, square = expf(-h * h);
    vf up = exponential(2 * h * places->distance) * square, down = exponential(-2 * h * places->distance) * square;
    vf total = splat(1), above = splat(1), below = splat(1);
    for (int32_t j = 1; j <= bins->reach; j++) {
        above *= up;
        below *= down;
        up *= square * square;
        down *= square * square;
        total += blend(places->nearest + j < bins->count, above, splat(0))
            + blend(places->nearest - j >= 0, below, splat(0));
    }
    return 1.0f / total;
}

int KERNEL(soft_histogram_f32)(
    const float *values, int64_t values_stride, float first, float spacing, float bandwidth, int32_t count,
    int32_t reach, int32_t shares, double *mass, int64_t *outside, int64_t cols, int64_t begin, int64_t end) {
    const struct bins bins = bins_of(first, spacing, bandwidth, count, reach);
    const int64_t width = (2 * (int64_t)reach + LANES) / LANES * LANES;
    const double lowest = bins.first - 0.5 * bins.spacing, highest = bins.first + (count - 0.5) * bins.spacing;
    /* u^reach stays finite, and what it leaves of a value further away is nothing. */
    const float furthest = 40.0f / (bins.step * (float)reach), inside = 0.5001f * bins.step;
    float *table = scratch(count * width, sizeof(float));
    double *factors = scratch(2 * (int64_t)reach + 1, sizeof(double));
    if (!table || !factors) {
        free(table);
        free(factors);
        return SENTEI_OUT_OF_MEMORY;
    }
    memset(table, 0, (size_t)(count * width) * sizeof(float));
    for (int32_t j = -reach; j <= reach; j++) {
        const double away = j * (double)bins.step;
        factors[reach + j] = exp(-away * away);
    }
    int64_t beyond = 0, pending = 0;
    int32_t lowest_row = count, highest_row = -1;
    for (int64_t i = begin; i < end;) {
        struct run run;
        run_at(&run, values, values_stride, cols, i, end);
        const struct places places = places_of(&bins, run.values);
        const vf x = places.distance;
        const vf near = blend(x > furthest, splat(furthest), blend(x < -furthest, splat(-furthest), x));
        const vf power = 2 * bins.step * near;
        const vf mine = shares ? per_sum(&bins, &places) : exponential(-x * x);
        float u[5][LANES], lowest_factor[LANES];
        int32_t nearest[LANES], finite[LANES];
        store(lowest_factor, mine * exponential(-(float)reach * power));
        store(u[0], exponential(power));
        for (int p = 1; p < 5; p++) {
            store(u[p], load(u[p - 1]) * load(u[p - 1]));
        }
        store_int(nearest, places.nearest);
        store_int(finite, places.finite);
        for (int64_t lane = 0; lane < run.count; lane++) {
            beyond += !(run.values[lane] >= lowest && run.values[lane] <= highest);
            if (!finite[lane]) {
                continue;
            }
            lowest_row = nearest[lane] < lowest_row ? nearest[lane] : lowest_row;
            highest_row = nearest[lane] > highest_row ? nearest[lane] : highest_row;
            float *at = table + nearest[lane] * width;
            if (shares && !(fabsf(x[lane]) <= inside)) {
                add_shares(&bins, x[lane], at);
                continue;
            }
            vf factor = splat(lowest_factor[lane]);
            for (int p = 0; 1 << p < LANES; p++) {
                vi odd;
                for (int l = 0; l < LANES; l++) {
                    odd[l] = -(l >> p & 1);
                }
                factor = blend(odd, factor * u[p][lane], factor);
            }
            float next = 1;
            for (int p = 0; p < 5; p++) {
                next = 1 << p == LANES ? u[p][lane] : next;
            }
            for (int64_t j = 0; j < width; j += LANES) {
                store(at + j, load(at + j) + factor);
                factor *= next;
            }
        }
        i += run.count;
        pending += run.count;
        if (pending >= BLOCK || i == end) {
            sum_up(&bins, table, width, factors, lowest_row, highest_row, mass);
            pending = 0;
            lowest_row = count;
            highest_row = -1;
        }
    }
    free(table);
    free(factors);
    *outside += beyond;
    return SENTEI_OK;
}
