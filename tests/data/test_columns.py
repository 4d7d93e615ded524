"""Grids: a number is taken only where it is whole, and whole means as exact as its own type can be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.columns import (
    LOT_RULE,
    SINGLE_LOTS_MAX,
    SIZE_RULE,
    JudgedLots,
    infer_increment,
    infer_lot_size,
    on_grid,
)
from data.errors import DataError
from data.events import open_events
from data.quarantine import Quarantine

PATH = Path("prices.csv")


@given(
    units=st.lists(st.integers(1, 10**9), min_size=1, max_size=20),
    decimals=st.integers(0, 9),
    finer=st.integers(1, 3),
    odd=st.integers(1, 9),
)
def test_doubles_of_decimals_are_whole_and_the_next_digit_is_not(
    units: list[int], decimals: int, finer: int, odd: int
) -> None:
    values = np.array([float(Decimal(unit).scaleb(-decimals)) for unit in units])
    whole, good = on_grid(values, 10.0**-decimals)
    assert good.all()
    assert whole.tolist() == units
    # One more digit is not rounded away, as long as a double of that size holds it.
    between = Decimal(units[0]).scaleb(-decimals) + Decimal(odd).scaleb(-decimals - finer)
    assert not on_grid(np.array([float(between)]), 10.0**-decimals)[1][0]


@pytest.mark.parametrize(
    ("prices", "increment"),
    [
        ((0.9999, 1.0, 1.0001), 1e-4),
        ((0.00001234, 0.00001235), 1e-8),
        ((60_000.5, 60_001.0), 0.1),
        ((-37.63, -40.32), 0.01),
        ((1.00001, 5_000.0), 1e-5),
    ],
)
def test_the_increment_is_the_coarsest_that_loses_nothing(
    prices: tuple[float, ...], increment: float
) -> None:
    assert infer_increment(np.array(prices), path=PATH) == increment


def test_singles_are_judged_by_what_a_single_holds() -> None:
    prices = np.array([1.0999, 1.1], np.float32)
    assert infer_increment(prices, path=PATH) == 1e-4
    # Widened to a double it still ends where a single ends.
    assert infer_increment(prices.astype(np.float64), path=PATH) == 1e-4
    # Half a unit is all that a single can tell there, so that grid is not taken on its word.
    assert not on_grid(np.array([16_777_216.0], np.float32), 0.1)[1][0]


def test_lots_hold_the_smallest_size_or_say_so() -> None:
    assert infer_lot_size(np.array([1e-8, 1.5])) == 1e-8
    assert infer_lot_size(np.array([1.0, 1.00000001])) == 1e-8
    assert infer_lot_size(np.array([0.0, 0.0])) == 1.0
    # Beyond 32 bits of lots nothing holds both: the smaller one is rejected, not rounded.
    sizes = np.array([1e-8, 1_000.0, -1.0, 1e12])
    lot_size = infer_lot_size(sizes[:2])
    lots = JudgedLots(sizes, lot_size, most=SINGLE_LOTS_MAX)
    assert lot_size == 1e-6
    assert lots.lots.tolist() == [0, 10**9, 0, 0]
    assert dict(lots.bad()) == {0: LOT_RULE, 2: SIZE_RULE, 3: SIZE_RULE}


TRADES = "ts_ns,price,size\n1000000,10.5,3\n2000000,10.5,-1\n3000000,10.5,1e-13\n4000000,10.5,2\n"
QUOTES = """ts_ns,bid,ask,bid_size,ask_size
1000000,1,2,3,3
2000000,3,2,3,3
3000000,1,2,3,-1
4000000,1,2,1e-13,3
"""


@pytest.mark.parametrize(("text", "kept"), [(TRADES, [1, 4]), (QUOTES, [1])])
def test_rows_with_odd_sizes_are_rejected_and_named(tmp_path: Path, text: str, kept: list[int]) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(text)
    source = open_events(path)
    source.quarantine = quarantine = Quarantine()  # type: ignore[attr-defined]
    events = np.concatenate(list(source.blocks()))
    assert (events["ts_ns"] // 10**6).tolist() == kept
    assert quarantine.counts[LOT_RULE] == quarantine.counts[SIZE_RULE] == 1
    assert len(source.notes) >= 1
    with pytest.raises(DataError, match=r"recording\.csv:row [13]: "):
        for _ in open_events(path, strict=True).blocks():
            pass
