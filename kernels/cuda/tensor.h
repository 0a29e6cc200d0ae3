/* Tensor cores as GPUs from 8.0 on have them: products of bf16 matrices by the 32 threads of a warp, summed in fp32, and what
 * brings the matrices there. Fragments lie in the threads as PTX has it for mma.m16n8k16. The host's twins are in
 * emulator/fibres.h.
 *
 * An fp32 number is the sum of three bf16 numbers, each the nearest to what is left: split(). Of the nine products of two such
 * sums, the six whose parts' numbers add up to less than PARTS make a product that is right to 2^-25: twice the terms of TF32's
 * three products at twice the rate, and 2^-21 there is more than ops may be off by. A tensor core cuts off what does not fit
 * where other units round, so that small products come first and its sums start from zero every DEPTH terms (2203.03341). */
#ifndef SENTEI_CUDA_TENSOR_H
#define SENTEI_CUDA_TENSOR_H

#include "cuda/words.h"

#define PARTS 3

/* Terms of a sum that a tensor core adds up at a time. */
#define DEPTH 16

#if defined(__CUDACC__)

/* The value, of which the compiler does not know that it is the same as before. */
DEVICE int fresh(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

/* Two neighbours at a multiple of eight bytes, as fragments have them. */
#define LOAD2(p) __ldg((const float2 *)(p))
#define STORE2(p, value) (*(float2 *)(p) = (value))

/* Two floats as bf16, to nearest even: the first in the lower half. */
DEVICE uint pack_bf16(float first, float second) {
    uint packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
    return packed;
}

/* sums += left * right, 16 x 16 times 16 x 8. */
DEVICE void multiply_add(float sums[4], const uint left[4], const uint right[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

/* Four matrices of 8 x 8 from shared memory: lane 8 i + j names row j of matrix i. */
DEVICE void load_matrices(uint matrices[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"((uint)__cvta_generic_to_shared(row))
                 : "memory");
}

DEVICE void load_transposed(uint matrices[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"((uint)__cvta_generic_to_shared(row))
                 : "memory");
}

/* The first `count` of one or four floats to shared memory, 0 for the rest, until await_copies(). */
DEVICE void copy1_async(float *to, const float *from, int count) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"((uint)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(4 * count)
                 : "memory");
}

DEVICE void copy4_async(float *to, const float *from, int count) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((uint)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(4 * count)
                 : "memory");
}

/* Closes the group of copies that this thread has begun since the last one, and waits for all but the last `left` groups. */
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int left> DEVICE void await_copies_but() { asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory"); }

/* sums += left * right, unsigned bytes 16 x 32 times signed ones 32 x 8, modulo 2^32. */
DEVICE void multiply_add_bytes(uint sums[4], const uint left[4], const uint right[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
}

/* Bytes of two words, by four bits of the selector each: 0 to 3 are those of the first. */
#define PICK(a, b, selector) __byte_perm(a, b, selector)

/* Waits for what this thread copies. */
DEVICE void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#else

struct uint2 {
    uint x, y;
};

struct float2 {
    float x, y;
};

#define LOAD2(p) fibres::load_packed<float2>(p)
#define STORE2(p, value) fibres::store_packed<float2>(p, value)

DEVICE int fresh(int value) { return value; }

using fibres::await_copies;
using fibres::commit_copies;
using fibres::load_matrices;
using fibres::load_transposed;
using fibres::multiply_add;
using fibres::multiply_add_bytes;

template <int left> DEVICE void await_copies_but() { fibres::await_copies(left); }

DEVICE uint PICK(uint a, uint b, uint selector) {
    const uint64_t bytes = a | (uint64_t)b << 32;
    uint picked = 0;
    for (int i = 0; i < 4; i++) {
        picked |= (uint)(bytes >> (selector >> (4 * i) & 7) * 8 & 0xff) << (8 * i);
    }
    return picked;
}

DEVICE uint pack_bf16(float first, float second) { return to_bf16(first) | (uint)to_bf16(second) << 16; }
DEVICE void copy1_async(float *to, const float *from, int count) { fibres::copy_async(to, from, count, 1); }
DEVICE void copy4_async(float *to, const float *from, int count) { fibres::copy_async(to, from, count, 4); }

#endif

/* The parts of two floats, largest first. */
DEVICE void split(float first, float second, uint parts[PARTS]) {
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        parts[i] = pack_bf16(first, second);
        first -= FLOAT(parts[i] << 16);
        second -= FLOAT(parts[i] & 0xffff0000u);
    }
}

DEVICE bool is_finite(float value) { return (BITS(value) & 0x7f800000u) != 0x7f800000u; }

#endif
