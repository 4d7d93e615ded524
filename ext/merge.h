/* Many streams into one by (ts_ns, venue_id, seq, stream): a loser tree (Knuth, TAOCP 5.4.1).
 *
 * Each node keeps the loser of its pairing. The event that follows the winner meets the losers on the way
 * from its leaf to the root, a path that depends on the stream alone: log2(streams) exchanges without a
 * branch, whatever the order of the data. The one branch asks for equal times, which only then are
 * decided by venue, seq and stream. A key is one word: the time since `base_ns` and, below it, the stream.
 * Times too far from the base for 58 bits stand at a cap; the tree is planted anew when one of them wins.
 *
 * Events of one stream keep their order: only the first that waits competes. A stream that has run dry
 * stops the merge until it is refilled or closed, because what it would bring could come first.
 */
#ifndef ANYTICK_MERGE_H
#define ANYTICK_MERGE_H

#include "layout.h"

#define MERGE_STREAM_BITS 6
#define MERGE_STREAMS_MAX (1 << MERGE_STREAM_BITS)
#define MERGE_ENDED (UINT64_MAX >> MERGE_STREAM_BITS)     /* behind every event: a stream without any */
#define MERGE_CAP (MERGE_ENDED - 1)
#define MERGE_FELLED UINT64_MAX
#define MERGE_AHEAD 8                                    /* events of a stream fetched before their turn */

typedef struct {
    const MarketEvent *next;
    const MarketEvent *end;
    uint64_t ahead;                           /* key of the event behind `next`, fetched a turn early */
} MergeStream;

typedef struct {
    uint64_t winner;                          /* key; MERGE_FELLED while no tree stands               */
    uint64_t loser[MERGE_STREAMS_MAX];        /* keys by node: [1] the root, n has children 2n, 2n + 1 */
    MergeStream streams[MERGE_STREAMS_MAX];
    int64_t base_ns;
    uint32_t leaves;                          /* power of two, at least the number of streams         */
    uint32_t stream_count;
    uint64_t dry;                             /* bit s: stream s waits for more                       */
    uint64_t closed;                          /* bit s: stream s has ended                            */
    uint32_t by_seq;                          /* streams of one venue share their numbers             */
} Merge;

static inline uint64_t merge_stream_of(uint64_t key) { return key & (MERGE_STREAMS_MAX - 1); }

/* The key of a stream's event, MERGE_ENDED where there is none. */
static inline uint64_t merge_key(const Merge *merge, uint64_t stream, const MarketEvent *event) {
    uint64_t since = MERGE_ENDED;
    if (__builtin_expect(event != merge->streams[stream].end, 1)) {
        since = (uint64_t)event->ts_ns - (uint64_t)merge->base_ns;
        since = since < MERGE_CAP ? since : MERGE_CAP;
    }
    return since << MERGE_STREAM_BITS | stream;
}

/* Whether two keys have one time, so that it decides nothing. */
static inline int merge_is_tie(uint64_t one, uint64_t other) { return (one ^ other) < MERGE_STREAMS_MAX; }

/* Whether `one` comes before `other`, of the same time or both at the cap. */
static __attribute__((noinline)) int merge_first_of_tie(const Merge *merge, uint64_t one, uint64_t other) {
    const MergeStream *left = &merge->streams[merge_stream_of(one)];
    const MergeStream *right = &merge->streams[merge_stream_of(other)];
    if (left->next == left->end || right->next == right->end) return one < other;
    if (left->next->ts_ns != right->next->ts_ns) return left->next->ts_ns < right->next->ts_ns;
    if (left->next->venue_id != right->next->venue_id) return left->next->venue_id < right->next->venue_id;
    if (merge->by_seq && left->next->seq != right->next->seq) return left->next->seq < right->next->seq;
    return one < other;
}

/* Finish a path on which equal times stand. Apart from the path without, which so makes no call and keeps
 * its registers. */
static __attribute__((noinline)) void merge_climb(Merge *merge, uint64_t node, uint64_t rising) {
    for (; node; node /= 2) {
        uint64_t loser = merge->loser[node];
        int first = merge_is_tie(rising, loser) ? merge_first_of_tie(merge, rising, loser) : rising < loser;
        merge->loser[node] = first ? loser : rising;
        rising = first ? rising : loser;
    }
    merge->winner = rising;
}

