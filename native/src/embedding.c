/* Row ids[i] of the table into row i of the output, or added to it: exact, or one rounding. All ids of the range are
 * checked before the first row is written. */
#include "kernel.h"

int KERNEL(embedding_f32)(
    const float *table, int64_t table_stride, int64_t entries, const int32_t *ids, float *output,
    int64_t output_stride, int64_t cols, int32_t accumulate, int64_t row_begin, int64_t row_end) {
    for (int64_t r = row_begin; r < row_end; r++) {
        if (ids[r] < 0 || ids[r] >= entries) {
            return SENTEI_BAD_ARGUMENT;
        }
    }
    for (int64_t r = row_begin; r < row_end; r++) {
        const float *entry = table + ids[r] * table_stride;
        float *row = output + r * output_stride;
        if (accumulate) {
            for (int64_t c = 0; c < cols; c++) {
                row[c] += entry[c];
            }
        } else {
            memcpy(row, entry, (size_t)cols * sizeof(float));
        }
    }
    return SENTEI_OK;
}
