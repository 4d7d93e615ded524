/* The records that cross anytick's boundaries, and the few atomics its rings need.
 *
 * This file is the one declaration of every binary layout: ext/layout.pxd exposes it to Cython and
 * data/schema.py mirrors it as numpy dtypes (a test compares the two byte for byte).
 * All records are little-endian and have no hidden padding.
 */
#ifndef ANYTICK_LAYOUT_H
#define ANYTICK_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ANYTICK_CACHE_LINE 64
/* Neighbouring lines are prefetched in pairs on x86-64, so a cursor owns two. */
#define ANYTICK_CURSOR_STRIDE 128

#define ANYTICK_RECV_NOT_RECORDED INT64_MIN

enum EventKind {
    EVENT_ADD = 1,      /* a resting order appears                                          */
    EVENT_CANCEL = 2,   /* a resting order leaves with all it had left                      */
    EVENT_REDUCE = 3,   /* a resting order loses size_lots and keeps its place              */
    EVENT_EXECUTE = 4,  /* a resting order trades size_lots; side is the resting side       */
    EVENT_TRADE = 5,    /* a print that changes no visible level; side is the aggressor     */
    EVENT_LEVEL = 6,    /* a price level now holds size_lots in all; 0 removes it           */
    EVENT_QUOTE = 7,    /* two-sided best bid and offer, see QuoteView                      */
    EVENT_CLEAR = 8,    /* the book is emptied                                              */
    EVENT_STATUS = 9    /* trading state; size_lots carries the code                        */
};

enum EventFlag {
    FLAG_LAST_IN_PACKET = 1,
    FLAG_HIDDEN = 2,
    FLAG_SNAPSHOT = 4,
    FLAG_AUCTION = 8,
    FLAG_CROSSED = 16    /* the importer found bid >= ask in this quote and let it through  */
};

/* What a venue said. Shared, immutable once published. */
typedef struct {
    int64_t  ts_ns;          /* venue clock, ns since the Unix epoch                         */
    int64_t  recv_ns;        /* our clock at receipt; ANYTICK_RECV_NOT_RECORDED when unknown */
    uint64_t order_id;       /* scope (venue, instrument, session); 0 when aggregated        */
    int64_t  size_lots;      /* quantity / instrument.lot_size                               */
    int32_t  price_ticks;    /* price / instrument.price_increment                           */
    uint32_t seq;            /* position in the feed's packet or file order, for ties        */
    uint16_t instrument_id;
    uint8_t  venue_id;
    uint8_t  kind;           /* enum EventKind                                               */
    int8_t   side;           /* +1 bid or buyer, -1 ask or seller, 0 none                    */
    uint8_t  flags;          /* enum EventFlag bits                                          */
    uint16_t _reserved;      /* always 0                                                     */
} MarketEvent;

/* The same 48 bytes for kind QUOTE: order_id's place holds the ask, so that one quote is one event
 * (docs/adr/0002-two-sided-quote.md). A side with size 0 is absent. */
typedef struct {
    int64_t  ts_ns;
    int64_t  recv_ns;
    int32_t  ask_price_ticks;
    uint32_t ask_size_lots;
    int64_t  bid_size_lots;
    int32_t  bid_price_ticks;
    uint32_t seq;
    uint16_t instrument_id;
    uint8_t  venue_id;
    uint8_t  kind;
    int8_t   side;           /* always 0                                                     */
    uint8_t  flags;
    uint16_t _reserved;
} QuoteView;

_Static_assert(sizeof(MarketEvent) == 48, "MarketEvent is 48 bytes");
_Static_assert(offsetof(MarketEvent, _reserved) == 46, "MarketEvent has no hidden padding");
_Static_assert(sizeof(QuoteView) == 48, "QuoteView overlays MarketEvent");
_Static_assert(offsetof(QuoteView, bid_size_lots) == offsetof(MarketEvent, size_lots), "bid size");
_Static_assert(offsetof(QuoteView, bid_price_ticks) == offsetof(MarketEvent, price_ticks), "bid px");
_Static_assert(offsetof(QuoteView, kind) == offsetof(MarketEvent, kind), "kind");

enum OrderAction {
    ACTION_NEW = 1, ACTION_CANCEL = 2, ACTION_REPLACE = 3,
    ACTION_MASS_CANCEL = 4  /* of one owner, 0 = all; of one side, 0 = both                  */
};
enum OrderType {
    ORDER_LIMIT = 1, ORDER_MARKET = 2, ORDER_STOP = 3, ORDER_STOP_LIMIT = 4,
    ORDER_PEG_MID = 5, ORDER_PEG_PRIMARY = 6
};
enum TimeInForce { TIF_GTC = 1, TIF_IOC = 2, TIF_FOK = 3, TIF_GTD = 4, TIF_DAY = 5 };
enum OrderFlag { ORDER_POST_ONLY = 1, ORDER_HIDDEN = 2, ORDER_REDUCE_ONLY = 4 };

