"""The records of ext/layout.h, for Cython. Field meanings and units stand in the header."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "layout.h" nogil:
    const int64_t RECV_NOT_RECORDED "ANYTICK_RECV_NOT_RECORDED"
    const int DEBUG_BUILD "ANYTICK_DEBUG_BUILD"

    enum EventKind:
        EVENT_ADD
        EVENT_CANCEL
        EVENT_REDUCE
        EVENT_EXECUTE
        EVENT_TRADE
        EVENT_LEVEL
        EVENT_QUOTE
        EVENT_CLEAR
        EVENT_STATUS

    enum EventFlag:
        FLAG_LAST_IN_PACKET
        FLAG_HIDDEN
        FLAG_SNAPSHOT
        FLAG_AUCTION
        FLAG_CROSSED

    ctypedef struct MarketEvent:
        int64_t ts_ns
        int64_t recv_ns
        uint64_t order_id
        int64_t size_lots
        int32_t price_ticks
        uint32_t seq
        uint16_t instrument_id
        uint8_t venue_id
        uint8_t kind
        int8_t side
        uint8_t flags
        uint16_t _reserved

    ctypedef struct QuoteView:
        int64_t ts_ns
        int64_t recv_ns
        int32_t ask_price_ticks
        uint32_t ask_size_lots
        int64_t bid_size_lots
        int32_t bid_price_ticks
        uint32_t seq
        uint16_t instrument_id
        uint8_t venue_id
        uint8_t kind
        int8_t side
        uint8_t flags
        uint16_t _reserved

    enum OrderAction:
        ACTION_NEW
        ACTION_CANCEL
        ACTION_REPLACE
        ACTION_MASS_CANCEL

    enum OrderType:
        ORDER_LIMIT
        ORDER_MARKET
        ORDER_STOP
        ORDER_STOP_LIMIT
        ORDER_PEG_MID
        ORDER_PEG_PRIMARY

    enum TimeInForce:
        TIF_GTC
        TIF_IOC
        TIF_FOK
        TIF_GTD
        TIF_DAY

    enum OrderFlag:
        ORDER_POST_ONLY
        ORDER_HIDDEN
        ORDER_REDUCE_ONLY

    ctypedef struct OrderCommand:
        uint64_t client_order_id
        int64_t ts_ns
        int64_t expire_ns
        int64_t size_lots
        int32_t price_ticks
        int32_t stop_price_ticks
        int32_t peg_offset_ticks
        uint32_t display_size_lots
        uint32_t minimum_size_lots
        uint32_t owner
        uint16_t instrument_id
        uint8_t venue_id
        uint8_t action
        int8_t side
        uint8_t order_type
        uint8_t time_in_force
        uint8_t flags

    enum ReportKind:
        REPORT_ACCEPTED
        REPORT_FILL
        REPORT_CANCELLED
        REPORT_REJECTED
        REPORT_EXPIRED
        REPORT_TRIGGERED

    enum Liquidity:
        LIQUIDITY_NONE
        LIQUIDITY_MAKER
        LIQUIDITY_TAKER

    enum Reason:
        REASON_NONE
        REASON_RISK_ORDER_SIZE
        REASON_RISK_NOTIONAL
        REASON_RISK_PRICE_COLLAR
        REASON_RISK_POSITION
        REASON_RISK_MESSAGE_RATE
        REASON_RISK_KILLED
        REASON_NO_LIQUIDITY
        REASON_LAST_LOOK
        REASON_WOULD_CROSS
        REASON_UNKNOWN_ORDER
        REASON_DUPLICATE_ID
        REASON_BAD_PRICE
        REASON_BAD_SIZE
        REASON_CAPACITY
        REASON_USER
        REASON_TIME
        REASON_END_OF_DATA
        REASON_SELF_TRADE
        REASON_PRICE_BAND
        REASON_PHASE
        REASON_BAD_ORDER

    ctypedef struct ExecutionReport:
        uint64_t client_order_id
        int64_t ts_ns
        int64_t recv_ns
        int64_t size_lots
        int64_t leaves_lots
        int64_t fee_nano
        int32_t price_ticks
        uint16_t instrument_id
        uint8_t venue_id
        uint8_t kind
        int8_t side
        uint8_t reason
        uint8_t liquidity
        uint8_t flags
        uint32_t _reserved

    enum JournalKind:
        JOURNAL_RUN
        JOURNAL_PARENT
        JOURNAL_DECISION
        JOURNAL_ORDER
        JOURNAL_REFUSAL
        JOURNAL_REPORT
        JOURNAL_REWARD
        JOURNAL_MODEL
        JOURNAL_WINDOW
        JOURNAL_END

    ctypedef struct JournalRecord:
        uint64_t sequence
        int64_t ts_ns
        uint64_t chain
        uint32_t crc32c
        uint16_t version
        uint8_t kind
        uint8_t _reserved
        uint8_t[64] payload

    ctypedef struct DecisionPayload:
        uint64_t decision_id
        uint32_t parent_id
        uint16_t model_version
        uint8_t arm
        uint8_t arm_count
        float score
        float propensity
        float signal
        float[8] context
        uint32_t _reserved

    ctypedef struct RewardPayload:
        uint64_t decision_id
        double reward
        double cost_ticks
        int64_t filled_lots
        int64_t size_lots
        uint8_t arm
        uint8_t censored
        uint8_t[22] _reserved

    enum ParentState:
        PARENT_WORKING
        PARENT_DONE
        PARENT_CANCELLED

    ctypedef struct ParentPayload:
        uint32_t parent_id
        uint8_t state
        int8_t side
        uint16_t version
        int64_t size_lots
        int64_t filled_lots
        int64_t open_lots
        int64_t cancelled_lots
        int64_t arrival_mid_x2
        int64_t deadline_ns
        uint64_t _reserved

    void check "anytick_check"(bint condition, const char* rule)
    uint64_t load_acquire(const uint64_t* cursor)
    uint64_t load_relaxed(const uint64_t* cursor)
    void store_release(uint64_t* cursor, uint64_t value)
    int64_t monotonic_ns()
    uint64_t cycle_stamp()
