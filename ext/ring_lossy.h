/* The ring that never waits: the producer overwrites the oldest records, each consumer counts what it lost.
 *
 * A sequence lock over the whole ring. The producer raises `intent` before it touches a slot and `tail`
 * when it is done; a consumer copies first and then asks `intent` whether what it copied may have been
 * overwritten meanwhile. Words are copied with release stores and acquire loads (plain moves on x86-64),
 * so that a consumer who saw one new word also sees the raised intent (Boehm, "Can Seqlocks Get Along
 * with Programming Language Memory Models?", 2012), and no copy is a data race.
 */
#ifndef ANYTICK_RING_LOSSY_H
#define ANYTICK_RING_LOSSY_H

#include "ring.h"

/* Records are whole words; ring_check refuses others. */
static inline void ring_store_words(uint8_t *slot, const uint8_t *record, size_t bytes) {
    for (size_t offset = 0; offset < bytes; offset += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, record + offset, sizeof(word));
        store_release((uint64_t *)(slot + offset), word);
    }
}

static inline void ring_load_words(uint8_t *record, const uint8_t *slot, size_t bytes) {
    for (size_t offset = 0; offset < bytes; offset += sizeof(uint64_t)) {
        uint64_t word = load_acquire((const uint64_t *)(slot + offset));
        memcpy(record + offset, &word, sizeof(word));
    }
}

/* Copy all records in, over the oldest where there is no room. Producer only. */
static inline void ring_overwrite(Ring *ring, const void *source, size_t count, size_t bytes) {
    const uint8_t *from = source;
    /* What is being written is lost to readers: a quarter keeps the rest of the ring readable. */
    size_t run_max = ring->capacity < 4 ? 1 : ring->capacity / 4;
    anytick_check(ring->policy == RING_DROP_OLDEST, "only a dropping ring is overwritten");
    anytick_check(!ring->producer->closed, "a closed ring takes no more records");
    while (count > 0) {
        size_t run = count < run_max ? count : run_max;
        /* Never lowered: a producer that died in a run leaves it higher, and its slots half written. */
        if ((int64_t)(ring->tail + run - load_relaxed(&ring->producer->intent)) > 0)
            __atomic_store_n(&ring->producer->intent, ring->tail + run, __ATOMIC_RELAXED);
        for (size_t index = 0; index < run; index++)
            ring_store_words(ring_slot(ring, ring->tail + index, bytes), from + index * bytes, bytes);
        ring_move_tail(ring, ring->tail + run);
        from += run * bytes;
        count -= run;
    }
}

static inline void ring_skip(Ring *ring, uint64_t count) {
    uint64_t *lost = &ring->consumers[ring->consumer].lost;
    ring->head += count;
    store_release(lost, load_relaxed(lost) + count);
}

/* Copy at most `count_max` of the records that are still there out, oldest first; return how many. What
 * was overwritten before is skipped and counted in `lost`. Consumer only. */
static inline size_t ring_take_latest(Ring *ring, void *target, size_t count_max, size_t bytes) {
    uint8_t *to = target;
    size_t taken = 0;
    for (;;) {
        /* intent first: the tail read after it is at most one run behind, so a skip never passes it. */
        uint64_t ahead = load_acquire(&ring->producer->intent) - ring->head;
        if (ahead > ring->capacity) ring_skip(ring, ahead - ring->capacity);
        uint64_t waiting = load_acquire(&ring->producer->tail) - ring->head;
        taken = ring_min(ring_min(waiting, ring->capacity), count_max);
        if (taken == 0) break;
        for (size_t index = 0; index < taken; index++)
            ring_load_words(to + index * bytes, ring_slot(ring, ring->head + index, bytes), bytes);
        ahead = load_relaxed(&ring->producer->intent) - ring->head;
        uint64_t torn = ahead > ring->capacity ? ahead - ring->capacity : 0;
        if (torn < taken) {
            if (torn > 0) {
                memmove(to, to + torn * bytes, (taken - torn) * bytes);
                ring_skip(ring, torn);
                taken -= torn;
            }
            ring->head += taken;
            break;
        }
        /* The producer was faster than the whole copy: half a ring further on it needs longer. */
        ring_skip(ring, torn + ring->capacity / 2);
    }
    store_release(&ring->consumers[ring->consumer].head, ring->head);
    return taken;
}

#endif
