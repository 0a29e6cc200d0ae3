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

struct Fibre {
    Thread self;
    enum State { READY, AT_BARRIER, IN_COLLECTIVE, ENDED } state;
    int line;
    uint64_t value;
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
    fibre->state = Fibre::IN_COLLECTIVE;
    to_scheduler();
    std::memcpy(values, running->values, sizeof running->values);
}

void misaligned(const void *place) {
    std::fprintf(stderr, "emulated driver: four floats at %p are not aligned\n", place);
    std::abort();
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
