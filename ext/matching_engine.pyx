"""A price-time-priority matching engine for one instrument of one venue.

Commands go in as arrays, reports come out as arrays; in between nothing allocates and the GIL is free.
The rules stand in match_order.pxd and match_sweep.pxd; here are arguments and answers.
"""

import numpy as np

cimport cython
cimport numpy as cnp
from libc.stdint cimport (
    INT64_MIN,
    int8_t,
    int32_t,
    int64_t,
    uint8_t,
    uint32_t,
    uint64_t,
)
from libc.stdlib cimport free
from libc.string cimport memset

from .engine_state cimport EngineState
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
from .match_auction cimport auction_execute, auction_price
from .match_batch cimport batch_apply
from .match_change cimport mass_cancel
from .match_follow cimport clock_advance, settle, state_apply
from .match_memory cimport state_reserve
from .match_plain cimport command_name, state_is_plain
from .match_state cimport PHASE_AUCTION, PHASE_CONTINUOUS, PHASE_HALTED
from .match_verify cimport state_is_crossed
from .order_array cimport first_rows, orders_pointer, reports_pointer

from . import engine_state, order_array

cnp.import_array()

PHASES = engine_state.PHASES
SELF_TRADE_MODES = engine_state.SELF_TRADE_MODES
ORDER_DTYPE = order_array.ORDER_DTYPE
REPORT_DTYPE = order_array.REPORT_DTYPE

cdef enum:
    # Between chunks pools may grow, within one they never do.
    CHUNK_COMMANDS = 4096


@cython.final
@cython.auto_pickle(False)
cdef class MatchingEngine(EngineState):
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
    memory_bytes : int
        What the pools, lists and tables take, used or not, but for the nodes of the price indexes.
    """

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
        side = side if -1 <= side <= 1 else 0
        command_name(&command, ACTION_NEW, <int8_t>side, ORDER_LIMIT, time_in_force, flags)
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
        command_name(&command, ACTION_CANCEL, 0, 0, 0, 0)
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
        if state_is_plain(&self.state):
            batch_apply(&self.state, command, 1, NULL)
        else:
            state_apply(&self.state, command)
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

        Raises
        ------
        ValueError
            If the reference is no multiple of the tick size: the auction could execute there.
        """
        self.refuse_busy()
        if reference_ticks % self.state.tick_size_ticks:
            raise ValueError(f"the reference must be a multiple of the tick size, was {reference_ticks}")
        return auction_price(&self.state, reference_ticks)

    def uncross(self, int32_t reference_ticks, *, bint then_halt=False):
        """End the call auction at the price of `indicative`, and return the reports.

        Buyers' reports come before sellers'; self-trade prevention does not apply. Trading goes on
        continuously, or halts (the close).

        Raises
        ------
        ValueError
            If no auction is open, or the reference is no multiple of the tick size.
        """
        self.refuse_busy()
        if self.state.phase != PHASE_AUCTION:
            raise ValueError(f"only an auction uncrosses, was {self.phase}")
        found = self.indicative(reference_ticks)
        self.enter()
        if found is not None:
            auction_execute(&self.state, found[0])
        self.state.phase = PHASE_HALTED if then_halt else PHASE_CONTINUOUS
        settle(&self.state)
        return self.reports_taken()

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
