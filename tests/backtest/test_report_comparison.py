from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_results import fake_run

from backtest.report.comparison import Outcome, outcome_of, plain_words, ranked
from backtest.result import Interval


@pytest.mark.parametrize(
    ("low", "high", "outcome", "words"),
    [
        (-0.2, -0.1, Outcome.CHEAPER, "less than single best venue"),
        (0.1, 0.2, Outcome.DEARER, "LinUCB lost"),
        (-0.1, 0.1, Outcome.UNRESOLVED, "No difference shown"),
    ],
)
def test_verdict_says_what_the_interval_shows(low: float, high: float, outcome: Outcome, words: str) -> None:
    run = fake_run()
    difference = Interval(mean=(low + high) / 2, low=low, high=high)
    learner = replace(run.policies[0], difference_bps=difference)
    found = plain_words(replace(run, policies=(learner, *run.policies[1:])))
    assert found is not None
    assert found[0] is outcome
    assert outcome_of(difference) is outcome
    assert words in found[1]


def test_learner_as_reference_is_compared_with_the_cheapest_rival() -> None:
    run = fake_run()
    rival = replace(run.policies[2], difference_bps=Interval(mean=0.2, low=0.1, high=0.3))
    learner = replace(run.policies[0], difference_bps=None)
    found = plain_words(replace(run, policies=(learner, rival)))
    assert found == (
        Outcome.CHEAPER,
        "LinUCB cost 0.200 bps less than single best venue (difference 95% CI [-0.300, -0.100] bps).",
    )


def test_policies_without_a_cost_rank_last() -> None:
    run = fake_run()
    unknown = replace(run.policies[0], cost_bps=Interval(mean=np.nan, low=np.nan, high=np.nan))
    order = ranked(replace(run, policies=(unknown, *run.policies[1:])))
    assert order[-1] is unknown
    means = [policy.cost_bps.mean for policy in order[:-1]]
    assert means == sorted(means)
