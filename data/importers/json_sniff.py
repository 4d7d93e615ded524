"""Propose a mapping for a JSON-lines recording that nobody described.

Messages are grouped by the paths they have. In each group names and values tell what it is: two arrays of
levels, or one of changes with sides, are depth; a price and a size are trades, or levels where a size is
ever 0; a bid and an ask are quotes. What cannot be told is left to no stream.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from .. import columns as rule
from ..errors import DataError
from ..mapping import SideWords, TimeMapping
from .grid import instrument_of, is_plain
from .json_conditions import holds
from .json_mapping import ANYTHING, PREFIX, JsonMapping, LevelMapping, StreamMapping
from .json_sequence import number_at, propose_sequence
from .json_shapes import arrays, at_path, last_part, scalars, text_of
from .json_streams import instant_ns, parse_line
from .text_lines import lines

_SAMPLE_LINES: Final = 5_000
_VALUES_MAX: Final = 500
# One kind of message may come under two names: a trade and the last one before the subscription.
_FORMS_MAX: Final = 2

_TIMES: Final = (
    "t", "ts_event", "transact_time", "microtimestamp", "timestamp", "ts", "ts_ns", "ts_us", "ts_ms", "time",
    "datetime", "exchange_time", "exchange_timestamp", "trade_time", "event_time", "e", "created_at", "date",
)  # fmt: skip
_RECEIVES: Final = (
    "local_timestamp", "local_ts", "recv_ns", "receive_time", "received_at", "ts_recv", "recv_time",
    "receipt_timestamp",
)  # fmt: skip
_KINDS: Final = (
    "e", "type", "event", "channel", "topic", "stream", "table", "arg.channel",
    "method", "action",
)  # fmt: skip
_SYMBOLS: Final = (
    "s", "symbol", "product_id", "pair", "instrument", "instid", "instrument_name", "market",
    "ticker",
)  # fmt: skip
_BIDS: Final = ("bids", "bid", "b", "buy", "bs")
_ASKS: Final = ("asks", "ask", "a", "sell", "as")
_CHANGES: Final = ("changes", "updates", "levels", "data", "book")
_PRICES: Final = (*rule.PRICE_NAMES, "p")
_SIZES: Final = (*rule.SIZE_NAMES, "q", "v", "sz", "vol")
_SIDES: Final = (*rule.SIDE_NAMES, "takerside", "type", "taker_side", "trade_type")
_MAKERS: Final = ("m", "is_buyer_maker", "isbuyermaker", "buyer_maker")
_SNAPSHOTS: Final = ("snapshot", "partial")


@dataclass(slots=True)
class _Group:
    """Messages of one shape: what stands at each path."""

    messages: list[Any] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)


def sniff_json(path: Path, *, symbol: str | None = None) -> JsonMapping:
    """Return the mapping that the first lines suggest.

    Raises
    ------
    DataError
        No stream can be told.
    """
    sampled = []
    for _, line in islice(lines(path), _SAMPLE_LINES):
        try:
            sampled.append(parse_line(line))
        except ValueError:
            continue
    if not sampled:
        raise DataError("expected lines of JSON, was none", path=path)
    symbol_path = _symbol_path([message for _, message in sampled])
    symbols = {text_of(at_path(message, symbol_path)) for _, message in sampled} if symbol_path else set()
    chosen = _chosen({name for name in symbols if name}, symbol, path)
    groups: dict[tuple[Any, ...], _Group] = defaultdict(_Group)
    for prefix, message in sampled:
        if chosen and symbol_path and text_of(at_path(message, symbol_path)) not in (chosen, None):
            continue
        if chosen and not symbol_path and not _names(message, chosen):
            continue
        group = groups[_shape(message)]
        if len(group.messages) < _VALUES_MAX:
            group.messages.append(message)
            group.prefixes.append(prefix)
    streams: list[StreamMapping] = []
    numbers: tuple[list[str], list[str]] = ([], [])
    for shape, group in groups.items():
        stream = _stream_of(group)
        if stream is not None:
            where = _where(shape) or {next(iter(stream.columns.values())): (ANYTHING,)}
            if symbol_path and chosen and len(symbols - {None}) > 1:
                where[symbol_path] = (chosen.lower(),)
            stream = replace(
                stream, where=where, sequence=propose_sequence(group.messages, stream.time.column)
            )
            if stream not in streams:
                streams.append(stream)
            for number, values in zip(numbers, _numbers(stream, group), strict=True):
                number.extend(values)
    _require_one_market(streams, path)
    if any(stream.kind == "depth" for stream in streams):
        # A quote and a depth update overtake each other: the touch would go back in time.
        streams = [stream for stream in streams if stream.kind != "quotes"]
    if not streams:
        raise DataError(
            "expected messages with depth, trades or quotes, was none that could be told", path=path
        )
    name = chosen or path.name.partition(".")[0].upper()
    found = instrument_of(name, numbers[0], numbers[1], path=path)
    streams = _with_numbers_of_snapshots(streams, [group.messages[0] for group in groups.values()])
    # Snapshots first: their conditions are narrower than those of the updates beside them.
    streams.sort(key=lambda stream: -len(stream.where))
    return JsonMapping(
        symbol=found.symbol,
        price_increment=found.price_increment,
        lot_size=found.lot_size,
        streams=tuple(streams),
    )


def _with_numbers_of_snapshots(
    streams: Sequence[StreamMapping], messages: Sequence[Any]
) -> list[StreamMapping]:
    """Let snapshots begin the sequence of the updates behind them, where they have its number."""
    numbers = next((one.sequence for one in streams if one.kind == "depth" and one.sequence), None)
    found = []
    for stream in streams:
        if stream.snapshot and stream.sequence is None and numbers is not None:
            own = [message for message in messages if holds(message, stream.where)]
            if any(number_at(message, numbers.last) is not None for message in own):
                stream = replace(stream, sequence=numbers)
        found.append(stream)
    return found


def _chosen(symbols: set[str], symbol: str | None, path: Path) -> str:
    by_form = {name.replace("/", "-").lower(): name for name in symbols}
    if symbol is not None and symbols:
        wanted = symbol.replace("/", "-").lower()
        if wanted not in by_form:
            raise DataError(
                f"expected messages of {symbol}, was {', '.join(sorted(symbols)[:20])}", path=path
            )
        return by_form[wanted]
    if len(symbols) > 1:
        raise DataError(
            f"expected one of its symbols, given as --symbol, was {', '.join(sorted(symbols)[:20])}",
            path=path,
        )
    return symbol or next(iter(symbols), "")


def _names(message: Any, symbol: str) -> bool:
    """Tell whether a word that names a message's kind, such as its channel, ends in a symbol."""
    wanted = symbol.lower().replace("/", "").replace("-", "")
    words = [str(value).lower() for path, value in scalars(message) if last_part(path) in _KINDS]
    return any(word.replace("/", "").replace("-", "").endswith(wanted) for word in words)


