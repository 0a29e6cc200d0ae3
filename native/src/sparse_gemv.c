/* y[b, row] = sum over columns of W[row, column] * x[b, column], plus bias[row], where W is stored as its kept weights, row
 * by row, and a mask with one bit a column, set where the weight is kept; bf16 or fp32 weights, fp32 sums in the order of
 * gemv.h. What is not kept counts as +0: the result is that of the dense product with the unpacked matrix.
 *
 * Nothing outside of the given memory is read whatever mask and starts hold, and both are checked on the way: a row whose
 * bits do not lead from its start to the start of the next ends in SENTEI_BAD_ARGUMENT. */
#include "gemv.h"

#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

/* Bytes ahead of each stream of weights that are fetched, and elements that an expansion may read at most behind those it
 * uses. */
enum { AHEAD = 512, OVERREAD = 32 };

struct product {
    const unsigned char *values;
    int64_t kept;
    const unsigned char *mask;
    int64_t mask_stride;
    const int64_t *starts;
    const float *x; /* arranged */
    int64_t x_stride;
    const float *bias;
    float *y;
    int64_t y_stride, cols;
    unsigned char *last; /* where the last rows are copied to, so that nothing behind the values is read */
};

typedef uint32_t bits_memory __attribute__((aligned(1), may_alias));

#if defined(__AVX512F__)

/* Through a register: an expanding load is slower. */
INLINE __m512i load_apart(const unsigned char *p) {
    __m512i v = _mm512_loadu_si512(p);
    __asm__("" : "+v"(v));
    return v;
}

#else

/* Eight words from p on to the places whose bit is set; zero to the others. */
typedef uint16_t words __attribute__((vector_size(16)));

#if defined(__AVX2__) || defined(__ARM_NEON)

/* For each of the 256 masks the bytes to take, 0x80 for a zero byte. */
#define PLACE(m, i) \
    ((m) >> (i) & 1 ? (uint16_t)(0x0100 + 0x0202 * __builtin_popcount((m) & ((1 << (i)) - 1))) : (uint16_t)0x8080)
#define PLACES(m) \
    {PLACE(m, 0), PLACE(m, 1), PLACE(m, 2), PLACE(m, 3), PLACE(m, 4), PLACE(m, 5), PLACE(m, 6), PLACE(m, 7)}
#define PLACES4(m) PLACES(m), PLACES((m) + 1), PLACES((m) + 2), PLACES((m) + 3)
#define PLACES16(m) PLACES4(m), PLACES4((m) + 4), PLACES4((m) + 8), PLACES4((m) + 12)
#define PLACES64(m) PLACES16(m), PLACES16((m) + 16), PLACES16((m) + 32), PLACES16((m) + 48)
static const words places[256] = {PLACES64(0), PLACES64(64), PLACES64(128), PLACES64(192)};

INLINE words expand_words(const unsigned char *p, uint32_t bits) {
#if defined(__AVX2__)
    return (words)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), (__m128i)places[bits]);
#else
    return (words)vqtbl1q_u8(vld1q_u8(p), (uint8x16_t)places[bits]);
#endif
}

#else

INLINE words expand_words(const unsigned char *p, uint32_t bits) {
    words w = {0};
    for (int lane = 0; lane < 8; lane++) {
        const uint32_t kept = bits >> lane & 1;
        uint16_t word;
        memcpy(&word, p, sizeof word);
        w[lane] = word & (uint16_t)-kept;
        p += 2 * kept;
    }
    return w;
}

#endif

/* Two bits for each of the low four: a float is two words. */
INLINE uint32_t twice(uint32_t bits) {
    bits = (bits | bits << 2) & 0x33;
    bits = (bits | bits << 1) & 0x55;
    return bits * 3;
}

#endif

/* A pair of vectors of bf16 (size 2) or fp32 weights, in the order in which x is arranged for it; p moves behind the
 * weights. Only the low PAIR bits count. */
INLINE void expand_pair(const unsigned char **p, uint32_t bits, const int size, vf w[2]) {
#if defined(__AVX512VBMI2__)
    if (size == 2) {
        split((vi)_mm512_maskz_expand_epi16(bits, load_apart(*p)), w);
        *p += (size_t)2 * (unsigned)__builtin_popcount(bits);
        return;
    }
#endif
#if defined(__AVX512F__)
    UNROLL for (int i = 0; i < 2; i++) {
        const __mmask16 mask = (__mmask16)(bits >> 16 * i);
        __m512i v;
        if (size == 2) {
            v = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*p)), 16);
        } else {
            v = load_apart(*p);
        }
        w[i] = (vf)_mm512_maskz_expand_epi32(mask, v);
        *p += (size_t)size * (unsigned)__builtin_popcount(mask);
    }
