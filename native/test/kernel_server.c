/* Runs kernels for another process, so that the conformance cases reach tiers that only an emulator has.
 *
 *   kernel_server CAP    with the best tier up to CAP, as sentei_init takes it
 *
 * Writes the name of the tier and the names of all kernels, one a line, and an empty line; then answers requests until the
 * input ends. Every number is an int64_t, little-endian:
 *
 *   request   index of the kernel, number of regions, bytes of each, number of arguments, two numbers for each, regions
 *   answer    status, 1 if a byte beside a region was written and 0 if none was, regions
 *
 * An argument is its bits and a number that says nothing or, where it is a pointer, the index of a region (-1 for NULL) and
 * the offset in it. */
#include "../include/sentei.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, ALIGNMENT = 64, REGIONS = 32, ARGUMENTS = 32 };

struct region {
    unsigned char *data;
    int64_t bytes;
};

struct request {
    struct region regions[REGIONS];
    int64_t region_count;
    int64_t arguments[ARGUMENTS][2];
    int64_t argument_count;
};

static void demand(int condition, const char *otherwise) {
    if (!condition) {
        fprintf(stderr, "kernel_server: %s\n", otherwise);
        exit(2);
    }
}

static void receive(void *target, int64_t bytes) {
    demand(fread(target, 1, (size_t)bytes, stdin) == (size_t)bytes, "the input ends inside of a request");
}

static void send(const void *source, int64_t bytes) {
    demand(fwrite(source, 1, (size_t)bytes, stdout) == (size_t)bytes, "the output is closed");
}

static int64_t receive_number(int64_t limit) {
    int64_t number;
    receive(&number, sizeof number);
    demand(number >= 0 && number <= limit, "a number is out of range");
    return number;
}

static void make(struct region *region, int64_t bytes) {
    region->bytes = bytes;
    region->data = aligned_alloc(ALIGNMENT, ((size_t)bytes + 2 * GUARD + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    demand(region->data != NULL, "no memory for a region");
    region->data += GUARD;
    memset(region->data - GUARD, 0xa5, GUARD);
    memset(region->data + bytes, 0xa5, GUARD);
}

static int is_intact(const struct region *region) {
    for (int i = 0; i < GUARD; i++) {
        if (region->data[-1 - i] != 0xa5 || region->data[region->bytes + i] != 0xa5) {
            return 0;
        }
    }
    return 1;
}

static void take(void *argument, size_t bytes, int is_pointer, const struct request *r, int64_t index) {
    demand(index < r->argument_count, "too few arguments");
    const int64_t *sent = r->arguments[index];
    if (!is_pointer) {
        memcpy(argument, sent, bytes);
        return;
    }
    void *pointer = NULL;
    if (sent[0] >= 0) {
        demand(sent[0] < r->region_count && sent[1] >= 0 && sent[1] <= r->regions[sent[0]].bytes, "a stray pointer");
        pointer = r->regions[sent[0]].data + sent[1];
    }
    memcpy(argument, &pointer, sizeof pointer);
}

/* FOR_EACH(macro, a, b, ...) is macro(a) macro(b) ..., for lists of up to 64. */
#define PARENTHESES ()
#define EXPAND(...) EXPAND_1(EXPAND_1(EXPAND_1(EXPAND_1(__VA_ARGS__))))
#define EXPAND_1(...) EXPAND_2(EXPAND_2(EXPAND_2(EXPAND_2(__VA_ARGS__))))
#define EXPAND_2(...) EXPAND_3(EXPAND_3(EXPAND_3(EXPAND_3(__VA_ARGS__))))
#define EXPAND_3(...) __VA_ARGS__
#define FOR_EACH(macro, ...) EXPAND(FOR_EACH_NEXT(macro, __VA_ARGS__))
#define FOR_EACH_NEXT(macro, first, ...) macro(first) __VA_OPT__(FOR_EACH_AGAIN PARENTHESES(macro, __VA_ARGS__))
#define FOR_EACH_AGAIN() FOR_EACH_NEXT
#define LIST(...) __VA_ARGS__

/* A function a kernel that unpacks the arguments; their types and order are those of the list of kernels. */
#define DECLARE(parameter) parameter;
#define TAKE(argument) \
    take(&argument, sizeof argument, _Generic(argument, float: 0, double: 0, int32_t: 0, int64_t: 0, default: 1), r, \
         index++);
#define SENTEI_KERNEL(name, parameters, arguments) \
    static int call_##name(const struct request *r) { \
        FOR_EACH(DECLARE, LIST parameters) \
        int64_t index = 0; \
        FOR_EACH(TAKE, LIST arguments) \
        demand(index == r->argument_count, "too many arguments"); \
        return sentei_##name arguments; \
    }
#include "../kernels.def"
#undef SENTEI_KERNEL

static const struct {
    const char *name;
    int (*call)(const struct request *);
} kernels[] = {
#define SENTEI_KERNEL(name, parameters, arguments) {#name, call_##name},
#include "../kernels.def"
#undef SENTEI_KERNEL
};

enum { KERNELS = sizeof kernels / sizeof kernels[0] };

static void answer(int64_t kernel) {
    struct request r;
    r.region_count = receive_number(REGIONS);
    for (int64_t i = 0; i < r.region_count; i++) {
        make(&r.regions[i], receive_number(INT64_MAX / 2));
    }
    r.argument_count = receive_number(ARGUMENTS);
    receive(r.arguments, r.argument_count * (int64_t)sizeof r.arguments[0]);
    for (int64_t i = 0; i < r.region_count; i++) {
        receive(r.regions[i].data, r.regions[i].bytes);
    }
    const int64_t status = kernels[kernel].call(&r);
    int64_t strayed = 0;
    for (int64_t i = 0; i < r.region_count; i++) {
        strayed |= !is_intact(&r.regions[i]);
    }
    send(&status, sizeof status);
    send(&strayed, sizeof strayed);
    for (int64_t i = 0; i < r.region_count; i++) {
        send(r.regions[i].data, r.regions[i].bytes);
        free(r.regions[i].data - GUARD);
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    demand(count == 2, "usage: kernel_server CAP");
    demand(sentei_init(arguments[1]) == SENTEI_OK, "unknown tier");
    printf("%s\n", sentei_active_isa());
    for (int i = 0; i < KERNELS; i++) {
        printf("%s\n", kernels[i].name);
    }
    printf("\n");
    fflush(stdout);
    int64_t kernel;
    while (fread(&kernel, sizeof kernel, 1, stdin) == 1) {
        demand(kernel >= 0 && kernel < KERNELS, "unknown kernel");
        answer(kernel);
    }
    return 0;
}
