/* The words of portable.h on the host: a group's work-items are fibres (fibres.h). Work-items never run at the same time, so
 * an atomic is a plain operation. */
#ifndef SENTEI_HOST_H
#define SENTEI_HOST_H

#include "fibres.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#define FP64

typedef int64_t i64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef unsigned int uint;

/* The Makefile finds the entries of a file by the attribute. */
#define KERNEL(name) extern "C" [[gnu::used]] void name
#define DEVICE static inline
#define GLOBAL
#define LOCAL static __attribute__((section("sentei_shared")))
#define LOCAL_ARG
#define LOCAL_ID (static_cast<int>(fibres::current->thread.x))
#define GROUP_ID (static_cast<i64>(fibres::current->block.x))
#define BARRIER fibres::barrier(__LINE__)

template <class T, class V> static inline T ATOMIC_ADD(T *place, V value) {
    T before = *place;
    *place += static_cast<T>(value);
    return before;
}

template <class T, class V> static inline T ATOMIC_OR(T *place, V value) {
    T before = *place;
    *place |= static_cast<T>(value);
    return before;
}

template <class T, class V> static inline T ATOMIC_MAX(T *place, V value) {
    T before = *place;
    *place = before < static_cast<T>(value) ? static_cast<T>(value) : before;
    return before;
}

static inline uint BITS(float value) {
    uint bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float FLOAT(uint bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#define POPCOUNT(x) __builtin_popcount(x)
#define EXP(x) std::exp(x)
#define SQRT(x) std::sqrt(x)
#define FMA(a, b, c) std::fma(a, b, c)
#define MUL_RN(a, b) ((a) * (b))
#define SUB_RN(a, b) ((a) - (b))
#define DIV_RN(a, b) ((a) / (b))
#define DOT4(a, b, sum) dot4(a, b, sum)

using std::erf;
using std::exp;
using std::expm1;
using std::fabs;
using std::isinf;
using std::isnan;
using std::sqrt;
using std::tanh;

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

#endif
