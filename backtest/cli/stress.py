"""``anytick stress``: the anytime router under closed- and open-loop load, beside the naive way to serve."""

from __future__ import annotations

import argparse
import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .parser import explain, number, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from engine.inference.arrays import Floats32
    from engine.inference.ladder import Variant
    from engine.inference.serving.front import Front

    from ..stress.rivals import NaiveRun, NaiveService
    from ..stress.verdict import Figures

_HEADS: Final = (
    *("load", "req/s", "in time", "p50", "p99", "p99.9 ms", "refused", "value"),
    *("of clairvoyant", "cores", "naive in time"),
)


_PAYLOADS: Final = 1_024
_NAIVE_S: Final = 5.0
# A thread each.
_NAIVE_USERS_MAX: Final = 1_024
_HALFWAY: Final = {
    "kill-worker": "SIGKILL one worker in the middle",
    "stop-worker": "SIGSTOP one worker in the middle, which then hangs",
    "switch": "go over to the same ladder in new workers in the middle",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "stress",
        help="load the inference router until it shows what it is worth",
        description="Serve the ladder of models to virtual users with a deadline, in closed loop and on a "
        "schedule, and beside it the naive way: one shared session of the largest model, a thread per "
        "user. Prints who answered what when, what a clairvoyant could have got, and where the naive way "
        "fails. Exit code 1 when the router misses a goal.",
    )
    parser.add_argument(
        "--users", type=whole(1, 4_096), nargs="+", default=[64], metavar="N", help="default: 64"
    )
    parser.add_argument(
        "--seconds",
        type=number(0.1, 3_600),
        default=10.0,
        metavar="S",
        help="of each load; default: %(default)s",
    )
    parser.add_argument(
        "--deadline-ms", metavar="MS", type=number(1, 10_000), default=50.0, help="default: %(default)s"
    )
    parser.add_argument(
        "--rate", type=number(1, 1e6), metavar="HZ", help="of the open loop; default: 0.8 of the closed one"
    )
    parser.add_argument("--hog", action="store_true", help="spin on every core meanwhile")
    halfway = parser.add_mutually_exclusive_group()
    for flag, what in _HALFWAY.items():
        halfway.add_argument(f"--{flag}", dest="halfway", action="store_const", const=flag, help=what)
    parser.add_argument(
        "--no-first-answers", action="store_true", help="refuse what cannot be met, and show how soon"
    )
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="a ladder or a model registry; default: the ladder shipped"
    )
    parser.add_argument(
        "--naive-model",
        type=Path,
        metavar="ONNX",
        help="what the naive session runs; default: the ladder's largest model, in FP32 where there is that",
    )
    parser.add_argument("--refresh", action="store_true", help="time the models even where a profile is kept")
    parser.add_argument("--workers", type=whole(1, 31), metavar="N", help="default: one per core")
    explain(parser, "anytick stress --users 1 4 16 64 --seconds 10 --deadline-ms 50 --hog")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve, load, print, judge."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ..stress.verdict import missed_goals

    # So that workers end with us, however politely we are asked to.
    signal.signal(signal.SIGTERM, _interrupt)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=args.json) as progress:
        found, notes = _loads(args, progress)
    missed: list[str] = []
    for figures in found:
        missed += missed_goals(figures, deadline_ms=args.deadline_ms)
    if args.json:
        loads = [figures.to_json() for figures in found]
        document = {"loads": loads, "missed": missed, "notes": notes, "seed": args.seed}
        print(json.dumps(document, sort_keys=True))
    else:
        _print(found)
        for note in notes:
            print(note)
        for sentence in missed:
            print(f"missed  {sentence}")
    return 1 if missed else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _loads(args: argparse.Namespace, progress: Any) -> tuple[list[Figures], list[str]]:
    import numpy as np

    from engine.inference.serving.front import Front
    from engine.inference.serving.measure import ladder_costs

    from ..stress.load import like_training
    from ..stress.rivals import Hogs, usable_cores
    from ..stress.verdict import naive_sentence

    variants, served = _models(args.models)
    measuring = progress.add_task("profiling the ladder", total=None)
    said: list[str] = []
    costs = ladder_costs(variants, refresh=args.refresh, say=said.append)
    notes = [_times_note(said, asked=args.refresh)]
    progress.remove_task(measuring)
    random = np.random.default_rng(args.seed)
    deadline_ns = int(args.deadline_ms * 1e6)
    found: list[Figures] = []
    # A user has one question open at a time, a schedule those of one deadline.
    open_max = max(1_024, *args.users, int(1.5e-3 * (args.rate or 0.0) * args.deadline_ms))
    open_max = 1 << (open_max - 1).bit_length()
    options: dict[str, Any] = {"workers": args.workers, "first_answers": not args.no_first_answers, **served}
    with Front(variants, costs=costs, open_max=open_max, **options) as front, ExitStack() as stack:
        payloads = like_training(
            random.standard_normal((_PAYLOADS, *front.arena.rows.shape[1:])).astype(np.float32), variants
        )
        service = _naive(args.naive_model, variants, payloads)
        if args.hog:
            stack.enter_context(Hogs(usable_cores()))

        def naive_run(users: int) -> NaiveRun:
            task = progress.add_task(f"naive, {users} users", total=None)
            run = service.run(users, seconds=min(args.seconds, _NAIVE_S), deadline_ns=deadline_ns)
            progress.remove_task(task)
            return run

        naive = []
        for users in args.users:
            naive.append(naive_run(users))
            found += _pair(args, front, payloads, users, naive[-1], progress)
        naive += _until_it_fails(naive, naive_run)
        notes.append(naive_sentence(naive, service.name))
        notes += _closing_notes(front)
    return found, notes


