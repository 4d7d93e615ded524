"""A venue's events told in the grid that is common to several venues, as arrays and as a Polars query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from .columns import PRICE_TICKS_MAX
from .errors import ConfigError
from .schema import QUOTE_DTYPE, EventFlag, EventKind

if TYPE_CHECKING:
    import polars as pl

RESTING: Final = (
    EventKind.ADD, EventKind.CANCEL, EventKind.REDUCE, EventKind.EXECUTE, EventKind.LEVEL,
)  # fmt: skip
_SIZE_32_MAX: Final = (1 << 32) - 1
_LOTS_MAX: Final = (1 << 63) - 1
_PRICE_32_MAX: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Factor:
    """How many units of a stream one unit of a venue is.

    Parameters
    ----------
    price, size : int
        At least 1.
    at : str
        Instrument, venue and all venues with their units, for errors.
    """

    price: int = 1
    size: int = 1
    at: str = field(default="", compare=False)

    @property
    def _limits(self) -> tuple[int, int, int, int]:
        """The most ticks, lots, and ticks and lots of a quote's ask that fit: a product could wrap."""
        return (
            PRICE_TICKS_MAX // self.price, _LOTS_MAX // self.size, _PRICE_32_MAX // self.price,
            _SIZE_32_MAX // self.size,
        )  # fmt: skip

    def apply(self, events: NDArray[np.void]) -> NDArray[np.void]:
        """Return events in the stream's units.

        What rests beyond the prices that an event holds is left out, as importers leave it out.

        Raises
        ------
        ConfigError
            A trade or quote does not fit, or a size.
        """
        if self == SAME_UNITS:
            return events
        events = events.copy()
        ticks_max, lots_max, ask_ticks_max, ask_lots_max = self._limits
        quoted = events["kind"] == EventKind.QUOTE
        sized = events["kind"] != EventKind.STATUS  # whose size is a code
        quotes = events.view(QUOTE_DTYPE)
        beyond = ~_within(events["price_ticks"], ticks_max)
        unfit = beyond | (sized & ~_within(events["size_lots"], lots_max))
        unfit &= ~(beyond & np.isin(events["kind"], RESTING))
        unfit |= quoted & ~_within(quotes["ask_price_ticks"], ask_ticks_max)
        unfit |= quoted & (quotes["ask_size_lots"] > ask_lots_max)
        if unfit.any():
            self._refuse(events[int(np.argmax(unfit))])
        for values, factor, chosen in (
            (events["price_ticks"], self.price, ~beyond), (events["size_lots"], self.size, sized),
            (quotes["ask_price_ticks"], self.price, quoted), (quotes["ask_size_lots"], self.size, quoted),
        ):  # fmt: skip
            # What fits and is beyond the type has a factor that only 0 survives.
            values[chosen] *= values.dtype.type(min(factor, np.iinfo(values.dtype).max))
        if not beyond.any():
            return events
        # A packet that loses its last event ends with the one before.
        before = np.maximum.accumulate(np.where(beyond, -1, np.arange(len(events))))
        ends = before[beyond & (events["flags"] & EventFlag.LAST_IN_PACKET != 0)]
        events["flags"][ends[ends >= 0]] |= np.uint8(EventFlag.LAST_IN_PACKET)
        return events[~beyond]

    def scan(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return a frame of events in the stream's units.

        What `apply` leaves out is left out, and what it refuses fails the query with the same error; flags
        stay as they are.
        """
        if self == SAME_UNITS:
            return frame
        import polars as pl

        ticks_max, lots_max, ask_ticks_max, ask_lots_max = self._limits
        kind, ticks, lots = pl.col("kind"), pl.col("price_ticks"), pl.col("size_lots")
        is_quote, is_status = kind == int(EventKind.QUOTE), kind == int(EventKind.STATUS)
        word = pl.lit(1 << 32, pl.UInt64)
        ask_lots, low = pl.col("order_id") // word, pl.col("order_id") % word
        # Prices are signed words.
        ask = pl.when(low < 1 << 31).then(low.cast(pl.Int64)).otherwise(low.cast(pl.Int64) - (1 << 32))
        price_fits, lots_fit = ticks.is_between(-ticks_max, ticks_max), lots.is_between(-lots_max, lots_max)
        quote_fits = ask.is_between(-ask_ticks_max, ask_ticks_max) & (ask_lots <= ask_lots_max)
        price = self._checked("price_ticks", price_fits, pl.Int32()) * min(self.price, _PRICE_32_MAX)
        size = self._checked("size_lots", lots_fit | is_status, pl.Int64()) * min(self.size, _LOTS_MAX)
        quote = self._checked("order_id", quote_fits | ~is_quote, pl.UInt64())
        ask_size = (quote // word) * min(self.size, _SIZE_32_MAX)
        ask_price = (ask * min(self.price, _PRICE_32_MAX)) % (1 << 32)
        return frame.filter(price_fits | ~kind.is_in(list(map(int, RESTING)))).with_columns(
            price_ticks=price.cast(pl.Int32),
            size_lots=pl.when(is_status).then(lots).otherwise(size),
            order_id=pl.when(is_quote).then(ask_size * word + ask_price.cast(pl.UInt64)).otherwise(quote),
        )

    def _checked(self, name: str, fits: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Return a column whose query fails with a `ConfigError` where a row does not fit."""
        import polars as pl

        def told(rows: pl.Series) -> pl.Series:
            values, fit = rows.struct.field(name), rows.struct.field("fits")
            if not fit.all():
                self._refuse(f"{name} {values.filter(~fit)[0]}")
            return values

        return pl.struct(name, fits.alias("fits")).map_batches(told, return_dtype=dtype, is_elementwise=True)

    def _refuse(self, found: object) -> None:
        raise ConfigError(
            f"{self.at}: events must fit the grid common to all venues, {self.price} ticks and {self.size} "
            f"lots for one of its own, was {found}; import it under a symbol or into a store of its own"
        )


def _within(values: NDArray[np.signedinteger], most: int) -> NDArray[np.bool_]:
    # Not by the absolute value: the lowest integer has none.
    return np.asarray((values >= -most) & (values <= most))


SAME_UNITS: Final = Factor()
