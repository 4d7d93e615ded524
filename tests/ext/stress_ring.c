/* Drives the ring's algorithm from several threads without Python, so that ThreadSanitizer sees it.
 *
 *     stress_ring SHAPE COUNT CAPACITY BATCH
 *
 * SHAPE is one of index, stamped, park, claim, gating, joining, dropping, mpsc. Every record is checked: its number
 * (order, nothing lost or twice) and its other words, which follow from the number (nothing torn). Cursors
 * begin COUNT / 2 before 2^64, so that half of the run lies behind the wrap-around. Exit code 0, and
 * one line with what was seen; 1 and the reason otherwise.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>

#include "ring_memory.h"

enum { CONSUMERS = 3, PRODUCERS = 3 };

typedef struct { uint64_t number, words[5]; } Record;
_Static_assert(sizeof(Record) == sizeof(MarketEvent), "as large as an event");

typedef struct {
    Ring ring;
    uint64_t count, batch, producer, seen, lost, first_cursor;
    bool claims;
} Side;

static void fail(const char *rule, uint64_t expected, uint64_t was) {
    fprintf(stderr, "expected %s %llu, was %llu\n", rule, (unsigned long long)expected, (unsigned long long)was);
    exit(1);
}

static Record numbered(uint64_t number, uint64_t producer) {
    Record record = {number, {0}};
    for (int index = 0; index < 5; index++)
        record.words[index] = (number + 1 + producer) * 0x9E3779B97F4A7C15ull + (uint64_t)index;
    return record;
}

static void check_record(const Record *record, uint64_t producer) {
    Record wanted = numbered(record->number, producer);
    if (memcmp(record, &wanted, sizeof(wanted))) fail("an untorn record", record->number, record->words[0]);
}

static void wait_for_room(Side *side, RingPatience *patience) {
    ring_pause(side->ring.room_park, (int)side->ring.wait, patience, INT64_MAX);
}

static void *produce(void *argument) {
    Side *side = argument;
    Record *batch = malloc(side->batch * sizeof(Record));
    RingPatience patience = {0};
    uint64_t sent = 0;
    while (sent < side->count) {
        uint64_t wanted = ring_min(side->batch, side->count - sent), done = 0;
        if (side->claims) {
            void *first;
            wanted = ring_claim(&side->ring, wanted, sizeof(Record), &first);
            for (uint64_t index = 0; index < wanted; index++)
                ((Record *)first)[index] = numbered(sent + index, side->producer);
            ring_publish(&side->ring, wanted, sizeof(Record));
            sent += wanted;
            if (wanted == 0) wait_for_room(side, &patience);
            else patience = (RingPatience){0};
            continue;
        }
        for (uint64_t index = 0; index < wanted; index++) batch[index] = numbered(sent + index, side->producer);
        if (side->ring.policy == RING_DROP_OLDEST) {
            ring_overwrite(&side->ring, batch, wanted, sizeof(Record));
            sent += wanted;
            continue;
        }
        while (done < wanted) {
            /* Alternating: single pushes and batches share the cursors. */
            uint64_t run = sent % 3 ? ring_push_batch(&side->ring, batch + done, wanted - done, sizeof(Record))
                                    : ring_push(&side->ring, batch + done, sizeof(Record));
            done += run;
            if (run == 0) wait_for_room(side, &patience);
            else patience = (RingPatience){0};
        }
        sent += wanted;
    }
    ring_close(&side->ring);
    free(batch);
    return NULL;
}

static void *consume(void *argument) {
    Side *side = argument;
    RingPatience patience = {0};
    Record *batch = malloc(side->batch * sizeof(Record));
    bool lossy = side->ring.policy == RING_DROP_OLDEST;
    uint64_t next = 0;
    for (;;) {
        /* closed before the look: see ring_is_drained. */
        bool closed = ring_is_closed(&side->ring);
        const void *first = batch;
        uint64_t run = lossy ? ring_take_latest(&side->ring, batch, side->batch, sizeof(Record))
                             : ring_peek(&side->ring, side->batch, sizeof(Record), &first);
        for (uint64_t index = 0; index < run; index++) {
            const Record *record = (const Record *)first + index;
            check_record(record, side->producer);
            if (lossy ? record->number < next : record->number != next) fail("number", next, record->number);
            next = record->number + 1;
        }
        if (!lossy && run) ring_release(&side->ring, run);
        side->seen += run;
        if (run == 0 && closed) break;
        if (run == 0) ring_pause(side->ring.data_park, (int)side->ring.wait, &patience, INT64_MAX);
        else patience = (RingPatience){0};
    }
    side->lost = load_relaxed(&side->ring.consumers[side->ring.consumer].lost);
    if (side->seen + side->lost != side->count) fail("seen and lost together", side->count, side->seen + side->lost);
    if (!lossy && side->lost) fail("lost", 0, side->lost);
    free(batch);
    return NULL;
}

/* Joins, takes a few records without a gap and leaves, again and again. */
static void *come_and_go(void *argument) {
    Side *side = argument;
    while (!ring_is_closed(&side->ring)) {
        ring_join(&side->ring);
        uint64_t next = side->ring.head - side->first_cursor;
        for (uint64_t taken = 0; taken < 3 * side->batch;) {
            bool closed = ring_is_closed(&side->ring);
            const void *first;
            uint64_t run = ring_peek(&side->ring, side->batch, sizeof(Record), &first);
            for (uint64_t index = 0; index < run; index++) {
                const Record *record = (const Record *)first + index;
                check_record(record, side->producer);
                if (record->number != next++) fail("number", next - 1, record->number);
            }
            ring_release(&side->ring, run);
            taken += run;
            if (run == 0 && closed) break;
            if (run == 0) sched_yield();
        }
        ring_leave(&side->ring, side->ring.consumer);
    }
    return NULL;
}

