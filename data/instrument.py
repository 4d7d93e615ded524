"""What is traded: the grid of its prices and sizes, and who may trade it when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time

from .errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Trading hours of one weekday set, in the instrument's time zone."""

    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    opens: time = time(0, 0)
    closes: time = time(23, 59, 59, 999_999)


@dataclass(frozen=True, kw_only=True, slots=True)
class Instrument:
    """One instrument, valid between two dates.

    Parameters
    ----------
    symbol : str
    instrument_id : int
        0 to 65,535.
    currency : str
        Of price, fees and profit.
    price_increment : float
        One tick of the integer price grid, in `currency`.
    tick_size_ticks : int
        Smallest legal step of a resting price, in grid ticks.
    lot_size : float
        Quantity of one lot.
    multiplier : float
        Currency per unit price per unit quantity.
    inverse : bool
        True where profit is paid in the base asset (1/price).
    """

    symbol: str
    instrument_id: int = 0
    currency: str = "USD"
    price_increment: float = 0.01
    tick_size_ticks: int = 1
    lot_size: float = 1.0
    multiplier: float = 1.0
    inverse: bool = False
    time_zone: str = "UTC"
    session: Session = Session()
    valid_from: date = date(1970, 1, 1)
    valid_until: date = date(9999, 12, 31)

    def __post_init__(self) -> None:
        if not 0 <= self.instrument_id <= 65_535:
            raise ConfigError(f"instrument_id must fit 16 bits, was {self.instrument_id}")
        for name in ("price_increment", "tick_size_ticks", "lot_size", "multiplier"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{self.symbol}: {name} must be positive, was {getattr(self, name)}")
        if self.valid_from > self.valid_until:
            raise ConfigError(f"{self.symbol}: valid_from must not be after valid_until")

    @property
    def tick_value(self) -> float:
        """Currency gained by one lot when the price rises one grid tick."""
        return self.price_increment * self.lot_size * self.multiplier
