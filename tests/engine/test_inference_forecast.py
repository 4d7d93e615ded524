"""Forecasters: features and labels against plain loops, exports against NumPy, INT8 forms, figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from forecast_samples import SHAPES, random_weights, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.forecast_baselines import imbalances
from backtest.forecast_data import (
    RECORDED_DAYS_MIN,
    forecast_data,
    generated_windows,
    split_in_time,
    window_ends,
)
from backtest.informed_flow import InformedFlow
from data.errors import AnytickError, ConfigError
from data.schema import EventFlag, EventKind
from engine.inference.errors import ModelError
from engine.inference.forecast_export import ForecastShape, forecast_to_onnx
from engine.inference.graph import check_graph
from engine.inference.labels import UNKNOWN, label_rows, smoothed_moves
from engine.inference.lob_features import FEATURE_COUNT, LEVEL_COUNT, BookRowMaker, BookRows, windows
from engine.inference.metrics import forecast_metrics
from engine.inference.quantize_forms import FORMS, form_named, quantize_as
from engine.inference.session import OrtSession


def day_events(seed: int = 1, steps: int = 600) -> np.ndarray:
    return np.concatenate(list(InformedFlow(seed=seed, steps=steps).blocks()))


# Features.


def plain_rows(events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels from a dictionary of totals, sorted anew for every row."""
    totals: dict[int, dict[int, int]] = {1: {}, -1: {}}
    features, mids = [], []
    for event in events:
        side, price, lots = int(event["side"]), int(event["price_ticks"]), int(event["size_lots"])
        book = totals[side]
        if event["kind"] == EventKind.LEVEL:
            book[price] = lots
        elif event["kind"] == EventKind.ADD:
            book[price] = book.get(price, 0) + lots
        elif event["kind"] in (EventKind.CANCEL, EventKind.EXECUTE):
            book[price] -= lots
        if book.get(price) == 0:
            del book[price]
        if not event["flags"] & EventFlag.LAST_IN_PACKET or not totals[1] or not totals[-1]:
            continue
        bids, asks = sorted(totals[1], reverse=True), sorted(totals[-1])
        mids.append(bids[0] + asks[0])
        before = mids[-2] if len(mids) > 1 else mids[-1]
        row = []
        for level in range(LEVEL_COUNT):
            for prices, own, away in ((asks, totals[-1], 1), (bids, totals[1], -1)):
                if level < len(prices):
                    price, size = prices[level], own[prices[level]]
                else:
                    price, size = prices[-1] + away * (level + 1 - len(prices)), 0
                row += [2 * price - before, np.log1p(size)]
        features.append(row)
    return np.array(features, np.float32), np.array(mids)


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_are_the_levels_of_a_plain_book(seed: int) -> None:
    events = day_events(seed)
    features, mids = plain_rows(events)
    found = BookRowMaker().rows(events)
    assert np.array_equal(found.mid_x2, mids)
    assert np.allclose(found.features, features, rtol=1e-6)


def test_blocks_make_no_difference_and_nothing_looks_ahead() -> None:
    flow = InformedFlow(seed=3, steps=800)
    whole = BookRowMaker().rows(np.concatenate(list(flow.blocks())))
    maker = BookRowMaker()
    pieces = [maker.rows(block) for block in flow.blocks(100)]
    assert len(pieces) > 3
    assert np.array_equal(np.concatenate([piece.features for piece in pieces]), whole.features)
    half = BookRowMaker().rows(next(iter(flow.blocks(400))))
    assert np.array_equal(half.features, whole.features[: len(half.features)])


def test_a_coarser_tick_scales_prices_alone() -> None:
    events = day_events()
    fine = BookRowMaker().rows(events)
    coarse = events.copy()
    coarse["price_ticks"] *= 100
    found = BookRowMaker(tick=100).rows(coarse)
    assert np.array_equal(found.features, fine.features)
    assert np.array_equal(found.mid_x2, fine.mid_x2)
    with pytest.raises(ConfigError, match="tick must be"):
        BookRowMaker(tick=0)


