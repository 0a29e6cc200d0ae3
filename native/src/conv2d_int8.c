/* Convolution of 8-bit images with packed 8-bit filters, rounded once to 8 bits; exact.
 *
 * Implicit GEMM: a tile is some pixels of the output times some blocks of 16 filters, whose sums stay in registers while the
 * taps of the windows go by; a step is four channels of one tap, which every pixel multiplies with the same weights. Rows of
 * pixels are read where they lie, those of the padding from a row of zero points. Where channels are no whole steps, the
 * windows of some pixels are copied out first, padded, and are then a convolution of 1 x 1.
 *
 * Depthwise, neighbours of a step are taps: bytes of four pixels under the window are interleaved, channel by channel. */
#include "int8.h"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum { BLOCK = 16, DEPTH = 4, STEP = BLOCK * DEPTH, GATHERED = 96 };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Where the window of an output pixel begins. */
struct corner {
    int64_t offset; /* in x, of the first tap, in the image or not */
    int32_t i, j;
};

struct convolution {
    const uint8_t *x;
    int64_t x_stride;
    uint32_t flip; /* what makes a byte its distance to the lowest value of its type: 0 or 0x80 in each byte */
    const uint8_t *padding;
    const int8_t *weights;
    int64_t weights_stride;
    const int32_t *bias;
    const float *scale;
    const uint8_t *residual;
    int64_t residual_stride;
    uint8_t residual_lowest;
    int32_t residual_zero;
    float residual_scale;
    uint8_t *y;
    int64_t y_stride;
    struct levels levels;
    int32_t low;
    const struct corner *corners; /* of the pixels from the first of the call on */
    int64_t pixel_begin;
    struct sentei_window window;
};

static struct corner corner_of(const struct sentei_window *w, int64_t x_stride, int64_t pixel) {
    const int64_t pixels = (int64_t)w->output_height * w->output_width, image = pixel / pixels;
    const int32_t i = (int32_t)(pixel % pixels / w->output_width) * w->stride_y - w->top;
    const int32_t j = (int32_t)(pixel % w->output_width) * w->stride_x - w->left;
    return (struct corner){((image * w->height + i) * w->width + j) * x_stride, i, j};
}

static void find_corners(
    const struct sentei_window *w, int64_t x_stride, int64_t pixel, int64_t pixel_end, struct corner *corners) {
    struct corner corner = corner_of(w, x_stride, pixel);
    int64_t left = w->output_width - pixel % w->output_width; /* pixels of the row */
    while (pixel < pixel_end) {
        *corners++ = corner;
        pixel++;
        corner.j += w->stride_x;
        corner.offset += w->stride_x * x_stride;
        if (--left == 0 && pixel < pixel_end) {
            corner = corner_of(w, x_stride, pixel);
            left = w->output_width;
        }
    }
}

/* The pixel under a tap (down, right) of a window, or the row of zero points. */
INLINE const uint8_t *under(const struct convolution *v, struct corner corner, int32_t down, int32_t right) {
    const int inside = (uint32_t)(corner.i + down) < (uint32_t)v->window.height
        && (uint32_t)(corner.j + right) < (uint32_t)v->window.width;
    const int64_t offset = ((int64_t)down * v->window.width + right) * v->x_stride;
    return inside ? v->x + (corner.offset + offset) : v->padding;
}

/* Sums of whole blocks at one pixel become `count` results from filter `first` on. */
static void finish(const struct convolution *v, const int32_t *sums, int64_t pixel, int64_t first, int64_t count) {
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t here = smaller(BLOCK, count - begin), filter = first + begin;
        float scale[BLOCK] = {0};
        uint8_t added[BLOCK] = {0};
        int32_t results[BLOCK];
        uint8_t bytes[BLOCK];
        memcpy(scale, v->scale + filter, (size_t)here * sizeof *scale);
        if (v->residual != NULL) {
            memcpy(added, v->residual + pixel * v->residual_stride + filter, (size_t)here);
        }
        for (int k = 0; k < BLOCK; k += LANES) {
            vf value = __builtin_convertvector(load_int(sums + begin + k), vf) * load(scale + k);
            if (v->residual != NULL) {
                vi whole;
                for (int lane = 0; lane < LANES; lane++) {
                    whole[lane] = (uint8_t)(added[k + lane] - v->residual_lowest) - v->residual_zero;
                }
                value = value + __builtin_convertvector(whole, vf) * v->residual_scale;
            }
            store_int(results + k, quantized_lanes(value, v->levels));
        }
        for (int k = 0; k < BLOCK; k++) {
            bytes[k] = (uint8_t)results[k];
        }
        memcpy(v->y + pixel * v->y_stride + filter, bytes, (size_t)here);
    }
}

/* Of each tier: the sums of a block at one pixel, the weights of a step, its input, and how they are multiplied. */
#if defined(__AVX512VNNI__)

enum { PIXELS = 6, BLOCKS = 4 };
typedef __m512i sums_t;
typedef __m512i filter_t;
typedef __m512i input_t;
INLINE void begin(sums_t *sums, const int32_t *bias) { *sums = _mm512_loadu_si512(bias); }
INLINE filter_t filter_of(const int8_t *w) { return _mm512_loadu_si512(w); }
INLINE input_t input_of(const uint8_t *p, uint32_t flip) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_xor_si512(_mm512_set1_epi32(word), _mm512_set1_epi32((int32_t)flip));
}
INLINE void multiply_add(sums_t *sums, filter_t w, input_t p) { *sums = _mm512_dpbusd_epi32(*sums, p, w); }
INLINE void end(const sums_t *sums, const int32_t *bias, int32_t *result) {
    (void)bias;
    _mm512_storeu_si512(result, *sums);
}

