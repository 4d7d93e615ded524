"""Three strategies to start from: quote both sides, work one order over time, follow a forecast.

They decide by the context alone, are small enough to be read, and claim no edge.
"""

from __future__ import annotations

from typing import Final

from data.errors import ConfigError
from data.schema import Reason, ReportKind

from .strategy import Context, Order, Report, Strategy

SECOND_NS: Final = 1_000_000_000


class MarketMaker(Strategy):
    """Quotes both sides at or around the touch and leans against its position.

    A quote that should stand elsewhere is cancelled, and renewed once the venue has said that it is
    gone: two orders of a side are never open together, so the position stays within its limit
    whatever is on its way.

    Parameters
    ----------
    size_lots : int
        Of each quote.
    position_lots_max : int
        Long or short.
    edge_ticks : int
        Distance from the touch, away from the mid, in tick sizes; negative improves it.
    skew_ticks : float
        How far both quotes are lowered, in tick sizes, when the position is at its limit.
    signal_ticks : float
        How far both quotes are raised for a forecast of 1, in tick sizes; 0 asks for no forecast.
    tolerance : float
        A standing quote stays while it is no farther from where it should be than this share of the
        spread: each move would cost its place in the queue.
    requote_ns : int
        Shortest time between two looks at the touch.
    venue : int
    """

    def __init__(
        self,
        *,
        size_lots: int = 1,
        position_lots_max: int = 10,
        edge_ticks: int = 0,
        skew_ticks: float = 2.0,
        signal_ticks: float = 0.0,
        tolerance: float = 0.25,
        requote_ns: int = SECOND_NS,
        venue: int = 0,
    ) -> None:
        _require_positive(size_lots=size_lots, position_lots_max=position_lots_max, requote_ns=requote_ns)
        if not 0.0 <= tolerance <= 10.0:
            raise ConfigError(f"tolerance must be 0 to 10, was {tolerance}")
        self.size_lots = size_lots
        self.position_lots_max = position_lots_max
        self.edge_ticks = edge_ticks
        self.skew_ticks = skew_ticks
        self.signal_ticks = signal_ticks
        self.tolerance = tolerance
        self.touch_every_ns = requote_ns
        self.venue = venue

    def on_start(self, ctx: Context) -> None:
        self._look(ctx)

    def on_touch(self, ctx: Context) -> None:
        self._look(ctx)

    def on_report(self, ctx: Context, report: Report) -> None:
        # A quote that was refused because the touch had moved is renewed with the next look.
        if report.kind != ReportKind.REJECTED and report.leaves_lots == 0:
            self._quote(ctx, report.side)

    def _look(self, ctx: Context) -> None:
        for side in (1, -1):
            self._quote(ctx, side)

    def _quote(self, ctx: Context, side: int) -> None:
        """Have one order at the price wanted on this side, or none."""
        standing = _order_on(ctx, side)
        price = self._price(ctx, side)
        room = self.position_lots_max - side * ctx.position_lots
        if standing is not None:
            if price is None or room < standing.leaves_lots or self._is_far(ctx, standing, price):
                ctx.cancel(standing.client_order_id)
        elif price is not None and room > 0:
            send = ctx.buy if side > 0 else ctx.sell
            send(min(self.size_lots, room), price, venue=self.venue, post_only=True)

    def _is_far(self, ctx: Context, standing: Order, price_ticks: int) -> bool:
        distance = abs((standing.price_ticks or 0) - price_ticks)
        return distance > self.tolerance * ctx.spread_ticks

    def _price(self, ctx: Context, side: int) -> int | None:
        bid, bid_size, ask, ask_size = ctx.touch(self.venue)
        if not bid_size or not ask_size or bid >= ask:
            return None
        step = ctx.tick_size_ticks
        shift = -self.skew_ticks * ctx.position_lots / self.position_lots_max
        if self.signal_ticks:
            shift += self.signal_ticks * ctx.signal
        wanted = (bid if side > 0 else ask) // step - side * self.edge_ticks + round(shift)
        # At least one step on our own side of the other touch: a quote is no taker.
        if side > 0:
            return min(wanted, (ask - 1) // step) * step
        return max(wanted, bid // step + 1) * step


class Twap(Strategy):
    """Works one order in equal slices over time, resting first, taking what is left of each slice.

    At most one child order is open, and none is sent before the end of the one before is known, so
    never more than the size can fill; after the last slice it takes until the size is full.

    Parameters
    ----------
    side : int
        +1 buys, -1 sells.
    size_lots : int
    duration_ns : int
        From the first packet to the end of the last slice.
    slices : int
    passive_share : float
        Part of each slice's time for which the child rests at its own touch; 0 takes at once.
    retry_ns : int
        After an attempt that found too little.
    venue : int

    Attributes
    ----------
    filled_lots, open_lots, cancelled_lots : int
        They add up to `size_lots` at every instant.
    """

    def __init__(
        self,
        *,
        side: int = 1,
        size_lots: int = 10_000,
        duration_ns: int = 6 * 3_600 * SECOND_NS,
        slices: int = 60,
        passive_share: float = 0.7,
        retry_ns: int = SECOND_NS,
        venue: int = 0,
    ) -> None:
        _require_positive(size_lots=size_lots, duration_ns=duration_ns, slices=slices, retry_ns=retry_ns)
        if side not in (1, -1):
            raise ConfigError(f"side must be 1 or -1, was {side}")
        if not 0.0 <= passive_share < 1.0:
            raise ConfigError(f"passive_share must be at least 0 and below 1, was {passive_share}")
        self.side = side
        self.size_lots = size_lots
        self.duration_ns = duration_ns
        self.slices = slices
        self.passive_share = passive_share
        self.retry_ns = retry_ns
        self.venue = venue
        self._filled_lots = 0
        self._cancelled_lots = 0
        self._target_lots = 0
        self._taking = False

    @property
    def filled_lots(self) -> int:
        return self._filled_lots

    @property
    def open_lots(self) -> int:
        return self.size_lots - self._filled_lots - self._cancelled_lots

    @property
    def cancelled_lots(self) -> int:
        return self._cancelled_lots

    def on_start(self, ctx: Context) -> None:
        for part in range(self.slices):
            begins_ns = ctx.now_ns + self.duration_ns * part // self.slices
            takes_ns = begins_ns + int(self.duration_ns * self.passive_share) // self.slices
            ctx.schedule(begins_ns, _tag(part, _REST))
            ctx.schedule(max(takes_ns, begins_ns + 1), _tag(part, _TAKE))

    def on_timer(self, ctx: Context) -> None:
        part, phase = divmod(ctx.timer_tag - 1, _PHASES)
        if phase == _RETRY:
            self._work(ctx)
            return
        self._target_lots = self.size_lots * (part + 1) // self.slices
        self._taking = phase == _TAKE
        self._work(ctx)

    def on_fill(self, ctx: Context, fill: Report) -> None:
        self._filled_lots += fill.size_lots

    def on_report(self, ctx: Context, report: Report) -> None:
        if report.kind == ReportKind.ACCEPTED or report.leaves_lots > 0 or not self._taking:
            return
        if report.kind == ReportKind.REJECTED or report.reason == Reason.NO_LIQUIDITY:
            ctx.schedule(ctx.now_ns + self.retry_ns, _tag(0, _RETRY))
        else:
            self._work(ctx)

    def on_stop(self, ctx: Context) -> None:
        self._cancelled_lots = self.size_lots - self._filled_lots

    def _work(self, ctx: Context) -> None:
        """Bring one child on its way: resting or, once the slice's patience is over, taking."""
        wanted = self._target_lots - self._filled_lots
        if ctx.open_orders:
            if self._taking:
                ctx.cancel_all()
            return
        if wanted <= 0:
            return
        send = ctx.buy if self.side > 0 else ctx.sell
        if self._taking:
            send(wanted, venue=self.venue)
            return
        bid, bid_size, ask, ask_size = ctx.touch(self.venue)
        if bid_size and ask_size and bid < ask:
            send(wanted, bid if self.side > 0 else ask, venue=self.venue, post_only=True)


_REST, _TAKE, _RETRY, _PHASES = 0, 1, 2, 3


class SignalTaker(Strategy):
    """Follows a forecast: in beyond one threshold, out below another, by market orders.

    Parameters
    ----------
    size_lots : int
        Of the position while in.
    enter_at, exit_at : float
        Forecasts in [0, 1], exit below enter: at +enter_at it goes long, at -enter_at short, within
        exit_at of 0 out; between them it stays as it is.
    timer_ns : int
        Time between two looks.
    venue : int
    """

    def __init__(
        self,
        *,
        size_lots: int = 1,
        enter_at: float = 0.3,
        exit_at: float = 0.1,
        timer_ns: int = 60 * SECOND_NS,
        venue: int = 0,
    ) -> None:
        _require_positive(size_lots=size_lots, timer_ns=timer_ns)
        if not 0.0 <= exit_at < enter_at <= 1.0:
            raise ConfigError(f"0 <= exit_at < enter_at <= 1 must hold, were {exit_at} and {enter_at}")
        self.size_lots = size_lots
        self.enter_at = enter_at
        self.exit_at = exit_at
        self.timer_ns = timer_ns
        self.venue = venue

    def on_timer(self, ctx: Context) -> None:
        if ctx.open_orders or not ctx.two_sided:
            return
        signal = ctx.signal
        if abs(signal) >= self.enter_at:
            target = self.size_lots if signal > 0 else -self.size_lots
        elif abs(signal) <= self.exit_at:
            target = 0
        else:
            return
        lots = target - ctx.position_lots
        if lots > 0:
            ctx.buy(lots, venue=self.venue)
        elif lots < 0:
            ctx.sell(-lots, venue=self.venue)


def _tag(part: int, phase: int) -> int:
    # Tags begin at 1; 0 is the periodic timer.
    return part * _PHASES + phase + 1


def _order_on(ctx: Context, side: int) -> Order | None:
    return next((order for order in ctx.open_orders if order.side == side), None)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ConfigError(f"{name} must be positive, was {value}")
