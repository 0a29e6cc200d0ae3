/* Mean, M2 = sum (x - mean)^2 and sum of squares of every column, over a range of rows.
 *
 * Rows are taken in chunks of 64. Within a chunk d = x - shift, S1 = sum d and S2 = sum d^2 run in fp32, where shift is
 * the running mean (that of the first rows at the start), so that little cancels:
 *
 *   mean_B = shift + S1 / n_B      M2_B = S2 - S1^2 / n_B      squares_B = S2 + 2 shift S1 + n_B shift^2
 *
 * A chunk is merged in fp64 by the pairwise update of Chan, Golub and LeVeque (1983):
 *
 *   d = mean_B - mean;  mean += d n_B / n;  M2 += M2_B + d^2 n_A n_B / n;  n = n_A + n_B
 *
 * The shift is a mean of data, so (mean_B - shift)^2 is never large against the M2 it ends up in: the relative error of M2
 * is some 64 * 2^-24 at worst, 1e-6 in practice. Where squares leave the fp32 range the chunk is redone in fp64.
 * Eight rows are read at a time: eight sequential streams, one load and store of the sums for all of them. */
#include "kernel.h"

enum { CHUNK = 64, STREAMS = 8 };

/* n_B rows of HALF columns, two passes in fp64. */
INLINE void exact_chunk(const float *x, int64_t stride, int64_t rows, vd *mean, vd *m2, vd *squares) {
    vd sum = {0}, deviations = {0}, square = {0};
    for (int64_t r = 0; r < rows; r++) {
        sum += load_wide(x + r * stride);
    }
    vd middle = sum / (double)rows;
    for (int64_t r = 0; r < rows; r++) {
        vd v = load_wide(x + r * stride);
        deviations += (v - middle) * (v - middle);
        square += v * v;
    }
    *mean = middle;
    *m2 = deviations;
    *squares = square;
}

INLINE void merge(
    double count_a, double count_b, vd mean_b, vd m2_b, vd squares_b, double *mean, double *m2, double *squares) {
    double share = count_b / (count_a + count_b);
    vd mean_a = load_double(mean);
    vd difference = mean_b - mean_a;
    store_double(mean, mean_a + difference * share);
    store_double(m2, load_double(m2) + m2_b + difference * difference * (count_a * share));
    store_double(squares, load_double(squares) + squares_b);
}

/* Sums of `rows` <= STREAMS rows into s1 and s2, for all (padded) columns of the strip. */
INLINE void add_rows(const float *x, int64_t stride, int rows, int64_t cols, const float *shift, float *s1, float *s2) {
    int64_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        vf middle = load(shift + c), sum = load(s1 + c), squares = load(s2 + c);
        for (int r = 0; r < rows; r++) {
            vf d = load(x + r * stride + c) - middle;
            sum += d;
            squares += d * d;
        }
        store(s1 + c, sum);
        store(s2 + c, squares);
    }
    for (; c < cols; c++) {
        for (int r = 0; r < rows; r++) {
            float d = x[r * stride + c] - shift[c];
            s1[c] += d;
            s2[c] += d * d;
        }
    }
}

int KERNEL(column_moments_f32)(
    const float *x, int64_t x_stride, int64_t cols, int64_t row_begin, int64_t row_end, double *partial) {
    /* Padded to whole vectors, so that the merge below needs no tail. */
    const int64_t padded = (cols + LANES - 1) / LANES * LANES;
    double *state = scratch(3 * padded, sizeof(double));
    float *sums = scratch(3 * padded + LANES * CHUNK, sizeof(float));
    if (state == NULL || sums == NULL) {
        free(state);
        free(sums);
        return SENTEI_OUT_OF_MEMORY;
    }
    double *mean = state, *m2 = state + padded, *squares = state + 2 * padded;
    float *shift = sums, *s1 = sums + padded, *s2 = sums + 2 * padded, *tail = sums + 3 * padded;
    memset(state, 0, (size_t)(3 * padded) * sizeof(double));
    memset(sums, 0, (size_t)(3 * padded) * sizeof(float));
    const int64_t first = row_end - row_begin < STREAMS ? row_end - row_begin : STREAMS;
    for (int64_t r = 0; r < first; r++) {
        for (int64_t c = 0; c < cols; c++) {
            shift[c] += x[(row_begin + r) * x_stride + c] / (float)first;
        }
    }
    for (int64_t begin = row_begin; begin < row_end; begin += CHUNK) {
        const int64_t rows = row_end - begin < CHUNK ? row_end - begin : CHUNK;
        const float *chunk = x + begin * x_stride;
        int64_t r = 0;
        for (; r + STREAMS <= rows; r += STREAMS) {
            add_rows(chunk + r * x_stride, x_stride, STREAMS, cols, shift, s1, s2);
        }
        for (; r < rows; r++) {
            add_rows(chunk + r * x_stride, x_stride, 1, cols, shift, s1, s2);
        }
        const double count = (double)rows;
        for (int64_t c = 0; c < padded; c += HALF) {
            vd origin = load_wide(shift + c), d1 = load_wide(s1 + c), d2 = load_wide(s2 + c);
            vd mean_b = origin + d1 / count;
            vd m2_b = d2 - d1 * d1 / count;
            m2_b = (vd)((vl)m2_b & ~(m2_b < 0.0)); /* below 0 by rounding only; NaN stays */
            vd squares_b = d2 + 2 * origin * d1 + origin * origin * count;
            int in_range = 1;
            for (int lane = 0; lane < HALF; lane++) {
                float a = s1[c + lane], b = s2[c + lane];
                in_range &= (b > 1e-25f && b < 1e37f) || (a == 0 && b == 0);
            }
            if (!in_range) {
                const float *from = chunk + c;
                int64_t stride = x_stride;
                if (c + HALF > cols) {
                    for (r = 0; r < rows; r++) {
                        for (int lane = 0; lane < HALF; lane++) {
                            tail[r * HALF + lane] = c + lane < cols ? chunk[r * x_stride + c + lane] : 0;
                        }
                    }
                    from = tail;
                    stride = HALF;
                }
                exact_chunk(from, stride, rows, &mean_b, &m2_b, &squares_b);
            }
            merge((double)(begin - row_begin), count, mean_b, m2_b, squares_b, mean + c, m2 + c, squares + c);
            store_narrow(shift + c, load_double(mean + c));
            memset(s1 + c, 0, HALF * sizeof(float));
            memset(s2 + c, 0, HALF * sizeof(float));
        }
    }
    memcpy(partial, mean, (size_t)cols * sizeof(double));
    memcpy(partial + cols, m2, (size_t)cols * sizeof(double));
    memcpy(partial + 2 * cols, squares, (size_t)cols * sizeof(double));
    free(state);
    free(sums);
    return SENTEI_OK;
}

int KERNEL(column_moments_merge_f64)(
    const double *partial, int64_t partial_count, double *moments, int64_t moments_stride, int64_t count,
    int64_t cols) {
    const double share = (double)partial_count / ((double)count + (double)partial_count);
    double *mean = moments, *m2 = moments + moments_stride, *squares = moments + 2 * moments_stride;
    for (int64_t c = 0; c < cols; c++) {
        double difference = partial[c] - mean[c];
        mean[c] += difference * share;
        m2[c] += partial[cols + c] + difference * difference * ((double)count * share);
        squares[c] += partial[2 * cols + c];
    }
    return SENTEI_OK;
}
