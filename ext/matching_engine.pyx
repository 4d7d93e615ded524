"""A price-time-priority matching engine for one instrument of one venue.

Commands go in as arrays, reports come out as arrays; in between nothing allocates and the GIL is free.
The rules stand in match_order.pxd and match_sweep.pxd; here are memory, arguments and Python.

Over 400 lines because one class speaks Python for all of them, and a third of it is documentation.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport (
    INT32_MAX,
    INT32_MIN,
    INT64_MIN,
    int8_t,
    int32_t,
    int64_t,
    uint8_t,
    uint32_t,
    uint64_t,
    uintptr_t,
)
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from .layout cimport (
    ACTION_CANCEL,
    ACTION_NEW,
    DEBUG_BUILD,
    ORDER_LIMIT,
    REASON_NONE,
    REASON_TIME,
    REASON_USER,
    REPORT_EXPIRED,
    REPORT_FILL,
    TIF_DAY,
    TIF_GTC,
    ExecutionReport,
    OrderCommand,
    cycle_stamp,
    monotonic_ns,
)
from .match_auction cimport auction_execute
from .match_batch cimport batch_apply, command_apply
from .match_change cimport mass_cancel
from .match_follow cimport clock_advance, settle
from .match_memory cimport state_close, state_open, state_reserve
from .match_order cimport order_price, order_side
from .match_plain cimport state_is_plain
from .match_snapshot cimport (
    SnapshotHeader,
    SnapshotOrder,
    header_fault,
    snapshot_read,
    snapshot_write,
    state_fault,
    state_hash,
    state_is_crossed,
    state_orders,
)
from .match_state cimport (
    PHASE_AUCTION,
    PHASE_CONTINUOUS,
    PHASE_HALTED,
    MatchState,
    is_refused,
    lots_left,
    state_find,
)
from .price_index cimport price_of
from .resting_book cimport ASK, BID, RestingBook, level_behind, level_find

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(
        type subtype, cnp.PyArray_Descr* dtype, int dimensions, cnp.npy_intp* shape, cnp.npy_intp* strides,
        void* data, int flags, PyObject* source,
    )

# The dtypes come from the C declarations, so the two cannot drift; a test compares them with the schema.
cdef OrderCommand[1] _order_layout
cdef ExecutionReport[1] _report_layout
ORDER_DTYPE = np.asarray(<OrderCommand[:1]>_order_layout).dtype
REPORT_DTYPE = np.asarray(<ExecutionReport[:1]>_report_layout).dtype

SELF_TRADE_MODES = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement")
PHASES = ("continuous", "halted", "auction")

cdef enum:
    # Between chunks pools may grow, within one they never do.
    CHUNK_COMMANDS = 4096
    # The same for commands that come one by one.
    ROOM_COMMANDS = 64

cdef Py_ssize_t CAPACITY_MAX = 1 << 30


# An equal dtype that is another object passes the slow comparison once; the reference keeps its
# address from being reused.
cdef object accepted_orders = ORDER_DTYPE
cdef object accepted_reports = REPORT_DTYPE


cdef void* records_pointer(cnp.ndarray records, str name) except? NULL:
    """Return the first record of an array whose dtype was accepted."""
    if cnp.PyArray_NDIM(records) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(records):
        shape, strides = (<object>records).shape, (<object>records).strides
        raise ValueError(f"{name} must be one contiguous run, was shape {shape}, strides {strides}")
    # A packed dtype has alignment 1 for numpy, so a view into a file can start anywhere.
    if <uintptr_t>cnp.PyArray_DATA(records) % sizeof(long long):
        raise ValueError(f"{name} must start at a multiple of 8 bytes")
    return cnp.PyArray_DATA(records)


cdef const OrderCommand* orders_pointer(cnp.ndarray orders) except? NULL:
    global accepted_orders
    cdef object dtype = <object>cnp.PyArray_DESCR(orders)
    if dtype is not accepted_orders:
        if dtype != ORDER_DTYPE:
            raise TypeError(f"orders must have ORDER_DTYPE, was {dtype}")
        accepted_orders = dtype
    return <const OrderCommand*>records_pointer(orders, "orders")


cdef ExecutionReport* reports_pointer(cnp.ndarray reports) except? NULL:
    global accepted_reports
    cdef object dtype = <object>cnp.PyArray_DESCR(reports)
    if dtype is not accepted_reports:
        if dtype != REPORT_DTYPE:
            raise TypeError(f"out must have REPORT_DTYPE, was {dtype}")
        accepted_reports = dtype
    if not cnp.PyArray_ISWRITEABLE(reports):
        raise ValueError("out must be writeable")
    return <ExecutionReport*>records_pointer(reports, "out")


cdef object first_rows(cnp.ndarray records, cnp.npy_intp count):
    """Return ``records[:count]``; made directly, since the general slice costs more than a command."""
    cdef cnp.ndarray rows
    Py_INCREF(<object>cnp.PyArray_DESCR(records))       # which the new array takes over
    rows = PyArray_NewFromDescr(
        cnp.ndarray, cnp.PyArray_DESCR(records), 1, &count, NULL, cnp.PyArray_DATA(records),
        cnp.NPY_ARRAY_CARRAY, <PyObject*>NULL,
    )
    cnp.set_array_base(rows, records)
    return rows


cdef int require_side(int side) except -1:
    if side == 1:
        return BID
    if side == -1:
        return ASK
    raise ValueError(f"side must be +1 for bids or -1 for asks, was {side}")


cdef int pressed(dict left, int reference_ticks) except? -1:
    """Return the auction's price of several that trade as much, by ascending price and lots left over."""
    cdef int price
    cdef int64_t low = INT32_MIN, high = INT32_MAX
    if min(left.values()) > 0:
        return max(left)
    if max(left.values()) < 0:
        return min(left)
    for price in left:
        if left[price] > 0:
            low = price
        elif left[price] < 0:
            high = min(high, <int64_t>price)
    return max([
        (-abs(price - <int64_t>reference_ticks), price) for price in left if low <= price <= high
    ])[1]


