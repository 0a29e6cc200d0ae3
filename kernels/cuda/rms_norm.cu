/* rms_norm_f32 with the row in registers (norm.h): it is read once. */
#include "cuda/norm.h"

template <class Number>
DEVICE void write_rms(const float4 *held, Number scale, int thread, int threads, int cols, const float *gain, float *y) {
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int c = 4 * (thread + i * threads);
        if (c < cols) {
            const float4 v = held[i], g = LOAD4(gain + c);
            const float4 result = {(float)(v.x * scale * g.x), (float)(v.y * scale * g.y), (float)(v.z * scale * g.z),
                (float)(v.w * scale * g.w)};
            STORE4(y + c, result);
        }
    }
}

DEVICE void rms_norm_row(LOCAL_ARG wide *sums, int thread, int threads, const float *x, int cols, const float *gain, float *y,
    float epsilon) {
    float4 held[HELD];
    hold_row(x, cols, thread, threads, held);
    wide squares = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        squares += (wide)held[i].x * held[i].x;
        squares += (wide)held[i].y * held[i].y;
        squares += (wide)held[i].z * held[i].z;
        squares += (wide)held[i].w * held[i].w;
    }
    const wide scale = RSQRT(sum_of_row(sums, squares) / cols + epsilon);
    if (is_plain(scale)) {
        write_rms(held, (float)scale, thread, threads, cols, gain, y);
    } else {
        write_rms(held, scale, thread, threads, cols, gain, y);
    }
}

TUNED_KERNEL(rms_norm_row1024_f32, NORM_RESIDENT)(
    IN(float, x), int cols, IN(float, gain), OUT(float, y), float epsilon, int rows) {
    const i64 row = GROUP_ID * WARPS_OF_GROUP + WARP_ID;
    if (row < rows) {
        rms_norm_row(0, LANE, WARP, ROW(x, row), cols, ROW(gain, 0), ROW(y, row), epsilon);
    }
}

TUNED_KERNEL(rms_norm_row8192_f32, NORM_RESIDENT)(IN(float, x), int cols, IN(float, gain), OUT(float, y), float epsilon) {
    LOCAL wide sums[WARPS_OF_GROUP];
    rms_norm_row(sums, LOCAL_ID, GROUP, ROW(x, GROUP_ID), cols, ROW(gain, 0), ROW(y, GROUP_ID), epsilon);
}
