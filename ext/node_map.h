/* Blocks of whole pages that grow without their contents being copied: where the system can, it moves page
 * tables instead, a few microseconds for any size. Addresses are multiples of a huge page, which keeps huge
 * pages whole when they move. Elsewhere than on Linux a block is copied.
 */
#ifndef ANYTICK_NODE_MAP_H
#define ANYTICK_NODE_MAP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define NODE_HUGE_PAGE ((size_t)1 << 21)
#define NODE_MAP_STEP ((size_t)1 << 16)      /* a multiple of the page size of any system          */

/* What a block of so many bytes takes: whole huge pages where it fills some. */
static inline size_t node_map_size(size_t bytes) {
    size_t step = bytes >= 2 * NODE_HUGE_PAGE ? NODE_HUGE_PAGE : NODE_MAP_STEP;
    return (bytes + step - 1) & ~(step - 1);
}

#ifdef __linux__

/* Pages at a multiple of a huge page, by mapping more and giving the ends back. */
static inline void *node_map_aligned(size_t size, int protection, int flags) {
    size_t mapped = size + NODE_HUGE_PAGE;
    char *start = (char *)mmap(NULL, mapped, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (start == (char *)MAP_FAILED) return NULL;
    char *first = (char *)(((uintptr_t)start + NODE_HUGE_PAGE - 1) & ~(uintptr_t)(NODE_HUGE_PAGE - 1));
    if (first != start) munmap(start, (size_t)(first - start));
    if (first + size != start + mapped) munmap(first + size, (size_t)(start + mapped - (first + size)));
    return first;
}

static inline void node_map_advise(void *block, size_t size) {
    if (size >= 2 * NODE_HUGE_PAGE) (void)madvise(block, size, MADV_HUGEPAGE);
}

/* Zeroed pages; NULL when memory is out. */
static inline void *node_map_take(size_t bytes) {
    size_t size = node_map_size(bytes);
    void *block = node_map_aligned(size, PROT_READ | PROT_WRITE, 0);
    if (block != NULL) node_map_advise(block, size);
    return block;
}

/* A larger block with the same contents, zero beyond them; NULL, with the old one kept, when memory is out. */
static inline void *node_map_grow(void *block, size_t bytes_now, size_t bytes_wanted) {
    size_t size_now = node_map_size(bytes_now), size = node_map_size(bytes_wanted);
    void *place, *moved;
    if (size <= size_now) return block;
    place = node_map_aligned(size, PROT_NONE, MAP_NORESERVE);
    if (place == NULL) return NULL;
    moved = (void *)syscall(SYS_mremap, block, size_now, size, 3 /* MREMAP_MAYMOVE | MREMAP_FIXED */, place);
    if (moved == MAP_FAILED) {
        munmap(place, size);
        return NULL;
    }
    node_map_advise(moved, size);
    return moved;
}

static inline void node_map_give(void *block, size_t bytes) {
    if (block != NULL) munmap(block, node_map_size(bytes));
}

#else

static inline void *node_map_take(size_t bytes) {
    void *block = NULL;
    if (posix_memalign(&block, 4096, node_map_size(bytes))) return NULL;
    memset(block, 0, node_map_size(bytes));
    return block;
}

static inline void *node_map_grow(void *block, size_t bytes_now, size_t bytes_wanted) {
    void *larger = node_map_take(bytes_wanted);
    if (larger == NULL) return NULL;
    memcpy(larger, block, bytes_now);
    free(block);
    return larger;
}

static inline void node_map_give(void *block, size_t bytes) {
    (void)bytes;
    free(block);
}

#endif
#endif
