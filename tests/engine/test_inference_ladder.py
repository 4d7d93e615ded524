"""A ladder's manifest, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from inference_samples import graph_bytes, linear_model
from onnx import TensorProto, helper

from data.errors import ConfigError, DataError
from engine.inference.cascade import MarginScores, measure_margins
from engine.inference.errors import ModelError
from engine.inference.graph import check_graph
from engine.inference.ladder import MANIFEST_NAME, Variant, format_ladder, load_ladder
from engine.inference.serving.measure import value_table
from engine.inference.session import OrtSession

MODEL = linear_model().SerializeToString()


def window_model(rows: int = 5, features: int = 4) -> bytes:
    """Mean over a window through a convolution, then a dense layer."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "k"], ["c"], kernel_shape=[rows]),
        helper.make_node("Gather", ["c", "last"], ["g"], axis=2),
        helper.make_node("MatMul", ["g", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    kernel = np.zeros((features, features, rows), np.float32)
    kernel[range(features), range(features)] = 1.0 / rows
    weight = np.arange(3 * features, dtype=np.float32).reshape(features, 3) / 12
    return graph_bytes(
        nodes,
        {"k": kernel, "w": weight, "last": np.array(0, np.int64)},
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows, features])],
    )


def variant(folder: Path, model: bytes, name: str, **changes: object) -> Variant:
    path = folder / f"{name}.onnx"
    path.write_bytes(model)
    plain = Variant(
        name=name,
        family=name,
        precision="fp32",
        path=path,
        sha256=hashlib.sha256(model).hexdigest(),
        score=0.5,
        no_skill_score=0.4,
        input_shape=(1, 4),
        parameters=12,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = [
        variant(tmp_path, window_model(), "windowed", input_shape=(5, 4), parameters=92, score=0.6),
        variant(tmp_path, MODEL, "tiny"),
    ]
    (tmp_path / MANIFEST_NAME).write_text(format_ladder(found, horizon=50))
    return tmp_path


def test_a_written_ladder_reads_back_cheapest_first(folder: Path) -> None:
    ladder = load_ladder(folder)
    assert [entry.name for entry in ladder] == ["tiny", "windowed"]
    assert ladder[1].input_shape == (5, 4)
    assert format_ladder(ladder, horizon=50) == (folder / MANIFEST_NAME).read_text()
    with pytest.raises(ConfigError, match="must hold a variant"):
        format_ladder([], horizon=50)


MARGINS = MarginScores(first="tiny", edges=(0.1, 0.25), shares=(0.5, 0.25, 0.25), scores=(0.3, 0.6, 0.8))


@pytest.fixture
def cascade(folder: Path) -> Path:
    tiny, windowed = load_ladder(folder)
    better = dataclasses.replace(MARGINS, scores=(0.5, 0.6, 0.8))
    found = [dataclasses.replace(tiny, margins=MARGINS), dataclasses.replace(windowed, margins=better)]
    (folder / MANIFEST_NAME).write_text(format_ladder(found, horizon=50))
    return folder


def test_scores_by_margin_read_back_and_become_values(cascade: Path) -> None:
    ladder = load_ladder(cascade)
    assert ladder[0].margins == MARGINS
    assert format_ladder(ladder, horizon=50) == (cascade / MANIFEST_NAME).read_text()
    values = value_table(ladder)
    assert (values.first, values.cascades) == (0, True)
    assert values.value(0, 0.05) == pytest.approx((0.3 - 0.4) / 0.2)
    assert values.value(1, 0.25) == pytest.approx((0.8 - 0.4) / 0.2)
    assert values.value(1, float("nan")) == pytest.approx(1.0)
    for variant, row in enumerate(values.by_margin):
        mean = sum(share * value for share, value in zip(values.shares, row, strict=True))
        assert mean == pytest.approx(values.values[variant])
    # Without the variant whose margins these are, nobody is asked first.
    assert not value_table(ladder[1:]).cascades


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("[0.1, 0.25]", "[0.25, 0.1]", "ascend strictly"),
        ("[0.1, 0.25]", "[0.1, 0.1]", "ascend strictly"),
        ("[0.1, 0.25]", "[0.1, nan]", "between 0 and 1"),
        ("[0.1, 0.25]", "[0.1]", "shares must have 2 entries"),
        ("[0.1, 0.25]", '["0.1", 0.25]', "margin_edges must be a list of numbers"),
        ("[0.5, 0.25, 0.25]", "[0.5, 0.25, 0.3]", "add up to 1"),
        ("[0.5, 0.25, 0.25]", "[1.5, -0.25, -0.25]", "shares must lie between"),
        ("[0.3, 0.6, 0.8]", "[0.3, 0.6]", "score_by_margin must have 3 entries"),
        ("[0.3, 0.6, 0.8]", "[0.3, 0.6, inf]", "score_by_margin must lie between"),
        ("[0.3, 0.6, 0.8]", "[0.4, 0.6, 0.8]", r"must average the score 0\.5 by the shares, was 0\.55"),
        ("[0.3, 0.6, 0.8]", "0.5", "score_by_margin must be a list"),
        ("score_by_margin = [0.3, 0.6, 0.8]", "", "must come together"),
        ('first = "tiny"', 'first = "other"', "first must name a variant"),
        ('first = "tiny"', "", "must have the keys"),
        ("[cascade]", "[other]", "keys must be"),
    ],
)
def test_margins_that_break_a_rule_are_refused(cascade: Path, before: str, after: str, match: str) -> None:
    path = cascade / MANIFEST_NAME
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(DataError, match=match):
        load_ladder(cascade)


