"""What damage and malice do to a file: mutants by number, the same on every machine.

`mutant` damages a valid recording at random; `attacks` are made by hand: bombs, archives whose members
point elsewhere, files that are not what their name says.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from hostile_samples import Files, Sample, zstd

Draw = np.random.Generator
LIES = (0, 1, 2, 7, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1,
        2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
NUMBERS = (b"", b"-", b"0", b"-1", b"1e308", b"1e-400", b"nan", b"inf", b"NaN", b"1.5", b"0x10", b"\xff",
           b"9" * 18, b"9" * 19, b"9" * 40, b"9223372036854775807", b"-9223372036854775808",
           b"18446744073709551616", b"2147483648", b"4294967296", b"1_000", "\u0661".encode(),
           b"\x00")  # fmt: skip


def _truncated(data: bytearray, draw: Draw) -> bytearray:
    return data[: int(draw.integers(len(data)))]


def _bit_flipped(data: bytearray, draw: Draw) -> bytearray:
    data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
    return data


def _percent_flipped(data: bytearray, draw: Draw) -> bytearray:
    places = draw.integers(len(data), size=max(1, len(data) // 100))
    for place in places.tolist():
        data[place] = int(draw.integers(256))
    return data


def _span(data: bytearray, draw: Draw) -> tuple[int, int]:
    first = int(draw.integers(len(data)))
    return first, first + int(draw.integers(1, 1 + min(64, len(data) - first)))


def _cut_out(data: bytearray, draw: Draw) -> bytearray:
    low, high = _span(data, draw)
    del data[low:high]
    return data


def _repeated(data: bytearray, draw: Draw) -> bytearray:
    low, high = _span(data, draw)
    data[low:low] = data[low:high] * int(draw.choice((1, 1, 1, 2, 500)))
    return data


def _moved(data: bytearray, draw: Draw) -> bytearray:
    low, high = _span(data, draw)
    piece = data[low:high]
    del data[low:high]
    place = int(draw.integers(len(data) + 1))
    data[place:place] = piece
    return data


def _noise(data: bytearray, draw: Draw) -> bytearray:
    low, high = _span(data, draw)
    data[low:high] = draw.bytes(high - low)
    return data


def _lying_integer(data: bytearray, draw: Draw) -> bytearray:
    """Put a number at a limit where a length, count or price may stand."""
    width = int(draw.choice((1, 2, 4, 8)))
    value = int(draw.choice(np.array(LIES, np.uint64))) & ((1 << 8 * width) - 1)
    place = int(draw.integers(len(data)))
    data[place : place + width] = value.to_bytes(width, str(draw.choice(("little", "big"))))  # type: ignore[arg-type]
    return data


def _lying_number(data: bytearray, draw: Draw) -> bytearray:
    """Put another number in place of one written in digits."""
    digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    if not digits:
        return _lying_integer(data, draw)
    low = high = digits[int(draw.integers(len(digits)))]
    while low and 48 <= data[low - 1] <= 57:
        low -= 1
    while high < len(data) and 48 <= data[high] <= 57:
        high += 1
    data[low:high] = NUMBERS[int(draw.integers(len(NUMBERS)))]
    return data


def _lines_shuffled(data: bytearray, draw: Draw) -> bytearray:
    rows = data.split(b"\n")
    one, two = draw.integers(len(rows), size=2).tolist()
    rows[one], rows[two] = rows[two], rows[one]
    return bytearray(b"\n").join(rows)


def _emptied(data: bytearray, draw: Draw) -> bytearray:
    return (bytearray(), bytearray(b"\n"), bytearray(64), data[:16])[int(draw.integers(4))]


MUTATORS: tuple[Callable[[bytearray, Draw], bytearray], ...] = (
    _truncated, _bit_flipped, _bit_flipped, _percent_flipped, _cut_out, _repeated, _moved, _noise,
    _lying_integer, _lying_integer, _lying_number, _lying_number, _lying_number, _lines_shuffled,
)  # fmt: skip


def mutant(sample: Sample, number: int) -> Files:
    """Return the files of a sample's mutant; the number alone decides what happened to it."""
    draw = np.random.default_rng([number, zlib.crc32(sample.name.encode())])
    parts = sample.parts()
    packed = draw.random() < 0.3
    files = sample.pack(parts) if packed else parts
    name = str(draw.choice(sorted(files)))
    data = bytearray(files[name])
    if draw.random() < 0.01:
        data = _emptied(data, draw)
    elif draw.random() < 0.05:
        # Spliced: from somewhere on it is another file of the recording, or the file once more.
        other = files[str(draw.choice(sorted(files)))]
        data = data[: int(draw.integers(len(data)))] + other[int(draw.integers(len(other))) :]
    else:
        for _ in range(int(draw.choice((1, 1, 1, 2, 5)))):
            data = MUTATORS[int(draw.integers(len(MUTATORS)))](data, draw) or data
            if not data:
                break
    damaged = {**files, name: bytes(data)}
    return damaged if packed else sample.pack(damaged)


