/* Large blocks of memory straight from the system: zero without being touched, and in huge pages where it has them, so that
 * the first use of a block costs little more than later ones. */
#define _DEFAULT_SOURCE
#include <sys/mman.h>

#include "../include/sentei.h"

void *sentei_map(int64_t bytes) {
    void *memory = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return 0;
    }
    madvise(memory, (size_t)bytes, MADV_HUGEPAGE); /* a hint: small pages do as well */
    return memory;
}

int sentei_unmap(void *memory, int64_t bytes) {
    return munmap(memory, (size_t)bytes) == 0 ? SENTEI_OK : SENTEI_BAD_ARGUMENT;
}