#else
    words parts[LANES / 2];
    const int columns = size == 2 ? 8 : 4, count = size == 2 ? PAIR / 8 : PAIR / 4;
    UNROLL for (int i = 0; i < count; i++) {
        const uint32_t part = bits >> columns * i & ((1u << columns) - 1);
        parts[i] = expand_words(*p, size == 2 ? part : twice(part));
        *p += (size_t)size * (unsigned)__builtin_popcount(part);
    }
#if defined(__AVX2__)
    const vi low = (vi)_mm256_set_m128i((__m128i)parts[1], (__m128i)parts[0]);
    if (size == 4) {
        w[0] = (vf)low;
        w[1] = (vf)_mm256_set_m128i((__m128i)parts[3], (__m128i)parts[2]);
        return;
    }
#else
    const vi low = (vi)parts[0];
    if (size == 4) {
        w[0] = (vf)low;
        w[1] = (vf)parts[1];
        return;
    }
#endif
    split(low, w);
#endif
}

/* Whether expand_pair gives the even and the odd columns of bf16 weights, or the first and the last. */
#if defined(__AVX512F__) && !defined(__AVX512VBMI2__)
enum { INTERLEAVED = 0 };
#else
enum { INTERLEAVED = 1 };
#endif

/* `rows` words of the mask lie `mask_apart` bytes apart. */
INLINE void step(
    const unsigned char **p, const unsigned char *mask, int64_t mask_apart, const float *x, int64_t x_stride,
    const int size, const int rows, const int vectors, vf (*sums)[2]) {
    UNROLL for (int r = 0; r < rows; r++) {
        __builtin_prefetch(p[r] + AHEAD);
        if (size == 4) {
            __builtin_prefetch(p[r] + AHEAD + 64);
        }
    }
    for (int c = 0; c < STEP; c += PAIR) {
        UNROLL for (int r = 0; r < rows; r++) {
            vf pair[2];
            const uint32_t bits = *(const bits_memory *)(mask + r * mask_apart + c / 32 * 4) >> c % 32;
            expand_pair(&p[r], PAIR == 32 ? bits : bits & ((1u << PAIR % 32) - 1), size, pair);
            UNROLL for (int v = 0; v < vectors; v++) {
                sums[r * vectors + v][0] += pair[0] * load(x + v * x_stride + c);
                sums[r * vectors + v][1] += pair[1] * load(x + v * x_stride + c + LANES);
            }
        }
    }
}

/* `rows` rows that lie `apart`, whose weights begin at `begin`, times the vectors from `first`; returns how many rows have
 * other than as many weights as their starts say. */
INLINE int multiply(
    const struct product *s, const int size, const int rows, const int vectors, const unsigned char *const *begin,
    int64_t row, int64_t apart, int64_t first) {
    const unsigned char *p[MOST_ROWS];
    const unsigned char *mask = s->mask + row * s->mask_stride;
    const int64_t mask_apart = apart * s->mask_stride;
    vf sums[SUMS][2];
    UNROLL for (int r = 0; r < rows; r++) {
        p[r] = begin[r];
    }
    UNROLL for (int i = 0; i < rows * vectors; i++) {
        sums[i][0] = sums[i][1] = splat(0);
    }
    const float *x = s->x + first * s->x_stride;
    int64_t c = 0;
    for (; c + STEP <= s->cols; c += STEP) {
        step(p, mask, mask_apart, x + c, s->x_stride, size, rows, vectors, sums);
        mask += STEP / 8;
    }
    if (c < s->cols) {
        uint64_t last[MOST_ROWS] = {0};
        UNROLL for (int r = 0; r < rows; r++) {
            memcpy(&last[r], mask + r * mask_apart, (size_t)(s->cols - c + 7) / 8);
            last[r] &= ((uint64_t)1 << (s->cols - c)) - 1;
        }
        step(p, (const unsigned char *)last, sizeof last[0], x + c, s->x_stride, size, rows, vectors, sums);
    }
    int wrong = 0;
    UNROLL for (int r = 0; r < rows; r++) {
        const int64_t at = row + r * apart;
        wrong += s->starts[at] + (p[r] - begin[r]) / size != s->starts[at + 1];
        UNROLL for (int v = 0; v < vectors; v++) {
            const float total = sum_halves(sums[r * vectors + v][0] + sums[r * vectors + v][1]);
            s->y[(first + v) * s->y_stride + at] = total + (s->bias == NULL ? 0 : s->bias[at]);
        }
    }
    return wrong;
}

