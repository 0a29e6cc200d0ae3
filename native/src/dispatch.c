/* Chooses a tier once and forwards every exported kernel to it. SENTEI_TIERS, set by the Makefile, lists the tiers of the
 * target processor family, lowest first, as T(name). */
#include "kernel.h"

#include <stdatomic.h>

#define T(name) extern const struct sentei_kernels sentei_kernels_##name;
SENTEI_TIERS
#undef T

static const struct sentei_kernels *const tiers[] = {
#define T(name) &sentei_kernels_##name,
    SENTEI_TIERS
#undef T
};

enum { TIERS = sizeof tiers / sizeof tiers[0] };

static _Atomic(const struct sentei_kernels *) active = &sentei_kernels_scalar;

static int processor_has(const char *isa) {
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    if (strcmp(isa, "avx512") == 0) {
        return processor_has("avx2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    }
    if (strcmp(isa, "avx512_bf16") == 0) {
        return processor_has("avx512") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")
            && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    }
#elif defined(__aarch64__)
    if (strcmp(isa, "neon") == 0) {
        return 1; /* every 64-bit Arm processor that runs Linux has it */
    }
#endif
    return strcmp(isa, "scalar") == 0;
}

int sentei_init(const char *cap) {
    int highest = TIERS - 1;
    if (cap != NULL && cap[0] != '\0') {
        while (highest >= 0 && strcmp(tiers[highest]->isa, cap) != 0) {
            highest--;
        }
        if (highest < 0) {
            return SENTEI_UNKNOWN_ISA;
        }
    }
    while (!processor_has(tiers[highest]->isa)) {
        highest--;
    }
    atomic_store(&active, tiers[highest]);
    return SENTEI_OK;
}

const char *sentei_active_isa(void) { return atomic_load(&active)->isa; }

const char *sentei_isa_names(void) {
#define T(name) ", " #name
    static const char names[] = SENTEI_TIERS;
#undef T
    return names + 2;
}

const char *sentei_parameters(const char *name) {
    static const char *const declared[][2] = {
#define SENTEI_KERNEL(name, parameters, arguments) {#name, #parameters},
#include "../kernels.def"
#undef SENTEI_KERNEL
    };
    for (size_t i = 0; i < sizeof declared / sizeof declared[0]; i++) {
        if (strcmp(declared[i][0], name) == 0) {
            return declared[i][1];
        }
    }
    return NULL;
}

#define SENTEI_KERNEL(name, parameters, arguments) \
    int sentei_##name parameters { return atomic_load_explicit(&active, memory_order_relaxed)->name arguments; }
#include "../kernels.def"
#undef SENTEI_KERNEL
