/* y = table[x]; exact. */
#include "kernel.h"

#define LOOKUP(type, element) \
    int KERNEL(lookup_u8_##type)( \
        const uint8_t *x, int64_t x_stride, int32_t lowest, const element *table, element *y, int64_t y_stride, \
        int64_t cols, int64_t row_begin, int64_t row_end) { \
        for (int64_t r = row_begin; r < row_end; r++) { \
            for (int64_t c = 0; c < cols; c++) { \
                y[r * y_stride + c] = table[(uint8_t)(x[r * x_stride + c] - lowest)]; \
            } \
        } \
        return SENTEI_OK; \
    }
LOOKUP(u8, uint8_t)
LOOKUP(f32, float)
