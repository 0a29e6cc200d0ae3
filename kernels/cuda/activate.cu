/* activate_f32 for rows of a multiple of four columns that begin where four floats can be loaded at once: a thread takes four
 * columns, a group 4 GROUP. */
#include "cuda/words.h"

TUNED_KERNEL(activate_packed4_f32, 6)(int function, IN(float, x), int cols, IN(float, multiplier), OUT(float, y)) {
    const int stripes = (cols + 4 * GROUP - 1) / (4 * GROUP);
    const i64 row = GROUP_ID / stripes;
    const int c = 4 * ((int)(GROUP_ID % stripes) * GROUP + LOCAL_ID);
    if (c < cols) {
        const float4 value = LOAD4_ONCE(ROW(x, row) + c);
        float4 by = {1, 1, 1, 1};
        if (multiplier) {
            by = LOAD4_ONCE(ROW(multiplier, row) + c);
        }
        const float4 result = {activate_one(function, value.x) * by.x, activate_one(function, value.y) * by.y,
            activate_one(function, value.z) * by.z, activate_one(function, value.w) * by.w};
        STORE4(ROW(y, row) + c, result);
    }
}