#elif defined(__AVX2__)

/* Pairs of products in 16 bits, which hold them, are summed to 32: no form of VPMADDUBSW, which saturates. */
#if defined(__AVX512BW__)
enum { PIXELS = 6, BLOCKS = 2, PARTS = 2 };
typedef __m512i part_t;
#define WIDEN_FILTER(p) _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(p)))
#define WIDEN_INPUT(word) _mm512_cvtepu8_epi16(_mm256_set1_epi32(word))
#define PAIRS(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
#else
enum { PIXELS = 2, BLOCKS = 1, PARTS = 4 };
typedef __m256i part_t;
#define WIDEN_FILTER(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
#define WIDEN_INPUT(word) _mm256_cvtepu8_epi16(_mm_set1_epi32(word))
#define PAIRS(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#endif
typedef struct {
    part_t part[PARTS];
} sums_t;
typedef sums_t filter_t;
typedef part_t input_t;
INLINE void begin(sums_t *sums, const int32_t *bias) {
    (void)bias;
    *sums = (sums_t){0};
}
INLINE filter_t filter_of(const int8_t *w) {
    filter_t filter;
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; i++) {
        filter.part[i] = WIDEN_FILTER(w + i * STEP / PARTS);
    }
    return filter;
}
INLINE input_t input_of(const uint8_t *p, uint32_t flip) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return WIDEN_INPUT(word ^ (int32_t)flip);
}
INLINE void multiply_add(sums_t *sums, filter_t w, input_t p) {
#pragma GCC unroll 4
    for (int i = 0; i < PARTS; i++) {
        sums->part[i] = PAIRS(sums->part[i], w.part[i], p);
    }
}
INLINE void end(const sums_t *sums, const int32_t *bias, int32_t *result) {
    uint32_t halves[2 * BLOCK];
    memcpy(halves, sums, sizeof halves);
    for (int k = 0; k < BLOCK; k++) {
        result[k] = (int32_t)(halves[2 * k] + halves[2 * k + 1] + (uint32_t)bias[k]);
    }
}

#elif defined(__ARM_NEON)

enum { PIXELS = 1, BLOCKS = 1 };
typedef struct {
    int32x4_t of[BLOCK];
} sums_t;
typedef const int8_t *filter_t;
typedef int16x4_t input_t;
INLINE void begin(sums_t *sums, const int32_t *bias) {
#pragma GCC unroll 16
    for (int k = 0; k < BLOCK; k++) {
        sums->of[k] = vsetq_lane_s32(bias[k], vdupq_n_s32(0), 0);
    }
}
INLINE filter_t filter_of(const int8_t *w) { return w; }
INLINE input_t input_of(const uint8_t *p, uint32_t flip) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return vget_low_s16(vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word ^ flip)))));
}
INLINE void multiply_add(sums_t *sums, filter_t w, input_t p) {
#pragma GCC unroll 4
    for (int i = 0; i < BLOCK; i += 4) {
        const int8x16_t four = vld1q_s8(w + i * DEPTH);
        const int16x8_t low = vmovl_s8(vget_low_s8(four)), high = vmovl_s8(vget_high_s8(four));
        sums->of[i] = vmlal_s16(sums->of[i], vget_low_s16(low), p);
        sums->of[i + 1] = vmlal_s16(sums->of[i + 1], vget_high_s16(low), p);
        sums->of[i + 2] = vmlal_s16(sums->of[i + 2], vget_low_s16(high), p);
        sums->of[i + 3] = vmlal_s16(sums->of[i + 3], vget_high_s16(high), p);
    }
}
INLINE void end(const sums_t *sums, const int32_t *bias, int32_t *result) {
    (void)bias;
#pragma GCC unroll 16
    for (int k = 0; k < BLOCK; k++) {
        result[k] = vaddvq_s32(sums->of[k]);
    }
}

#else

enum { PIXELS = 1, BLOCKS = 1 };
typedef struct {
    uint32_t of[BLOCK];
} sums_t;
typedef const int8_t *filter_t;
typedef struct {
    int32_t of[DEPTH];
} input_t;
INLINE void begin(sums_t *sums, const int32_t *bias) { memcpy(sums, bias, sizeof *sums); }
INLINE filter_t filter_of(const int8_t *w) { return w; }
INLINE input_t input_of(const uint8_t *p, uint32_t flip) {
    input_t input;
    for (int c = 0; c < DEPTH; c++) {
        input.of[c] = p[c] ^ (flip & 0xff);
    }
    return input;
}
INLINE void multiply_add(sums_t *sums, filter_t w, input_t p) {
    for (int k = 0; k < BLOCK; k++) {
        for (int c = 0; c < DEPTH; c++) {
            sums->of[k] += (uint32_t)(p.of[c] * w[k * DEPTH + c]);
        }
    }
}
INLINE void end(const sums_t *sums, const int32_t *bias, int32_t *result) {
    (void)bias;
    memcpy(result, sums, sizeof *sums);
}

#endif

/* Blocks of filters of one group: the first and the last of them, and what they multiply. */
struct part {
    const int8_t *weights;
    int64_t first, end; /* filters */
    int64_t channel, depth;
    int32_t bias[BLOCKS * BLOCK];
};