/* What we ask of a venue: exactly one cache line. */
typedef struct {
    uint64_t client_order_id;     /* packed (run, parent, leg, attempt), bit 63 set          */
    int64_t  ts_ns;               /* our clock when the order was decided                    */
    int64_t  expire_ns;           /* for TIF_GTD; 0 otherwise                                */
    int64_t  size_lots;
    int32_t  price_ticks;
    int32_t  stop_price_ticks;
    int32_t  peg_offset_ticks;
    uint32_t display_size_lots;   /* 0 = all of it                                           */
    uint32_t minimum_size_lots;
    uint32_t owner;               /* self-trade prevention group                             */
    uint16_t instrument_id;
    uint8_t  venue_id;
    uint8_t  action;              /* enum OrderAction                                        */
    int8_t   side;                /* +1 buy, -1 sell                                         */
    uint8_t  order_type;          /* enum OrderType                                          */
    uint8_t  time_in_force;       /* enum TimeInForce                                        */
    uint8_t  flags;               /* enum OrderFlag bits                                     */
} OrderCommand;

_Static_assert(sizeof(OrderCommand) == 64, "OrderCommand is one cache line");
_Static_assert(offsetof(OrderCommand, flags) == 63, "OrderCommand has no hidden padding");

enum ReportKind {
    REPORT_ACCEPTED = 1, REPORT_FILL = 2, REPORT_CANCELLED = 3, REPORT_REJECTED = 4, REPORT_EXPIRED = 5,
    REPORT_TRIGGERED = 6           /* a stop became a live order                              */
};
enum Liquidity { LIQUIDITY_NONE = 0, LIQUIDITY_MAKER = 1, LIQUIDITY_TAKER = 2 };

/* Why an order was refused or ended. Values, never exceptions: expected outcomes. */
enum Reason {
    REASON_NONE = 0,
    REASON_RISK_ORDER_SIZE = 1,
    REASON_RISK_NOTIONAL = 2,
    REASON_RISK_PRICE_COLLAR = 3,
    REASON_RISK_POSITION = 4,
    REASON_RISK_MESSAGE_RATE = 5,
    REASON_RISK_KILLED = 6,
    REASON_NO_LIQUIDITY = 16,      /* an IOC found nothing at its limit                      */
    REASON_LAST_LOOK = 17,         /* the venue declined                                     */
    REASON_WOULD_CROSS = 18,       /* post-only                                              */
    REASON_UNKNOWN_ORDER = 19,
    REASON_DUPLICATE_ID = 20,
    REASON_BAD_PRICE = 21,
    REASON_BAD_SIZE = 22,
    REASON_CAPACITY = 23,          /* a bounded table of ours or of the venue was full       */
    REASON_USER = 24,              /* cancelled because we asked                             */
    REASON_TIME = 25,              /* cancelled because its time was over                    */
    REASON_END_OF_DATA = 26,
    REASON_SELF_TRADE = 27,        /* would have traded with its own owner                   */
    REASON_PRICE_BAND = 28,        /* beyond the venue's price band                          */
    REASON_PHASE = 29,             /* not in this trading phase: halt or call auction        */
    REASON_BAD_ORDER = 30          /* fields that contradict each other or are not known     */
};

/* What a venue answered: one cache line. */
typedef struct {
    uint64_t client_order_id;
    int64_t  ts_ns;           /* venue clock                                                 */
    int64_t  recv_ns;         /* our clock at receipt                                        */
    int64_t  size_lots;       /* filled or cancelled by this report                          */
    int64_t  leaves_lots;     /* still open at the venue after it                            */
    int64_t  fee_nano;        /* 1e-9 of the instrument's currency; negative is a rebate     */
    int32_t  price_ticks;
    uint16_t instrument_id;
    uint8_t  venue_id;
    uint8_t  kind;            /* enum ReportKind                                             */
    int8_t   side;
    uint8_t  reason;          /* enum Reason                                                 */
    uint8_t  liquidity;       /* enum Liquidity                                              */
    uint8_t  flags;
    uint32_t _reserved;
} ExecutionReport;

_Static_assert(sizeof(ExecutionReport) == 64, "ExecutionReport is one cache line");
_Static_assert(offsetof(ExecutionReport, _reserved) == 60, "ExecutionReport has no hidden padding");

