/* The table of one tier. */
#include "kernel.h"

#define SENTEI_QUOTE(text) #text
#define SENTEI_NAME(text) SENTEI_QUOTE(text)

extern const struct sentei_kernels KERNEL(sentei_kernels);

const struct sentei_kernels KERNEL(sentei_kernels) = {
    .isa = SENTEI_NAME(SENTEI_TIER),
#define SENTEI_KERNEL(name, parameters, arguments) .name = KERNEL(name),
#include "../kernels.def"
#undef SENTEI_KERNEL
};
