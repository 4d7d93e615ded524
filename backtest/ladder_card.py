"""The card of a ladder: what it was trained on, what it is worth, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from engine.inference.cascade import MarginScores
from engine.inference.forecast_export import ForecastShape
from engine.inference.labels import HORIZONS
from engine.inference.metrics import ForecastMetrics


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One family.

    Parameters
    ----------
    horizons : tuple of ForecastMetrics
        Of the network, per horizon.
    files : tuple
        (name, bytes, SHA-256) of FP32 and INT8.
    fp32, int8 : ForecastMetrics
        Of the files, at the ladder's horizon.
    agreement : float
        Share of test rows where INT8 names the class that FP32 names.
    """

    name: str
    architecture: ForecastShape
    parameters: int
    form: str
    horizons: tuple[ForecastMetrics, ...]
    files: tuple[tuple[str, int, str], ...]
    fp32: ForecastMetrics
    int8: ForecastMetrics
    agreement: float


@dataclass(frozen=True, kw_only=True)
class LadderCard:
    """A whole ladder.

    Parameters
    ----------
    class_shares : tuple
        Down, flat, up among the test rows, per horizon.
    baselines : dict
        Name to figures per horizon.
    margins : dict
        Of every variant, by the first one's margin.
    """

    command: str
    source: str
    recorded: bool
    whole_days: bool
    data_digest: str
    horizon: int
    thresholds: tuple[float, ...]
    class_shares: tuple[tuple[float, ...], ...]
    config: dict[str, Any]
    torch: str
    baselines: dict[str, tuple[ForecastMetrics, ...]]
    models: tuple[ModelCard, ...]
    margins: dict[str, MarginScores]

    @property
    def bytes(self) -> int:
        """Size of all model files together."""
        return sum(size for model in self.models for _, size, _ in model.files)


def format_card(card: LadderCard) -> str:
    """Return the card as Markdown."""
    return "\n".join([*_head(card), *_figures(card), *_margins(card), *_files(card)]) + "\n"


def _head(card: LadderCard) -> Iterator[str]:
    yield "# A ladder of order-book forecasters"
    yield ""
    if card.recorded:
        yield "Trained with recordings: their licences decide whether it may be passed on."
    else:
        yield "Trained on the generated market only: it shows how things work and knows no real market."
    yield ""
    yield f"- **Rebuild**: `{card.command}` (torch {card.torch}). Bytes repeat on one machine only."
    yield f"- **Data**: {card.source}. SHA-256 of the training rows: `{card.data_digest}`."
    yield (
        "- **Input**: ten levels a side, 40 columns a row, one row a packet; **answer**: P(down), P(flat), "
        f"P(up) of the mean mid of the next {card.horizon} rows against the present mid."
    )
    shares = " / ".join(f"{share:.3f}" for share in card.class_shares[HORIZONS.index(card.horizon)])
    limits = ", ".join(
        f"{threshold:.3g} (k = {horizon})"
        for horizon, threshold in zip(HORIZONS, card.thresholds, strict=True)
    )
    yield f"- **Flat** is up to, in ticks: {limits}. Test rows down / flat / up at this horizon: {shares}."
    yield f"- **Configuration**: `{json.dumps(card.config, sort_keys=True)}`."


def _figures(card: LadderCard) -> Iterator[str]:
    rows = card.models[0].horizons[0].rows
    blocks = card.models[0].horizons[0].blocks
    yield ""
    yield (
        "## On days never trained on" if card.whole_days else "## On rows never trained on, of the same days"
    )
    yield ""
    yield (
        f"{rows:,} windows of these {'days' if card.whole_days else 'rows, the last ones'}; 95 % intervals "
        f"from {blocks} blocks, resampled whole. The calibration error is that of the named class, 15 bins."
    )
    for place, horizon in enumerate(HORIZONS):
        yield ""
        yield f"| k = {horizon} | Accuracy | Macro F1 | Log-loss | Calibration error |"
        yield "|---|---|---|---|---|"
        for name, metrics in card.baselines.items():
            yield _row(name, metrics[place])
        for model in card.models:
            yield _row(model.name, model.horizons[place])


def _row(name: str, metrics: ForecastMetrics) -> str:
    figures = (metrics.accuracy, metrics.macro_f1, metrics.log_loss, metrics.calibration_error)
    return f"| {name} | " + " | ".join(map(str, figures)) + " |"


def _margins(card: LadderCard) -> Iterator[str]:
    bounds = next(iter(card.margins.values()))
    edges = (0.0, *bounds.edges, 1.0)
    yield ""
    yield f"## Accuracy by the margin of {bounds.first}, k = {card.horizon}"
    yield ""
    yield (
        "P(best) − P(second) of its answer. Same windows, by which neither weights, epochs nor temperatures "
        "were chosen. What a router gains by it is measured on further days still."
    )
    yield ""
    spans = " | ".join(f"{low:.3f} to {high:.3f}" for low, high in pairwise(edges))
    yield f"| File | {spans} |"
    yield "|---|" + "---|" * (len(edges) - 1)
    for name, found in card.margins.items():
        yield f"| {name} | " + " | ".join(f"{score:.3f}" for score in found.scores) + " |"


def _files(card: LadderCard) -> Iterator[str]:
    yield ""
    yield f"## Files, answering k = {card.horizon}, {card.bytes:,} bytes together"
    yield ""
    yield "| File | Parameters | Bytes | Accuracy | Agrees with FP32 | SHA-256 |"
    yield "|---|---|---|---|---|---|"
    for model in card.models:
        for (name, size, digest), metrics, agreement in zip(
            model.files, (model.fp32, model.int8), (1.0, model.agreement), strict=True
        ):
            accuracy = f"{metrics.accuracy.value:.4f}"
            share = f"{100.0 * agreement:.2f} %"
            yield f"| {name} | {model.parameters:,} | {size:,} | {accuracy} | {share} | `{digest}` |"
    yield ""
    forms = ", ".join(f"{model.name} {model.form}" for model in card.models)
    yield f"INT8 forms: {forms}."