#if defined(__AVX512VNNI__)
/* Four full blocks at one pixel at once. */
INLINE void finish_four(
    const struct convolution *v, const sums_t *sums, int has_residual, int64_t pixel, int64_t first) {
    const __m512 most = _mm512_set1_ps(v->levels.most);
    __m512i whole[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
        __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[n]), _mm512_loadu_ps(v->scale + first + BLOCK * n));
        if (has_residual) {
            const uint8_t *residual = v->residual + pixel * v->residual_stride + first + BLOCK * n;
            const __m128i bytes = _mm_xor_si128(
                _mm_loadu_si128((const void *)residual), _mm_set1_epi8((char)v->residual_lowest));
            const __m512i added = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(v->residual_zero));
            value = _mm512_add_ps(
                value, _mm512_mul_ps(_mm512_cvtepi32_ps(added), _mm512_set1_ps(v->residual_scale)));
            value = _mm512_max_ps(value, _mm512_set1_ps(v->levels.least)); /* NaN is the second one */
        }
        whole[n] = _mm512_cvtps_epi32(_mm512_min_ps(value, most)); /* below -2^31 it is -2^31 */
    }
    const __m512i zero = _mm512_set1_epi16((int16_t)v->levels.zero);
    const __m512i low = _mm512_set1_epi16((int16_t)v->low), byte = _mm512_set1_epi16(0xff);
    __m512i half[2];
#pragma GCC unroll 2
    for (int n = 0; n < 2; n++) {
        half[n] = _mm512_adds_epi16(_mm512_packs_epi32(whole[2 * n], whole[2 * n + 1]), zero);
        half[n] = _mm512_and_si512(_mm512_max_epi16(half[n], low), byte);
    }
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    _mm512_storeu_si512(
        v->y + pixel * v->y_stride + first, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(half[0], half[1])));
}
#endif

/* `blocks` blocks at `pixels` pixels from `pixel` on, of which `count` are wanted. */
INLINE void tile(
    const struct convolution *v, const struct part *part, int pixels, int blocks, int64_t pixel, int64_t count) {
    const struct sentei_window *w = &v->window;
    struct corner corners[PIXELS];
    sums_t sums[PIXELS][BLOCKS];
#pragma GCC unroll 8
    for (int m = 0; m < pixels; m++) {
        corners[m] = v->corners[pixel - v->pixel_begin + (m < count ? m : count - 1)];
#pragma GCC unroll 8
        for (int n = 0; n < blocks; n++) {
            begin(&sums[m][n], part->bias + n * BLOCK);
        }
    }
    const int8_t *weights = part->weights;
    for (int32_t r = 0; r < w->kernel_height; r++) {
        for (int32_t s = 0; s < w->kernel_width; s++) {
            const int32_t down = r * w->dilation_y, right = s * w->dilation_x;
            const uint8_t *rows[PIXELS];
#pragma GCC unroll 8
            for (int m = 0; m < pixels; m++) {
                rows[m] = under(v, corners[m], down, right) + part->channel;
            }
            for (int64_t c = 0; c < part->depth; c += DEPTH) {
                filter_t filters[BLOCKS];
#pragma GCC unroll 8
                for (int n = 0; n < blocks; n++) {
                    filters[n] = filter_of(weights + n * v->weights_stride);
                }
#pragma GCC unroll 8
                for (int m = 0; m < pixels; m++) {
                    const input_t input = input_of(rows[m] + c, v->flip);
#pragma GCC unroll 8
                    for (int n = 0; n < blocks; n++) {
                        multiply_add(&sums[m][n], filters[n], input);
                    }
                }
                weights += STEP;
            }
        }
    }
#if defined(__AVX512VNNI__)
    if (blocks == 4 && part->end - part->first >= 4 * BLOCK) {
        for (int has_residual = 0; has_residual < 2; has_residual++) {
            if (has_residual != (v->residual != NULL)) {
                continue;
            }
#pragma GCC unroll 8
            for (int m = 0; m < pixels; m++) {
                if (m < count) {
                    finish_four(v, sums[m], has_residual, pixel + m, part->first);
                }
            }
        }
        return;
    }
#endif
#pragma GCC unroll 8
    for (int m = 0; m < pixels; m++) {
        int32_t results[BLOCKS * BLOCK];
#pragma GCC unroll 8
        for (int n = 0; n < blocks; n++) {
            end(&sums[m][n], part->bias + n * BLOCK, results + n * BLOCK);
        }
        if (m < count) {
            finish(v, results, pixel + m, part->first, part->end - part->first);
        }
    }
}

/* Tiles of as many pixels as registers hold; the rest in smaller ones. */
#define TILES(blocks) \
    static void tiles_##blocks( \
        const struct convolution *v, const struct part *part, int64_t pixel, int64_t pixel_end) { \
        for (; pixel < pixel_end;) { \
            const int64_t left = pixel_end - pixel; \
            if (PIXELS == 6 && left > 4) { \
                tile(v, part, PIXELS, blocks, pixel, left < PIXELS ? left : PIXELS); \
                pixel += PIXELS; \
            } else if (PIXELS == 6 && left > 2) { \
                tile(v, part, PIXELS == 6 ? 4 : 1, blocks, pixel, left); \
                pixel += 4; \
            } else if (PIXELS > 1 && left > 1) { \
                tile(v, part, PIXELS > 1 ? 2 : 1, blocks, pixel, 2); \
                pixel += 2; \
            } else { \
                tile(v, part, 1, blocks, pixel, 1); \
                pixel++; \
            } \
        } \
    }
TILES(1)
#if defined(__AVX512BW__)
TILES(2)
#endif
#if defined(__AVX512VNNI__)
TILES(3)
TILES(4)
#endif

