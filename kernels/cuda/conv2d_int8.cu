/* conv2d_int8_u8 on tensor cores, and conv2d_int8_depthwise_u8 by words.
 *
 * Implicit GEMM on mma.m16n8k32: a group takes CONV_PIXELS of the output by 128 or 64 filters, a warp 32 filters of some of the
 * pixels. CONV_PIECES pieces of 16 channels under one tap after the other are copied to shared memory, of three stages while
 * one is multiplied; what lies in the padding is stored there instead. A piece of weights has four channels of four filters, as
 * they are packed. Both sides are swizzled so that neither ldmatrix nor the loads of weights meet in a bank: the fragments of
 * weights are read word by word, of the channels that ldmatrix gives the thread. Channels are a multiple of 16, and rows of x
 * and of weights begin at one of 16 bytes. */
#include "cuda/tensor.h"

#define CONV_PIXELS 128
#define CONV_PIECES 4 /* of 16 bytes, neighbours in the depth */
#define CONV_STAGES 3
#define CONV_BLOCK 16
#define CONV_DEPTH 4

struct alignas(16) Piece {
    uint word[4];
};

DEVICE Piece splat_piece(uint word) { return {{word, word, word, word}}; }

/* Where a window begins; far outside of every image where there is no such pixel. Rows of x are counted in 32 bits. */
struct Corner {
    int image; /* rows of x before it, in those of the image */
    int i, j;
};

#define CONV_NOWHERE (-(1 << 30) - (1 << 29))

template <int FILTERS> struct alignas(16) ConvSlab {
    Piece image[CONV_STAGES][CONV_PIXELS][CONV_PIECES];
    Piece filters[CONV_STAGES][CONV_PIECES * 4][FILTERS / 4];
};

/* Swizzles: eight rows of the image at one piece, and the four steps of a piece at eight filters, lie in different banks. */
DEVICE int image_place(int row, int piece) { return piece ^ (row / 2 % CONV_PIECES); }
DEVICE int filter_place(int step, int four) { return four ^ (step % 4 * 2); }

#define CONV_PARAMETERS \
    IN(u8, x), int lowest, int x_zero, IN(u8, weights), IN(int, bias), IN(float, scale), IN(u8, residual), int residual_lowest, \
        int residual_zero, float residual_scale, OUT(u8, y), LEVELS, WINDOW, int rows, int channels

