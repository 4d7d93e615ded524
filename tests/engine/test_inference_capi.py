"""ONNX Runtime's C interface: parity, deadlines, faults, memory, and which tier runs what."""

from __future__ import annotations

import gc
import os
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from dense_samples import model_of, perceptron
from onnx import helper

from benchmarks.inference_models import bilinear_attention
from engine.inference import capi
from engine.inference.capi import CapiSession, runtime_library
from engine.inference.dense import DenseSession
from engine.inference.errors import ModelError, RuntimeUnavailable
from engine.inference.session import OrtSession
from engine.inference.tiers import open_session
from ext.ort_capi import OrtError, OrtKernel, OrtLibrary


def convolution(*, seed: int = 1) -> bytes:
    """A small convolutional classifier over windows of 20 rows of 4 features; no kernel of ours covers it."""
    random = np.random.default_rng(seed)
    constants = {
        "w": random.standard_normal((8, 4, 3)).astype(np.float32),
        "shape": np.array([0, -1], np.int64),
        "head": random.standard_normal((8 * 18, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    return model_of(nodes, constants, shape=(20, 4)).SerializeToString()


def windows(count: int, *, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 20, 4)).astype(np.float32)


def kernel_for(model: onnx.ModelProto, width: int, **options) -> OrtKernel:
    return OrtKernel(
        runtime_library(),
        model.SerializeToString(),
        input_name="x",
        output_name="y",
        row_shape=(width,),
        output_width=3,
        **options,
    )


def test_both_interfaces_give_the_same_bits():
    model, rows = convolution(), windows(40)
    through_c, through_python = CapiSession.from_bytes(model), OrtSession.from_bytes(model)
    single = [through_python.probabilities(row[None]) for row in rows]
    for row, expected in zip(rows, single, strict=True):
        np.testing.assert_array_equal(through_c.probabilities(row[None]), expected)
    np.testing.assert_allclose(through_c.probabilities(rows), np.concatenate(single), atol=1e-6)
    signals = [np.float32(through_python.signal(row)) for row in rows]
    assert [through_c.signal(row) for row in rows] == signals


def test_a_batch_is_cut_to_what_was_bound():
    model, rows = convolution(), windows(23)
    whole = CapiSession.from_bytes(model, batch_max=23).probabilities(rows)
    cut = CapiSession.from_bytes(model, batch_max=5)
    np.testing.assert_allclose(cut.probabilities(rows), whole, atol=1e-6)
    rows[7, 3, 1] = np.nan
    assert np.flatnonzero(np.isnan(cut.probabilities(rows)).any(axis=1)).tolist() == [7]


def test_rows_written_in_place_are_answered_in_place():
    model = perceptron((6, 9, 3))
    kernel = kernel_for(model, 6, batch_max=4)
    rows = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    for count in (1, 4, 2):
        kernel.inputs[:count] = rows[:count]
        kernel.outputs[:] = np.nan
        assert kernel.run(count)
        np.testing.assert_allclose(kernel.outputs[:count].sum(axis=1), 1.0, atol=1e-6)
        assert np.isnan(kernel.outputs[count:]).all()
    for count in (0, 5):
        with pytest.raises(ValueError, match="count must be 1 to 4"):
            kernel.run(count)


# Deadlines.


@pytest.fixture(scope="module")
def slow() -> OrtKernel:
    """Sixty-four products of 512 x 512, hundreds of milliseconds at 256 rows."""
    random = np.random.default_rng(1)
    weight = (random.standard_normal((512, 512)) / np.sqrt(512)).astype(np.float32)
    names = ["x", *(f"h{layer}" for layer in range(64))]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    nodes.append(helper.make_node("MatMul", [names[-1], "head"], ["z"]))
    nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=-1))
    constants = {"w": weight, "head": weight[:, :3].copy()}
    return kernel_for(model_of(nodes, constants, shape=(512,)), 512, batch_max=256)


def test_a_run_past_its_deadline_is_stopped_and_the_next_one_is_whole(slow):
    slow.inputs[:] = np.random.default_rng(2).standard_normal((256, 512)).astype(np.float32)
    assert slow.run(256)
    expected = slow.outputs.copy()
    slow.outputs[:] = 0.5
    stopped = []
    for _ in range(3):
        late = slow.runs_late
        assert not slow.run(256, deadline_ns=time.monotonic_ns() + 1_000_000)
        assert slow.runs_late == late + 1
        # The last step alone writes the outputs, hundreds of milliseconds after the deadline.
        stopped.append(bool((slow.outputs == 0.5).all()))
    assert any(stopped)
    slow.outputs[:] = 0.0
    assert slow.run(256)
    np.testing.assert_array_equal(slow.outputs, expected)
    assert slow.run(256, deadline_ns=time.monotonic_ns() + 10**12)
    assert slow.error is None


def test_a_deadline_that_has_passed_runs_nothing(slow):
    slow.outputs[:] = 0.5
    assert not slow.run(1, deadline_ns=time.monotonic_ns())
    assert (slow.outputs == 0.5).all()


