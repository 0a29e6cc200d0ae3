/* A CUDA driver for tests: libcuda.so.1 with the functions that the backend calls, on the host's memory, with the kernels of
 * kernels/common compiled for the host. It is stricter than a GPU:
 *
 * - Nothing asynchronous runs before something waits for it, and then streams take turns at random as far as events allow.
 *   A copy whose host memory was reused too early, or a stream that did not wait for another, gives wrong results.
 * - Asynchronous copies want pinned host memory, calls want the current context.
 * - Events tell the time of a device that runs its streams beside each other as far as events and the host's waiting let it,
 *   each kernel in KERNEL_US and copies at COPY_BYTES_A_US: for tests of what may overlap, not of how long anything takes.
 * - Allocations are filled with NaN. Right behind each lies a page that ends the process when it is touched; what is written in
 *   front of it, or in the few bytes up to that page, is found when it is freed.
 *
 * Environment:
 *   SENTEI_EMULATED_SEED        of the schedule; 0 is in order (default 1)
 *   SENTEI_EMULATED_VERSION     of CUDA (default 13000)
 *   SENTEI_EMULATED_CAPABILITY  of the device (default 90)
 *   SENTEI_EMULATED_DEVICES     how many there are (default 1)
 *   SENTEI_EMULATED_MEMORY      bytes of the device (default 1 GiB)
 *   SENTEI_EMULATED_FAILURE     FUNCTION:CODE:N, the Nth call of FUNCTION fails; "kernel" for the work of a launch
 *   SENTEI_EMULATED_STUB        when it is set, launches do nothing but return: what is left is the cost of calling
 *
 * sentei_emulated_count says what was left open; sentei_emulated_forget leaves out waits, which tests shall notice. */
#include "driver.h"
#include "fibres.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <sys/mman.h>

#include "entries.h"

namespace {

using Result = int;
using Device = int;
using Address = uint64_t;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    STREAM_CAPTURE_UNSUPPORTED = 900
};

struct Event {
    uint64_t wanted = 0, done = 0; /* records asked for, records reached */
    bool timed = false;
    int stream = -1; /* of the last record */
    double us = 0; /* when the last record was reached */
};

/* One piece of asynchronous work; `ready` says whether it may run now. */
struct Work {
    std::function<bool()> ready;
    std::function<Result()> run;
    double us = 0, earliest = 0; /* how long it takes, and when the host asked for it */
};

struct Stream {
    std::deque<Work> work;
    int number = 0; /* in the order of creation */
    double us = 0; /* when its last work ended */
    bool capturing = false;
    std::vector<Work> captured;
};

struct Graph {
    std::vector<Work> work;
};

struct Module {
    uint64_t bytes;
};

struct Allocation {
    uint64_t bytes;
    uint8_t *whole; /* pages, the last of which cannot be touched */
    uint64_t whole_bytes;
};

enum { ALIGNMENT = 16, PAGE = 4096, GUARD_BYTES = 256, GUARD = 0xa7, QUEUE = 512, HOST = 100 };

const double KERNEL_US = 20, COPY_US = 2, COPY_BYTES_A_US = 50000;

std::recursive_mutex lock;
thread_local double host_us;
int forgetful = -1, forgotten = -1; /* who does not wait for whom: numbers of streams, or HOST */
bool initialised;
int retained;
char context_object;
thread_local void *current_context;
Result sticky;
uint64_t random_state, launches, damaged, leaked, waits;

std::set<Stream *> streams;
std::set<Event *> events;
std::set<Module *> modules;
std::set<Graph *> graphs, executables;
std::map<Address, Allocation> allocations;
std::map<uint8_t *, uint64_t> pinned;

uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr || *text == 0 ? otherwise : std::strtoull(text, nullptr, 10);
}

const bool stub = std::getenv("SENTEI_EMULATED_STUB") != nullptr;

uint64_t seed() {
    static const uint64_t value = number("SENTEI_EMULATED_SEED", 1);
    return value;
}

uint64_t draw(uint64_t bound) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return seed() == 0 ? 0 : (z ^ (z >> 31)) % bound;
}

/* The failure that the environment asks for, at its turn. */
Result planned(const char *function) {
    static const std::string plan = std::getenv("SENTEI_EMULATED_FAILURE") ? std::getenv("SENTEI_EMULATED_FAILURE") : "";
    static uint64_t calls;
    const size_t colon = plan.find(':');
    if (colon == std::string::npos || plan.compare(0, colon, function) != 0) {
        return SUCCESS;
    }
    char *end;
    const Result code = static_cast<Result>(std::strtol(plan.c_str() + colon + 1, &end, 10));
    return ++calls == std::strtoull(end + 1, nullptr, 10) ? code : SUCCESS;
}