def test_windows_end_at_their_row() -> None:
    features = np.arange(40, dtype=np.float32).reshape(20, 2)
    found = windows(features, np.array([4, 19]), window=5)
    assert found.shape == (2, 5, 2)
    assert np.array_equal(found[1], features[15:])
    assert np.array_equal(windows(features, np.array([7]), window=1), features[7:8])
    with pytest.raises(ConfigError, match="must end within 4 to 19"):
        windows(features, np.array([3]), window=5)


def test_the_market_is_a_pure_function_of_its_seed_with_a_sound_book() -> None:
    days = [day_events(seed, 3_000) for seed in (1, 1, 2)]
    assert np.array_equal(days[0], days[1])
    assert not np.array_equal(days[0], days[2])
    assert InformedFlow(seed=1).data_hash != InformedFlow(seed=2).data_hash
    rows = BookRowMaker().rows(days[0])
    assert rows.skipped == 0
    assert (np.diff(rows.mid_x2) != 0).mean() > 0.02


# Labels.


@given(
    mids=st.lists(st.integers(-50, 50), max_size=40),
    horizon=st.integers(1, 12),
    from_past=st.booleans(),
)
def test_smoothed_moves_are_the_means_of_the_papers(mids: list[int], horizon: int, from_past: bool) -> None:
    found = smoothed_moves(np.array(mids, np.int64), horizon=horizon, from_past=from_past)
    for row in range(len(mids)):
        ahead, behind = mids[row + 1 : row + 1 + horizon], mids[max(0, row - horizon + 1) : row + 1]
        if len(ahead) < horizon or (from_past and len(behind) < horizon):
            assert np.isnan(found[row])
            continue
        base = sum(behind) / len(behind) if from_past else mids[row]
        assert found[row] == pytest.approx((sum(ahead) / horizon - base) / 2.0, abs=1e-12)


def test_labels_know_what_they_do_not_know() -> None:
    moves = np.array([-1.0, 0.2, 0.5, np.nan, 2.0])
    assert label_rows(moves, threshold=0.2).tolist() == [0, 1, 2, UNKNOWN, 2]
    assert label_rows(np.array([0.0, np.nan]), threshold=0.0).tolist() == [1, UNKNOWN]
    with pytest.raises(ConfigError, match="at least one row"):
        smoothed_moves(np.array([1, 2]), horizon=0)


# Data.


@pytest.mark.parametrize("count", range(1, 31))
def test_recorded_days_are_split_in_time_and_no_part_is_empty(count: int) -> None:
    mids = np.arange(4_000)
    days = [BookRows(features=np.full((4_000, 2), day), mid_x2=mids, skipped=0) for day in range(count)]
    parts, between_days = split_in_time(days)
    assert between_days == (count >= RECORDED_DAYS_MIN)
    assert all(parts)
    dates = [[int(day.features[0, 0]) for day in part] for part in parts]
    if between_days:
        assert [day for part in dates for day in part] == list(range(count))
        return
    assert dates == [list(range(count))] * 3
    for training, validation, test in zip(*parts, strict=True):
        # A window behind and a label ahead lie between the parts.
        assert validation.mid_x2[0] - training.mid_x2[-1] > 200
        assert test.mid_x2[0] - validation.mid_x2[-1] > 200
        assert (training.mid_x2[0], test.mid_x2[-1]) == (0, 3_999)


def test_a_recording_that_is_not_there_is_told_of_before_days_are_made(tmp_path: Path) -> None:
    def progress(done: float, text: str) -> None:
        raise AssertionError("no day may be made")

    with pytest.raises(AnytickError, match=r"absent\.npy"):
        forecast_data(
            seed=1, days=(1, 1, 1), arrivals=1_000, recordings=[tmp_path / "absent.npy"], progress=progress
        )


