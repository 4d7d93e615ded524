/* Looks at a ring that runs on between any two loads of a look, which a busy machine shows once in many
 * thousand looks: who attaches finds no fault with its cursors, and drained is final.
 *
 * Every load of a cursor goes through `looked_at`, which first lets the other side do something. Exit code
 * 0; 1 and what was seen otherwise.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "layout.h"

static void (*between)(void);

static inline uint64_t looked_at(const uint64_t *cursor) {
    void (*act)(void) = between;
    between = NULL; /* what it does loads cursors too */
    if (act) act();
    if (!between) between = act;
    return load_acquire(cursor);
}
#define load_acquire(cursor) looked_at(cursor)

#include "ring_memory.h"

enum { CAPACITY = 4 };

static Ring producer, consumer;
static int looks, acts_at;

static void fill_and_empty(void) {
    uint64_t record = 0;
    while (ring_pop(&consumer, &record, sizeof(record))) {}
    while (ring_push(&producer, &record, sizeof(record))) {}
}

static void push_and_close(void) {
    uint64_t record = 0;
    if (looks++ != acts_at) return;
    ring_push(&producer, &record, sizeof(record));
    ring_close(&producer);
}

static RingBlock *made(RingIdentity *identity, uint32_t mode) {
    *identity = (RingIdentity){
        .kind = RING_SPSC, .mode = mode, .policy = RING_REFUSE, .wait = RING_SPIN,
        .record_bytes = sizeof(uint64_t), .capacity = CAPACITY, .lane_count = 1, .consumer_count = 1,
        .first_cursor = 0 - (uint64_t)20,
    };
    RingBlock *block = aligned_alloc(ANYTICK_CURSOR_STRIDE, ring_total_bytes(identity));
    memset(block, 0, ring_total_bytes(identity));
    ring_format(block, identity);
    ring_open(&producer, block, identity, 0, 0);
    ring_open(&consumer, block, identity, 0, 0);
    return block;
}

int main(void) {
    RingIdentity identity;
    for (uint32_t mode = RING_INDEX; mode <= RING_STAMPED; mode++) {
        RingBlock *block = made(&identity, mode);
        between = fill_and_empty;
        for (int look = 0; look < 100; look++) {
            const char *rule = ring_check_cursors(block, &identity);
            if (rule) return fprintf(stderr, "mode %u, look %d: %s\n", mode, look, rule), 1;
            if (ring_length(&consumer) > CAPACITY) return fprintf(stderr, "mode %u: length\n", mode), 1;
        }
        between = NULL;
        free(block);
        for (acts_at = 0; acts_at < 3; acts_at++) {
            block = made(&identity, mode);
            looks = 0;
            between = push_and_close;
            bool drained = ring_is_drained(&consumer);
            between = NULL;
            if (drained) return fprintf(stderr, "mode %u: drained, and a record came after\n", mode), 1;
            free(block);
        }
    }
    return 0;
}
