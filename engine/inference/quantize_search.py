"""Try every form of quantization, measure each, keep what no other form beats.

A form is judged by its accuracy on rows it was not calibrated with and by its latency at every batch size. It
stands on the Pareto front when no other form, FP32 included, is at least as accurate and at least as fast at
every batch, and better in one of them. Nothing is assumed: where FP32 beats all, it stands alone.

Without labels, agreement with FP32 takes the place of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from data.errors import ConfigError

from .arrays import Floats32, Labels
from .classifier import DOWN, UP
from .errors import ModelError
from .evaluate import ModelGate
from .machine_profile import ProfilePlan, measure_profile
from .quantize_forms import FORMS, QuantForm, quantize_as
from .session import OrtSession

FLOAT: Final = "fp32"
HELD_BACK_SHARE: Final = 0.25
_SAME_SPEED: Final = 0.03
"""Latencies closer than this share are one: a machine does not repeat itself more exactly."""


@dataclass(frozen=True, kw_only=True)
class QuantTrial:
    """One form, tried.

    Parameters
    ----------
    accuracy : float
        On the held-back rows; agreement with FP32 where there are no labels. NaN when impossible.
    agreement : float
        Share of rows where it names FP32's class.
    mean_abs_difference : float
        Of the signals P(up) − P(down) from FP32's.
    p50_ns : dict
        Batch to median time of a call.
    on_front : bool
    verdict : str
        Why it is kept or not, in words.
    """

    form: str
    model: bytes = field(repr=False)
    accuracy: float
    agreement: float
    mean_abs_difference: float
    p50_ns: dict[int, int]
    on_front: bool = False
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class QuantSearch:
    """All trials, FP32 first.

    Parameters
    ----------
    chosen : QuantTrial
        What to run: the fastest at the smallest batch among FP32 and the forms that passed the gate.
    int8 : QuantTrial or None
        The fastest of those forms alone; None where none passed.
    """

    trials: tuple[QuantTrial, ...]
    chosen: QuantTrial
    int8: QuantTrial | None
    judged_by: str
    calibration_rows: int
    held_back_rows: int

    @property
    def front(self) -> tuple[QuantTrial, ...]:
        """The trials that no other beats."""
        return tuple(trial for trial in self.trials if trial.on_front)


def search_forms(
    model: bytes,
    rows: Floats32,
    labels: Labels | None = None,
    *,
    plan: ProfilePlan | None = None,
    gate: ModelGate | None = None,
    forms: tuple[QuantForm, ...] = FORMS,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> QuantSearch:
    """Quantize, judge and time a model in every form.

    Parameters
    ----------
    rows : array of float32, shape (n, d) or (n, window, d)
        In time order. The first three quarters calibrate, the rest judges.
    labels : array of int, shape (n,), optional
        0 down, 1 flat, 2 up.
    plan : ProfilePlan, optional
        Batches 1 to 64, one worker, an idle machine when None.
    gate : ModelGate, optional
        What a form must hold against FP32 to be chosen.
    """
    if labels is not None and labels.shape != (len(rows),):
        raise ModelError(f"there must be {len(rows)} labels, was {labels.shape}", source="quantize")
    held_back = int(len(rows) * HELD_BACK_SHARE)
    if held_back < 1:
        raise ConfigError(f"there must be at least {int(1 / HELD_BACK_SHARE)} rows, was {len(rows)}")
    fit, judge = rows[:-held_back], rows[-held_back:]
    truth = None if labels is None else labels[-held_back:]
    plan = plan or ProfilePlan(workers=(1,), loads=("idle",), calls=400, seconds=0.4)
    exact = _answers(model, judge)
    trials = [_trial(FLOAT, model, exact, exact, truth, plan)]
    for place, form in enumerate(forms):
        progress((place + 0.5) / (len(forms) + 1), form.name)
        try:
            made = quantize_as(model, fit, form)
            trials.append(_trial(form.name, made, _answers(made, judge), exact, truth, plan))
        except ModelError as error:
            trials.append(_impossible(form.name, error))
    progress(1.0, "done")
    judged = tuple(_judged(trial, trials) for trial in trials)
    passing = _passing(judged, gate or ModelGate())
    smallest = min(plan.batches)
    int8 = min(passing, key=lambda trial: trial.p50_ns[smallest], default=None)
    return QuantSearch(
        trials=judged,
        chosen=min([judged[0], *passing], key=lambda trial: trial.p50_ns[smallest]),
        int8=int8,
        judged_by="agreement with FP32" if labels is None else "accuracy",
        calibration_rows=len(fit),
        held_back_rows=held_back,
    )


def _answers(model: bytes, rows: Floats32) -> Floats32:
    session = OrtSession.from_bytes(model, source="quantize")
    # An input a call: a dynamic form rounds by the range of the whole call.
    return np.concatenate([session.probabilities(rows[place : place + 1]) for place in range(len(rows))])


def _trial(
    name: str, model: bytes, answers: Floats32, exact: Floats32, truth: Labels | None, plan: ProfilePlan
) -> QuantTrial:
    if not np.isfinite(answers).all():
        raise ModelError("every answer must be finite, was not", source=name)
    named, expected = answers.argmax(axis=1), exact.argmax(axis=1)
    signals = (answers[:, UP] - answers[:, DOWN]) - (exact[:, UP] - exact[:, DOWN])
    load = plan.loads[0]
    profile = measure_profile(model, replace(plan, workers=(1,), loads=(load,)))
    return QuantTrial(
        form=name,
        model=model,
        accuracy=float((named == (expected if truth is None else truth)).mean()),
        agreement=float((named == expected).mean()),
        mean_abs_difference=float(np.abs(signals).mean(dtype=np.float64)),
        p50_ns={batch: profile.cell(batch=batch, load=load).p50_ns for batch in plan.batches},
    )


def _impossible(name: str, error: ModelError) -> QuantTrial:
    return QuantTrial(
        form=name,
        model=b"",
        accuracy=float("nan"),
        agreement=float("nan"),
        mean_abs_difference=float("nan"),
        p50_ns={},
        verdict=f"not possible: {error.rule}",
    )


def _judged(trial: QuantTrial, trials: list[QuantTrial]) -> QuantTrial:
    if not trial.model:
        return trial
    better = next((other for other in trials if other.model and dominates(other, trial)), None)
    if better is not None:
        speed = min(trial.p50_ns[batch] / better.p50_ns[batch] for batch in trial.p50_ns)
        gain = better.accuracy - trial.accuracy
        return replace(
            trial, verdict=f"beaten by {better.form}: ×{speed:.2f} or more, {100 * gain:+.2f} points"
        )
    fastest = [
        batch
        for batch, time_ns in trial.p50_ns.items()
        if time_ns == min(other.p50_ns[batch] for other in trials if other.model)
    ]
    words = (
        f"fastest at batch {', '.join(map(str, fastest))}" if fastest else "no form is faster and as accurate"
    )
    return replace(trial, on_front=True, verdict=f"kept: {words}")


def dominates(one: QuantTrial, other: QuantTrial) -> bool:
    """Return whether one form is as good as another everywhere and better somewhere.

    Speeds within 3 % count as equal.
    """
    if one is other or one.accuracy < other.accuracy:
        return False
    ratios = [one.p50_ns[batch] / other.p50_ns[batch] for batch in one.p50_ns]
    if max(ratios) > 1.0 + _SAME_SPEED:
        return False
    return one.accuracy > other.accuracy or min(ratios) < 1.0 - _SAME_SPEED


def _passing(trials: tuple[QuantTrial, ...], gate: ModelGate) -> list[QuantTrial]:
    """Return the INT8 trials that hold against FP32 what the gate asks; NaN never does."""
    exact = trials[0]
    return [
        trial
        for trial in trials[1:]
        if trial.model
        and trial.agreement >= gate.agreement_min
        and exact.accuracy - trial.accuracy <= gate.accuracy_loss_max
        and trial.mean_abs_difference <= gate.mean_abs_difference_max
    ]
