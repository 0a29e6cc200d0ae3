/* Rows of a sparse matrix in compressed rows times a dense one: y_i = sum over the edges of node i of weight_e x_(neighbour_e),
 * in the order of the edges. Row starts and neighbours of the range are checked before its first row is written. Error: one
 * rounding an edge. */
#include "kernel.h"

int KERNEL(aggregate_f32)(
    const int64_t *starts, const int32_t *neighbours, const float *weights, int64_t edges, const float *x,
    int64_t x_stride, int64_t sources, float *y, int64_t y_stride, int64_t cols, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        if (starts[r] < 0 || starts[r + 1] < starts[r] || starts[r + 1] > edges) {
            return SENTEI_BAD_ARGUMENT;
        }
        for (int64_t e = starts[r]; e < starts[r + 1]; e++) {
            if (neighbours[e] < 0 || neighbours[e] >= sources) {
                return SENTEI_BAD_ARGUMENT;
            }
        }
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        float *sums = y + r * y_stride;
        int64_t c = 0;
        for (; c + 4 * LANES <= cols; c += 4 * LANES) {
            vf sum[4] = {{0}};
            for (int64_t e = starts[r]; e < starts[r + 1]; e++) {
                const float *from = x + neighbours[e] * x_stride + c;
                for (int v = 0; v < 4; v++) {
                    sum[v] += weights[e] * load(from + v * LANES);
                }
            }
            for (int v = 0; v < 4; v++) {
                store(sums + c + v * LANES, sum[v]);
            }
        }
        for (; c < cols; c += LANES) {
            const int64_t run = cols - c < LANES ? cols - c : LANES;
            vf sum = {0};
            for (int64_t e = starts[r]; e < starts[r + 1]; e++) {
                const float *from = x + neighbours[e] * x_stride + c;
                sum += weights[e] * (run < LANES ? load_first(from, run) : load(from));
            }
            store_first(sums + c, sum, run);
        }
    }
    return SENTEI_OK;
}
