/* Where the order of an id stands: open addressing over buckets of six, and a window for ids that follow
 * one another.
 *
 * A bucket is half a cache line: six order numbers, a byte of hash for each (its tag, 0 where free), and
 * how many orders passed it because it was full. All tags are compared at once in one word (the test for
 * zero bytes of Warren, Hacker's Delight, 6-1), and nearly every bucket has room, so what a probe finds is
 * seldom a coin's toss for the branch predictor, as the length of a probe sequence is: measured, a command
 * mispredicts half as many branches. Removal frees a place and moves nothing; the counts of passers
 * take the place of tombstones, so a table that lived through a billion orders probes like a new one.
 *
 * Many venues count their orders. Once the ids that were entered prove close (order_index_review), a window
 * holds the number of each at its id modulo the window's length: what it takes then is one load, next to the
 * load before it. An id whose place is taken by an older order, or that is far from the others, goes to the
 * buckets. Of every 64 places of the window the index counts such ids, so that a place that is free, or another's,
 * nearly always settles the question; any id is found whatever came before it.
 *
 * A large table doubles without a stall: each id that is entered moves the ids of a few buckets from the old
 * table into the new one, home after home, and an id's home tells in which of the two it is.
 *
 * In C, because these must be inlined where they are called twice in a row, and only C can insist.
 */
#ifndef ANYTICK_ORDER_INDEX_H
#define ANYTICK_ORDER_INDEX_H

#include "layout.h"

#define ORDER_BUCKET_PLACES 6
#define ORDER_PASSED_SHIFT 48      /* of the count of passers, above the tags                         */
#define ORDER_PASSED_MAX 0xffff    /* a count that got here stays: probes go on, and find what is there */

#define ORDER_WINDOW_SPAN (1ull << 32)  /* ids, about those entered last, that may stand in the window  */
#define ORDER_GROUP_BITS 6              /* of the places that share a count of absent ids              */

#define ORDER_TAG_ONES 0x010101010101ull
#define ORDER_TAG_LOWS 0x7f7f7f7f7f7full
#define ORDER_TAG_HIGHS 0x808080808080ull

#define ANYTICK_ALWAYS_INLINE static inline __attribute__((always_inline))

/* A resting order; two share a cache line. */
typedef struct {
    uint64_t order_id;
    int64_t  size_lots;       /* still resting                                                        */
    uint32_t next;            /* behind it on the level, 0 for the last                               */
    uint32_t previous;        /* ahead of it on the level, 0 for the first                            */
    uint32_t level;
    uint32_t mark;            /* the book's owner's: an entry number in OrderBook, a detail in matching */
} Order;

typedef struct {
    uint64_t tags;            /* six of a byte each from the lowest up; above them the passers        */
    uint32_t orders[ORDER_BUCKET_PLACES];
} OrderBucket;

typedef struct {
    OrderBucket *buckets;
    uint32_t mask;
    uint32_t home_shift;
    OrderBucket *older;       /* the smaller table that is being moved, NULL when none is             */
    uint32_t older_mask;
    uint32_t older_shift;
    uint64_t moved;           /* ids of the older table's homes below it are in `buckets`             */
    uint32_t *window;         /* order numbers, 0 where free; NULL without a window                   */
    uint32_t *absent;         /* of each group, ids of the span that went to the buckets              */
    uint64_t window_mask;
    uint64_t span_first;
    uint64_t span;            /* 0 without a window                                                   */
    uint64_t newest_id;       /* entered last                                                         */
    uint64_t reviewed_id;     /* the newest when order_index_review looked, after so many entries     */
    uint64_t reviewed_entries;
    uint64_t window_entries;  /* when the window was made                                             */
} OrderIndex;

_Static_assert(sizeof(Order) == 32, "two orders fill a cache line");
_Static_assert(sizeof(OrderBucket) == 32, "two buckets fill a cache line");

/* An id's hash, of which the upper bits are the home: both halves of id * 2^64/phi. The lower half alone
 * (Fibonacci hashing; Knuth, TAOCP 6.4) lays ids that keep a distance on homes that keep one too, and some
 * distances, 2^64/phi itself among them, fill one bucket of sixteen. What the upper half adds has its quickest
 * byte on top, where the homes are. */
ANYTICK_ALWAYS_INLINE uint64_t order_spread(uint64_t order_id)
{
    unsigned __int128 product = (unsigned __int128)order_id * 0x9E3779B97F4A7C15ull;
    return (uint64_t)product ^ __builtin_bswap64((uint64_t)(product >> 64));
}