def _require_one_market(streams: Sequence[StreamMapping], path: Path) -> None:
    """Refuse streams of one form under several words: channels that name their market."""
    by_form: dict[str, list[str]] = defaultdict(list)
    for stream in streams:
        form = replace(stream, where=dict.fromkeys(stream.where, ()))
        by_form[repr(form)].append(" ".join(word for words in stream.where.values() for word in words))
    for names in by_form.values():
        if len(names) > _FORMS_MAX:
            raise DataError(
                f"expected one market, or its name given as the symbol, was {', '.join(names[:20])}",
                path=path,
            )


def _shape(message: Any) -> tuple[Any, ...]:
    """Return what messages of one kind share: their paths, and the words at those that name a kind."""
    names = tuple(sorted(path for path, _ in arrays(message)))
    keys = tuple(sorted(path for path, _ in scalars(message)))
    words = tuple(
        sorted(
            (path, str(value))
            for path, value in scalars(message)
            if last_part(path) in _KINDS and isinstance(value, str)
        )
    )
    return words, keys, names


def _where(shape: tuple[Any, ...]) -> dict[str, tuple[str, ...]]:
    words = dict(shape[0])
    best = [name for known in _KINDS for name in words if last_part(name) == known]
    return {name: (words[name].lower(),) for name in best}


