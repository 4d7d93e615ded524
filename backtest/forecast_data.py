"""Days of order-book rows to train forecasters on: generated, recorded, or both.

Training, validation and test days never share a day. Generated days are independent draws, told apart by
their seeds. Recorded days are split in time order, the last ones for the test; a recording of fewer than
`RECORDED_DAYS_MIN` days is split within its rows, with a gap as long as a window and a label between parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.events import EventSource, open_events
from engine.inference.arrays import Floats32
from engine.inference.classifier import move_threshold, robust_scale
from engine.inference.labels import HORIZONS, label_rows, smoothed_moves
from engine.inference.lob_features import WINDOW, BookRowMaker, BookRows, windows

from .informed_flow import InformedFlow

RECORDED_DAYS_MIN: Final = 5
_DAY_NS: Final = 86_400 * 10**9
_GAP_ROWS: Final = WINDOW + max(HORIZONS)
_ROWS_MIN: Final = 4 * WINDOW
_PARTS: Final = ("training", "validation", "test")
Split = tuple[list[BookRows], list[BookRows], list[BookRows]]
# Seeds of validation and test days stand far from those of training days.
_SEED_STRIDE: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LabelledDay:
    """Consecutive rows of a day with a label per horizon.

    Parameters
    ----------
    labels : array of int64, shape (n, 3)
        For k = 10, 50, 100: 0 down, 1 flat, 2 up, −1 where the day ends before.
    """

    features: Floats32
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ForecastData:
    """What a ladder is trained, tuned and judged on.

    Parameters
    ----------
    thresholds : tuple of float
        Ticks up to which a move is flat, per horizon, from the training days.
    center, inverse_scale : array of float32, shape (40,)
        From the training days.
    source : str
        For the card.
    digest : str
        SHA-256 of the training days' features and labels.
    recorded : bool
        Whether a recording is among the days: such models are for their owner and not for passing on.
    whole_days : bool
        Whether no test day lent rows to training; a short recording is split within its days.
    """

    training: tuple[LabelledDay, ...]
    validation: tuple[LabelledDay, ...]
    test: tuple[LabelledDay, ...]
    thresholds: tuple[float, ...]
    center: Floats32
    inverse_scale: Floats32
    source: str
    digest: str
    recorded: bool
    whole_days: bool


def forecast_data(
    *,
    seed: int,
    days: tuple[int, int, int],
    arrivals: int,
    recordings: Sequence[Path] = (),
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> ForecastData:
    """Generate and read the days of a build; a pure function of its arguments and the files.

    Parameters
    ----------
    days : tuple of int
        Generated days for training, validation and test. With recordings, only the training days are
        generated: those models are judged on what was recorded.
    arrivals : int
        Packets of a generated day.
    """
    # A recording that is not there is told of before days are generated.
    sources = [(path, open_events(path)) for path in recordings]
    whole_days = True
    parts: list[list[BookRows]] = [[], [], []]
    counts = days if not recordings else (days[0], 0, 0)
    total, done = sum(counts) + len(recordings), 0
    for place, count in enumerate(counts):
        for day in range(count):
            parts[place].append(_generated(seed + place * _SEED_STRIDE + day, arrivals))
            done += 1
            progress(done / total, "generated days")
    for path, source in sources:
        split, by_days = _recorded(path, source)
        whole_days = whole_days and by_days
        for part, found in zip(parts, split, strict=True):
            part.extend(found)
        done += 1
        progress(done / total, path.name)
    thresholds = tuple(_threshold(parts[0], horizon) for horizon in HORIZONS)
    training, validation, test = (tuple(_labelled(day, thresholds) for day in part) for part in parts)
    center, inverse_scale = robust_scale(np.concatenate([day.features[::5] for day in training]))
    digest = hashlib.sha256()
    for labelled in training:
        digest.update(labelled.features.tobytes())
        digest.update(labelled.labels.tobytes())
    generated = f"{counts[0]} generated days of {arrivals:,} packets from seed {seed}"
    named = ", ".join(path.name for path in recordings)
    return ForecastData(
        training=training,
        validation=validation,
        test=test,
        thresholds=thresholds,
        center=center,
        inverse_scale=inverse_scale,
        source=f"{generated}, and recordings {named}" if recordings else generated,
        digest=digest.hexdigest(),
        recorded=bool(recordings),
        whole_days=whole_days,
    )


def generated_windows(
    *, seed: int, window: int, horizon: int, threshold: float, count: int
) -> tuple[Floats32, NDArray[np.int64]]:
    """Return windows and labels of a generated day that no build trains, tunes or tests on.

    Parameters
    ----------
    threshold : float
        Ticks up to which a move is flat.
    count : int
        Of windows, evenly spread in time.
    """
    rows = _generated(seed + len(_PARTS) * _SEED_STRIDE, max(8 * count, 20 * WINDOW))
    labels = label_rows(smoothed_moves(rows.mid_x2, horizon=horizon), threshold=threshold)
    known = np.flatnonzero(labels >= 0)
    known = known[known >= WINDOW - 1]
    ends = known[np.linspace(0, len(known) - 1, count).astype(np.int64)]
    return windows(rows.features, ends, window=window), labels[ends]


def window_ends(day: LabelledDay, *, stride: int) -> NDArray[np.int64]:
    """Return every `stride`-th row that has a whole window behind it and every label ahead."""
    ends = np.arange(WINDOW - 1, len(day.features), stride)
    return ends[(day.labels[ends] >= 0).all(axis=1)]


def _generated(seed: int, arrivals: int) -> BookRows:
    flow = InformedFlow(seed=seed, steps=arrivals)
    return _joined(BookRowMaker(), flow)


def _joined(maker: BookRowMaker, source: EventSource) -> BookRows:
    found = [maker.rows(events) for events in source.blocks()]
    return BookRows(
        features=np.concatenate([rows.features for rows in found]),
        mid_x2=np.concatenate([rows.mid_x2 for rows in found]),
        skipped=sum(rows.skipped for rows in found),
    )


def _recorded(path: Path, source: EventSource) -> tuple[Split, bool]:
    """Read a recording and split it; tell whether between days."""
    days = [day for day in _recorded_days(source) if len(day.features) >= _ROWS_MIN]
    if not days:
        raise DataError(
            f"a recording must give at least {_ROWS_MIN} rows of a two-sided book, was fewer", path=path
        )
    return split_in_time(days)


def split_in_time(days: Sequence[BookRows]) -> tuple[Split, bool]:
    """Split days in time order, 70 to 15 to 15, or each of them where there are few; tell whether between."""
    if len(days) >= RECORDED_DAYS_MIN:
        # A day at least for validation, and one for the test.
        first = min(round(0.7 * len(days)), len(days) - 2)
        second = max(round(0.85 * len(days)), first + 1)
        return (list(days[:first]), list(days[first:second]), list(days[second:])), True
    parts: Split = ([], [], [])
    for day in days:
        rows = len(day.features)
        cuts = (0, round(0.7 * rows), round(0.85 * rows), rows)
        for part, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            span = slice(start + (_GAP_ROWS if start else 0), stop)
            part.append(BookRows(features=day.features[span], mid_x2=day.mid_x2[span], skipped=0))
    return parts, False


def _recorded_days(source: EventSource) -> Iterator[BookRows]:
    """Yield the rows of each UTC date; the book carries over where the feed does not clear it."""
    maker = BookRowMaker(tick=source.instrument.tick_size_ticks)
    day, found = None, []
    for events in source.blocks():
        dates = events["ts_ns"] // _DAY_NS
        edges = np.flatnonzero(np.diff(dates)) + 1
        for piece in np.split(events, edges):
            date = int(piece["ts_ns"][0]) // _DAY_NS
            if day not in (None, date):
                yield _stack(found)
                found = []
            day = date
            found.append(maker.rows(piece))
    if found:
        yield _stack(found)


def _stack(found: list[BookRows]) -> BookRows:
    return BookRows(
        features=np.concatenate([rows.features for rows in found]),
        mid_x2=np.concatenate([rows.mid_x2 for rows in found]),
        skipped=sum(rows.skipped for rows in found),
    )


def _threshold(days: Sequence[BookRows], horizon: int) -> float:
    moves = np.concatenate([smoothed_moves(day.mid_x2, horizon=horizon) for day in days])
    return move_threshold(moves[~np.isnan(moves)])


def _labelled(day: BookRows, thresholds: Sequence[float]) -> LabelledDay:
    labels = [
        label_rows(smoothed_moves(day.mid_x2, horizon=horizon), threshold=threshold)
        for horizon, threshold in zip(HORIZONS, thresholds, strict=True)
    ]
    return LabelledDay(features=day.features, labels=np.stack(labels, axis=1))
