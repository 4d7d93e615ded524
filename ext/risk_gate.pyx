"""The risk gate: order size, price collar, notional, worst-case position, message rate, kill switch.

Every refusal is a Reason, counted. Checks run from the cheapest to the one that must come last: the
message rate, so that a refused order charges nothing. Cancels are never refused, they only charge.
Positions and open exposure belong to an instrument and span its venues.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free

from ext.layout cimport (
    ACTION_CANCEL,
    ACTION_MASS_CANCEL,
    ACTION_REPLACE,
    DEBUG_BUILD,
    ORDER_LIMIT,
    ORDER_PEG_PRIMARY,
    REASON_CAPACITY,
    REASON_DUPLICATE_ID,
    REASON_NONE,
    REASON_RISK_KILLED,
    REASON_RISK_MESSAGE_RATE,
    REASON_RISK_NOTIONAL,
    REASON_RISK_ORDER_SIZE,
    REASON_RISK_POSITION,
    REASON_RISK_PRICE_COLLAR,
    REASON_UNKNOWN_ORDER,
    REPORT_ACCEPTED,
    REPORT_FILL,
    ExecutionReport,
    OrderCommand,
    check,
    load_acquire,
    store_release,
)

import numpy as np

cnp.import_array()

cdef int64_t SECOND_NS = 1_000_000_000

# The dtypes come from the C declarations, so the two cannot drift.
cdef OrderCommand[1] _order_layout
cdef ExecutionReport[1] _report_layout
cdef object ORDER_DTYPE = np.asarray(<OrderCommand[:1]>_order_layout).dtype
cdef object REPORT_DTYPE = np.asarray(<ExecutionReport[:1]>_report_layout).dtype


@cython.final
@cython.auto_pickle(False)
cdef class RiskGate:
    """Limits, positions and open exposure of up to eight instruments.

    Parameters
    ----------
    order_size_lots_max : int
        Of one order.
    price_band_ticks : int
        Farthest a limit may lie from the reference mid, either way.
    position_lots_max : int
        Of one instrument, long or short, if every open order of that side filled.
    messages_per_second_max : int
        New orders, replaces and cancels in any window of one second.
    order_capacity : int
        Open orders at once, all instruments together.
    """

    def __cinit__(
        self,
        *,
        int64_t order_size_lots_max,
        int64_t price_band_ticks,
        int64_t position_lots_max,
        int64_t messages_per_second_max,
        uint64_t order_capacity=4096,
    ):
        for name, limit, largest in (
            ("order_size_lots_max", order_size_lots_max, LOTS_BOUND),
            ("price_band_ticks", price_band_ticks, MID_X2_BOUND),
            ("position_lots_max", position_lots_max, LOTS_BOUND),
            ("messages_per_second_max", messages_per_second_max, 1 << 20),
            ("order_capacity", order_capacity, 1 << 20),
        ):
            if not 1 <= limit <= largest:
                raise ValueError(f"{name} must be from 1 to {largest}, was {limit}")
        self.order_size_lots_max = order_size_lots_max
        self.price_band_ticks = price_band_ticks
        self.position_lots_max = position_lots_max
        self.messages_per_second_max = messages_per_second_max
        self.order_capacity = order_capacity
        self.clock_ns = INT64_MIN
        # At most half full, so that a probe ends after a few places.
        self.order_mask = (1 << (2 * order_capacity - 1).bit_length()) - 1
        self.orders = <OpenOrder*>calloc(self.order_mask + 1, sizeof(OpenOrder))
        self.sent_ns = <int64_t*>calloc(messages_per_second_max, sizeof(int64_t))
        if self.orders == NULL or self.sent_ns == NULL:
            raise MemoryError("no memory for the risk gate's tables")

    def __dealloc__(self):
        free(self.orders)
        free(self.sent_ns)

    def add_instrument(
        self, uint16_t instrument_id, *, int64_t notional_lot_ticks_max, bint inverse=False
    ):
        """Admit orders of one instrument; those of any other are refused.

        Parameters
        ----------
        instrument_id : int
        notional_lot_ticks_max : int
            Largest size x |price| of one order, in lots x ticks (in lots where `inverse`).
        inverse : bool
            A contract of fixed currency value, whatever its price.
        """
        if self.instrument_count == INSTRUMENT_MAX:
            raise ValueError(f"a risk gate holds {INSTRUMENT_MAX} instruments, was one more")
        if self.instrument_index(instrument_id) >= 0:
            raise ValueError(f"an instrument is added once, was {instrument_id} again")
        if not 1 <= notional_lot_ticks_max <= LOTS_BOUND:
            raise ValueError(
                f"notional_lot_ticks_max must be from 1 to {LOTS_BOUND}, was {notional_lot_ticks_max}"
            )
        cdef RiskInstrument* instrument = &self.instruments[self.instrument_count]
        instrument.instrument_id = instrument_id
        instrument.notional_lot_ticks_max = notional_lot_ticks_max
        instrument.inverse = inverse
        self.instrument_count += 1

    cdef uint8_t risk_check(
        self, const OrderCommand* order, int64_t reference_mid_x2, int64_t now_ns
    ) noexcept nogil:
        cdef uint8_t reason
        if order.action == ACTION_CANCEL or order.action == ACTION_MASS_CANCEL:
            self.charge_message(now_ns)
            return REASON_NONE
        reason = self.judge(order, reference_mid_x2, now_ns)
        if reason == REASON_NONE:
            self.charge_message(now_ns)
        else:
            self.refused[reason] += 1
        return reason

    cdef uint8_t judge(
        self, const OrderCommand* order, int64_t reference_mid_x2, int64_t now_ns
    ) noexcept nogil:
        cdef int index = self.instrument_index(order.instrument_id)
        cdef RiskInstrument* instrument
        cdef OpenOrder* known
        cdef int64_t valuation, exposed, added
        if load_acquire(&self.is_killed):
            return REASON_RISK_KILLED
        if not 1 <= order.size_lots <= self.order_size_lots_max:
            return REASON_RISK_ORDER_SIZE
        # Without a reference neither collar nor value can be computed: refused, never waved through.
        if magnitude(bounded(reference_mid_x2)) > MID_X2_BOUND:
            return REASON_RISK_PRICE_COLLAR
        if not ORDER_LIMIT <= order.order_type <= ORDER_PEG_PRIMARY:
            return REASON_RISK_PRICE_COLLAR
        if collar_distance_x2(order, reference_mid_x2) > 2 * self.price_band_ticks:
            return REASON_RISK_PRICE_COLLAR
        if index < 0:
            return REASON_RISK_NOTIONAL
        instrument = &self.instruments[index]
        valuation = 2 if instrument.inverse else valuation_x2(order, reference_mid_x2)
        # size x valuation <= 2 x limit, by division so that it cannot wrap.
        if valuation > 0 and order.size_lots > 2 * instrument.notional_lot_ticks_max // valuation:
            return REASON_RISK_NOTIONAL
        if order.side != 1 and order.side != -1:
            return REASON_RISK_POSITION
        added = order.size_lots
        known = self.place_of(order.client_order_id)
        if known.client_order_id != 0:
            if known.instrument_index != index or known.side != order.side:
                return REASON_UNKNOWN_ORDER
            # A resend adds nothing, a replace only what it asks beyond what is open.
            added = max(0, order.size_lots - exposure_of(known))
        elif order.action == ACTION_REPLACE or order.client_order_id == 0:
            return REASON_UNKNOWN_ORDER
        elif self.order_count == self.order_capacity:
            return REASON_CAPACITY
        exposed = order.side * instrument.position_lots + instrument.open_lots[order.side < 0]
        if added > 0 and added > self.position_lots_max - exposed:
            return REASON_RISK_POSITION
        if not self.message_fits(now_ns):
            return REASON_RISK_MESSAGE_RATE
        return REASON_NONE

    cdef void risk_on_sent(self, const OrderCommand* order) noexcept nogil:
        cdef int index = self.instrument_index(order.instrument_id)
        cdef OpenOrder* known
        if order.action == ACTION_CANCEL or order.action == ACTION_MASS_CANCEL:
            return
        known = self.place_of(order.client_order_id)
        if known.client_order_id == 0:
            check(index >= 0 and self.order_count < self.order_capacity, "only a checked order is sent")
            if index < 0 or self.order_count == self.order_capacity or order.client_order_id == 0:
                return
            known.client_order_id = order.client_order_id
            known.instrument_index = <uint8_t>index
            known.side = order.side
            known.accepted = False
            known.replaces_pending = 0
            known.leaves_lots = known.target_lots = 0
            self.order_count += 1
            self.resize(known, order.size_lots, 0)
        elif order.action == ACTION_REPLACE:
            known.replaces_pending += 1
            self.resize(known, known.leaves_lots, max(known.target_lots, order.size_lots))
        check(not DEBUG_BUILD or self.conserves_exposure(), "open exposure is the sum of the open orders")

    cdef void risk_on_report(self, const ExecutionReport* report) noexcept nogil:
        cdef OpenOrder* known = self.place_of(report.client_order_id)
        cdef int index = self.instrument_index(report.instrument_id)
        cdef int64_t leaves, target
        if report.kind == REPORT_FILL and index >= 0:
            # A fill is a fact, whether or not its order is still known.
            self.instruments[index].position_lots = bounded(
                self.instruments[index].position_lots + report.side * bounded(report.size_lots)
            )
        if known.client_order_id == 0:
            self.unknown_reports += 1
            return
        target = known.target_lots
        if report.kind == REPORT_ACCEPTED:
            # The first one acknowledges the order, later ones its replaces, unless they answer a
            # resend. A refused replace keeps its target until the order ends: too careful, never bold.
            if known.accepted and known.replaces_pending > 0 and report.reason != REASON_DUPLICATE_ID:
                known.replaces_pending -= 1
                if known.replaces_pending == 0:
                    target = 0
            known.accepted = True
        leaves = min(max(report.leaves_lots, 0), exposure_of(known))
        if leaves == 0:
            self.resize(known, 0, 0)
            self.remove(known)
        else:
            self.resize(known, leaves, target)
        check(not DEBUG_BUILD or self.conserves_exposure(), "open exposure is the sum of the open orders")

    cdef bint message_fits(self, int64_t now_ns) noexcept nogil:
        cdef uint64_t limit = <uint64_t>self.messages_per_second_max
        cdef int64_t oldest_ns
        if self.message_count < limit:
            return True
        oldest_ns = self.sent_ns[self.message_count % limit]
        # Unsigned, because the distance of two instants may exceed an int64.
        return <uint64_t>max(now_ns, self.clock_ns) - <uint64_t>oldest_ns >= <uint64_t>SECOND_NS

    cdef void charge_message(self, int64_t now_ns) noexcept nogil:
        self.clock_ns = max(now_ns, self.clock_ns)
        self.sent_ns[self.message_count % <uint64_t>self.messages_per_second_max] = self.clock_ns
        self.message_count += 1

    cdef int instrument_index(self, uint16_t instrument_id) noexcept nogil:
        cdef int index
        for index in range(self.instrument_count):
            if self.instruments[index].instrument_id == instrument_id:
                return index
        return -1

    cdef OpenOrder* place_of(self, uint64_t client_order_id) noexcept nogil:
        """Return the order's place, or the empty one where it would go."""
        cdef uint64_t place = home_of(client_order_id) & self.order_mask
        while self.orders[place].client_order_id not in (0, client_order_id):
            place = (place + 1) & self.order_mask
        return &self.orders[place]

    cdef void remove(self, OpenOrder* order) noexcept nogil:
        """Empty a place and move later ones of its run up, so that no probe meets a false end."""
        cdef uint64_t hole = <uint64_t>(order - self.orders), place = hole, home
        while True:
            place = (place + 1) & self.order_mask
            if self.orders[place].client_order_id == 0:
                break
            home = home_of(self.orders[place].client_order_id) & self.order_mask
            # The entry may fill the hole unless its home lies behind it, cyclically.
            if ((place - home) & self.order_mask) >= ((place - hole) & self.order_mask):
                self.orders[hole] = self.orders[place]
                hole = place
        self.orders[hole].client_order_id = 0
        self.order_count -= 1

    cdef void resize(self, OpenOrder* order, int64_t leaves_lots, int64_t target_lots) noexcept nogil:
        """Set what may still fill; the only writer of an instrument's open exposure."""
        cdef int64_t before = exposure_of(order)
        order.leaves_lots = bounded(leaves_lots)
        order.target_lots = bounded(target_lots)
        self.instruments[order.instrument_index].open_lots[order.side < 0] += exposure_of(order) - before

    cdef bint conserves_exposure(self) noexcept nogil:
        cdef int64_t[2][INSTRUMENT_MAX] total
        cdef OpenOrder* order
        cdef uint64_t place
        cdef int index, side
        for side in range(2):
            for index in range(INSTRUMENT_MAX):
                total[side][index] = 0
        for place in range(self.order_mask + 1):
            order = &self.orders[place]
            if order.client_order_id != 0:
                total[order.side < 0][order.instrument_index] += exposure_of(order)
        for side in range(2):
            for index in range(self.instrument_count):
                if total[side][index] != self.instruments[index].open_lots[side]:
                    return False
        return True

    def check(self, orders, *, int64_t now_ns, reference_mid_x2=None):
        """Judge orders one after the other and charge the messages of those that pass.

        Parameters
        ----------
        orders : array or scalar of ORDER_DTYPE
        now_ns : int
        reference_mid_x2 : int, optional
            Bid + ask in ticks; None refuses whatever needs a reference.

        Returns
        -------
        array of uint8, shape (n_orders,)
            A Reason each; 0 passes.
        """
        cdef cnp.ndarray source = _records(orders, ORDER_DTYPE)
        cdef const OrderCommand* order = <const OrderCommand*>cnp.PyArray_DATA(source)
        cdef int64_t mid_x2 = INT64_MIN if reference_mid_x2 is None else reference_mid_x2
        cdef Py_ssize_t index, count = cnp.PyArray_SIZE(source)
        cdef uint8_t[::1] reasons = np.empty(count, dtype=np.uint8)
        with nogil:
            for index in range(count):
                reasons[index] = self.risk_check(&order[index], mid_x2, now_ns)
        return np.asarray(reasons)

    def on_sent(self, orders):
        """Add orders that passed `check` to the open exposure."""
        cdef cnp.ndarray source = _records(orders, ORDER_DTYPE)
        cdef const OrderCommand* order = <const OrderCommand*>cnp.PyArray_DATA(source)
        cdef Py_ssize_t index
        for index in range(cnp.PyArray_SIZE(source)):
            self.risk_on_sent(&order[index])

    def on_report(self, reports):
        """Apply reports (array or scalar of REPORT_DTYPE) in order of receipt."""
        cdef cnp.ndarray source = _records(reports, REPORT_DTYPE)
        cdef const ExecutionReport* report = <const ExecutionReport*>cnp.PyArray_DATA(source)
        cdef Py_ssize_t index
        for index in range(cnp.PyArray_SIZE(source)):
            self.risk_on_report(&report[index])

    def kill(self):
        """Refuse new orders and replaces from now on; any thread."""
        store_release(&self.is_killed, 1)

    def revive(self):
        """Undo `kill`."""
        store_release(&self.is_killed, 0)

    @property
    def killed(self):
        return load_acquire(&self.is_killed) != 0

    @property
    def open_orders(self):
        """Orders that may still fill."""
        return self.order_count

    @property
    def refusals(self):
        """Count of refused orders by Reason value, those that occurred."""
        return {reason: self.refused[reason] for reason in range(REASON_COUNT) if self.refused[reason]}

    def position(self, uint16_t instrument_id):
        """Return the position in lots, over all venues."""
        return require_instrument(self, instrument_id).position_lots

    def open_buy(self, uint16_t instrument_id):
        """Return the lots that open buys may still fill."""
        return require_instrument(self, instrument_id).open_lots[0]

    def open_sell(self, uint16_t instrument_id):
        """Return the lots that open sells may still fill."""
        return require_instrument(self, instrument_id).open_lots[1]

cdef cnp.ndarray _records(object records, object dtype):
    array = np.ascontiguousarray(records)
    if array.dtype != dtype:
        raise TypeError(f"records must have the dtype {dtype}, was {array.dtype}")
    return array


cdef RiskInstrument* require_instrument(RiskGate gate, uint16_t instrument_id) except NULL:
    cdef int index = gate.instrument_index(instrument_id)
    if index < 0:
        raise KeyError(f"instrument {instrument_id} was never added")
    return &gate.instruments[index]
