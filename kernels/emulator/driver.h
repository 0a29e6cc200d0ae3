/* What the emulated driver offers to other emulated libraries (cublaslt.cpp). */
#ifndef SENTEI_DRIVER_H
#define SENTEI_DRIVER_H

#include <cstdint>
#include <functional>

extern "C" {

/* The status that SENTEI_EMULATED_FAILURE asks for at this call of a function, or 0. */
int sentei_emulated_planned(const char *function);

/* Whether the calling thread has a healthy context. */
int sentei_emulated_ready(void);

/* Whether any stream captures. */
int sentei_emulated_capturing(void);

/* Whether a range lies in one allocation of the device. */
int sentei_emulated_holds(uint64_t address, uint64_t bytes);

/* Work in a stream; a CUresult. */
int sentei_emulated_submit(void *stream, const std::function<void()> &work);
}

#endif
