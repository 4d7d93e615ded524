/* The ring: fixed-size records from one producer to one or more consumers, in order.
 *
 * Cursors count records and wrap at 2^64; a slot is its cursor modulo the capacity. Every line of shared
 * memory has one writer. Each side keeps its own cursor and the last it saw of the other's in its private
 * handle and looks again only when that is not enough, so a busy ring rarely moves a cache line (LMAX's
 * Disruptor and rigtorp's SPSCQueue explain why). Nothing read from shared memory is used as a length or
 * an address unmasked. docs/RINGS.md has the memory-ordering argument and the layouts.
 *
 * The same functions serve Cython (ext/ring.pxd) and the stress program under ThreadSanitizer. `bytes` is
 * the record's size: pass a constant and the copy becomes a few moves.
 */
#ifndef ANYTICK_RING_H
#define ANYTICK_RING_H

#include <stdbool.h>
#include <string.h>

#include "layout.h"
#include "ring_wait.h"

/* INDEX: consumers follow the producer's cursor; records lie side by side and go in runs: throughput.
 * STAMPED: every slot carries the cursor of its record on its own line, so one line travels instead of
 * two; records go one by one: latency. */
enum RingMode { RING_INDEX = 1, RING_STAMPED = 2 };

/* What a push into a full ring does. */
enum RingPolicy { RING_REFUSE = 1, RING_WAIT_FOR_ROOM = 2, RING_DROP_OLDEST = 3 };

enum RingState { RING_FREE = 0, RING_ACTIVE = 1 };

typedef struct {
    _Alignas(ANYTICK_CURSOR_STRIDE) uint64_t tail;  /* records published                              */
    uint64_t intent;      /* DROP_OLDEST: records published or being written                          */
    uint64_t closed;      /* 1: the producer will push no more                                        */
    uint64_t refused;     /* records a full ring did not take                                         */
} RingProducerLine;

typedef struct {
    _Alignas(ANYTICK_CURSOR_STRIDE) uint64_t head;  /* records taken                                  */
    uint64_t lost;        /* DROP_OLDEST: records overwritten before they were taken                  */
    uint64_t state;       /* enum RingState; the producer frees it when its consumer has died          */
    _Alignas(ANYTICK_CURSOR_STRIDE) uint64_t held;  /* pushes that found this consumer in the way;
                                                       written by the producer                        */
} RingConsumerLine;

_Static_assert(sizeof(RingProducerLine) == ANYTICK_CURSOR_STRIDE, "one line, one writer");
_Static_assert(sizeof(RingConsumerLine) == 2 * ANYTICK_CURSOR_STRIDE, "the producer's count stands apart");

/* How far before its turn a slot's line is fetched: long enough for a transfer between distant cores
 * (230 ns measured) while records go in every 5 ns or so. */
#define RING_FETCH_AHEAD_BYTES 4608

/* One process's view of a ring. Producer and consumer may share it: each has lines of its own. */
typedef struct {
    RingProducerLine *producer;
    RingConsumerLine *consumers;
    RingPark *data_park;         /* consumers wait here for records                                   */
    RingPark *room_park;         /* producers wait here for room                                      */
    uint8_t *slots;
    uint64_t capacity;           /* power of two                                                      */
    uint32_t record_bytes;
    uint32_t slot_bytes;
    uint32_t consumer_count;
    uint32_t consumer;           /* the one that this handle is                                       */
    uint32_t mode;
    uint32_t policy;
    uint32_t wait;
    uint32_t shares;             /* 1: several consumers may come and go                              */
    uint32_t ahead;              /* slots from the one being written to the one being fetched         */
    _Alignas(ANYTICK_CURSOR_STRIDE) uint64_t tail;  /* the producer's                                 */
    uint64_t head_seen;
    uint32_t slowest;            /* consumer whose head that was                                      */
    _Alignas(ANYTICK_CURSOR_STRIDE) uint64_t head;  /* the consumer's                                 */
    uint64_t tail_seen;
} Ring;

static inline uint64_t ring_min(uint64_t one, uint64_t other) { return one < other ? one : other; }

static inline uint8_t *ring_slot(const Ring *ring, uint64_t cursor, size_t slot_bytes) {
    return ring->slots + (cursor & (ring->capacity - 1)) * slot_bytes;
}

/* Fetch the line of a slot to be written soon, to write it. The consumer still has it from the last lap,
 * and taking it back costs a transfer between cores. Stores retire in order, so without this every one of
 * them waits for its line; with it the transfers overlap. Only slots known to be free are fetched: a line
 * that the consumer has yet to read would go back and forth. */
