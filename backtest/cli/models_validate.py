"""`anytick models validate`: the gate, with an exit code."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from data.errors import ConfigError

from .models_files import MODEL_HELP, print_table, rows_for
from .parser import CommandParser, explain, number


def add_action(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add `validate`."""
    parser = actions.add_parser(
        "validate",
        help="check a model against its FP32 form; exit code 1 when a rule is broken",
        description="Check a model: operators and size, finite answers, agreement with its FP32 form, "
        "accuracy, "
        "worst latency. Every rule is printed with its limit and what was measured. Exit code 1 when "
        "one is broken.",
    )
    parser.add_argument("model", type=Path, help=MODEL_HELP)
    parser.add_argument(
        "--against", metavar="FILE", type=Path, help="the FP32 form; default: the model itself"
    )
    parser.add_argument(
        "--rows", type=Path, help="rows to judge on, .npy or .parquet; a ladder's model gets a generated day"
    )
    parser.add_argument("--labels", metavar="FILE", type=Path, help="the rows' labels, a .npy of 0, 1, 2")
    parser.add_argument(
        "--agreement",
        metavar="X",
        type=number(0.0, 1.0),
        default=0.95,
        help="least share of rows answered like the FP32 form; default: %(default)s",
    )
    parser.add_argument(
        "--accuracy-loss",
        metavar="X",
        type=number(0.0, 1.0),
        default=0.01,
        help="most accuracy it may lose to the FP32 form; default: %(default)s",
    )
    parser.add_argument(
        "--difference",
        metavar="X",
        type=number(0.0, 1.0),
        default=0.02,
        help="most its signal may differ from the FP32 form's, on average; default: %(default)s",
    )
    parser.add_argument(
        "--latency-ms", type=number(1e-6, 1e6), default=50.0, help="worst single call, default: %(default)s"
    )
    parser.set_defaults(action=_validate)
    explain(parser, "anytick models validate model.int8.onnx --against model.onnx --rows rows.npy")


def _validate(args: argparse.Namespace) -> int:
    from engine.inference.graph import check_graph
    from engine.inference.model_file import read_model
    from engine.inference.validate import ValidationLimits, judge_alone, validate_model

    candidate = read_model(args.model)
    against = args.against or args.model
    reference = read_model(against)
    if args.labels is not None and args.rows is None:
        raise ConfigError("--labels must come with the rows they belong to: --rows")
    limits = ValidationLimits(
        accuracy_loss_max=args.accuracy_loss,
        agreement_min=args.agreement,
        mean_abs_difference_max=args.difference,
        latency_ms_max=args.latency_ms,
    )
    outcomes, source = judge_alone(candidate, limits=limits), "no rows"
    if args.against is not None or all(outcome.passed for outcome in outcomes):
        summary = check_graph(reference, source=against)
        rows, labels, source = rows_for(
            summary, args.rows, args.labels, seed=args.seed, model=against, option="--rows"
        )
        outcomes = validate_model(candidate, reference, rows, labels, limits=limits)
    passed = all(outcome.passed for outcome in outcomes)
    if args.json:
        rules = [asdict(outcome) for outcome in outcomes]
        print(json.dumps({"passed": passed, "rows": source, "rules": rules}, sort_keys=True))
    else:
        table = [[o.rule, "holds" if o.passed else "BROKEN", o.limit, o.measured] for o in outcomes]
        print_table(["rule", "", "limit", "measured"], table, words=3)
        print(f"{args.model}: {'passed' if passed else 'refused'}, on {source}, against {against}")
    return 0 if passed else 1