def test_days_of_the_parts_differ_and_the_scale_is_the_training_days() -> None:
    data = forecast_data(seed=1, days=(2, 1, 1), arrivals=1_500)
    again = forecast_data(seed=1, days=(2, 1, 1), arrivals=1_500)
    assert data.digest == again.digest
    assert forecast_data(seed=2, days=(2, 1, 1), arrivals=1_500).digest != data.digest
    parts = [*data.training, *data.validation, *data.test]
    assert len({day.features.tobytes() for day in parts}) == 4
    assert data.center.shape == (FEATURE_COUNT,)
    ends = window_ends(data.test[0], stride=10)
    assert ends[0] == 99
    assert (data.test[0].labels[ends] >= 0).all()
    assert len(data.test[0].labels) - ends[-1] > 100
    rows, labels = generated_windows(seed=1, window=100, horizon=10, threshold=0.0, count=30)
    assert rows.shape == (30, 100, FEATURE_COUNT)
    assert set(labels.tolist()) <= {0, 1, 2}


def test_imbalances_are_those_of_the_sizes() -> None:
    features = np.zeros((1, FEATURE_COUNT), np.float32)
    features[0, [0, 2]] = 3.0, -1.0
    features[0, 1::4] = np.log1p(100.0)
    features[0, 3::4] = np.log1p(300.0)
    assert np.allclose(imbalances(features)[0], [0.5, 0.5, 0.5, 2.0])


# Export.


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("head", [0, 2])
def test_an_exported_network_is_its_definition(kind: str, head: int) -> None:
    shape = SHAPES[kind]
    weights = random_weights(shape)
    model = forecast_to_onnx(shape, weights, head=head, notes={"horizon": "50"})
    assert model == forecast_to_onnx(shape, weights, head=head, notes={"horizon": "50"})
    session = OrtSession.from_bytes(model)
    inputs = 3.0 * np.random.default_rng(2).standard_normal((6, *session.summary.row_shape))
    rows = inputs.astype(np.float32)
    expected = np.stack([reference(shape, weights, row, head) for row in rows])
    assert np.abs(session.probabilities(rows) - expected).max() < 1e-5
    assert session.summary.metadata == {"horizon": "50"}


def test_a_convolution_sees_exactly_its_reach() -> None:
    shape = SHAPES["tcn"]
    assert shape.reach == 11
    session = OrtSession.from_bytes(forecast_to_onnx(shape, random_weights(shape), head=1))
    rows = np.random.default_rng(3).standard_normal((1, 12, 6)).astype(np.float32)
    changed = rows.copy()
    changed[0, : 12 - 11] += 5.0
    assert np.array_equal(session.probabilities(rows), session.probabilities(changed))
    changed[0, 12 - 11] += 5.0
    assert not np.array_equal(session.probabilities(rows), session.probabilities(changed))


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        ("tcn", {"kind": "lstm"}, "kind must be one of"),
        ("tcn", {"kind": "mlp"}, "window of 1 row"),
        ("tcn", {"dilations": (1, 20)}, "reach back at most 12"),
        ("tcn", {"dilations": (2, 3)}, "each dilation must divide the next"),
        ("encoder", {"spans": ()}, "blocks must look back a token"),
        ("encoder", {"stride": 3}, "divide the next and the stride"),
        ("encoder", {"attention_heads": 3}, "width must divide"),
    ],
)
def test_an_impossible_shape_is_refused(kind: str, changes: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        dataclasses.replace(SHAPES[kind], **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="head must be 0 to 2"):
        forecast_to_onnx(SHAPES["mlp"], {}, head=3)


# INT8 forms.


@pytest.mark.parametrize("kind", SHAPES)
def test_every_form_gives_probabilities_near_fp32(kind: str) -> None:
    shape: ForecastShape = SHAPES[kind]
    model = forecast_to_onnx(shape, random_weights(shape), head=0)
    rows = np.random.default_rng(4).standard_normal((64, *check_graph(model).row_shape)).astype(np.float32)
    exact = OrtSession.from_bytes(model).probabilities(rows)
    for form in FORMS:
        made = quantize_as(model, rows, form)
        assert made == quantize_as(model, rows, form), form.name
        session = OrtSession.from_bytes(made)
        assert session.precision == "int8"
        assert np.abs(session.probabilities(rows) - exact).mean() < 0.03, form.name


def test_what_cannot_be_quantized_says_so() -> None:
    shape = SHAPES["mlp"]
    model = forecast_to_onnx(shape, random_weights(shape), head=0)
    rows = np.zeros((4, 6), np.float32)
    made = quantize_as(model, rows + 1.0, FORMS[0])
    with pytest.raises(ModelError, match="must be fp32, was int8"):
        quantize_as(made, rows, FORMS[0])
    with pytest.raises(ModelError, match=r"shape \(n, 6\)"):
        quantize_as(model, rows[:, :5], FORMS[0])
    with pytest.raises(ModelError, match="form must be one of"):
        form_named("int4")


# Figures.


def plain_figures(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    named = probabilities.argmax(axis=1)
    f1 = []
    for own in range(3):
        hits = ((named == own) & (labels == own)).sum()
        wrong = ((named == own) != (labels == own)).sum()
        f1.append(2 * hits / (2 * hits + wrong) if hits + wrong else 0.0)
    confidence, error = probabilities.max(axis=1), 0.0
    for cell in range(15):
        inside = np.minimum((confidence.astype(np.float64) * 15).astype(int), 14) == cell
        if inside.any():
            gap = (named[inside] == labels[inside]).mean() - confidence[inside].mean(dtype=np.float64)
            error += inside.mean() * abs(gap)
    return float((named == labels).mean()), float(np.mean(f1)), float(error)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), block=st.integers(1, 70), seed=st.integers(0, 99))