static inline void ring_fetch_ahead(const Ring *ring, uint64_t tail, size_t slot_bytes) {
    if (tail + ring->ahead - ring->head_seen >= ring->capacity) return;
#if defined(__x86_64__)
    /* Not __builtin_prefetch: below -mprfchw that fetches to read, and the store would wait after all.
     * Processors without the instruction take it as a NOP. */
    __asm__ __volatile__("prefetchw %0" : : "m"(*ring_slot(ring, tail + ring->ahead, slot_bytes)));
#else
    __builtin_prefetch(ring_slot(ring, tail + ring->ahead, slot_bytes), 1);
#endif
}

/* A stamped slot: record, padding, stamp; whole cache lines. */
static inline size_t ring_stamped_bytes(size_t record_bytes) {
    return (record_bytes + sizeof(uint64_t) + ANYTICK_CACHE_LINE - 1) & ~(size_t)(ANYTICK_CACHE_LINE - 1);
}

static inline uint64_t *ring_stamp(uint8_t *slot, size_t record_bytes) {
    return (uint64_t *)(slot + ring_stamped_bytes(record_bytes)) - 1;
}

/* The producer's side. */

/* Look at the consumers' cursors again; return the room that the slowest leaves. */
static __attribute__((noinline)) uint64_t ring_look_for_room(Ring *ring) {
    uint64_t used = 0;
    if (!ring->shares) {
        used = ring->tail - load_acquire(&ring->consumers[0].head);
    } else {
        /* A consumer that joins announces itself and then reads the tail; we stored the tail and now
         * read the announcements. With a fence on both sides one of us sees the other. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        for (uint32_t index = 0; index < ring->consumer_count; index++) {
            if (load_acquire(&ring->consumers[index].state) != RING_ACTIVE) continue;
            uint64_t behind = ring->tail - load_acquire(&ring->consumers[index].head);
            if (behind >= used) used = behind, ring->slowest = index;
        }
    }
    /* More than the capacity: a consumer that is about to join, or a damaged cursor. */
    used = ring_min(used, ring->capacity);
    ring->head_seen = ring->tail - used;
    return ring->capacity - used;
}

static inline uint64_t ring_room(const Ring *ring) {
    return ring->capacity - (ring->tail - ring->head_seen);
}

static inline void ring_move_tail(Ring *ring, uint64_t tail) {
    ring->tail = tail;
    store_release(&ring->producer->tail, tail);
    if (ring->wait == RING_BLOCK) ring_wake(ring->data_park);
}

/* Copy one record in. False when full. */
static inline bool ring_push(Ring *ring, const void *record, size_t bytes) {
    uint64_t tail = ring->tail;
    anytick_check(ring->policy != RING_DROP_OLDEST, "a dropping ring is written by ring_overwrite");
    anytick_check(bytes == ring->record_bytes, "records have the ring's size");
    if (__builtin_expect(tail - ring->head_seen == ring->capacity, 0) && !ring_look_for_room(ring)) return false;
    anytick_check(tail - ring->head_seen < ring->capacity, "a push never laps the consumer");
    anytick_check(!ring->producer->closed, "a closed ring takes no more records");
    if (ring->mode == RING_STAMPED) {
        uint8_t *slot = ring_slot(ring, tail, ring_stamped_bytes(bytes));
        ring_fetch_ahead(ring, tail, ring_stamped_bytes(bytes));
        memcpy(slot, record, bytes);
        store_release(ring_stamp(slot, bytes), tail + 1);
    } else {
        ring_fetch_ahead(ring, tail, bytes);
        memcpy(ring_slot(ring, tail, bytes), record, bytes);
    }
    ring_move_tail(ring, tail + 1);
    return true;
}

/* Point at free slots, at most `count_max` side by side, for the producer to fill in place; return how
 * many. They stay the producer's until `ring_publish`. 0 means full. */
static inline size_t ring_claim(Ring *ring, size_t count_max, size_t bytes, void **first) {
    uint64_t start = ring->tail & (ring->capacity - 1), room = ring_room(ring);
    anytick_check(ring->policy != RING_DROP_OLDEST, "a dropping ring is written by ring_overwrite");
    if (room < count_max) room = ring_look_for_room(ring);
    *first = ring_slot(ring, ring->tail, ring->slot_bytes);
    (void)bytes;
    if (ring->mode == RING_STAMPED) return room && count_max;
    return ring_min(ring_min(room, ring->capacity - start), count_max);
}

/* Hand the first `count` claimed slots over, all at once. */
static inline void ring_publish(Ring *ring, size_t count, size_t bytes) {
    anytick_check(count <= ring_room(ring), "only claimed slots are published");
    anytick_check(!ring->producer->closed, "a closed ring takes no more records");
    if (ring->mode == RING_STAMPED && count)
        store_release(ring_stamp(ring_slot(ring, ring->tail, ring->slot_bytes), bytes), ring->tail + 1);
    ring_move_tail(ring, ring->tail + count);
}

/* Copy as many records in as fit, publish them at once (stamped: one by one), return how many. */
static inline size_t ring_push_batch(Ring *ring, const void *source, size_t count, size_t bytes) {
    const uint8_t *from = source;
    size_t pushed = 0;
    if (ring->mode == RING_STAMPED) {
        while (pushed < count && ring_push(ring, from + pushed * bytes, bytes)) pushed++;
        return pushed;
    }
    uint64_t room = ring_room(ring), before_end = ring->capacity - (ring->tail & (ring->capacity - 1));
    if (room < count) room = ring_look_for_room(ring);
    count = ring_min(count, room);
    if (count == 0) return 0;
    anytick_check(!ring->producer->closed, "a closed ring takes no more records");
    pushed = ring_min(count, before_end);
    memcpy(ring_slot(ring, ring->tail, bytes), from, pushed * bytes);
    memcpy(ring->slots, from + pushed * bytes, (count - pushed) * bytes);
    ring_move_tail(ring, ring->tail + count);
    return count;
}

/* Count records that a full ring did not take, and whose fault it was. */
static inline void ring_count_refused(Ring *ring, uint64_t count) {
    store_release(&ring->producer->refused, load_relaxed(&ring->producer->refused) + count);
}

static inline void ring_count_held(Ring *ring) {
    uint64_t *held = &ring->consumers[ring->slowest].held;
    store_release(held, load_relaxed(held) + 1);
}

/* Say that no more records will come. After the last push. */
static inline void ring_close(Ring *ring) {
    store_release(&ring->producer->closed, 1);
    if (ring->wait == RING_BLOCK) ring_wake(ring->data_park);
}

/* The consumer's side. */

/* Point at the oldest records, at most `count_max`, without copying; return how many.
 *
 * They stay the consumer's until `ring_release`. A run ends where the slots end, and a stamped ring gives
 * one at a time, so fewer than are waiting may come back; 0 means empty. */
static inline size_t ring_peek(Ring *ring, size_t count_max, size_t bytes, const void **first) {
    uint64_t head = ring->head;
    anytick_check(ring->policy != RING_DROP_OLDEST, "a dropping ring is read by ring_take_latest");
    anytick_check(bytes == ring->record_bytes, "records have the ring's size");
    if (ring->mode == RING_STAMPED) {
        uint8_t *slot = ring_slot(ring, head, ring_stamped_bytes(bytes));
        *first = slot;
        return load_acquire(ring_stamp(slot, bytes)) == head + 1 && count_max;
    }
    uint64_t start = head & (ring->capacity - 1), waiting = ring->tail_seen - head;
    if (waiting < count_max) {
        ring->tail_seen = load_acquire(&ring->producer->tail);
        waiting = ring->tail_seen - head;
    }
    anytick_check(waiting <= ring->capacity, "the consumer never overtakes the producer");
    *first = ring->slots + start * bytes;
    return ring_min(ring_min(waiting, ring->capacity - start), count_max);
}

/* Give the oldest `count` peeked slots back to the producer. */
static inline void ring_release(Ring *ring, size_t count) {
    ring->head += count;
    store_release(&ring->consumers[ring->consumer].head, ring->head);
    if (ring->wait == RING_BLOCK) ring_wake(ring->room_park);
}

/* Copy one record out. False when empty. */
static inline bool ring_pop(Ring *ring, void *target, size_t bytes) {
    const void *first;
    if (ring_peek(ring, 1, bytes, &first) == 0) return false;
    memcpy(target, first, bytes);
    ring_release(ring, 1);
    return true;
}

/* Copy at most `count_max` records out; return how many. */
static inline size_t ring_pop_batch(Ring *ring, void *target, size_t count_max, size_t bytes) {
    uint8_t *to = target;
    size_t taken = 0;
    while (taken < count_max) {
        const void *first;
        size_t run = ring_peek(ring, count_max - taken, bytes, &first);
        if (run == 0) break;
        memcpy(to + taken * bytes, first, run * bytes);
        ring_release(ring, run);
        taken += run;
    }
    return taken;
}

/* Either side. */

/* Records that wait for this handle's consumer; at most the capacity. */
static inline uint64_t ring_length(const Ring *ring) {
    /* head first: read the other way round, it could have passed the tail. */
    uint64_t head = load_acquire(&ring->consumers[ring->consumer].head);
    uint64_t waiting = load_acquire(&ring->producer->tail) - head;
    /* A stamp is seen before the tail that follows it. */
    return (int64_t)waiting < 0 ? 0 : ring_min(waiting, ring->capacity);
}

static inline bool ring_is_closed(const Ring *ring) { return load_acquire(&ring->producer->closed) != 0; }

/* Whether the ring is closed and empty, so that no record will ever come. */
static inline bool ring_is_drained(const Ring *ring) {
    /* closed first: it is stored after the last push, so a tail read after seeing it is final. The other
     * order could miss a push and a close that both fall between the two reads. */
    if (!ring_is_closed(ring)) return false;
    return load_acquire(&ring->producer->tail) == load_acquire(&ring->consumers[ring->consumer].head);
}

#endif