bool is_sticky(Result code) { return (code >= 700 && code <= 720 && code != 701) || code == 214 || code == 46; }

Result failed(Result code) {
    if (is_sticky(code)) {
        sticky = code;
    }
    return code;
}

/* What every call on a context begins with. */
Result enter(const char *function) {
    if (!initialised) {
        return NOT_INITIALIZED;
    }
    if (sticky != SUCCESS) {
        return sticky;
    }
    const Result code = planned(function);
    if (code != SUCCESS) {
        return failed(code);
    }
    return current_context == nullptr ? static_cast<Result>(INVALID_CONTEXT) : SUCCESS;
}

#define ENTER(function)                                                                                                \
    std::lock_guard<std::recursive_mutex> guard(lock);                                                                 \
    if (const Result entered = enter(function)) {                                                                      \
        return entered;                                                                                                \
    }

/* Runs work until `until` holds; streams take turns at random, each as far as events let it. */
Result work_until(const std::function<bool()> &until) {
    while (!until()) {
        std::vector<Stream *> able;
        for (Stream *stream : streams) {
            if (!stream->work.empty() && stream->work.front().ready()) {
                able.push_back(stream);
            }
        }
        if (able.empty()) {
            std::fprintf(stderr, "emulated driver: all streams wait for each other\n");
            std::abort();
        }
        Stream *stream = able[draw(able.size())];
        const Work work = stream->work.front();
        stream->work.pop_front();
        stream->us = std::max(stream->us, work.earliest);
        if (const Result code = work.run()) {
            return failed(code);
        }
        stream->us += work.us;
    }
    return SUCCESS;
}

/* Works until it is so; a wait is counted where it was not so already. */
Result drain(const std::function<bool()> &until) {
    waits += !until();
    return work_until(until);
}

/* As drain, for a host that waits until this time. */
Result wait(const std::function<bool()> &until, const double &us) {
    const Result code = drain(until);
    host_us = std::max(host_us, us);
    return code;
}

bool idle() {
    return std::all_of(streams.begin(), streams.end(), [](Stream *stream) { return stream->work.empty(); });
}

bool always() { return true; }

Result submit(Stream *stream, Work work) {
    if (streams.count(stream) == 0) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        stream->captured.push_back(std::move(work));
        return SUCCESS;
    }
    work.earliest = host_us;
    stream->work.push_back(std::move(work));
    return stream->work.size() < QUEUE ? SUCCESS : work_until([stream] { return stream->work.size() < QUEUE / 2; });
}

/* Whether a range lies in one allocation. */
bool is_device(Address address, uint64_t bytes) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) {
        return false;
    }
    const auto &[begin, allocation] = *std::prev(after);
    return address - begin <= allocation.bytes && bytes <= allocation.bytes - (address - begin);
}

bool is_pinned(const void *address, uint64_t bytes) {
    uint8_t *begin = const_cast<uint8_t *>(static_cast<const uint8_t *>(address));
    auto after = pinned.upper_bound(begin);
    if (after == pinned.begin()) {
        return false;
    }
    const auto &[start, size] = *std::prev(after);
    return static_cast<uint64_t>(begin - start) <= size && bytes <= size - static_cast<uint64_t>(begin - start);
}

Result copy(Stream *stream, void *target, const void *source, uint64_t bytes) {
    return submit(stream, {always, [=] {
                               std::memcpy(target, source, bytes);
                               return static_cast<Result>(SUCCESS);
                           }, COPY_US + static_cast<double>(bytes) / COPY_BYTES_A_US});
}

struct Memcpy2D { /* CUDA_MEMCPY2D of cuda.h */
    size_t source_x, source_y;
    int source_type;
    const void *source_host;
    Address source_device;
    void *source_array;
    size_t source_pitch;
    size_t target_x, target_y;
    int target_type;
    void *target_host;
    Address target_device;
    void *target_array;
    size_t target_pitch;
    size_t width, height;
};

} // namespace

extern "C" {

Result cuInit(unsigned flags) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (const Result code = planned("cuInit")) {
        return code;
    }
    if (flags != 0) {
        return INVALID_VALUE;
    }
    if (number("SENTEI_EMULATED_DEVICES", 1) == 0) {
        return NO_DEVICE;
    }
    random_state = seed();
    initialised = true;
    return SUCCESS;
}

