"""Journal records in words, and the first one in which two journals differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from os import PathLike
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.schema import (
    JOURNAL_DTYPE,
    JournalKind,
    Liquidity,
    OrderAction,
    OrderFlag,
    OrderType,
    ParentState,
    Reason,
    ReportKind,
    TimeInForce,
)

from .journal_format import PAYLOAD_DTYPES, RECORD_BYTES, payloads, stream_journal
from .order_ids import OURS, unpack_order_id

_CODES: Final[dict[tuple[JournalKind | None, str], type[IntEnum | IntFlag]]] = {
    (None, "action"): OrderAction,
    (None, "order_type"): OrderType,
    (None, "time_in_force"): TimeInForce,
    (None, "reason"): Reason,
    (None, "liquidity"): Liquidity,
    (None, "state"): ParentState,
    (JournalKind.ORDER, "flags"): OrderFlag,
    (JournalKind.REPORT, "kind"): ReportKind,
    (JournalKind.REFUSAL, "kind"): ReportKind,
}
_SIDES: Final = {1: "buy", -1: "sell", 0: "none"}
_FRAME: Final = ("sequence", "ts_ns", "version", "kind")


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalDifference:
    """The first record in which two journals differ.

    Parameters
    ----------
    row : int
        Zero-based record.
    fields : dict of str to pair
        What differs, as (in a, in b); empty where one journal has ended.
    a, b : dict of str to value, or None
        The whole record in words; None where that journal has ended.
    """

    row: int
    fields: dict[str, tuple[Any, Any]]
    a: dict[str, Any] | None
    b: dict[str, Any] | None


def describe_record(record: np.void) -> dict[str, Any]:
    """Return a record's frame and payload by field name, codes as names.

    A payload field that shares its name with the frame is called ``payload.{name}``. Checksum and
    chain are left out: they follow from the rest.
    """
    described: dict[str, Any] = {name: record[name].item() for name in _FRAME}
    code = described["kind"]
    if code not in set(JournalKind):
        return described | {"payload": record["payload"].tobytes().hex()}
    kind = JournalKind(code)
    described["kind"] = kind.name
    payload = payloads(np.asarray(record).reshape(1), kind)[0]
    for name in PAYLOAD_DTYPES[kind].names or ():
        if not name.startswith("_"):
            described[f"payload.{name}" if name in _FRAME else name] = _in_words(kind, name, payload[name])
    return described


def diff_journals(a: str | PathLike[str], b: str | PathLike[str]) -> JournalDifference | None:
    """Return the first difference of two journals, None where they are the same.

    Raises
    ------
    DataError
        Where one of them is missing, foreign or truncated.
    """
    chunks_a, chunks_b = stream_journal(a), stream_journal(b)
    ended = (0, np.empty(0, dtype=JOURNAL_DTYPE))
    while True:
        row, records_a = next(chunks_a, ended)
        row_b, records_b = next(chunks_b, ended)
        common = min(len(records_a), len(records_b))
        differing = _bytes_of(records_a[:common]) != _bytes_of(records_b[:common])
        if differing.any():
            index = int(np.argmax(differing.any(axis=1)))
            return _difference(row + index, records_a[index], records_b[index])
        if len(records_a) != len(records_b):
            return JournalDifference(
                row=max(row, row_b) + common,
                fields={},
                a=describe_record(records_a[common]) if len(records_a) > common else None,
                b=describe_record(records_b[common]) if len(records_b) > common else None,
            )
        if common == 0:
            return None


def _difference(row: int, record_a: np.void, record_b: np.void) -> JournalDifference:
    a, b = describe_record(record_a), describe_record(record_b)
    names = list(dict.fromkeys([*a, *b]))
    fields = {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
    # Padding, checksum or chain alone can differ only in a damaged file.
    for name in ("crc32c", "chain") if not fields else ():
        if record_a[name] != record_b[name]:
            fields[name] = (int(record_a[name]), int(record_b[name]))
    return JournalDifference(row=row, fields=fields, a=a, b=b)


def _bytes_of(records: NDArray[np.void]) -> NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), RECORD_BYTES)


def _in_words(kind: JournalKind, name: str, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes().hex() if value.dtype == np.uint8 else value.tolist()
    number = value.item()
    codes = _CODES.get((kind, name)) or _CODES.get((None, name))
    if codes is not None:
        return _code_name(codes, number)
    if name == "side":
        return _SIDES.get(number, number)
    if name == "client_order_id" and number >= OURS:
        return str(unpack_order_id(number))
    return number


def _code_name(codes: type[IntEnum | IntFlag], number: int) -> str | int:
    if issubclass(codes, IntFlag):
        return "|".join(str(flag.name) for flag in codes if number & flag) or number
    return str(codes(number).name) if number in set(codes) else number