static inline void merge_open(Merge *merge, uint32_t stream_count, uint32_t by_seq) {
    merge->by_seq = by_seq;
    merge->stream_count = stream_count;
    merge->leaves = 1;
    while (merge->leaves < stream_count) merge->leaves *= 2;
    merge->dry = ~(uint64_t)0 >> (64 - stream_count);
    merge->closed = 0;
    merge->winner = MERGE_FELLED;
    for (uint32_t stream = 0; stream < MERGE_STREAMS_MAX; stream++)
        merge->streams[stream].next = merge->streams[stream].end = NULL;
}

/* Play all pairings anew, from the earliest time that waits. */
static __attribute__((noinline)) void merge_plant(Merge *merge) {
    uint64_t winners[2 * MERGE_STREAMS_MAX];
    merge->base_ns = INT64_MAX;
    for (uint32_t stream = 0; stream < merge->stream_count; stream++) {
        MergeStream *from = &merge->streams[stream];
        if (from->next != from->end && from->next->ts_ns < merge->base_ns) merge->base_ns = from->next->ts_ns;
    }
    for (uint32_t leaf = 0; leaf < merge->leaves; leaf++) {
        MergeStream *from = &merge->streams[leaf];
        winners[merge->leaves + leaf] = merge_key(merge, leaf, from->next);
        from->ahead = from->next == from->end ? MERGE_ENDED << MERGE_STREAM_BITS | leaf
                                              : merge_key(merge, leaf, from->next + 1);
    }
    for (uint32_t node = merge->leaves - 1; node >= 1; node--) {
        uint64_t left = winners[2 * node], right = winners[2 * node + 1];
        int first = merge_is_tie(left, right) ? merge_first_of_tie(merge, left, right) : left < right;
        winners[node] = first ? left : right;
        merge->loser[node] = first ? right : left;
    }
    merge->winner = winners[1];
}

/* Give a dry stream its next events, at least one. */
static inline void merge_refill(Merge *merge, uint32_t stream, const MarketEvent *first, size_t count) {
    merge->streams[stream].next = first;
    merge->streams[stream].end = first + count;
    merge->dry &= ~((uint64_t)1 << stream);
    merge->winner = MERGE_FELLED;
}

static inline void merge_close(Merge *merge, uint32_t stream) {
    merge->closed |= (uint64_t)1 << stream;
    merge->dry &= ~((uint64_t)1 << stream);
    merge->winner = MERGE_FELLED;
}

/* Point at the next event in order; NULL when a stream has run dry or all have ended. What is pointed at
 * stays the stream's. */
static inline const MarketEvent *merge_next(Merge *merge) {
    if (__builtin_expect(merge->winner >> MERGE_STREAM_BITS >= MERGE_CAP, 0)) {
        if (merge->dry) return NULL;
        merge_plant(merge);
        if (merge->winner >> MERGE_STREAM_BITS == MERGE_ENDED) return NULL;
    }
    uint64_t stream = merge_stream_of(merge->winner), rising;
    MergeStream *from = &merge->streams[stream];
    const MarketEvent *event = from->next++;
    __builtin_prefetch(event + MERGE_AHEAD);
    if (__builtin_expect(from->next == from->end, 0)) {
        if (!(merge->closed >> stream & 1)) {
            merge->dry |= (uint64_t)1 << stream;
            merge->winner = MERGE_FELLED;
            return event;
        }
        rising = from->ahead;
    } else {
        rising = from->ahead;
        from->ahead = merge_key(merge, stream, from->next + 1);
    }
    for (uint64_t node = (merge->leaves + stream) / 2; node; node /= 2) {
        uint64_t differing = rising ^ merge->loser[node], loser = merge->loser[node];
        if (__builtin_expect(differing < MERGE_STREAMS_MAX, 0)) {
            merge_climb(merge, node, rising);
            return event;
        }
        /* One comparison for both: the later one is what the earlier leaves of their difference. */
        rising = loser < rising ? loser : rising;
        merge->loser[node] = differing ^ rising;
    }
    merge->winner = rising;
    return event;
}

/* Copy the next events, at most `count`; return how many. */
static inline size_t merge_copy(Merge *merge, MarketEvent *out, size_t count) {
    size_t copied = 0;
    const MarketEvent *event;
    while (copied < count && (event = merge_next(merge)) != NULL) out[copied++] = *event;
    return copied;
}

#endif