Result cuDriverGetVersion(int *version) {
    *version = static_cast<int>(number("SENTEI_EMULATED_VERSION", 13000));
    return SUCCESS;
}

Result cuDeviceGetCount(int *count) {
    if (!initialised) {
        return NOT_INITIALIZED;
    }
    *count = static_cast<int>(number("SENTEI_EMULATED_DEVICES", 1));
    return SUCCESS;
}

Result cuGetErrorName(Result code, const char **name) {
    switch (code) {
    case SUCCESS: *name = "CUDA_SUCCESS"; break;
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; break;
    case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
    case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
    case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case INVALID_HANDLE: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
    case 214: *name = "CUDA_ERROR_ECC_UNCORRECTABLE"; break;
    case 218: *name = "CUDA_ERROR_INVALID_PTX"; break;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case STREAM_CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    default: *name = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}

Result cuDeviceGet(Device *device, int ordinal) {
    if (!initialised) {
        return NOT_INITIALIZED;
    }
    if (ordinal < 0 || static_cast<uint64_t>(ordinal) >= number("SENTEI_EMULATED_DEVICES", 1)) {
        return INVALID_DEVICE;
    }
    *device = ordinal;
    return SUCCESS;
}

Result cuDeviceGetName(char *name, int length, Device) {
    std::snprintf(name, static_cast<size_t>(length), "emulated GPU");
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t *bytes, Device) {
    *bytes = number("SENTEI_EMULATED_MEMORY", uint64_t{1} << 30);
    return SUCCESS;
}

Result cuDeviceGetAttribute(int *value, int attribute, Device) {
    const int capability = static_cast<int>(number("SENTEI_EMULATED_CAPABILITY", 90));
    switch (attribute) {
    case 16: *value = 2; return SUCCESS; /* MULTIPROCESSOR_COUNT: groups take several rows, and not equally many */
    case 75: *value = capability / 10; return SUCCESS; /* COMPUTE_CAPABILITY_MAJOR */
    case 76: *value = capability % 10; return SUCCESS; /* COMPUTE_CAPABILITY_MINOR */
    default: return INVALID_VALUE;
    }
}

Result cuDevicePrimaryCtxRetain(void **context, Device) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (const Result code = planned("cuDevicePrimaryCtxRetain")) {
        return failed(code);
    }
    retained++;
    *context = &context_object;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(Device) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (retained == 0) {
        return INVALID_CONTEXT;
    }
    if (--retained == 0) { /* the context ends, and with it what it holds and the trouble it had */
        if (sticky == SUCCESS) {
            leaked += streams.size() + events.size() + modules.size() + graphs.size() + executables.size() +
                      allocations.size() + pinned.size();
        }
        for (const auto &[address, allocation] : allocations) {
            munmap(allocation.whole, allocation.whole_bytes);
        }
        for (const auto &[memory, bytes] : pinned) {
            std::free(memory);
        }
        streams.clear();
        events.clear();
        modules.clear();
        graphs.clear();
        executables.clear();
        allocations.clear();
        pinned.clear();
        sticky = SUCCESS;
    }
    return SUCCESS;
}

Result cuCtxSetCurrent(void *context) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (context != nullptr && (context != &context_object || retained == 0)) {
        return INVALID_CONTEXT;
    }
    current_context = context;
    return SUCCESS;
}