static void run_part(const struct convolution *v, const struct part *part, int64_t blocks, int64_t pixel, int64_t end) {
    switch (blocks) {
#if defined(__AVX512VNNI__)
        case 4: tiles_4(v, part, pixel, end); break;
        case 3: tiles_3(v, part, pixel, end); break;
#endif
#if defined(__AVX512BW__)
        case 2: tiles_2(v, part, pixel, end); break;
#endif
        default: tiles_1(v, part, pixel, end); break;
    }
}

#if defined(__AVX512VBMI__)

/* Windows of one pixel whose rows lie packed in the image, each by one permutation. Writes up to SLACK bytes more. */
enum { SLACK = 64 };

struct expansion {
    __m512i order;
    __mmask64 bytes;
    int64_t width; /* of a row of the window, padded; 0 where this is not the way */
};

static struct expansion expansion_of(const struct convolution *v, int64_t depth) {
    const int64_t padded = (depth + DEPTH - 1) / DEPTH * DEPTH, width = padded * v->window.kernel_width;
    struct expansion e = {_mm512_setzero_si512(), 0, 0};
    if (width > SLACK || v->window.dilation_x != 1 || v->x_stride != depth) {
        return e;
    }
    uint8_t order[SLACK];
    for (int64_t i = 0; i < SLACK; i++) {
        order[i] = (uint8_t)(i < width && i % padded < depth ? i / padded * depth + i % padded : SLACK - 1);
    }
    e.order = _mm512_loadu_si512(order);
    e.bytes = ((__mmask64)1 << (depth * v->window.kernel_width)) - 1; /* fewer than SLACK, of which some are padding */
    e.width = width;
    return e;
}

INLINE int expand(const struct convolution *v, const struct expansion *e, struct corner corner, uint8_t *to) {
    const struct sentei_window *w = &v->window;
    if (e->width == 0 || corner.j < 0 || corner.j + w->kernel_width > w->width) {
        return 0;
    }
    for (int32_t r = 0; r < w->kernel_height; r++, to += e->width) {
        const int32_t down = r * w->dilation_y;
        if ((uint32_t)(corner.i + down) < (uint32_t)w->height) {
            const uint8_t *from = v->x + (corner.offset + (int64_t)down * w->width * v->x_stride);
            _mm512_storeu_si512(to, _mm512_permutexvar_epi8(e->order, _mm512_maskz_loadu_epi8(e->bytes, from)));
        } else {
            memset(to, v->padding[0], (size_t)e->width);
        }
    }
    return 1;
}

#else

enum { SLACK = 0 };
struct expansion {
    int64_t width;
};
static struct expansion expansion_of(const struct convolution *v, int64_t depth) {
    (void)v, (void)depth;
    return (struct expansion){0};
}
INLINE int expand(const struct convolution *v, const struct expansion *e, struct corner corner, uint8_t *to) {
    (void)v, (void)e, (void)corner, (void)to;
    return 0;
}

#endif

/* The windows of some pixels, each tap padded to whole steps: rows of `width` bytes. */
static void gather(
    const struct convolution *v, int64_t channel, int64_t depth, int64_t pixel, int64_t end, uint8_t *rows,
    int64_t width) {
    const struct sentei_window *w = &v->window;
    const int64_t whole = depth / DEPTH * DEPTH;
    const struct expansion expansion = expansion_of(v, depth);
    for (; pixel < end; pixel++, rows += width) {
        uint8_t *to = rows;
        if (expand(v, &expansion, v->corners[pixel - v->pixel_begin], rows)) {
            continue;
        }
        for (int32_t r = 0; r < w->kernel_height; r++) {
            for (int32_t s = 0; s < w->kernel_width; s++, to += DEPTH) {
                const uint8_t *from =
                    under(v, v->corners[pixel - v->pixel_begin], r * w->dilation_y, s * w->dilation_x) + channel;
                if (whole > 0) {
                    memcpy(to, from, (size_t)whole);
                    from += whole;
                    to += whole;
                }
                uint32_t word = from[0];
                word |= depth - whole > 1 ? (uint32_t)from[1] << 8 : 0;
                word |= depth - whole > 2 ? (uint32_t)from[2] << 16 : 0;
                memcpy(to, &word, sizeof word);
            }
        }
    }
}

static void dense(
    const struct convolution *v, int64_t of_group, int64_t depth, int64_t block, int64_t block_end, int64_t pixel,
    int64_t pixel_end) {
    const int64_t blocks = (of_group + BLOCK - 1) / BLOCK;
    while (block < block_end) {
        const int64_t group = block / blocks;
        const int64_t count = smaller(smaller(BLOCKS, (group + 1) * blocks - block), block_end - block);
        struct part part = {
            .weights = v->weights + block * v->weights_stride,
            .first = group * of_group + block % blocks * BLOCK,
            .channel = group * depth,
            .depth = depth,
        };
        part.end = smaller(part.first + count * BLOCK, (group + 1) * of_group);
        memcpy(part.bias, v->bias + part.first, (size_t)(part.end - part.first) * sizeof(int32_t));
        run_part(v, &part, count, pixel, pixel_end);
        block += count;
    }
}

