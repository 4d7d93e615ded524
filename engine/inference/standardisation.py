"""What training stored of its inputs: centre and spread of every column, where each model's graph begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from .arrays import Floats32
from .ladder import Variant


@dataclass(frozen=True, kw_only=True, slots=True)
class Standardisation:
    """Per column, the median of the training rows and one over their scale (`classifier.robust_scale`).

    Parameters
    ----------
    center : array of float32, shape (features,)
    inverse_scale : array of float32, shape (features,)
        0 where a column never varied.
    """

    center: Floats32
    inverse_scale: Floats32


def read_standardisation(model: bytes) -> Standardisation | None:
    """Return a model's standardisation, None where its graph does not begin with one."""
    graph = onnx.load_model_from_string(model).graph
    constants = {entry.name: entry for entry in graph.initializer}
    name, found = graph.input[0].name, []
    for operator in ("Sub", "Mul"):
        node = next((node for node in graph.node if node.op_type == operator and node.input[0] == name), None)
        if node is None or node.input[1] not in constants:
            return None
        found.append(np.asarray(numpy_helper.to_array(constants[node.input[1]]), np.float32).ravel())
        name = node.output[0]
    center, inverse_scale = found
    return Standardisation(center=center, inverse_scale=inverse_scale)


def training_of(variants: Sequence[Variant]) -> Standardisation | None:
    """Return what the smallest FP32 variant carries; all of a ladder were trained on the same rows."""
    plain = [variant for variant in variants if variant.precision == "fp32"]
    if not plain:
        return None
    found = read_standardisation(min(plain, key=lambda variant: variant.parameters).read())
    features = variants[0].input_shape[1]
    return found if found is not None and len(found.center) == features else None
