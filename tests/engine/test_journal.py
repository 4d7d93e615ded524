"""The journal file: whole or absent, verified, compared, replayed to one state."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backtest.cli import journal as cli
from data.errors import ConfigError, DataError
from data.schema import (
    DECISION_DTYPE,
    JOURNAL_DTYPE,
    ORDER_DTYPE,
    PARENT_DTYPE,
    REPORT_DTYPE,
    REWARD_DTYPE,
    JournalKind,
    OrderAction,
    OrderType,
    ParentState,
    Reason,
    ReportKind,
)
from engine.journal import JournalReader, JournalWriter, diff_journals, replay_state, verify_journal
from engine.journal_format import HEADER_BYTES, RECORD_BYTES
from engine.order_ids import pack_order_id
from ext.journal import JournalBuffer, crc32c

RUN_ID = 42
START_NS = 1_400_000_000_000_000_000

Line = tuple[JournalKind, bytes]


def line(kind: JournalKind, dtype: np.dtype, /, **fields: int | float) -> Line:
    payload = np.zeros((), dtype=dtype)
    for name, value in fields.items():
        payload[name] = value
    return kind, payload.tobytes()


def order(key: int, size: int, **fields: int) -> Line:
    defaults = {"action": OrderAction.NEW, "order_type": OrderType.LIMIT, "side": 1, "price_ticks": 100}
    return line(
        JournalKind.ORDER, ORDER_DTYPE, **(defaults | {"client_order_id": key, "size_lots": size} | fields)
    )


def report(key: int, kind: ReportKind, *, size: int = 0, leaves: int = 0, **fields: int) -> Line:
    return line(
        JournalKind.REPORT,
        REPORT_DTYPE,
        **(
            {"client_order_id": key, "kind": kind, "size_lots": size, "leaves_lots": leaves, "side": 1}
            | fields
        ),
    )


def parent(version: int, filled: int, opened: int, cancelled: int = 0, **fields: int) -> Line:
    defaults = {"parent_id": 1, "state": ParentState.WORKING, "side": 1, "size_lots": 10}
    return line(
        JournalKind.PARENT,
        PARENT_DTYPE,
        **(
            defaults
            | {"version": version, "filled_lots": filled, "open_lots": opened, "cancelled_lots": cancelled}
            | fields
        ),
    )


def key_of(leg: int, *, parent_id: int = 1) -> int:
    return pack_order_id(RUN_ID, parent_id, leg, 0)


def story() -> list[Line]:
    """One parent of 10 lots: 6 filled on venue 0, 4 cancelled on venue 1, one order refused."""
    return [
        parent(1, 0, 10),
        line(JournalKind.DECISION, DECISION_DTYPE, decision_id=1, parent_id=1, arm_count=3),
        order(key_of(0), 6),
        order(key_of(1), 4, venue_id=1),
        line(
            JournalKind.REFUSAL,
            REPORT_DTYPE,
            client_order_id=key_of(2),
            kind=ReportKind.REJECTED,
            reason=Reason.RISK_NOTIONAL,
        ),
        report(key_of(0), ReportKind.ACCEPTED, leaves=6),
        report(key_of(0), ReportKind.FILL, size=2, leaves=4, fee_nano=-5),
        report(key_of(0), ReportKind.FILL, size=4, leaves=0, fee_nano=25),
        parent(2, 6, 4),
        line(JournalKind.REWARD, REWARD_DTYPE, decision_id=1, reward=0.5, filled_lots=6, size_lots=6),
        line(JournalKind.DECISION, DECISION_DTYPE, decision_id=2, parent_id=1),
        report(key_of(1), ReportKind.CANCELLED, size=4, venue_id=1),
        parent(3, 6, 0, 4, state=ParentState.DONE),
        order(key_of(0, parent_id=2), 7, side=-1),
    ]


def write(path: Path | None, lines: list[Line], *, capacity: int = 1_000, seed: int = 1) -> str:
    buffer = JournalBuffer(capacity, run_id=RUN_ID)
    with JournalWriter(path, buffer=buffer, config_hash="ab12", seed=seed) as writer:
        for index, (kind, payload) in enumerate(lines):
            if buffer.pending == capacity:
                writer.flush()
            assert buffer.append(kind, START_NS + index, payload)
        return writer.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "run.journal", story())
    return tmp_path / "run.journal"


def test_a_committed_journal_verifies_to_the_hash_it_was_committed_with(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    sha256 = write(path, story())
    summary = verify_journal(path)
    assert summary.sha256 == sha256
    assert (summary.run_id, summary.record_count) == (RUN_ID, len(story()) + 2)
    assert (summary.first_ts_ns, summary.last_ts_ns) == (START_NS, START_NS + len(story()) - 1)
    assert summary.records_by_kind == {
        "RUN": 1,
        "PARENT": 3,
        "DECISION": 2,
        "ORDER": 3,
        "REFUSAL": 1,
        "REPORT": 4,
        "REWARD": 1,
        "END": 1,
    }
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_hash_depends_on_content_only_not_on_flushes_or_on_a_file(tmp_path: Path) -> None:
    hashes = {
        write(tmp_path / "a", story()),
        write(tmp_path / "b", story(), capacity=1),
        write(tmp_path / "c", story(), capacity=3),
        write(None, story()),
    }
    assert len(hashes) == 1
    assert write(None, story(), seed=2) not in hashes


def test_an_empty_run_is_a_journal(tmp_path: Path) -> None:
    write(tmp_path / "empty", [])
    summary = verify_journal(tmp_path / "empty")
    assert (summary.record_count, summary.first_ts_ns) == (2, None)


def test_a_run_that_fails_leaves_no_file_and_the_old_one_alone(path: Path) -> None:
    before = path.read_bytes()

    def fail_halfway() -> None:
        with JournalWriter(path, buffer=JournalBuffer(10)) as writer:
            writer.flush()
            assert path.with_name("run.journal.partial").exists()
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_writer_needs_a_fresh_buffer_and_a_hexadecimal_hash(tmp_path: Path) -> None:
    used = JournalBuffer(10)
    used.append(JournalKind.WINDOW, 0, bytes(64))
    with pytest.raises(ConfigError, match="fresh buffer"):
        JournalWriter(tmp_path / "x", buffer=used)
    with pytest.raises(ConfigError, match="hexadecimal"):
        JournalWriter(tmp_path / "x", buffer=JournalBuffer(1), config_hash="xyz")
    assert list(tmp_path.iterdir()) == []


def test_reading_by_kind_gives_typed_payloads(path: Path) -> None:
    reader = JournalReader(path)
    assert reader.run_id == RUN_ID
    assert reader.orders()["size_lots"].tolist() == [6, 4, 7]
    assert reader.orders(limit=2)["venue_id"].tolist() == [0, 1]
    assert reader.reports()["fee_nano"].tolist() == [0, -5, 25, 0]
    assert reader.refusals()["reason"].tolist() == [Reason.RISK_NOTIONAL]
    assert reader.decisions()["decision_id"].tolist() == [1, 2]
    assert reader.rewards()["reward"].tolist() == [0.5]
    assert reader.parents()["filled_lots"].tolist() == [0, 6, 6]
    assert len(reader.of_kind(JournalKind.MODEL)) == 0


def changed(path: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    damaged = path.with_name("damaged.journal")
    damaged.write_bytes(data)
    return damaged


def at(row: int, offset: int = 0) -> int:
    return HEADER_BYTES + row * RECORD_BYTES + offset


def flip(offset: int) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(offset, data[offset] ^ 1)


def foreign_version(data: bytearray) -> None:
    data[8] = 2
    data[60:64] = crc32c(bytes(data[:60])).to_bytes(4, "little")


LAST = len(story()) + 1


@pytest.mark.parametrize(
    ("change", "rule", "row"),
    [
        (lambda data: data.clear(), "must begin with", None),
        (lambda data: data.__delitem__(slice(40, None)), "header of 64 bytes, was 40", None),
        (lambda data: data.__delitem__(slice(64, None)), "was empty", None),
        (flip(0), "must begin with", None),
        (foreign_version, "format version must be 1, was 2", None),
        (flip(20), "header's checksum", None),
        (lambda data: data.__delitem__(slice(-1, None)), "truncated after 95 bytes", LAST),
        (lambda data: data.__delitem__(slice(-RECORD_BYTES, None)), "one END record", LAST - 1),
        (lambda data: data.extend(data[-RECORD_BYTES:]), "sequence must run on", LAST + 1),
        (flip(at(3, 28)), "record version must be 1", 3),
        (flip(at(3, 40)), "checksum must match", 3),
        (flip(at(3, 16)), "chain must follow", 3),
        (lambda data: data.__delitem__(slice(at(3), at(4))), "sequence must run on without a gap, was 4", 3),
    ],
)
def test_damage_is_refused_by_file_record_and_rule(
    path: Path, change: Callable[[bytearray], object], rule: str, row: int | None
) -> None:
    damaged = changed(path, change)
    with pytest.raises(DataError, match=rule) as caught:
        verify_journal(damaged)
    assert caught.value.path == str(damaged)
    assert caught.value.row == row


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (verify_journal, JournalReader, replay_state):
        with pytest.raises(DataError, match=r"nowhere: must be a readable file"):
            read(tmp_path / "nowhere")


def test_totals_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "forged"
    buffer = JournalBuffer(10, run_id=RUN_ID)
    with JournalWriter(path, buffer=buffer) as writer:
        buffer.append(JournalKind.END, 0, bytes(64))
        writer.commit()
    with pytest.raises(DataError, match="one END record"):
        verify_journal(path)


def test_replay_folds_to_positions_open_orders_and_parents(path: Path) -> None:
    state = replay_state(path)
    assert state.positions == {(0, 0): 6}
    assert state.fees_nano == {0: 20}
    assert (state.bought_lots[0], state.sold_lots[0]) == (6, 0)
    assert [each.open_lots for each in state.open_orders.values()] == [7]
    assert (state.parents, state.parents_ended) == ({}, {"DONE": 1})
    assert state.decisions_pending == {2}


def test_equal_journals_replay_to_one_state_hash_and_others_do_not(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", story(), capacity=2)
    write(tmp_path / "shorter", story()[:-1])
    assert replay_state(tmp_path / "again").state_hash == replay_state(path).state_hash
    assert replay_state(tmp_path / "shorter").state_hash != replay_state(path).state_hash


@pytest.mark.parametrize(
    ("lines", "rule", "row"),
    [
        ([report(key_of(0), ReportKind.FILL, size=1)], "name an open journaled order", 1),
        ([order(key_of(0), 3), report(key_of(0), ReportKind.FILL, size=4)], "1 to the 3 open lots, was 4", 2),
        ([order(key_of(0), 3), report(key_of(0), ReportKind.FILL, size=1, side=-1)], "side", 2),
        ([order(key_of(0), 3), report(key_of(0), ReportKind.FILL, size=1, venue_id=1)], "venue", 2),
        (
            [
                order(key_of(0), 3),
                report(key_of(0), ReportKind.CANCELLED, size=3),
                report(key_of(0), ReportKind.FILL, size=1),
            ],
            "name an open journaled order",
            3,
        ),
        ([parent(1, 0, 9)], r"must be its size 10, was 0 \+ 9 \+ 0", 1),
        ([parent(1, -1, 11)], "must be its size 10", 1),
        ([parent(1, 4, 6)], "its 0 journaled fill lots, was 4", 1),
        ([parent(2, 0, 10), parent(2, 0, 10)], "must grow beyond 2, was 2", 2),
        ([parent(2, 0, 10), parent(1, 0, 10)], "must grow beyond 2, was 1", 2),
        ([parent(1, 0, 10, state=ParentState.CANCELLED)], "ended parent has nothing open", 1),
        ([line(JournalKind.REWARD, REWARD_DTYPE, decision_id=9)], "name a decision without one, was 9", 1),
        ([line(JournalKind.DECISION, DECISION_DTYPE, decision_id=9)] * 2, "used once", 2),
    ],
)
def test_replay_refuses_a_story_that_cannot_be(
    tmp_path: Path, lines: list[Line], rule: str, row: int
) -> None:
    write(tmp_path / "story", lines)
    verify_journal(tmp_path / "story")
    with pytest.raises(DataError, match=rule) as caught:
        replay_state(tmp_path / "story")
    assert caught.value.row == row


def test_a_resend_adds_nothing_and_a_replace_may_fill_beyond_the_first_size(tmp_path: Path) -> None:
    lines = [
        order(key_of(0), 3),
        order(key_of(0), 3),
        order(key_of(0), 5, action=OrderAction.REPLACE),
        report(key_of(0), ReportKind.FILL, size=5, leaves=0),
    ]
    write(tmp_path / "story", lines)
    state = replay_state(tmp_path / "story")
    assert (state.positions[0, 0], state.open_orders) == (5, {})


def test_a_refusal_takes_back_only_the_order_right_before_it(tmp_path: Path) -> None:
    def refusal(key: int) -> Line:
        return line(JournalKind.REFUSAL, REPORT_DTYPE, client_order_id=key, kind=ReportKind.REJECTED)

    lines = [
        order(key_of(0), 3),
        order(key_of(1), 3),
        refusal(key_of(1)),
        # A replace that the gate refused: its order stays and may fill.
        refusal(key_of(0)),
        report(key_of(0), ReportKind.FILL, size=1, leaves=2),
    ]
    write(tmp_path / "story", lines)
    assert list(replay_state(tmp_path / "story").open_orders) == [key_of(0)]


def test_journals_longer_than_a_chunk_verify_replay_and_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.journal_format.CHUNK_RECORDS", 3)
    monkeypatch.setattr("engine.journal.CHUNK_RECORDS", 3)
    write(tmp_path / "a", story())
    write(tmp_path / "b", [*story()[:-1], order(key_of(0, parent_id=2), 8, side=-1)])
    assert verify_journal(tmp_path / "a").record_count == LAST + 1
    assert replay_state(tmp_path / "a").positions == {(0, 0): 6}
    assert JournalReader(tmp_path / "a").orders(limit=3)["size_lots"].tolist() == [6, 4, 7]
    difference = diff_journals(tmp_path / "a", tmp_path / "b")
    assert difference is not None
    assert (difference.row, difference.fields) == (LAST - 1, {"size_lots": (7, 8)})


def test_the_same_journal_does_not_differ_from_itself(path: Path) -> None:
    assert diff_journals(path, path) is None


def test_the_first_difference_is_told_in_words(path: Path, tmp_path: Path) -> None:
    other = story()
    other[3] = order(key_of(1), 4, venue_id=2, side=-1, action=OrderAction.CANCEL)
    write(tmp_path / "other", other)
    difference = diff_journals(path, tmp_path / "other")
    assert difference is not None
    assert difference.row == 4
    assert difference.fields == {"venue_id": (1, 2), "action": ("NEW", "CANCEL"), "side": ("buy", "sell")}
    assert difference.a is not None
    assert difference.a["client_order_id"] == "run 42 parent 1 leg 1 attempt 0"
    assert difference.a["kind"] == "ORDER"


def test_a_journal_that_ends_early_differs_where_it_ends(path: Path, tmp_path: Path) -> None:
    short = changed(path, lambda data: data.__delitem__(slice(at(5), None)))
    difference = diff_journals(path, short)
    assert difference is not None
    assert (difference.row, difference.b) == (5, None)
    assert difference.a is not None
    assert difference.a["reason"] == "RISK_NOTIONAL"


def test_a_difference_in_the_chain_alone_is_named(path: Path) -> None:
    difference = diff_journals(path, changed(path, flip(at(3, 16))))
    assert difference is not None
    assert list(difference.fields) == ["chain"]


def command(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["journal", *map(str, words)])
    return args.run(args)


def test_the_command_verifies(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", path, path, "--json") == 0
    journals = json.loads(capsys.readouterr().out.splitlines()[-1])["journals"]
    assert len(journals) == 2
    assert journals[0]["sha256"] == verify_journal(path).sha256
    assert journals[0]["state_hash"] == replay_state(path).state_hash
    assert command("verify", path) == 0
    printed = capsys.readouterr().out
    assert "every record holds" in printed
    assert journals[0]["sha256"][-4:] in printed


def test_the_command_compares(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "other", story(), seed=2)
    assert command("diff", path, path) == 0
    assert "the same" in capsys.readouterr().out
    assert command("diff", path, tmp_path / "other") == 1
    assert "record 0" in capsys.readouterr().out
    assert command("diff", path, tmp_path / "other", "--json") == 1
    assert json.loads(capsys.readouterr().out)["difference"]["fields"] == {"seed": [1, 2]}


def test_the_command_shows(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("show", path, "--kind", "report", "--limit", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "payload.kind=FILL" in lines[1]
    assert "2014-05-13T" in lines[1]
    assert command("show", path, "--limit", "100", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["records"]) == LAST + 1
    with pytest.raises(ConfigError, match="--kind must be one of RUN"):
        command("show", path, "--kind", "nonsense")


def test_every_payload_layout_fills_its_place() -> None:
    from engine.journal_format import PAYLOAD_DTYPES

    assert set(PAYLOAD_DTYPES) == set(JournalKind)
    assert {dtype.itemsize for dtype in PAYLOAD_DTYPES.values()} == {64}
    assert JOURNAL_DTYPE["payload"].itemsize == 64
