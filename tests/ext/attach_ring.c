/* Looks at the cursors of a ring that runs on between any two of the looks, as an attacher may have to.
 *
 * Every load of a cursor first lets RECORDS records through the ring, so that what a busy machine shows
 * once in many thousand attaches happens each time. Exit code 0; 1 and the rule where one seemed broken.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "layout.h"

static void run_on(void);

static inline uint64_t looked_at(const uint64_t *cursor) {
    run_on();
    return load_acquire(cursor);
}
#define load_acquire(cursor) looked_at(cursor)

#include "ring_memory.h"

enum { CAPACITY = 4, RECORDS = 11 };

static Ring producer, consumer;
static bool runs;

static void run_on(void) {
    uint64_t record = 0;
    if (!runs) return;
    runs = false;
    for (int turn = 0; turn < RECORDS; turn++) {
        /* Full and empty in turns: the tail is ahead by a capacity, then by nothing. */
        if (turn % (2 * CAPACITY) < CAPACITY) ring_push(&producer, &record, sizeof(record));
        else ring_pop(&consumer, &record, sizeof(record));
    }
    while (ring_pop(&consumer, &record, sizeof(record))) {}
    for (int turn = 0; turn < CAPACITY; turn++) ring_push(&producer, &record, sizeof(record));
    runs = true;
}

int main(void) {
    for (uint32_t mode = RING_INDEX; mode <= RING_STAMPED; mode++) {
        RingIdentity identity = {
            .kind = RING_SPSC, .mode = mode, .policy = RING_REFUSE, .wait = RING_SPIN,
            .record_bytes = sizeof(uint64_t), .capacity = CAPACITY, .lane_count = 1, .consumer_count = 1,
            .first_cursor = 0 - (uint64_t)20,
        };
        RingBlock *block = aligned_alloc(ANYTICK_CURSOR_STRIDE, ring_total_bytes(&identity));
        memset(block, 0, ring_total_bytes(&identity));
        ring_format(block, &identity);
        ring_open(&producer, block, &identity, 0, 0);
        ring_open(&consumer, block, &identity, 0, 0);
        runs = true;
        for (int look = 0; look < 100; look++) {
            const char *rule = ring_check_cursors(block, &identity);
            if (rule) return fprintf(stderr, "mode %u, look %d: %s\n", mode, look, rule), 1;
        }
        runs = false;
        free(block);
    }
    return 0;
}
