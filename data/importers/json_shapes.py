"""What stands where in a JSON message: paths of its values and of its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_DEPTH_MAX: Final = 6


def scalars(message: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of what is no array or object, not looking into arrays."""
    if isinstance(message, dict) and depth < _DEPTH_MAX:
        for key, value in message.items():
            if "." not in key:
                yield from scalars(value, f"{path}.{key}" if path else key, depth + 1)
    elif not isinstance(message, list):
        yield path, message


def arrays(message: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    """Yield (path, array) of the outermost arrays."""
    if isinstance(message, dict) and depth < _DEPTH_MAX:
        for key, value in message.items():
            if "." not in key:
                yield from arrays(value, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(message, list):
        yield path, message


def last_part(path: str) -> str:
    """Return the last part of a path in lower case."""
    return path.rpartition(".")[2].lower()


def at_path(message: Any, path: str) -> Any:
    """Return what stands at a path, None where nothing does."""
    for part in path.split(".") if path else ():
        if isinstance(message, dict):
            message = message.get(part)
        elif (
            isinstance(message, list)
            and part.lstrip("-").isdigit()
            and -len(message) <= int(part) < len(message)
        ):
            message = message[int(part)]
        else:
            return None
    return message


def text_of(value: Any) -> str | None:
    """Return a scalar as it is written; None for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).strip() if isinstance(value, str | int) else None
