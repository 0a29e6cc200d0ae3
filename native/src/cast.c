/* Converts between fp64, fp32, fp16 and bf16, to nearest with ties to even; optionally transposing.
 *
 * fp64 reaches the 16-bit types through fp32 (as org.sentei.tensor.Floats does), so an fp64 value within 2^-24 of a tie
 * of the 16-bit type may round the other way. NaN stays NaN, overflow becomes infinity, equal types are copied bit by bit. */
#include "kernel.h"

typedef double type_f64;
typedef float type_f32;
typedef uint16_t type_f16;
typedef uint16_t type_bf16;

INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE float from_f16(uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    /* Exponent and mantissa in their fp32 places are the value times 2^-112, subnormals included. */
    float scaled = bits_float((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;
    uint32_t special = (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return bits_float(float_bits(scaled) | special | (uint32_t)(half & 0x8000) << 16);
#endif
}

INLINE uint16_t to_f16(float value) {
#if defined(__F16C__)
    return _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
#else
    uint32_t bits = float_bits(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | (magnitude >> 13 & 0x1ff);
    } else if (magnitude >= 0x47800000) { /* 2^16 and more */
        half = 0x7c00;
    } else if (magnitude >= 0x38800000) { /* normal: at least 2^-14; a carry into infinity is right */
        half = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    } else { /* the unit of 0.5f is 2^-24, that of subnormal halves: the addition rounds */
        half = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000;
    }
    return (uint16_t)(sign | half);
#endif
}

INLINE float from_bf16(uint16_t half) { return bits_float((uint32_t)half << 16); }

INLINE uint16_t to_bf16(float value) {
    uint32_t bits = float_bits(value);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}

INLINE double from_f64(double value) { return value; }
INLINE double to_f64(double value) { return value; }
INLINE float from_f32(float value) { return value; }
INLINE float to_f32(float value) { return value; }

#define CONVERT(from, to, value) to_##to((type_convert_##to)from_##from(value))
typedef double type_convert_f64;
typedef float type_convert_f32;
typedef float type_convert_f16;
typedef float type_convert_bf16;

/* Rows and columns that are transposed at a time, through a copy: strides of a power of two would share a cache set. */
enum { BLOCK = 32 };

#define DEFINE_CAST(from, to, CONVERT_ROW) \
    int KERNEL(cast_##from##_##to)( \
        const void *source, int64_t source_stride, void *target, int64_t target_stride, int64_t cols, \
        int32_t transpose, int64_t row_begin, int64_t row_end) { \
        const type_##from *s = source; \
        type_##to *t = target; \
        if (!transpose) { \
            for (int64_t r = row_begin; r < row_end; r++) { \
                const type_##from *restrict s_row = s + r * source_stride; \
                type_##to *restrict t_row = t + r * target_stride; \
                int64_t c = CONVERT_ROW(s_row, t_row, cols); \
                for (; c < cols; c++) { \
                    t_row[c] = CONVERT(from, to, s_row[c]); \
                } \
            } \
            return SENTEI_OK; \
        } \
        for (int64_t r0 = row_begin; r0 < row_end; r0 += BLOCK) { \
            int64_t r1 = r0 + BLOCK < row_end ? r0 + BLOCK : row_end; \
            for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) { \
                int64_t c1 = c0 + BLOCK < cols ? c0 + BLOCK : cols; \
                type_##to block[BLOCK][BLOCK + 1]; \
                for (int64_t r = r0; r < r1; r++) { \
                    for (int64_t c = c0; c < c1; c++) { \
                        block[r - r0][c - c0] = CONVERT(from, to, s[r * source_stride + c]); \
                    } \
                } \
                for (int64_t c = c0; c < c1; c++) { \
                    for (int64_t r = r0; r < r1; r++) { \
                        t[c * target_stride + r] = block[r - r0][c - c0]; \
                    } \
                } \
            } \
        } \
        return SENTEI_OK; \
    }

/* What the compiler does not vectorise by itself; each returns how many columns it has converted. */
#define ONE_BY_ONE(source, target, cols) 0
#define COPY(source, target, cols) (memcpy(target, source, (size_t)(cols) * sizeof *(source)), cols)

INLINE int64_t f16_to_f32_row(const uint16_t *source, float *target, int64_t cols) {
    int64_t c = 0;
#if defined(__F16C__)
    for (; c + 8 <= cols; c += 8) {
        _mm256_storeu_ps(target + c, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(source + c))));
    }
#else
    (void)source, (void)target, (void)cols;
#endif
    return c;
}

INLINE int64_t f32_to_f16_row(const float *source, uint16_t *target, int64_t cols) {
    int64_t c = 0;
#if defined(__F16C__)
    for (; c + 8 <= cols; c += 8) {
        _mm_storeu_si128(
            (__m128i *)(target + c), _mm256_cvtps_ph(_mm256_loadu_ps(source + c), _MM_FROUND_TO_NEAREST_INT));
    }
#else
    (void)source, (void)target, (void)cols;
#endif
    return c;
}

DEFINE_CAST(f64, f64, COPY)
DEFINE_CAST(f64, f32, ONE_BY_ONE)
DEFINE_CAST(f64, f16, ONE_BY_ONE)
DEFINE_CAST(f64, bf16, ONE_BY_ONE)
DEFINE_CAST(f32, f64, ONE_BY_ONE)
DEFINE_CAST(f32, f32, COPY)
DEFINE_CAST(f32, f16, f32_to_f16_row)
DEFINE_CAST(f32, bf16, ONE_BY_ONE)
DEFINE_CAST(f16, f64, ONE_BY_ONE)
DEFINE_CAST(f16, f32, f16_to_f32_row)
DEFINE_CAST(f16, bf16, ONE_BY_ONE)
DEFINE_CAST(bf16, f64, ONE_BY_ONE)
DEFINE_CAST(bf16, f32, ONE_BY_ONE)
DEFINE_CAST(bf16, f16, ONE_BY_ONE)

/* Equal 16-bit types are copied, in the transposed branch too. */
#undef CONVERT
#define CONVERT(from, to, value) value
DEFINE_CAST(f16, f16, COPY)
DEFINE_CAST(bf16, bf16, COPY)
