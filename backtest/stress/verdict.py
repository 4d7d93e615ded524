"""From answers to figures, and from figures to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from engine.inference.ladder import Variant
from engine.inference.serving.forecast import CostTable
from engine.inference.serving.oracle import closed_loop_bound, value_bound
from engine.inference.serving.planning import ValueTable
from engine.inference.serving.request import Outcome, Request

from .load import LoadRun, answered
from .rivals import NaiveRun

HIT_RATE_MIN: Final = 0.99
REFUSAL_NS_MAX: Final = 5_000_000
VALUE_SHARE_MIN: Final = 0.9
LATE_AFTER_MAX: Final = 0.01
AFTER_WINDOW_NS: Final = 2_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What one load says. Times in milliseconds, from when a request was due to be sent.

    Parameters
    ----------
    hit_rate : float
        Share of all requests that a model answered in time.
    p50_ms, p99_ms, p999_ms : float
        Of what a model answered, in time or not.
    refused : float
        Share refused; `refusal_ms` is the slowest refusal, `refusal_p99_ms` their 99th percentile.
    value, clairvoyant : float
        Mean value per request, and the bound on what anybody could have got with the same cores.
    variants : dict
        Share of all requests answered in time, per variant.
    late_after : float or None
        Share not answered in time among requests under way when a worker was killed or stopped or the ladder
        switched in the middle of the load, and of the two seconds after.
    """

    load: str
    requests: int
    rate: float
    hit_rate: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refused: float
    refusal_p99_ms: float
    refusal_ms: float
    value: float
    clairvoyant: float
    cores: float
    variants: dict[str, float]
    lost: int
    late_after: float | None
    naive_hit_rate: float | None
    naive_p99_ms: float | None
    naive_rate: float | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)


def figures_of(
    run: LoadRun,
    *,
    load: str,
    users: int | None,
    variants: Sequence[Variant],
    costs: CostTable,
    values: ValueTable,
    deadline_ns: int,
    naive: NaiveRun | None = None,
) -> Figures:
    """Return the figures of a load; `users` is None for an open one."""
    by_model = answered(run)
    latencies = run.latencies_ns[by_model] / 1e6
    p50, p99, p999 = np.percentile(latencies, (50, 99, 99.9)) if len(latencies) else (np.nan,) * 3
    refused = run.outcomes == Outcome.REFUSED
    counts = np.bincount(run.variants[run.on_time], minlength=len(variants))
    worth = float(counts[: len(variants)] @ np.array(values.values)) / max(run.asked, 1)
    late = None
    if run.halfway_s is not None:
        since_ns = run.arrivals_ns - run.start_ns - int(run.halfway_s * 1e9)
        # What was under way counts too.
        after = (since_ns >= -deadline_ns) & (since_ns < AFTER_WINDOW_NS)
        late = float(1.0 - run.on_time[after].mean()) if after.any() else None
    return Figures(
        load=load,
        requests=run.asked,
        rate=run.asked / run.seconds,
        hit_rate=float(run.on_time.sum()) / max(run.asked, 1),
        p50_ms=float(p50),
        p99_ms=float(p99),
        p999_ms=float(p999),
        refused=float(refused.mean()) if len(refused) else 0.0,
        refusal_p99_ms=float(np.percentile(run.latencies_ns[refused], 99)) / 1e6 if refused.any() else 0.0,
        refusal_ms=float(run.latencies_ns[refused].max()) / 1e6 if refused.any() else 0.0,
        value=worth,
        clairvoyant=_clairvoyant(run, users, costs, values, deadline_ns),
        cores=run.cores,
        variants={
            variant.name: float(count) / max(run.asked, 1)
            for variant, count in zip(variants, counts, strict=False)
        },
        lost=run.lost,
        late_after=late,
        naive_hit_rate=None if naive is None else naive.hit_rate,
        naive_p99_ms=None if naive is None else naive.p99_ms,
        naive_rate=None if naive is None else naive.rate,
    )


def _clairvoyant(
    run: LoadRun, users: int | None, costs: CostTable, values: ValueTable, deadline_ns: int
) -> float:
    if users is not None:
        return closed_loop_bound(costs, values, users=users, deadline_ns=deadline_ns, workers=run.cores)
    arrivals = run.arrivals_ns - run.arrivals_ns.min()
    requests = [
        Request(request_id=index, arrival_ns=arrival, deadline_ns=arrival + deadline_ns)
        for index, arrival in enumerate(arrivals.tolist())
    ]
    bound = value_bound(requests, costs, values, capacity=lambda now_ns: run.cores * now_ns)
    return bound / max(len(requests), 1)


def naive_fails(run: NaiveRun) -> bool:
    """Return whether the naive way misses what is asked of the router: too few in time, hence a late p99."""
    return run.hit_rate < HIT_RATE_MIN


def naive_sentence(runs: Sequence[NaiveRun], name: str) -> str:
    """Say where the naive way fails, and where it does not.

    Parameters
    ----------
    runs : sequence of NaiveRun
        By load; those behind the first that fails may be missing.
    """

    def told(run: NaiveRun) -> str:
        return f"{run.users} users ({run.hit_rate:.1%} in time, p99 {run.p99_ms:.0f} ms)"

    head = f"naive, one session of {name}, a thread per user"
    failed = [run for run in runs if naive_fails(run)]
    met = ", ".join(str(run.users) for run in runs if not naive_fails(run))
    if not failed:
        return f"{head}: fails nowhere, and answers {told(runs[-1])}"
    also = f"; meets the deadline at {met}" if met else ""
    return f"{head}: fails at {', '.join(map(told, failed))}{also}"


def missed_goals(figures: Figures, *, deadline_ms: float) -> list[str]:
    """Return a sentence for every goal that these figures miss."""
    missed = []
    if not figures.p99_ms <= deadline_ms:
        missed.append(f"p99 of answered must be at most {deadline_ms:g} ms, was {figures.p99_ms:.1f}")
    if figures.hit_rate < HIT_RATE_MIN:
        missed.append(f"answered in time must be at least {HIT_RATE_MIN:.0%}, was {figures.hit_rate:.2%}")
    if figures.refusal_ms * 1e6 > REFUSAL_NS_MAX:
        missed.append(f"refusals must come within {REFUSAL_NS_MAX / 1e6:g} ms, was {figures.refusal_ms:.1f}")
    if figures.value < VALUE_SHARE_MIN * figures.clairvoyant:
        share = figures.value / figures.clairvoyant
        missed.append(f"value must be at least {VALUE_SHARE_MIN:.0%} of the clairvoyant's, was {share:.1%}")
    if figures.lost:
        missed.append(f"no request may be lost, were {figures.lost}")
    if figures.late_after is not None and figures.late_after > LATE_AFTER_MAX:
        missed.append(
            f"late after what was done in the middle must be at most {LATE_AFTER_MAX:.0%}, "
            f"was {figures.late_after:.2%}"
        )
    return [f"{figures.load}: {sentence}" for sentence in missed]