/* One consumer, several lanes in turn. */
static void *consume_lanes(void *argument) {
    Side *lanes = argument;
    uint64_t next[PRODUCERS] = {0}, total = 0, wanted = PRODUCERS * lanes[0].count;
    RingPatience patience = {0};
    while (total < wanted) {
        uint64_t before = total;
        for (int lane = 0; lane < PRODUCERS; lane++) {
            const void *first;
            uint64_t run = ring_peek(&lanes[lane].ring, lanes[lane].batch, sizeof(Record), &first);
            for (uint64_t index = 0; index < run; index++) {
                const Record *record = (const Record *)first + index;
                check_record(record, lanes[lane].producer);
                if (record->number != next[lane]++) fail("number", next[lane] - 1, record->number);
            }
            ring_release(&lanes[lane].ring, run);
            total += run;
        }
        if (total != before) patience = (RingPatience){0};
        else ring_pause(lanes[0].ring.data_park, (int)lanes[0].ring.wait, &patience, INT64_MAX);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: stress_ring SHAPE COUNT CAPACITY BATCH\n"), 2;
    const char *shape = argv[1];
    uint64_t count = strtoull(argv[2], NULL, 10), capacity = strtoull(argv[3], NULL, 10), batch = strtoull(argv[4], NULL, 10);
    bool joining = !strcmp(shape, "joining"), gating = joining || !strcmp(shape, "gating");
    bool dropping = !strcmp(shape, "dropping"), mpsc = !strcmp(shape, "mpsc");
    bool park = !strcmp(shape, "park"), claim = !strcmp(shape, "claim"), stamped = !strcmp(shape, "stamped");
    if (!(gating || dropping || mpsc || park || claim || stamped || !strcmp(shape, "index")) || !count || !batch)
        return fprintf(stderr, "no such run\n"), 2;
    RingIdentity identity = {
        .kind = gating || dropping ? RING_BROADCAST : mpsc ? RING_MPSC : RING_SPSC,
        .mode = stamped ? RING_STAMPED : RING_INDEX,
        .policy = dropping ? RING_DROP_OLDEST : RING_WAIT_FOR_ROOM,
        .wait = park || mpsc ? RING_BLOCK : RING_YIELD,
        .record_bytes = sizeof(Record),
        .capacity = capacity,
        .lane_count = mpsc ? PRODUCERS : 1,
        .consumer_count = gating || dropping ? CONSUMERS : 1,
        .first_cursor = 0 - count / 2,
    };
    const char *rule = ring_check_shape(&identity);
    if (rule) return fprintf(stderr, "%s\n", rule), 2;
    RingBlock *block = aligned_alloc(ANYTICK_CURSOR_STRIDE, ring_total_bytes(&identity));
    memset(block, 0, ring_total_bytes(&identity));
    ring_format(block, &identity);
    rule = ring_check(&block->identity, ring_total_bytes(&identity));
    if (rule) return fprintf(stderr, "%s\n", rule), 1;

    static Side producers[PRODUCERS], consumers[CONSUMERS];
    pthread_t threads[PRODUCERS + CONSUMERS];
    int producer_count = mpsc ? PRODUCERS : 1, started = 0;
    int consumer_count = (int)identity.consumer_count;
    for (int index = 0; index < consumer_count; index++) {
        consumers[index] = (Side){.count = count, .batch = batch, .first_cursor = identity.first_cursor};
        ring_open(&consumers[index].ring, block, &identity, 0, (uint32_t)index);
        if (joining && index > 0) continue;
        if (identity.kind == RING_BROADCAST) ring_join(&consumers[index].ring);
    }
    for (int index = 0; index < producer_count; index++) {
        producers[index] = (Side){.count = count, .batch = batch, .producer = (uint64_t)index, .claims = claim};
        ring_open(&producers[index].ring, block, &identity, (uint32_t)index, 0);
        if (mpsc) {
            ring_adopt(&producers[index].ring);
            consumers[index] = (Side){.count = count, .batch = batch, .producer = (uint64_t)index};
            ring_open(&consumers[index].ring, block, &identity, (uint32_t)index, 0);
        }
    }
    if (mpsc) pthread_create(&threads[started++], NULL, consume_lanes, consumers);
    for (int index = 0; !mpsc && index < consumer_count; index++)
        pthread_create(&threads[started++], NULL, joining && index ? come_and_go : consume, &consumers[index]);
    for (int index = 0; index < producer_count; index++)
        pthread_create(&threads[started++], NULL, produce, &producers[index]);
    for (int index = 0; index < started; index++) pthread_join(threads[index], NULL);
    printf("%s: %llu records of each producer, capacity %llu, batch %llu", shape, (unsigned long long)count,
           (unsigned long long)capacity, (unsigned long long)batch);
    for (int index = 0; dropping && index < consumer_count; index++)
        printf(", consumer %d lost %llu", index, (unsigned long long)consumers[index].lost);
    printf("\n");
    free(block);
    return 0;
}