template <int FILTERS>
DEVICE void conv_tensor(ConvSlab<FILTERS> *slab, CONV_PARAMETERS, int filters, int groups) {
    enum {
        ACROSS = FILTERS / 32, /* warps */
        DOWN = WARPS_OF_GROUP / ACROSS,
        TALL = CONV_PIXELS / DOWN / 16, /* products of a warp, downwards and across */
        WIDE = 4,
        OWN_PIXELS = CONV_PIXELS * CONV_PIECES / GROUP, /* pieces that a thread copies */
        OWN_FILTERS = CONV_PIECES * FILTERS / GROUP
    };
    const int of_group = filters / groups, depth = channels / groups, blocks = (of_group + CONV_BLOCK - 1) / CONV_BLOCK;
    const int across = (of_group + FILTERS - 1) / FILTERS, depth_pieces = depth / 16;
    const int pieces = kernel_height * kernel_width * depth_pieces, pixels = output_height * output_width;
    const i64 tile = GROUP_ID / ((i64)groups * across);
    const int part = (int)(GROUP_ID % ((i64)groups * across)), group = part / across, first = part % across * FILTERS;
    const uint flip = (uint)(u8)lowest * 0x01010101u;
    const Piece padding = splat_piece((uint)(u8)(x_zero + lowest) * 0x01010101u);
    Corner corners[OWN_PIXELS];
#pragma unroll
    for (int n = 0; n < OWN_PIXELS; n++) {
        const i64 row = tile * CONV_PIXELS + (LOCAL_ID + n * GROUP) / CONV_PIECES;
        const int pixel = (int)(row % pixels);
        const int i = row < rows ? pixel / output_width * stride_y - top : CONV_NOWHERE;
        corners[n] = {(int)(row / pixels) * height, i, pixel % output_width * stride_x - left};
    }
    auto stage = [&](int chunk) {
        const int item = fresh(LOCAL_ID);
        const int at = chunk % CONV_STAGES, piece = chunk * CONV_PIECES + item % CONV_PIECES;
        const int tap = piece / depth_pieces, r = tap / kernel_width, s = tap % kernel_width;
        const int channel = group * depth + piece % depth_pieces * 16;
#pragma unroll
        for (int n = 0; n < OWN_PIXELS; n++) {
            const int row = (item + n * GROUP) / CONV_PIECES;
            const int i = corners[n].i + r * dilation_y, j = corners[n].j + s * dilation_x;
            Piece *to = &slab->image[at][row][image_place(row, item % CONV_PIECES)];
            if (piece < pieces && i >= 0 && i < height && j >= 0 && j < width) {
                copy4_async((float *)to, (const float *)(ROW(x, (i64)(corners[n].image + i) * width + j) + channel), 4);
            } else {
                *to = padding;
            }
        }
#pragma unroll
        for (int n = 0; n < OWN_FILTERS; n++) {
            const int place = item + n * GROUP, block = first / CONV_BLOCK + place / (16 * CONV_PIECES);
            const int step = place / 4 % (4 * CONV_PIECES), four = place % 4;
            Piece *to = &slab->filters[at][step][filter_place(step, place / (16 * CONV_PIECES) * 4 + four)];
            if (block < blocks && chunk * CONV_PIECES + step / 4 < pieces) {
                const i64 from = ((i64)chunk * 4 * CONV_PIECES + step) * 4 + four;
                copy4_async((float *)to, (const float *)(ROW(weights, (i64)group * blocks + block) + from * 16), 4);
            } else {
                *to = splat_piece(0);
            }
        }
    };
    const int chunks = (pieces + CONV_PIECES - 1) / CONV_PIECES;
    const int m = WARP_ID / ACROSS * (16 * TALL), n0 = WARP_ID % ACROSS * 32;
    uint sums[TALL][WIDE][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < CONV_STAGES - 1; chunk++) {
        if (chunk < chunks) {
            stage(chunk);
        }
        commit_copies();
    }
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; chunk++) {
        await_copies_but<CONV_STAGES - 2>();
        BARRIER;
        if (chunk + CONV_STAGES - 1 < chunks) {
            stage(chunk + CONV_STAGES - 1);
        }
        commit_copies();
        const int at = chunk % CONV_STAGES;
#pragma unroll 1
        for (int half = 0; half < CONV_PIECES; half += 2) {
            uint right[WIDE][2];
#pragma unroll
            for (int j = 0; j < WIDE; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int step = (half + i) * 4 + LANE % 4, filter = n0 + j * 8 + LANE / 4;
                    right[j][i] = slab->filters[at][step][filter_place(step, filter / 4)].word[filter % 4];
                }
            }
#pragma unroll
            for (int i = 0; i < TALL; i++) {
                const int row = m + i * 16 + LANE % 16;
                uint own[4];
                load_matrices(own, &slab->image[at][row][image_place(row, half + LANE / 16)]);
#pragma unroll
                for (int w = 0; w < 4; w++) {
                    own[w] ^= flip;
                }
#pragma unroll
                for (int j = 0; j < WIDE; j++) {
                    multiply_add_bytes(sums[i][j], own, right[j]);
                }
            }
        }
    }
    await_copies();
    BARRIER;
    const int lane = fresh(LANE), down = fresh(m), over = fresh(n0);
    u8(*const staged)[FILTERS + 16] = (u8(*)[FILTERS + 16])slab;
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const int of = over + j * 8 + lane % 4 * 2 + c, filter = group * of_group + first + of;
            const bool is_filter = first + of < of_group;
            const int offset = is_filter ? ROW(bias, 0)[filter] : 0;
            const float factor = is_filter ? ROW(scale, 0)[filter] : 0;