def test_a_late_batch_is_no_answer():
    session = CapiSession.from_bytes(convolution())
    assert session.probabilities_until(windows(3), deadline_ns=time.monotonic_ns()) is None
    assert session.probabilities_until(windows(3), deadline_ns=time.monotonic_ns() + 10**12) is not None


def test_deadlines_work_in_a_forked_child(slow):
    """A fork has no watcher thread of its own until its first guarded run."""
    slow.run(256, deadline_ns=time.monotonic_ns() + 1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        stopped = slow.run(256, deadline_ns=time.monotonic_ns() + 1_000_000) is False
        os._exit(0 if stopped else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# Faults.


def test_a_failing_run_says_why_and_leaves_the_session_usable():
    """Shapes that only meet at run time: the batch must be 2."""
    nodes = [
        helper.make_node("Add", ["x", "two"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    kernel = kernel_for(model_of(nodes, {"two": np.zeros((2, 3), np.float32)}, shape=(3,)), 3, batch_max=3)
    for _ in range(3):
        with pytest.raises(OrtError, match="Expected: 2"):
            kernel.run(3)
        assert kernel.error is None
        assert kernel.run(2)


def test_a_model_the_runtime_refuses_is_an_error_of_ours():
    with pytest.raises(OrtError):
        OrtKernel(
            runtime_library(), b"noise", input_name="x", output_name="y", row_shape=(3,), output_width=3
        )
    with pytest.raises(ModelError, match="readable as ONNX"):
        CapiSession.from_bytes(b"noise")


def test_a_library_of_another_version_or_none_is_refused(tmp_path):
    with pytest.raises(OSError, match="absent"):
        OrtLibrary(str(tmp_path / "absent.so"), "1.0")
    (tmp_path / "noise.so").write_bytes(b"noise")
    with pytest.raises(OSError, match=r"noise\.so"):
        OrtLibrary(str(tmp_path / "noise.so"), "1.0")
    wheel = Path(str(capi.find_spec("onnxruntime").origin)).parent / "capi"
    path = next(iter(sorted(wheel.glob("libonnxruntime.*"))))
    with pytest.raises(OrtError, match=r"must be version 1\.2\.3, was 1\."):
        OrtLibrary(str(path), "1.2.3")


def test_opening_and_running_leaks_nothing():
    model, rows = convolution(), windows(1)

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def work(sessions: int, runs: int) -> None:
        for _ in range(sessions):
            CapiSession.from_bytes(model)
        session = CapiSession.from_bytes(model)
        for _ in range(runs):
            session.kernel.run(1)
            session.kernel.run(1, deadline_ns=1)
            session.signal(rows[0])

    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not tell resident memory")
    work(10, 2_000)
    grown = []
    for _ in range(3):
        before = resident()
        work(40, 20_000)
        grown.append(resident() - before)
    # Forty leaked sessions, or a hundred bytes a run, would be two megabytes or more, every time; what
    # else the process does to its memory comes and goes.
    assert min(grown) < 1_500_000, grown


# Tiers.


def test_each_model_runs_on_the_first_tier_that_covers_it():
    assert isinstance(open_session(perceptron((6, 9, 3)).SerializeToString()), DenseSession)
    assert isinstance(open_session(bilinear_attention(seed=1)), DenseSession)
    wide = perceptron((40, 128, 64, 3)).SerializeToString()
    assert isinstance(open_session(wide, batch_max=1), DenseSession)
    assert isinstance(open_session(wide, batch_max=8), CapiSession)
    session = open_session(convolution())
    assert isinstance(session, CapiSession)
    assert session.runtime == f"onnxruntime {runtime_library().version} c"


def test_without_the_library_the_binding_runs_and_says_so(monkeypatch):
    def unavailable() -> OrtLibrary:
        raise RuntimeUnavailable("the wheel must hold a library, was none", source="onnxruntime")

    monkeypatch.setattr(capi, "runtime_library", unavailable)
    with pytest.warns(RuntimeWarning, match="Python binding: onnxruntime: the wheel must hold a library"):
        session = open_session(convolution())
    assert isinstance(session, OrtSession)
    assert np.isfinite(session.probabilities(windows(2))).all()


@pytest.mark.parametrize("missing", ["package", "library", "version"])
def test_a_missing_runtime_is_named(monkeypatch, missing):
    runtime_library.cache_clear()
    if missing == "package":

        def absent(name: str) -> str:
            raise capi.PackageNotFoundError(name)

        monkeypatch.setattr(capi, "version", absent)
    elif missing == "library":
        monkeypatch.setattr(capi, "_LIBRARY_PATTERNS", ("no-such-library",))
    else:
        monkeypatch.setattr(capi, "version", lambda name: "0.0.1")
    expected = {
        "package": "must be installed",
        "library": "no-such-library",
        "version": "must be version 0.0.1",
    }
    with pytest.raises(RuntimeUnavailable, match=expected[missing]):
        runtime_library()
    runtime_library.cache_clear()
