/* One language for kernels on CUDA, OpenCL C 1.2 and, for tests, the host.
 *
 * A kernel file common/<op>.inc is compiled behind this header and includes nothing. Its entries are declared as
 *
 *     KERNEL(count_values_f32)(IN(uint, x), int rows, int cols, OUT(i64, counts)) { ... }
 *
 * and run in groups of GROUP work-items in one dimension; org.sentei.backend.gpu.LaunchTable says how many groups and with
 * which arguments. IN and OUT are matrices: address, first element and stride; the address may be 0 for one that is left out.
 * Sums run in a fixed order; atomics are for integers alone. Nothing here needs sub-groups, half precision or dot products;
 * FP64 is defined where double is there, and entries that need it stand inside #ifdef FP64. Where a result must be the same
 * on every device, operations are written as MUL_RN, SUB_RN and DIV_RN: rounded one by one, never contracted. */
#ifndef SENTEI_PORTABLE_H
#define SENTEI_PORTABLE_H

#if defined(__OPENCL_VERSION__)

#pragma OPENCL FP_CONTRACT OFF
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#define FP64
#endif

typedef long i64;
typedef uchar u8;
typedef ushort u16;

#define KERNEL(name) __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void name
#define DEVICE static inline
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARG __local
#define LOCAL_ID ((int)get_local_id(0))
#define GROUP_ID ((i64)get_group_id(0))
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define ATOMIC_ADD(p, v) atomic_add(p, v)
#define ATOMIC_OR(p, v) atomic_or(p, v)
#define ATOMIC_MAX(p, v) atomic_max(p, v)

#define BITS(x) as_uint(x)
#define FLOAT(bits) as_float(bits)
#define POPCOUNT(x) ((int)popcount(x))
#define EXP(x) exp(x)
#define SQRT(x) sqrt(x)
#ifdef FP_FAST_FMAF
#define FMA(a, b, c) fma(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#define MUL_RN(a, b) ((a) * (b))
#define SUB_RN(a, b) ((a) - (b))
#ifdef FP64
/* OpenCL lets fp32 division be wrong in the last bits; the quotient in fp64, rounded again, is the right one. */
#define DIV_RN(a, b) ((float)((double)(a) / (double)(b)))
#endif
#define DOT4(a, b, sum) dot4(a, b, sum)

#elif defined(__CUDACC__)

#define FP64

typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int uint;

#define KERNEL(name) extern "C" __global__ void __launch_bounds__(GROUP) name
#define DEVICE static __device__ __forceinline__
#define GLOBAL
#define LOCAL __shared__
#define LOCAL_ARG
#define LOCAL_ID ((int)threadIdx.x)
#define GROUP_ID ((i64)blockIdx.x)
#define BARRIER __syncthreads()
#define ATOMIC_ADD(p, v) atomicAdd(p, v)
#define ATOMIC_OR(p, v) atomicOr(p, v)
#define ATOMIC_MAX(p, v) atomicMax(p, v)

#define BITS(x) __float_as_uint(x)
#define FLOAT(bits) __uint_as_float(bits)
#define POPCOUNT(x) __popc(x)
#define EXP(x) expf(x)
#define SQRT(x) sqrt(x)
#define FMA(a, b, c) __fmaf_rn(a, b, c)
#define MUL_RN(a, b) __fmul_rn(a, b)
#define SUB_RN(a, b) __fsub_rn(a, b)
#define DIV_RN(a, b) __fdiv_rn(a, b)
#define DOT4(a, b, sum) dot4_of_device(a, b, sum)

DEVICE uint dot4_of_device(uint a, uint b, uint sum) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

#else

#include "host.h"

#endif

/* Work-items of a group. */
#define GROUP 256

/* Columns whose sums the work-items of a group share out: several rows a group, LANES work-items each. */
#define LANES 64
#define LANE_ROWS (GROUP / LANES)

#ifdef FP64
typedef double wide;
#else
typedef float wide;
#endif

#define IN(type, name) GLOBAL const type *name, i64 name##_first, i64 name##_stride
#define OUT(type, name) GLOBAL type *name, i64 name##_first, i64 name##_stride

/* Where a row of such a matrix begins. */
#define ROW(name, row) (name + name##_first + (i64)(row) * name##_stride)

/* The value of a 16-bit float of either kind, and back to nearest even; NaN stays NaN. */
DEVICE float from_bf16(u16 bits) { return FLOAT((uint)bits << 16); }

