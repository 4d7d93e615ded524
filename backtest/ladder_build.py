"""`anytick models build`: train the ladder's families, quantize them, judge them, write it all down.

    FOLDER/ladder.toml, FAMILY.fp32.onnx, FAMILY.int8.onnx     what `load_ladder` reads
    FOLDER/CARD.md                                             data, figures, digests, the command
    FOLDER/weights/FAMILY.npz                                  trained weights; a family is done once

A build that was stopped goes on with the first family that lacks weights of this very configuration,
data and library version. The order of work is fixed, and so is every draw.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError, DataError
from engine.inference.arrays import Floats32
from engine.inference.cascade import measure_margins
from engine.inference.errors import ModelError
from engine.inference.forecast_export import forecast_to_onnx
from engine.inference.graph import CLASS_COUNT
from engine.inference.labels import HORIZONS
from engine.inference.ladder import MANIFEST_NAME, Variant, format_ladder, load_ladder
from engine.inference.lob_features import FEATURE_COUNT, FEATURE_NAMES, windows
from engine.inference.metrics import ForecastMetrics, forecast_metrics
from engine.inference.quantize_forms import form_named, quantize_as
from engine.inference.session import OrtSession

from .forecast_baselines import baselines
from .forecast_data import ForecastData, LabelledDay, forecast_data, window_ends
from .ladder_card import LadderCard, ModelCard, format_card

if TYPE_CHECKING:
    from engine.inference.train.families import Family

CARD_NAME: Final = "CARD.md"
# ONNX Runtime and torch add in other orders; more than this is another function.
_EXPORT_DIFFERENCE_MAX: Final = 1e-3

Progress = Callable[[str, float, str], None]
"""Told the task, the share done and the state in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What a build makes.

    Parameters
    ----------
    days : tuple of int
        Generated days for training, validation and test.
    arrivals : int
        Packets of a generated day.
    horizon : int
        Whose answers the ladder's files give; all three are judged.
    epochs : int, optional
        Passes over the training rows; each family's own number when None.
    families : tuple of str
        By name; all when empty.
    test_stride : int
        Rows between judged windows.
    """

    seed: int = 1
    days: tuple[int, int, int] = (20, 2, 8)
    arrivals: int = 60_000
    horizon: int = 50
    epochs: int | None = None
    families: tuple[str, ...] = ()
    test_stride: int = 20

    def __post_init__(self) -> None:
        if self.horizon not in HORIZONS:
            raise ConfigError(f"horizon must be one of {HORIZONS}, was {self.horizon}")
        if len(self.days) != 3 or min(self.days) < 1:
            raise ConfigError(f"days must be three positive counts, was {self.days}")
        for name in ("arrivals", "epochs", "test_stride"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be positive, was {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class _Test:
    """Windows of the test days and their labels, in time order."""

    days: tuple[LabelledDay, ...]
    ends: tuple[NDArray[np.int64], ...]
    labels: NDArray[np.int64]
    block_rows: int


def build_ladder(
    folder: Path,
    config: BuildConfig,
    *,
    recordings: Sequence[Path] = (),
    command: str,
    progress: Progress = lambda task, done, text: None,
) -> LadderCard:
    """Build a ladder into a folder and return its card.

    Parameters
    ----------
    command : str
        What repeats this build, for the card.

    Raises
    ------
    ConfigError
        torch is missing, or the configuration is not acceptable.
    """
    try:
        import torch

        from engine.inference.train.families import FAMILIES
    except ImportError as error:
        raise ConfigError(f"training needs torch: pip install 'anytick[train]' ({error})") from error
    chosen = [family for family in FAMILIES if not config.families or family.name in config.families]
    unknown = sorted(set(config.families) - {family.name for family in FAMILIES})
    if unknown:
        known = ", ".join(family.name for family in FAMILIES)
        raise ConfigError(f"families must be among {known}, was {', '.join(unknown)}")
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    data = forecast_data(
        seed=config.seed,
        days=config.days,
        arrivals=config.arrivals,
        recordings=recordings,
        progress=lambda done, text: progress("days", done, text),
    )
    test = _test_of(data, config)
    place = HORIZONS.index(config.horizon)
    no_skill = float(np.bincount(test.labels[:, place], minlength=CLASS_COUNT).max() / len(test.labels))
    variants, cards = [], []
    answers: dict[str, Floats32] = {}
    for family in chosen:
        weights = _weights(family, data, config, folder / "weights", torch.__version__, progress)
        found, made, given = _finish(family, weights, data, test, config, folder, no_skill)
        variants += found
        cards.append(made)
        answers |= given
        progress(family.name, 1.0, f"accuracy {made.horizons[place].accuracy.value:.4f}")
    # The first answer is the cheapest model's, in the form that is faster where models are tiny.
    first = min(variants, key=lambda variant: (variant.parameters, variant.precision)).name
    margins = measure_margins(first, answers, test.labels[:, place])
    variants = [replace(variant, margins=margins[variant.name]) for variant in variants]
    card = LadderCard(
        command=command,
        source=data.source,
        recorded=data.recorded,
        whole_days=data.whole_days,
        data_digest=data.digest,
        horizon=config.horizon,
        thresholds=data.thresholds,
        class_shares=tuple(
            tuple(float(x) for x in np.bincount(test.labels[:, j], minlength=CLASS_COUNT) / len(test.labels))
            for j in range(len(HORIZONS))
        ),
        config=asdict(config),
        torch=str(torch.__version__),
        baselines=baselines(
            data, test.days, test.ends, test.labels, block_rows=test.block_rows, seed=config.seed
        ),
        models=tuple(sorted(cards, key=lambda made: made.parameters)),
        margins=margins,
    )
    _write(folder / MANIFEST_NAME, format_ladder(variants, horizon=config.horizon).encode())
    _write(folder / CARD_NAME, format_card(card).encode())
    load_ladder(folder)
    return card


def _test_of(data: ForecastData, config: BuildConfig) -> _Test:
    days = [day for day in data.test if len(window_ends(day, stride=config.test_stride))]
    ends = [window_ends(day, stride=config.test_stride) for day in days]
    if not ends:
        raise ConfigError("the test days must hold a whole window and its labels, was none")
    # Ten label horizons to a block, so that blocks are nearly independent.
    block_rows = max(2, 10 * max(HORIZONS) // config.test_stride)
    return _Test(
        days=tuple(days),
        ends=tuple(ends),
        labels=np.concatenate([day.labels[rows] for day, rows in zip(days, ends, strict=True)]),
        block_rows=block_rows,
    )


def _weights(
    family: Family,
    data: ForecastData,
    config: BuildConfig,
    folder: Path,
    torch_version: str,
    progress: Progress,
) -> dict[str, Floats32]:
    """Return a family's trained weights, from an earlier build of the same key where there is one."""
    from engine.inference.train.fit import Stretch, fit_network

    fit = family.config if config.epochs is None else replace(family.config, epochs=config.epochs)
    key = hashlib.sha256(
        json.dumps(
            [family.shape.digest, asdict(fit), data.digest, config.seed, torch_version, config.days],
            sort_keys=True,
        ).encode()
    ).hexdigest()
    path = folder / f"{family.name}.npz"
    kept = _read_weights(path, key)
    if kept is not None:
        progress(family.name, 1.0, "kept from an earlier build")
        return kept
    fitted = fit_network(
        family.shape,
        [Stretch(features=day.features, labels=day.labels) for day in data.training],
        [Stretch(features=day.features, labels=day.labels) for day in data.validation],
        center=data.center,
        inverse_scale=data.inverse_scale,
        seed=config.seed,
        config=fit,
        progress=lambda done, text: progress(family.name, done, text),
    )
    weights = fitted.network.weights()
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as stream:
        np.savez(stream, **weights, **{_KEY: np.array(key)})  # type: ignore[arg-type]
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
    return weights