/* A convolution of 1 x 1 over what is gathered, of one group after the other. */
static void gathered(
    const struct convolution *v, int64_t of_group, int64_t depth, int64_t width, int64_t block, int64_t block_end,
    int64_t pixel_end, uint8_t *rows) {
    const int64_t blocks = (of_group + BLOCK - 1) / BLOCK;
    struct corner corners[GATHERED];
    for (int64_t i = 0; i < GATHERED; i++) {
        corners[i] = (struct corner){i * width, 0, (int32_t)i};
    }
    while (block < block_end) {
        const int64_t group = block / blocks, end = smaller((group + 1) * blocks, block_end);
        for (int64_t pixel = v->pixel_begin; pixel < pixel_end; pixel += GATHERED) {
            const int64_t last = smaller(pixel + GATHERED, pixel_end);
            gather(v, group * depth, depth, pixel, last, rows, width);
            struct convolution flat = *v;
            flat.x = rows;
            flat.x_stride = width;
            flat.corners = corners;
            flat.pixel_begin = pixel;
            flat.window = (struct sentei_window){1, GATHERED, 1, GATHERED, 1, 1, 1, 1, 1, 1, 0, 0};
            struct part part = {.channel = 0, .depth = width};
            for (int64_t b = block; b < end; b += BLOCKS) {
                const int64_t count = smaller(BLOCKS, end - b);
                part.weights = v->weights + b * v->weights_stride;
                part.first = group * of_group + b % blocks * BLOCK;
                part.end = smaller(part.first + count * BLOCK, (group + 1) * of_group);
                memcpy(part.bias, v->bias + part.first, (size_t)(part.end - part.first) * sizeof(int32_t));
                run_part(&flat, &part, count, pixel, last);
            }
        }
        block = end;
    }
}

/* Depthwise: the channels of a call and what they are multiplied with. */
struct channels {
    int64_t first, end;
    int64_t steps;         /* of four taps, some of which may lie beyond the window and have weights of 0 */
    int is_sliding;        /* a step is a column of the window, otherwise neighbours of a row */
    const uint8_t **rows;  /* of the pixels under one window */
    int64_t *offsets;      /* of these rows in x from that of the first tap */
    int8_t *weights;       /* as the tier wants them, like what follows */
    int32_t *bias;
    float *scale;
};

/* The weights of one step, lowest tap first. */
INLINE uint32_t step_of(const struct convolution *v, const struct channels *d, int64_t filter, int64_t step) {
    const int8_t *from = v->weights + filter / BLOCK * v->weights_stride + filter % BLOCK * DEPTH;
    uint32_t word = 0;
    if (!d->is_sliding) {
        memcpy(&word, from + step * STEP, sizeof word);
        return word;
    }
    for (int32_t r = 0, tap = (int32_t)step; r < v->window.kernel_height; r++, tap += v->window.kernel_width) {
        word |= (uint32_t)(uint8_t)from[tap / DEPTH * STEP + tap % DEPTH] << (8 * r);
    }
    return word;
}

/* Rows under the window of a pixel. */
INLINE void find_rows(const struct convolution *v, const struct channels *d, int64_t pixel) {
    const struct sentei_window *w = &v->window;
    const struct corner corner = v->corners[pixel - v->pixel_begin];
    const int64_t taps = (int64_t)w->kernel_height * w->kernel_width;
    if (corner.i >= 0 && corner.i + (w->kernel_height - 1) * w->dilation_y < w->height && corner.j >= 0
        && corner.j + (w->kernel_width - 1) * w->dilation_x < w->width) {
        for (int64_t tap = 0; tap < taps; tap++) {
            d->rows[tap] = v->x + (corner.offset + d->offsets[tap]);
        }
        return;
    }
    for (int64_t tap = 0; tap < taps; tap++) {
        d->rows[tap] = under(
            v, corner, (int32_t)(tap / w->kernel_width) * w->dilation_y,
            (int32_t)(tap % w->kernel_width) * w->dilation_x);
    }
}

#if defined(__AVX512VNNI__)

enum { SLIDING = 3 }; /* columns of a window that slides */

/* The bytes of four taps are interleaved in parts of 16: quarter n of the sums has channels 4 n to 4 n + 3 of every part, and
 * packing results puts them back in order. Weights, bias and scale lie by quarters. */