DEVICE u16 to_bf16(float value) {
    const uint bits = BITS(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (u16)(bits >> 16 | 0x40);
    }
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Exponent and fraction in their fp32 places are the value times 2^-112, subnormals included. */
DEVICE float from_f16(u16 bits) {
    const uint scaled = BITS(FLOAT((uint)(bits & 0x7fff) << 13) * 5.192296858534828e33f);
    return FLOAT(scaled | ((bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0) | (uint)(bits & 0x8000) << 16);
}

DEVICE u16 to_f16(float value) {
    const uint bits = BITS(value), magnitude = bits & 0x7fffffffu;
    uint half_bits;
    if (magnitude > 0x7f800000u) {
        half_bits = 0x7e00u | (magnitude >> 13 & 0x1ffu);
    } else if (magnitude >= 0x47800000u) { /* 2^16 and more */
        half_bits = 0x7c00u;
    } else if (magnitude >= 0x38800000u) { /* normal: at least 2^-14; a carry into infinity is right */
        half_bits = (magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
    } else { /* the unit of 0.5f is 2^-24, that of subnormal halves: the addition rounds */
        half_bits = BITS(FLOAT(magnitude) + 0.5f) - 0x3f000000u;
    }
    return (u16)((bits >> 16 & 0x8000u) | half_bits);
}

/* What scores are ordered by: the bits of |weight| * scale, every NaN the largest. */
DEVICE uint score_key(float weight, float scale) {
    const uint bits = BITS(MUL_RN(weight, scale)) & 0x7fffffffu;
    return bits > 0x7f800000u ? 0x7fffffffu : bits;
}

/* sum + the products of four unsigned bytes with four signed ones, lowest first, modulo 2^32. */
DEVICE uint dot4(uint a, uint b, uint sum) {
    for (int i = 0; i < 32; i += 8) {
        sum += (a >> i & 0xffu) * (((b >> i & 0xffu) ^ 0x80u) - 0x80u);
    }
    return sum;
}

/* The integer, with its zero point, that a real value is rounded to: clamped, then to the nearest, halves to even, by adding
 * 1.5 * 2^23, whose sum has the integer in its low bits. NaN becomes low. */
#define LEVELS int zero, int low, int high

DEVICE u8 quantized(float value, int zero, int low, int high) {
    const float least = (float)(low - zero), most = (float)(high - zero);
    value = value > least ? value : least;
    value = value < most ? value : most;
    return (u8)((int)BITS(value + 12582912.0f) + zero);
}

/* Where windows lie over images whose pixels are rows. */
#define WINDOW \
    int height, int width, int output_height, int output_width, int kernel_height, int kernel_width, int stride_y, \
        int stride_x, int dilation_y, int dilation_x, int top, int left

/* The input's row under tap (r, s) of the window of an output pixel of an image; negative in the padding. */
#define TAP_ROW(image, pixel, r, s) \
    tap_row((image), (pixel) / output_width * stride_y - top + (r) * dilation_y, \
        (pixel) % output_width * stride_x - left + (s) * dilation_x, height, width)

DEVICE i64 tap_row(i64 image, int i, int j, int height, int width) {
    return i >= 0 && i < height && j >= 0 && j < width ? (image * height + i) * width + j : -1;
}

#ifdef FP64
/* The bin that lies nearest to a value, and how far the value is from its center, in bandwidths: at most 1e18, where a bump has
 * vanished too. The difference is taken in fp64, or bins far from 0 would be out of place. */
DEVICE float bin_distance(float value, float first, float spacing, float bandwidth, int count, int *nearest) {
    const double place = ((double)value - first) / spacing + 0.5;
    *nearest = place > 0 ? place < count ? (int)place : count - 1 : 0;
    const float x = (float)(((double)value - (first + *nearest * (double)spacing)) / bandwidth);
    return x > 1e18f ? 1e18f : x < -1e18f ? -1e18f : x;
}
#endif

/* The sum of `count` neighbouring work-items' values, a multiple of SUMMANDS that divides GROUP, by way of `values`, one for
 * each work-item of the group; every one of them gets it. Sums of SUMMANDS values first, then the sum of these. */
#define SUMMANDS 16
#define DEFINE_SUM(name, type) \
    DEVICE type name(LOCAL_ARG type *values, type value, int count) { \
        const int partials = count / SUMMANDS, place = LOCAL_ID % count; \
        LOCAL_ARG type *own = values + (LOCAL_ID - place); \
        BARRIER; \
        own[place] = value; \
        BARRIER; \
        if (place < partials) { \
            for (int i = 1; i < SUMMANDS; i++) { \
                value += own[place + i * partials]; \
            } \
            own[place] = value; \
        } \
        BARRIER; \
        value = own[0]; \
        for (int i = 1; i < partials; i++) { \
            value += own[i]; \
        } \
        return value; \
    }

DEFINE_SUM(sum_float, float)
DEFINE_SUM(sum_wide, wide)
DEFINE_SUM(sum_i64, i64)

#endif
