"""A window's model finds what is there, finds nothing in noise, and falls back when INT8 is unfit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from inference_samples import NAMES, window

from data.errors import ConfigError
from engine.inference.classifier import TrainingConfig, label_moves
from engine.inference.errors import ModelError
from engine.inference.evaluate import Comparison, ModelGate, compare
from engine.inference.pipeline import train_window


def train(features, changes, **options):
    return train_window(features, changes, seed=2, feature_names=NAMES, window_label="window 4", **options)


@pytest.fixture(scope="module")
def learnt():
    return train(*window(8_000))


def test_a_learnable_move_is_found_on_the_held_back_tail(learnt):
    comparison = learnt.comparison
    assert comparison.accuracy_fp32 > comparison.accuracy_majority + 0.15
    assert comparison.accuracy_int8 > comparison.accuracy_majority + 0.15
    assert comparison.skill > 0.1


def test_the_signal_points_where_the_mid_goes(learnt):
    features, changes = window(8_000, seed=99)
    signal = np.array([learnt.session.signal(row) for row in features[:2_000]])
    assert np.corrcoef(signal, changes[:2_000])[0, 1] > 0.4


def test_int8_stays_near_fp32_and_runs(learnt):
    assert learnt.gate_failures == ()
    assert learnt.session is learnt.int8
    assert learnt.comparison.agreement > 0.96
    assert learnt.comparison.mean_abs_difference < 0.02


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_noise_gives_no_skill(seed):
    comparison = train(*window(6_000, seed=seed, strength=0.0)).comparison
    assert comparison.skill < 0.005
    assert comparison.accuracy_fp32 < comparison.accuracy_majority + 0.03


def test_two_windows_with_one_seed_are_equal_to_the_byte(learnt):
    again = train(*window(8_000))
    assert (again.fp32_model, again.int8_model) == (learnt.fp32_model, learnt.int8_model)
    assert again.comparison == learnt.comparison


def test_the_counts_add_up_and_unlabelled_rows_are_left_out():
    features, changes = window(3_000)
    changes[-40:] = np.nan
    config = TrainingConfig(epochs_max=2, purge_rows=40)
    model = train(features, changes, config=config)
    assert (model.rows, model.rows_unlabelled) == (3_000, 40)
    assert model.rows_fit + model.rows_tail + model.rows_held_back + 2 * 40 == 2_960
    assert sum(model.class_counts) == model.rows_fit
    assert model.comparison.samples == model.rows_held_back


def test_the_held_back_rows_touch_neither_threshold_nor_models():
    features, changes = window(3_000)
    config = TrainingConfig(epochs_max=2)
    before = train(features, changes, config=config)
    held = before.rows_held_back
    features[-held:] *= 7.0
    changes[-held:] *= -5.0
    after = train(features, changes, config=config)
    assert after.threshold_ticks == before.threshold_ticks
    assert (after.fp32_model, after.int8_model) == (before.fp32_model, before.int8_model)


def test_a_failing_int8_falls_back_to_fp32_with_the_reason():
    model = train(*window(2_000), gate=ModelGate(mean_abs_difference_max=0.0))
    assert model.session is model.fp32
    assert len(model.gate_failures) == 1
    assert "mean signal difference must be at most 0.0" in model.gate_failures[0]


def test_windows_that_cannot_teach_give_no_model():
    features, changes = window(2_000)
    assert train(features[:300], changes[:300]) is None
    assert train(features[:0], changes[:0]) is None
    assert train(features, np.zeros_like(changes)) is None
    assert train(np.ones_like(features), changes) is None
    assert train(features, np.full_like(changes, np.nan)) is None
    assert train(features, changes, config=TrainingConfig(purge_rows=900)) is None


def test_bad_input_is_an_error_that_names_the_window():
    features, changes = window(2_000)
    with pytest.raises(ModelError, match="window 4: there must be 2000 mid changes"):
        train(features, changes[1:])
    changes[12] = np.inf
    with pytest.raises(ModelError, match="window 4:row 12: a mid change must not be infinite"):
        train(features, changes)
    features[7, 0] = np.nan
    with pytest.raises(ModelError, match="window 4:row 7: features must be finite"):
        train(features, changes)


class Fixed:
    """A session that repeats given probabilities."""

    feature_count, precision, sha256, abstentions = 1, "fp32", "", 0

    def __init__(self, rows):
        self.rows = np.array(rows, np.float32)

    def probabilities(self, features):
        return self.rows.copy()

    def signal(self, features):
        return 0.0


def test_comparison_by_hand():
    nan = np.nan
    fp32 = Fixed([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    int8 = Fixed([[0.4, 0.4, 0.2], [0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    found = compare(fp32, int8, np.zeros((4, 1), np.float32), np.array([0, 2, 1, 1]))
    assert (found.accuracy_fp32, found.accuracy_int8, found.accuracy_majority) == (0.75, 0.5, 0.5)
    assert found.agreement == 0.75
    assert found.mean_abs_difference == pytest.approx((0.1 + 1.2) / 4, abs=1e-6)
    assert found.max_abs_difference == pytest.approx(1.2, abs=1e-6)
    assert found.log_loss_fp32 == pytest.approx(-np.log([0.5, 0.7, 0.6, 0.2]).mean(), abs=1e-6)
    assert found.log_loss_majority == pytest.approx(-(0.25 * np.log(0.25) * 2 + 0.5 * np.log(0.5)))
    int8.rows[0] = nan
    broken = compare(fp32, int8, np.zeros((4, 1), np.float32), np.array([0, 2, 1, 1]))
    assert (broken.abstentions_int8, broken.agreement) == (1, 0.5)
    assert any("must be finite, was 1" in reason for reason in ModelGate().failures(broken))
    assert len(ModelGate().failures(broken)) == 4
    with pytest.raises(ModelError, match="one label a row"):
        compare(fp32, int8, np.zeros((0, 1), np.float32), np.zeros(0, np.int64))


def test_the_gate_never_passes_nan():
    values = {entry.name: float("nan") for entry in dataclasses.fields(Comparison)}
    assert len(ModelGate().failures(Comparison(**values | {"abstentions_int8": 0}))) == 3
    with pytest.raises(ConfigError, match="agreement_min"):
        ModelGate(agreement_min=1.5)


def test_a_single_class_held_back_has_no_skill_to_claim(learnt):
    features, _ = window(50)
    labels = label_moves(np.zeros(50), threshold=0.0)
    assert compare(learnt.fp32, learnt.int8, features, labels).skill == 0.0


def test_the_example_in_the_guide_runs_and_finds_skill():
    guide = Path(__file__).parents[2] / "docs" / "MODELS.md"
    example = re.search(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(example.group(1), names)
    assert names["model"].comparison.skill > 0.1
