"""`anytick models`: look into model files, quantize them, measure them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import ConfigError, DataError

from .parser import CommandParser, explain, whole, with_shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MODEL_HELP = "an ONNX file"
_LATER = {
    "build": "train a ladder of order-book models",
    "validate": "check a quantized model against its original, with an exit code",
}

_EXAMPLES = {
    "inspect": "anytick models inspect model.onnx",
    "profile": "anytick models profile model.onnx model.int8.onnx --output profile.toml",
    "quantize": "anytick models quantize model.onnx --calibration rows.npy",
    "build": "anytick models build",
    "validate": "anytick models validate",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `models` and its actions."""
    parser = commands.add_parser(
        "models",
        help="inspect, quantize and measure ONNX models",
        description="Inspect, quantize and measure ONNX models. A model is only ever read as "
        "bytes: no pickle, no external data, an allow-list of operators.",
    )
    actions = parser.add_subparsers(
        dest="models_action", required=True, metavar="ACTION", parser_class=CommandParser
    )

    inspect = actions.add_parser(
        "inspect",
        help="show operators, precision, digest and whether the engine would run the file",
        description="Show a model's operators, precision and digest, and whether the engine would run it. "
        "Exit code 1 when it would not.",
    )
    inspect.add_argument("model", type=Path, help=_MODEL_HELP)
    inspect.set_defaults(action=_inspect)

    profile = actions.add_parser(
        "profile",
        help="measure the latency of single calls on this machine",
        description="Measure the latency of single calls on this machine, for backtests to charge.",
    )
    profile.add_argument(
        "model", type=Path, nargs="+", help=f"{_MODEL_HELP}; one each of fp32 and int8 to store"
    )
    profile.add_argument(
        "--repetitions", type=whole(1, 100_000_000), default=20_000, help="timed calls, default: %(default)s"
    )
    profile.add_argument("--output", type=Path, help="store as a TOML profile that backtests can charge")
    profile.set_defaults(action=_profile)

    quantize = actions.add_parser(
        "quantize",
        help="write the INT8 form of an FP32 model (static QDQ)",
        description="Write the INT8 form (static QDQ) of an FP32 model, calibrated on its training rows.",
    )
    quantize.add_argument("model", type=Path, help=_MODEL_HELP)
    quantize.add_argument(
        "--calibration",
        type=Path,
        required=True,
        help="training rows, raw features: a .npy matrix, or a .parquet with the model's feature columns",
    )
    quantize.add_argument("--output", type=Path, help="default: MODEL.int8.onnx beside the model")
    quantize.set_defaults(action=_quantize)

    for name, text in _LATER.items():
        about = f"{text} (not there yet)"
        actions.add_parser(name, help=about, description=about).set_defaults(action=_later)
    for name, example in _EXAMPLES.items():
        explain(actions.choices[name], example)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action and return the exit code."""
    code: int = args.action(with_shared(args))
    return code


def _inspect(args: argparse.Namespace) -> int:
    from engine.inference.errors import ModelError
    from engine.inference.graph import check_graph, operator_counts, parse_model, precision_of
    from engine.inference.session import OrtSession, fused_operators

    model = _read(args.model)
    operators = operator_counts(parse_model(model, source=args.model))
    found: dict[str, Any] = {
        "path": str(args.model),
        "sha256": _digest(model),
        "bytes": len(model),
        "precision": precision_of(operators),
        "operators": operators,
        "verdict": "accepted",
    }
    try:
        summary = check_graph(model, source=args.model)
        OrtSession.from_bytes(model, source=args.model)
    except ModelError as refusal:
        found |= {"verdict": "refused", "reason": refusal.rule}
    else:
        found |= {
            "features": summary.feature_count,
            "opset": summary.opset,
            "runs_as": list(fused_operators(model, source=args.model)),
            "metadata": summary.metadata,
        }
    _print(found, as_json=args.json)
    return 0 if found["verdict"] == "accepted" else 1


def _profile(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from engine.inference.profile import format_profile, measure_latency, profile_of
    from engine.inference.tiers import open_session

    latency, digests = {}, {}
    for path in args.model:
        session = open_session(_read(path), source=path)
        if session.precision in latency:
            raise ConfigError(f"models must differ in precision, was {session.precision} twice")
        latency[session.precision] = measure_latency(session, repetitions=args.repetitions, seed=args.seed)
        digests[session.precision] = session.sha256
    label = ", ".join(path.name for path in args.model)
    profile = profile_of(latency, model=label)
    if args.output is not None:
        _write(args.output, format_profile(profile).encode())
    found: dict[str, Any] = asdict(profile) | {"sha256": digests}
    if args.output is not None:
        found["output"] = str(args.output)
    _print(found, as_json=args.json)
    return 0


def _quantize(args: argparse.Namespace) -> int:
    from engine.inference.graph import check_graph
    from engine.inference.quantize import quantize_static_int8
    from engine.inference.session import OrtSession, fused_operators

    model = _read(args.model)
    summary = check_graph(model, source=args.model)
    rows = _read_rows(args.calibration, _feature_names(summary.metadata))
    quantized = quantize_static_int8(model, rows, source=args.model)
    session = OrtSession.from_bytes(quantized, source=args.model)
    output = args.output or args.model.with_suffix(".int8.onnx")
    if output.resolve() == args.model.resolve():
        raise ConfigError(f"--output must not be the model itself, was {output}")
    _write(output, quantized)
    found = {
        "output": str(output),
        "sha256": session.sha256,
        "bytes": len(quantized),
        "bytes_before": len(model),
        "calibration_rows": len(rows),
        "runs_as": list(fused_operators(quantized, source=output)),
    }
    _print(found, as_json=args.json)
    return 0


def _later(args: argparse.Namespace) -> int:
    print(f"anytick models {args.models_action}: not there yet", file=sys.stderr)
    return 2


def _read(path: Path) -> bytes:
    from engine.inference.graph import GraphLimits

    try:
        size = path.stat().st_size
        if size > GraphLimits().model_bytes_max:
            raise DataError(
                f"a model must hold at most {GraphLimits().model_bytes_max} bytes, was {size}", path=path
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"a model must be a readable file, was not: {error.strerror}", path=path) from error


def _feature_names(metadata: dict[str, str]) -> list[str]:
    """Return the names a model's author noted; none where the note is absent or not a list of names."""
    try:
        names = json.loads(metadata.get("feature_names", "[]"))
    except ValueError:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _read_rows(path: Path, names: list[str]) -> NDArray[np.float32]:
    """Read calibration rows; Parquet columns are taken by the model's feature names."""
    import numpy as np
    import polars as pl

    try:
        if path.suffix == ".npy":
            rows = np.load(path, allow_pickle=False)
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            missing = [name for name in names if name not in frame.columns]
            if missing:
                raise DataError(
                    f"calibration must hold the model's features, was without {missing}", path=path
                )
            rows = frame.select(names or frame.columns).to_numpy()
        else:
            raise ConfigError(f"--calibration must end in .npy or .parquet, was {path.name}")
    except (OSError, ValueError, EOFError, pl.exceptions.PolarsError) as error:
        raise DataError(f"calibration rows must be readable, was not: {error}", path=path) from error
    if rows.dtype.kind not in "fiu":
        raise DataError(f"calibration rows must be numbers, was {rows.dtype}", path=path)
    return np.asarray(rows, np.float32)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DataError(f"the output must be writable, was not: {error.strerror}", path=path) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, sort_keys=True))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, entry in value.items():
                print(f"  {_plain(key):<22}{_plain(entry)}")
        else:
            print(f"{name:<24}{_plain(' → '.join(value) if isinstance(value, list) else value)}")


def _plain(value: object) -> str:
    """Escape what a terminal would obey: a model's notes and names are foreign text."""
    if isinstance(value, dict):
        return "  ".join(f"{key} {entry}" for key, entry in value.items())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
