"""LOBSTER file pairs: finding them in a zip, beside a CSV or in a folder.

A pair is ``TICKER_DATE_START_END_message_L.csv`` beside ``..._orderbook_L.csv``; row i of the second is
the book after message i of the first. Nothing is ever extracted to disk: members are read as streams,
so a name inside an archive can point nowhere, and a compression bomb costs time, not memory.
"""

from __future__ import annotations

import re
import zipfile
from datetime import date
from pathlib import Path, PurePosixPath
from typing import IO, Final

from .errors import DataError
from .lobster_rows import LobsterPair, Opener

NAME_LIKE: Final = "TICKER_2012-06-21_34200000_57600000_message_10.csv (and ..._orderbook_10.csv)"
LEVELS_MAX: Final = 200

_NAME: Final = re.compile(
    r"(?P<ticker>[A-Za-z0-9.-]+)_(?P<date>\d{4}-\d{2}-\d{2})(?:_\d+_\d+)?"
    r"_(?P<part>message|orderbook)_(?P<levels>\d{1,4})\.csv",
    re.ASCII,
)
_MESSAGE: Final = re.compile(rb"\d{1,5}(?:\.\d{1,9})?,[1-7],\d{1,18},\d{1,9},-?\d{1,10},-?1", re.ASCII)
_LEVEL: Final = re.compile(rb"-?\d{1,10}(?:,-?\d{1,10}){3,}", re.ASCII)
_TOLD_ROWS: Final = 50
_TOLD_BYTES: Final = 1 << 16
_CENT: Final = 100
_MEMBER_BYTES_MAX: Final = 64 << 30
# Deflate reaches about 10 on these files; a thousand is a bomb.
_COMPRESSION_MAX: Final = 200
_MEMBERS_MAX: Final = 100_000

Found = tuple[re.Match[str], Path, Opener]


def find_pairs(path: Path) -> list[LobsterPair]:
    """Return the pairs in a zip, beside a CSV, or in a folder, in order of date.

    Raises
    ------
    DataError
        No pair, half a pair, two tickers or depths, or an archive that is damaged or hostile.
    """
    if path.is_dir():
        parts = {entry: _part(entry.name) for entry in sorted(path.iterdir()) if entry.is_file()}
        found = [(match, entry, _file_opener(entry)) for entry, match in parts.items() if match]
    elif not path.is_file():
        raise DataError("expected an existing file", path=path)
    elif path.suffix.lower() == ".zip":
        found = _zip_members(path)
    else:
        found = _csv_and_partner(path)
    return _paired(found, path)


def part_told_by(path: Path) -> str | None:
    """Return "message" or "orderbook" where the first rows of a text are LOBSTER's, whatever it is called."""
    try:
        with path.open("rb") as stream:
            *rows, _ = stream.read(_TOLD_BYTES).split(b"\n")
    except OSError:
        return None
    rows = [row.rstrip(b"\r") for row in rows[:_TOLD_ROWS]]
    if rows and all(_MESSAGE.fullmatch(row) for row in rows):
        return "message"
    return "orderbook" if rows and all(map(_is_book, rows)) else None


def _is_book(row: bytes) -> bool:
    if _LEVEL.fullmatch(row) is None:
        return False
    cells = [int(cell) for cell in row.split(b",")]
    if len(cells) % 4:
        return False
    ask, ask_shares, bid, bid_shares = cells[:4]
    return 0 < bid < ask and ask_shares > 0 < bid_shares and not (ask % _CENT or bid % _CENT)


def _part(name: str) -> re.Match[str] | None:
    return _NAME.fullmatch(name)


def _file_opener(path: Path) -> Opener:
    return lambda: path.open("rb")


def _zip_opener(archive: Path, member: str) -> Opener:
    def opener() -> IO[bytes]:
        # zipfile counts references: the file stays open until the member is closed too.
        with zipfile.ZipFile(archive) as opened:
            return opened.open(member)

    return opener


def _csv_and_partner(path: Path) -> list[Found]:
    match = _part(path.name)
    if match is None:
        raise DataError(f"expected a name like {NAME_LIKE}", path=path)
    other = "orderbook" if match["part"] == "message" else "message"
    partner = path.with_name(f"_{other}_".join(path.name.rsplit(f"_{match['part']}_", 1)))
    if not partner.is_file():
        raise DataError(f"expected its partner {partner.name} beside it", path=path)
    partner_match = _part(partner.name)
    assert partner_match is not None
    return [(match, path, _file_opener(path)), (partner_match, partner, _file_opener(partner))]


def _zip_members(path: Path) -> list[Found]:
    found: list[Found] = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, EOFError, UnicodeDecodeError, NotImplementedError) as error:
        raise DataError(f"expected a whole zip archive, was: {error}", path=path) from error
    if len(members) > _MEMBERS_MAX:
        raise DataError(f"expected at most {_MEMBERS_MAX:,} members, was {len(members):,}", path=path)
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts[:1]):
            raise DataError(f"members must stay inside the archive, was {member.filename!r}", path=path)
        match = _part(name.name)
        if match is None or member.is_dir():
            continue
        if member.flag_bits & 1:
            raise DataError(f"members must not be encrypted, was {member.filename!r}", path=path)
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > _MEMBER_BYTES_MAX or ratio > _COMPRESSION_MAX:
            raise DataError(
                f"{member.filename} must be at most 64 GiB and compressed at most {_COMPRESSION_MAX} times, "
                f"was {member.file_size:,} bytes, {ratio:.0f} times",
                path=path,
            )
        found.append((match, path / name, _zip_opener(path, member.filename)))
    return found


def _paired(found: list[Found], path: Path) -> list[LobsterPair]:
    pairs: dict[tuple[str, str, str], dict[str, Found]] = {}
    for entry in found:
        match = entry[0]
        slot = pairs.setdefault((match["ticker"], match["date"], match["levels"]), {})
        if match["part"] in slot:
            raise DataError(f"expected one {match['part']} file of each pair, was a second", path=entry[1])
        slot[match["part"]] = entry
    if not pairs:
        raise DataError("expected a pair like TICKER_2012-06-21_34200000_57600000_message_10.csv and "
                        "..._orderbook_10.csv, was none", path=path)  # fmt: skip
    if len({(ticker, levels) for ticker, _, levels in pairs}) > 1:
        listed = ", ".join(f"{ticker} level {levels}" for ticker, _, levels in sorted(pairs))
        raise DataError(f"expected one ticker and depth, was {listed}", path=path)
    result = []
    for (ticker, day, levels), slot in sorted(pairs.items()):
        if len(slot) != 2:
            (only,) = slot
            raise DataError(f"expected a message and an orderbook file, was only the {only} file",
                            path=slot[only][1])  # fmt: skip
        if not 1 <= int(levels) <= LEVELS_MAX:
            raise DataError(f"expected 1 to {LEVELS_MAX} levels, was {levels}", path=slot["message"][1])
        try:
            parsed = date.fromisoformat(day)
        except ValueError as error:
            raise DataError(f"expected a calendar date in the name, was {day}", path=path) from error
        result.append(
            LobsterPair(
                ticker=ticker,
                day=parsed,
                levels=int(levels),
                message_path=slot["message"][1],
                orderbook_path=slot["orderbook"][1],
                open_message=slot["message"][2],
                open_orderbook=slot["orderbook"][2],
            )
        )
    return result
