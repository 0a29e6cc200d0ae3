/* Runs a GPU kernel on the host: one fibre a thread of a block, blocks one after the other on the calling thread.
 *
 * A fibre runs until it waits at a barrier or in a warp collective, or ends. Which one runs next is drawn from a seed: with
 * seed 0 in order, otherwise so that a missing barrier shows. Each round a random warp runs as far as it can, its threads
 * forwards or backwards, before another one runs at all; blocks run in random order. Shared memory starts out as NaN.
 *
 * It proves logic: indices, tails, ties, barriers. It proves nothing about memory models, divergence or speed. */
#ifndef SENTEI_FIBRES_H
#define SENTEI_FIBRES_H

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace fibres {

struct Dim {
    unsigned x, y, z;
};

/* What a thread of the kernel knows of itself. */
struct Thread {
    Dim thread, block, block_size, grid_size;
};

/* The thread that runs. */
extern const Thread *current;

/* Waits for all threads of the block; `line` tells barriers apart. */
void barrier(int line);

enum { WARP = 32 };

/* Hands `value` to the threads of the warp, all of which must come here, and takes theirs, by lane. */
void exchange(uint64_t value, uint64_t values[WARP], int line);

/* Lets `together` run once for the warp, all of whose threads must come here, with what each of them gives, by lane. */
void collect(void *own, void (*together)(void *const all[WARP]), int line);

/* Ends the process: what a GPU answers to is an error at launch. */
[[noreturn]] void misaligned(const void *place);

/* Runs `kernel` once a thread. Empty, or what went wrong: a barrier that only some threads of a block reach. */
std::string launch(Dim grid, Dim block, uint64_t seed, const std::function<void()> &kernel);

/* The collectives of a warp, as cuda/words.h calls them. */
inline unsigned ballot(bool predicate, int line) {
    uint64_t values[WARP];
    exchange(predicate, values, line);
    unsigned bits = 0;
    for (int lane = 0; lane < WARP; lane++) {
        bits |= static_cast<unsigned>(values[lane]) << lane;
    }
    return bits;
}

/* The value of lane `from(own lane)`, or the own one where that is no lane. */
template <class T, class From> T shuffle_from(T value, From from, int line) {
    static_assert(sizeof value <= sizeof(uint64_t));
    uint64_t word = 0, values[WARP];
    std::memcpy(&word, &value, sizeof value);
    exchange(word, values, line);
    const int lane = from(static_cast<int>(current->thread.x % WARP));
    std::memcpy(&value, &values[lane >= 0 && lane < WARP ? lane : static_cast<int>(current->thread.x % WARP)], sizeof value);
    return value;
}

template <class T> T shuffle_up(T value, int lanes, int line) {
    return shuffle_from(value, [lanes](int lane) { return lane - lanes; }, line);
}

template <class T> T shuffle_xor(T value, int lanes, int line) {
    return shuffle_from(value, [lanes](int lane) { return lane ^ lanes; }, line);
}

template <class T> T shuffle(T value, int from, int line) {
    return shuffle_from(value, [from](int) { return from; }, line);
}

/* Several floats at once, where a GPU can load and store them. */
template <class Floats> Floats load_packed(const float *place) {
    if (reinterpret_cast<uintptr_t>(place) % sizeof(Floats) != 0) {
        misaligned(place);
    }
    Floats value;
    std::memcpy(&value, place, sizeof value);
    return value;
}

template <class Floats> void store_packed(float *place, Floats value) {
    if (reinterpret_cast<uintptr_t>(place) % sizeof(Floats) != 0) {
        misaligned(place);
    }
    std::memcpy(place, &value, sizeof value);
}

/* What cuda/tensor.h calls. Operands are bf16, products are exact; each addition cuts off what fp32 does not hold, an error
 * as large as that of a tensor core that aligns all terms to the largest and keeps 24 bits of them. */
void multiply_add(float sums[4], const unsigned left[4], const unsigned right[2], int line = __builtin_LINE());
void multiply_add_bytes(unsigned sums[4], const unsigned left[4], const unsigned right[2], int line = __builtin_LINE());
void load_matrices(unsigned matrices[4], const void *row, int line = __builtin_LINE());
void load_transposed(unsigned matrices[4], const void *row, int line = __builtin_LINE());

/* Copies are made at once or when they are waited for, as is drawn. */
void copy_async(float *to, const float *from, int count, int of);
void commit_copies();
/* Copies of all but the last `left` groups that were committed; without a number, all there are. */
void await_copies(int left);
void await_copies();

} // namespace fibres

#endif
