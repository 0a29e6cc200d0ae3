/* What the files of cuda/ need beyond portable.h: collectives of a warp whose 32 threads all take part, and loads of four
 * neighbouring floats. */
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
#define LOAD4_ONCE(p) fibres::load4<float4>(p)
#define LOAD4(p) fibres::load4<float4>(p)
#define TUNED_KERNEL(name, resident) KERNEL(name)

#endif

#define WARP 32
#define LANE (LOCAL_ID % WARP)
#define WARP_ID (LOCAL_ID / WARP)
#define WARPS_OF_GROUP (GROUP / WARP)

/* Whether every row of a matrix begins where four floats can be loaded at once. */
#define IS_PACKED4(name) ((((size_t)(name) / sizeof(float) + (size_t)name##_first) | (size_t)name##_stride) % 4 == 0)

#endif