Result cuMemAlloc_v2(Address *address, size_t bytes) {
    ENTER("cuMemAlloc_v2");
    uint64_t used = 0;
    for (const auto &[begin, allocation] : allocations) {
        used += allocation.bytes;
    }
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    if (bytes > number("SENTEI_EMULATED_MEMORY", uint64_t{1} << 30) - used) {
        return OUT_OF_MEMORY;
    }
    /* At the end of the pages as far as the alignment allows: 16 bytes, which is what kernels count on. */
    const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t used_pages = (rounded + GUARD_BYTES + PAGE - 1) / PAGE * PAGE;
    void *const mapped =
        mmap(nullptr, used_pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    uint8_t *const whole = static_cast<uint8_t *>(mapped), *const end = whole + used_pages;
    if (mprotect(end, PAGE, PROT_NONE) != 0) {
        munmap(mapped, used_pages + PAGE);
        return OUT_OF_MEMORY;
    }
    std::memset(whole, GUARD, used_pages);
    std::memset(end - rounded, 0xff, bytes);
    *address = reinterpret_cast<Address>(end - rounded);
    allocations[*address] = {bytes, whole, used_pages + PAGE};
    return SUCCESS;
}

Result cuMemFree_v2(Address address) {
    ENTER("cuMemFree_v2");
    auto found = allocations.find(address);
    if (found == allocations.end()) {
        return INVALID_VALUE;
    }
    if (const Result code = drain(idle)) {
        return code;
    }
    const auto [bytes, whole, whole_bytes] = found->second;
    const uint8_t *const begin = reinterpret_cast<const uint8_t *>(address), *const end = whole + whole_bytes - PAGE;
    for (const uint8_t *at = whole; at < end; at = at + 1 == begin ? begin + bytes : at + 1) {
        if (*at != GUARD) {
            std::fprintf(stderr, "emulated driver: a kernel wrote beside an allocation of %zu bytes, at byte %td\n",
                         static_cast<size_t>(bytes), at - begin);
            damaged++;
            break;
        }
    }
    munmap(whole, whole_bytes);
    allocations.erase(found);
    return SUCCESS;
}

Result cuMemHostAlloc(void **address, size_t bytes, unsigned) {
    ENTER("cuMemHostAlloc");
    uint8_t *memory = static_cast<uint8_t *>(std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE));
    if (memory == nullptr) {
        return OUT_OF_MEMORY;
    }
    std::memset(memory, 0xff, bytes);
    pinned[memory] = bytes;
    *address = memory;
    return SUCCESS;
}

Result cuMemFreeHost(void *address) {
    ENTER("cuMemFreeHost");
    auto found = pinned.find(static_cast<uint8_t *>(address));
    if (found == pinned.end()) {
        return INVALID_VALUE;
    }
    std::memset(found->first, 0xff, found->second); /* work that still reads it shall show */
    std::free(found->first);
    pinned.erase(found);
    return SUCCESS;
}

Result cuMemcpyHtoDAsync_v2(Address target, const void *source, size_t bytes, Stream *stream) {
    ENTER("cuMemcpyHtoDAsync_v2");
    if (!is_device(target, bytes) || !is_pinned(source, bytes)) {
        return INVALID_VALUE;
    }
    return copy(stream, reinterpret_cast<void *>(target), source, bytes);
}

Result cuMemcpyDtoHAsync_v2(void *target, Address source, size_t bytes, Stream *stream) {
    ENTER("cuMemcpyDtoHAsync_v2");
    if (!is_device(source, bytes) || !is_pinned(target, bytes)) {
        return INVALID_VALUE;
    }
    return copy(stream, target, reinterpret_cast<const void *>(source), bytes);
}

Result cuMemcpy2DAsync_v2(const Memcpy2D *what, Stream *stream) {
    ENTER("cuMemcpy2DAsync_v2");
    enum { HOST = 1, DEVICE = 2 };
    const Memcpy2D c = *what;
    if (c.width == 0 || c.height == 0 || c.source_pitch < c.width || c.target_pitch < c.width ||
        c.source_pitch > 0x7fffffff || c.target_pitch > 0x7fffffff) {
        return INVALID_VALUE;
    }
    const size_t from = c.source_x + c.source_y * c.source_pitch, to = c.target_x + c.target_y * c.target_pitch;
    const size_t read = (c.height - 1) * c.source_pitch + c.width, written = (c.height - 1) * c.target_pitch + c.width;
    const uint8_t *source;
    uint8_t *target;
    if (c.source_type == HOST && c.target_type == DEVICE) {
        source = static_cast<const uint8_t *>(c.source_host) + from;
        target = reinterpret_cast<uint8_t *>(c.target_device) + to;
        if (!is_pinned(source, read) || !is_device(c.target_device + to, written)) {
            return INVALID_VALUE;
        }
    } else if (c.source_type == DEVICE && c.target_type == HOST) {
        source = reinterpret_cast<const uint8_t *>(c.source_device) + from;
        target = static_cast<uint8_t *>(c.target_host) + to;
        if (!is_device(c.source_device + from, read) || !is_pinned(target, written)) {
            return INVALID_VALUE;
        }
    } else {
        return INVALID_VALUE;
    }
    return submit(stream, {always, [=] {
                               for (size_t row = 0; row < c.height; row++) {
                                   std::memcpy(target + row * c.target_pitch, source + row * c.source_pitch, c.width);
                               }
                               return static_cast<Result>(SUCCESS);
                           }, COPY_US + static_cast<double>(c.width * c.height) / COPY_BYTES_A_US});
}

