/* What every kernel file includes: names of this tier's functions, the table of a tier, and the vector types.
 *
 * A kernel file is compiled once a tier with SENTEI_TIER set to the tier's name; KERNEL(name) is then the name of that
 * tier's function. Kernels are written on vectors of LANES elements, whose width follows the compiler's target, so one
 * source serves all tiers (and, as 16-byte vectors, any other processor). */
#ifndef SENTEI_KERNEL_H
#define SENTEI_KERNEL_H

#include "../include/sentei.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SENTEI_PASTE(a, b) a##_##b
#define SENTEI_JOIN(a, b) SENTEI_PASTE(a, b)
#define KERNEL(name) SENTEI_JOIN(name, SENTEI_TIER)

struct sentei_kernels {
    const char *isa;
#define SENTEI_KERNEL(name, parameters, arguments) int(*name) parameters;
#include "../kernels.def"
#undef SENTEI_KERNEL
};

#ifdef SENTEI_TIER

#define SENTEI_KERNEL(name, parameters, arguments) int KERNEL(name) parameters;
#include "../kernels.def"
#undef SENTEI_KERNEL

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define HALF (LANES / 2)

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef float vh __attribute__((vector_size(HALF * 4)));  /* half as many floats as a vf ... */
typedef double vd __attribute__((vector_size(HALF * 8))); /* ... and the doubles they convert to */
typedef int64_t vl __attribute__((vector_size(HALF * 8)));

/* The same types where they may lie unaligned in memory. */
typedef float vf_memory __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t vi_memory __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef float vh_memory __attribute__((vector_size(HALF * 4), aligned(4), may_alias));
typedef double vd_memory __attribute__((vector_size(HALF * 8), aligned(8), may_alias));

INLINE vf load(const float *p) { return *(const vf_memory *)p; }
INLINE void store(float *p, vf v) { *(vf_memory *)p = v; }
INLINE vi load_int(const int32_t *p) { return *(const vi_memory *)p; }
INLINE void store_int(int32_t *p, vi v) { *(vi_memory *)p = v; }
INLINE vd load_double(const double *p) { return *(const vd_memory *)p; }
INLINE void store_double(double *p, vd v) { *(vd_memory *)p = v; }
INLINE vd load_wide(const float *p) { return __builtin_convertvector(*(const vh_memory *)p, vd); }
INLINE void store_narrow(float *p, vd v) { *(vh_memory *)p = __builtin_convertvector(v, vh); }

INLINE vf splat(float value) { return value - (vf){0}; }
INLINE vi splat_int(int32_t value) { return value - (vi){0}; }
INLINE vd splat_double(double value) { return value - (vd){0}; }

/* The first `count` lanes, 0 to LANES; the others are 0, and what they stand for is not read. */
#if defined(__AVX512F__)
INLINE vf load_first(const float *p, int64_t count) {
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}

INLINE void store_first(float *p, vf v, int64_t count) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
}
#elif defined(__AVX2__)
INLINE __m256i first_lanes(int64_t count) {
    return (__m256i)((vi){0, 1, 2, 3, 4, 5, 6, 7} < splat_int((int32_t)count));
}

INLINE vf load_first(const float *p, int64_t count) { return (vf)_mm256_maskload_ps(p, first_lanes(count)); }

INLINE void store_first(float *p, vf v, int64_t count) { _mm256_maskstore_ps(p, first_lanes(count), (__m256)v); }
#else
INLINE vf load_first(const float *p, int64_t count) {
    vf v = {0};
    memcpy(&v, p, (size_t)count * sizeof(float));
    return v;
}

INLINE void store_first(float *p, vf v, int64_t count) { memcpy(p, &v, (size_t)count * sizeof(float)); }
#endif

INLINE vf blend(vi condition, vf yes, vf no) { return (vf)((condition & (vi)yes) | (~condition & (vi)no)); }

