/* What limits this processor: work that keeps one resource busy and does nothing else. Ops are measured against it.
 *
 * read: a sum over elements begin to end, as several streams whose sums do not wait for each other.
 * copy: memcpy, which the C library tunes to the processor (its stores pass the caches by where that is faster).
 * fma: products and sums on registers alone; every round is CHAINS vectors of multiply-adds, each its own chain, enough to
 * hide their latency. */
#include "kernel.h"

enum { STREAMS = 8, CHAINS = 12 };

int KERNEL(probe_read_f32)(const float *x, int64_t begin, int64_t end, float *total) {
    const int64_t each = (end - begin) / STREAMS / LANES * LANES;
    const float *from = x + begin;
    vf sums[STREAMS] = {0};
    for (int64_t i = 0; i < each; i += LANES) {
        for (int s = 0; s < STREAMS; s++) {
            sums[s] += load(from + s * each + i);
        }
    }
    float rest = 0;
    for (int64_t i = begin + STREAMS * each; i < end; i++) {
        rest += x[i];
    }
    for (int s = 0; s < STREAMS; s++) {
        rest += sum(sums[s]);
    }
    *total = rest;
    return SENTEI_OK;
}

int KERNEL(probe_copy_f32)(const float *x, float *y, int64_t begin, int64_t end) {
    memcpy(y + begin, x + begin, (size_t)(end - begin) * sizeof(float));
    return SENTEI_OK;
}

int KERNEL(probe_fma_f32)(int64_t rounds, float *total, int64_t *operations) {
    const vf factor = splat(*total), summand = splat(*total);
    vf chains[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        chains[c] = splat((float)c);
    }
    for (int64_t i = 0; i < rounds; i++) {
        for (int c = 0; c < CHAINS; c++) {
            chains[c] = chains[c] * factor + summand;
        }
    }
    float result = 0;
    for (int c = 0; c < CHAINS; c++) {
        result += sum(chains[c]);
    }
    *total = result;
    *operations = 2 * rounds * CHAINS * LANES;
    return SENTEI_OK;
}
