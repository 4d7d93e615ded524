"""A document of the suite as tables: for the terminal, and as the text of docs/BENCHMARKS.md.

Equal documents give equal text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from .comparison import Change
from .limits import UNITS
from .roofline import roof_rows

COLUMNS: Final = (
    "scenario",
    "measure",
    "unit",
    "p50",
    "p99",
    "p99.9",
    "max",
    "floor",
    "x floor",
    "asked",
    "instructions",
)
PEER_COLUMNS: Final = ("scenario", "measure", "unit", "ours", "peer", "theirs", "ratio", "turns", "asked")
CHANGE_COLUMNS: Final = (
    "scenario",
    "measure",
    "unit",
    "old",
    "new",
    "ratio",
    "band",
    "machine moved",
    "instructions",
    "verdict",
)

Rows = list[tuple[str, ...]]


def table_rows(document: Mapping[str, Any]) -> Rows:
    """Return the cells of the result table, one row per measure, in the order of `COLUMNS`."""
    return [
        (
            scenario["name"],
            measure["name"],
            measure["unit"],
            number(measure["p50"]),
            number(measure["p99"]),
            number(measure["p999"]) if measure["samples"] >= 1_000 else "-",
            number(measure["max"]),
            number(measure["floor"]),
            _ratio(measure["p50"], measure["floor"]),
            _asked(measure) if measure["peer"] is None else "-",
            _instructions(measure),
        )
        for scenario in document["scenarios"]
        for measure in scenario["measures"]
    ]


def peer_rows(document: Mapping[str, Any]) -> Rows:
    """Return one row per measure that has a peer, in the order of `PEER_COLUMNS`."""
    rows: Rows = []
    for scenario in document["scenarios"]:
        for measure in scenario["measures"]:
            if measure["peer"] is None:
                continue
            turns = measure["peer_ratios"]
            rows.append(
                (
                    scenario["name"],
                    measure["name"],
                    measure["unit"],
                    number(measure["p50"]),
                    measure["peer_name"] or "peer",
                    number(measure["peer"]),
                    f"{measure['peer_ratio']:.3g}",
                    f"{min(turns):.3g} to {max(turns):.3g}" if len(turns) > 1 else "-",
                    _asked(measure),
                )
            )
    return rows


def change_rows(changes: Sequence[Change]) -> Rows:
    """Return one row per change, in the order of `CHANGE_COLUMNS`."""
    return [
        (
            change.scenario,
            change.measure,
            change.unit,
            number(change.old),
            number(change.new),
            f"{change.ratio:.3f}",
            f"{change.low:.3f} to {change.high:.3f}",
            f"{change.drift:.3f}",
            "-" if change.instructions is None else f"{change.instructions:.3f}",
            change.verdict,
        )
        for change in changes
    ]


def conditions_of(document: Mapping[str, Any], *, drawn: Collection[str] = ()) -> list[str]:
    """Return the sentences that belong under the tables, without those of scenarios that tell their own."""
    machine = document["machine"]
    dates = sorted({scenario["run"]["date"] for scenario in document["scenarios"]})
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({caches}; {' '.join(machine['cpu_flags'])}), governor "
        f"{machine['governor']}, {machine['system']}.",
        f"Python {machine['python']}, numpy {machine['numpy']}, onnxruntime {machine['onnxruntime']}; "
        f"extensions by {machine['compiler']}, {machine['build']} build; seed {document['seed']}"
        f"{', smoke sizes' if document['smoke'] else ''}; {', '.join(dates)}.",
        f"p50 is the median of the repetitions (throughput, {document['repetitions']}) or of the calls "
        "(latency). Floor and peer are medians from the same run on the same data. A single call's figure "
        f"contains {machine['timer_ns']:.0f} ns for reading the clock from Python.",
    ]
    alike: dict[str, list[str]] = {}
    for scenario in document["scenarios"]:
        if scenario["name"] not in drawn:
            alike.setdefault(scenario["conditions"], []).append(scenario["name"])
    lines += [f"{', '.join(names)}: {conditions}" for conditions, names in alike.items()]
    lines += [
        f"{entry['name']} did not run: {', '.join(entry['needs'])} not installed."
        for entry in document["missing"]
    ]
    return lines


def markdown(document: Mapping[str, Any]) -> str:
    """Return results, conditions, limits and roofline as Markdown."""
    parts = [markdown_table(COLUMNS, table_rows(document), texts=3)]
    if rows := peer_rows(document):
        parts.append(markdown_table(PEER_COLUMNS, rows, texts=3))
    parts.append("\n".join(f"- {line}" for line in conditions_of(document)))
    parts.append("### The machine's limits, and what remains\n\n" + roofline_text(document))
    return "\n\n".join(parts)


def peers_markdown(document: Mapping[str, Any]) -> str:
    """Return peers, ratios, versions and conditions as Markdown."""
    versions = {
        f"{name} {number}"
        for scenario in document["scenarios"]
        for name, number in scenario["versions"].items()
    }
    return "\n\n".join(
        (
            markdown_table(PEER_COLUMNS, peer_rows(document), texts=3),
            f"Peers, from pip: {', '.join(sorted(versions, key=str.lower))}. The ratio is theirs over ours, "
            "the median over the turns that both took one after the other; turns: the least and the "
            "greatest of them.",
            "\n".join(f"- {line}" for line in conditions_of(document)),
        )
    )


def roofline_text(document: Mapping[str, Any]) -> str:
    """Return the least limits of the document's runs, and every scenario beside its bound."""
    runs = [scenario["run"]["limits"] for scenario in document["scenarios"]]
    least = {name: min(limits[name] for limits in runs) for name in UNITS}
    limits = markdown_table(
        ("limit", "ns", "what"), [(name, number(least[name]), text) for name, text in UNITS.items()], texts=1
    )
    rows: Rows = []
    told: set[str] = set()
    for scenario, measure, p50, bound, roof in roof_rows(document):
        # Once a scenario and roof, on the first of its rows.
        gap = "" if roof.gap in told else roof.gap
        told.add(roof.gap)
        rows.append((scenario, measure, roof.bound, gap, number(p50), number(bound), _ratio(p50, bound)))
    table = markdown_table(
        ("scenario", "measure", "bound", "what remains", "p50 ns", "bound ns", "x bound"), rows, texts=4
    )
    note = "Limits are the least of a few turns; a scenario's bound comes from the limits of its own run."
    return f"{limits}\n\n{note}\n\n{table}"