def test_margins_are_measured_as_a_plain_loop_does() -> None:
    random = np.random.default_rng(3)
    logits = random.standard_normal((3, 400, 3))
    labels = random.integers(0, 3, 400)
    # The second and third know something.
    for rows, skill in zip(logits, (0.0, 1.0, 2.0), strict=True):
        rows[np.arange(400), labels] += skill
    answers = {
        name: (np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)).astype(np.float32)
        for name, rows in zip("abc", logits, strict=True)
    }
    found = measure_margins("a", answers, labels, bins=4)
    edges, shares = found["a"].edges, found["a"].shares
    hits: dict[str, list[list[bool]]] = {name: [[] for _ in shares] for name in answers}
    for row in range(400):
        ranked = sorted(float(p) for p in answers["a"][row])
        where = sum(ranked[2] - ranked[1] >= edge for edge in edges)
        for name, found_rows in hits.items():
            found_rows[where].append(int(answers[name][row].argmax()) == labels[row])
    scores = {name: [sum(rows) / len(rows) for rows in its] for name, its in hits.items()}
    assert [len(rows) / 400 for rows in hits["a"]] == pytest.approx(shares)
    assert found["a"].scores == pytest.approx(scores["a"], abs=1e-6)
    pooled = [sum(scores[name][b] - scores["a"][b] for name in "bc") for b in range(len(shares))]
    whole = sum(share * gain for share, gain in zip(shares, pooled, strict=True))
    for name in "bc":
        own = [score - base for score, base in zip(scores[name], scores["a"], strict=True)]
        gain = sum(share * mine for share, mine in zip(shares, own, strict=True))
        expected = [base + gain * part / whole for base, part in zip(scores["a"], pooled, strict=True)]
        assert found[name].scores == pytest.approx(expected, abs=1e-5)
        assert found[name].broken_rule(float(np.mean(np.concatenate(hits[name])))) is None
    # One margin for all rows leaves one bin.
    flat = measure_margins("a", {"a": np.tile(np.float32([0.5, 0.3, 0.2]), (5, 1))}, np.zeros(5, int))
    assert flat["a"].edges == ()
    assert flat["a"].scores == (1.0,)