def _naive(path: Path | None, variants: tuple[Variant, ...], payloads: Floats32) -> NaiveService:
    """Return the naive way to serve a file, or else the ladder's largest model."""
    from engine.inference.model_file import read_model
    from engine.inference.serving.measure import largest

    from ..stress.rivals import NaiveService

    if path is None:
        variant = variants[largest(variants)]
        return NaiveService(variant.read(), payloads, source=variant.path, name=variant.name)
    return NaiveService(read_model(path), payloads, source=path, name=path.name)


def _until_it_fails(runs: list[NaiveRun], run: Callable[[int], NaiveRun]) -> list[NaiveRun]:
    """Double the users until the naive way fails; nothing where it has failed already."""
    from ..stress.verdict import naive_fails

    more: list[NaiveRun] = []
    users = max(each.users for each in runs)
    while not any(map(naive_fails, (*runs, *more))) and users < _NAIVE_USERS_MAX:
        users = min(2 * users, _NAIVE_USERS_MAX)
        more.append(run(users))
    return more


def _times_note(said: list[str], *, asked: bool) -> str:
    """Say whether the models' times are kept ones, and why not."""
    if asked:
        return "times of all variants: measured now, as asked"
    if not said:
        return "times of all variants: from the profiles kept for this machine and these versions"
    names = ", ".join(line.partition(": ")[0] for line in said)
    return f"times of {names}: {said[0].rpartition(': ')[2]}"


def _models(path: Path | None) -> tuple[tuple[Variant, ...], dict[str, Any]]:
    """Return a ladder and, where a registry holds it, how a front follows that."""
    from engine.inference.ladder import load_ladder
    from engine.inference.registry import POINTER_NAME, ModelRegistry
    from engine.inference.rungs import RegistrySource

    if path is None or not (path / POINTER_NAME).exists():
        return load_ladder(path), {}
    source = RegistrySource(ModelRegistry(path))
    return source.variants, {"source": source, "previous": source.previous}


