"""The partitions of a store as two arrays, of files and of their row groups.

A store of years lists thousands of files and tens of thousands of row groups. Opening it must not make an
object of each: the arrays are checked as a whole, a range is chosen in them, and only what was chosen becomes
a `Partition`. In the manifest each array stands as the Base64 of its records; its schema version fixes their
layout.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .partition import Key, Partition, RowGroup, partition_name, require_path_part

FILE_DTYPE: Final = np.dtype(
    [
        ("instrument", "<u4"),
        ("venue", "<u4"),
        ("day", "<i4"),
        ("group_count", "<u4"),
        ("generation", "<i8"),
        ("index", "<i8"),
        ("rows", "<i8"),
        ("bytes", "<i8"),
        ("first_ts_ns", "<i8"),
        ("last_ts_ns", "<i8"),
        ("footer_crc32c", "<u4"),
        ("sha256", "V32"),
    ]
)
"""Instrument and venue are places in the lists of names; day counts from 1970-01-01."""
GROUP_DTYPE: Final = np.dtype(
    [
        ("rows", "<i8"),
        ("bytes", "<i8"),
        ("first_ts_ns", "<i8"),
        ("last_ts_ns", "<i8"),
        ("crc32c", "<u4"),
    ]
)

_NO_FILES: Final = np.empty(0, FILE_DTYPE)
_NO_GROUPS: Final = np.empty(0, GROUP_DTYPE)
_KEY: Final = ("instrument", "venue", "day", "generation", "index")
_EPOCH: Final = date(1970, 1, 1).toordinal()
_COUNT_MAX: Final = 1 << 40
_GROUPS_MAX: Final = 1 << 22
"""Of a file: the sum of so many counts stays within int64."""


class PartitionTable(Mapping[Key, Partition]):
    """Partitions by their key, in its order; never changed.

    Parameters
    ----------
    instruments, venues : sequence of str
        Sorted, each once.
    files : array of FILE_DTYPE
        Sorted by key, each once.
    groups : array of GROUP_DTYPE
        Those of the first file, then those of the second, and so on.

    Raises
    ------
    ConfigError
        The arrays do not describe files.
    """

    def __init__(
        self,
        instruments: Sequence[str] = (),
        venues: Sequence[str] = (),
        files: NDArray[np.void] = _NO_FILES,
        groups: NDArray[np.void] = _NO_GROUPS,
    ) -> None:
        self.instruments, self.venues = tuple(instruments), tuple(venues)
        self.files, self.groups = files, groups
        self._require_names()
        self._require_counts()
        self._ends = np.cumsum(files["group_count"], dtype=np.int64)
        self._require_groups()

    @classmethod
    def of(cls, partitions: Iterable[Partition]) -> PartitionTable:
        """Return the table of some partitions."""
        parts = sorted(partitions, key=lambda part: part.key)
        instruments = sorted({part.instrument for part in parts})
        venues = sorted({part.venue for part in parts})
        places = ({name: place for place, name in enumerate(names)} for names in (instruments, venues))
        of_instrument, of_venue = places
        files = [
            (
                of_instrument[part.instrument], of_venue[part.venue],
                _day(part.day), len(part.groups), part.generation, part.index, part.rows,
                part.bytes, part.first_ts_ns, part.last_ts_ns, part.footer_crc32c,
                bytes.fromhex(part.sha256),
            )
            for part in parts
        ]  # fmt: skip
        groups = [tuple(group) for part in parts for group in part.groups]
        return cls(instruments, venues, np.array(files, FILE_DTYPE), np.array(groups, GROUP_DTYPE))

    @classmethod
    def parsed(cls, stored: Mapping[str, Any]) -> PartitionTable:
        """Return the table that `stored` wrote."""
        arrays = (
            np.frombuffer(b64decode(stored[name], validate=True), dtype)
            for name, dtype in (("files", FILE_DTYPE), ("groups", GROUP_DTYPE))
        )
        return cls(stored["instruments"], stored["venues"], *arrays)

    def stored(self) -> dict[str, Any]:
        """Return the table in what JSON can write."""
        return {
            "instruments": self.instruments,
            "venues": self.venues,
            "files": b64encode(self.files.tobytes()).decode(),
            "groups": b64encode(self.groups.tobytes()).decode(),
        }

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Key]:
        columns = (self.files[name].tolist() for name in _KEY)
        for instrument, venue, day, generation, index in zip(*columns, strict=True):
            yield self.instruments[instrument], self.venues[venue], _iso(day), generation, index

    def __getitem__(self, key: Key) -> Partition:
        rows = self._rows_of(key[:3])
        files = self.files[rows]
        found = rows[(files["generation"] == key[3]) & (files["index"] == key[4])]
        if len(found) == 0:
            raise KeyError(key)
        return self.at(int(found[0]))

    def at(self, row: int) -> Partition:
        """Return the partition in a row of `files`."""
        (instrument, venue, day, group_count, generation, index, rows, size, first_ts_ns, last_ts_ns,
         footer_crc32c, sha256) = self.files[row].item()  # fmt: skip
        end = int(self._ends[row])
        return Partition(
            instrument=self.instruments[instrument], venue=self.venues[venue], day=_iso(day),
            generation=generation, index=index, rows=rows, bytes=size, first_ts_ns=first_ts_ns,
            last_ts_ns=last_ts_ns, sha256=sha256.hex(), footer_crc32c=footer_crc32c,
            groups=tuple(RowGroup(*group) for group in self.groups[end - group_count : end].tolist()),
        )  # fmt: skip

    def names(self) -> list[str]:
        """Return every file's name within the store."""
        return [partition_name(*key) for key in self]

    def parts_of(self, day_key: tuple[str, str, str]) -> list[Partition]:
        """Return the files of one instrument, venue and day in order of time."""
        rows = self._rows_of(day_key)
        return [self.at(row) for row in self._in_order(rows).tolist()]

    def rows(
        self,
        *,
        days: Mapping[str, Sequence[tuple[date, date]]] | None = None,
        venues: Sequence[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> NDArray[np.intp]:
        """Return rows of files that may hold events with start_ns <= ts_ns < stop_ns, by name, day and time.

        Parameters
        ----------
        days : mapping, optional
            First and last days by instrument; others are left out.
        """
        files = self.files
        chosen = np.ones(len(files), bool)
        if start_ns is not None:
            chosen &= files["last_ts_ns"] >= start_ns
        if stop_ns is not None:
            chosen &= files["first_ts_ns"] < stop_ns
        if venues is not None:
            places = [place for place, name in enumerate(self.venues) if name in venues]
            chosen &= np.isin(files["venue"], places)
        if days is not None:
            named = np.zeros(len(files), bool)
            for place, name in enumerate(self.instruments):
                for first, last in days.get(name, ()):
                    low, high = first.toordinal() - _EPOCH, last.toordinal() - _EPOCH
                    named |= (files["instrument"] == place) & (files["day"] >= low) & (files["day"] <= high)
            chosen &= named
        return self._in_order(np.flatnonzero(chosen))

    def changed(self, *, removed: Iterable[Key], added: Iterable[Partition]) -> PartitionTable:
        """Return the table without some files and with others."""
        gone = set(removed)
        kept = np.array([key not in gone for key in self], bool)
        other = PartitionTable.of(added)
        instruments = sorted({*self.instruments, *other.instruments})
        venues = sorted({*self.venues, *other.venues})
        files = []
        for table, some in ((self, self.files[kept]), (other, other.files)):
            some = some.copy()
            for field, old, new in (
                ("instrument", table.instruments, instruments), ("venue", table.venues, venues)
            ):  # fmt: skip
                places = np.array([new.index(name) for name in old], FILE_DTYPE[field])
                some[field] = places[some[field]] if len(some) else 0
            files.append(some)
        groups = np.concatenate((self.groups[np.repeat(kept, self.files["group_count"])], other.groups))
        joined = np.concatenate(files)
        order = np.lexsort([joined[name] for name in reversed(_KEY)])
        counts = joined["group_count"].astype(np.int64)
        starts = np.cumsum(counts) - counts
        joined, counts, starts = joined[order], counts[order], starts[order]
        within = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
        return PartitionTable(instruments, venues, joined, groups[np.repeat(starts, counts) + within])

    def days_of(self, rows: NDArray[np.intp]) -> dict[str, tuple[date, date]]:
        """Return the first and the last day of each instrument in some rows."""
        files = self.files[rows]
        found = {}
        # Not np.unique: its first call imports masked arrays, for longer than all of this takes.
        for place in sorted(set(files["instrument"].tolist())):
            days = files["day"][files["instrument"] == place]
            found[self.instruments[place]] = _date(int(days.min())), _date(int(days.max()))
        return found

    def pairs(self) -> list[tuple[str, str]]:
        """Return each instrument with each of its venues."""
        places = set(zip(self.files["instrument"].tolist(), self.files["venue"].tolist(), strict=True))
        return [(self.instruments[instrument], self.venues[venue]) for instrument, venue in sorted(places)]

    def _in_order(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Sort rows by name and day, then time, and where both ends are equal by age."""
        files = self.files[rows]
        keys = "index", "generation", "last_ts_ns", "first_ts_ns", "day", "venue", "instrument"
        return rows[np.lexsort([files[name] for name in keys])]

    def _rows_of(self, day_key: tuple[str, str, str]) -> NDArray[np.intp]:
        instrument, venue, day = day_key
        if instrument not in self.instruments or venue not in self.venues:
            return np.empty(0, np.intp)
        return np.flatnonzero(
            (self.files["instrument"] == self.instruments.index(instrument))
            & (self.files["venue"] == self.venues.index(venue))
            & (self.files["day"] == _day(day))
        )

    def _require_names(self) -> None:
        for what, names in (("instrument", self.instruments), ("venue", self.venues)):
            for name in names:
                require_path_part(what, name)
            if list(names) != sorted(set(names)):
                raise ConfigError(f"{what}s must be sorted and named once, was {names}")
            if len(self.files) and int(self.files[what].max()) >= len(names):
                raise ConfigError(f"{what} must be a place in the names, was {self.files[what].max()}")

    def _require_counts(self) -> None:
        """Refuse counts out of range, and files that are not in order or listed twice."""
        files = self.files
        for name, least, most in (
            ("day", date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH),
            ("group_count", 1, _GROUPS_MAX), ("generation", 0, _COUNT_MAX), ("index", 0, _COUNT_MAX),
            ("rows", 1, _COUNT_MAX), ("bytes", 1, _COUNT_MAX),
        ):  # fmt: skip
            if len(files) and not (least <= int(files[name].min()) and int(files[name].max()) <= most):
                raise ConfigError(f"{name} must be {least} to {most}, was otherwise")
        equal = np.ones(max(len(files) - 1, 0), bool)
        ahead = np.zeros_like(equal)
        for name in _KEY:
            early, late = files[name][:-1], files[name][1:]
            ahead |= equal & (early < late)
            equal &= early == late
        if not ahead.all():
            raise ConfigError("files must be sorted by key and listed once, was otherwise")

    def _require_groups(self) -> None:
        """Refuse groups that do not add up to their files."""
        files, groups = self.files, self.groups
        if len(groups) != (int(self._ends[-1]) if len(files) else 0):
            raise ConfigError(f"groups must be as many as the files have, was {len(groups)}")
        for name in ("rows", "bytes"):
            if len(groups) and not (int(groups[name].min()) >= 1 and int(groups[name].max()) <= _COUNT_MAX):
                raise ConfigError(f"groups must hold counts from 1 up, was otherwise in {name}")
        if len(files):
            starts = self._ends - files["group_count"]
            if (np.add.reduceat(groups["rows"], starts) != files["rows"]).any():
                raise ConfigError("groups must hold their file's rows together, was otherwise")
            if (np.add.reduceat(groups["bytes"], starts) >= files["bytes"]).any():
                raise ConfigError("a partition must hold rows and a footer behind them, was otherwise")


def _date(day: int) -> date:
    return date.fromordinal(day + _EPOCH)


def _day(iso: str) -> int:
    return date.fromisoformat(iso).toordinal() - _EPOCH


def _iso(day: int) -> str:
    return _date(day).isoformat()
