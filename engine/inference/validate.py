"""The gate before a model may serve: every rule with its limit, what was measured, and whether it holds.

The candidate is compared with a reference, usually its own FP32 form, on rows neither was fitted on. A
rule that cannot be measured because an earlier one failed is reported as failed, never left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError

from .arrays import Floats32, Labels
from .classifier import DOWN, UP
from .errors import ModelError
from .graph import GraphLimits, GraphSummary, check_graph
from .session import OrtSession

_NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationLimits:
    """What a candidate must hold.

    Parameters
    ----------
    accuracy_loss_max : float
        Accuracy of the reference minus that of the candidate.
    agreement_min : float
        Share of rows where both name the same class.
    mean_abs_difference_max : float
        Of the signals P(up) − P(down).
    latency_ms_max : float
        Worst of the timed calls of one input each.
    model_bytes_max : int
        Size of the file.
    timed_calls : int
        After twenty that are not timed.
    """

    accuracy_loss_max: float = 0.01
    agreement_min: float = 0.95
    mean_abs_difference_max: float = 0.02
    latency_ms_max: float = 50.0
    model_bytes_max: int = 64 << 20
    timed_calls: int = 500

    def __post_init__(self) -> None:
        for name in ("accuracy_loss_max", "agreement_min", "mean_abs_difference_max"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie between 0 and 1, was {getattr(self, name)}")
        for name in ("latency_ms_max", "model_bytes_max", "timed_calls"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, was {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleOutcome:
    """One line of the gate's table."""

    rule: str
    limit: str
    measured: str
    passed: bool


