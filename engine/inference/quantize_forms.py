"""The ways to quantize a model to INT8 that `anytick models quantize` tries.

======================  ==========  =========  ===============  ==========================================
form                    activation  weights    scale of         activations are rounded
======================  ==========  =========  ===============  ==========================================
dynamic-s8[-channel]    U8          S8         the call         by the range of each call
static-u8s8[-channel]   U8          S8, 7 bit  the calibration  by fixed ranges, QDQ form
static-s8s8[-channel]   S8          S8, 7 bit  the calibration  by fixed ranges, QDQ form
======================  ==========  =========  ===============  ==========================================

Static weights use 7 of 8 bits, for the reason that `quantize.py` gives. Dynamic ones keep 8: their kernels
are few, and no x86 before VNNI is asked to run them fast. The last dense layer and Softmax stay in float.
A form that ONNX Runtime's tools cannot make of a model is no error: the search reports it and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from .arrays import Floats32
from .errors import ModelError
from .graph import check_graph, parse_model
from .quantize import CALIBRATION_ROWS_MAX, drop_foreign_imports, spread

_WINDOW_ROWS_MAX: Final = 512
"""Calibration inputs of a windowed model: a window holds a hundred rows already."""

# Slice among them: between two quantized layers it would be the only one in floats.
_STATIC_OPERATORS: Final = ("Conv", "Gemm", "MatMul", "Relu", "Add", "Slice")
_LAYERS: Final = ("Conv", "Gemm", "MatMul")
_PREPROCESSED: Final = ("onnx.quant.pre_process", "onnxruntime.quant")


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantForm:
    """One way to quantize.

    Parameters
    ----------
    activation : str
        ``"u8"`` or ``"s8"``; of dynamic forms always ``"u8"``.
    per_channel : bool
        A scale for each output of a layer instead of one for all.
    """

    dynamic: bool
    activation: str
    per_channel: bool

    @property
    def name(self) -> str:
        stem = "dynamic-s8" if self.dynamic else f"static-{self.activation}s8"
        return f"{stem}-channel" if self.per_channel else stem


FORMS: Final = tuple(
    QuantForm(dynamic=dynamic, activation=activation, per_channel=per_channel)
    for dynamic, activation in ((True, "u8"), (False, "u8"), (False, "s8"))
    for per_channel in (False, True)
)


def form_named(name: str) -> QuantForm:
    """Return the form of that name."""
    for form in FORMS:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in FORMS)
    raise ModelError(f"a form must be one of {known}, was {name!r}", source="quantize")


def quantize_as(
    model: bytes, calibration: Floats32, form: QuantForm, *, source: str | PathLike[str] = "model"
) -> bytes:
    """Return an INT8 form of an FP32 model; equal input, equal bytes.

    Parameters
    ----------
    calibration : array of float32, shape (n, d) or (n, window, d)
        Training rows or windows; unused by dynamic forms.

    Raises
    ------
    ModelError
        The model is refused or quantized already, the rows do not fit it, or this form cannot be made.
    """
    summary = check_graph(model, source=source)
    if summary.precision != "fp32":
        raise ModelError(f"a model to quantize must be fp32, was {summary.precision}", source=source)
    if calibration.shape[1:] != summary.row_shape or not len(calibration):
        expected = f"(n, {', '.join(map(str, summary.row_shape))})"
        raise ModelError(f"calibration must have shape {expected}, was {calibration.shape}", source=source)
    parsed = parse_model(model, source=source)
    layers = [node.name for node in parsed.graph.node if node.op_type in _LAYERS]
    if len(layers) < 2 or "" in layers or len(set(layers)) < len(layers):
        raise ModelError(f"a model must have two or more layers with names, was {layers}", source=source)
    notes = {note.key: note.value for note in parsed.metadata_props}
    onnx.helper.set_model_props(parsed, notes | dict([_PREPROCESSED]))
    with TemporaryDirectory(prefix="anytick-") as folder:
        origin, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        origin.write_bytes(parsed.SerializeToString(deterministic=True))
        try:
            _run_tools(origin, target, calibration, form, parsed, summary.input_name, layers[-1])
            quantized = onnx.load_model_from_string(target.read_bytes())
        # The tools raise whatever their insides raise; any of it means that this form is not for this graph.
        except Exception as error:
            raise ModelError(f"{form.name} must be possible, was not: {error}", source=source) from error
    onnx.helper.set_model_props(quantized, notes | {"quantization": form.name})
    drop_foreign_imports(quantized)
    encoded: bytes = quantized.SerializeToString(deterministic=True)
    if check_graph(encoded, source=source).precision != "int8":
        raise ModelError("quantization must reach a layer, was none", source=source)
    return encoded


def _run_tools(
    origin: Path,
    target: Path,
    calibration: Floats32,
    form: QuantForm,
    parsed: onnx.ModelProto,
    input_name: str,
    last_layer: str,
) -> None:
    if form.dynamic:
        quantize_dynamic(
            origin,
            target,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=form.per_channel,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[last_layer],
            extra_options={"MatMulConstBOnly": True},
        )
        return
    limit = CALIBRATION_ROWS_MAX if calibration.ndim == 2 else _WINDOW_ROWS_MAX
    # An addition of constants before the first layer belongs to standardising, whose sums need floats.
    softmaxes = [node.name for node in parsed.graph.node if node.op_type == "Softmax"]
    # What is added before a Softmax may be a mask of −10,000: 256 steps of that leave none for the scores.
    asked = {name for node in parsed.graph.node if node.op_type == "Softmax" for name in node.input}
    masked = [node.name for node in parsed.graph.node if node.op_type == "Add" and asked & {*node.output}]
    quantize_static(
        origin,
        target,
        _Calibration(spread(calibration, limit), input_name),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8 if form.activation == "u8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=list(_STATIC_OPERATORS),
        nodes_to_exclude=[last_layer, *softmaxes, *masked],
        per_channel=form.per_channel,
        reduce_range=True,
        extra_options={"MatMulConstBOnly": True},
    )


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # its base class is untyped
    def __init__(self, rows: Floats32, input_name: str) -> None:
        step = 1_024 if rows.ndim == 2 else 32
        self._batches: Iterator[dict[str, Floats32]] = (
            {input_name: rows[start : start + step]} for start in range(0, len(rows), step)
        )

    def get_next(self) -> dict[str, Floats32] | None:
        return next(self._batches, None)