def _symbol_path(messages: Sequence[Any]) -> str:
    for name in _SYMBOLS:
        for message in messages:
            for path, value in scalars(message):
                if last_part(path) == name and isinstance(value, str) and value:
                    return path
    return ""


def _stream_of(group: _Group) -> StreamMapping | None:
    message = group.messages[0]
    for each, record in _records(message):
        receive = _receive_of(group)
        time = _time_of(group, each) or receive
        if time is None:
            continue
        found = _depth_of(group, each) or _record_of(group, record, each)
        if found is not None:
            return replace(found, time=time, receive=receive, each=each)
    return None


def _records(message: Any) -> Iterator[tuple[str, Any]]:
    """Yield the message itself, then the elements of its arrays of objects."""
    yield "", message
    for path, array in arrays(message):
        if array and isinstance(array[0], dict):
            yield path, array[0]


def _level_of(array: list[Any]) -> LevelMapping | None:
    """Return where the levels of an array have their numbers."""
    level = array[0] if array else None
    if isinstance(level, list):
        plain = [place for place, value in enumerate(level) if is_plain(text_of(value) or "")]
        sides = [place for place, value in enumerate(level) if _is_side(value)]
        if len(plain) >= 2:
            return LevelMapping(price=str(plain[0]), size=str(plain[1]), side=str(sides[0]) if sides else "")
    if isinstance(level, dict):
        price, size = (_key(level, names) for names in (_PRICES, _SIZES))
        side = _key(level, _SIDES)
        if price and size:
            return LevelMapping(price=price, size=size, side=side if side and _is_side(level[side]) else "")
    return None


def _key(record: dict[str, Any], names: Sequence[str]) -> str:
    return next((key for name in names for key in record if key.lower() == name), "")


