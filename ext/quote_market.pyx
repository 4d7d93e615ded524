"""Several venues' quotes around one price path.

A row of the path (time, bid, ask) becomes one two-sided QUOTE event per venue. Each venue has its own
spread, a slowly wandering skew, sizes, a publication lag and a chance to be stale, that is to repeat
its previous prices. Every draw is a pure function of (seed, row, venue), so the events do not depend
on how the path was cut into blocks. Arithmetic is integer throughout.

Nothing here looks ahead: a venue's quote depends on the current and earlier rows only.
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int8_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

from ext.layout cimport EVENT_QUOTE, FLAG_LAST_IN_PACKET, MarketEvent, QuoteView, RECV_NOT_RECORDED
from ext.rng cimport draw64

cnp.import_array()

cdef enum:
    VENUE_MAX = 16
    SIZE_STEPS = 256

SIZE_TABLE_STEPS = SIZE_STEPS


cdef struct VenueQuoting:
    int32_t spread_q8          # venue half spread / path half spread, in 1/256
    int32_t spread_noise_q8    # uniform extra half spread, up to this share of the path's
    int32_t skew_q8            # size of the wandering skew, as a share of the path half spread
    uint32_t stale_q16         # chance to repeat the previous prices, in 1/65536
    int32_t lag_ns             # publication lag
    int32_t lag_jitter_ns
    int32_t pressure_q8        # how far order-flow pressure tilts displayed sizes
    int32_t skew_state_q16     # wandering skew now, in 1/65536 of its size
    int32_t bid_ticks          # last quote, for stale repeats
    int32_t ask_ticks
    bint quoted
    int32_t[SIZE_STEPS] sizes  # quantiles of the displayed size, lots


@cython.final
@cython.auto_pickle(False)
cdef class QuoteMarket:
    """Generator of venue quotes around a price path.

    Parameters
    ----------
    venues : sequence of mapping
        Per venue: ``spread``, ``spread_noise``, ``skew`` (ratios of the path's half spread),
        ``stale`` (probability), ``lag_ns``, ``lag_jitter_ns``, ``pressure`` (0 to 1) and
        ``size_quantiles`` (int array of 256, lots).
    seed : int
    instrument_id : int

    Notes
    -----
    Events leave in time order; where a lag would put an event before one already published, it is
    held back to that instant.
    """

    cdef VenueQuoting* venues       # owned
    cdef readonly int venue_count
    cdef readonly uint64_t seed
    cdef readonly uint64_t rows
    cdef uint16_t instrument_id
    cdef int64_t last_ts_ns

    def __cinit__(self, venues, *, uint64_t seed, int instrument_id=0):
        cdef int index, step
        cdef VenueQuoting* venue
        if not 1 <= len(venues) <= VENUE_MAX:
            raise ValueError(f"a market has 1 to {VENUE_MAX} venues, was {len(venues)}")
        self.venue_count = <int>len(venues)
        self.seed = seed
        self.rows = 0
        self.instrument_id = instrument_id
        self.last_ts_ns = -0x7FFFFFFFFFFFFFFF
        self.venues = <VenueQuoting*>calloc(self.venue_count, sizeof(VenueQuoting))
        if self.venues == NULL:
            raise MemoryError("QuoteMarket")
        for index, given in enumerate(venues):
            venue = &self.venues[index]
            venue.spread_q8 = round(given["spread"] * 256)
            venue.spread_noise_q8 = round(given["spread_noise"] * 256)
            venue.skew_q8 = round(given["skew"] * 256)
            venue.stale_q16 = round(given["stale"] * 65536)
            venue.lag_ns = given["lag_ns"]
            venue.lag_jitter_ns = given["lag_jitter_ns"]
            venue.pressure_q8 = round(given["pressure"] * 256)
            sizes = np.asarray(given["size_quantiles"])
            if sizes.shape != (SIZE_STEPS,) or (sizes < 1).any() or (sizes > 1 << 30).any():
                raise ValueError(f"size_quantiles must be {SIZE_STEPS} sizes of at least one lot")
            if venue.lag_ns < 0 or venue.lag_jitter_ns < 0:
                raise ValueError("lags must not be negative")
            for step in range(SIZE_STEPS):
                venue.sizes[step] = sizes[step]

    def __dealloc__(self):
        free(self.venues)

    cdef void quote(
        self, int index, uint64_t row, int64_t ts_ns, int32_t bid, int32_t ask, int pressure, QuoteView* out
    ) noexcept nogil:
        cdef VenueQuoting* venue = &self.venues[index]
        cdef uint64_t bits = draw64(self.seed, row, index)
        cdef int64_t half_x2 = <int64_t>ask - bid            # twice the half spread
        cdef int64_t mid_x2 = <int64_t>ask + bid
        cdef int64_t wide_x2, skew_x2, noise, tilt
        cdef int bid_step, ask_step
        # An AR(1) with a memory of about 64 rows, driven by 16 uniform bits.
        noise = <int64_t>(bits & 0xFFFF) - 32768
        venue.skew_state_q16 += <int32_t>((noise * 8 - venue.skew_state_q16) >> 6)
        if not venue.quoted or ((bits >> 16) & 0xFFFF) >= venue.stale_q16:
            noise = (venue.spread_noise_q8 * <int64_t>((bits >> 32) & 0xFF)) >> 8
            wide_x2 = (half_x2 * (venue.spread_q8 + noise)) >> 8
            skew_x2 = (((half_x2 * venue.skew_q8) >> 8) * venue.skew_state_q16) >> 16
            # Rounding outwards keeps the quote at least as wide as asked for, and never locked.
            venue.bid_ticks = <int32_t>((mid_x2 + skew_x2 - wide_x2) >> 1)
            venue.ask_ticks = <int32_t>((mid_x2 + skew_x2 + wide_x2 + 1) >> 1)
            if venue.ask_ticks <= venue.bid_ticks:
                venue.ask_ticks = venue.bid_ticks + 1
            venue.quoted = True
        # Buying pressure shows as more on the bid and less on the ask.
        tilt = (pressure * venue.pressure_q8) >> 8
        bid_step = <int>((bits >> 40) & 0xFF) + <int>tilt
        ask_step = <int>((bits >> 48) & 0xFF) - <int>tilt
        bid_step = 0 if bid_step < 0 else (SIZE_STEPS - 1 if bid_step >= SIZE_STEPS else bid_step)
        ask_step = 0 if ask_step < 0 else (SIZE_STEPS - 1 if ask_step >= SIZE_STEPS else ask_step)
        out.ts_ns = ts_ns + venue.lag_ns + ((venue.lag_jitter_ns * <int64_t>(bits >> 56)) >> 8)
        out.recv_ns = RECV_NOT_RECORDED
        out.bid_price_ticks = venue.bid_ticks
        out.ask_price_ticks = venue.ask_ticks
        out.bid_size_lots = venue.sizes[bid_step]
        out.ask_size_lots = <uint32_t>venue.sizes[ask_step]
        out.seq = <uint32_t>row
        out.instrument_id = self.instrument_id
        out.venue_id = <unsigned char>index
        out.kind = EVENT_QUOTE
        out.side = 0
        out.flags = FLAG_LAST_IN_PACKET
        out._reserved = 0

    cdef void row(self, int64_t ts_ns, int32_t bid, int32_t ask, int pressure, QuoteView* out) noexcept nogil:
        """Write the row's events in time order; ties leave the lower venue first."""
        cdef int index, place
        cdef QuoteView event
        for index in range(self.venue_count):
            self.quote(index, self.rows, ts_ns, bid, ask, pressure, &event)
            place = index
            while place > 0 and out[place - 1].ts_ns > event.ts_ns:
                out[place] = out[place - 1]
                place -= 1
            out[place] = event
        for index in range(self.venue_count):
            if out[index].ts_ns < self.last_ts_ns:
                out[index].ts_ns = self.last_ts_ns
            self.last_ts_ns = out[index].ts_ns
        self.rows += 1

    def events(self, const int64_t[::1] ts_ns, const int32_t[::1] bid_ticks, const int32_t[::1] ask_ticks,
               const int8_t[::1] pressure, cnp.ndarray out not None):
        """Quote every row of the path at every venue.

        Parameters
        ----------
        ts_ns, bid_ticks, ask_ticks : arrays, shape (n_rows,)
        pressure : array of int8, shape (n_rows,), or None
            Latent order-flow pressure where the path knows it.
        out : array of EVENT_DTYPE, shape (at least n_rows * venue_count,)
            Overwritten.

        Returns
        -------
        int
            Events written.
        """
        cdef Py_ssize_t count = ts_ns.shape[0], index
        cdef QuoteView* target = <QuoteView*>cnp.PyArray_DATA(out)
        cdef bint has_pressure = pressure is not None
        if bid_ticks.shape[0] != count or ask_ticks.shape[0] != count:
            raise ValueError("the columns of a block must have one length")
        if has_pressure and pressure.shape[0] != count:
            raise ValueError("the columns of a block must have one length")
        if out.dtype.itemsize != sizeof(MarketEvent) or not cnp.PyArray_IS_C_CONTIGUOUS(out):
            raise ValueError("out must be a contiguous array of EVENT_DTYPE")
        if cnp.PyArray_SIZE(out) < count * self.venue_count:
            raise ValueError(f"out must hold {count * self.venue_count} events, was {cnp.PyArray_SIZE(out)}")
        with nogil:
            for index in range(count):
                self.row(
                    ts_ns[index], bid_ticks[index], ask_ticks[index],
                    pressure[index] if has_pressure else 0, &target[index * self.venue_count],
                )
        return count * self.venue_count