#pragma unroll
            for (int i = 0; i < TALL; i++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int own = down + i * 16 + lane / 4 + h * 8;
                    const i64 row = tile * CONV_PIXELS + own;
                    float value = MUL_RN((float)(int)(sums[i][j][2 * h + c] + (uint)offset), factor);
                    if (residual && is_filter && row < rows) {
                        const int added = (int)(u8)(ROW(residual, row)[filter] - residual_lowest) - residual_zero;
                        value += MUL_RN((float)added, residual_scale);
                    }
                    staged[own][of] = quantized(value, zero, low, high);
                }
            }
        }
    }
    BARRIER;
    const bool is_packed = (((size_t)y + (size_t)y_first) | (size_t)y_stride | (size_t)of_group) % 16 == 0;
    for (int place = LOCAL_ID; place < CONV_PIXELS * FILTERS / 16; place += GROUP) {
        const int own = place / (FILTERS / 16), of = place % (FILTERS / 16) * 16;
        const i64 row = tile * CONV_PIXELS + own;
        if (row < rows && first + of < of_group) {
            GLOBAL u8 *to = ROW(y, row) + group * of_group + first + of;
            if (is_packed) {
                *(Piece *)to = *(const Piece *)(staged[own] + of);
            } else {
                for (int c = 0; c < 16 && first + of + c < of_group; c++) {
                    to[c] = staged[own][of + c];
                }
            }
        }
    }
}

#define MATRIX(name) name, name##_first, name##_stride
#define CONV_TENSOR(FILTERS) \
    TUNED_KERNEL(conv2d_int8_tensor##FILTERS##_u8, 2)(CONV_PARAMETERS, int filters, int groups) { \
        LOCAL ConvSlab<FILTERS> slab; \
        conv_tensor<FILTERS>( \
            &slab, MATRIX(x), lowest, x_zero, MATRIX(weights), MATRIX(bias), MATRIX(scale), MATRIX(residual), residual_lowest, \
            residual_zero, residual_scale, MATRIX(y), zero, low, high, height, width, output_height, output_width, \
            kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, top, left, rows, channels, filters, groups); \
    }
CONV_TENSOR(128)
CONV_TENSOR(64)

/* Four neighbouring channels of one pixel a work-item: the bytes of four taps are turned into words of one channel each, for
 * dp4a. Channels are a multiple of four, and rows of x and y begin at one of four bytes. */
TUNED_KERNEL(conv2d_int8_depthwise_packed4_u8, 4)(CONV_PARAMETERS) {
    const int quads = channels / 4, stripes = (quads + GROUP - 1) / GROUP, pixels = output_height * output_width;
    const i64 row = GROUP_ID / stripes;
    const int c = ((int)(GROUP_ID % stripes) * GROUP + LOCAL_ID) * 4, taps = kernel_height * kernel_width;
    if (row >= rows || c >= channels) {
        return;
    }
    const uint flip = (uint)(u8)lowest * 0x01010101u, padding = (uint)x_zero * 0x01010101u;
    const int pixel = (int)(row % pixels);
    uint sums[4] = {};
    int r = 0, s = 0;
    for (int tap = 0; tap < taps; tap += 4) {
        uint word[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const i64 from = tap + i < taps ? TAP_ROW(row / pixels, pixel, r, s) : -1;
            word[i] = from < 0 ? padding : *(const uint *)(ROW(x, from) + c) ^ flip;
            if (++s == kernel_width) {
                s = 0;
                r++;
            }
        }
        const uint lower[2] = {PICK(word[0], word[1], 0x5140), PICK(word[0], word[1], 0x7362)};
        const uint upper[2] = {PICK(word[2], word[3], 0x5140), PICK(word[2], word[3], 0x7362)};
        const Piece own = *(const Piece *)(ROW(weights, c / CONV_BLOCK) + (i64)tap * CONV_BLOCK + c % CONV_BLOCK * CONV_DEPTH);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const uint four = PICK(lower[k / 2], upper[k / 2], k % 2 ? 0x7632 : 0x5410);
            sums[k] = DOT4(four, own.word[k], sums[k]);
        }
    }
    uint result = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float value = MUL_RN((float)(int)(sums[k] + (uint)ROW(bias, 0)[c + k]), ROW(scale, 0)[c + k]);
        if (residual) {
            const int added = (int)(u8)(ROW(residual, row)[c + k] - residual_lowest) - residual_zero;
            value += MUL_RN((float)added, residual_scale);
        }
        result |= (uint)quantized(value, zero, low, high) << (8 * k);
    }
    *(uint *)(ROW(y, row) + c) = result;
}
