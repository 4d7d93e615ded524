"""A trained forecaster as an ONNX graph, built operator by operator from its weights; no torch needed.

Standardising stands first, as in `export.py`. Of the heads, one per horizon, the one that is asked for
is exported, and only what its last row depends on: no layer pads, and a layer whose readers stand every
second row computes every second row. That is a third of the work of answering for the whole window. The
encoder's mask of −1e4 outside a token's span stays finite in every precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from data.errors import ConfigError

from .export import INPUT_NAME, IR_VERSION, OPSET, OUTPUT_NAME
from .graph import CLASS_COUNT, check_graph

KINDS: Final = ("mlp", "tcn", "encoder")
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastShape:
    """The architecture of a forecaster.

    Parameters
    ----------
    kind : str
        ``"mlp"``, ``"tcn"`` or ``"encoder"``.
    window : int
        Rows of input; 1 for an MLP.
    features : int
        Width of a row.
    width : int
        Of every hidden layer.
    depth : int
        Dense layers of an MLP.
    dilations : tuple of int
        One per convolution; each divides the next.
    stride : int
        Rows from one token of an encoder to the next; a multiple of its last dilation.
    spans : tuple of int
        Tokens that each block of an encoder looks back, beside its own.
    heads_out : int
        Horizons answered.
    clip : float
        Standardised features are limited to ± this many standard deviations.
    """

    kind: str
    window: int
    features: int = 40
    width: int
    depth: int = 2
    kernel: int = 3
    dilations: tuple[int, ...] = ()
    attention_heads: int = 4
    stride: int = 1
    spans: tuple[int, ...] = ()
    heads_out: int = 3
    clip: float = 6.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind must be one of {', '.join(KINDS)}, was {self.kind!r}")
        if self.kind == "mlp" and self.window != 1:
            raise ConfigError(f"an mlp must see a window of 1 row, was {self.window}")
        if self.kind == "mlp":
            return
        if not self.dilations or self.reach > self.window:
            raise ConfigError(f"dilations must reach back at most {self.window} rows, was {self.reach}")
        if any(wide % narrow for narrow, wide in pairwise(self.spacings)):
            raise ConfigError(f"each dilation must divide the next and the stride, was {self.spacings}")
        if self.kind == "encoder" and (not self.spans or min(self.spans) < 1):
            raise ConfigError(f"an encoder's blocks must look back a token at least, was {self.spans}")
        if self.kind == "encoder" and self.width % self.attention_heads:
            raise ConfigError(f"width must divide by {self.attention_heads} heads, was {self.width}")

    @property
    def spacings(self) -> tuple[int, ...]:
        """Rows between the places that each convolution reads, then between those that its reader reads."""
        return (*self.dilations, self.stride if self.kind == "encoder" else self.dilations[-1])

    @property
    def reach(self) -> int:
        """How many rows, its own included, an answer depends on."""
        if self.kind == "mlp":
            return 1
        return 1 + (self.kernel - 1) * sum(self.dilations) + self.stride * sum(self.spans)

    @property
    def digest(self) -> str:
        """SHA-256 of everything above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def forecast_to_onnx(
    shape: ForecastShape, weights: Weights, *, head: int, notes: Mapping[str, str] | None = None
) -> bytes:
    """Return the forecaster's answer for one horizon as the bytes of an ONNX file.

    Parameters
    ----------
    weights : mapping of str to array
        By the names of `train.networks`.
    head : int
        Which horizon's head.
    notes : mapping of str to str, optional
        Stored in the file's metadata.

    Returns
    -------
    bytes
        Equal input, equal bytes.
    """
    if not 0 <= head < shape.heads_out:
        raise ConfigError(f"head must be 0 to {shape.heads_out - 1}, was {head}")
    graph = _GraphBuilder()
    low, high = np.float32(-shape.clip), np.float32(shape.clip)
    current = INPUT_NAME
    if shape.reach < shape.window:
        current = graph.slice(current, axis=1, start=shape.window - shape.reach, stop=shape.window)
    current = graph.add("Sub", current, center=weights["standardise.center"])
    current = graph.add("Mul", current, inverse_scale=weights["standardise.inverse_scale"])
    current = graph.add("Clip", current, clip_low=np.asarray(low), clip_high=np.asarray(high))
    current = {"mlp": _mlp, "tcn": _tcn, "encoder": _encoder}[shape.kind](graph, current, shape, weights)
    rows = slice(head * CLASS_COUNT, (head + 1) * CLASS_COUNT)
    current = graph.dense(current, weights["head.weight"][rows], weights["head.bias"][rows], name="head")
    graph.nodes.append(helper.make_node("Softmax", [current], [OUTPUT_NAME], name="normalise", axis=-1))

    window = [] if shape.window == 1 else [shape.window]
    made = helper.make_graph(
        graph.nodes,
        f"forecast_{shape.kind}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", *window, shape.features])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", CLASS_COUNT])],
        [numpy_helper.from_array(values, name) for name, values in graph.constants.items()],
    )
    model = helper.make_model(
        made, producer_name="anytick", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    helper.set_model_props(model, dict(notes or {}))
    encoded: bytes = model.SerializeToString(deterministic=True)
    check_graph(encoded, source=f"{shape.kind} export")
    return encoded


class _GraphBuilder:
    """Nodes in order and constants by name; every node has one output, named as the node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._count = 0

    def add(
        self, operator: str, *inputs: str, name: str | None = None, attributes: Any = None, **constants: Any
    ) -> str:
        """Append a node; `constants` follow the inputs in the order given."""
        self._count += 1
        name = name or f"{operator.lower()}_{self._count}"
        named = []
        for key, values in constants.items():
            full = key if operator in ("Sub", "Mul", "Clip") else f"{name}.{key}"
            array = np.asarray(values)
            self.constants[full] = np.ascontiguousarray(array) if array.ndim else array
            named.append(full)
        self.nodes.append(
            helper.make_node(operator, [*inputs, *named], [name], name=name, **(attributes or {}))
        )
        return name

    def slice(self, current: str, *, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Keep `start` to before `stop` of one axis, every `step`-th."""
        names = []
        for what, value in (("starts", start), ("ends", stop), ("axes", axis), ("steps", step)):
            names.append(f"{what}_{value}")
            self.constants[names[-1]] = np.array([value], np.int64)
        return self.add("Slice", current, *names)

    def dense(self, current: str, weight: Any, bias: Any, *, name: str) -> str:
        """Dense layer over a matrix; torch keeps weights as (out, in)."""
        return self.add("Gemm", current, name=name, weight=weight.T, bias=bias)

    def dense_rows(self, current: str, weight: Any, bias: Any, *, name: str) -> str:
        """Dense layer over the last axis of a three-dimensional tensor."""
        product = self.add("MatMul", current, name=f"{name}.product", weight=weight.T)
        return self.add("Add", product, name=name, bias=bias)


def _mlp(graph: _GraphBuilder, current: str, shape: ForecastShape, weights: Weights) -> str:
    for layer in range(shape.depth):
        prefix = f"dense.{layer}"
        current = graph.dense(
            current, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"], name=f"dense_{layer}"
        )
        current = graph.add("Relu", current, name=f"active_{layer}")
    return current


def _tcn(graph: _GraphBuilder, current: str, shape: ForecastShape, weights: Weights) -> str:
    current = _convolved(graph, current, shape, weights)
    return graph.add("Gather", current, attributes={"axis": 2}, last=np.asarray(0, np.int64))


def _convolved(graph: _GraphBuilder, current: str, shape: ForecastShape, weights: Weights) -> str:
    """Return (batch, width, places): the convolutions, at the places that their reader asks for."""
    current = graph.add("Transpose", current, attributes={"perm": [0, 2, 1]})
    current = graph.add(
        "Conv",
        current,
        name="lift",
        attributes={"kernel_shape": [1]},
        weight=weights["lift.weight"],
        bias=weights["lift.bias"],
    )
    current = graph.add("Relu", current)
    places, apart = shape.reach, 1
    for layer, (dilation, next_apart) in enumerate(pairwise(shape.spacings)):
        back, step = (shape.kernel - 1) * dilation // apart, next_apart // apart
        grown = graph.add(
            "Conv",
            current,
            name=f"conv_{layer}",
            attributes={"kernel_shape": [shape.kernel], "dilations": [dilation // apart], "strides": [step]},
            weight=weights[f"conv.{layer}.weight"],
            bias=weights[f"conv.{layer}.bias"],
        )
        kept = graph.slice(current, axis=2, start=back, stop=places, step=step)
        current = graph.add("Add", kept, graph.add("Relu", grown))
        places, apart = -(-(places - back) // step), next_apart
    return current


def _encoder(graph: _GraphBuilder, current: str, shape: ForecastShape, weights: Weights) -> str:
    current = _convolved(graph, current, shape, weights)
    current = graph.add("Transpose", current, attributes={"perm": [0, 2, 1]})
    tokens = 1 + sum(shape.spans)
    for layer, span in enumerate(shape.spans):
        current = _attention_block(graph, current, shape, weights, f"block.{layer}", tokens, span)
        tokens -= span
    current = graph.add("Gather", current, attributes={"axis": 1}, last=np.asarray(0, np.int64))
    return _normalised(graph, current, weights, "norm")


def _normalised(graph: _GraphBuilder, current: str, weights: Weights, name: str) -> str:
    return graph.add(
        "LayerNormalization",
        current,
        name=name,
        attributes={"axis": -1, "epsilon": 1e-5},
        weight=weights[f"{name}.weight"],
        bias=weights[f"{name}.bias"],
    )


def _attention_block(
    graph: _GraphBuilder,
    current: str,
    shape: ForecastShape,
    weights: Weights,
    prefix: str,
    tokens: int,
    span: int,
) -> str:
    """Return what the block makes of the last ``tokens - span`` tokens, which see all they may."""
    heads, width, kept = shape.attention_heads, shape.width, tokens - span
    normed = _normalised(graph, current, weights, f"{prefix}.norm_attention")

    def newest(source: str) -> str:
        return graph.slice(source, axis=1, start=span, stop=tokens)

    def dense(source: str, name: str, scale: float = 1.0) -> str:
        weight, bias = weights[f"{prefix}.{name}.weight"], weights[f"{prefix}.{name}.bias"]
        factor = np.float32(scale)
        return graph.dense_rows(source, weight * factor, bias * factor, name=f"{prefix}.{name}")

    def split(source: str, count: int, perm: list[int]) -> str:
        by_head = np.array([0, count, heads, width // heads], np.int64)
        return graph.add("Transpose", graph.add("Reshape", source, shape=by_head), attributes={"perm": perm})

    query = split(dense(newest(normed), "query", scale=(width // heads) ** -0.5), kept, [0, 2, 1, 3])
    key = split(dense(normed, "key"), tokens, [0, 2, 3, 1])
    value = split(dense(normed, "value"), tokens, [0, 2, 1, 3])
    back = span + np.arange(kept)[:, None] - np.arange(tokens)
    distance = weights[f"{prefix}.distance"]
    bias = np.where((back < 0) | (back > span), np.float32(-1e4), distance[:, back.clip(0, span)])
    scores = graph.add("Add", graph.add("MatMul", query, key), bias=bias)
    seen = graph.add("MatMul", graph.add("Softmax", scores, attributes={"axis": -1}), value)
    seen = graph.add("Transpose", seen, attributes={"perm": [0, 2, 1, 3]})
    joined = graph.add("Reshape", seen, shape=np.array([0, kept, width], np.int64))
    current = graph.add("Add", newest(current), dense(joined, "mix"))
    normed = _normalised(graph, current, weights, f"{prefix}.norm_dense")
    risen = graph.add("Relu", dense(normed, "rise"))
    return graph.add("Add", current, dense(risen, "fall"))