def _is_side(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in (*SideWords().buy, *SideWords().sell, "offer")


def _depth_of(group: _Group, each: str) -> StreamMapping | None:
    """Return a depth stream where the records have levels on two sides, or changes with sides."""
    found: dict[str, tuple[str, LevelMapping]] = {}
    for message in group.messages:
        inside = at_path(message, each)
        for one in inside if each and isinstance(inside, list) else [message]:
            for path, array in arrays(one):
                level = _level_of(array)
                for part, names in (("bids", _BIDS), ("asks", _ASKS), ("changes", _CHANGES)):
                    if level is not None and last_part(path) in names and (part != "changes" or level.side):
                        found.setdefault(part, (path, level))
    time = TimeMapping(column=PREFIX, unit="ns")
    if "bids" in found or "asks" in found:
        # A sample may show one side alone; the other is called its counterpart.
        one, other = ("bids", "asks") if "bids" in found else ("asks", "bids")
        path, level = found[one]
        known = {"bids": _BIDS, "asks": _ASKS}
        twin = path[: len(path) - len(last_part(path))] + known[other][known[one].index(last_part(path))]
        columns = {one: path, other: found[other][0] if other in found else twin}
        snapshot = _snapshot_of(group)
        return StreamMapping(
            kind="depth", time=time, columns={part: columns[part] for part in ("bids", "asks")},
            level=replace(level, side=""), snapshot=snapshot,
        )  # fmt: skip
    if "changes" in found:
        path, level = found["changes"]
        return StreamMapping(kind="depth", time=time, columns={"changes": path}, level=level,
                             snapshot=_snapshot_of(group))  # fmt: skip
    return None


def _snapshot_of(group: _Group) -> dict[str, tuple[str, ...]]:
    for path, value in scalars(group.messages[0]):
        if isinstance(value, str) and value.lower() in _SNAPSHOTS:
            return {path: (value.lower(),)}
        if last_part(path) == "lastupdateid":
            return {path: (ANYTHING,)}
    return {}


def _record_of(group: _Group, record: Any, each: str) -> StreamMapping | None:
    """Return a stream of trades, levels or quotes."""
    told = dict(scalars(record))
    # Names that differ in case alone (p and P) are told apart: the spelling as listed comes first.
    find: Callable[[Sequence[str]], str] = lambda names: next(  # noqa: E731
        (path for name in names for path in told if path.rpartition(".")[2] == name),
        next((path for name in names for path in told if len(name) > 1 and last_part(path) == name), ""),
    )
    time = TimeMapping(column=PREFIX, unit="ns")
    bid, ask = find((*rule.BID_NAMES, "b")), find((*rule.ASK_NAMES, "a"))
    if bid and ask and all(is_plain(text_of(told[name]) or "") for name in (bid, ask)):
        columns = {"bid": bid, "ask": ask}
        sizes = find((*rule.BID_SIZE_NAMES, "B")), find((*rule.ASK_SIZE_NAMES, "A"))
        if all(sizes):
            columns |= {"bid_size": sizes[0], "ask_size": sizes[1]}
        return StreamMapping(kind="quotes", time=time, columns=columns)
    price, size = find(_PRICES), find(_SIZES)
    if not price or not size or not all(is_plain(text_of(told[name]) or "") for name in (price, size)):
        return None
    maker = find(_MAKERS)
    if maker and isinstance(told[maker], bool):
        words = SideWords(buy=("false",), sell=("true",))
        return StreamMapping(
            kind="trades", time=time, columns={"price": price, "size": size, "side": maker}, side=words
        )
    side = next((path for path in told if last_part(path) in _SIDES and _is_side(told[path])), "")
    columns = {"price": price, "size": size} | ({"side": side} if side else {})
    # A size of nothing removes a level; nobody trades nothing.
    empty = any((text_of(at_path(one, size)) or "1").strip("0.") == "" for one in _each(group, each))
    return StreamMapping(kind="levels" if side and empty else "trades", time=time, columns=columns)


def _each(group: _Group, each: str) -> Iterator[Any]:
    for message in group.messages:
        inside = at_path(message, each) if each else [message]
        yield from inside if isinstance(inside, list) else ()


def _unit_of(values: Sequence[Any]) -> str | None:
    """Return the unit in which every value is an instant after 1980, None where there is none."""
    texts = [text_of(value) or "" for value in values]
    for unit in ("s", "ms", "us", "ns", "iso"):
        time = TimeMapping(column="", unit=unit)
        read = [instant_ns(text, time) for text in texts]
        if read and all(ns is not None and ns >= rule.GUESSED_SECONDS_MIN * 10**9 for ns in read):
            return unit
    return None


def _time_of(group: _Group, each: str) -> TimeMapping | None:
    spots: list[tuple[str, list[Any]]] = []
    for inner in (True, False) if each else (False,):
        records = list(_each(group, each)) if inner else group.messages
        if records:
            spots += [(path, [at_path(one, path) for one in records]) for path, _ in scalars(records[0])]
    for name in _TIMES:
        for path, values in spots:
            if last_part(path) == name and (unit := _unit_of(values)) is not None:
                return TimeMapping(column=path, unit=unit)
    return None


def _receive_of(group: _Group) -> TimeMapping | None:
    unit = _unit_of(group.prefixes)
    if unit is not None:
        return TimeMapping(column=PREFIX, unit=unit)
    for name in _RECEIVES:
        for path, _ in scalars(group.messages[0]):
            values = [at_path(message, path) for message in group.messages]
            if last_part(path) == name and (unit := _unit_of(values)) is not None:
                return TimeMapping(column=path, unit=unit)
    return None


def _numbers(stream: StreamMapping, group: _Group) -> tuple[list[str], list[str]]:
    """Return prices and sizes of a group, as written."""
    prices: list[Any] = []
    sizes: list[Any] = []
    for record in _each(group, stream.each):
        for part, path in stream.columns.items():
            value = at_path(record, path)
            if part in ("bids", "asks", "changes"):
                levels = value if isinstance(value, list) else []
                prices += [at_path(level, stream.level.price) for level in levels]
                sizes += [at_path(level, stream.level.size) for level in levels]
            elif part != "side":
                (sizes if "size" in part else prices).append(value)
    return _plain(prices), _plain(sizes)


def _plain(values: Sequence[Any]) -> list[str]:
    return [text for value in values if (text := text_of(value)) and is_plain(text)]
