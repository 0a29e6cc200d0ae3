#include "fibres.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sys/mman.h>
#include <vector>

/* Static variables of this section are shared memory: the linker marks where it begins and ends. */
extern "C" {
extern char __start_sentei_shared[] __attribute__((weak));
extern char __stop_sentei_shared[] __attribute__((weak));
}

#if defined(__x86_64__)
/* Saves what a call must preserve on the stack of `*from`, and goes on where `to` was saved. */
extern "C" void sentei_switch(void **from, void *to);
__asm__(".text\n"
        ".type sentei_switch, @function\n"
        "sentei_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size sentei_switch, .-sentei_switch\n");
#else
#include <ucontext.h>
#endif

namespace fibres {

const Thread *current;

namespace {

enum { STACK_BYTES = 64 << 10 };

/* Floats under way to shared memory. */
struct Copy {
    float *to;
    const float *from;
    int count, of, group;

    void make() const {
        std::copy_n(from, count, to);
        std::fill_n(to + count, of - count, 0.0f);
    }
};

struct Fibre {
    Thread self;
    enum State { READY, AT_BARRIER, IN_COLLECTIVE, ENDED } state;
    int line;
    uint64_t value;
    void (*together)(void *const all[WARP]);
    std::vector<Copy> copies;
    int committed; /* groups of copies */
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t context;
#endif
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<std::vector<unsigned>> warps;
    uint64_t values[WARP];
};

const std::function<void()> *running_kernel;
Block *running;
Fibre *fibre;
#if defined(__x86_64__)
void *scheduler;
#else
ucontext_t scheduler;
#endif

uint64_t random_state;

uint64_t draw(uint64_t bound) { /* splitmix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

void to_scheduler() {
    Fibre *self = fibre;
#if defined(__x86_64__)
    sentei_switch(&self->stack_pointer, scheduler);
#else
    swapcontext(&self->context, &scheduler);
#endif
}

void body() {
    (*running_kernel)();
    fibre->state = Fibre::ENDED;
    to_scheduler();
    std::abort();
}

/* Stacks, one a fibre of the largest block so far; below each lies a page that nobody may touch. */
char *stack_of(unsigned index) {
    static std::vector<char *> stacks;
    const size_t page = 4096;
    while (stacks.size() <= index) {
        void *memory = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
            std::abort();
        }
        stacks.push_back(static_cast<char *>(memory) + page);
    }
    return stacks[index];
}

void prepare(Fibre &f, unsigned index) {
    f.state = Fibre::READY;
    f.copies.clear();
    f.committed = 0;
    char *stack = stack_of(index);
#if defined(__x86_64__)
    /* As if sentei_switch had been called by body's caller: six registers, the return address, and alignment. */
    void **top = reinterpret_cast<void **>(stack + STACK_BYTES - 64);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(body);
    top -= 6;
    std::memset(top, 0, 6 * sizeof(void *));
    f.stack_pointer = top;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stack;
    f.context.uc_stack.ss_size = STACK_BYTES;
    f.context.uc_link = nullptr;
    makecontext(&f.context, body, 0);
#endif
}

void resume(Fibre &f) {
    fibre = &f;
    current = &f.self;
#if defined(__x86_64__)
    sentei_switch(&scheduler, f.stack_pointer);
#else
    swapcontext(&scheduler, &f.context);
#endif
}

/* Completes the collective in which all threads of a warp wait. */
std::string complete(Block &block, const std::vector<unsigned> &warp) {
    const int line = block.fibres[warp[0]].line;
    if (warp.size() != WARP) {
        return "a warp that is not whole is in the collective of line " + std::to_string(line);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        const Fibre &f = block.fibres[warp[lane]];
        if (f.state != Fibre::IN_COLLECTIVE || f.line != line) {
            return "only some threads of a warp are in a collective, at lines " + std::to_string(line) + " and " +
                   std::to_string(f.line);
        }
        block.values[lane] = f.value;
    }
    if (block.fibres[warp[0]].together != nullptr) {
        void *all[WARP];
        for (unsigned lane = 0; lane < WARP; lane++) {
            all[lane] = reinterpret_cast<void *>(block.values[lane]);
        }
        block.fibres[warp[0]].together(all);
    }
    return "";
}

/* Lets every thread of a warp run until it waits at a barrier or has ended. */
std::string run(Block &block, const std::vector<unsigned> &warp, bool backwards) {
    for (;;) {
        bool collective = false;
        for (unsigned i = 0; i < warp.size(); i++) {
            Fibre &f = block.fibres[warp[backwards ? warp.size() - 1 - i : i]];
            if (f.state == Fibre::READY) {
                resume(f);
            }
            collective |= f.state == Fibre::IN_COLLECTIVE;
        }
        if (!collective) {
            return "";
        }
        std::string failure = complete(block, warp);
        if (!failure.empty()) {
            return failure;
        }
        for (unsigned index : warp) {
            Fibre &f = block.fibres[index];
            if (f.state == Fibre::IN_COLLECTIVE) {
                f.state = Fibre::READY; /* and takes block.values first of all */
            }
        }
    }
}

std::string run_block(Block &block, uint64_t seed) {
    for (unsigned i = 0; i < block.fibres.size(); i++) {
        prepare(block.fibres[i], i);
    }
    if (__start_sentei_shared != nullptr) {
        std::memset(__start_sentei_shared, 0xff, static_cast<size_t>(__stop_sentei_shared - __start_sentei_shared));
    }
    std::vector<unsigned> order(block.warps.size());
    for (;;) {
        std::iota(order.begin(), order.end(), 0u);
        if (seed != 0) {
            for (size_t i = order.size(); i > 1; i--) {
                std::swap(order[i - 1], order[draw(i)]);
            }
        }
        for (unsigned warp : order) {
            std::string failure = run(block, block.warps[warp], seed != 0 && draw(2) == 0);
            if (!failure.empty()) {
                return failure;
            }
        }
        int line = 0;
        bool ended = false;
        for (const Fibre &f : block.fibres) {
            if (f.state == Fibre::ENDED) {
                ended = true;
            } else if (line == 0) {
                line = f.line;
            } else if (line != f.line) {
                return "threads of a block wait at different barriers, at lines " + std::to_string(line) + " and " +
                       std::to_string(f.line);
            }
        }
        if (line == 0) {
            return "";
        }
        if (ended) {
            return "some threads of a block ended while others wait at the barrier of line " + std::to_string(line);
        }
        for (Fibre &f : block.fibres) {
            f.state = Fibre::READY;
        }
    }
}

} // namespace

void barrier(int line) {
    fibre->line = line;
    fibre->state = Fibre::AT_BARRIER;
    to_scheduler();
}

void exchange(uint64_t value, uint64_t values[WARP], int line) {
    fibre->line = line;
    fibre->value = value;
    fibre->together = nullptr;
    fibre->state = Fibre::IN_COLLECTIVE;
    to_scheduler();
    std::memcpy(values, running->values, sizeof running->values);
}

void collect(void *own, void (*together)(void *const all[WARP]), int line) {
    fibre->line = line;
    fibre->value = reinterpret_cast<uint64_t>(own);
    fibre->together = together;
    fibre->state = Fibre::IN_COLLECTIVE;
    to_scheduler();
}

void misaligned(const void *place) {
    std::fprintf(stderr, "emulated driver: what is read at once at %p is not aligned\n", place);
    std::abort();
}

namespace {

enum { TALL = 16, WIDE = 8, DEEP = 16 };

struct Product {
    float *sums;
    const unsigned *left, *right;
};

/* The float in one half of a word. */
double half(unsigned word, int upper) {
    const unsigned bits = upper != 0 ? word & 0xffff0000u : word << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

double cut(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits &= ~((uint64_t{1} << 29) - 1);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void multiply(void *const all[WARP]) {
    double left[TALL][DEEP], right[DEEP][WIDE], sums[TALL][WIDE];
    for (int lane = 0; lane < WARP; lane++) {
        const Product &own = *static_cast<const Product *>(all[lane]);
        const int row = lane / 4, pair = lane % 4 * 2;
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 4; j++) {
                left[row + j % 2 * 8][pair + j / 2 * 8 + i] = half(own.left[j], i);
            }
            for (int j = 0; j < 2; j++) {
                right[pair + j * 8 + i][row] = half(own.right[j], i);
                sums[row + j * 8][pair + i] = own.sums[2 * j + i];
            }
        }
    }
    for (int i = 0; i < TALL; i++) {
        for (int k = 0; k < DEEP; k++) {
            for (int j = 0; j < WIDE; j++) {
                sums[i][j] = cut(sums[i][j] + left[i][k] * right[k][j]);
            }
        }
    }
    for (int lane = 0; lane < WARP; lane++) {
        const Product &own = *static_cast<const Product *>(all[lane]);
        for (int j = 0; j < 4; j++) {
            own.sums[j] = static_cast<float>(sums[lane / 4 + j / 2 * 8][lane % 4 * 2 + j % 2]);
        }
    }
}

struct ByteProduct {
    unsigned *sums;
    const unsigned *left, *right;
};

/* 16 x 32 unsigned bytes times 32 x 8 signed ones: a word has four neighbours of the depth. */
void multiply_bytes(void *const all[WARP]) {
    unsigned left[TALL][2 * DEEP], right[2 * DEEP][WIDE];
    for (int lane = 0; lane < WARP; lane++) {
        const ByteProduct &own = *static_cast<const ByteProduct *>(all[lane]);
        for (int byte = 0; byte < 4; byte++) {
            const int k = lane % 4 * 4 + byte;
            for (int j = 0; j < 4; j++) {
                left[lane / 4 + j % 2 * 8][k + j / 2 * 16] = own.left[j] >> (8 * byte) & 0xff;
            }
            for (int j = 0; j < 2; j++) {
                right[k + j * 16][lane / 4] = static_cast<unsigned>(static_cast<int8_t>(own.right[j] >> (8 * byte)));
            }
        }
    }
    for (int lane = 0; lane < WARP; lane++) {
        const ByteProduct &own = *static_cast<const ByteProduct *>(all[lane]);
        for (int j = 0; j < 4; j++) {
            for (int k = 0; k < 2 * DEEP; k++) {
                own.sums[j] += left[lane / 4 + j / 2 * 8][k] * right[k][lane % 4 * 2 + j % 2];
            }
        }
    }
}

struct Matrices {
    unsigned *words;
    const void *row;
};

template <bool transposed> void load(void *const all[WARP]) {
    for (int lane = 0; lane < WARP; lane++) {
        if (reinterpret_cast<uintptr_t>(static_cast<const Matrices *>(all[lane])->row) % 16 != 0) {
            misaligned(static_cast<const Matrices *>(all[lane])->row);
        }
    }
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t elements[8][8];
        for (int i = 0; i < 8; i++) {
            std::memcpy(elements[i], static_cast<const Matrices *>(all[8 * matrix + i])->row, sizeof elements[i]);
        }
        for (int lane = 0; lane < WARP; lane++) {
            const int i = lane / 4, j = lane % 4 * 2;
            const unsigned low = transposed ? elements[j][i] : elements[i][j];
            const unsigned high = transposed ? elements[j + 1][i] : elements[i][j + 1];
            static_cast<const Matrices *>(all[lane])->words[matrix] = low | high << 16;
        }
    }
}

} // namespace