@cython.final
@cython.auto_pickle(False)
cdef class MatchingEngine:
    """A price-time-priority matching engine for one instrument of one venue.

    docs/MATCHING.md states every rule with its source. Refusals and endings are values of
    `data.schema.Reason`. One engine belongs to one thread at a time.

    Parameters
    ----------
    order_capacity, level_capacity : int
        Live orders and levels that fit without allocating. Beyond, the pools double between chunks of
        a batch.
    self_trade : {"cancel_newest", "cancel_oldest", "cancel_both", "decrement"}
        What happens instead of a trade between two orders of one owner; owner 0 is nobody.
    tick_size_ticks : int
        Resting prices are multiples of it.
    instrument_id, venue_id : int
        Written into reports.

    Attributes
    ----------
    fill_hash : int
        64 bits over every trade so far in order: maker, taker, lots and price.
    fill_count, traded_lots : int
        Trades so far, and their lots.
    now_ns : int
        The latest time a command carried.
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
        taken = np.empty(self.state.report_count, REPORT_DTYPE)
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

    def submit(self, cnp.ndarray orders not None, cnp.ndarray out=None):
        """Match commands in order, without the GIL, and return what happened.

        Parameters
        ----------
        orders : array of ORDER_DTYPE, shape (n,)
            NEW, CANCEL, REPLACE and MASS_CANCEL; instrument and venue are not looked at.
        out : array of REPORT_DTYPE, shape (m,), optional
            Takes the reports. Where they do not fit, a new array is returned instead.

        Returns
        -------
        array of REPORT_DTYPE, shape (n_reports,)
            In the order things happened; of each trade the maker's report before the taker's. A slice
            of `out` where that was given and long enough.

        Raises
        ------
        MemoryError
            If a pool could not grow: the message says how many commands were matched.
        """
        cdef const OrderCommand* first = orders_pointer(orders)
        cdef ExecutionReport* given = reports_pointer(out) if out is not None else NULL
        cdef Py_ssize_t count = cnp.PyArray_SIZE(orders), done = 0, chunk
        cdef bint roomy = True, lent = False
        self.enter()
        cdef ExecutionReport* own = self.state.reports
        cdef uint64_t own_capacity = self.state.report_capacity
        if given != NULL and cnp.PyArray_SIZE(out) >= count + count // 2:
            lent = True
            self.state.reports = given
            self.state.report_capacity = cnp.PyArray_SIZE(out)
            self.state.reports_owned = False
        self.busy = True
        self.room = 0
        with nogil:
            while done < count:
                chunk = min(count - done, <Py_ssize_t>CHUNK_COMMANDS)
                roomy = state_reserve(&self.state, chunk)
                if not roomy:
                    break
                batch_apply(&self.state, first + done, chunk, NULL)
                done += chunk
        self.busy = False
        if lent:
            if self.state.reports_owned:        # outgrown: the batch went on in a block of the engine's
                free(own)
            else:
                self.state.reports = own
                self.state.report_capacity = own_capacity
                self.state.reports_owned = True
        if not roomy:
            if lent and self.state.reports == own:
                self.state.report_count = 0     # the reports made so far are in `out` alone
            raise MemoryError(f"no memory to go on after {done} of {count} commands")
        if lent and self.state.reports == own:
            if DEBUG_BUILD:
                self.verify()
            taken = first_rows(out, self.state.report_count)
            self.state.report_count = 0         # last_reports has only what the engine keeps
            return taken
        return self.reports_taken()

    def limit(
        self, uint64_t order_id, int side, int32_t price_ticks, int64_t size_lots, *,
        uint32_t owner=0, uint8_t time_in_force=TIF_GTC, uint8_t flags=0, int64_t ts_ns=INT64_MIN,
    ):
        """Match one new limit order, as `submit` would, without arrays.

        Parameters
        ----------
        order_id, side, price_ticks, size_lots, owner, time_in_force, flags, ts_ns
            As the fields of ORDER_DTYPE; the clock never goes back, so by default it stands.

        Returns
        -------
        (int, int, int)
            Lots traded at once, lots that rest now, and the `Reason` of a refusal or of what was
            cancelled. `last_reports` tells the rest.

        Examples
        --------
        >>> engine = MatchingEngine()
        >>> engine.limit(1, +1, 100, 5)
        (0, 5, 0)
        >>> engine.limit(2, -1, 99, 3)
        (3, 0, 0)
        >>> engine.cancel(1)
        2
        """
        cdef OrderCommand command
        cdef const ExecutionReport* answer
        cdef int64_t traded_lots = 0, leaves_lots = 0
        cdef uint8_t reason = REASON_NONE
        cdef uint64_t row
        memset(&command, 0, sizeof(command))
        command.client_order_id = order_id
        command.ts_ns = ts_ns
        command.size_lots = size_lots
        command.price_ticks = price_ticks
        command.owner = owner
        command.action = ACTION_NEW
        command.side = <int8_t>(side if -1 <= side <= 1 else 0)
        command.order_type = ORDER_LIMIT
        command.time_in_force = time_in_force
        command.flags = flags
        self.apply_one(&command)
        for row in range(self.state.report_count):
            answer = &self.state.reports[row]
            if answer.client_order_id == order_id:
                leaves_lots = answer.leaves_lots
                if answer.kind == REPORT_FILL:
                    traded_lots += answer.size_lots
                elif answer.reason:
                    reason = answer.reason
        return traded_lots, leaves_lots, reason

    def cancel(self, uint64_t order_id, *, int64_t ts_ns=INT64_MIN):
        """Cancel one order, as `submit` would, without arrays; return its lots, or 0 if it was not live."""
        cdef OrderCommand command
        cdef const ExecutionReport* answer
        cdef uint64_t row
        memset(&command, 0, sizeof(command))
        command.client_order_id = order_id
        command.ts_ns = ts_ns
        command.action = ACTION_CANCEL
        self.apply_one(&command)
        for row in range(self.state.report_count):
            answer = &self.state.reports[row]
            if answer.client_order_id == order_id and answer.reason == REASON_USER:
                return answer.size_lots
        return 0

    def last_reports(self):
        """Return the reports of the last call as a new array; of a `submit` into a given array, none."""
        self.refuse_busy()
        return self.reports_taken()

    cdef int apply_one(self, const OrderCommand* command) except -1:
        self.enter()
        command_apply(&self.state, command, state_is_plain(&self.state))
        if self.state.reports_lost:
            self.reports_taken()
        if DEBUG_BUILD:
            self.verify()
        return 0

    def time_commands(self, cnp.ndarray orders not None):
        """Match commands as `submit` does, drop the reports, and return what each took, for benchmarks.

        A command's time runs from the end of the one before it, so fetching ahead and a reading of the
        processor's clock are in every figure, and the figures sum up to the whole.

        Returns
        -------
        array of float64, shape (n,)
            Nanoseconds.
        """
        cdef const OrderCommand* first = orders_pointer(orders)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(orders), done = 0, chunk
        stamps = np.zeros(count + 1, np.uint64)
        cdef uint64_t[::1] stamp = stamps
        cdef int64_t begun_ns, ended_ns
        self.enter()
        self.room = 0
        begun_ns = monotonic_ns()
        stamp[0] = cycle_stamp()
        while done < count:
            chunk = min(count - done, <Py_ssize_t>CHUNK_COMMANDS)
            self.state.report_count = 0
            if not state_reserve(&self.state, chunk):
                raise MemoryError(f"no memory to go on after {done} of {count} commands")
            batch_apply(&self.state, first + done, chunk, &stamp[done + 1])
            done += chunk
        ended_ns = monotonic_ns()
        stamps -= stamps[0]
        return np.diff(stamps) * (<double>(ended_ns - begun_ns) / max(int(stamps[count]), 1))

    def advance(self, int64_t ts_ns):
        """Let time pass: orders whose expiry has come end. Return their reports."""
        self.enter()
        clock_advance(&self.state, ts_ns)
        settle(&self.state)
        return self.reports_taken()

    def end_day(self):
        """End every DAY order, displayed before hidden before stops. Return their reports."""
        self.enter()
        mass_cancel(&self.state, 3, 0, TIF_DAY, REPORT_EXPIRED, REASON_TIME)
        settle(&self.state)
        return self.reports_taken()

    @property
    def phase(self):
        """What the venue does with orders: ``continuous``, ``halted`` or ``auction``."""
        return PHASES[self.state.phase]

    def halt(self):
        """Refuse new orders and replaces from now on; cancels go through."""
        self.enter()
        self.state.phase = PHASE_HALTED

    def resume(self):
        """Go back from a halt to continuous trading; stops trigger, pegs move. Return the reports.

        Raises
        ------
        ValueError
            If the engine is not halted, or an auction left the book crossed: `uncross` opens it.
        """
        self.refuse_busy()
        if self.state.phase != PHASE_HALTED:
            raise ValueError(f"only a halted engine resumes, was {self.phase}")
        if state_is_crossed(&self.state):
            raise ValueError("a crossed book opens by open_auction and uncross")
        self.enter()
        self.state.phase = PHASE_CONTINUOUS
        settle(&self.state)
        return self.reports_taken()

    def open_auction(self):
        """Collect orders without matching from now on, until `uncross`."""
        self.enter()
        self.state.phase = PHASE_AUCTION

    def indicative(self, int32_t reference_ticks):
        """Return what an auction would execute now.

        The price at which most lots trade; of several the one with the smallest imbalance; of several the
        highest where buyers are left over at each, the lowest where sellers are; else of those between
        the two kinds the one nearest `reference_ticks`. Prices of orders, and the reference, are
        considered. Orders that demand a minimum take no part.

        Returns
        -------
        (int, int, int) or None
            Price, lots, and the lots left over there (positive: of buyers). None: nothing would trade.
        """
        self.refuse_busy()
        buys, sells = self.interest(BID), self.interest(ASK)
        demand, supply = sum(lots for _, lots in buys), 0
        place_buy = place_sell = 0
        best = {}
        most = over = 0
        # Ascending, so that demand only falls and supply only grows.
        for price in sorted({reference_ticks, *(price for price, _ in buys), *(price for price, _ in sells)}):
            while place_buy < len(buys) and buys[place_buy][0] < price:
                demand -= buys[place_buy][1]
                place_buy += 1
            while place_sell < len(sells) and sells[place_sell][0] <= price:
                supply += sells[place_sell][1]
                place_sell += 1
            lots, left = min(demand, supply), demand - supply
            if lots > most or (lots == most and abs(left) < over):
                best, most, over = {}, lots, abs(left)
            if lots == most and abs(left) == over:
                best[price] = left
        if most == 0:
            return None
        price = pressed(best, reference_ticks)
        return price, most, best[price]

    def uncross(self, int32_t reference_ticks, *, bint then_halt=False):
        """End the call auction at the price of `indicative`, and return the reports.

        Buyers' reports come before sellers'; self-trade prevention does not apply. Trading goes on
        continuously, or halts (the close).

        Raises
        ------
        ValueError
            If no auction is open.
        """
        self.refuse_busy()
        if self.state.phase != PHASE_AUCTION:
            raise ValueError(f"only an auction uncrosses, was {self.phase}")
        if reference_ticks % self.state.tick_size_ticks:
            raise ValueError(f"the reference must be a multiple of the tick size, was {reference_ticks}")
        found = self.indicative(reference_ticks)
        self.enter()
        if found is not None:
            auction_execute(&self.state, found[0])
        self.state.phase = PHASE_HALTED if then_halt else PHASE_CONTINUOUS
        settle(&self.state)
        return self.reports_taken()

    cdef list interest(self, int side):
        """Return (price, lots with hidden and reserve) of one side, ascending by price."""
        cdef RestingBook* book
        cdef uint32_t level, number
        cdef int place
        found = []
        for place in range(2):
            book = &self.state.dark if place else &self.state.lit
            level = book.best[side]
            while level:
                lots = 0
                number = book.levels[level].first
                while number:
                    if not place or not is_refused(&self.state, &book.orders[number], 0):
                        lots += lots_left(&self.state, &book.orders[number])
                    number = book.orders[number].next
                found.append((price_of(book.levels[level].rank, side), lots))
                level = level_behind(book, level)
        found.sort()
        return found

    @property
    def price_band(self):
        """Lowest and highest price an order may have, in ticks."""
        return self.state.band_low_ticks, self.state.band_high_ticks

    def set_price_band(self, int32_t low_ticks, int32_t high_ticks):
        """Refuse prices outside [low, high] from now on; what rests there stays."""
        if low_ticks > high_ticks:
            raise ValueError(f"the band must not be empty, was {low_ticks} to {high_ticks}")
        self.enter()
        self.state.band_low_ticks = low_ticks
        self.state.band_high_ticks = high_ticks

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
        self.enter()
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
        """
        cdef MatchState fresh
        cdef uint64_t row = 0, size = PyBytes_GET_SIZE(snapshot)
        cdef cnp.ndarray copy
        cdef SnapshotHeader* header
        cdef const char* fault
        self.enter()
        if size < sizeof(SnapshotHeader):
            raise ValueError(f"snapshot: at least {sizeof(SnapshotHeader)} bytes, was {size}")
        copy = np.frombuffer(snapshot, np.uint8).copy()     # the checksum field is cleared on the way
        header = <SnapshotHeader*>cnp.PyArray_DATA(copy)
        fault = header_fault(header, size)
        if fault != NULL:
            raise ValueError(f"snapshot: expected that {fault.decode()}, was not so")
        memset(&fresh, 0, sizeof(MatchState))
        fault = "it fits in memory"
        if state_open(&fresh, self.state.lit.order_capacity, self.state.lit.level_capacity):
            fault = snapshot_read(&fresh, header, &row)
        if fault != NULL:
            state_close(&fresh)
            raise ValueError(f"snapshot: order {row}: expected that {fault.decode()}, was not so")
        state_close(&self.state)
        self.state = fresh
        self.room = 0
