"""What the actions of `anytick models` share: files in and out, and plain text for a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.inference.graph import GraphSummary

MODEL_HELP = "an ONNX file"
GENERATED_WINDOWS = 2_000


def feature_names(metadata: dict[str, str]) -> list[str]:
    """Return the names a model's author noted; none where the note is absent or not a list of names."""
    try:
        names = json.loads(metadata.get("feature_names", "[]"))
    except ValueError:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def read_rows(path: Path, names: list[str]) -> NDArray[np.float32]:
    """Read calibration rows; Parquet columns are taken by the model's feature names."""
    import numpy as np
    import polars as pl

    try:
        if path.suffix == ".npy":
            rows = np.load(path, allow_pickle=False)
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            missing = [name for name in names if name not in frame.columns]
            if missing:
                raise DataError(
                    f"calibration must hold the model's features, was without {missing}", path=path
                )
            rows = frame.select(names or frame.columns).to_numpy()
        else:
            raise ConfigError(f"--calibration must end in .npy or .parquet, was {path.name}")
    except (OSError, ValueError, EOFError, pl.exceptions.PolarsError) as error:
        raise DataError(f"calibration rows must be readable, was not: {error}", path=path) from error
    if rows.dtype.kind not in "fiu":
        raise DataError(f"calibration rows must be numbers, was {rows.dtype}", path=path)
    with np.errstate(over="ignore"):
        values = np.asarray(rows, np.float32)
    unfit = np.argwhere(~np.isfinite(values))
    if len(unfit):
        row = int(unfit[0][0])
        raise DataError("rows must be finite in float32, was one that is not", path=path, row=row)
    return values


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    # Not tempfile: its 0600 would outlive the rename and hide a model from the service that loads it.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(partial, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"the output must be writable, was not: {error.strerror}", path=path) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def read_labels(path: Path) -> NDArray[np.int64]:
    """Read a .npy of labels: 0 down, 1 flat, 2 up."""
    import numpy as np

    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"labels must be readable, was not: {error}", path=path) from error
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or (len(labels) and labels.min() < 0):
        raise DataError(
            f"labels must be whole numbers from 0 up, was {labels.dtype}{labels.shape}", path=path
        )
    if len(labels) and labels.max() > 2:
        raise DataError(f"a label must be 0, 1 or 2, was {labels.max()}", path=path)
    return np.asarray(labels, np.int64)


def rows_for(
    summary: GraphSummary, rows: Path | None, labels: Path | None, *, seed: int, model: Path, option: str
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None, str]:
    """Return rows, labels if there are any, and where they come from.

    Without files, a model of the ladder gets a generated day that no build uses; its metadata names the
    horizon and the threshold of its labels.

    Parameters
    ----------
    option : str
        By which the rows are named.
    """
    from engine.inference.lob_features import FEATURE_COUNT, WINDOW

    from ..forecast_data import generated_windows

    if rows is not None:
        found = read_rows(rows, feature_names(summary.metadata))
        if found.shape[1:] != summary.row_shape or not len(found):
            expected = ", ".join(map(str, summary.row_shape))
            raise DataError(f"rows must have the model's shape (n, {expected}), was {found.shape}", path=rows)
        return found, None if labels is None else read_labels(labels), str(rows)
    window = summary.window or 1
    try:
        horizon = int(summary.metadata["horizon"])
        threshold = float(summary.metadata["flat_threshold_ticks"])
    except (KeyError, ValueError):
        horizon, threshold = 0, 0.0
    if summary.feature_count != FEATURE_COUNT or window not in (1, WINDOW) or not 1 <= horizon <= 1_000:
        raise ConfigError(
            f"{option} must name rows for a model that is not of a ladder, was absent for {model}"
        )
    features, truth = generated_windows(
        seed=seed, window=window, horizon=horizon, threshold=threshold, count=GENERATED_WINDOWS
    )
    return features, truth, f"{GENERATED_WINDOWS:,} windows of a generated day"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> None:
    """Print a table whose first `words` columns are text and the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        is_text = place < words or place == len(columns) - 1
        table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_text)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    console = Console()
    # Not a terminal: as wide as the table needs, since a cut number is worse than a long line.
    Console(width=None if console.is_terminal else 160, markup=False).print(table)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def print_found(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, sort_keys=True))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {plain(key):<22}{plain(entry)}")
        else:
            print(f"{name:<24}{plain(' → '.join(value) if isinstance(value, list) else value)}")


def plain(value: object) -> str:
    """Escape what a terminal would obey: a model's notes and names are foreign text."""
    if isinstance(value, dict):
        return "  ".join(f"{key} {entry}" for key, entry in value.items())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
