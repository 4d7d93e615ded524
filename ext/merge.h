/* Many streams into one by (ts_ns, venue_id, seq, stream): a loser tree (Knuth, TAOCP 5.4.1).
 *
 * Each node keeps the loser of its pairing. The event that follows the winner meets the losers on the way
 * from its leaf to the root, a path that depends on the stream alone: log2(streams) exchanges by
 * masks, whatever the order of the data. The one branch asks for equal times, which only then
 * are decided by venue, seq and stream. The time behind a stream's head is fetched one turn ahead, so
 * that no load of an event stands between one winner and the next.
 *
 * Events of one stream keep their order: only the first that waits competes. A stream that has run dry
 * stops the merge until it is refilled or closed, because what it would bring could come first.
 */
#ifndef ANYTICK_MERGE_H
#define ANYTICK_MERGE_H

#include "layout.h"

#define MERGE_STREAMS_MAX 64

/* Compilers turn a selection they understand into a branch, which mixed streams mispredict every other time:
 * 11 ns an event at 8 streams. A value they can't look into stays arithmetic. */
#define merge_keep_value(word) __asm__("" : "+r"(word))

typedef struct {
    const MarketEvent *next;
    const MarketEvent *end;
    int64_t ahead_ns;         /* time of the event behind `next`; INT64_MAX where there is none        */
} MergeStream;

typedef struct {
    int64_t winner_ns;
    uint64_t winner;                          /* stream                                               */
    int64_t loser_ns[MERGE_STREAMS_MAX];      /* by node: [1] is the root, n has children 2n, 2n + 1  */
    uint64_t loser[MERGE_STREAMS_MAX];        /* stream                                               */
    MergeStream streams[MERGE_STREAMS_MAX];
    uint32_t leaves;                          /* power of two, at least the number of streams         */
    uint32_t stream_count;
    uint64_t dry;                             /* bit s: stream s waits for more                       */
    uint64_t closed;                          /* bit s: stream s has ended                            */
    uint32_t planted;                         /* the tree stands                                      */
} Merge;

/* Whether `one` comes before `other` at equal times; a stream without events comes last. */
static __attribute__((noinline)) uint64_t merge_tie(const Merge *merge, uint64_t one, uint64_t other) {
    const MergeStream *left = &merge->streams[one], *right = &merge->streams[other];
    if (left->next == left->end || right->next == right->end)
        return left->next != left->end || (right->next == right->end && one < other);
    if (left->next->venue_id != right->next->venue_id) return left->next->venue_id < right->next->venue_id;
    if (left->next->seq != right->next->seq) return left->next->seq < right->next->seq;
    return one < other;
}

static inline void merge_open(Merge *merge, uint32_t stream_count) {
    merge->stream_count = stream_count;
    merge->leaves = 1;
    while (merge->leaves < stream_count) merge->leaves *= 2;
    merge->dry = ~(uint64_t)0 >> (64 - stream_count);
    merge->closed = 0;
    merge->planted = 0;
    for (uint32_t stream = 0; stream < MERGE_STREAMS_MAX; stream++) {
        merge->streams[stream].next = merge->streams[stream].end = NULL;
        merge->streams[stream].ahead_ns = INT64_MAX;
    }
}

static inline void merge_look_ahead(MergeStream *from) {
    from->ahead_ns = from->end - from->next > 1 ? from->next[1].ts_ns : INT64_MAX;
}

/* Play all pairings anew. */
static inline void merge_plant(Merge *merge) {
    uint64_t winners[2 * MERGE_STREAMS_MAX];
    int64_t times_ns[2 * MERGE_STREAMS_MAX];
    for (uint32_t leaf = 0; leaf < merge->leaves; leaf++) {
        MergeStream *from = &merge->streams[leaf];
        winners[merge->leaves + leaf] = leaf;
        times_ns[merge->leaves + leaf] = from->next == from->end ? INT64_MAX : from->next->ts_ns;
    }
    for (uint32_t node = merge->leaves - 1; node >= 1; node--) {
        uint32_t left = 2 * node, right = 2 * node + 1;
        uint64_t first = times_ns[left] == times_ns[right] ? merge_tie(merge, winners[left], winners[right])
                                                           : times_ns[left] < times_ns[right];
        winners[node] = winners[first ? left : right];
        times_ns[node] = times_ns[first ? left : right];
        merge->loser[node] = winners[first ? right : left];
        merge->loser_ns[node] = times_ns[first ? right : left];
    }
    merge->winner = winners[1];
    merge->winner_ns = times_ns[1];
    merge->planted = 1;
}

/* Give a dry stream its next events, at least one. */
static inline void merge_refill(Merge *merge, uint32_t stream, const MarketEvent *first, size_t count) {
    merge->streams[stream].next = first;
    merge->streams[stream].end = first + count;
    merge_look_ahead(&merge->streams[stream]);
    merge->dry &= ~((uint64_t)1 << stream);
    merge->planted = 0;
}

static inline void merge_close(Merge *merge, uint32_t stream) {
    merge->closed |= (uint64_t)1 << stream;
    merge->dry &= ~((uint64_t)1 << stream);
    merge->planted = 0;
}

/* Point at the next events in order, at most `count`; return how many. Fewer come back when a stream ran
 * dry or all have ended. What is pointed at stays the streams'. */
static inline size_t merge_take(Merge *merge, const MarketEvent **out, size_t count) {
    size_t taken = 0;
    if (merge->dry) return 0;
    if (merge->leaves == 1) {
        MergeStream *only = &merge->streams[0];
        while (taken < count && only->next != only->end) out[taken++] = only->next++;
        if (only->next == only->end && !merge->closed) merge->dry = 1;
        return taken;
    }
    if (!merge->planted) merge_plant(merge);
    uint64_t winner = merge->winner, leaves = merge->leaves;
    int64_t winner_ns = merge->winner_ns;
    while (taken < count) {
        MergeStream *from = &merge->streams[winner];
        if (__builtin_expect(from->next == from->end, 0)) break;    /* only when all have ended */
        out[taken++] = from->next++;
        if (__builtin_expect(from->next == from->end, 0) && !(merge->closed >> winner & 1)) {
            merge->dry |= (uint64_t)1 << winner;
            merge->planted = 0;
            return taken;
        }
        winner_ns = from->ahead_ns;
        merge_look_ahead(from);
        for (uint64_t node = (leaves + winner) / 2; node; node /= 2) {
            int64_t loser_ns = merge->loser_ns[node];
            uint64_t loser = merge->loser[node], exchange = -(uint64_t)(loser_ns < winner_ns), turn;
            if (__builtin_expect(loser_ns == winner_ns, 0)) exchange = -merge_tie(merge, loser, winner);
            merge_keep_value(exchange);
            turn = (uint64_t)(loser_ns ^ winner_ns) & exchange;
            merge->loser_ns[node] = loser_ns ^ (int64_t)turn;
            winner_ns ^= (int64_t)turn;
            turn = (loser ^ winner) & exchange;
            merge->loser[node] = loser ^ turn;
            winner ^= turn;
        }
    }
    merge->winner = winner;
    merge->winner_ns = winner_ns;
    return taken;
}

/* The same with copies, for whoever keeps the events. */
static inline size_t merge_copy(Merge *merge, MarketEvent *out, size_t count) {
    const MarketEvent *events[256];
    size_t copied = 0, taken;
    do {
        size_t wanted = count - copied < 256 ? count - copied : 256;
        taken = merge_take(merge, events, wanted);
        for (size_t place = 0; place < taken; place++) out[copied + place] = *events[place];
        copied += taken;
    } while (taken && copied < count);
    return copied;
}

#endif