/* Whether a row can be read at its place, even if all of its bits were set. */
INLINE int is_open(const struct product *s, int64_t row) {
    return s->starts[row] >= 0 && s->starts[row] <= s->kept - s->cols - OVERREAD;
}

INLINE int multiply_one(const struct product *s, const int size, const int vectors, int64_t row, int64_t first) {
    const int64_t start = s->starts[row];
    if (start < 0 || start > s->kept) {
        return 1;
    }
    const unsigned char *begin = s->values + start * size;
    if (!is_open(s, row)) {
        const int64_t count = s->kept - start < s->cols ? s->kept - start : s->cols;
        memset(s->last, 0, (size_t)((s->cols + OVERREAD) * size));
        if (count > 0) {
            memcpy(s->last, begin, (size_t)(count * size));
        }
        begin = s->last;
    }
    return multiply(s, size, 1, vectors, &begin, row, 0, first);
}

INLINE int multiply_rows(
    const struct product *s, const int size, const int rows, const int vectors, int64_t first, int64_t row_begin,
    int64_t row_end) {
    const int64_t apart = (row_end - row_begin) / rows;
    int wrong = 0;
    for (int64_t row = row_begin; row < row_begin + apart; row++) {
        const unsigned char *begin[MOST_ROWS];
        int open = 1;
        UNROLL for (int r = 0; r < rows; r++) {
            open &= is_open(s, row + r * apart);
        }
        if (open) {
            UNROLL for (int r = 0; r < rows; r++) {
                begin[r] = s->values + s->starts[row + r * apart] * size;
            }
            wrong += multiply(s, size, rows, vectors, begin, row, apart, first);
        } else {
            for (int r = 0; r < rows; r++) {
                wrong += multiply_one(s, size, vectors, row + r * apart, first);
            }
        }
    }
    for (int64_t row = row_begin + rows * apart; row < row_end; row++) {
        wrong += multiply_one(s, size, vectors, row, first);
    }
    return wrong;
}

INLINE int sparse_gemv(
    const void *values, const int size, int64_t kept, const uint8_t *mask, int64_t mask_stride, const int64_t *starts,
    const float *x, int64_t x_stride, int64_t batch, const float *bias, float *y, int64_t y_stride, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    float *const vectors = arranged(x, x_stride, batch, cols, size == 2 && INTERLEAVED);
    unsigned char *const last = scratch(cols + OVERREAD, (size_t)size);
    int status = vectors == NULL || last == NULL ? SENTEI_OUT_OF_MEMORY : SENTEI_OK;
    if (status == SENTEI_OK) {
        const struct product s = {
            values, kept, mask, mask_stride, starts, vectors, (cols + STEP - 1) / STEP * STEP, bias, y, y_stride, cols,
            last,
        };
        int wrong = 0;
#define ROWS(rows, count, first) wrong += multiply_rows(&s, size, rows, count, first, row_begin, row_end)
        FOR_VECTORS(batch, ROWS)
#undef ROWS
        status = wrong == 0 ? SENTEI_OK : SENTEI_BAD_ARGUMENT;
    }
    free(last);
    free(vectors);
    return status;
}

int KERNEL(sparse_gemv_bf16)(
    const uint16_t *values, int64_t kept, const uint8_t *mask, int64_t mask_stride, const int64_t *starts,
    const float *x, int64_t x_stride, int64_t batch, const float *bias, float *y, int64_t y_stride, int64_t cols,
    int64_t row_begin, int64_t row_end) {
    return sparse_gemv(
        values, 2, kept, mask, mask_stride, starts, x, x_stride, batch, bias, y, y_stride, cols, row_begin, row_end);
}

int KERNEL(sparse_gemv_f32)(
    const float *values, int64_t kept, const uint8_t *mask, int64_t mask_stride, const int64_t *starts, const float *x,
    int64_t x_stride, int64_t batch, const float *bias, float *y, int64_t y_stride, int64_t cols, int64_t row_begin,
    int64_t row_end) {
    return sparse_gemv(
        values, 4, kept, mask, mask_stride, starts, x, x_stride, batch, bias, y, y_stride, cols, row_begin, row_end);
}
