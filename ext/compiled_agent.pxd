"""The bridge between the loop and a strategy compiled to machine code: a C function, called without GIL.

``int64_t on_call(const StrategyView* view, OrderCommand* commands, void* state)`` is called at the end of
each packet, at each tick of its timer and for each answer to its orders. It reads the view, keeps what it
likes in `state`, writes at most COMPILED_COMMANDS commands and returns how many; a negative number stops
the run with an error.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ext.features cimport FEATURE_COUNT
from ext.layout cimport ExecutionReport, MarketEvent, OrderCommand
from ext.tick_path cimport Agent

cdef enum:
    COMPILED_COMMANDS = 16


cdef enum CallKind:
    CALL_EVENT = 1
    CALL_TIMER = 2
    CALL_REPORT = 3


cdef struct StrategyView:
    int64_t now_ns              # our clock
    int64_t ts_ns               # of the last event
    uint64_t orders             # new orders so far; the next one has this number plus 1
    int64_t position_lots
    int64_t cash_ticklots
    int64_t mid_x2              # best bid + best ask, over all venues
    int64_t event_size_lots     # CALL_EVENT: the packet's last event
    uint64_t order              # CALL_REPORT: the number of the order answered
    int64_t report_size_lots
    int64_t report_leaves_lots
    int32_t best_bid_ticks      # over all venues; valid where two_sided
    int32_t best_ask_ticks
    int32_t event_price_ticks
    int32_t report_price_ticks
    uint8_t call                # enum CallKind
    uint8_t two_sided
    uint8_t event_kind
    int8_t event_side
    uint8_t venue               # of the event or the report
    uint8_t report_kind
    uint8_t report_reason
    int8_t report_side
    float[FEATURE_COUNT] features


ctypedef int64_t (*StrategyCall)(const StrategyView* view, OrderCommand* commands, void* state) noexcept nogil


cdef class CompiledAgent(Agent):
    cdef StrategyCall on_call
    cdef readonly object owner          # keeps the machine code alive
    cdef readonly object state          # the array behind state_data
    cdef readonly object error          # what stopped the run, or None
    cdef void* state_data
    cdef StrategyView view
    cdef OrderCommand[COMPILED_COMMANDS] commands
    cdef uint32_t run_id
    cdef int64_t timer_ns
    cdef bint wants_features
    cdef bint wants_packets
    cdef bint asleep
    cdef bint closed
    cdef bint failed

    cdef void look(self) noexcept nogil
    cdef void call(self, uint8_t kind) noexcept nogil
    cdef bint complete(self, OrderCommand* command) noexcept nogil
    cdef void fail(self, int64_t code) noexcept nogil
    cdef void arm(self) noexcept nogil
    cdef void clear(self) noexcept nogil
