/* The native kernels of Sentei's cpu backend.
 *
 * Every kernel works on a range of rows (or of tasks) of row-major matrices, returns a status and keeps no state, so a
 * caller may run ranges on any number of threads. Pointers are to element (0, 0) of the whole matrix, strides and sizes
 * are in elements. Callers guarantee that pointers, strides and sizes describe memory they own; kernels check only what
 * depends on data (ids, memory for scratch).
 *
 * One shared library holds each kernel once an instruction-set tier; sentei_init chooses the tier. Masks, counts and
 * other integers are the same on every tier; floating-point results may differ in rounding between tiers, but not
 * between calls, threads or row ranges of one tier.
 */
#ifndef SENTEI_H
#define SENTEI_H

#include <stdint.h>

#if defined(__GNUC__)
#define SENTEI_API __attribute__((visibility("default")))
#else
#define SENTEI_API
#endif

enum sentei_status {
    SENTEI_OK = 0,
    SENTEI_UNKNOWN_ISA = 1,   /* sentei_init: the cap is none of sentei_isa_names() */
    SENTEI_OUT_OF_MEMORY = 2, /* no memory for scratch */
    SENTEI_BAD_ARGUMENT = 3   /* an enumeration value or an id out of range */
};

/* Values of `function` in sentei_activate_f32. */
enum sentei_function { SENTEI_RELU = 0, SENTEI_GELU = 1, SENTEI_GELU_TANH = 2, SENTEI_SILU = 3 };

/* Where windows lie over images whose pixels are rows: tap (r, s) of output pixel (p, q) is input pixel
 * (p * stride_y - top + r * dilation_y, q * stride_x - left + s * dilation_x), or padding outside of the image. */
struct sentei_window {
    int32_t height, width, output_height, output_width, kernel_height, kernel_width, stride_y, stride_x, dilation_y,
        dilation_x, top, left;
};

/* Chooses the best tier that this processor has and that is not above `cap`: one of sentei_isa_names(), or NULL or ""
 * for no cap. Process-wide: the last call wins. Until the first call the scalar tier is active. */
SENTEI_API int sentei_init(const char *cap);

/* Name of the active tier. */
SENTEI_API const char *sentei_active_isa(void);

/* The tiers in this library, lowest first, separated by ", ". */
SENTEI_API const char *sentei_isa_names(void);

/* The parameters of kernel sentei_<name> as they are declared here, "(float *c, int64_t c_stride, ...)", or NULL for an
 * unknown name: bindings are made from it and cannot disagree with the library. */
SENTEI_API const char *sentei_parameters(const char *name);

/* Zeroed memory of `bytes` bytes, more than none, on a page boundary, or NULL when there is no more. */
SENTEI_API void *sentei_map(int64_t bytes);

/* Gives back what sentei_map gave; SENTEI_BAD_ARGUMENT when it did not. */
SENTEI_API int sentei_unmap(void *memory, int64_t bytes);

/* The kernels: int sentei_<name>(parameters). */
#define SENTEI_KERNEL(name, parameters, arguments) SENTEI_API int sentei_##name parameters;
#include "../kernels.def"
#undef SENTEI_KERNEL

#endif
