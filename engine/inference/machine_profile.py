"""How long a model takes on this machine: by batch, by workers, idle and under load; kept per machine.

`profile.py` holds what a backtest charges; this is what the router plans with. Service time is measured
through the session that would run, `tiers.open_session`, back to back, no queue before the call. A cell
is one combination of

- batch: inputs a call;
- workers: threads that call at once, each with a session of its own;
- load: ``idle``, or ``hog``, where every core also runs a process that never sleeps.

Results lie under the user's cache folder, one file a model, with the conditions they hold under: CPU,
cores, versions of Python, NumPy and ONNX Runtime. Other conditions or a damaged file mean measuring again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from data.errors import ConfigError

from .arrays import Floats32
from .graph import check_graph
from .profile import machine_name
from .session import InferenceSession, runtime_version
from .tiers import open_session

SCHEMA_VERSION: Final = 1
LOADS: Final = ("idle", "hog")
BATCHES: Final = (1, 4, 16, 64)
_WARM_UP_CALLS: Final = 5
_CALLS_MIN: Final = 20

# Watches its parent, so that it ends even where nobody is left to end it.
_HOG: Final = "import os\np = os.getppid()\nwhile os.getppid() == p:\n    for _ in range(100_000): pass\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a measurement depends on besides the model."""

    machine: str
    python: str
    numpy: str
    onnxruntime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileCell:
    """Time of one call, in ns.

    Parameters
    ----------
    calls : int
        Timed, over all workers.
    """

    batch: int
    workers: int
    load: str
    calls: int
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int

    def __post_init__(self) -> None:
        figures = [getattr(self, entry.name) for entry in fields(self) if entry.name != "load"]
        if self.load not in LOADS or any(type(value) is not int or value < 0 for value in figures):
            raise ConfigError(f"a cell must hold counts and times from 0 up, was {self}")
        if min(self.batch, self.workers, self.calls) < 1:
            raise ConfigError(f"a cell must hold at least one call of one worker, was {self}")
        if not self.p50_ns <= self.p99_ns <= self.p999_ns <= self.max_ns:
            raise ConfigError(f"percentiles must ascend, was {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineProfile:
    """A model's cells on one machine."""

    sha256: str
    conditions: Conditions
    cells: tuple[ProfileCell, ...]

    def cell(self, *, batch: int = 1, workers: int = 1, load: str = "idle") -> ProfileCell:
        """Return one combination's figures."""
        for cell in self.cells:
            if (cell.batch, cell.workers, cell.load) == (batch, workers, load):
                return cell
        raise ConfigError(f"the profile must cover batch {batch}, {workers} workers, {load}; it does not")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfilePlan:
    """What to measure.

    Parameters
    ----------
    workers : tuple of int
        One and the number of cores when empty.
    calls : int
        Timed calls a cell and worker, at most.
    seconds : float
        After which a cell stops early, once it has twenty calls.
    """

    batches: tuple[int, ...] = BATCHES
    workers: tuple[int, ...] = ()
    loads: tuple[str, ...] = LOADS
    calls: int = 2_000
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.batches or min(*self.batches, *self.workers, self.calls) < 1 or not self.seconds > 0:
            raise ConfigError(f"batches, workers, calls and seconds must be positive, was {self}")
        if not self.loads or set(self.loads) - set(LOADS):
            raise ConfigError(f"loads must be among {', '.join(LOADS)}, was {self.loads}")

    @property
    def worker_counts(self) -> tuple[int, ...]:
        return self.workers or tuple(sorted({1, core_count()}))


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def conditions() -> Conditions:
    """Return this machine's."""
    return Conditions(
        machine=machine_name(),
        python=platform.python_version(),
        numpy=np.__version__,
        onnxruntime=runtime_version(),
    )


def cache_folder() -> Path:
    """Return where profiles lie: under XDG_CACHE_HOME, or the user's ``.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore relative paths.
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / "anytick" / "profiles"


def machine_profile(
    model: bytes,
    *,
    plan: ProfilePlan | None = None,
    source: str | os.PathLike[str] = "model",
    folder: Path | None = None,
    refresh: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> MachineProfile:
    """Return a model's profile on this machine, measuring where none is kept that holds here.

    Parameters
    ----------
    source : path-like
        Named in errors.
    folder : Path, optional
        `cache_folder()` when None.
    refresh : bool
        Measure in any case.
    say : callable
        Told in words why something is measured.
    """
    plan = plan or ProfilePlan()
    digest = hashlib.sha256(model).hexdigest()
    folder = cache_folder() if folder is None else folder
    path = folder / f"{digest}.json"
    if not refresh:
        kept, reason = _kept(path, digest, plan)
        if kept is not None:
            return kept
        if reason:
            say(reason)
    profile = measure_profile(model, plan, source=source)
    try:
        _keep(path, profile)
    except OSError as error:
        say(f"{path}: the profile could not be kept: {error.strerror}")
    return profile


def measure_profile(
    model: bytes, plan: ProfilePlan, *, source: str | os.PathLike[str] = "model"
) -> MachineProfile:
    """Measure every cell of a plan."""
    summary = check_graph(model, source=source)
    random = np.random.default_rng(1)
    rows = random.standard_normal((2 * max(plan.batches), *summary.row_shape)).astype(np.float32)
    cells = []
    for load in plan.loads:
        with hogs(core_count()) if load == "hog" else nullcontext():
            for workers in plan.worker_counts:
                sessions = [open_session(model, source=source) for _ in range(workers)]
                cells += [_cell(sessions, rows, batch, load, plan) for batch in plan.batches]
    return MachineProfile(sha256=summary.sha256, conditions=conditions(), cells=tuple(cells))


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Keep that many processes busy that never sleep; they are gone afterwards, also when we die."""
    running = []
    try:
        for _ in range(count):
            running.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-c", _HOG], stdin=subprocess.DEVNULL, process_group=0
                )
            )
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def format_machine_profile(profile: MachineProfile) -> str:
    """Return the text that `parse_machine_profile` reads back to an equal profile."""
    body = {"schema_version": SCHEMA_VERSION, **asdict(profile)}
    return json.dumps(body, sort_keys=True, indent=1) + "\n"


