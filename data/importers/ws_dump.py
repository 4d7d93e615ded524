"""Lines of a raw websocket dump: perhaps an address and a direction, our clock in seconds, and the message.

::

    wss://ws.kraken.com <-> 1618678132.3858151                     opened
    wss://ws.kraken.com <- 1618678132.8253062: {"event":...        sent by us
    1618678133.2949052: {"event":"heartbeat"}                      received
    https://api.example/book -> 1641343696.24: {"bids":...         received over HTTP
    1618678133294905200 {"event":"heartbeat"}                      ns, us or ms by the number of digits
    {"event":"heartbeat"}                                          receipt not recorded

Our clock was printed from a double, which holds an instant of our time to about 0.2 µs; its digits are taken
as they stand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ext.decimal_text import decimal_units

from ..columns import TS_NS_MAX
from ..errors import DataError
from ..schema import RECV_NOT_RECORDED

_LINE: Final = re.compile(
    rb"(?:(?P<address>\S+) (?P<direction><->|<-|->) )?(?P<clock>\d{1,12}(?:\.\d{1,12})?)"
    rb"(?:: (?P<message>.*))?",
    re.DOTALL,
)
_PLAIN: Final = re.compile(
    rb"(?:(?P<count>\d{10}|\d{13}|\d{16}|\d{19})[ \t:,]+)?(?P<message>[\[{].*)", re.DOTALL
)


def received(line: bytes, *, path: Path, row: int) -> tuple[int, bytes] | None:
    """Return (receive time in ns, message); None for what we sent and for the opening of a connection."""
    if (plain := _PLAIN.fullmatch(line)) is not None:
        count = plain["count"]
        if count is None:
            return RECV_NOT_RECORDED, plain["message"]
        stamp = (count[:10] + b"." + count[10:]).decode()
        return seconds_ns(stamp.rstrip("."), path=path, row=row), plain["message"]
    match = _LINE.fullmatch(line)
    if match is None:
        raise DataError(f"expected 'seconds: message', was {line[:60]!r}", path=path, row=row)
    if match["direction"] in (b"<-", b"<->"):
        return None
    if match["message"] is None:
        raise DataError("expected a message behind the time, was none", path=path, row=row)
    return seconds_ns(match["clock"].decode(), path=path, row=row), match["message"]


def seconds_ns(text: str, *, path: Path, row: int) -> int:
    """Return decimal seconds since the Unix epoch as ns; digits beyond the ninth are cut off."""
    whole, point, fraction = text.partition(".")
    units, good = decimal_units([whole + point + fraction[:9]], 9)
    if not good or not 0 <= units[0] <= TS_NS_MAX:
        raise DataError(f"time must lie between 1970 and 2200, was {text[:40]!r}", path=path, row=row)
    return int(units[0])
