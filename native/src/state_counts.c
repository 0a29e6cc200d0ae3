/* Counts the elements of every unit above, below and at zero, and NaNs; exact. */
#include "kernel.h"

#define STATES 4
/* Vectors of neighbouring columns whose counts stay in registers. */
#define STRIP 4

struct states {
    vi on, off, zero;
};

INLINE void count(struct states *states, vf x) {
    const vf zero = {0};
    states->on -= x > zero;
    states->off -= x < zero;
    states->zero -= x == zero;
}

INLINE int64_t total(vi v) {
    int64_t total = 0;
    for (int lane = 0; lane < LANES; lane++) {
        total += v[lane];
    }
    return total;
}

/* Columns from `column`, at most STRIP * LANES of them, that are a unit each. */
static void count_columns(
    const float *x, int64_t x_stride, int64_t column, int64_t units, int64_t row_begin, int64_t row_end, int64_t *counts) {
    const int64_t width = units - column < STRIP * LANES ? units - column : STRIP * LANES;
    struct states states[STRIP] = {0};
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *row = x + r * x_stride + column;
        if (width == STRIP * LANES) {
            for (int i = 0; i < STRIP; i++) {
                count(&states[i], load(row + i * LANES));
            }
        } else {
            for (int64_t c = 0; c < width; c += LANES) {
                count(&states[c / LANES], load_first(row + c, width - c < LANES ? width - c : LANES));
            }
        }
    }
    for (int64_t c = 0; c < width; c++) {
        const struct states *of = &states[c / LANES];
        const int64_t on = of->on[c % LANES], off = of->off[c % LANES], zero = of->zero[c % LANES];
        counts[column + c] += on;
        counts[units + column + c] += off;
        counts[2 * units + column + c] += zero;
        counts[3 * units + column + c] += row_end - row_begin - on - off - zero;
    }
}

static void count_unit(const float *x, int64_t inner, int64_t units, int64_t *counts) {
    struct states states = {0};
    int64_t i = 0;
    for (; i + LANES <= inner; i += LANES) {
        count(&states, load(x + i));
    }
    int64_t beyond = 0;
    if (i < inner) {
        count(&states, load_first(x + i, inner - i));
        beyond = LANES - (inner - i); /* lanes that hold zeros of nobody */
    }
    const int64_t on = total(states.on), off = total(states.off), zero = total(states.zero) - beyond;
    counts[0] += on;
    counts[units] += off;
    counts[2 * units] += zero;
    counts[3 * units] += inner - on - off - zero;
}

int KERNEL(state_counts_f32)(
    const float *x, int64_t x_stride, int64_t units, int64_t inner, int64_t row_begin, int64_t row_end, int64_t *counts) {
    if (inner == 1) {
        /* Lanes count in 32 bits. */
        for (int64_t from = row_begin; from < row_end; from += INT32_MAX) {
            const int64_t to = row_end - from < INT32_MAX ? row_end : from + INT32_MAX;
            for (int64_t column = 0; column < units; column += STRIP * LANES) {
                count_columns(x, x_stride, column, units, from, to, counts);
            }
        }
        return SENTEI_OK;
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        for (int64_t unit = 0; unit < units; unit++) {
            /* A lane sees at most 2^31 elements of a chunk of that many vectors. */
            for (int64_t from = 0; from < inner; from += INT32_MAX) {
                const int64_t length = inner - from < INT32_MAX ? inner - from : INT32_MAX;
                count_unit(x + r * x_stride + unit * inner + from, length, units, counts + unit);
            }
        }
    }
    return SENTEI_OK;
}