enum JournalKind {
    JOURNAL_RUN = 1,        /* first record: run id, schema version                          */
    JOURNAL_PARENT = 2,     /* a parent order changed state                                  */
    JOURNAL_DECISION = 3,   /* the router chose, with context and propensity                 */
    JOURNAL_ORDER = 4,      /* an OrderCommand, before it is sent                            */
    JOURNAL_REFUSAL = 5,    /* an ExecutionReport made by the risk gate                      */
    JOURNAL_REPORT = 6,     /* an ExecutionReport of a venue, at receipt                     */
    JOURNAL_REWARD = 7,     /* a decision's reward was applied                               */
    JOURNAL_MODEL = 8,      /* another model version went live                               */
    JOURNAL_WINDOW = 9,     /* a walk-forward window began                                   */
    JOURNAL_END = 10        /* last record: totals                                           */
};

/* One journal line: 32 bytes of frame and 64 of payload (an OrderCommand, an ExecutionReport or one
 * of the payloads below). crc32c covers the record with crc32c = chain = 0; chain mixes the previous
 * record's chain with this crc, so a dropped, swapped or edited record breaks every later one. */
typedef struct {
    uint64_t sequence;        /* from 0, without gaps                                        */
    int64_t  ts_ns;           /* our clock                                                   */
    uint64_t chain;
    uint32_t crc32c;          /* Castagnoli                                                  */
    uint16_t version;         /* of the record layout, 1                                     */
    uint8_t  kind;            /* enum JournalKind                                            */
    uint8_t  _reserved;
    uint8_t  payload[64];
} JournalRecord;

_Static_assert(sizeof(JournalRecord) == 96, "JournalRecord is 96 bytes");
_Static_assert(offsetof(JournalRecord, payload) == 32, "JournalRecord has no hidden padding");

typedef struct {
    uint64_t decision_id;
    uint32_t parent_id;
    uint16_t model_version;
    uint8_t  arm;
    uint8_t  arm_count;
    float    score;           /* of the chosen arm                                           */
    float    propensity;      /* probability with which the policy chose it                  */
    float    signal;          /* model output in [-1, 1]: P(up) - P(down)                    */
    float    context[8];      /* of the chosen arm                                           */
    uint32_t _reserved;
} DecisionPayload;
_Static_assert(sizeof(DecisionPayload) == 64, "DecisionPayload fills the payload");

typedef struct {
    uint64_t decision_id;
    double   reward;
    double   cost_ticks;      /* per lot against the decision's mid, fees included           */
    int64_t  filled_lots;
    int64_t  size_lots;
    uint8_t  arm;
    uint8_t  censored;        /* 1: ended without an outcome                                 */
    uint8_t  _reserved[22];
} RewardPayload;
_Static_assert(sizeof(RewardPayload) == 64, "RewardPayload fills the payload");

enum ParentState { PARENT_WORKING = 1, PARENT_DONE = 2, PARENT_CANCELLED = 3 };

typedef struct {
    uint32_t parent_id;
    uint8_t  state;           /* enum ParentState                                            */
    int8_t   side;
    uint16_t version;         /* grows with every change; a stale write is refused           */
    int64_t  size_lots;       /* filled + open + cancelled at every instant                  */
    int64_t  filled_lots;
    int64_t  open_lots;
    int64_t  cancelled_lots;
    int64_t  arrival_mid_x2;  /* bid + ask when it arrived, ticks                            */
    int64_t  deadline_ns;
    uint64_t _reserved;
} ParentPayload;
_Static_assert(sizeof(ParentPayload) == 64, "ParentPayload fills the payload");

/* Our own bugs stop a debug build; a release build pays nothing. */
#ifdef ANYTICK_DEBUG
#define anytick_check(condition, rule)                                              \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "anytick: %s:%d: %s\n", __FILE__, __LINE__, rule);      \
            abort();                                                                \
        }                                                                           \
    } while (0)
#define ANYTICK_DEBUG_BUILD 1
#else
#define anytick_check(condition, rule) ((void)(rule))
#define ANYTICK_DEBUG_BUILD 0
#endif

static inline uint64_t load_acquire(const uint64_t *cursor) { return __atomic_load_n(cursor, __ATOMIC_ACQUIRE); }
static inline uint64_t load_relaxed(const uint64_t *cursor) { return __atomic_load_n(cursor, __ATOMIC_RELAXED); }
static inline void store_release(uint64_t *cursor, uint64_t value) { __atomic_store_n(cursor, value, __ATOMIC_RELEASE); }

static inline int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The processor's own clock, in units of its own: for benchmarks, which need one that costs little. */
#if defined(__x86_64__)
static inline uint64_t cycle_stamp(void) { return __builtin_ia32_rdtsc(); }
#else
static inline uint64_t cycle_stamp(void) { return (uint64_t)monotonic_ns(); }
#endif

#endif
