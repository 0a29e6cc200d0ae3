/* Convolution of 8-bit images with packed 8-bit filters, rounded once to 8 bits; exact. */
#include "int8.h"

enum { BLOCK = 16, DEPTH = 4 };

int KERNEL(conv2d_int8_u8)(
    const uint8_t *x, int64_t x_stride, int32_t lowest, int32_t x_zero, const int8_t *weights, int64_t weights_stride,
    const int32_t *bias, const float *scale, const uint8_t *residual, int64_t residual_stride, int32_t residual_lowest,
    int32_t residual_zero, float residual_scale, uint8_t *y, int64_t y_stride, int32_t zero, int32_t low, int32_t high,
    const struct sentei_window *window, int64_t channels, int64_t filters, int64_t groups, int64_t block_begin,
    int64_t block_end, int64_t pixel_begin, int64_t pixel_end) {
    const struct levels levels = levels_of(zero, low, high);
    const int depthwise = channels == groups && filters == groups;
    const int64_t of_group = filters / groups, depth = channels / groups, blocks = (of_group + BLOCK - 1) / BLOCK;
    const int64_t pixels = (int64_t)window->output_height * window->output_width;
    const uint8_t flip = (uint8_t)lowest;
    for (int64_t block = block_begin; block < block_end; block++) {
        const int64_t group = depthwise ? 0 : block / blocks;
        const int64_t first = depthwise ? block * BLOCK : group * of_group + block % blocks * BLOCK;
        const int64_t end = depthwise ? filters : (group + 1) * of_group;
        const int64_t count = end - first < BLOCK ? end - first : BLOCK;
        for (int64_t pixel = pixel_begin; pixel < pixel_end; pixel++) {
            const int32_t p = (int32_t)(pixel % pixels / window->output_width);
            const int32_t q = (int32_t)(pixel % window->output_width);
            const int8_t *w = weights + block * weights_stride;
            uint32_t sums[BLOCK] = {0};
            for (int32_t tap = 0; tap < window->kernel_height * window->kernel_width; tap++) {
                const int64_t from = input_pixel(
                    window, pixel / pixels, p, q, tap / window->kernel_width, tap % window->kernel_width);
                const uint8_t *source = x + from * x_stride + (depthwise ? first : group * depth);
                if (depthwise) {
                    for (int k = 0; k < count; k++) {
                        sums[k] += (uint32_t)((from < 0 ? x_zero : source[k] ^ flip) * w[tap / DEPTH * BLOCK * DEPTH + k * DEPTH + tap % DEPTH]);
                    }
                    continue;
                }
                for (int64_t c = 0; c < depth; c++) {
                    const int32_t value = from < 0 ? x_zero : source[c] ^ flip;
                    for (int k = 0; k < BLOCK; k++) {
                        sums[k] += (uint32_t)(value * w[c / DEPTH * BLOCK * DEPTH + k * DEPTH + c % DEPTH]);
                    }
                }
                w += (depth + DEPTH - 1) / DEPTH * BLOCK * DEPTH;
            }
            for (int k = 0; k < count; k++) {
                float value = (float)(int32_t)(sums[k] + (uint32_t)bias[first + k]) * scale[first + k];
                if (residual) {
                    const int32_t added = (uint8_t)(residual[pixel * residual_stride + first + k] - residual_lowest) - residual_zero;
                    value += (float)added * residual_scale;
                }
                y[pixel * y_stride + first + k] = quantized(value, levels);
            }
        }
    }
    return SENTEI_OK;
}
