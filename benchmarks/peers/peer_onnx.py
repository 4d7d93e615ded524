"""ONNX Runtime called the plain way beside our session: one row in, a signal out, the same model bytes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench_model import trained_model
from ..harness import Bench, peer_scenario


def naive_signal(session: Any, name: str, row: NDArray[np.float32]) -> float:
    """Return the signal as a first script would: a fresh batch of one, a dictionary, a list of outputs."""
    (probabilities,) = session.run(None, {name: row[None, :]})
    return float(probabilities[0, 2] - probabilities[0, 0])


@peer_scenario(
    "onnx",
    "ONNX Runtime: our session beside a plain call of run",
    conditions="the same model bytes, one row a call, back to back; theirs: InferenceSession with its "
    "defaults and run(None, ...), or the same with one thread; equal signals verified.",
    needs=("onnxruntime",),
)
def onnx(bench: Bench) -> None:
    import onnxruntime

    rows = bench.parameter("rows", smoke=800, full=6_000)
    calls = bench.parameter("calls", smoke=100, full=20_000)
    features, trained = trained_model(rows, seed=bench.seed)
    row = np.ascontiguousarray(features[-1])
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = 1
    for precision, ours, model in (
        ("fp32", trained.fp32, trained.fp32_model),
        ("int8", trained.int8, trained.int8_model),
    ):
        for title, options in (("defaults", None), ("one thread", one_thread)):
            theirs = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            name = theirs.get_inputs()[0].name
            bench.latency(
                f"{precision}, beside {title}",
                partial(ours.signal, row),
                count=calls,
                peer=partial(naive_signal, theirs, name, row),
                peer_name=f"run(None, ...), {title}",
            )
            difference = abs(ours.signal(row) - naive_signal(theirs, name, row))
            bench.verify(difference < 1e-6, f"{precision} signals are equal")