#define DEPTHWISE(bits, vector, reals, prefix, suffix, mask_t) \
    INLINE void quarters_##bits(const vector taps[DEPTH], vector quarters[4]) { \
        const vector low[2] = {prefix##_unpacklo_epi8(taps[0], taps[1]), prefix##_unpacklo_epi8(taps[2], taps[3])}; \
        const vector high[2] = {prefix##_unpackhi_epi8(taps[0], taps[1]), prefix##_unpackhi_epi8(taps[2], taps[3])}; \
        quarters[0] = prefix##_unpacklo_epi16(low[0], low[1]); \
        quarters[1] = prefix##_unpackhi_epi16(low[0], low[1]); \
        quarters[2] = prefix##_unpacklo_epi16(high[0], high[1]); \
        quarters[3] = prefix##_unpackhi_epi16(high[0], high[1]); \
    } \
    INLINE void begin_##bits(const int32_t *bias, vector sums[4]) { \
        _Pragma("GCC unroll 4") for (int n = 0; n < 4; n++) { \
            sums[n] = prefix##_loadu_##suffix((const void *)(bias + n * (bits / 32))); \
        } \
    } \
    INLINE void add_##bits(vector sums[4], const vector quarters[4], const int8_t *weights) { \
        _Pragma("GCC unroll 4") for (int n = 0; n < 4; n++) { \
            const vector w = prefix##_loadu_##suffix((const void *)(weights + n * (bits / 8))); \
            sums[n] = prefix##_dpbusd_epi32(sums[n], quarters[n], w); \
        } \
    } \
    INLINE void finish_##bits( \
        const struct convolution *v, vector sums[4], const float *scale, mask_t mask, const uint8_t *residual, \
        uint8_t *y) { \
        vector quarters[4]; \
        if (residual != NULL) { \
            vector taps[DEPTH] = {prefix##_xor_##suffix( \
                prefix##_maskz_loadu_epi8(mask, residual), prefix##_set1_epi8((char)v->residual_lowest))}; \
            taps[1] = taps[2] = taps[3] = prefix##_setzero_##suffix(); \
            quarters_##bits(taps, quarters); \
        } \
        _Pragma("GCC unroll 4") for (int n = 0; n < 4; n++) { \
            reals value = \
                prefix##_mul_ps(prefix##_cvtepi32_ps(sums[n]), prefix##_loadu_ps(scale + n * (bits / 32))); \
            if (residual != NULL) { \
                const vector added = prefix##_sub_epi32(quarters[n], prefix##_set1_epi32(v->residual_zero)); \
                value = prefix##_add_ps( \
                    value, prefix##_mul_ps(prefix##_cvtepi32_ps(added), prefix##_set1_ps(v->residual_scale))); \
                value = prefix##_max_ps(value, prefix##_set1_ps(v->levels.least)); /* NaN is the second one */ \
            } \
            /* What is below -2^31 becomes -2^31. */ \
            sums[n] = prefix##_cvtps_epi32(prefix##_min_ps(value, prefix##_set1_ps(v->levels.most))); \
        } \
        const vector zero = prefix##_set1_epi16((int16_t)v->levels.zero); \
        const vector low = prefix##_set1_epi16((int16_t)v->low), byte = prefix##_set1_epi16(0xff); \
        vector half[2]; \
        _Pragma("GCC unroll 2") for (int n = 0; n < 2; n++) { \
            half[n] = prefix##_adds_epi16(prefix##_packs_epi32(sums[2 * n], sums[2 * n + 1]), zero); \
            half[n] = prefix##_and_##suffix(prefix##_max_epi16(half[n], low), byte); \
        } \
        const vector bytes = prefix##_packus_epi16(half[0], half[1]); \
        if (mask == (mask_t)~(mask_t)0) { \
            prefix##_storeu_##suffix((void *)y, bytes); \
        } else { \
            prefix##_mask_storeu_epi8(y, mask, bytes); \
        } \
    } \
    /* All taps of a window anywhere. */ \
    INLINE void window_##bits( \
        const struct convolution *v, const struct channels *d, int64_t channel, mask_t mask, int64_t pixel) { \
        const int8_t *weights = d->weights + (channel - d->first) * d->steps * DEPTH; \
        const vector flip = prefix##_set1_epi32((int32_t)v->flip); \
        vector sums[4], quarters[4], taps[DEPTH]; \
        begin_##bits(d->bias + (channel - d->first), sums); \
        for (int64_t step = 0; step < d->steps; step++, weights += bits / 2) { \
            _Pragma("GCC unroll 4") for (int i = 0; i < DEPTH; i++) { \
                taps[i] = prefix##_xor_##suffix(prefix##_maskz_loadu_epi8(mask, d->rows[step * DEPTH + i] + channel), flip); \
            } \
            quarters_##bits(taps, quarters); \
            add_##bits(sums, quarters, weights); \
        } \
        finish_##bits( \
            v, sums, d->scale + (channel - d->first), mask, \
            v->residual == NULL ? NULL : v->residual + pixel * v->residual_stride + channel, \
            v->y + pixel * v->y_stride + channel); \
    } \
    /* One column of a window that slides along a row: of each row where it begins, and the step to the next column. */ \
    INLINE void column_##bits( \
        const struct convolution *v, int height, const uint8_t *const rows[DEPTH], const int64_t strides[DEPTH], \
        int32_t j, mask_t mask, vector quarters[4]) { \
        const vector flip = prefix##_set1_epi32((int32_t)v->flip); \
        const int inside = (uint32_t)j < (uint32_t)v->window.width; \
        vector taps[DEPTH]; \
        _Pragma("GCC unroll 4") for (int i = 0; i < DEPTH; i++) { \
            const uint8_t *from = inside ? rows[i] + j * strides[i] : v->padding; \
            taps[i] = i < height ? prefix##_xor_##suffix(prefix##_maskz_loadu_epi8(mask, from), flip) \
                                 : prefix##_setzero_##suffix(); \
        } \
        quarters_##bits(taps, quarters); \
    } \
    /* Neighbouring pixels of a row of the output: each needs one more column. */ \
    INLINE void slide_##bits( \
        const struct convolution *all, const struct channels *d, int height, int64_t channel, mask_t mask, \
        const uint8_t *residual, int64_t pixel, int64_t pixel_end) { \
        const struct convolution v = *all; /* which no store can change */ \
        const struct corner corner = corner_of(&v.window, v.x_stride, pixel); \
        const uint8_t *rows[DEPTH]; \
        int64_t strides[DEPTH]; \
        for (int32_t r = 0; r < DEPTH; r++) { \
            const int32_t i = corner.i + r * v.window.dilation_y; \
            const int inside = r < v.window.kernel_height && (uint32_t)i < (uint32_t)v.window.height; \
            const int64_t down = (int64_t)r * v.window.dilation_y * v.window.width - corner.j; \
            rows[r] = inside ? v.x + (corner.offset + down * v.x_stride + channel) : v.padding; \
            strides[r] = inside ? v.x_stride : 0; \
        } \
        const int8_t *weights = d->weights + (channel - d->first) * SLIDING * DEPTH; \
        const int32_t *bias = d->bias + (channel - d->first); \
        const float *scale = d->scale + (channel - d->first); \
        uint8_t *y = v.y + pixel * v.y_stride + channel; \
        int32_t j = corner.j + SLIDING - 1; \
        vector first[4], second[4], third[4]; \
        column_##bits(&v, height, rows, strides, j - 2, mask, first); \
        column_##bits(&v, height, rows, strides, j - 1, mask, second); \
        for (; pixel < pixel_end; pixel++, j++) { \
            vector sums[4]; \
            begin_##bits(bias, sums); \
            add_##bits(sums, first, weights); \
            add_##bits(sums, second, weights + bits / 2); \
            column_##bits(&v, height, rows, strides, j, mask, third); \
            add_##bits(sums, third, weights + bits); \
            finish_##bits(&v, sums, scale, mask, residual, y); \
            _Pragma("GCC unroll 4") for (int n = 0; n < 4; n++) { \
                first[n] = second[n]; \
                second[n] = third[n]; \
            } \
            residual = residual == NULL ? NULL : residual + v.residual_stride; \
            y += v.y_stride; \
        } \
    } \
    /* With what is most usual known to the compiler: whole vectors, no residual, three rows. */ \
    static void slide_usual_##bits( \
        const struct convolution *v, const struct channels *d, int64_t channel, int64_t pixel, int64_t pixel_end) { \
        slide_##bits(v, d, 3, channel, (mask_t)~(mask_t)0, NULL, pixel, pixel_end); \
    } \
    static void slide_any_##bits( \
        const struct convolution *v, const struct channels *d, int64_t channel, mask_t mask, int64_t pixel, \
        int64_t pixel_end) { \
        if (v->residual == NULL && v->window.kernel_height <= 3 && mask == (mask_t)~(mask_t)0) { \
            slide_usual_##bits(v, d, channel, pixel, pixel_end); \
            return; \
        } \
        const uint8_t *residual = v->residual == NULL ? NULL : v->residual + pixel * v->residual_stride + channel; \
        slide_##bits(v, d, DEPTH, channel, mask, residual, pixel, pixel_end); \
    }