Result cuModuleLoadData(Module **module, const void *image) {
    ENTER("cuModuleLoadData");
    struct { /* as nvcc writes it */
        uint32_t magic;
        uint16_t version, header_bytes;
        uint64_t bytes;
    } header;
    std::memcpy(&header, image, sizeof header);
    if (header.magic != 0xba55ed50u || header.version != 1 || header.header_bytes != sizeof header) {
        return INVALID_IMAGE;
    }
    *module = new Module{header.bytes};
    modules.insert(*module);
    return SUCCESS;
}

Result cuModuleUnload(Module *module) {
    ENTER("cuModuleUnload");
    if (modules.erase(module) == 0) {
        return INVALID_HANDLE;
    }
    if (const Result code = drain(idle)) {
        return code;
    }
    delete module;
    return SUCCESS;
}

Result cuModuleGetFunction(const Entry **function, Module *module, const char *name) {
    ENTER("cuModuleGetFunction");
    if (modules.count(module) == 0) {
        return INVALID_HANDLE;
    }
    for (const Entry &entry : entries) {
        if (std::strcmp(entry.name, name) == 0) {
            *function = &entry;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

Result cuStreamCreate(Stream **stream, unsigned) {
    ENTER("cuStreamCreate");
    *stream = new Stream;
    (*stream)->number = static_cast<int>(streams.size());
    streams.insert(*stream);
    return SUCCESS;
}

Result cuStreamDestroy_v2(Stream *stream) {
    ENTER("cuStreamDestroy_v2");
    if (streams.count(stream) == 0) {
        return INVALID_HANDLE;
    }
    if (const Result code = drain([stream] { return stream->work.empty(); })) {
        return code;
    }
    streams.erase(stream);
    delete stream;
    return SUCCESS;
}

Result cuStreamSynchronize(Stream *stream) {
    ENTER("cuStreamSynchronize");
    if (streams.count(stream) == 0) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        return STREAM_CAPTURE_UNSUPPORTED;
    }
    return wait([stream] { return stream->work.empty(); }, stream->us);
}

Result cuStreamWaitEvent(Stream *stream, Event *event, unsigned) {
    ENTER("cuStreamWaitEvent");
    if (events.count(event) == 0) {
        return INVALID_HANDLE;
    }
    const uint64_t wanted = event->wanted;
    if (stream->number == forgetful && event->stream == forgotten) {
        return SUCCESS;
    }
    return submit(stream, {[=] { return event->done >= wanted; }, [=] {
                               stream->us = std::max(stream->us, event->us);
                               return static_cast<Result>(SUCCESS);
                           }});
}

Result cuStreamBeginCapture_v2(Stream *stream, int) {
    ENTER("cuStreamBeginCapture_v2");
    if (streams.count(stream) == 0 || stream->capturing) {
        return INVALID_HANDLE;
    }
    stream->capturing = true;
    return SUCCESS;
}

Result cuStreamEndCapture(Stream *stream, Graph **graph) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (streams.count(stream) == 0 || !stream->capturing) {
        return INVALID_HANDLE;
    }
    stream->capturing = false; /* whatever comes of it */
    if (const Result entered = enter("cuStreamEndCapture")) {
        stream->captured.clear();
        return entered;
    }
    *graph = new Graph{std::move(stream->captured)};
    stream->captured.clear();
    graphs.insert(*graph);
    return SUCCESS;
}

Result cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long) {
    ENTER("cuGraphInstantiateWithFlags");
    if (graphs.count(graph) == 0) {
        return INVALID_HANDLE;
    }
    *executable = new Graph(*graph);
    executables.insert(*executable);
    return SUCCESS;
}

Result cuGraphDestroy(Graph *graph) {
    ENTER("cuGraphDestroy");
    if (graphs.erase(graph) == 0) {
        return INVALID_HANDLE;
    }
    delete graph;
    return SUCCESS;
}

Result cuGraphExecDestroy(Graph *executable) {
    ENTER("cuGraphExecDestroy");
    if (executables.erase(executable) == 0) {
        return INVALID_HANDLE;
    }
    delete executable;
    return SUCCESS;
}

Result cuGraphLaunch(Graph *executable, Stream *stream) {
    if (stub) {
        return SUCCESS;
    }
    ENTER("cuGraphLaunch");
    if (executables.count(executable) == 0) {
        return INVALID_HANDLE;
    }
    for (const Work &work : executable->work) {
        if (const Result code = submit(stream, work)) {
            return code;
        }
    }
    return SUCCESS;
}