void multiply_add(float sums[4], const unsigned left[4], const unsigned right[2], int line) {
    Product own = {sums, left, right};
    collect(&own, multiply, line);
}

void multiply_add_bytes(unsigned sums[4], const unsigned left[4], const unsigned right[2], int line) {
    ByteProduct own = {sums, left, right};
    collect(&own, multiply_bytes, line);
}

void load_matrices(unsigned matrices[4], const void *row, int line) {
    Matrices own = {matrices, row};
    collect(&own, load<false>, line);
}

void load_transposed(unsigned matrices[4], const void *row, int line) {
    Matrices own = {matrices, row};
    collect(&own, load<true>, line);
}

void copy_async(float *to, const float *from, int count, int of) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % (sizeof *to * of) != 0) {
        misaligned(from);
    }
    fibre->copies.push_back({to, from, count, of, fibre->committed});
    if (draw(2) == 0) {
        await_copies();
    }
}

void commit_copies() { fibre->committed++; }

void await_copies(int left) {
    std::vector<Copy> later;
    for (const Copy &copy : fibre->copies) {
        if (copy.group < fibre->committed - left) {
            copy.make();
        } else {
            later.push_back(copy);
        }
    }
    fibre->copies = std::move(later);
}

void await_copies() {
    for (const Copy &copy : fibre->copies) {
        copy.make();
    }
    fibre->copies.clear();
}

std::string launch(Dim grid, Dim block_size, uint64_t seed, const std::function<void()> &kernel) {
    const unsigned threads = block_size.x * block_size.y * block_size.z;
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    random_state = seed;
    Block block;
    block.fibres.resize(threads);
    block.warps.resize((threads + WARP - 1) / WARP);
    for (unsigned i = 0; i < threads; i++) {
        block.warps[i / WARP].push_back(i);
    }
    running_kernel = &kernel;
    running = &block;
    std::vector<uint64_t> order(blocks);
    std::iota(order.begin(), order.end(), uint64_t{0});
    if (seed != 0) {
        for (size_t i = order.size(); i > 1; i--) {
            std::swap(order[i - 1], order[draw(i)]);
        }
    }
    for (uint64_t index : order) {
        const Dim position = {static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
                              static_cast<unsigned>(index / grid.x / grid.y)};
        for (unsigned i = 0; i < threads; i++) {
            const Dim thread = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
            block.fibres[i].self = {thread, position, block_size, grid};
        }
        std::string failure = run_block(block, seed);
        if (!failure.empty()) {
            return failure + ", in block " + std::to_string(index);
        }
    }
    return "";
}

} // namespace fibres
