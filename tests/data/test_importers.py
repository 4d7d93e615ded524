"""What holds for every importer: the contract, the names, the pages."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from data.errors import ConfigError, DataError
from data.importers import MODULES, importer
from data.importers.grid import OffGrid
from data.instrument import Instrument

NEEDS = {"databento": "databento_dbn", "hftbacktest": None, "tardis": None}
DOCS = Path(__file__).resolve().parents[2] / "docs"
MINE = ("binance", "bitstamp", "coinbase", "databento", "hftbacktest", "jsonl", "kraken", "tardis")


def opened(name: str) -> Any:
    needed = NEEDS.get(name, "msgspec")
    if needed:
        pytest.importorskip(needed)
    return importer(name)


@pytest.mark.parametrize("name", MINE)
def test_an_importer_refuses_what_is_not_there_by_name(name: str, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for call in (opened(name).open_source, opened(name).verify):
        with pytest.raises(DataError, match=f"{absent}: expected an existing file"):
            call([absent])


@pytest.mark.parametrize("name", MINE)
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=str(path)):
        list(opened(name).open_source([path]).blocks())


@pytest.mark.parametrize("name", MINE)
def test_every_importer_has_a_page(name: str) -> None:
    assert name in MODULES
    page = DOCS / ("MIGRATE_HFTBACKTEST.md" if name == "hftbacktest" else f"importers/{name.upper()}.md")
    assert f"data/importers/{MODULES[name]}.py" in page.read_text(encoding="utf-8")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="format must be one of itch"):
        importer("nothing")


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "msgspec":
            raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")
        return real(name, *rest, **more)

    for module in ("kraken", "json_lines"):
        monkeypatch.delitem(sys.modules, f"data.importers.{module}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"reading kraken needs msgspec: pip install 'anytick\[crypto\]'"):
        importer("kraken")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("price", "10.105", (0.001, 1, 1.0)), ("price", "10.6", (0.01, 1, 1.0)),
        ("size", "0.00150", (0.25, 5, 0.0001)),
    ],
)  # fmt: skip
def test_a_number_off_the_grid_tells_a_finer_one(
    name: str, text: str, expected: tuple[float, int, float]
) -> None:
    instrument = Instrument(symbol="X", price_increment=0.25, tick_size_ticks=5)
    finer = OffGrid("rule", name=name, text=text, path=Path("x"), row=0).finer(instrument)
    assert (finer.price_increment, finer.tick_size_ticks, finer.lot_size) == expected