Result cuEventCreate(Event **event, unsigned flags) {
    ENTER("cuEventCreate");
    *event = new Event;
    (*event)->timed = (flags & 2) == 0; /* CU_EVENT_DISABLE_TIMING */
    events.insert(*event);
    return SUCCESS;
}

Result cuEventDestroy_v2(Event *event) {
    ENTER("cuEventDestroy_v2");
    if (events.count(event) == 0) {
        return INVALID_HANDLE;
    }
    if (const Result code = drain(idle)) {
        return code;
    }
    events.erase(event);
    delete event;
    return SUCCESS;
}

Result cuEventRecord(Event *event, Stream *stream) {
    ENTER("cuEventRecord");
    if (events.count(event) == 0) {
        return INVALID_HANDLE;
    }
    const uint64_t record = ++event->wanted;
    event->stream = stream->number;
    return submit(stream, {always, [=] {
                               event->done = std::max(event->done, record);
                               event->us = stream->us;
                               return static_cast<Result>(SUCCESS);
                           }});
}

Result cuEventSynchronize(Event *event) {
    ENTER("cuEventSynchronize");
    if (events.count(event) == 0) {
        return INVALID_HANDLE;
    }
    const uint64_t wanted = event->wanted;
    if (forgetful == HOST && event->stream == forgotten) {
        return SUCCESS;
    }
    return wait([=] { return event->done >= wanted; }, event->us);
}

Result cuEventElapsedTime(float *milliseconds, Event *begin, Event *end) {
    ENTER("cuEventElapsedTime");
    if (events.count(begin) == 0 || events.count(end) == 0 || !begin->timed || !end->timed) {
        return INVALID_HANDLE;
    }
    if (begin->done < begin->wanted || end->done < end->wanted) {
        return NOT_READY;
    }
    *milliseconds = static_cast<float>((end->us - begin->us) / 1000);
    return SUCCESS;
}

Result cuLaunchKernel(const Entry *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned, Stream *stream, void **parameters, void **extra) {
    if (stub) {
        return SUCCESS;
    }
    ENTER("cuLaunchKernel");
    if (function < entries.data() || function >= entries.data() + entries.size()) {
        return INVALID_HANDLE;
    }
    const uint64_t threads = static_cast<uint64_t>(block_x) * block_y * block_z;
    if (parameters == nullptr || extra != nullptr || grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 ||
        threads > 1024) {
        return INVALID_VALUE;
    }
    const std::function<void()> kernel = function->bind(parameters);
    const fibres::Dim grid = {grid_x, grid_y, grid_z}, block = {block_x, block_y, block_z};
    const char *name = function->name;
    return submit(stream, {always, [=]() -> Result {
                               launches++;
                               if (const Result code = planned("kernel")) {
                                   return code;
                               }
                               const std::string failure =
                                   fibres::launch(grid, block, seed() == 0 ? 0 : seed() + launches, kernel);
                               if (failure.empty()) {
                                   return SUCCESS;
                               }
                               std::fprintf(stderr, "emulated driver: %s: %s\n", name, failure.c_str());
                               return LAUNCH_FAILED;
                           }, KERNEL_US});
}

int sentei_emulated_planned(const char *function) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return planned(function);
}

int sentei_emulated_ready(void) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return initialised && sticky == SUCCESS && current_context != nullptr;
}

int sentei_emulated_capturing(void) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return std::any_of(streams.begin(), streams.end(), [](Stream *stream) { return stream->capturing; });
}

int sentei_emulated_holds(uint64_t address, uint64_t bytes) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return is_device(address, bytes);
}

int sentei_emulated_submit(void *stream, const std::function<void()> &work) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return submit(static_cast<Stream *>(stream), {always, [work] {
                                                      work();
                                                      return static_cast<Result>(SUCCESS);
                                                  }, KERNEL_US});
}

/* For tests: from now on this stream, or the host for HOST, does not wait for events of that one; -1 for none. */
void sentei_emulated_forget(int stream, int other) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    forgetful = stream;
    forgotten = other;
}

/* For tests: 0 contexts that are open; what happened so far: 1 launches that ran, 2 allocations that kernels wrote beside,
 * 3 streams, events, modules, graphs and allocations that were left when a healthy context ended, 4 how often the host waited for
 * work. */
uint64_t sentei_emulated_count(int kind) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    const uint64_t counts[] = {static_cast<uint64_t>(retained), launches, damaged, leaked, waits};
    return kind >= 0 && kind < 5 ? counts[kind] : 0;
}

} // extern "C"
