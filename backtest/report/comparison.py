"""Which policy is compared with which, and what the interval allows to say."""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum

from ..result import Interval, PolicyResult, RunResult, SensitivityRow
from .formats import bounds, confidence, decimal


class Outcome(Enum):
    """What an interval for (policy minus reference) shows; lower cost is better."""

    CHEAPER = "cheaper"
    DEARER = "dearer"
    UNRESOLVED = "no difference shown"

    @property
    def mark(self) -> str:
        """A sign that tells the outcomes apart without colour."""
        return {Outcome.CHEAPER: "▼", Outcome.DEARER: "▲", Outcome.UNRESOLVED: "○"}[self]


def outcome_of(difference: Interval) -> Outcome:
    """Return what the bounds show; an interval that holds zero shows nothing."""
    if difference.high < 0.0:
        return Outcome.CHEAPER
    if difference.low > 0.0:
        return Outcome.DEARER
    return Outcome.UNRESOLVED


def ranked(result: RunResult) -> tuple[PolicyResult, ...]:
    """Return the policies, cheapest first; those without a cost last."""

    def key(policy: PolicyResult) -> tuple[bool, float]:
        mean = policy.cost_bps.mean
        return (not math.isfinite(mean), mean if math.isfinite(mean) else 0.0)

    return tuple(sorted(result.policies, key=key))


def reference_of(result: RunResult) -> PolicyResult | None:
    """Return the policy that the differences are taken from."""
    return next((policy for policy in result.policies if policy.difference_bps is None), None)


def learner_of(result: RunResult) -> PolicyResult | None:
    """Return the router under study: LinUCB, or the first policy where it did not run."""
    named = (policy for policy in result.policies if "linucb" in policy.name.lower())
    return next(named, result.policies[0] if result.policies else None)


def sign_flips(result: RunResult, row: SensitivityRow) -> bool:
    """Return whether a scenario turns the main result's sign; the first scenario stands in for none."""
    learner = learner_of(result)
    main = learner.difference_bps if learner is not None else None
    base = main if main is not None else result.sensitivity[0].difference_bps
    return row.difference_bps.mean * base.mean < 0.0


def plain_words(result: RunResult) -> tuple[Outcome, str] | None:
    """Return what the result shows about the learner, as one sentence without gloss.

    Returns
    -------
    tuple of Outcome and str, or None
        None where there is nothing to compare.
    """
    learner, other = learner_of(result), reference_of(result)
    if learner is None or other is None:
        return None
    difference = learner.difference_bps
    if difference is None:
        rivals = [policy for policy in ranked(result) if policy.difference_bps is not None]
        if not rivals or (rival := rivals[0].difference_bps) is None:
            return None
        other = rivals[0]
        difference = replace(rival, mean=-rival.mean, low=-rival.high, high=-rival.low)
    if not math.isfinite(difference.mean):
        return Outcome.UNRESOLVED, f"{learner.label} could not be compared with {other.label}."
    outcome = outcome_of(difference)
    size = f"{decimal(abs(difference.mean))} bps"
    interval = f"difference {confidence(difference)} {bounds(difference, sign=True)} bps"
    if outcome is Outcome.CHEAPER:
        return outcome, f"{learner.label} cost {size} less than {other.label} ({interval})."
    if outcome is Outcome.DEARER:
        return outcome, f"{learner.label} lost: it cost {size} more than {other.label} ({interval})."
    return outcome, (
        f"No difference shown between {learner.label} and {other.label}: "
        f"the interval holds zero ({interval})."
    )
