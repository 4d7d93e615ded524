"""The memory of everything that was tried on a data set, so that the best of many can be judged as that.

An embedded SQLite file, one row per (data, name, configuration, seed). Running the same thing again replaces
its row with the same values and adds no trial, which keeps repeated runs identical. Rows hold no wall-clock
time, and every read is ordered by that key, so the order of recording cannot show.

Processes may share the file: it is created whole under a temporary name and then linked into place, each
operation opens its own connection, and SQLite's write-ahead log serialises the writers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from data.errors import ConfigError, DataError

from .equity import daily_profits
from .result import Result
from .stats.sharpe import (
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    return_moments,
    sharpe_ratio,
)

SCHEMA_VERSION = 1
APPLICATION_ID = int.from_bytes(b"atkT", "big")
"""Stands at byte 68 of the file, so that another program's database is recognised and left alone."""

_BUSY_SECONDS = 60.0

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE trial (
    data_hash    TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    config_hash  TEXT    NOT NULL,
    seed         INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    sharpe_daily REAL,            -- NULL: the ratio does not exist
    observations INTEGER NOT NULL,
    extra        TEXT    NOT NULL, -- one JSON object
    PRIMARY KEY (data_hash, name, config_hash, seed)
) WITHOUT ROWID;
"""

_UPSERT = """
INSERT INTO trial (data_hash, name, config_hash, seed, kind, sharpe_daily, observations, extra)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (data_hash, name, config_hash, seed) DO UPDATE SET
    kind = excluded.kind, sharpe_daily = excluded.sharpe_daily,
    observations = excluded.observations, extra = excluded.extra