def _closing_notes(front: Front) -> list[str]:
    """Say what happened to the front meanwhile."""
    status = front.status()
    notes = [str(drift) for drift in status.drift]
    notes.append(f"drift: {status.drift_verdicts} windows of inputs judged")
    if status.restarts:
        notes.append(f"workers replaced: {status.restarts}")
    switch = status.switch
    if switch is not None:
        seconds = (switch.done_ns - switch.asked_ns) / 1e9
        took = "" if switch.under_way else f" after {seconds:.1f} s"
        notes.append(f"last switch: {switch.state}{took}{switch.reason and ', ' + switch.reason}")
        notes.append(f"now serving ladder {status.ladder}")
    return notes


def _pair(
    args: argparse.Namespace, front: Front, payloads: Floats32, users: int, naive: NaiveRun, progress: Any
) -> list[Figures]:
    """Run the closed loop, then the open one at a rate that follows from it."""
    from ..stress.load import LoadLoop
    from ..stress.verdict import figures_of

    deadline_ns = int(args.deadline_ms * 1e6)
    shared: dict[str, Any] = {"variants": front.variants, "costs": front.costs, "values": front.values}
    shared["deadline_ns"] = deadline_ns

    def ticker(title: str) -> tuple[int, Callable[[float], None]]:
        task = progress.add_task(title, total=args.seconds)
        return task, lambda done: progress.update(task, completed=done)

    task, tick = ticker(f"closed loop, {users} users")
    loop = LoadLoop(front, payloads, deadline_ns=deadline_ns)
    actions: dict[str, Callable[[], object]] = {
        "kill-worker": lambda: os.kill(front.worker_ids[0], signal.SIGKILL),
        "stop-worker": lambda: os.kill(front.worker_ids[0], signal.SIGSTOP),
        "switch": lambda: front.replace(front.variants),
    }
    closed_run = loop.closed(users, args.seconds, halfway=actions.get(args.halfway), tick=tick)
    closed = figures_of(closed_run, load=f"{users} users", users=users, naive=naive, **shared)
    progress.remove_task(task)
    rate = args.rate or max(0.8 * closed.rate, 1.0)
    task, tick = ticker(f"open loop, {rate:.0f}/s")
    loop = LoadLoop(front, payloads, deadline_ns=deadline_ns)
    open_run = loop.open(rate, args.seconds, seed=args.seed, tick=tick)
    opened = figures_of(open_run, load=f"{rate:.0f}/s", users=None, **shared)
    progress.remove_task(task)
    return [closed, opened]


def _print(found: list[Figures]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, head in enumerate(_HEADS):
        table.add_column(head, justify="right" if index else "left", no_wrap=True)
    for figures in found:
        naive = "-"
        if figures.naive_hit_rate is not None:
            naive = f"{figures.naive_hit_rate:.1%}, p99 {figures.naive_p99_ms:.0f}"
        share = figures.value / figures.clairvoyant if figures.clairvoyant else float("nan")
        table.add_row(
            figures.load,
            f"{figures.rate:,.0f}",
            f"{figures.hit_rate:.2%}",
            f"{figures.p50_ms:.1f}",
            f"{figures.p99_ms:.1f}",
            f"{figures.p999_ms:.1f}",
            f"{figures.refused:.2%}"
            + (f", {figures.refusal_p99_ms:.1f} to {figures.refusal_ms:.1f} ms" if figures.refused else ""),
            f"{figures.value:.3f}",
            f"{share:.1%}",
            f"{figures.cores:.2f}",
            naive,
        )
    console = Console()
    Console(width=None if console.is_terminal else 140).print(table)
    for figures in found:
        shares = [f"{name} {share:.1%}" for name, share in figures.variants.items() if share >= 0.0005]
        print(f"{figures.load}: {', '.join(shares)}")
        if figures.late_after is not None:
            print(f"{figures.load}: after the middle {figures.late_after:.2%} late, {figures.lost} lost")