def markdown_table(columns: Sequence[str], rows: Rows, *, texts: int) -> str:
    """Return a table whose first `texts` columns are left-aligned."""
    header = [f"| {' | '.join(columns)} |", f"|{'---|' * texts}{'---:|' * (len(columns) - texts)}"]
    return "\n".join([*header, *(f"| {' | '.join(row)} |" for row in rows)])


def print_table(columns: Sequence[str], rows: Rows) -> None:
    """Print a table to the terminal, or as wide as it needs to a file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 3 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Not a terminal: as wide as the table needs, since a cut number is worse than a long line.
    Console(width=None if console.is_terminal else 200).print(table)


def number(value: float | None) -> str:
    """Return three significant digits, whole numbers from 100 on."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float, base: float | None) -> str:
    return "-" if not base else f"{value / base:.3g}"


def _asked(measure: Mapping[str, Any]) -> str:
    """Return the goal and whether it was met: at least that ratio to a peer, or at most that time."""
    goal = measure["goal"]
    if goal is None:
        return "-"
    ratio = measure["peer_ratio"]
    met = measure["p50"] <= goal if ratio is None else ratio >= goal
    return f"{goal:g} {'met' if met else 'missed'}"


def _instructions(measure: Mapping[str, Any]) -> str:
    if measure["instructions"] is None:
        return "-"
    # Above a hundredth, the passes did not do the same: somebody waited in a loop.
    mark = "" if measure["instructions_spread"] < 0.01 else "~"
    return mark + number(measure["instructions"])