DEPTHWISE(512, __m512i, __m512, _mm512, si512, __mmask64)
DEPTHWISE(128, __m128i, __m128, _mm, si128, __mmask16)

/* Channels that go together from this one on: all bytes of a vector, or those of its shortest kind. */
enum { WIDEST = 64 };
INLINE int64_t together(const struct channels *d, int64_t channel) {
    return d->end - channel > WIDEST - BLOCK ? WIDEST : BLOCK;
}

INLINE __mmask64 mask_of(const struct channels *d, int64_t channel) {
    const int64_t left = d->end - channel;
    return left < WIDEST ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
}

static void arrange(const struct convolution *v, const struct channels *d) {
    for (int64_t channel = d->first; channel < d->end; channel += together(d, channel)) {
        const int64_t width = together(d, channel), parts = width / BLOCK, at = channel - d->first;
        for (int64_t k = 0; k < smaller(width, d->end - channel); k++) {
            const int64_t place = k % BLOCK / DEPTH * parts * DEPTH + k / BLOCK * DEPTH + k % DEPTH;
            const int64_t filter = channel + k;
            d->bias[at + place] = v->bias[filter];
            d->scale[at + place] = v->scale[filter];
            for (int64_t step = 0; step < d->steps; step++) {
                const uint32_t word = step_of(v, d, filter, step);
                memcpy(d->weights + at * d->steps * DEPTH + (step * width + place) * DEPTH, &word, sizeof word);
            }
        }
    }
}

static void depthwise_pixel(const struct convolution *v, const struct channels *d, int64_t pixel) {
    find_rows(v, d, pixel);
    for (int64_t channel = d->first; channel < d->end; channel += together(d, channel)) {
        if (together(d, channel) == WIDEST) {
            window_512(v, d, channel, mask_of(d, channel), pixel);
        } else {
            window_128(v, d, channel, (__mmask16)mask_of(d, channel), pixel);
        }
    }
}

static void depthwise(const struct convolution *v, const struct channels *d, int64_t pixel, int64_t pixel_end) {
    arrange(v, d);
    for (; !d->is_sliding && pixel < pixel_end; pixel++) {
        depthwise_pixel(v, d, pixel);
    }
    while (pixel < pixel_end) {
        const int64_t end = smaller(pixel_end, pixel + v->window.output_width - pixel % v->window.output_width);
        for (int64_t channel = d->first; channel < d->end; channel += together(d, channel)) {
            if (together(d, channel) == WIDEST) {
                slide_any_512(v, d, channel, mask_of(d, channel), pixel, end);
            } else {
                slide_any_128(v, d, channel, (__mmask16)mask_of(d, channel), pixel, end);
            }
        }
        pixel = end;
    }
}

#else

enum { SLIDING = 0 };

/* A block of channels. */
typedef uint8_t bytes_t __attribute__((vector_size(BLOCK)));
typedef int8_t weights_t __attribute__((vector_size(BLOCK)));
typedef int16_t products_t __attribute__((vector_size(2 * BLOCK)));
typedef int16_t some_products_t __attribute__((vector_size(2 * LANES), aligned(2), may_alias)); /* as many as in a vi */