/* Seven bits below those of any home; the high bit tells a tag from a free place. */
ANYTICK_ALWAYS_INLINE uint64_t order_tag(uint64_t order_id) { return (order_spread(order_id) >> 24 & 0x7f) | 0x80; }

/* The bucket where an id belongs: where it nearly always is, if it is in. */
ANYTICK_ALWAYS_INLINE OrderBucket *order_index_home(const OrderIndex *index, uint64_t order_id)
{
    uint64_t spread = order_spread(order_id);
    if (__builtin_expect(index->older != NULL, 0) && spread >> index->older_shift >= index->moved)
        return &index->older[spread >> index->older_shift];
    return &index->buckets[spread >> index->home_shift];
}

/* Hardly ever asked for, so it is kept out of the way of what is. */
static __attribute__((noinline, unused)) OrderBucket *order_bucket_after(const OrderIndex *index, const OrderBucket *bucket)
{
    uint64_t row = ((uintptr_t)bucket - (uintptr_t)index->older) / sizeof(OrderBucket);
    if (index->older != NULL && row <= index->older_mask)
        return &index->older[(uint32_t)(row + 1) & index->older_mask];
    return &index->buckets[(uint32_t)(bucket - index->buckets + 1) & index->mask];
}

/* A word with the high bit set of each of the six bytes that equals the tag. */
ANYTICK_ALWAYS_INLINE uint64_t order_tags_equal(uint64_t tags, uint64_t tag)
{
    uint64_t differ = tags ^ tag * ORDER_TAG_ONES;
    return ~(((differ & ORDER_TAG_LOWS) + ORDER_TAG_LOWS) | differ) & ORDER_TAG_HIGHS;
}

ANYTICK_ALWAYS_INLINE int order_place_of(uint64_t equal) { return __builtin_ctzll(equal) >> 3; }

/* Whether an id's place is in the window. */
ANYTICK_ALWAYS_INLINE int order_index_is_near(const OrderIndex *index, uint64_t order_id)
{
    return order_id - index->span_first < index->span;
}

/* Where an entry stands: in the window, with `bucket` NULL; or in a bucket, where `home` is its id's bucket,
 * `bucket` the same but for ids that found it full, and `absent` the count that it is part of, if any. */
typedef struct {
    OrderBucket *home;
    OrderBucket *bucket;
    uint32_t *absent;
    uint64_t place;
} OrderPlace;

ANYTICK_ALWAYS_INLINE uint32_t order_buckets_find_at(
    const OrderIndex *index, const Order *orders, uint64_t order_id, OrderPlace *at)
{
    OrderBucket *bucket = order_index_home(index, order_id);
    uint64_t tag = order_tag(order_id);
    at->home = bucket;
    for (;;) {
        for (uint64_t equal = order_tags_equal(bucket->tags, tag); equal; equal &= equal - 1) {
            int place = order_place_of(equal);
            uint32_t number = bucket->orders[place];
            if (__builtin_expect(orders[number].order_id == order_id, 1)) {
                at->bucket = bucket;
                at->place = (uint64_t)place;
                return number;
            }
        }
        if (__builtin_expect(bucket->tags >> ORDER_PASSED_SHIFT == 0, 1))
            return 0;
        bucket = order_bucket_after(index, bucket);
    }
}

/* The number of an id's order, or 0; `at` is where it stands. */
ANYTICK_ALWAYS_INLINE uint32_t order_index_find_at(
    const OrderIndex *index, const Order *orders, uint64_t order_id, OrderPlace *at)
{
    *at = (OrderPlace){0};
    if (order_index_is_near(index, order_id)) {
        uint64_t place = order_id & index->window_mask;
        uint32_t number = index->window[place];
        if (orders[number].order_id == order_id) {     /* order 0 has no id, and is no order */
            at->place = place;
            return number;
        }
        at->absent = &index->absent[place >> ORDER_GROUP_BITS];
        if (__builtin_expect(*at->absent == 0, 1))
            return 0;
    }
    return order_buckets_find_at(index, orders, order_id, at);
}

/* The number of an id's order, or 0. */
ANYTICK_ALWAYS_INLINE uint32_t order_index_find(const OrderIndex *index, const Order *orders, uint64_t order_id)
{
    OrderPlace at;
    return order_index_find_at(index, orders, order_id, &at);
}

/* The number of an id's order, most likely, from its home bucket and without a look at the order; for an
 * id that is not in, 0 or some other order's. Without a branch: it serves fetching ahead. */
