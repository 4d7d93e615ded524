"""Unpacking: every packing yields the same bytes, in chunks of bounded size; damage and bombs are named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.importers import compressed
from data.importers.compressed import chunks
from data.importers.text_lines import lines

TEXT = b"".join(b"%d,%d\r\n" % (row, row * row % 9_973) for row in range(20_000))


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("feed.csv", content)
    return sink.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    "zip": zipped,
}
MEMBERS = ("gz", "xz", "bz2")


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("chunk_bytes", [7_001, 1 << 20])
def test_every_packing_yields_the_same_bytes(tmp_path: Path, packing: str, chunk_bytes: int) -> None:
    path = tmp_path / "named_as_nothing"
    path.write_bytes(PACKINGS[packing](TEXT))
    found = list(chunks(path, chunk_bytes=chunk_bytes))
    assert b"".join(found) == TEXT
    assert max(map(len, found)) <= chunk_bytes
    assert [line for _, line in lines(path)] == TEXT.split(b"\r\n")[:-1]


@pytest.mark.parametrize("packing", MEMBERS)
def test_members_behind_one_another_are_one_text(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "feed"
    pack = PACKINGS[packing]
    path.write_bytes(pack(TEXT[:100]) + pack(b"") + bytes(512) + pack(TEXT[100:]) + bytes(512))
    # Also where a piece that is read ends within the padding, or is nothing else.
    for chunk_bytes in (64, 100, 1_000):
        assert b"".join(chunks(path, chunk_bytes=chunk_bytes)) == TEXT


@pytest.mark.parametrize("packing", [name for name in PACKINGS if name != "raw"])
def test_what_is_cut_off_or_damaged_is_named(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "feed"
    whole = PACKINGS[packing](TEXT)
    for place in (len(whole) // 3, len(whole) - 5):
        path.write_bytes(whole[:place])
        with pytest.raises(DataError, match="feed"):
            list(chunks(path))
    draw = np.random.default_rng(1)
    for place in draw.integers(0, len(whole), 25).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with suppress(DataError):
            list(chunks(path))


@pytest.mark.parametrize("packing", [name for name in PACKINGS if name != "raw"])
def test_a_bomb_is_refused_early(tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "RATIO_FREE_BYTES", 1 << 16)
    monkeypatch.setattr(compressed, "RATIO_MAX", 3)
    path = tmp_path / "feed"
    path.write_bytes(PACKINGS[packing](bytes(1 << 22)))
    taken: list[int] = []
    with pytest.raises(DataError, match="at most 1 TiB and 3 times the packed bytes"):
        taken.extend(map(len, chunks(path, chunk_bytes=1 << 14)))
    assert sum(taken) <= max(1 << 16, 3 * path.stat().st_size)