static void depthwise(const struct convolution *v, const struct channels *d, int64_t pixel, int64_t pixel_end) {
    const int64_t taps = d->steps * DEPTH;
    for (int64_t filter = d->first; filter < d->end; filter++) {
        int8_t *to = d->weights + (filter - d->first) / BLOCK * BLOCK * taps + filter % BLOCK;
        d->bias[filter - d->first] = v->bias[filter];
        for (int64_t tap = 0; tap < taps; tap++) {
            to[tap * BLOCK] = (int8_t)(step_of(v, d, filter, tap / DEPTH) >> (8 * (tap % DEPTH)));
        }
    }
    for (; pixel < pixel_end; pixel++) {
        find_rows(v, d, pixel);
        for (int64_t channel = d->first; channel < d->end; channel += BLOCK) {
            const int64_t count = smaller(BLOCK, d->end - channel);
            const int8_t *weights = d->weights + (channel - d->first) * taps;
            const bytes_t flip = (uint8_t)v->flip - (bytes_t){0};
            vi sums[BLOCK / LANES];
            memcpy(sums, d->bias + (channel - d->first), sizeof sums);
            for (int64_t tap = 0; tap < taps; tap++, weights += BLOCK) {
                bytes_t bytes = {0};
                weights_t own;
                if (count == BLOCK) {
                    memcpy(&bytes, d->rows[tap] + channel, BLOCK);
                } else {
                    memcpy(&bytes, d->rows[tap] + channel, (size_t)count);
                }
                memcpy(&own, weights, sizeof own);
                /* 16 bits hold a product. */
                const products_t products =
                    __builtin_convertvector(bytes ^ flip, products_t) * __builtin_convertvector(own, products_t);
                for (int i = 0; i < BLOCK / LANES; i++) {
                    const int16_t *some = (const int16_t *)&products + i * LANES;
                    sums[i] += __builtin_convertvector(*(const some_products_t *)some, vi);
                }
            }
            int32_t results[BLOCK];
            memcpy(results, sums, sizeof results);
            finish(v, results, pixel, channel, count);
        }
    }
}

#endif

static int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

int KERNEL(conv2d_int8_u8)(
    const uint8_t *x, int64_t x_stride, int32_t lowest, int32_t x_zero, const int8_t *weights, int64_t weights_stride,
    const int32_t *bias, const float *scale, const uint8_t *residual, int64_t residual_stride, int32_t residual_lowest,
    int32_t residual_zero, float residual_scale, uint8_t *y, int64_t y_stride, int32_t zero, int32_t low, int32_t high,
    const struct sentei_window *window, int64_t channels, int64_t filters, int64_t groups, int64_t block_begin,
    int64_t block_end, int64_t pixel_begin, int64_t pixel_end) {
    const int64_t of_group = filters / groups, depth = channels / groups;
    const int64_t taps = (int64_t)window->kernel_height * window->kernel_width;
    const int64_t width = (depth + DEPTH - 1) / DEPTH * DEPTH * taps;
    const int is_depthwise = channels == groups && filters == groups;
    const int is_sliding = window->kernel_width == SLIDING && window->kernel_height <= DEPTH && window->stride_x == 1
        && window->dilation_x == 1;
    const int64_t steps = is_sliding ? SLIDING : (taps + DEPTH - 1) / DEPTH, of_call = (block_end - block_begin) * BLOCK;
    /* A row of zero points, where windows begin, and what is gathered or arranged. */
    const int64_t row = aligned(channels), corners = aligned((pixel_end - pixel_begin) * (int64_t)sizeof(struct corner));
    const int64_t rows = aligned(2 * steps * DEPTH * (int64_t)sizeof(uint8_t *));
    const int64_t more = is_depthwise ? rows + of_call * (8 + steps * DEPTH) : depth % DEPTH != 0 ? GATHERED * width + SLACK : 0;
    uint8_t *const memory = scratch(row + corners + more, 1);
    if (memory == NULL) {
        return SENTEI_OUT_OF_MEMORY;
    }
    const uint8_t flip = (uint8_t)lowest;
    memset(memory, (uint8_t)x_zero ^ flip, (size_t)row);
    if (!(is_depthwise && is_sliding)) {
        find_corners(window, x_stride, pixel_begin, pixel_end, (struct corner *)(memory + row));
    }
    const struct convolution v = {
        .x = x,
        .x_stride = x_stride,
        .flip = flip * 0x01010101u,
        .padding = memory,
        .weights = weights,
        .weights_stride = weights_stride,
        .bias = bias,
        .scale = scale,
        .residual = residual,
        .residual_stride = residual_stride,
        .residual_lowest = (uint8_t)residual_lowest,
        .residual_zero = residual_zero,
        .residual_scale = residual_scale,
        .y = y,
        .y_stride = y_stride,
        .levels = levels_of(zero, low, high),
        .low = low,
        .corners = (const struct corner *)(memory + row),
        .pixel_begin = pixel_begin,
        .window = *window,
    };
    uint8_t *const rest = memory + row + corners;
    if (is_depthwise) {
        struct channels d = {
            .first = block_begin * BLOCK,
            .end = smaller(block_end * BLOCK, filters),
            .steps = steps,
            .is_sliding = is_sliding,
            .rows = (const uint8_t **)rest,
            .offsets = (int64_t *)rest + steps * DEPTH,
            .bias = (int32_t *)(rest + rows),
            .scale = (float *)(rest + rows) + of_call,
            .weights = (int8_t *)(rest + rows + 8 * of_call),
        };
        for (int64_t tap = 0; tap < steps * DEPTH; tap++) {
            const int64_t down = tap / window->kernel_width * window->dilation_y;
            d.offsets[tap] = (down * window->width + tap % window->kernel_width * window->dilation_x) * x_stride;
            d.rows[tap] = v.padding;
        }
        memset(d.bias, 0, (size_t)(8 + steps * DEPTH) * (size_t)of_call);
        depthwise(&v, &d, pixel_begin, pixel_end);
    } else if (depth % DEPTH == 0) {
        dense(&v, of_group, depth, block_begin, block_end, pixel_begin, pixel_end);
    } else {
        gathered(&v, of_group, depth, width, block_begin, block_end, pixel_end, rest);
    }
    free(memory);
    return SENTEI_OK;
}