ANYTICK_ALWAYS_INLINE uint32_t order_index_guess(const OrderBucket *home, uint64_t order_id)
{
    uint64_t equal = order_tags_equal(home->tags, order_tag(order_id));
    return home->orders[order_place_of(equal | 1ull << 47)];
}

/* The same where there may be a window: what a search reads first, and the guess from it. Whether an id is near
 * is hardly ever a coin's toss. */
ANYTICK_ALWAYS_INLINE const void *order_index_first(const OrderIndex *index, uint64_t order_id)
{
    if (order_index_is_near(index, order_id))
        return &index->window[order_id & index->window_mask];
    return order_index_home(index, order_id);
}

ANYTICK_ALWAYS_INLINE uint32_t order_first_guess(const OrderIndex *index, const void *first, uint64_t order_id)
{
    if (order_index_is_near(index, order_id))
        return *(const uint32_t *)first;
    return order_index_guess((const OrderBucket *)first, order_id);
}

ANYTICK_ALWAYS_INLINE void order_buckets_enter(OrderIndex *index, uint64_t order_id, uint32_t number)
{
    OrderBucket *bucket = order_index_home(index, order_id);
    uint64_t vacant = ~bucket->tags & ORDER_TAG_HIGHS;
    int place;
    while (__builtin_expect(vacant == 0, 0)) {
        if (bucket->tags >> ORDER_PASSED_SHIFT < ORDER_PASSED_MAX)
            bucket->tags += 1ull << ORDER_PASSED_SHIFT;
        bucket = order_bucket_after(index, bucket);
        vacant = ~bucket->tags & ORDER_TAG_HIGHS;
    }
    place = order_place_of(vacant);
    bucket->tags |= order_tag(order_id) << 8 * place;
    bucket->orders[place] = number;
}

/* Enter an id that is not in; the table has room. */
ANYTICK_ALWAYS_INLINE void order_index_enter(OrderIndex *index, uint64_t order_id, uint32_t number)
{
    index->newest_id = order_id;
    if (order_index_is_near(index, order_id)) {
        uint64_t place = order_id & index->window_mask;
        if (__builtin_expect(index->window[place] == 0, 1)) {
            index->window[place] = number;
            return;
        }
        index->absent[place >> ORDER_GROUP_BITS]++;
    }
    order_buckets_enter(index, order_id, number);
}

/* Remove the entry at a place. */
ANYTICK_ALWAYS_INLINE void order_index_erase_at(const OrderIndex *index, OrderPlace at)
{
    OrderBucket *bucket = at.home;
    if (at.bucket == NULL) {
        index->window[at.place] = 0;
        return;
    }
    if (__builtin_expect(at.absent != NULL, 0))
        --*at.absent;
    at.bucket->tags &= ~(0xffull << 8 * at.place);
    while (__builtin_expect(bucket != at.bucket, 0)) {
        if (bucket->tags >> ORDER_PASSED_SHIFT < ORDER_PASSED_MAX)
            bucket->tags -= 1ull << ORDER_PASSED_SHIFT;
        bucket = order_bucket_after(index, bucket);
    }
}

/* Remove an id that is in. */
ANYTICK_ALWAYS_INLINE void order_index_erase(const OrderIndex *index, const Order *orders, uint64_t order_id)
{
    OrderPlace at;
    uint32_t number = order_index_find_at(index, orders, order_id, &at);
    anytick_check(number != 0, "an erased order is in the index");
    (void)number;
    order_index_erase_at(index, at);
}

/* Move the ids of the older table's next home: most of them stand there, the others behind it. */
static __attribute__((noinline, unused)) void order_index_move(OrderIndex *index, const Order *orders)
{
    uint64_t row = index->moved++;
    OrderPlace at = {.home = &index->older[row], .bucket = &index->older[row]};
    do {
        for (at.place = 0; at.place < ORDER_BUCKET_PLACES; at.place++) {
            uint32_t number = at.bucket->orders[at.place];
            if ((at.bucket->tags >> 8 * at.place & 0xff) == 0)
                continue;
            if (order_spread(orders[number].order_id) >> index->older_shift != row)
                continue;
            order_index_erase_at(index, at);
            order_buckets_enter(index, orders[number].order_id, number);
        }
        if (at.bucket->tags >> ORDER_PASSED_SHIFT == 0)
            break;
        at.bucket = order_bucket_after(index, at.bucket);
    } while (at.bucket != at.home);
}

#endif
