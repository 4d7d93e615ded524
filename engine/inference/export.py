"""A fitted classifier as an ONNX graph, built operator by operator from its weights.

No converter stands in between, so no ``ai.onnx.ml`` node can appear: Sub, Mul, Clip standardise, one
Gemm per layer with Relu between them, Softmax. Standardising is part of the model, so a user of the
file cannot forget it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .classifier import CLASS_NAMES, FittedClassifier
from .errors import ModelError
from .graph import CLASS_COUNT, check_graph

OPSET: Final = 21
IR_VERSION: Final = 10
SCHEMA_VERSION: Final = 1

INPUT_NAME: Final = "features"
OUTPUT_NAME: Final = "probabilities"


def to_onnx(
    fitted: FittedClassifier,
    *,
    feature_names: Sequence[str] = (),
    training_window: str = "",
    threshold_ticks: float | None = None,
) -> bytes:
    """Return the classifier as the bytes of an ONNX file; equal input, equal bytes.

    Parameters
    ----------
    feature_names : sequence of str
        One per column; defaults to ``f0, f1, …``. Stored in the file's metadata with the window, the
        seed and the flat threshold.
    training_window : str
        For example ``"2012-01-02/2012-07-01"``.
    threshold_ticks : float, optional
        Ticks up to which a move was labelled flat.
    """
    names = list(feature_names) or [f"f{column}" for column in range(fitted.feature_count)]
    if len(names) != fitted.feature_count:
        raise ModelError(
            f"there must be {fitted.feature_count} feature names, was {len(names)}",
            source=training_window or "export",
        )
    graph = helper.make_graph(
        _nodes(layer_count=len(fitted.network.coefs_)),
        "move_classifier",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", fitted.feature_count])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", CLASS_COUNT])],
        _constants(fitted),
    )
    model = helper.make_model(
        graph,
        producer_name="anytick",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    notes = {
        "classes": json.dumps(CLASS_NAMES),
        "feature_names": json.dumps(names),
        "flat_threshold_ticks": "" if threshold_ticks is None else repr(threshold_ticks),
        "schema_version": str(SCHEMA_VERSION),
        "seed": str(fitted.seed),
        "training_window": training_window,
    }
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    encoded: bytes = model.SerializeToString(deterministic=True)
    check_graph(encoded, source=training_window or "export")
    return encoded


def _constants(fitted: FittedClassifier) -> list[TensorProto]:
    limit = np.float32(fitted.clip)
    tensors = {
        "center": fitted.center,
        "inverse_scale": fitted.inverse_scale,
        "clip_low": np.asarray(-limit),
        "clip_high": np.asarray(limit),
    }
    for layer, (weight, bias) in enumerate(
        zip(fitted.network.coefs_, fitted.network.intercepts_, strict=True)
    ):
        tensors[f"weight_{layer}"] = np.ascontiguousarray(weight, np.float32)
        tensors[f"bias_{layer}"] = np.ascontiguousarray(bias, np.float32)
    return [numpy_helper.from_array(values, name) for name, values in tensors.items()]


def _nodes(*, layer_count: int) -> list[onnx.NodeProto]:
    nodes = [
        helper.make_node("Sub", [INPUT_NAME, "center"], ["centred"], name="centre"),
        helper.make_node("Mul", ["centred", "inverse_scale"], ["scaled"], name="scale"),
        helper.make_node("Clip", ["scaled", "clip_low", "clip_high"], ["clipped"], name="clip"),
    ]
    current = "clipped"
    for layer in range(layer_count):
        constants = [f"weight_{layer}", f"bias_{layer}"]
        nodes.append(
            helper.make_node("Gemm", [current, *constants], [f"dense_{layer}"], name=f"dense_{layer}")
        )
        current = f"dense_{layer}"
        if layer < layer_count - 1:
            nodes.append(helper.make_node("Relu", [current], [f"active_{layer}"], name=f"active_{layer}"))
            current = f"active_{layer}"
    nodes.append(helper.make_node("Softmax", [current], [OUTPUT_NAME], name="normalise", axis=-1))
    return nodes
