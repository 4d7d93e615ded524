"""A ladder of models: the same question answered at several prices, cheapest first.

A ladder is a folder that holds `ladder.toml` and the ONNX files it names. The manifest is the only source
of names: a file that it does not list is not part of the ladder, and one whose SHA-256 differs from
the manifest's is refused. The ladder in the package is trained on the synthetic market only; its
`CARD.md` says how, and `anytick models build` makes another.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from data.errors import ConfigError, DataError

from .cascade import MarginScores
from .errors import ModelError
from .graph import check_graph
from .model_file import read_model

SCHEMA_VERSION: Final = 1
MANIFEST_NAME: Final = "ladder.toml"
SHIPPED: Final = Path(__file__).resolve().parent / "shipped_ladder"

PRECISIONS: Final = ("fp32", "int8")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.onnx")
_KEYS: Final = frozenset(
    {"name", "family", "precision", "file", "sha256", "score", "window", "features", "parameters"}
)
_TABLE_KEYS: Final = frozenset({"schema_version", "no_skill_score", "horizon", "variant"})
# Ladders that do not cascade have neither.
_CASCADE, _BY_MARGIN = "cascade", "score_by_margin"
_CASCADE_KEYS: Final = frozenset({"first", "margin_edges", "shares"})


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of a ladder at one precision.

    Parameters
    ----------
    name : str
        Unique within the ladder, such as ``"tcn-small.int8"``.
    family : str
        What it shares with its other precision, such as ``"tcn-small"``.
    precision : str
        ``"fp32"`` or ``"int8"``.
    sha256 : str
        Of the file; checked when the ladder is loaded.
    score : float
        Accuracy on days the model was never trained on.
    no_skill_score : float
        Accuracy of the best constant answer on the same rows; the same for a whole ladder.
    input_shape : tuple of int
        (window, features). The file's own input is (batch, features) where the window is 1, otherwise
        (batch, window, features); a model with a shorter window takes the last rows of a longer one.
    parameters : int
        Trained numbers of the FP32 form.
    margins : MarginScores, optional
        The score by how sure the ladder's first variant was; every variant of a ladder has it, or none.
    """

    name: str
    family: str
    precision: str
    path: Path
    sha256: str
    score: float
    no_skill_score: float
    input_shape: tuple[int, int]
    parameters: int
    margins: MarginScores | None = None

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises
        ------
        ModelError
            The file cannot be read, or its SHA-256 is another.
        """
        return read_model(self.path, sha256=self.sha256)


def load_ladder(folder: Path | None = None) -> tuple[Variant, ...]:
    """Read a ladder and check every file in it.

    Parameters
    ----------
    folder : Path, optional
        Holds `ladder.toml`; the ladder of the package when None.

    Returns
    -------
    tuple of Variant
        By parameters, then precision: a family's FP32 form stands before its INT8 form.

    Raises
    ------
    DataError
        The manifest is missing, unreadable or breaks a rule.
    ModelError
        A file is missing, damaged, or not a graph that the engine runs.
    """
    folder = SHIPPED if folder is None else Path(folder)
    manifest = folder / MANIFEST_NAME
    try:
        table = tomllib.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"a ladder must have a readable manifest, was not: {error}", path=manifest) from error
    variants = _parse(table, manifest)
    for variant in variants:
        _check_file(variant)
    return variants


def ladder_of(table: dict[str, Any], manifest: Path) -> tuple[Variant, ...]:
    """Return the ladder that a manifest's table describes; files lie beside `manifest` and are not read."""
    return _parse(table, manifest)


def format_ladder(variants: Iterable[Variant], *, horizon: int) -> str:
    """Return the manifest that `load_ladder` reads back to equal variants.

    Parameters
    ----------
    horizon : int
        Rows ahead that the labels look; a note to the reader.
    """
    variants = sorted(variants, key=_order)
    if not variants:
        raise ConfigError("a ladder must hold a variant, was empty")
    lines = [f"schema_version = {SCHEMA_VERSION}", f"horizon = {horizon}"]
    lines.append(f"no_skill_score = {variants[0].no_skill_score!r}")
    margins = variants[0].margins
    if margins is not None:
        lines += ["", f"[{_CASCADE}]", f'first = "{margins.first}"']
        lines += [f"margin_edges = {list(margins.edges)}", f"shares = {list(margins.shares)}"]
    for variant in variants:
        lines += ["", "[[variant]]"]
        lines += [f'{name} = "{getattr(variant, name)}"' for name in ("name", "family", "precision")]
        lines += [f'file = "{variant.path.name}"', f'sha256 = "{variant.sha256}"']
        lines += [f"score = {variant.score!r}"]
        lines += [f"window = {variant.input_shape[0]}", f"features = {variant.input_shape[1]}"]
        lines += [f"parameters = {variant.parameters}"]
        if variant.margins is not None:
            lines += [f"{_BY_MARGIN} = {list(variant.margins.scores)}"]
    return "\n".join(lines) + "\n"


def _order(variant: Variant) -> tuple[int, str, str]:
    return variant.parameters, variant.family, variant.precision


