/* The largest 8-bit integer of every window, channel by channel; exact. */
#include "int8.h"

int KERNEL(max_pool_int8_u8)(
    const uint8_t *x, int64_t x_stride, int32_t lowest, uint8_t *y, int64_t y_stride, const struct sentei_window *window,
    int64_t channels, int64_t pixel_begin, int64_t pixel_end) {
    const int64_t pixels = (int64_t)window->output_height * window->output_width;
    const uint8_t flip = (uint8_t)lowest;
    for (int64_t pixel = pixel_begin; pixel < pixel_end; pixel++) {
        const int32_t p = (int32_t)(pixel % pixels / window->output_width);
        const int32_t q = (int32_t)(pixel % window->output_width);
        uint8_t *most = y + pixel * y_stride;
        if (channels > 0) {
            memset(most, flip, (size_t)channels);
        }
        for (int32_t r = 0; r < window->kernel_height; r++) {
            for (int32_t s = 0; s < window->kernel_width; s++) {
                const int64_t from = input_pixel(window, pixel / pixels, p, q, r, s);
                const uint8_t *source = x + from * x_stride;
                for (int64_t c = 0; from >= 0 && c < channels; c++) {
                    const uint8_t a = most[c] ^ flip, b = source[c] ^ flip;
                    most[c] = (a > b ? a : b) ^ flip;
                }
            }
        }
    }
    return SENTEI_OK;
}
