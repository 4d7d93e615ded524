"""One strategy's page; two results of it, such as fill bounds, stand side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from data.errors import ConfigError

from ..result import Result
from .backtest_figures import equity_figure, fills_figure, position_figure
from .backtest_tables import fill_table, joint_headline, rejection_table, summary_table
from .files import write_text_atomically
from .formats import bounds, count, decimal, large_count, memory, seconds, signed
from .markup import Markup, element, join, true_minus
from .page import Section, facts, figure_block, notes, paragraphs, preformatted, render_page
from .plots import latency_figure
from .tables import hash_table, latency_sentence, stage_table


def write_backtest_report(results: Sequence[Result], path: str | PathLike[str]) -> Path:
    """Write one strategy's results as one self-contained HTML page.

    Parameters
    ----------
    results : sequence of Result
        At least one; several are compared, such as an optimistic and a pessimistic fill bound.
    path : path-like
        Replaced when it exists; at no time does it hold a part of a page.

    Returns
    -------
    Path
        Where the page is.

    Raises
    ------
    ConfigError
        There is no result to report.
    DataError
        The place cannot be written.
    """
    return write_text_atomically(Path(path), render_backtest_report(results))


def render_backtest_report(results: Sequence[Result]) -> str:
    """Return the page as text; equal results give equal bytes."""
    if not results:
        raise ConfigError("a report needs at least one result, was an empty sequence")
    fills = (fills_figure(result, key=f"fills-{place}") for place, result in enumerate(results))
    remarks = dict.fromkeys(remark for result in results for remark in result.notes)
    return render_page(
        title=f"{joint_headline(results)} · anytick",
        header=_header(results),
        sections=(
            Section(key="results", title="Result", body=summary_table(results)),
            Section(
                key="equity-section",
                title="Equity and position",
                body=join(figure_block(equity_figure(results)), figure_block(position_figure(results))),
            ),
            Section(
                key="fills",
                title="Fills",
                body=join(*(figure_block(figure) for figure in fills), fill_table(results)),
            ),
            Section(key="rejections", title="Refused orders", body=_rejections(results)),
            Section(key="latency", title="Latency and time", body=_latency(results)),
            Section(key="identity", title="Seed and hashes", body=_identity(results)),
            Section(key="configuration", title="Configuration", body=_configurations(results)),
            Section(key="limits", title="Notes and limits", body=notes(tuple(remarks))),
        ),
        footer="Written by anytick. This page is complete in itself and fetches nothing.",
    )


def _header(results: Sequence[Result]) -> Markup:
    first = results[0]
    fastest = max(result.performance.events_per_second for result in results)
    return join(
        element("p", f"Backtest · {first.instrument} · {first.source}", class_="eyebrow"),
        element("h1", joint_headline(results)),
        _verdict(results),
        facts(
            (
                ("Events", large_count(first.events)),
                ("Orders", _spread([count(result.orders) for result in results])),
                ("Fills", _spread([count(result.fills.size) for result in results])),
                ("Run time", seconds(sum(result.performance.seconds for result in results))),
                ("Events/s", large_count(fastest)),
                ("Peak memory", memory(max(result.performance.peak_memory_bytes for result in results))),
            )
        ),
    )


def _spread(texts: list[str]) -> str:
    """Return one text for all results, or the first and last where they differ."""
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} … {texts[-1]}"


def _verdict(results: Sequence[Result]) -> Markup:
    lines = []
    for result in results:
        low, high = result.sharpe.low, result.sharpe.high
        shown = "above zero" if low > 0 else "below zero" if high < 0 else "holding zero: no skill shown"
        if math.isnan(low):
            shown = "too little traded for one"
        lines.append(
            element(
                "p",
                true_minus(
                    f"{result.name}: {signed(result.pnl, 2)} {result.currency} after fees of "
                    f"{decimal(result.fees, 2)}; Sharpe interval {bounds(result.sharpe, 2)}, {shown}."
                ),
            )
        )
    if all(result.sharpe.low > 0 for result in results):
        side = " for"
    else:
        side = " against" if all(result.pnl < 0 for result in results) else ""
    return element("div", *lines, class_=f"verdict{side}")


def _rejections(results: Sequence[Result]) -> Markup:
    return rejection_table(results) or paragraphs("No order was refused.")


def _latency(results: Sequence[Result]) -> Markup:
    parts = [paragraphs("Clock figures of these runs on this one machine; they are in no hash.")]
    for place, result in enumerate(results):
        histogram = result.performance.tick_to_order
        if len(results) > 1:
            parts.append(element("h3", result.name))
        parts.append(latency_sentence(result.performance))
        parts.append(figure_block(latency_figure(f"tick-to-order-{place}", histogram, what="tick to order")))
        parts.append(stage_table(result.performance))
    return join(*parts)


def _identity(results: Sequence[Result]) -> Markup:
    pairs = []
    for result in results:
        prefix = f"{result.name}: " if len(results) > 1 else ""
        pairs += [
            (f"{prefix}seed", str(result.seed)),
            (f"{prefix}data hash", result.data_hash),
            (f"{prefix}configuration hash", result.config_hash),
            (f"{prefix}journal hash", result.journal_hash),
        ]
    return hash_table(pairs)


def _configurations(results: Sequence[Result]) -> Markup:
    if len(results) == 1:
        return preformatted(results[0].config)
    return join(*(join(element("h3", result.name), preformatted(result.config)) for result in results))