# Made by hand.

_BOMB_PIECE = 1 << 20


def _bombs(name: str, *, megabytes: int) -> Iterator[tuple[str, Files]]:
    """Files of a few kilobytes that unpack to a great many zeros, line ends, or one short line."""
    packings = (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".zst", zstd)
    for what, content in (("zeros", b"\0"), ("line ends", b"\n"), ("digits", b"1"), ("lines", b"1,1,1\n")):
        piece = content * (_BOMB_PIECE // len(content))
        for suffix, pack in packings if what == "zeros" else packings[:1]:
            # Each of these formats allows members one after another.
            yield f"{suffix} of {what}", {name + suffix: pack(piece) * megabytes}
        yield f"one zip member of {what}", {_stem(name) + ".zip": _zip_bomb(name, piece, megabytes)}


def _zip_bomb(member: str, piece: bytes, megabytes: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w") as stream:
        for _ in range(megabytes):
            stream.write(piece)
    return target.getvalue()


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _hungry_headers(name: str, content: bytes) -> Iterator[tuple[str, Files]]:
    """Headers that ask for a window of more memory than anybody has."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]
    stream = bytearray(lzma.compress(content, lzma.FORMAT_XZ, filters=filters))
    # The block header behind 12 bytes: size, flags, filter, size of its properties, window, padding, CRC-32.
    stream[16] = 40
    stream[20:24] = struct.pack("<I", zlib.crc32(bytes(stream[12:20])))
    yield "xz with a window of 4 GiB", {name + ".xz": bytes(stream)}
    # Frame header without single segment: its window byte says 2 to the 41.
    yield "zstd with a window of 2 TiB", {name + ".zst": b"\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00"}
    yield (
        "zstd that claims 2 to the 62 bytes",
        {name + ".zst": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 62) + b"\x01\x00\x00"},
    )


def _odd_archives(name: str, content: bytes) -> Iterator[tuple[str, Files]]:
    """Zips whose members are elsewhere, twice, encrypted, links, or very many."""

    def of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Files:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                archive.writestr(member, data)
        return {_stem(name) + ".zip": target.getvalue()}

    for place in (
        "../../escaped/",
        "/tmp/escaped/",
        "C:\\escaped\\",
        "..\\..\\escaped\\",
        "a/../../escaped/",
    ):
        yield f"a member at {place}", of((place + name, content))
    link = zipfile.ZipInfo(name)
    link.external_attr = 0o120777 << 16
    yield "a member that is a link", of((link, b"/etc/passwd"))
    yield "a member within a member", of((name, of((name, content))[_stem(name) + ".zip"]))
    yield "many members", of(*((f"{number}-{name}", b"") for number in range(3_000)))
    yield "no members", of()
    plain = bytearray(of((name, content))[_stem(name) + ".zip"])
    encrypted = bytearray(plain)
    encrypted[6] |= 1
    encrypted[plain.rindex(b"PK\x01\x02") + 8] |= 1
    yield "an encrypted member", {_stem(name) + ".zip": bytes(encrypted)}
    method = bytearray(plain)
    method[8] = method[plain.rindex(b"PK\x01\x02") + 10] = 99
    yield "an unknown method", {_stem(name) + ".zip": bytes(method)}


def attacks(sample: Sample, *, megabytes: int) -> Iterator[tuple[str, Files]]:
    """Yield (what it is, files): each of the sample's parts in every hostile packing.

    Parameters
    ----------
    megabytes : int
        What a bomb unpacks to.
    """
    parts = sample.parts()
    name, content = next(iter(parts.items()))
    rest = {other: data for other, data in parts.items() if other != name}
    for make in (
        _bombs(name, megabytes=megabytes),
        _hungry_headers(name, content),
        _odd_archives(name, content),
    ):
        for what, files in make:
            yield what, {**rest, **files}
    yield "an absurdly long line", {**rest, name: content + b"1" * (20 << 20)}
    yield "a folder's worth of nothing", {**rest, name: b""}
