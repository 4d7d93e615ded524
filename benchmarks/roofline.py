"""Which limit of the machine bounds which scenario, and what keeps the scenario from it.

A roof is a limit of `benchmarks/limits.py` times how often one item meets it: an event that is written to a
ring and read from it again moves 96 bytes, or one and a half lines. Where no such limit is near, because the
work is arithmetic or somebody else's library, the scenario's own floor probe is the roof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """The bound of one scenario.

    Parameters
    ----------
    limit : str
        A key of `benchmarks.limits.UNITS`; empty for the scenario's own floor.
    times : float
        How often one item meets it.
    bound : str
        What that is, in words.
    gap : str
        One sentence on what remains between the figure and the bound.
    measures : tuple of str
        Beginnings of the names of the measures it holds for; empty for all that are in ns.
    """

    limit: str = ""
    times: float = 1.0
    bound: str
    gap: str
    measures: tuple[str, ...] = ()


ROOFS: Final[dict[str, Roof | tuple[Roof, ...]]] = {
    "book": (
        Roof(
            limit="third_ns",
            bound="one dependent read beyond the second-level cache",
            gap="Index entry, order, level and neighbour in the queue are four reads, and no two of them "
            "can be asked for at once.",
            measures=("event, L3, 50,000",),
        ),
        Roof(
            limit="memory_ns",
            bound="one dependent read from memory",
            gap="At a million orders, index and orders lie in memory and in pages of their own; batches hide "
            "part of one read behind another.",
            measures=("event, L3, 1,000,000",),
        ),
        Roof(
            limit="stream_ns",
            times=0.75,
            bound="48 bytes of event read in order",
            gap="Everything is in the cache: what remains is the chain from id or price to level, and a "
            "branch on the kind of event that cannot be foreseen.",
        ),
    ),
    "generator": Roof(
        bound="floor probe: normal draws and a running sum, or a draw and a store in Python",
        gap="Each quote needs a dozen array passes besides its draw; the day's flow is plain Python by "
        "design.",
    ),
    "inference": Roof(
        bound="floor probe: the clock, and handing over the row",
        gap="Through ONNX Runtime its own call is most of a small network's time; the own kernel is left "
        "with reading every weight once and with the chain of its layers.",
    ),
    "itch-books": Roof(
        limit="third_ns",
        bound="one dependent read beyond the second-level cache",
        gap="A message meets an order, its level and one of 500 books, each at a random place, and is parsed "
        "before; reading ahead overlaps part of that.",
    ),
    "itch-decode": Roof(
        limit="stream_ns",
        times=1.2,
        bound="about 30 bytes read and 48 written in order",
        gap="Big-endian fields of unaligned records are taken apart one by one, and the kind of message is a "
        "branch that cannot be foreseen.",
    ),
    "journal": Roof(
        bound="floor probe: one CRC-32C and one copy",
        gap="One Python call a record is nearly all of it; the loop writes records without one.",
    ),
    "linucb": Roof(
        bound="floor probe: the matrix-vector products by BLAS",
        gap="Two calls from Python, whose checks of their arguments are most of it at small sizes; at "
        "16 x 64 the arithmetic is.",
        measures=("decision",),
    ),
    "main-job": Roof(
        bound="floor probe: every event copied twice",
        gap="Nine policies each with book, features, schedule, risk gate and journal, and the fits, stand "
        "between the two copies.",
        measures=("1 year, event", "2.5 years, event", "5 years, event"),
    ),
    "matching-1k": Roof(
        limit="stream_ns",
        times=2.0,
        bound="64 bytes of command read and 64 of report written in order",
        gap="Branches on action and side that cannot be foreseen, an id to hash, and two hash chains over "
        "every trade.",
        measures=("command",),
    ),
    "matching-50k": Roof(
        limit="second_ns",
        bound="one dependent read within the second-level cache",
        gap="An order is four reads (index, node, level, neighbour), of which reading ahead hides some.",
        measures=("command",),
    ),
    "matching-1m": Roof(
        limit="third_ns",
        bound="one dependent read beyond the second-level cache",
        gap="Node and index entry come from the third-level cache or from memory; they are asked for ahead, "
        "the neighbours in a queue are not.",
        measures=("command",),
    ),
    "merge": Roof(
        bound="floor probe: the copy alone",
        gap="Which stream is next depends on a comparison that no predictor knows, once a run of events.",
    ),
    "model": Roof(
        bound="floor probe: the matrix products by numpy",
        gap="Below numpy's three calls: an own kernel answers, and one Python call is most of what is left.",
    ),
    "path": Roof(
        limit="stream_ns",
        times=0.75,
        bound="48 bytes of event read in order",
        gap="Book, features and the look at the schedule depend on each other within an event; data is not "
        "what they wait for.",
    ),
    "replay": Roof(
        limit="stream_ns",
        times=0.75,
        bound="48 bytes of event read in order",
        gap="An event depends on the level that an earlier one left, and a branch on its kind; features are "
        "a chain of floating-point operations.",
    ),
    "replay-store": Roof(
        limit="stream_ns",
        times=0.9,
        bound="about 10 packed bytes read and 48 written in order",
        gap="Decoding and the books run side by side on two cores, so the slower of them is the figure, plus "
        "what passes between the cores.",
    ),
    "replay-venues": Roof(
        limit="stream_ns",
        times=0.75,
        bound="48 bytes of event read in order",
        gap="Merge and books take turns on one core.",
    ),
    "ring": Roof(
        limit="stream_ns",
        times=1.5,
        bound="48 bytes written and read, in order",
        gap="A Python call and a fresh array a batch; the copies themselves stay within the cache.",
    ),
    "ring-latency": Roof(
        limit="two_lines_ns",
        bound="two cache lines, there and back",
        gap="Stamped slots carry data and flag on one line and meet the bound; index mode moves the cursor's "
        "line besides.",
        measures=("round trip, stamped", "round trip, index"),
    ),
    "ring-processes": Roof(
        bound="floor probe: the same bytes from core to core, one signal for 2,048 events",
        gap="Cursors are published a batch at a time, and the two processes never wait at the same moment.",
        measures=("event",),
    ),
    "ring-rate": Roof(
        bound="floor probe: the same bytes from core to core, one signal for 2,048 events",
        gap="Cursors are published a batch at a time, or for every event when events go singly.",
        measures=("event",),
    ),
    "ring-threads": Roof(
        limit="stream_ns",
        times=1.5,
        bound="48 bytes written and read, in order",
        gap="Both threads share the interpreter lock, so they take turns instead of working side by side.",
    ),
    "router-plan": Roof(
        bound="floor probe: the same deadlines sorted by Python",
        gap="The plan is Python on purpose: it is called once for a batch of answers that take far longer.",
    ),
    "router-pressure": Roof(
        bound="floor probe: the same read of the kernel's file, unparsed",
        gap="The text is split and turned into numbers in Python.",
    ),
    "store-packed": Roof(
        limit="stream_ns",
        times=0.9,
        bound="about 10 packed bytes read and 48 written in order",
        gap="Every column is unpacked from a width of its own and summed up, and each block's checksum is "
        "verified.",
    ),
    "store-parquet": Roof(
        limit="decode_ns",
        bound="the varying columns decoded by Arrow alone",
        gap="After Arrow has decoded, columns become 48-byte rows, and the checksum is verified.",
    ),
    "store-seek": Roof(
        bound="floor probe: the bytes of the manifest and of one file",
        gap="The manifest is parsed and checked, a Parquet footer is read and one row group decoded.",
    ),
    "tick-to-order": Roof(
        limit="two_lines_ns",
        bound="two cache lines, one to the engine's core and one back",
        gap="Between the two lines stand book, features, model, router, risk gate and journal, one after the "
        "other.",
    ),
}


def roof_rows(document: Mapping[str, Any]) -> list[tuple[str, str, float, float | None, Roof]]:
    """Return (scenario, measure, p50, bound, roof) of every measure in ns that has a roof.

    A scenario's bound comes from the limits of its own run.
    """
    rows = []
    for scenario in document["scenarios"]:
        for measure in scenario["measures"]:
            roof = roof_of(scenario["name"], measure["name"])
            if roof is None or measure["unit"] != "ns":
                continue
            bound = scenario["run"]["limits"][roof.limit] * roof.times if roof.limit else measure["floor"]
            rows.append((scenario["name"], measure["name"], measure["p50"], bound, roof))
    return rows


def roof_of(scenario: str, measure: str) -> Roof | None:
    """Return the first roof of the scenario that holds for the measure."""
    found = ROOFS.get(scenario, ())
    for roof in found if isinstance(found, tuple) else (found,):
        if not roof.measures or measure.startswith(roof.measures):
            return roof
    return None
