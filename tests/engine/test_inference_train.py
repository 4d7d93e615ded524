"""Training, where torch is installed; the nightly run builds a small ladder twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forecast_samples import SHAPES

from backtest.ladder_build import BuildConfig, build_ladder
from data.errors import ConfigError
from engine.inference.forecast_export import forecast_to_onnx
from engine.inference.ladder import load_ladder
from engine.inference.session import OrtSession

pytest.importorskip("torch", reason="needs the extra [train]")

from engine.inference.train.fit import FitConfig, Stretch, answer_windows, fit_network
from engine.inference.train.networks import make_network

DAY = np.random.default_rng(1).standard_normal((500, 6)).astype(np.float32)
# The class of the row before: nothing that one row could show.
CLASS = np.digitize(np.roll(DAY[:, 0], 1), [-0.4, 0.4])
STRETCH = Stretch(features=DAY, labels=np.stack([CLASS, CLASS, CLASS], axis=1))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_export_answers_as_the_trained_network(kind: str) -> None:
    shape = SHAPES[kind]
    network = make_network(shape, seed=3)
    ends = np.arange(shape.window - 1, 60)
    answers = answer_windows(network, DAY, ends)
    for head in range(3):
        session = OrtSession.from_bytes(forecast_to_onnx(shape, network.weights(), head=head))
        rows = [DAY[end - shape.window + 1 : end + 1] for end in ends]
        stacked = np.stack(rows) if shape.window > 1 else np.concatenate(rows)
        assert np.abs(session.probabilities(stacked) - answers[:, head]).max() < 1e-5


def test_a_fit_repeats_and_learns_what_only_the_past_shows() -> None:
    config = FitConfig(epochs=8, batch_answers=64, stretch_rows=16, learning_rate=2e-2)
    scale = np.zeros(6, np.float32), np.ones(6, np.float32)
    shape = replace(SHAPES["tcn"], dilations=(1, 2))
    fits = [
        fit_network(
            shape,
            [STRETCH],
            [STRETCH],
            center=scale[0],
            inverse_scale=scale[1],
            seed=seed,
            config=config,
        )
        for seed in (1, 1, 2)
    ]
    first, again, other = (fit.network.weights() for fit in fits)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head.weight"], other["head.weight"])
    ends = np.arange(11, 500)
    named = answer_windows(fits[0].network, DAY, ends)[:, 0].argmax(axis=1)
    assert (named == CLASS[ends]).mean() > 0.7


@pytest.mark.nightly
def test_a_small_ladder_builds_twice_alike_and_goes_on_where_it_was(tmp_path: Path) -> None:
    config = BuildConfig(days=(1, 1, 1), arrivals=3_000, epochs=1, families=("mlp-tiny", "tcn-small"))
    cards = [build_ladder(tmp_path / name, config, command="c") for name in ("one", "two")]
    assert cards[0] == cards[1]
    assert (tmp_path / "one" / "CARD.md").read_bytes() == (tmp_path / "two" / "CARD.md").read_bytes()
    ladder = load_ladder(tmp_path / "one")
    assert [variant.name for variant in ladder] == [
        "mlp-tiny.fp32", "mlp-tiny.int8", "tcn-small.fp32", "tcn-small.int8",
    ]  # fmt: skip
    said: list[str] = []
    kept = build_ladder(tmp_path / "one", config, command="c", progress=lambda _, __, text: said.append(text))
    assert kept == cards[0]
    assert said.count("kept from an earlier build") == 2
    path = tmp_path / "one" / "weights" / "tcn-small.npz"
    path.write_bytes(path.read_bytes()[:-200])
    said.clear()
    assert (
        build_ladder(tmp_path / "one", config, command="c", progress=lambda _, __, t: said.append(t)) == kept
    )
    assert said.count("kept from an earlier build") == 1
    with pytest.raises(ConfigError, match="families must be among"):
        build_ladder(tmp_path / "one", BuildConfig(families=("lstm",)), command="c")