def test_a_window_runs_and_its_shape_is_checked(folder: Path) -> None:
    model = load_ladder(folder)[1].read()
    assert check_graph(model).row_shape == (5, 4)
    session = OrtSession.from_bytes(model)
    rows = np.random.default_rng(1).standard_normal((7, 5, 4)).astype(np.float32)
    flat = OrtSession.from_bytes(MODEL).probabilities(rows.mean(axis=1))
    assert np.allclose(session.probabilities(rows), flat, atol=1e-6)
    assert session.signal(rows[0]) == pytest.approx(float(flat[0, 2] - flat[0, 0]), abs=1e-6)
    rows[3, 2, 1] = np.nan
    assert np.isnan(session.probabilities(rows)).all(axis=1).tolist() == [i == 3 for i in range(7)]
    assert session.signal(rows[3]) == 0.0
    with pytest.raises(ModelError, match=r"shape \(n, 5, 4\)"):
        session.probabilities(rows[:, :4])


def test_damaged_and_missing_files_are_refused_by_name(folder: Path) -> None:
    path = folder / "tiny.onnx"
    path.write_bytes(MODEL[:-1] + b"\x00")
    with pytest.raises(ModelError, match=r"tiny\.onnx: SHA-256 must be"):
        load_ladder(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"tiny\.onnx: a model must be a readable file"):
        load_ladder(folder)
    (folder / MANIFEST_NAME).unlink()
    with pytest.raises(DataError, match=r"ladder\.toml: a ladder must have a readable manifest"):
        load_ladder(folder)


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version must be 1"),
        ("horizon = 50", "colour = 1", "keys must be"),
        ("horizon = 50", "horizon = 0", "horizon must be"),
        ("no_skill_score = 0.4", "no_skill_score = nan", "no_skill_score"),
        ('file = "tiny.onnx"', 'file = "../tiny.onnx"', "bare name"),
        ('name = "tiny"', 'name = "windowed"', "twice"),
        ('name = "tiny"', 'name = "Tiny "', "lower-case"),
        ('precision = "fp32"', 'precision = "fp16"', "precision must be one of"),
        ("score = 0.5", "score = 1.5", "score must lie"),
        ("score = 0.5", "score = true", "score must lie"),
        ("parameters = 12", "parameters = 0", "parameters must be"),
        ("parameters = 12", "parameters = 12\nlicence = 1", "a variant's keys"),
        ('sha256 = "', 'sha256 = "z', "64 hexadecimal"),
        ("features = 4", "features = 5", r"the same features, was \[4, 5\]"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(folder: Path, before: str, after: str, match: str) -> None:
    path = folder / MANIFEST_NAME
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(DataError, match=match) as caught:
        load_ladder(folder)
    assert MANIFEST_NAME in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"input_shape": (2, 4)}, r"the input must be \(2, 4\)"),
        ({"input_shape": (1, 3)}, r"the input must be \(1, 3\)"),
        ({"precision": "int8"}, "precision must be int8, was fp32"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    tmp_path: Path, changes: dict[str, object], match: str
) -> None:
    entry = variant(tmp_path, MODEL, "tiny", **changes)
    (tmp_path / MANIFEST_NAME).write_text(format_ladder([entry], horizon=10))
    with pytest.raises(ModelError, match=match):
        load_ladder(tmp_path)


def test_the_ladder_in_the_package_loads_runs_and_stays_small() -> None:
    ladder = load_ladder()
    assert ladder[0].family == "mlp-tiny"
    assert {"fp32", "int8"} == {entry.precision for entry in ladder}
    assert len({entry.no_skill_score for entry in ladder}) == 1
    assert all(entry.score > entry.no_skill_score + 0.05 for entry in ladder)
    assert sum(entry.path.stat().st_size for entry in ladder) < 10 << 20
    card = (ladder[0].path.parent / "CARD.md").read_text(encoding="utf-8")
    for entry in ladder:
        session = OrtSession.from_bytes(entry.read())
        zeros = np.zeros((1, *session.summary.row_shape), np.float32)
        assert session.probabilities(zeros).sum() == pytest.approx(1.0, abs=1e-5)
        assert f"`{entry.sha256}`" in card
        assert session.summary.metadata["training_window"].count("generated days")