def _parse(table: dict[str, Any], manifest: Path) -> tuple[Variant, ...]:
    def refuse(rule: str, row: int | None = None) -> DataError:
        return DataError(rule, path=manifest, row=row)

    if table.get("schema_version") != SCHEMA_VERSION:
        raise refuse(f"schema_version must be {SCHEMA_VERSION}, was {table.get('schema_version')}")
    if table.keys() - {_CASCADE} != _TABLE_KEYS:
        raise refuse(f"keys must be {sorted(_TABLE_KEYS)}, was {sorted(table)}")
    no_skill, entries = table["no_skill_score"], table["variant"]
    if not _is_share(no_skill):
        raise refuse(f"no_skill_score must lie between 0 and 1, was {no_skill!r}")
    if type(table["horizon"]) is not int or table["horizon"] < 1:
        raise refuse(f"horizon must be a positive number of rows, was {table['horizon']!r}")
    if not isinstance(entries, list) or not entries:
        raise refuse("a ladder must hold at least one [[variant]], was none")
    broken = _broken_cascade(table, entries)
    if broken is not None:
        raise refuse(broken)
    variants = []
    for row, entry in enumerate(entries):
        broken = _broken_entry(entry)
        if broken is not None:
            raise refuse(broken, row)
        margins = _margins(table, entry)
        broken = None if margins is None else margins.broken_rule(entry["score"])
        if broken is not None:
            raise refuse(broken, row)
        variants.append(
            Variant(
                name=entry["name"],
                family=entry["family"],
                precision=entry["precision"],
                path=manifest.parent / entry["file"],
                sha256=entry["sha256"],
                score=float(entry["score"]),
                no_skill_score=float(no_skill),
                input_shape=(entry["window"], entry["features"]),
                parameters=entry["parameters"],
                margins=margins,
            )
        )
    for names in ([v.name for v in variants], [v.path.name for v in variants]):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise refuse(f"names and files must be unique, was {twice} twice")
    features = sorted({variant.input_shape[1] for variant in variants})
    if len(features) > 1:
        raise refuse(f"variants must take the same features, was {features} of them")
    return tuple(sorted(variants, key=_order))


def _broken_entry(entry: Any) -> str | None:
    if not isinstance(entry, dict) or entry.keys() - {_BY_MARGIN} != _KEYS:
        return f"a variant's keys must be {sorted(_KEYS)}, was {sorted(entry) if entry else entry!r}"
    for name in ("name", "family"):
        if not isinstance(entry[name], str) or not _NAME.fullmatch(entry[name]):
            return f"{name} must be lower-case letters, digits, dots and dashes, was {entry[name]!r}"
    if entry["precision"] not in PRECISIONS:
        return f"precision must be one of {', '.join(PRECISIONS)}, was {entry['precision']!r}"
    # A bare name: a manifest must not reach outside its folder.
    if not isinstance(entry["file"], str) or not _FILE.fullmatch(entry["file"]):
        return f"file must be a bare name ending in .onnx, was {entry['file']!r}"
    if not isinstance(entry["sha256"], str) or not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
        return f"sha256 must be 64 hexadecimal digits, was {entry['sha256']!r}"
    if not _is_share(entry["score"]):
        return f"score must lie between 0 and 1, was {entry['score']!r}"
    for name in ("window", "features", "parameters"):
        if type(entry[name]) is not int or entry[name] < 1:
            return f"{name} must be a positive whole number, was {entry[name]!r}"
    if not _are_numbers(entry.get(_BY_MARGIN, [])):
        return f"{_BY_MARGIN} must be a list of numbers, was {entry[_BY_MARGIN]!r}"
    return None


def _broken_cascade(table: dict[str, Any], entries: list[Any]) -> str | None:
    """Check the form; `MarginScores.broken_rule` checks the figures."""
    cascade = table.get(_CASCADE)
    measured = [isinstance(entry, dict) and _BY_MARGIN in entry for entry in entries]
    if any(measured) != (cascade is not None) or any(measured) != all(measured):
        return f"[{_CASCADE}] and {_BY_MARGIN} in every variant must come together, was one without the other"
    if cascade is None:
        return None
    if not isinstance(cascade, dict) or cascade.keys() != _CASCADE_KEYS:
        return f"[{_CASCADE}] must have the keys {sorted(_CASCADE_KEYS)}, was {cascade!r}"
    if cascade["first"] not in [entry.get("name") for entry in entries]:
        return f"first must name a variant, was {cascade['first']!r}"
    for name in ("margin_edges", "shares"):
        if not _are_numbers(cascade[name]):
            return f"{name} must be a list of numbers, was {cascade[name]!r}"
    return None


def _margins(table: dict[str, Any], entry: dict[str, Any]) -> MarginScores | None:
    if _CASCADE not in table:
        return None
    return MarginScores(
        first=table[_CASCADE]["first"],
        edges=tuple(map(float, table[_CASCADE]["margin_edges"])),
        shares=tuple(map(float, table[_CASCADE]["shares"])),
        scores=tuple(map(float, entry[_BY_MARGIN])),
    )


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) for value in values)


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value) and 0.0 <= value <= 1.0  # type: ignore[arg-type, operator]


def _check_file(variant: Variant) -> None:
    """Refuse a file that is not the graph its manifest entry describes."""
    summary = check_graph(variant.read(), source=variant.path)
    window, features = variant.input_shape
    if (summary.window or 1, summary.feature_count) != (window, features):
        raise ModelError(
            f"the input must be {variant.input_shape}, was {summary.row_shape}", source=variant.path
        )
    if summary.precision != variant.precision:
        raise ModelError(
            f"precision must be {variant.precision}, was {summary.precision}", source=variant.path
        )
