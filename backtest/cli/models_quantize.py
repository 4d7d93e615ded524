"""`anytick models quantize`: every INT8 form of a model, judged and timed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import CheckFailed, ConfigError

from .models_files import MODEL_HELP, print_found, print_table, rows_for, write_file
from .parser import CommandParser, explain

if TYPE_CHECKING:
    from engine.inference.quantize_search import QuantSearch


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add `quantize`."""
    parser = actions.add_parser(
        "quantize",
        help="try every INT8 form of an FP32 model and keep what no other form beats",
        description="Quantize an FP32 model dynamically and statically (QDQ, u8s8 and s8s8, per tensor "
        "and per "
        "channel), judge each form on rows it was not calibrated with, time it at batch 1 to 64, and "
        "write the "
        "fastest that holds the gate. With --form, make that form and measure nothing.",
    )
    parser.add_argument("model", type=Path, help=MODEL_HELP)
    parser.add_argument(
        "--calibration",
        type=Path,
        help="training rows, raw features: a .npy matrix (or windows), or a .parquet with the model's "
        "feature "
        "columns; a model of a ladder gets a generated day",
    )
    parser.add_argument(
        "--labels", type=Path, help="the rows' labels, a .npy of 0, 1, 2; else agreement judges"
    )
    parser.add_argument("--form", metavar="NAME", help="make this form only, such as static-u8s8-channel")
    parser.add_argument(
        "--out", "--output", type=Path, metavar="FILE", help="default: MODEL.int8.onnx beside the model"
    )
    parser.add_argument(
        "--front", type=Path, help="also write every form of the Pareto front into this folder"
    )
    parser.set_defaults(action=_quantize)
    explain(parser, "anytick models quantize model.onnx --calibration rows.npy --labels labels.npy")


def _quantize(args: argparse.Namespace) -> int:
    from engine.inference.errors import ModelError
    from engine.inference.graph import check_graph
    from engine.inference.model_file import read_model
    from engine.inference.quantize_forms import form_named, quantize_as
    from engine.inference.quantize_search import search_forms

    model = read_model(args.model)
    output = args.out or args.model.with_suffix(".int8.onnx")
    if output.resolve() == args.model.resolve():
        raise ConfigError(f"--out must not be the model itself, was {output}")
    if args.labels is not None and args.calibration is None:
        raise ConfigError("--labels must come with the rows they belong to: --calibration")
    summary = check_graph(model, source=args.model)
    if summary.precision != "fp32":
        raise ModelError(f"a model to quantize must be fp32, was {summary.precision}", source=args.model)
    rows, labels, source = rows_for(
        summary, args.calibration, args.labels, seed=args.seed, model=args.model, option="--calibration"
    )
    if args.form is not None:
        made = quantize_as(model, rows, form_named(args.form), source=args.model)
        _write_form(output, made, form=args.form, before=len(model), rows=len(rows), as_json=args.json)
        return 0
    search = search_forms(model, rows, labels, progress=_show_progress)
    if args.front is not None:
        args.front.mkdir(parents=True, exist_ok=True)
        for trial in search.front:
            write_file(args.front / f"{args.model.stem}.{trial.form}.onnx", trial.model)
    if search.int8 is not None:
        write_file(output, search.int8.model)
    _print_search(search, source, output if search.int8 is not None else None, as_json=args.json)
    if search.int8 is None:
        raise CheckFailed(
            f"{args.model}: a form must hold the gate against FP32, was none; nothing was written"
        )
    return 0


def _write_form(output: Path, made: bytes, *, form: str, before: int, rows: int, as_json: bool) -> None:
    from engine.inference.session import OrtSession, fused_operators

    session = OrtSession.from_bytes(made, source=output)
    write_file(output, made)
    found: dict[str, Any] = {
        "output": str(output),
        "form": form,
        "sha256": session.sha256,
        "bytes": len(made),
        "bytes_before": before,
        "calibration_rows": rows,
        "runs_as": list(fused_operators(made, source=output)),
    }
    print_found(found, as_json=as_json)


def _print_search(search: QuantSearch, source: str, output: Path | None, *, as_json: bool) -> None:
    batches = sorted(search.trials[0].p50_ns)
    found = {
        "rows": source,
        "calibration_rows": search.calibration_rows,
        "held_back_rows": search.held_back_rows,
        "judged_by": search.judged_by,
        "run": search.chosen.form,
        "int8": None if search.int8 is None else search.int8.form,
        "output": None if output is None else str(output),
    }
    if as_json:
        forms = [
            {
                "form": trial.form,
                "bytes": len(trial.model),
                "accuracy": trial.accuracy if trial.model else None,
                "agreement": trial.agreement if trial.model else None,
                "mean_abs_difference": trial.mean_abs_difference if trial.model else None,
                "p50_ns": trial.p50_ns,
                "on_front": trial.on_front,
                "verdict": trial.verdict,
            }
            for trial in search.trials
        ]
        print(json.dumps(found | {"forms": forms}, sort_keys=True))
        return
    rows = []
    for trial in search.trials:
        times = [f"{trial.p50_ns[batch] / 1e3:,.1f}" if trial.p50_ns else "-" for batch in batches]
        shares = (
            [f"{100 * trial.accuracy:.2f}", f"{100 * trial.agreement:.2f}"] if trial.model else ["-", "-"]
        )
        size = f"{len(trial.model):,}" if trial.model else "-"
        rows.append([trial.form, size, *shares, *times, trial.verdict])
    columns = [
        "form",
        "bytes",
        f"{search.judged_by} %",
        "as FP32 %",
        *(f"p50 µs b{b}" for b in batches),
        "why",
    ]
    print_table(columns, rows, words=1)
    print_found(found, as_json=False)


def _show_progress(done: float, text: str) -> None:
    if sys.stderr.isatty():
        print(
            f"\r\x1b[K{100 * done:3.0f}% {text}", end="" if done < 1.0 else "\n", file=sys.stderr, flush=True
        )
