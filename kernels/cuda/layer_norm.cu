/* layer_norm_f32 with the row in registers (norm.h): it is read once. Sums are fp64; the mean is subtracted as the sum of two
 * fp32 numbers, so that one far from 0 costs no digits. */
#include "cuda/norm.h"

/* The mean is high + low. */
template <class Number>
DEVICE void write_layer(const float4 *held, Number high, Number low, Number scale, int thread, int threads, int cols,
    const float *gain, const float *bias, float *y) {
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int c = 4 * (thread + i * threads);
        if (c < cols) {
            const float4 v = held[i], g = LOAD4(gain + c), b = LOAD4(bias + c);
            const float4 result = {(float)((v.x - high - low) * scale * g.x + b.x), (float)((v.y - high - low) * scale * g.y + b.y),
                (float)((v.z - high - low) * scale * g.z + b.z), (float)((v.w - high - low) * scale * g.w + b.w)};
            STORE4(y + c, result);
        }
    }
}

DEVICE void layer_norm_row(LOCAL_ARG wide *sums, int thread, int threads, const float *x, int cols, const float *gain,
    const float *bias, float *y, float epsilon) {
    float4 held[HELD];
    hold_row(x, cols, thread, threads, held);
    wide sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        sum += held[i].x;
        sum += held[i].y;
        sum += held[i].z;
        sum += held[i].w;
    }
    const wide mean = sum_of_row(sums, sum) / cols;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        FORGET4(held[i]);
        if (4 * (thread + i * threads) < cols) {
            const wide a = held[i].x - mean, b = held[i].y - mean, c = held[i].z - mean, d = held[i].w - mean;
            squares += a * a;
            squares += b * b;
            squares += c * c;
            squares += d * d;
        }
    }
    const wide scale = RSQRT(sum_of_row(sums ? sums + WARPS_OF_GROUP : 0, squares) / cols + epsilon);
    const float high = (float)mean;
    if (is_plain(scale) && high >= -1e30f && high <= 1e30f) {
        write_layer(held, high, (float)(mean - high), (float)scale, thread, threads, cols, gain, bias, y);
    } else {
        write_layer(held, mean, (wide)0, scale, thread, threads, cols, gain, bias, y);
    }
}

TUNED_KERNEL(layer_norm_row1024_f32, NORM_RESIDENT)(
    IN(float, x), int cols, IN(float, gain), IN(float, bias), OUT(float, y), float epsilon, int rows) {
    const i64 row = GROUP_ID * WARPS_OF_GROUP + WARP_ID;
    if (row < rows) {
        layer_norm_row(0, LANE, WARP, ROW(x, row), cols, ROW(gain, 0), ROW(bias, 0), ROW(y, row), epsilon);
    }
}

TUNED_KERNEL(layer_norm_row8192_f32, NORM_RESIDENT)(
    IN(float, x), int cols, IN(float, gain), IN(float, bias), OUT(float, y), float epsilon) {
    LOCAL wide sums[2 * WARPS_OF_GROUP];
    layer_norm_row(sums, LOCAL_ID, GROUP, ROW(x, GROUP_ID), cols, ROW(gain, 0), ROW(bias, 0), ROW(y, GROUP_ID), epsilon);
}
