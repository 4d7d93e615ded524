"""The main job's page: which routing policy was cheaper, and how sure that is."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ..result import RunResult
from .comparison import Outcome, plain_words, reference_of, sign_flips
from .figures import (
    cost_forest,
    difference_forest,
    learning_curve,
    model_accuracy,
    regret_curve,
    strategy_equity,
    venue_mix,
)
from .files import write_text_atomically
from .formats import count, large_count, memory, seconds
from .markup import Markup, element, join, true_minus
from .page import (
    Section,
    facts,
    figure_block,
    figure_pair,
    notes,
    paragraphs,
    preformatted,
    render_page,
)
from .plots import latency_figure
from .tables import (
    hash_table,
    latency_sentence,
    model_table,
    policy_table,
    sensitivity_table,
    stage_table,
    strategy_table,
)


def write_run_report(result: RunResult, path: str | PathLike[str]) -> Path:
    """Write the main job's result as one self-contained HTML page.

    Parameters
    ----------
    result : RunResult
    path : path-like
        Replaced when it exists; at no time does it hold a part of a page.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    DataError
        The place cannot be written.
    """
    return write_text_atomically(Path(path), render_run_report(result))


def render_run_report(result: RunResult) -> str:
    """Return the page as text; equal results give equal bytes."""
    return render_page(
        title=f"{result.headline} · anytick",
        header=_header(result),
        sections=(
            Section(key="results", title="Result", body=_results(result)),
            Section(key="learning", title="Learning", body=_learning(result)),
            Section(key="venues", title="Venues", body=figure_block(venue_mix(result))),
            Section(key="model", title="Model", body=_model(result)),
            Section(key="strategies", title="Example strategies", body=_strategies(result)),
            Section(key="sensitivity", title="Sensitivity", body=_sensitivity(result)),
            Section(key="latency", title="Latency and time", body=_latency(result)),
            Section(key="identity", title="Seed and hashes", body=_identity(result)),
            Section(key="configuration", title="Configuration", body=preformatted(result.config)),
            Section(key="limits", title="Notes and limits", body=_limits(result)),
        ),
        footer="Written by anytick. This page is complete in itself and fetches nothing.",
    )


def _header(result: RunResult) -> Markup:
    market = "Simulation on a recorded mid price" if result.recorded else "Simulation on a synthetic market"
    days = f"{result.days[0]} to {result.days[-1]}" if result.days.size else f"{result.years:g} years"
    return join(
        element("p", f"{market} · {result.instrument} · {days}", class_="eyebrow"),
        element("h1", result.headline),
        _verdict(result),
        facts(
            (
                ("Events", large_count(result.events)),
                ("Rows", large_count(result.rows)),
                ("Venues", count(len(result.venues))),
                ("Policies", count(len(result.policies))),
                ("Run time", seconds(result.performance.seconds)),
                ("Events/s", large_count(result.performance.events_per_second)),
                ("Peak memory", memory(result.performance.peak_memory_bytes)),
                ("Trials so far", count(result.trials)),
            )
        ),
    )


def _verdict(result: RunResult) -> Markup:
    """Return what the interval says of the router, and beneath it the rest of the verdict."""
    found = plain_words(result)
    if found is None:
        return element("div", element("p", result.verdict, class_="lead"), class_="verdict")
    outcome, sentence = found
    side = {Outcome.CHEAPER: " for", Outcome.DEARER: " against"}.get(outcome, "")
    return element(
        "div",
        element("p", true_minus(f"{outcome.mark} {sentence}"), class_="lead"),
        element("p", true_minus(result.verdict), class_="plain"),
        class_=f"verdict{side}",
    )


def _results(result: RunResult) -> Markup:
    return join(policy_table(result), figure_pair(cost_forest(result), difference_forest(result)))


def _learning(result: RunResult) -> Markup:
    return join(figure_block(learning_curve(result)), figure_block(regret_curve(result)))


def _model(result: RunResult) -> Markup:
    if not any(window.model is not None for window in result.windows):
        return paragraphs("This run used no model.")
    return join(figure_block(model_accuracy(result)), model_table(result))


def _strategies(result: RunResult) -> Markup:
    days = [str(day) for day in result.days]
    return join(figure_block(strategy_equity(result.strategies, days)), strategy_table(result))


def _sensitivity(result: RunResult) -> Markup:
    if not result.sensitivity:
        return paragraphs("No sensitivity run was made: one set of modelled ranges only.")
    flips = sum(sign_flips(result, row) for row in result.sensitivity)
    sentence = (
        f"The sign of the difference changes in {flips} of {len(result.sensitivity)} scenarios."
        if flips
        else f"The sign of the difference is the same in all {len(result.sensitivity)} scenarios."
    )
    return join(paragraphs(sentence), sensitivity_table(result))


def _latency(result: RunResult) -> Markup:
    performance = result.performance
    figure = latency_figure("tick-to-order", performance.tick_to_order, what="tick to order")
    return join(
        paragraphs("Clock figures of this one run on this one machine; they are in no hash."),
        latency_sentence(performance),
        figure_block(figure),
        stage_table(performance),
    )


def _identity(result: RunResult) -> Markup:
    reference = reference_of(result)
    pairs = [
        ("Source", result.source),
        ("Seed", str(result.seed)),
        ("Data hash", result.data_hash),
        ("Configuration hash", result.config_hash),
        ("Journal hash", result.journal_hash),
    ]
    for policy in result.policies:
        role = " (reference)" if policy is reference else ""
        pairs.append(
            (f"Journal of {policy.label}{role}, {count(policy.journal_records)} records", policy.journal_hash)
        )
    return hash_table(pairs)


def _limits(result: RunResult) -> Markup:
    parents = sum(policy.parents for policy in result.policies)
    lots = sum(policy.filled_lots for policy in result.policies)
    totals = f"{count(parents)} parent orders and {count(lots)} filled lots over all policies."
    return notes((*result.notes, totals))
