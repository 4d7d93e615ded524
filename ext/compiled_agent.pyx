"""The agent that calls a strategy compiled to machine code."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

import numpy as np

from ext.features cimport FEATURE_COUNT, features_fill
from ext.layout cimport (
    ACTION_CANCEL, ACTION_MASS_CANCEL, ACTION_NEW, ACTION_REPLACE, ExecutionReport, MarketEvent, OrderCommand,
)
from ext.order_id cimport order_leg, order_parent, pack_order_id
from ext.tick_path cimport Agent

cnp.import_array()

COMMANDS_MAX = COMPILED_COMMANDS
VIEW_DTYPE = np.dtype([
    ("now_ns", "<i8"), ("ts_ns", "<i8"), ("orders", "<u8"), ("position_lots", "<i8"),
    ("cash_ticklots", "<i8"), ("mid_x2", "<i8"), ("event_size_lots", "<i8"), ("order", "<u8"),
    ("report_size_lots", "<i8"), ("report_leaves_lots", "<i8"), ("best_bid_ticks", "<i4"),
    ("best_ask_ticks", "<i4"), ("event_price_ticks", "<i4"), ("report_price_ticks", "<i4"), ("call", "u1"),
    ("two_sided", "u1"), ("event_kind", "u1"), ("event_side", "i1"), ("venue", "u1"), ("report_kind", "u1"),
    ("report_reason", "u1"), ("report_side", "i1"), ("features", "<f4", (FEATURE_COUNT,)),
])
assert VIEW_DTYPE.itemsize == sizeof(StrategyView)

# As in ext/python_agent.pyx: silence this long stops the timer until the next event.
cdef int64_t SILENCE_NS = 600_000_000_000


cdef inline uint64_t order_number(uint64_t client_order_id) noexcept nogil:
    return <uint64_t>order_leg(client_order_id) << 24 | order_parent(client_order_id)


@cython.final
@cython.auto_pickle(False)
cdef class CompiledAgent(Agent):
    """Calls machine code; `engine.compiled.CompiledStrategy` makes one.

    Parameters
    ----------
    address : int
        Of a C function with the signature in `ext/compiled_agent.pxd`.
    owner : object
        Kept as long as the agent, so that the code stays.
    state : array
        One contiguous block that the function may read and write; it belongs to the strategy.
    run_id : int
        15 bits, of the client order ids.
    timer_ns : int
        Period of the timer, on the grid of its multiples; 0 for none.
    packets : bool
        Call at the end of every packet.
    features : bool
        Fill the view's features before each call.
    """

    def __init__(
        self, *, address, owner, cnp.ndarray state not None, uint32_t run_id, int64_t timer_ns=0,
        bint packets=True, bint features=False,
    ):
        if address == 0 or timer_ns < 0 or not (packets or timer_ns):
            raise ValueError("needs a function, and packets or a positive timer_ns to call it for")
        if not cnp.PyArray_ISCARRAY(state) or state.dtype.hasobject:
            raise ValueError(f"state must be a writable contiguous array of plain numbers, was {state.dtype}")
        self.on_call = <StrategyCall><uintptr_t>address
        self.owner = owner
        self.state = state
        self.state_data = cnp.PyArray_DATA(state)
        self.run_id = run_id
        self.timer_ns = timer_ns
        self.wants_packets = packets
        self.wants_features = features
        self.wants_events = True        # the first packet starts the timer
        self.asleep = True

    def set_relieve(self, relieve):
        """Accepted for the driver's sake: a call writes few commands, so no buffer fills up within one."""

    def close(self):
        """Note that the data has ended: from now on nothing is sent."""
        self.closed = True

    def stop(self):
        """Nothing is left to tell."""

    # Called by the loop.

    cdef void on_event(self, const MarketEvent* event) noexcept nogil:
        if self.asleep:
            self.arm()
        if not self.wants_packets:
            return
        self.clear()
        self.view.event_kind = event.kind
        self.view.event_side = event.side
        self.view.event_price_ticks = event.price_ticks
        self.view.event_size_lots = event.size_lots
        self.view.venue = event.venue_id
        self.call(CALL_EVENT)

    cdef void on_timer(self, uint64_t tag) noexcept nogil:
        if self.loop.stream_ns - self.loop.features.last_ts_ns > SILENCE_NS:
            self.asleep = True
            self.wants_events = True
            return
        self.arm()
        self.clear()
        self.call(CALL_TIMER)

    cdef void on_report(self, const ExecutionReport* report) noexcept nogil:
        self.clear()
        self.view.order = order_number(report.client_order_id)
        self.view.report_kind = report.kind
        self.view.report_reason = report.reason
        self.view.report_side = report.side
        self.view.report_size_lots = report.size_lots
        self.view.report_leaves_lots = report.leaves_lots
        self.view.report_price_ticks = report.price_ticks
        self.view.venue = report.venue_id
        self.call(CALL_REPORT)

    # The call.

    cdef void clear(self) noexcept nogil:
        """Forget what the last call was about."""
        self.view.event_kind = self.view.report_kind = self.view.report_reason = 0
        self.view.event_side = self.view.report_side = 0
        self.view.event_price_ticks = self.view.report_price_ticks = 0
        self.view.event_size_lots = self.view.report_size_lots = self.view.report_leaves_lots = 0
        self.view.order = self.view.venue = 0

    cdef void look(self) noexcept nogil:
        self.view.now_ns = self.loop.now_ns
        self.view.ts_ns = self.loop.stream_ns
        self.view.position_lots = self.loop.account.position_lots
        self.view.cash_ticklots = self.loop.account.cash_ticklots
        self.view.mid_x2 = self.loop.features.mid_x2
        self.view.best_bid_ticks = self.loop.features.best_bid_ticks
        self.view.best_ask_ticks = self.loop.features.best_ask_ticks
        self.view.two_sided = self.loop.features.two_sided
        if self.wants_features:
            features_fill(&self.loop.features, self.view.features)

    cdef void call(self, uint8_t kind) noexcept nogil:
        """Ask the strategy; complete, check and send what it wrote."""
        cdef int64_t count, place
        if self.failed:
            return
        self.look()
        self.view.call = kind
        memset(self.commands, 0, sizeof(self.commands))
        count = self.on_call(&self.view, self.commands, self.state_data)
        if count < 0 or count > COMPILED_COMMANDS:
            self.fail(count)
            return
        for place in range(count):
            if self.closed:
                return
            if not self.complete(&self.commands[place]):
                self.fail(place)
                return
            # A refusal is counted and journaled by the loop; a compiled strategy is not called for it.
            self.loop.send(&self.commands[place])
        self.loop.pending_model_ns = 0

    cdef bint complete(self, OrderCommand* command) noexcept nogil:
        """Turn the strategy's order number into a client order id; False for what is no command."""
        cdef uint64_t number = command.client_order_id
        if command.action == ACTION_NEW:
            self.view.orders += 1
            number = self.view.orders
        elif command.action == ACTION_MASS_CANCEL:
            return True
        elif (command.action != ACTION_CANCEL and command.action != ACTION_REPLACE) or number == 0:
            return False
        if number >> 40:
            return False
        command.client_order_id = pack_order_id(
            self.run_id, <uint32_t>(number & 0xFFFFFF), <uint32_t>(number >> 24), 0
        )
        return True

    cdef void fail(self, int64_t code) noexcept nogil:
        self.failed = True
        with gil:
            self.error = RuntimeError(
                f"a compiled strategy returns 0 to {COMPILED_COMMANDS} commands, each of a known action and "
                f"order; it failed with code {code} at {self.loop.now_ns} ns"
            )

    cdef void arm(self) noexcept nogil:
        """Schedule the next tick of the timer."""
        self.asleep = False
        self.wants_events = self.wants_packets
        if self.timer_ns > 0:
            self.loop.schedule((self.loop.now_ns // self.timer_ns + 1) * self.timer_ns, 0)