"""

_SELECT = """
SELECT kind, name, config_hash, seed, sharpe_daily, observations, extra
FROM trial WHERE data_hash = ? AND (? IS NULL OR kind = ?)
ORDER BY name, config_hash, seed
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One thing that was tried on one data set.

    Parameters
    ----------
    kind : str
        What was tried, as "strategy" or "policy"; ratios of different kinds are not comparable.
    config_hash : str
        Of everything that could have been chosen differently.
    sharpe_daily : float
        Per day, not annualised; NaN where the ratio does not exist.
    observations : int
        Days behind it.
    extra : dict
        Whatever else is worth keeping, as JSON.
    """

    data_hash: str
    kind: str
    name: str
    config_hash: str
    seed: int
    sharpe_daily: float
    observations: int
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeflatedSharpe:
    """A Sharpe ratio beside what luck would have found in as many trials.

    Parameters
    ----------
    sharpe_daily : float
    luck_daily : float
        Expected maximum over the trials without skill; 0 for one trial.
    probabilistic, deflated : float
        PSR against 0 and against `luck_daily`; NaN where the ratio does not exist.
    trials : int
    """

    sharpe_daily: float
    luck_daily: float
    probabilistic: float
    deflated: float
    trials: int


class TrialRegistry:
    """The trials recorded in one file, created on first use with its parent folders.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    DataError
        When the file is damaged, belongs to another program, or was written by a newer anytick. It is left
        as it was.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        with _named_errors(self.path):
            if not self.path.exists():
                _create(self.path)
        with self._connection() as connection:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DataError(f"expected an undamaged trial registry, was {verdict!r}", path=self.path)

    def record(
        self,
        data_hash: str,
        *,
        kind: str,
        name: str,
        config_hash: str,
        seed: int,
        sharpe_daily: float,
        observations: int,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Record one trial; the same (data_hash, name, config_hash, seed) again is no further trial.

        Parameters
        ----------
        data_hash, kind, name, config_hash, seed, sharpe_daily, observations, extra
            As in `Trial`; `extra` must be JSON without NaN or infinity.
        """
        if not 0 <= seed < 2**63:
            raise ConfigError(f"seed must lie between 0 and 2^63 - 1, was {seed}")
        if observations < 0:
            raise ConfigError(f"observations must not be negative, was {observations}")
        if math.isinf(sharpe_daily):
            raise ConfigError(f"sharpe_daily must be finite or NaN, was {sharpe_daily}")
        for label, text in (("data_hash", data_hash), ("name", name), ("config_hash", config_hash)):
            if not text:
                raise ConfigError(f"{label} must not be empty")
        try:
            text = json.dumps(dict(extra or {}), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"extra must be a JSON object: {error}") from error
        ratio = None if math.isnan(sharpe_daily) else float(sharpe_daily)
        row = (data_hash, name, config_hash, int(seed), kind, ratio, int(observations), text)
        with self._connection() as connection:
            connection.execute(_UPSERT, row)

    def trials(self, data_hash: str, *, kind: str | None = None) -> list[Trial]:
        """Return the trials on one data set, of one kind or of all, ordered by name, configuration, seed."""
        with self._connection() as connection:
            rows = connection.execute(_SELECT, (data_hash, kind, kind)).fetchall()
        return [self._trial(data_hash, index, row) for index, row in enumerate(rows)]

    def count(self, data_hash: str, *, kind: str | None = None) -> int:
        """Return how many different trials were recorded on one data set."""
        return len(self.trials(data_hash, kind=kind))

    def sharpe_variance(self, data_hash: str, *, kind: str | None = None) -> float:
        """Return the sample variance of the daily Sharpe ratios, divisor n − 1.

        Trials without a ratio are left out; NaN when fewer than two remain.
        """
        return _sharpe_variance(self.trials(data_hash, kind=kind))

    def _trial(self, data_hash: str, index: int, row: tuple[Any, ...]) -> Trial:
        kind, name, config_hash, seed, ratio, observations, text = row
        try:
            extra = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"expected extra to be a JSON object, was {text!r}", path=self.path, row=index
            ) from error
        return Trial(
            data_hash=data_hash,
            kind=kind,
            name=name,
            config_hash=config_hash,
            seed=seed,
            sharpe_daily=math.nan if ratio is None else ratio,
            observations=observations,
            extra=extra,
        )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open, check and close; autocommit, so each statement is one atomic step."""
        uri = self.path.resolve().as_uri() + "?mode=rw"
        with (
            _named_errors(self.path),
            closing(
                sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection,
        ):
            self._require_own_schema(connection)
            yield connection

    def _require_own_schema(self, connection: sqlite3.Connection) -> None:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        if application_id != APPLICATION_ID:
            raise DataError(
                f"expected a trial registry (application id {APPLICATION_ID:#x}), was {application_id:#x}",
                path=self.path,
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            age = "a newer anytick" if version > SCHEMA_VERSION else "no released anytick"
            raise DataError(
                f"expected registry version {SCHEMA_VERSION}, was {version}, written by {age}", path=self.path
            )


def deflated(
    returns: ArrayLike, registry: TrialRegistry, data_hash: str, *, kind: str | None = None
) -> DeflatedSharpe:
    """Judge a series against everything recorded on its data.

    Record every trial of a run first and judge afterwards, so that each is judged against all. With one trial
    (or none, or fewer than two that have a ratio) there is no selection to correct for: DSR = PSR.

    Parameters
    ----------
    returns : array_like, shape (n_days,)
        Daily excess returns or profits, finite.
    kind : str, optional
        Count trials of this kind only.
    """
    moments = return_moments(returns)
    # One read, so that a trial recorded meanwhile cannot stand in the count and not in the variance.
    trials = registry.trials(data_hash, kind=kind)
    count = max(1, len(trials))
    variance = _sharpe_variance(trials)
    if math.isnan(variance):
        variance = 0.0
    return DeflatedSharpe(
        sharpe_daily=moments.sharpe,
        luck_daily=expected_maximum_sharpe(count, trial_sharpe_variance=variance),
        probabilistic=probabilistic_sharpe(
            moments.sharpe,
            observations=moments.observations,
            skew=moments.skew,
            kurtosis=moments.kurtosis,
        ),
        deflated=deflated_sharpe(
            moments.sharpe,
            observations=moments.observations,
            skew=moments.skew,
            kurtosis=moments.kurtosis,
            trials=count,
            trial_sharpe_variance=variance,
        ),
        trials=count,
    )


def trial_hash(config_hash: str, journal_hashes: Sequence[str]) -> str:
    """Return what tells a trial from others of its name: the configuration, and what came of it.

    A configuration holds a strategy's class and parameters, not its source. A changed source shows in the
    journal, and is a further trial; the same run again has the same journal, and is none.
    """
    return hashlib.sha256(":".join((config_hash, *journal_hashes)).encode()).hexdigest()


def record_backtests(results: Sequence[Result], registry: TrialRegistry) -> list[DeflatedSharpe]:
    """Count backtests as trials on their data, then judge each against everything tried there."""
    for result in results:
        daily = daily_profits(result)
        registry.record(
            result.data_hash, kind="strategy", name=result.name,
            config_hash=trial_hash(result.config_hash, [result.journal_hash]), seed=result.seed,
            sharpe_daily=sharpe_ratio(daily), observations=len(daily),
        )  # fmt: skip
    return [
        deflated(daily_profits(result), registry, result.data_hash, kind="strategy") for result in results
    ]


def _sharpe_variance(trials: list[Trial]) -> float:
    ratios = np.array([trial.sharpe_daily for trial in trials if not math.isnan(trial.sharpe_daily)])
    return float(ratios.var(ddof=1)) if ratios.size > 1 else math.nan


def _create(path: Path) -> None:
    """Put an empty registry at `path` unless another process does so first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        # Switching to the write-ahead log can fail at once when two processes meet there, whatever the
        # timeout; a file that appears finished never needs the switch.
        with closing(sqlite3.connect(draft)) as connection:
            connection.executescript(_SCHEMA)
        with suppress(FileExistsError):
            os.link(draft, path)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system report into `DataError` naming the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise DataError(f"expected a readable trial registry, was refused: {error}", path=path) from error
