"""A quality report as one HTML file that needs nothing else, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from .quality import QualityReport
from .quality_gate import Gate

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.shut td { background: #d334; }
"""


def quality_lines(report: QualityReport) -> Iterator[str]:
    """Yield the report for a terminal: every finding that is not zero, and the rest in one line."""
    yield f"{report.events:,} events, {report.first or '-'} to {report.last or '-'}"
    clean = []
    for finding in report.findings:
        if finding.count == 0:
            clean.append(finding.rule)
            continue
        worst = "" if finding.worst is None else f", worst {finding.worst:,.6g} {finding.unit}"
        first = f", first {finding.first}" if finding.first else ""
        yield f"{finding.rule:18} {finding.count:>14,}{worst}{first}"
    for rule, count in sorted(report.quarantined.items()):
        yield f"  quarantined: {rule}: {count:,}"
    if report.latency_ns:
        facts = ", ".join(f"{name} {value / 1e6:,.3f} ms" for name, value in report.latency_ns.items())
        yield f"receive latency    {facts}"
        if report.latency_ns["smallest"] < 0:
            yield f"  corrected by --receive-offset-ns {-report.latency_ns['smallest']}"
    if clean:
        yield f"none of: {', '.join(clean)}"


def quality_page(report: QualityReport, gate: Gate | None = None) -> str:
    """Return the report as a page."""
    limits = gate.limits if gate else {}
    rows = []
    for finding in report.findings:
        limit = limits.get(finding.rule)
        shut = ' class="shut"' if limit is not None and finding.count > limit else ""
        worst = "" if finding.worst is None else f"{finding.worst:,.6g} {escape(finding.unit)}"
        rows.append(
            f"<tr{shut}><td>{escape(finding.rule)}</td><td class=number>{finding.count:,}</td>"
            f"<td class=number>{'' if limit is None else f'{limit:,}'}</td><td>{worst}</td>"
            f"<td>{escape(finding.first or '')}</td></tr>"
        )
    facts = {
        "events": f"{report.events:,}",
        "first": report.first or "",
        "last": report.last or "",
        **{f"{name} events": f"{count:,}" for name, count in report.kinds.items()},
        **{f"{name} receive latency": f"{ns / 1e6:,.3f} ms" for name, ns in report.latency_ns.items()},
        **{f"set aside: {rule}": f"{count:,}" for rule, count in report.quarantined.items()},
        **{f"note {place}": note for place, note in enumerate(report.notes, start=1)},
    }
    listed = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    title = f"Quality of {escape(report.source)}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><table><tr><th>Finding</th><th class=number>Count</th><th class=number>Limit</th>"
        f"<th>Worst</th><th>First</th></tr>{''.join(rows)}</table><table>{listed}</table></html>\n"
    )
