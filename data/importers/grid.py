"""The integer grid of an instrument's prices and sizes, from and to decimal text, without floats.

A feed writes 61800.20 for a tick of 0.1, so the number of decimals is no tick size. The grid is read off the
head of a recording: the coarsest power of ten that writes every price of it, and of the steps on that grid
the largest that all prices share. A later price that falls between is refused by row, never rounded.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ext.decimal_text import DECIMALS_MAX, decimal_units

from ..columns import PRICE_TICKS_MAX
from ..errors import ConfigError, DataError
from ..instrument import Instrument, Session
from .damage import FREE, SHARE_MAX

if TYPE_CHECKING:
    from ..events import EventSource

Source = TypeVar("Source", bound="EventSource")
Result = TypeVar("Result")

SIZE_LOTS_MAX: Final = 1 << 53
SAMPLED_MAX: Final = 20_000
"""Numbers of each kind that are looked at before the grid is fixed."""

_ATTEMPTS_MAX: Final = 12

# Fewer different prices than this say nothing about the tick size.
_TICK_EVIDENCE: Final = 50

# Decimal also takes "NaN", "1_0" and digits of other scripts.
_PLAIN: Final = re.compile(r"-?(\d+\.?\d*|\.\d+)", re.ASCII)


class OffGrid(DataError):
    """A number falls between two ticks or lots; a finer grid would hold it."""

    def __init__(self, rule: str, *, name: str, text: str, path: Path, row: int) -> None:
        super().__init__(rule, path=path, row=row)
        self.name, self._decimals = name, -int(Decimal(text).normalize().as_tuple().exponent)

    def finer_by(self, scale: Scale) -> int:
        """Return how many units of the grid that would hold the number are one of a scale."""
        return scale.step * int(10 ** max(self._decimals - scale.decimals, 0))

    def finer(self, instrument: Instrument) -> Instrument:
        """Return the instrument on the coarsest decimal grid that holds the number and the grid before."""
        before = instrument.price_increment if self.name == "price" else instrument.lot_size
        decimals = max(self._decimals, Scale.of(before, name=self.name).decimals)
        increment = float(Decimal(1).scaleb(-decimals))
        if self.name == "price":
            return replace(instrument, price_increment=increment, tick_size_ticks=1)
        return replace(instrument, lot_size=increment)


def on_a_fitting_grid(
    open_source: Callable[[Instrument | None], Source],
    use: Callable[[Source], Result],
    *,
    tell: Callable[[OffGrid], None] = lambda error: None,
) -> tuple[Source, Result]:
    """Use a source; where a number falls between its ticks or lots, once more on a finer grid.

    The grid is read off the head of a recording. A finer number may come at any time, and is never rounded.

    Parameters
    ----------
    open_source : callable
        Opens the source on the instrument given, or the one it tells.
    use : callable
        Begins anew with each source.
    tell : callable
        Hears why once more.
    """
    instrument: Instrument | None = None
    for _ in range(_ATTEMPTS_MAX):
        source = open_source(instrument)
        try:
            return source, use(source)
        except OffGrid as error:
            instrument = error.finer(source.instrument)
            if instrument == source.instrument:
                raise
            tell(error)
    source = open_source(instrument)
    return source, use(source)


def of_each(
    symbols: Sequence[str],
    open_source: Callable[[str, Instrument | None], Source],
    use: Callable[[str, Source], Result],
) -> list[Result]:
    """Use the source of each symbol, as `on_a_fitting_grid` does."""
    return [on_a_fitting_grid(partial(open_source, symbol), partial(use, symbol))[1] for symbol in symbols]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """One unit of a grid: `step` times 10**-decimals."""

    decimals: int
    step: int

    @classmethod
    def of(cls, increment: float, *, name: str) -> Scale:
        """Return the scale of an increment as its shortest decimal reads.

        Raises
        ------
        ConfigError
            It has more than 18 decimals.
        """
        sign, digits, exponent = Decimal(repr(increment)).normalize().as_tuple()
        if sign or not isinstance(exponent, int) or exponent < -DECIMALS_MAX:
            raise ConfigError(
                f"{name} must be positive with at most {DECIMALS_MAX} decimals, was {increment}"
            )
        step = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
        return cls(decimals=max(-exponent, 0), step=step)

    def units(
        self, texts: list[str], *, name: str, limit: int | None, path: Path, rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return texts as whole units; `rows` holds the row of each, for errors."""
        units, good = decimal_units(texts, self.decimals)
        if good < len(texts):
            rule = f"{name} must be a number in steps of {self}, was {texts[good][:40]!r}"
            if is_plain(texts[good]):
                raise OffGrid(rule, name=name, text=texts[good], path=path, row=int(rows[good]))
            raise DataError(rule, path=path, row=int(rows[good]))
        if self.step != 1:
            whole, rest = np.divmod(units, self.step)
            if rest.any():
                at = int(np.argmax(rest != 0))
                rule = f"{name} must be in steps of {self}, was {texts[at][:40]!r}"
                raise OffGrid(rule, name=name, text=texts[at], path=path, row=int(rows[at]))
            units = whole
        if limit is not None and len(units) and np.abs(units).max() > limit:
            at = int(np.argmax(np.abs(units)))
            raise DataError(
                f"{name} must be at most {limit} steps of {self}, was {texts[at][:40]!r}",
                path=path,
                row=int(rows[at]),
            )
        return units

    def judged_units(self, texts: list[str], *, limit: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return texts as whole units, 0 for those that are none, and which of them are."""
        known = np.ones(len(texts), bool)
        units, good = decimal_units(texts, self.decimals)
        if good < len(texts):
            texts = list(texts)
            while good < len(texts):
                known[good], texts[good] = False, "0"
                rest, more = decimal_units(texts[good:], self.decimals)
                units = np.concatenate((units[:good], rest))
                good += more
        if self.step != 1:
            units, rest = np.divmod(units, self.step)
            known &= rest == 0
        known &= np.abs(units) <= limit
        return np.where(known, units, 0), known

    def text(self, units: int) -> str:
        """Return whole units as decimal text."""
        return format(Decimal(units * self.step).scaleb(-self.decimals), "f")

    def __str__(self) -> str:
        return self.text(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How an instrument's numbers are written as integers."""

    price: Scale
    size: Scale

    @classmethod
    def of(cls, instrument: Instrument) -> Grid:
        """Return the grid of an instrument."""
        return cls(
            price=Scale.of(instrument.price_increment, name="price_increment"),
            size=Scale.of(instrument.lot_size, name="lot_size"),
        )

    def ticks(self, texts: list[str], *, path: Path, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return prices in ticks, which may be more than an event holds."""
        return self.price.units(texts, name="price", limit=None, path=path, rows=rows)

    def lots(self, texts: list[str], *, path: Path, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return sizes in lots; negative ones are refused."""
        lots = self.size.units(texts, name="size", limit=SIZE_LOTS_MAX, path=path, rows=rows)
        if len(lots) and lots.min() < 0:
            at = int(np.argmin(lots))
            raise DataError(
                f"size must not be negative, was {texts[at][:40]!r}", path=path, row=int(rows[at])
            )
        return lots

    def lot_count(self, text: str, *, path: Path, row: int) -> int:
        """Return one size in lots."""
        return int(self.lots([text], path=path, rows=np.array([row]))[0])

    def level(self, pair: tuple[str, str], *, path: Path, row: int) -> tuple[int, int]:
        """Return one (price, size) in ticks and lots."""
        ticks = int(self.ticks([pair[0]], path=path, rows=np.array([row]))[0])
        return ticks, self.lot_count(pair[1], path=path, row=row)


def decimals_of(texts: Sequence[str], *, name: str, path: Path) -> int:
    """Return the decimals that write every number exactly."""
    most = 0
    for text in texts:
        number = Decimal(text) if is_plain(text) else None
        if number is None:
            raise DataError(f"{name} must be a number, was {text[:40]!r}", path=path)
        exponent = number.normalize().as_tuple().exponent
        most = max(most, -int(exponent))
    if most > DECIMALS_MAX:
        raise DataError(f"{name} must have at most {DECIMALS_MAX} decimals, was {most}", path=path)
    return most


ALWAYS: Final = Session(weekdays=(0, 1, 2, 3, 4, 5, 6))
"""Hours of markets that never close."""

CURRENCY_HOURS: Final[dict[str, Any]] = {
    "time_zone": "America/New_York",
    "session": Session(weekdays=(6, 0, 1, 2, 3), opens=time(17), closes=time(17)),
}
"""Of currencies and metals over the counter: Sunday to Friday 17:00 in New York, a session from 17:00 on."""


def stored_symbol(symbol: str) -> str:
    """Return a symbol as a store's folder can be called: other characters become a dash.

    >>> stored_symbol("XBT/USD"), stored_symbol("SPY   240119C00400000")
    ('XBT-USD', 'SPY-240119C00400000')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", symbol).lstrip("-._")[:64] or "UNKNOWN"


def instrument_of(
    symbol: str,
    prices: Sequence[str],
    sizes: Sequence[str],
    *,
    path: Path,
    currency: str = "USD",
    session: Session = ALWAYS,
) -> Instrument:
    """Return an instrument on the grid that a sample of its prices and sizes shows.

    Raises
    ------
    DataError
        There is no price, or the grid does not fit 30 bits.
    """
    if not prices:
        raise DataError(f"expected at least one price of {symbol}, was none", path=path)
    prices = without_wild(prices, most=PRICE_TICKS_MAX // 2)
    sizes = without_wild(sizes, most=SIZE_LOTS_MAX)
    different = list(dict.fromkeys(prices))
    decimals = decimals_of(different, name="price", path=path)
    units, good = decimal_units(different, decimals)
    # Room for the price to double before it leaves 30 bits; stub orders far away do not count.
    if good < len(different) or int(np.median(np.abs(units))) > PRICE_TICKS_MAX // 2:
        raise DataError(
            f"prices of {symbol} must fit 29 bits of 1e-{decimals}; state a coarser "
            "--price-increment (in Python as instrument=), "
            f"was {different[good] if good < len(different) else max(different, key=len)}",
            path=path,
        )
    tick = math.gcd(*units.tolist()) if len(different) >= _TICK_EVIDENCE else 1
    return Instrument(
        symbol=stored_symbol(symbol),
        currency=currency,
        session=session,
        price_increment=float(Decimal(1).scaleb(-decimals)),
        tick_size_ticks=max(tick, 1),
        lot_size=float(Decimal(1).scaleb(-decimals_of(list(dict.fromkeys(sizes)), name="size", path=path))),
    )


def without_wild(texts: Sequence[str], *, most: int) -> list[str]:
    """Leave out the few numbers of a sample for which there would be no grid: damage made them.

    Parameters
    ----------
    texts : sequence of str
        A damaged line may be among `FREE` of them, or a hundredth.
    most : int
        Units that the median may be.
    """
    counts = Counter(texts)
    shapes = {}
    for text in counts:
        whole, _, fraction = text.lstrip("-").partition(".")
        shapes[text] = len(whole.lstrip("0")), len(fraction.rstrip("0"))
    free = max(FREE, int(SHARE_MAX * len(texts)))
    for decimals in sorted({fraction for _, fraction in shapes.values()}, reverse=True):
        kept = {
            text
            for text, (whole, fraction) in shapes.items()
            if fraction <= decimals and whole + decimals <= DECIMALS_MAX and is_plain(text)
        }
        left_out = sum(count for text, count in counts.items() if text not in kept)
        if left_out > min(free, len(texts) // 2):
            continue
        if float(np.median([abs(float(text)) for text in kept])) * 10.0**decimals <= most:
            return [text for text in texts if text in kept]
    # Whoever looks for the grid says what is wrong.
    return list(texts)


def is_plain(text: str) -> bool:
    """Tell whether a text is a decimal number without an exponent."""
    return decimal_units([text], DECIMALS_MAX)[1] == 1 or _PLAIN.fullmatch(text) is not None