/* Lane by lane a > b ? a : b and a < b ? a : b: b where one of them is NaN. */
INLINE vf lane_max(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return blend(a > b, a, b);
#endif
}

INLINE vf lane_min(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return blend(a < b, a, b);
#endif
}

/* Lanes in ascending order: the sum does not depend on how a compiler would shuffle. */
INLINE double sum_double(vd v) {
    double total = 0;
    for (int lane = 0; lane < HALF; lane++) {
        total += v[lane];
    }
    return total;
}

INLINE float sum(vf v) {
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) {
        total += v[lane];
    }
    return total;
}

/* Lane by lane -1 or 0 as bits, lane 0 in the lowest. */
INLINE uint32_t bits_of(vi condition) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)condition);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)condition);
#elif defined(__SSE2__)
    return (uint32_t)_mm_movemask_ps((__m128)condition);
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; lane++) {
        bits |= (uint32_t)(condition[lane] & 1) << lane;
    }
    return bits;
#endif
}

/* a < b and a == b as bits. */
INLINE uint32_t bits_less(vi a, vi b) {
#if defined(__AVX512F__)
    return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b);
#else
    return bits_of(a < b);
#endif
}

INLINE uint32_t bits_equal(vi a, vi b) {
#if defined(__AVX512F__)
    return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b);
#else
    return bits_of(a == b);
#endif
}

/* -1 in the lanes whose bit is set. */
INLINE vi lanes_of(uint32_t bits) {
#if defined(__AVX512F__)
    return (vi)_mm512_movm_epi32((__mmask16)bits);
#else
    vi lane_bit;
    for (int lane = 0; lane < LANES; lane++) {
        lane_bit[lane] = 1 << lane;
    }
    return (splat_int((int32_t)bits) & lane_bit) != 0;
#endif
}

/* Writes the lanes whose bit is set to p, packed, and returns how many; up to LANES elements of p are overwritten. */
INLINE int64_t compress(int32_t *p, vi v, uint32_t bits) {
#if defined(__AVX512F__)
    /* Through a register: a compressing store to memory is microcoded on some processors. */
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)v));
    return __builtin_popcount(bits);
#elif defined(__AVX2__)
    uint64_t bytes = _pdep_u64(bits, 0x0101010101010101u) * 0xff;
    uint64_t order = _pext_u64(0x0706050403020100u, bytes);
    __m256i index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
    _mm256_storeu_si256((__m256i *)p, _mm256_permutevar8x32_epi32((__m256i)v, index));
    return __builtin_popcount(bits);
#else
    int64_t count = 0;
    for (int lane = 0; lane < LANES; lane++) {
        p[count] = v[lane];
        count += bits >> lane & 1;
    }
    return count;
#endif
}

/* e^r - 1 and n of x = n ln 2 + r for x in -104..89: the Taylor polynomial of degree 7 in |r| <= ln 2 / 2, remainder 6e-9. */
INLINE vf exponential_less_one_of_remainder(vf x, vi *n) {
    const vf round = splat(12582912.0f); /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    vf shifted = x * 1.44269504089f + round;
    *n = (vi)shifted - (vi)round;
    vf whole = shifted - round;
    vf r = x - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    vf p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    return p * r * r + r;
}

/* e^x within 2 ulp. Exact limits: 0 below -104, infinity above 89, NaN for NaN. 2^n is applied in two factors so that
 * subnormal results round once. */
INLINE vf exponential(vf x) {
    x = lane_max(splat(-104.0f), lane_min(splat(89.0f), x)); /* NaN stays */
    vi n;
    vf p = exponential_less_one_of_remainder(x, &n) + 1.0f;
    vi half = n >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
}

/* Scratch of `count` elements of `size` bytes on its own cache lines, or NULL. */
INLINE void *scratch(int64_t count, size_t size) {
    size_t bytes = ((size_t)count * size + 127) / 64 * 64;
    return aligned_alloc(64, bytes);
}

#endif
#endif
