"""Results as JSON that is the same to the byte for the same result, and back again.

::

    {"kind": "RunResult", "performance": {...}, "result": {...}, "version": 1}

Keys are sorted, NaN and infinities are null, arrays are lists, fills are columns. `performance` stands
apart, so that the rest of two identical runs can be compared as text. Integers are exact; readers
that hold numbers as doubles (JavaScript) lose the low bits of order ids.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.schema import REPORT_DTYPE

from ..result import Dates, Floats, Result, RunResult
from .files import write_text_atomically

VERSION: Final = 1
_KINDS: Final[Mapping[str, type[RunResult] | type[Result]]] = {"Result": Result, "RunResult": RunResult}
_ARRAYS: Final[tuple[tuple[Any, str], ...]] = (
    (Floats, "float64"),
    (Dates, "datetime64[D]"),
    (NDArray[np.int64], "int64"),
)


def write_json(result: RunResult | Result, path: str | PathLike[str]) -> Path:
    """Write a result as JSON, atomically.

    Parameters
    ----------
    result : RunResult or Result
    path : path-like
        Replaced when it exists.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    DataError
        The place cannot be written.
    """
    text = json.dumps(json_value(result), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return write_text_atomically(Path(path), text + "\n")


def json_value(result: RunResult | Result) -> dict[str, Any]:
    """Return a result as JSON types: dicts, lists, strings, numbers, booleans and None."""
    values = _plain(result)
    performance = values.pop("performance")
    return {
        "kind": type(result).__name__,
        "performance": performance,
        "result": values,
        "version": VERSION,
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return fspath(value) if isinstance(value, PathLike) else str(value)


def _plain_array(array: NDArray[Any]) -> Any:
    if array.dtype.names is not None:
        names = (name for name in array.dtype.names if not name.startswith("_"))
        return {name: array[name].tolist() for name in names}
    if array.dtype.kind == "M":
        return np.datetime_as_string(array, unit="D").tolist()
    return _plain(array.tolist())


def read_json(path: str | PathLike[str]) -> RunResult | Result:
    """Read a result that `write_json` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    RunResult or Result
        Equal to what was written, but for infinities, which come back as NaN.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"expected a result file, was {error.strerror}", path=path) from error
    except ValueError as error:
        raise DataError(f"expected JSON, was damaged: {error}", path=path) from error
    if not isinstance(document, dict) or document.get("kind") not in _KINDS:
        raise DataError("expected a result of anytick, was another JSON document", path=path)
    if document.get("version") != VERSION:
        raise DataError(f"expected version {VERSION}, was {document.get('version')}", path=path)
    try:
        values = document["result"] | {"performance": document["performance"]}
        built: RunResult | Result = _typed(_KINDS[document["kind"]], values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"expected every field of {document['kind']}, was {error!r}", path=path) from error
    return built


def _typed(hint: Any, value: Any) -> Any:
    """Return `value` as the type that a field of a result declares."""
    for array_hint, dtype in _ARRAYS:
        if hint == array_hint:
            return np.array(value, dtype=dtype)
    if hint == NDArray[np.void]:
        return _fills(value)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{name: _typed(hints[name], entry) for name, entry in value.items()})
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _typed(arguments[0], value)
    if origin is tuple:
        return tuple(_typed(arguments[0], entry) for entry in value)
    if origin is dict:
        return {key: _typed(arguments[1], entry) for key, entry in value.items()}
    if hint is float:
        return math.nan if value is None else float(value)
    if hint is Any:
        return value
    if hint is Path:
        return Path(value)
    if not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, was {value!r}")
    return value


def _fills(columns: dict[str, list[int]]) -> NDArray[np.void]:
    fills = np.zeros(len(columns["ts_ns"]), REPORT_DTYPE)
    for name, values in columns.items():
        fills[name] = values
    return fills
