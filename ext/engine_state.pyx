"""The state of a matching engine as Python sees it: made, looked at, checked, saved and restored."""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MIN, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from .layout cimport DEBUG_BUILD, ExecutionReport
from .match_memory cimport state_bytes, state_close, state_open, state_reserve
from .match_order cimport order_price, order_side
from .match_snapshot cimport (
    NO_MEMORY,
    SnapshotHeader,
    SnapshotOrder,
    header_fault,
    snapshot_read,
    snapshot_write,
)
from .match_state cimport MatchState, lots_left, state_find
from .match_verify cimport state_fault, state_hash, state_orders
from .order_book cimport require_side
from .price_index cimport price_of
from .resting_book cimport RestingBook, level_behind, level_find

from . import order_array

cnp.import_array()

cdef object report_dtype = order_array.REPORT_DTYPE

SELF_TRADE_MODES = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement")
PHASES = ("continuous", "halted", "auction")

cdef enum:
    # Commands that come one by one: pools may grow between so many.
    ROOM_COMMANDS = 64

cdef Py_ssize_t CAPACITY_MAX = 1 << 30


@cython.auto_pickle(False)
cdef class EngineState:
    """The orders of one instrument of one venue, and all that decides their future.

    `ext.matching_engine.MatchingEngine` adds the commands that change it.
    """

    def __cinit__(
        self, Py_ssize_t order_capacity=65_536, Py_ssize_t level_capacity=4_096, *,
        str self_trade="cancel_newest", int tick_size_ticks=1, int instrument_id=0, int venue_id=0,
    ):
        if not 0 < order_capacity <= CAPACITY_MAX:
            raise ValueError(f"order_capacity must be 1 to {CAPACITY_MAX}, was {order_capacity}")
        if not 0 < level_capacity <= CAPACITY_MAX:
            raise ValueError(f"level_capacity must be 1 to {CAPACITY_MAX}, was {level_capacity}")
        if self_trade not in SELF_TRADE_MODES:
            raise ValueError(f"self_trade must be one of {', '.join(SELF_TRADE_MODES)}, was {self_trade}")
        if tick_size_ticks < 1:
            raise ValueError(f"tick_size_ticks must be positive, was {tick_size_ticks}")
        if not 0 <= instrument_id < 1 << 16:
            raise ValueError(f"instrument_id must be 0 to 65,535, was {instrument_id}")
        if not 0 <= venue_id < 1 << 8:
            raise ValueError(f"venue_id must be 0 to 255, was {venue_id}")
        if not state_open(&self.state, order_capacity, level_capacity):
            raise MemoryError(f"no memory for {order_capacity} orders and {level_capacity} levels")
        self.state.now_ns = INT64_MIN
        self.state.band_low_ticks = INT32_MIN
        self.state.band_high_ticks = INT32_MAX
        self.state.tick_size_ticks = tick_size_ticks
        self.state.self_trade = SELF_TRADE_MODES.index(self_trade)
        self.state.instrument_id = instrument_id
        self.state.venue_id = venue_id
        self.state.origin = <uint64_t>instrument_id << 32 | <uint64_t>venue_id << 48

    def __dealloc__(self):
        state_close(&self.state)

    cdef int refuse_busy(self) except -1:
        if self.busy:
            raise RuntimeError("the engine is matching a batch in another thread")
        return 0

    cdef int enter(self) except -1:
        """Refuse a second thread, and begin an empty list of reports."""
        self.refuse_busy()
        if self.room == 0:
            if not state_reserve(&self.state, ROOM_COMMANDS):
                raise MemoryError(f"no memory for {ROOM_COMMANDS} more orders")
            self.room = ROOM_COMMANDS
        self.room -= 1
        self.state.report_count = 0
        return 0

    cdef object reports_taken(self):
        """Return the reports since `enter` as a new array."""
        cdef cnp.ndarray taken
        cdef uint64_t lost = self.state.reports_lost
        self.state.reports_lost = 0
        taken = np.empty(self.state.report_count, report_dtype)
        if self.state.report_count:
            memcpy(
                cnp.PyArray_DATA(taken), self.state.reports,
                self.state.report_count * sizeof(ExecutionReport),
            )
        if lost:
            raise MemoryError(f"no memory for {lost} reports; the book itself is right")
        if DEBUG_BUILD:
            self.verify()
        return taken

    @property
    def fill_hash(self):
        return self.state.fill_hash

    @property
    def fill_count(self):
        return self.state.fill_count

    @property
    def traded_lots(self):
        return self.state.traded_lots

    @property
    def now_ns(self):
        return self.state.now_ns

    @property
    def live_orders(self):
        """Orders in the books: displayed, hidden and stops."""
        return state_orders(&self.state)

    @property
    def memory_bytes(self):
        """What the pools, lists and tables take, used or not, but for the nodes of the price indexes."""
        return state_bytes(&self.state)

    def depth_array(self, int side, int count):
        """Return the best displayed levels of one side.

        Parameters
        ----------
        side : int
            +1 for bids, -1 for asks.
        count : int
            Levels wanted at most.

        Returns
        -------
        array of int64, shape (n, 2)
            Price in ticks and displayed lots, best first.
        """
        self.refuse_busy()
        cdef int own = require_side(side), rows = 0
        cdef RestingBook* book = &self.state.lit
        cdef uint32_t level = book.best[own]
        if count < 0:
            raise ValueError(f"count must not be negative, was {count}")
        found = np.empty((min(count, <int>book.level_count[own]), 2), np.int64)
        cdef int64_t[:, ::1] view = found
        while level and rows < count:
            view[rows, 0] = price_of(book.levels[level].rank, own)
            view[rows, 1] = book.levels[level].total_lots
            rows += 1
            level = level_behind(book, level)
        return found

    def queue_array(self, int side, int32_t price_ticks):
        """Return the displayed orders of one level, first to trade first.

        Returns
        -------
        array of uint64, shape (n, 2)
            Order id and the lots it shows.
        """
        self.refuse_busy()
        cdef RestingBook* book = &self.state.lit
        cdef uint32_t level = level_find(book, require_side(side), price_ticks)
        cdef uint32_t number = book.levels[level].first if level else 0
        rows = []
        while number:
            rows.append((book.orders[number].order_id, book.orders[number].size_lots))
            number = book.orders[number].next
        return np.array(rows, np.uint64).reshape(-1, 2)

    def order(self, uint64_t order_id):
        """Return a live order as ``{side, price_ticks, shown_lots, leaves_lots, hidden, stop}``, or None.

        ``price_ticks`` is the limit; ``leaves_lots`` includes the reserve.
        """
        self.refuse_busy()
        cdef uint32_t number
        cdef RestingBook* book = state_find(&self.state, order_id, &number)
        if book == NULL:
            return None
        return {
            "side": 1 - 2 * order_side(&self.state, book, number),
            "price_ticks": order_price(&self.state, book, number),
            "shown_lots": book.orders[number].size_lots if book == &self.state.lit else 0,
            "leaves_lots": lots_left(&self.state, &book.orders[number]),
            "hidden": book == &self.state.dark,
            "stop": book == &self.state.stops,
        }

    def state_hash(self):
        """Return 64 bits that identify every order in its place, the clock, the band and the phase.

        Two engines with the same state have the same hash however they came to it: counters, node
        numbers and capacities stay out of it.
        """
        self.refuse_busy()
        return state_hash(&self.state)

    def verify(self):
        """Check that every invariant holds; debug builds do so after each call.

        Raises
        ------
        AssertionError
            Naming the invariant: a bug of ours.
        """
        self.refuse_busy()
        cdef const char* fault = state_fault(&self.state)
        if fault != NULL:
            raise AssertionError(fault.decode())

    def snapshot(self):
        """Return the whole state as bytes: versioned, with a checksum, the same for the same state."""
        self.refuse_busy()
        cdef size_t size = sizeof(SnapshotHeader) + state_orders(&self.state) * sizeof(SnapshotOrder)
        cdef bytes block = PyBytes_FromStringAndSize(NULL, size)
        memset(PyBytes_AS_STRING(block), 0, size)
        snapshot_write(&self.state, <SnapshotHeader*>PyBytes_AS_STRING(block))
        return block

    def restore(self, bytes snapshot not None):
        """Become the engine a snapshot was taken of; on any error this one stays as it was.

        Raises
        ------
        ValueError
            The snapshot is damaged or of another version; names the rule and the order.
        MemoryError
            If there is not enough for its orders.
        """
        cdef MatchState fresh
        cdef uint64_t row = 0, size = PyBytes_GET_SIZE(snapshot)
        cdef cnp.ndarray copy
        cdef SnapshotHeader* header
        cdef const char* fault
        self.refuse_busy()
        if size < sizeof(SnapshotHeader):
            raise ValueError(f"snapshot: at least {sizeof(SnapshotHeader)} bytes, was {size}")
        copy = np.frombuffer(snapshot, np.uint8).copy()     # the checksum field is cleared on the way
        header = <SnapshotHeader*>cnp.PyArray_DATA(copy)
        fault = header_fault(header, size)
        if fault != NULL:
            raise ValueError(f"snapshot: expected that {fault.decode()}, was not so")
        memset(&fresh, 0, sizeof(MatchState))
        fault = NO_MEMORY
        if state_open(&fresh, self.state.lit.order_capacity, self.state.lit.level_capacity):
            fault = snapshot_read(&fresh, header, &row)
        if fault != NULL:
            state_close(&fresh)
            if fault == NO_MEMORY:
                raise MemoryError(f"no memory for a snapshot of {header.order_count} orders")
            raise ValueError(f"snapshot: order {row}: expected that {fault.decode()}, was not so")
        state_close(&self.state)
        self.state = fresh
        self.room = 0
