/* What the files of cuda/ need beyond portable.h: collectives of a warp whose 32 threads all take part, and loads and
 * stores of four neighbouring floats. */
#ifndef SENTEI_CUDA_WORDS_H
#define SENTEI_CUDA_WORDS_H

#if defined(__CUDACC__)

#define WARPS_ALL 0xffffffffu
#define GROUPS ((i64)gridDim.x)
#define BALLOT(p) __ballot_sync(WARPS_ALL, p)
#define SHUFFLE_UP(v, lanes) __shfl_up_sync(WARPS_ALL, v, lanes)
#define SHUFFLE_XOR(v, lanes) __shfl_xor_sync(WARPS_ALL, v, lanes)
#define SHUFFLE(v, lane) __shfl_sync(WARPS_ALL, v, lane)
/* Read once, through no cache for longer than that; and read again and again. */
#define LOAD4_ONCE(p) __ldcs((const float4 *)(p))
#define LOAD4(p) __ldg((const float4 *)(p))
/* Nothing that was computed from the value is known behind this, so that it is not kept in registers to be used again. */
#define FORGET4(value) asm volatile("" : "+f"((value).x), "+f"((value).y), "+f"((value).z), "+f"((value).w))
#define RSQRT(x) rsqrt(x)
/* As assembly, because nvcc takes a plain store of a float4 apart where one of its parts is chosen by a condition. */
static __device__ __forceinline__ void STORE4(float *p, float4 value) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
                 : "memory");
}
/* A kernel of which so many groups shall fit a multiprocessor. */
#define TUNED_KERNEL(name, resident) extern "C" __global__ void __launch_bounds__(GROUP, resident) name

#else

struct float4 {
    float x, y, z, w;
};

#define GROUPS (static_cast<i64>(fibres::current->grid_size.x))
#define BALLOT(p) fibres::ballot(p, __LINE__)
#define SHUFFLE_UP(v, lanes) fibres::shuffle_up(v, lanes, __LINE__)
#define SHUFFLE_XOR(v, lanes) fibres::shuffle_xor(v, lanes, __LINE__)
#define SHUFFLE(v, lane) fibres::shuffle(v, lane, __LINE__)
#define LOAD4_ONCE(p) fibres::load_packed<float4>(p)
#define LOAD4(p) fibres::load_packed<float4>(p)
#define STORE4(p, value) fibres::store_packed<float4>(p, value)
#define FORGET4(value) ((void)(value))
#define RSQRT(x) (1 / std::sqrt(x))
#define TUNED_KERNEL(name, resident) KERNEL(name)

#endif

#define WARP 32
#define LANE (LOCAL_ID % WARP)
#define WARP_ID (LOCAL_ID / WARP)
#define WARPS_OF_GROUP (GROUP / WARP)

/* Whether every row of a matrix begins where four floats can be loaded at once. */
#define IS_PACKED4(name) ((((size_t)(name) / sizeof(float) + (size_t)name##_first) | (size_t)name##_stride) % 4 == 0)

/* The sum of the values of a warp, the same bits in every thread. */
DEVICE wide sum_of_warp(wide value) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        value += SHUFFLE_XOR(value, step);
    }
    return value;
}

/* For each of four keys how many of the others come before it: the smaller ones, and its equals to the left. */
DEVICE void rank_four(const uint *keys, int *ranks) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ranks[i] = 0;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = i + 1; j < 4; j++) {
            const bool later = keys[j] < keys[i];
            ranks[i] += later;
            ranks[j] += !later;
        }
    }
}

#endif