_KEY: Final = "build key"


def _read_weights(path: Path, key: str) -> dict[str, Floats32] | None:
    """Return what an earlier build left; None where it is absent, of another build or damaged."""
    try:
        with np.load(path, allow_pickle=False) as table:
            if str(table[_KEY]) != key:
                return None
            return {name: np.asarray(table[name], np.float32) for name in table.files if name != _KEY}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def _finish(
    family: Family,
    weights: dict[str, Floats32],
    data: ForecastData,
    test: _Test,
    config: BuildConfig,
    folder: Path,
    no_skill: float,
) -> tuple[list[Variant], ModelCard, dict[str, Floats32]]:
    """Export, quantize, judge and write one family; its files' answers come by variant."""
    shape, place = family.shape, HORIZONS.index(config.horizon)
    notes = {
        "feature_names": json.dumps(FEATURE_NAMES),
        "horizon": str(config.horizon),
        "flat_threshold_ticks": repr(data.thresholds[place]),
        "training_window": data.source,
        "seed": str(config.seed),
    }
    fp32 = forecast_to_onnx(shape, weights, head=place, notes=notes)
    day = data.training[0]
    calibration = windows(day.features, window_ends(day, stride=97), window=shape.window)
    int8 = quantize_as(fp32, calibration, form_named(family.form), source=family.name)

    answers = _torch_answers(family, weights, test)
    horizons = tuple(_judge(answers[:, j], test, j, config) for j in range(len(HORIZONS)))
    parameters = sum(w.size for name, w in weights.items() if not name.startswith("standardise."))
    parameters -= (shape.heads_out - 1) * (shape.width + 1) * CLASS_COUNT
    variants, judged, agreement, given = [], {}, {}, {}
    for precision, model in (("fp32", fp32), ("int8", int8)):
        run = _session_answers(model, family, test)
        difference = float(np.abs(run - answers[:, place]).max())
        if precision == "fp32" and not difference <= _EXPORT_DIFFERENCE_MAX:
            raise ModelError(
                f"the export must answer as the network, was {difference} off", source=family.name
            )
        judged[precision] = _judge(run, test, place, config)
        agreement[precision] = float((run.argmax(axis=1) == answers[:, place].argmax(axis=1)).mean())
        path = folder / f"{family.name}.{precision}.onnx"
        _write(path, model)
        variants.append(
            Variant(
                name=f"{family.name}.{precision}",
                family=family.name,
                precision=precision,
                path=path,
                sha256=hashlib.sha256(model).hexdigest(),
                score=round(judged[precision].accuracy.value, 6),
                no_skill_score=round(no_skill, 6),
                input_shape=(shape.window, FEATURE_COUNT),
                parameters=parameters,
            )
        )
        given[variants[-1].name] = run
    made = ModelCard(
        name=family.name,
        architecture=shape,
        parameters=parameters,
        form=family.form,
        horizons=horizons,
        files=tuple((v.path.name, v.path.stat().st_size, v.sha256) for v in variants),
        fp32=judged["fp32"],
        int8=judged["int8"],
        agreement=agreement["int8"],
    )
    return variants, made, given


def _torch_answers(family: Family, weights: dict[str, Floats32], test: _Test) -> Floats32:
    from engine.inference.train.fit import answer_windows
    from engine.inference.train.networks import make_network

    network = make_network(family.shape, seed=0)
    network.load(weights)
    return np.concatenate(
        [answer_windows(network, day.features, ends) for day, ends in zip(test.days, test.ends, strict=True)]
    )


def _session_answers(model: bytes, family: Family, test: _Test) -> Floats32:
    """Run the file itself, a window a call: a dynamic form rounds by the range of the whole call."""
    session = OrtSession.from_bytes(model, source=family.name)
    found = []
    for day, ends in zip(test.days, test.ends, strict=True):
        rows = windows(day.features, ends, window=family.shape.window)
        found += [session.probabilities(rows[i : i + 1]) for i in range(len(rows))]
    return np.concatenate(found)


def _judge(answers: Floats32, test: _Test, place: int, config: BuildConfig) -> ForecastMetrics:
    return forecast_metrics(answers, test.labels[:, place], block_rows=test.block_rows, seed=config.seed)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"the output must be writable, was not: {error.strerror}", path=path) from error