def test_figures_are_those_of_plain_loops(rows: int, block: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet((1.0, 1.0, 1.0), rows).astype(np.float32)
    labels = draw.integers(0, 3, rows)
    found = forecast_metrics(probabilities, labels, block_rows=block, seed=1, replications=100)
    accuracy, f1, error = plain_figures(probabilities, labels)
    assert found.accuracy.value == pytest.approx(accuracy)
    assert found.macro_f1.value == pytest.approx(f1)
    assert found.calibration_error.value == pytest.approx(error, abs=1e-9)
    assert found.accuracy.low <= found.accuracy.high
    assert found.blocks == max(1, rows // block)


def test_an_interval_of_independent_rows_is_the_textbook_s() -> None:
    draw, rows = np.random.default_rng(6), 4_000
    labels = draw.integers(0, 3, rows)
    probabilities = np.tile(np.array([0.6, 0.2, 0.2], np.float32), (rows, 1))
    found = forecast_metrics(probabilities, labels, block_rows=1, seed=1).accuracy
    share = found.value
    assert found.high - found.low == pytest.approx(2 * 1.96 * (share * (1 - share) / rows) ** 0.5, rel=0.08)


def test_blocks_widen_the_interval_of_rows_that_hang_together() -> None:
    draw = np.random.default_rng(5)
    labels = np.repeat(draw.integers(0, 3, 80), 25)
    probabilities = np.tile(np.array([0.6, 0.2, 0.2], np.float32), (len(labels), 1))
    alone = forecast_metrics(probabilities, labels, block_rows=1, seed=1).accuracy
    whole = forecast_metrics(probabilities, labels, block_rows=25, seed=1).accuracy
    assert whole.high - whole.low > 3.0 * (alone.high - alone.low)
    with pytest.raises(ModelError, match="finite"):
        forecast_metrics(probabilities * np.nan, labels, block_rows=5, seed=1)
    with pytest.raises(ModelError, match="one label a row"):
        forecast_metrics(probabilities, labels[1:], block_rows=5, seed=1)
    for wrong in (UNKNOWN, 3):
        with pytest.raises(ModelError, match="labels must be 0, 1 or 2"):
            forecast_metrics(probabilities, np.where(labels == 1, wrong, labels), block_rows=5, seed=1)
    with pytest.raises(ModelError, match="blocks of one row at least, was 0 to 2 in blocks of 0"):
        forecast_metrics(probabilities, labels, block_rows=0, seed=1)