def validate_model(
    candidate: bytes,
    reference: bytes,
    rows: Floats32,
    labels: Labels | None = None,
    *,
    limits: ValidationLimits | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[RuleOutcome, ...]:
    """Judge a candidate; it passes when every outcome did.

    Parameters
    ----------
    rows : array of float32, shape (n, d) or (n, window, d)
        Never used in training or calibration.
    labels : array of int, shape (n,), optional
        Without them the accuracy rule is left out and agreement has to do.

    Raises
    ------
    ModelError
        The reference is unfit, or the rows do not fit it: then nothing can be judged.
    """
    limits = limits or ValidationLimits()
    trusted = OrtSession.from_bytes(reference, source="reference")
    if rows.shape[1:] != trusted.summary.row_shape or not len(rows):
        expected = f"(n, {', '.join(map(str, trusted.summary.row_shape))})"
        raise ModelError(f"rows must have shape {expected}, was {rows.shape}", source="validation")
    if labels is not None and labels.shape != (len(rows),):
        raise ModelError(f"there must be {len(rows)} labels, was {labels.shape}", source="validation")
    outcomes = [_size_rule(candidate, limits)]
    session, opened = _open_rules(candidate, trusted.summary, limits)
    outcomes += opened
    exact = _one_by_one(trusted, rows)
    answers = None if session is None else _one_by_one(session, rows)
    outcomes.append(_finite_rule(session, answers, rows))
    outcomes += _agreement_rules(exact, answers, labels, limits)
    outcomes.append(_latency_rule(session, rows, limits, clock))
    return tuple(outcomes)


def judge_alone(candidate: bytes, *, limits: ValidationLimits | None = None) -> tuple[RuleOutcome, ...]:
    """Judge whether a model that has no reference but itself can be one; it can when every outcome passed.

    What no rule could measure then is failed, as in `validate_model`.
    """
    limits = limits or ValidationLimits()
    session, opened = _open_rules(candidate, None, limits)
    outcomes = [_size_rule(candidate, limits), *opened]
    if session is None:
        none = np.zeros((0, 3), np.float32)
        outcomes.append(_finite_rule(None, None, none))
        outcomes += _agreement_rules(none, None, None, limits)
        outcomes.append(_latency_rule(None, none, limits, time.perf_counter_ns))
    return tuple(outcomes)


def _size_rule(candidate: bytes, limits: ValidationLimits) -> RuleOutcome:
    size = len(candidate)
    return RuleOutcome(
        rule="file size",
        limit=f"at most {limits.model_bytes_max:,} bytes",
        measured=f"{size:,}",
        passed=size <= limits.model_bytes_max,
    )


def _open_rules(
    candidate: bytes, expected: GraphSummary | None, limits: ValidationLimits
) -> tuple[OrtSession | None, list[RuleOutcome]]:
    """Judge what the file holds and that it runs; the session is None where either failed.

    Without an expected summary any input will do.
    """
    graph_limits = GraphLimits(model_bytes_max=max(limits.model_bytes_max, GraphLimits().model_bytes_max))
    outcomes, session, summary = [], None, None
    measured = "kept"
    try:
        summary = check_graph(candidate, source="candidate", limits=graph_limits)
    except ModelError as refusal:
        measured = refusal.rule
    outcomes.append(
        RuleOutcome(
            rule="operators, no external data",
            limit="the allow-list, all data inside",
            measured=measured,
            passed=summary is not None,
        )
    )
    expected = expected or summary
    same = summary is not None and expected is not None and summary.row_shape == expected.row_shape
    outcomes.append(
        RuleOutcome(
            rule="input",
            limit=_input_of(expected, "(batch, …)"),
            measured=_input_of(summary, _NOT_MEASURED),
            passed=same,
        )
    )
    measured = _NOT_MEASURED
    if same:
        try:
            session = OrtSession.from_bytes(candidate, source="candidate", limits=graph_limits)
            measured = "probabilities"
        except ModelError as refusal:
            measured = refusal.rule
    outcomes.append(
        RuleOutcome(rule="runs", limit="gives probabilities", measured=measured, passed=session is not None)
    )
    return session, outcomes


def _input_of(summary: GraphSummary | None, otherwise: str) -> str:
    return otherwise if summary is None else f"(batch, {', '.join(map(str, summary.row_shape))})"


def _finite_rule(session: OrtSession | None, answers: Floats32 | None, rows: Floats32) -> RuleOutcome:
    rule, limit = "every answer finite", "0 NaN or Inf, also far outside the rows"
    if session is None or answers is None:
        return RuleOutcome(rule=rule, limit=limit, measured=_NOT_MEASURED, passed=False)
    # What a broken feed could send: zeros, and values no training row came near.
    scale = np.float32(1e6) * (1.0 + np.abs(rows[:1]).max())
    extremes = [np.zeros_like(rows[:1]), np.full_like(rows[:1], scale), np.full_like(rows[:1], -scale)]
    extreme = np.concatenate([session.probabilities(row) for row in extremes])
    wrong = int((~np.isfinite(answers).all(axis=1)).sum() + (~np.isfinite(extreme).all(axis=1)).sum())
    return RuleOutcome(
        rule=rule, limit=limit, measured=f"{wrong} of {len(answers) + len(extreme)}", passed=not wrong
    )


def _agreement_rules(
    exact: Floats32, answers: Floats32 | None, labels: Labels | None, limits: ValidationLimits
) -> list[RuleOutcome]:
    names = ["agreement with the reference", "mean signal difference"]
    bounds = [f"at least {limits.agreement_min}", f"at most {limits.mean_abs_difference_max}"]
    if labels is not None:
        names.append("accuracy loss")
        bounds.append(f"at most {limits.accuracy_loss_max}")
    if answers is None:
        return [
            RuleOutcome(rule=rule, limit=limit, measured=_NOT_MEASURED, passed=False)
            for rule, limit in zip(names, bounds, strict=True)
        ]
    named, expected = _named(answers), _named(exact)
    agreement = float(((named == expected) & (named >= 0)).mean())
    signals = (answers[:, UP] - answers[:, DOWN]) - (exact[:, UP] - exact[:, DOWN])
    difference = float(np.abs(signals).mean(dtype=np.float64))
    # Compared so that NaN fails.
    figures = [f"{agreement:.4f}", f"{difference:.5f}"]
    passed = [agreement >= limits.agreement_min, difference <= limits.mean_abs_difference_max]
    if labels is not None:
        right, wanted = float((named == labels).mean()), float((expected == labels).mean())
        figures.append(f"{wanted - right:+.4f} ({wanted:.4f} → {right:.4f})")
        passed.append(wanted - right <= limits.accuracy_loss_max)
    return [
        RuleOutcome(rule=rule, limit=limit, measured=figure, passed=bool(holds))
        for rule, limit, figure, holds in zip(names, bounds, figures, passed, strict=True)
    ]


def _latency_rule(
    session: OrtSession | None, rows: Floats32, limits: ValidationLimits, clock: Callable[[], int]
) -> RuleOutcome:
    rule, limit = "worst latency, one input", f"at most {limits.latency_ms_max:g} ms"
    if session is None:
        return RuleOutcome(rule=rule, limit=limit, measured=_NOT_MEASURED, passed=False)
    inputs = [rows[place : place + 1] for place in range(min(len(rows), 64))]
    for call in range(20):
        session.probabilities(inputs[call % len(inputs)])
    worst = 0
    for call in range(limits.timed_calls):
        row = inputs[call % len(inputs)]
        start = clock()
        session.probabilities(row)
        worst = max(worst, clock() - start)
    return RuleOutcome(
        rule=rule,
        limit=limit,
        measured=f"{worst / 1e6:.3f} ms of {limits.timed_calls} calls",
        passed=worst <= limits.latency_ms_max * 1e6,
    )


def _one_by_one(session: OrtSession, rows: Floats32) -> Floats32:
    """Return the answers, an input a call: a dynamic form rounds by the range of the whole call."""
    return np.concatenate([session.probabilities(rows[place : place + 1]) for place in range(len(rows))])


def _named(answers: Floats32) -> NDArray[np.intp]:
    """Return the most probable class of every row, −1 where a probability is not finite."""
    finite = np.isfinite(answers).all(axis=1)
    return np.where(finite, answers.argmax(axis=1), -1)
