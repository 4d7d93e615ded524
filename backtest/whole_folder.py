"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from data.errors import ConfigError

_PREFIX: Final = ".anytick-run-"
_MARK: Final = "unfinished.lock"
_MARK_TEXT: Final = b"an unfinished run of anytick; removed by a later run once its process has ended\n"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder beside `path` that becomes it at the end, replacing an older result.

    A run that dies leaves its scratch folder; a later run beside it removes what carries our mark and
    is locked by no living process, and nothing else.

    Raises
    ------
    ConfigError
        At `path` stands something that no run left; it is not replaced.
    """
    if path.exists() and not _replaceable(path):
        raise ConfigError(f"{path} is there and is no run's folder: name another, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(path.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{path.name}-", dir=path.parent))
    scratch.chmod(0o755)
    mark = scratch / _MARK
    mark.write_bytes(_MARK_TEXT)
    with mark.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield scratch
            mark.unlink()
            _put(scratch, path)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _put(scratch: Path, path: Path) -> None:
    """Move the finished folder to its name; the older one is kept until the new one stands."""
    if not path.exists():
        scratch.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{path.name}-old-", dir=path.parent))
    path.rename(aside / path.name)
    scratch.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def _replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / "result.json").is_file() or not any(path.iterdir()))


def _remove_dead(parent: Path) -> None:
    for place in parent.glob(f"{_PREFIX}*"):
        mark = place / _MARK
        try:
            with mark.open("rb") as found:
                if found.read() == _MARK_TEXT and _is_free(found):
                    shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue  # no mark: not ours, or finished


def _is_free(found: BinaryIO) -> bool:
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
