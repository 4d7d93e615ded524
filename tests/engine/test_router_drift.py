"""Drift as a front sees it: simulated in inputs, in their spread, in answers, after a switch; and none."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from inference_samples import linear_model
from numpy.typing import NDArray
from router_ladder import dense

from engine.inference.ladder import load_ladder
from engine.inference.serving.drift import DriftMonitor, psi_threshold
from engine.inference.serving.drift_watch import DriftFeed, DriftWatch
from engine.inference.serving.processes import environment
from engine.inference.serving.request import ENDED_DTYPE, NO_VARIANT, Outcome
from engine.inference.standardisation import Standardisation, read_standardisation, training_of

FEATURES, WINDOW = 4, 1_000
TRAINING = Standardisation(
    center=np.array([0.0, 5.0, -2.0, 1.0], np.float32),
    inverse_scale=np.array([1.0, 0.5, 10.0, 0.0], np.float32),  # the last column never varied
)


def rows_like_training(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    scale = np.array([1.0, 2.0, 0.1, 0.0])
    rows = TRAINING.center + random.standard_normal((count, FEATURES)) * scale
    return np.asarray(rows, np.float32)


class Served:
    """A watch and what it is told."""

    def __init__(self, *, training: Standardisation | None = TRAINING) -> None:
        self.watch = DriftWatch(FEATURES, 3, training=training, window=WINDOW)
        self.random = np.random.default_rng(5)

    def windows(
        self,
        count: int,
        *,
        shift: NDArray[Any] | float = 0.0,
        factor: float = 1.0,
        shares: tuple[float, float, float] = (0.3, 0.3, 0.4),
    ) -> list[str]:
        """Serve so many windows in uneven parts; return what the watch says, by kind and channels."""
        said = []
        rows = rows_like_training(self.random, count * WINDOW)
        rows = np.asarray(TRAINING.center + (rows - TRAINING.center) * factor + shift, np.float32)
        variants = self.random.integers(0, 2, len(rows))
        classes = self.random.choice(3, len(rows), p=shares)
        for part in np.array_split(np.arange(len(rows)), 7 * count):
            said += self.watch.observe(rows[part], variants[part], classes[part])
        return [f"{drift.against} {drift.channels}" for drift in said]


def test_every_bin_begins_with_a_tenth_of_the_reference() -> None:
    rows = np.random.default_rng(2).standard_normal((2_000, 40)).astype(np.float32)
    assert (DriftMonitor(rows)._expected == len(rows) // 10).all()


def test_a_first_window_imports_nothing_while_requests_wait() -> None:
    script = (
        "import sys, numpy as np, engine.inference.serving.front\n"
        "from engine.inference.serving.drift import DriftMonitor\n"
        "rows = np.arange(8_000, dtype=np.float32).reshape(2_000, 4)\n"
        "before = {*sys.modules}\n"
        "for _ in range(2):\n"
        "    DriftMonitor(rows).observe(rows)\n"
        "print(*{*sys.modules} - before)\n"
    )
    command = (sys.executable, "-c", script)
    assert subprocess.run(command, check=True, env=environment(), capture_output=True).stdout == b"\n"


def test_rows_that_are_like_their_neighbours_are_no_alarm() -> None:
    random = np.random.default_rng(3)
    rows = random.standard_normal((8 * WINDOW, FEATURES))
    for place in range(1, len(rows)):
        rows[place] = 0.85 * rows[place - 1] + 0.53 * rows[place]
    watch = DriftWatch(FEATURES, 1, training=None, window=WINDOW)
    nobody = np.zeros(WINDOW, np.int64)
    for part in np.split(rows.astype(np.float32), 8):
        assert not watch.observe(part, nobody, nobody)
    # By independent samples one of these windows would have drifted.
    assert watch._monitor is not None
    assert watch._monitor._threshold == pytest.approx(0.1)
    assert 0.1 < max(largest(rows, part) for part in range(1, 8)) < 0.25


def largest(rows: NDArray[np.float64], part: int) -> float:
    """The index of one window against the first."""
    monitor = DriftMonitor(rows[:WINDOW].astype(np.float32), window=WINDOW)
    report = monitor.observe(rows[part * WINDOW : (part + 1) * WINDOW].astype(np.float32))
    assert report is not None
    return float(report.psi.max())


def test_no_drift_is_no_alarm() -> None:
    served = Served()
    assert served.windows(20) == []
    assert served.watch.verdicts >= 17
    assert served.watch.present == {}


def test_a_shifted_column_is_told_once_and_forgotten_when_it_comes_back() -> None:
    served = Served()
    assert served.windows(2) == []
    shift = np.array([0.0, 3.0, 0.0, 0.0])
    assert served.windows(3, shift=shift) == ["training (1,)", "first window (1,)"]
    assert "columns 1: " in str(served.watch.present["first window"])
    assert served.windows(2) == []
    assert served.watch.present == {}


def test_other_inputs_than_training_are_told_from_the_first_window_on() -> None:
    served = Served()
    assert served.windows(3, factor=5.0) == ["training (0, 1, 2)"]
    assert Served(training=None).windows(3, factor=5.0) == [], "without training the first window is all"


@pytest.mark.parametrize("shift", [-1.5, 1.5])
def test_rows_a_scale_to_either_side_of_training_are_told(shift: float) -> None:
    moved = np.array([shift, 0.0, 0.0, 0.0])
    assert Served().windows(1, shift=moved) == ["training (0,)"]
    assert Served().windows(1, shift=moved / 3.0) == []


@pytest.mark.parametrize(("channels", "quantile"), [(1, 27.877), (40, 37.125)])
def test_many_channels_share_one_false_alarm(channels: int, quantile: float) -> None:
    """Quantiles of χ² with nine degrees of freedom at 0.999 and at 1 − 0.001 / 40."""
    assert psi_threshold(100, 50, channels=channels, bins=10) == pytest.approx(0.03 * quantile, rel=0.02)


def test_a_spread_that_grows_is_told() -> None:
    served = Served()
    served.windows(1)
    assert served.windows(1, factor=4.0) == ["training (0, 1, 2)", "first window (0, 1, 2)"]


def test_answers_are_held_against_the_same_variants_first_ones() -> None:
    served = Served()
    served.windows(4)
    assert served.windows(2, shares=(0.1, 0.1, 0.8)) == ["answers (0, 1)"]
    assert served.watch.present["answers"].channels == (0, 1)
    served.watch.serve(3, training=TRAINING)
    assert "answers" not in served.watch.present
    assert served.windows(4, shares=(0.1, 0.1, 0.8)) == [], "another ladder has first answers of its own"


def ended_by(count: int, now_ns: int, *, ladder: int = 1, outcome: Outcome = Outcome.MODEL) -> NDArray[Any]:
    ended = np.zeros(count, ENDED_DTYPE)
    ended["done_ns"], ended["ladder"], ended["outcome"] = now_ns, ladder, outcome
    ended["variant"] = 0 if outcome is Outcome.MODEL else NO_VARIANT
    return ended


def test_a_front_samples_a_few_answers_every_few_milliseconds_and_logs_a_drift(
    caplog: pytest.LogCaptureFixture,
) -> None:
    random = np.random.default_rng(3)
    feed, slots = DriftFeed(FEATURES), np.arange(64)
    shift: Any = SimpleNamespace(number=1, variants=(None,), training=TRAINING)
    now_ns = 0
    with caplog.at_level(logging.WARNING, "anytick.serving"):
        for turn in range(600):
            now_ns += 2_000_000
            rows = rows_like_training(random, 64)[:, None] + (3.0 if turn > 399 else 0.0)
            feed.offer(ended_by(64, now_ns), slots, rows=rows, shift=shift)
            feed.offer(ended_by(64, now_ns, outcome=Outcome.ABSTAIN), slots, rows=rows, shift=shift)
    # Every other turn 32 of them: 9,600 rows are four windows of 2,000 and a part.
    assert feed.verdicts == 3
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "drift of inputs against training",
        "drift of inputs against first window",
    ]
    assert {drift.against for drift in feed.present} == {"training", "first window"}


def test_what_training_stored_is_read_from_the_models() -> None:
    found = training_of(load_ladder())
    assert found is not None
    assert found.center.shape == found.inverse_scale.shape == (40,)
    assert (found.inverse_scale >= 0.0).all()
    assert read_standardisation(dense((40, 8, 3))) is None
    assert read_standardisation(linear_model(np.eye(4, 3, dtype=np.float32)).SerializeToString()) is None
