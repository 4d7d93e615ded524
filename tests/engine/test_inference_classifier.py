from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_samples import window

from data.errors import ConfigError
from engine.inference.classifier import (
    TrainingConfig,
    fit_move_classifier,
    label_moves,
    log_loss,
    move_threshold,
)
from engine.inference.errors import ModelError, NotLearnable

QUICK = TrainingConfig(epochs_max=4)


def labelled(rows=3_000, **options):
    features, changes = window(rows, **options)
    return features, label_moves(changes, threshold=move_threshold(changes))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.0, 1e6))
def test_labels_follow_their_definition(changes, threshold):
    expected = [2 if change > threshold else 0 if change < -threshold else 1 for change in changes]
    assert label_moves(np.array(changes), threshold=threshold).tolist() == expected


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=200))
def test_threshold_gives_the_flat_share_nearest_to_a_third(grid):
    changes = np.array(grid) / 2.0
    distance = {size: abs(np.mean(np.abs(changes) <= size) - 1 / 3) for size in np.abs(changes)}
    assert distance[move_threshold(changes)] == min(distance.values())


def test_threshold_of_a_continuous_sample_cuts_thirds():
    labels = label_moves(
        changes := np.random.default_rng(1).normal(size=9_000), threshold=move_threshold(changes)
    )
    np.testing.assert_allclose(np.bincount(labels) / 9_000, 1 / 3, atol=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_label_needs_a_finite_change_and_names_the_row(value):
    with pytest.raises(ModelError, match=r"row 1: a mid change must be finite"):
        label_moves(np.array([0.0, value]), threshold=1.0)


def test_two_fits_with_one_seed_are_equal_to_the_bit():
    features, labels = labelled()
    first, second = (fit_move_classifier(features, labels, seed=7, config=QUICK) for _ in range(2))
    for mine, other in zip(first.network.coefs_, second.network.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)
    other_seed = fit_move_classifier(features, labels, seed=8, config=QUICK)
    assert not np.array_equal(first.network.coefs_[0], other_seed.network.coefs_[0])


def test_the_weights_kept_are_those_of_the_best_epoch():
    features, labels = labelled(strength=0.0)
    fitted = fit_move_classifier(features, labels, seed=1, config=TrainingConfig(learning_rate=0.02))
    tail = fitted.rows_tail
    assert log_loss(fitted.probabilities(features[-tail:]), labels[-tail:]) == pytest.approx(
        fitted.log_loss_tail
    )
    assert fitted.epochs < TrainingConfig().epochs_max - TrainingConfig().patience


def test_an_interrupt_ends_the_training_instead_of_its_epoch(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn.neural_network._multilayer_perceptron.gen_batches", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_move_classifier(*labelled(), seed=1, config=QUICK)


def test_the_tail_never_reaches_the_weights_or_the_scale():
    """With the epoch count fixed to one, changing every tail row changes nothing that was fitted."""
    features, labels = labelled()
    config = TrainingConfig(epochs_max=1, purge_rows=50)
    before = fit_move_classifier(features, labels, seed=1, config=config)
    held = before.rows_tail + 50
    changed = features.copy()
    changed[-held:] *= -3.0
    after = fit_move_classifier(
        changed, np.concatenate([labels[:-held], 2 - labels[-held:]]), seed=1, config=config
    )
    assert before.rows_fit == len(features) - held
    np.testing.assert_array_equal(before.center, after.center)
    np.testing.assert_array_equal(before.network.coefs_[0], after.network.coefs_[0])


def test_a_missing_class_is_learnt_to_be_improbable():
    features, labels = labelled()
    labels[labels == 1] = 2
    fitted = fit_move_classifier(features, labels, seed=1)
    answer = fitted.probabilities(features)
    assert answer.shape == (len(features), 3)
    assert answer[:, 1].mean() < 0.02
    assert fitted.class_counts[1] == 0


def test_constant_columns_are_ignored_even_when_they_move_later():
    features, labels = labelled()
    features[:, 4] = 17.0
    fitted = fit_move_classifier(features, labels, seed=1, config=QUICK)
    moved = features.copy()
    moved[:, 4] = -1e6
    assert fitted.inverse_scale[4] == 0.0
    np.testing.assert_array_equal(fitted.probabilities(features), fitted.probabilities(moved))


def test_a_mostly_constant_column_keeps_a_finite_scale():
    features, labels = labelled()
    features[:, 4] = 0.0
    features[::50, 4] = 3.0
    fitted = fit_move_classifier(features, labels, seed=1, config=QUICK)
    assert fitted.inverse_scale[4] == pytest.approx(1.0 / features[: fitted.rows_fit, 4].std(), rel=1e-4)


def test_extreme_features_are_clipped_not_believed():
    features, labels = labelled()
    fitted = fit_move_classifier(features, labels, seed=1, config=QUICK)
    extreme = np.full((2, features.shape[1]), 3e38, np.float32) * np.array([[1], [-1]], np.float32)
    assert np.isfinite(fitted.probabilities(extreme)).all()
    assert np.abs(fitted.standardise(extreme)).max() == fitted.clip


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (1e300, r"1e\+300")])
def test_a_feature_that_is_not_finite_names_row_and_column(value, shown):
    features, labels = labelled()
    wide = features.astype(np.float64)
    wide[41, 2] = value
    with pytest.raises(ModelError, match=rf"week 9:row 41: features must be finite.*column 2 was {shown}"):
        fit_move_classifier(wide, labels, seed=1, source="week 9")


def test_windows_that_cannot_teach_are_refused_with_the_reason():
    features, labels = labelled()
    with pytest.raises(NotLearnable, match="at least 400 rows"):
        fit_move_classifier(features[:399], labels[:399], seed=1)
    with pytest.raises(NotLearnable, match="two classes"):
        fit_move_classifier(features, np.ones(len(features), np.int64), seed=1)
    with pytest.raises(NotLearnable, match="feature must vary"):
        fit_move_classifier(np.ones_like(features), labels, seed=1)
    with pytest.raises(NotLearnable, match="beside the purge"):
        fit_move_classifier(features, labels, seed=1, config=TrainingConfig(purge_rows=2_500))


@pytest.mark.parametrize("bad", [3, -1])
def test_an_unknown_label_names_the_row(bad):
    features, labels = labelled()
    labels[5] = bad
    with pytest.raises(ModelError, match=f"row 5: a label must be 0, 1 or 2, was {bad}"):
        fit_move_classifier(features, labels, seed=1)


def test_labels_must_match_the_rows():
    features, labels = labelled()
    with pytest.raises(ModelError, match="labels must be 3000 integers"):
        fit_move_classifier(features, labels[:-1], seed=1)
    with pytest.raises(ModelError, match="features must have shape"):
        fit_move_classifier(features[:, 0], labels, seed=1)


@pytest.mark.parametrize(
    "broken",
    [{"hidden": ()}, {"clip": 0.0}, {"tail_share": 0.5}, {"purge_rows": -1}, {"learning_rate": np.nan}],
)
def test_impossible_training_is_refused(broken):
    with pytest.raises(ConfigError, match=next(iter(broken))):
        dataclasses.replace(TrainingConfig(), **broken)