def parse_machine_profile(text: str) -> MachineProfile:
    """Read a kept profile.

    Raises
    ------
    ConfigError
        The text is no profile of this schema.
    """
    try:
        table = json.loads(text)
        if table["schema_version"] != SCHEMA_VERSION:
            raise ConfigError(f"schema_version must be {SCHEMA_VERSION}, was {table['schema_version']}")
        cells = tuple(ProfileCell(**cell) for cell in table["cells"])
        kept = Conditions(**table["conditions"])
        if not cells or not all(
            isinstance(value, str) for value in (table["sha256"], *asdict(kept).values())
        ):
            raise ConfigError("a profile must hold cells, a digest and conditions in words")
        return MachineProfile(sha256=table["sha256"], conditions=kept, cells=cells)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"a machine profile must be readable, was not: {error}") from error


def _kept(path: Path, digest: str, plan: ProfilePlan) -> tuple[MachineProfile | None, str]:
    """Return the kept profile where it holds here and covers the plan, otherwise why not."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, ""
    except (OSError, UnicodeDecodeError) as error:
        return None, f"{path}: the kept profile cannot be read ({error}); measuring again"
    try:
        profile = parse_machine_profile(text)
    except ConfigError as error:
        return None, f"{path}: the kept profile is damaged ({error}); measuring again"
    if profile.sha256 != digest:
        return None, f"{path}: the kept profile is of another model; measuring again"
    here = conditions()
    if profile.conditions != here:
        changed = [
            f"{name} {old!r} is now {getattr(here, name)!r}"
            for name, old in asdict(profile.conditions).items()
            if old != getattr(here, name)
        ]
        return None, f"{path}: {', '.join(changed)}; measuring again"
    known = {(cell.batch, cell.workers, cell.load) for cell in profile.cells}
    wanted = {(b, w, load) for b in plan.batches for w in plan.worker_counts for load in plan.loads}
    if not wanted <= known:
        return None, f"{path}: the kept profile does not cover what is asked for; measuring again"
    return profile, ""


def _keep(path: Path, profile: MachineProfile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".profile.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(format_machine_profile(profile))
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _cell(
    sessions: Sequence[InferenceSession], rows: Floats32, batch: int, load: str, plan: ProfilePlan
) -> ProfileCell:
    start = threading.Barrier(len(sessions))
    taken: list[list[int]] = [[] for _ in sessions]
    failures: list[BaseException] = []

    def work(place: int) -> None:
        try:
            _time_calls(sessions[place], (rows[:batch], rows[batch : 2 * batch]), start, taken[place], plan)
        except BaseException as error:
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(1, len(sessions))]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    times = np.array([value for own in taken for value in own], np.int64)
    p50, p99, p999 = np.percentile(times, (50.0, 99.0, 99.9), method="higher")
    return ProfileCell(
        batch=batch,
        workers=len(sessions),
        load=load,
        calls=len(times),
        p50_ns=int(p50),
        p99_ns=int(p99),
        p999_ns=int(p999),
        max_ns=int(times.max()),
    )


def _time_calls(
    session: InferenceSession,
    inputs: Sequence[Floats32],
    start: threading.Barrier,
    taken: list[int],
    plan: ProfilePlan,
) -> None:
    clock: Callable[[], int] = time.perf_counter_ns
    call: Callable[[Floats32], Any] = session.probabilities
    for place in range(_WARM_UP_CALLS):
        call(inputs[place & 1])
    start.wait()
    until = clock() + int(plan.seconds * 1e9)
    for place in range(plan.calls):
        before = clock()
        call(inputs[place & 1])
        after = clock()
        taken.append(after - before)
        if after > until and place >= _CALLS_MIN:
            return
