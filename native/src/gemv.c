/* y[b, row] = sum over columns of weights[row, column] * x[b, column], plus bias[row]; bf16 or fp32 weights, fp32 sums in
 * the order of gemv.h. */
#include "gemv.h"

struct product {
    const unsigned char *weights;
    int64_t weights_stride; /* in bytes */
    const float *x;         /* arranged */
    int64_t x_stride;
    const float *bias;
    float *y;
    int64_t y_stride, cols;
};

/* Rows of bf16 weights begin at any multiple of two bytes. */
typedef int32_t words_memory __attribute__((vector_size(LANES * 4), aligned(2), may_alias));

/* A pair of vectors of bf16 (size 2) or fp32 weights. */
INLINE void load_pair(const unsigned char *p, const int size, vf w[2]) {
    if (size == 2) {
        split(*(const words_memory *)p, w);
    } else {
        w[0] = load((const float *)p);
        w[1] = load((const float *)p + LANES);
    }
}

INLINE void step(
    const unsigned char *const *w, const float *x, int64_t x_stride, const int size, const int rows, const int vectors,
    vf (*sums)[2]) {
    for (int c = 0; c < STEP; c += PAIR) {
        UNROLL for (int r = 0; r < rows; r++) {
            vf pair[2];
            load_pair(w[r] + c * size, size, pair);
            UNROLL for (int v = 0; v < vectors; v++) {
                sums[r * vectors + v][0] += pair[0] * load(x + v * x_stride + c);
                sums[r * vectors + v][1] += pair[1] * load(x + v * x_stride + c + LANES);
            }
        }
    }
}

/* `rows` rows that lie `apart`, times the vectors from `first`. */
INLINE void multiply(
    const struct product *s, const int size, const int rows, const int vectors, int64_t row, int64_t apart,
    int64_t first) {
    const unsigned char *w[MOST_ROWS];
    vf sums[SUMS][2];
    UNROLL for (int r = 0; r < rows; r++) {
        w[r] = s->weights + (row + r * apart) * s->weights_stride;
    }
    UNROLL for (int i = 0; i < rows * vectors; i++) {
        sums[i][0] = sums[i][1] = splat(0);
    }
    const float *x = s->x + first * s->x_stride;
    int64_t c = 0;
    for (; c + STEP <= s->cols; c += STEP) {
        step(w, x + c, s->x_stride, size, rows, vectors, sums);
        UNROLL for (int r = 0; r < rows; r++) {
            w[r] += STEP * size;
        }
    }
    if (c < s->cols) {
        unsigned char last[MOST_ROWS][STEP * sizeof(float)];
        memset(last, 0, sizeof last);
        UNROLL for (int r = 0; r < rows; r++) {
            memcpy(last[r], w[r], (size_t)((s->cols - c) * size));
            w[r] = last[r];
        }
        step(w, x + c, s->x_stride, size, rows, vectors, sums);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        const int64_t at = row + r * apart;
        UNROLL for (int v = 0; v < vectors; v++) {
            const float total = sum_halves(sums[r * vectors + v][0] + sums[r * vectors + v][1]);
            s->y[(first + v) * s->y_stride + at] = total + (s->bias == NULL ? 0 : s->bias[at]);
        }
    }
}

INLINE void multiply_rows(
    const struct product *s, const int size, const int rows, const int vectors, int64_t first, int64_t row_begin,
    int64_t row_end) {
    const int64_t apart = (row_end - row_begin) / rows;
    for (int64_t i = 0; i < apart; i++) {
        multiply(s, size, rows, vectors, row_begin + i, apart, first);
    }
    for (int64_t row = row_begin + rows * apart; row < row_end; row++) {
        multiply(s, size, 1, vectors, row, 0, first);
    }
}

INLINE int gemv(
    const void *weights, const int size, int64_t weights_stride, const float *x, int64_t x_stride, int64_t batch,
    const float *bias, float *y, int64_t y_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    float *const vectors = arranged(x, x_stride, batch, cols, size == 2);
    if (vectors == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    const struct product s = {
        weights, weights_stride * size, vectors, (cols + STEP - 1) / STEP * STEP, bias, y, y_stride, cols,
    };
#define ROWS(rows, count, first) multiply_rows(&s, size, rows, count, first, row_begin, row_end)
    FOR_VECTORS(batch, ROWS)
#undef ROWS
    free(vectors);
    return SENTEI_OK;
}

int KERNEL(gemv_bf16)(
    const uint16_t *weights, int64_t weights_stride, const float *x, int64_t x_stride, int64_t batch, const float *bias,
    float *y, int64_t y_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    return gemv(weights, 2, weights_stride, x, x_stride, batch, bias, y, y_stride, cols, row_begin, row_end);
}

int KERNEL(gemv_f32)(
    const float *weights, int64_t weights_stride, const float *x, int64_t x_stride, int64_t batch, const float *bias,
    float *y, int64_t y_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    return gemv(weights, 4, weights_stride, x, x_stride, batch, bias, y, y_stride, cols, row_begin, row_end);
}
