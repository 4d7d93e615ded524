"""Rings between processes: stopped, killed and hostile ones among them. Nothing here depends on speed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.schema import EVENT_DTYPE, ORDER_DTYPE
from ext.ring_buffer import BroadcastRing, MpscRing, SpscRing
from ext.ring_memory import unlink_ring

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")

pytestmark = pytest.mark.skipif(not SHM.is_dir(), reason="needs POSIX shared memory as files")


def numbered(first: int, count: int) -> np.ndarray[Any, Any]:
    events = np.zeros(count, EVENT_DTYPE)
    events["order_id"] = np.arange(first, first + count)
    return events


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    chosen = f"anytick-test-{os.getpid()}-{abs(hash(request.node.nodeid)) % 10**8}"
    yield chosen
    (SHM / chosen).unlink(missing_ok=True)


class Partner:
    """A process at the other end; every answer is waited for, nothing is slept for."""

    def __init__(self, kind: str, name: str, role: str, *steps: str) -> None:
        script = Path(__file__).with_name("ring_partner.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(ROOT), kind, name, role, *steps],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        while state_of(self.process) != "T":
            os.sched_yield()

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def finish(self) -> None:
        assert self.process.wait(60) == 0


@pytest.fixture
def partner() -> Iterator[Callable[..., Partner]]:
    started: list[Partner] = []

    def start(*arguments: str) -> Partner:
        started.append(Partner(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        for pipe in (one.process.stdin, one.process.stdout):
            assert pipe is not None
            pipe.close()


def state_of(process: subprocess.Popen[str]) -> str:
    """The kernel's letter for what a process does: T is stopped."""
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0]


@pytest.mark.parametrize("mode", ["index", "stamped"])
@pytest.mark.parametrize("wait", ["spin", "yield", "block"])
def test_two_processes_see_every_event_in_order(
    name: str, partner: Callable[..., Partner], mode: Any, wait: Any
) -> None:
    count = 20_000
    ring = SpscRing(256, name=name, mode=mode, wait=wait, when_full="block", first_cursor=2**64 - 5_000)
    other = partner("SpscRing", name, "consumer", f"pop:{count}")
    assert ring.push(numbered(0, count), timeout_s=60) == count
    assert int(other.answer()) == count * (count - 1) // 2
    other.finish()
    assert (len(ring), ring.refused) == (0, 0)


def test_a_shared_ring_is_ours_alone_and_new(name: str) -> None:
    ring = SpscRing(8, name=name)
    assert (SHM / name).stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        SpscRing(8, name=name)
    with pytest.raises(OSError, match="another is alive"):
        SpscRing.attach(name, "producer")
    assert not ring.peer_alive
    consumer = SpscRing.attach(name, "consumer")
    assert ring.peer_alive
    with pytest.raises(ValueError, match="not its producer"):
        consumer.try_push(numbered(0, 1))
    with pytest.raises(ValueError, match="not its consumer"):
        ring.pop(1)
    unlink_ring(name)
    with pytest.raises(FileNotFoundError):
        SpscRing.attach(name, "consumer")
    ring.try_push(numbered(0, 3))
    assert consumer.pop(9)["order_id"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["index", "stamped"])
def test_a_killed_consumer_is_replaced_without_loss(
    name: str, partner: Callable[..., Partner], mode: Any
) -> None:
    ring = SpscRing(64, name=name, mode=mode)
    assert ring.try_push(numbered(0, 40)) == 40
    first = partner("SpscRing", name, "consumer", "pop:10", "wait")
    assert int(first.answer()) == sum(range(10))
    assert first.answer() == "ready"
    with pytest.raises(OSError, match="another is alive"):
        SpscRing.attach(name, "consumer")
    first.kill()
    assert not ring.peer_alive
    second = SpscRing.attach(name, "consumer")
    assert second.pop(64)["order_id"].tolist() == list(range(10, 40))


@pytest.mark.parametrize("mode", ["index", "stamped"])
def test_a_killed_producer_is_replaced_without_loss(
    name: str, partner: Callable[..., Partner], mode: Any
) -> None:
    ring = SpscRing(64, name=name, mode=mode, role="consumer")
    first = partner("SpscRing", name, "producer", "push:10", "wait")
    assert first.answer() == "ready"
    first.kill()
    assert not ring.peer_alive
    assert not ring.closed
    second = SpscRing.attach(name, "producer")
    second.try_push(numbered(10, 5))
    assert ring.pop(64)["order_id"].tolist() == list(range(15))


TAIL, INTENT = 3 * 128 // 8, 3 * 128 // 8 + 1  # words of a ring's memory


def test_a_producer_that_ended_between_a_stamp_and_the_tail_is_gone_on_from(name: str) -> None:
    ring = SpscRing(8, name=name, mode="stamped")
    ring.try_push(numbered(0, 3))
    np.memmap(SHM / name, np.uint64, mode="r+")[TAIL] = 2
    del ring
    again, consumer = SpscRing.attach(name, "producer"), SpscRing.attach(name, "consumer")
    assert again.try_push(numbered(3, 2)) == 2
    assert consumer.pop(8)["order_id"].tolist() == [0, 1, 2, 3, 4]


def test_slots_that_an_ended_producer_had_half_written_stay_lost(name: str) -> None:
    ring = SpscRing(16, name=name, when_full="drop-oldest")
    ring.push(numbered(0, 16))
    block = np.memmap(SHM / name, np.uint64, mode="r+")
    block[INTENT] += 4
    del ring
    again, consumer = SpscRing.attach(name, "producer"), SpscRing.attach(name, "consumer")
    again.push(numbered(16, 1))
    assert block[INTENT] == 20
    assert consumer.pop(16)["order_id"].tolist() == list(range(4, 17))
    assert consumer.lost == 4


def test_a_consumer_killed_at_any_moment_leaves_whole_records(
    name: str, partner: Callable[..., Partner]
) -> None:
    ring = SpscRing(64, name=name, when_full="block", wait="block")
    pushed = 0
    for _ in range(3):
        victim = partner("SpscRing", name, "consumer", "forever")
        assert victim.answer() == "ready"
        assert ring.push(numbered(pushed, 5_000), timeout_s=60) == 5_000
        pushed += 5_000
        victim.kill()
    last = SpscRing.attach(name, "consumer")
    rest = last.pop(64)["order_id"].tolist()
    assert rest == list(range(pushed - len(rest), pushed))
    assert ring.try_push(numbered(pushed, 64)) == 64


def test_a_stopped_consumer_gates_and_is_counted_then_goes_on(
    name: str, partner: Callable[..., Partner]
) -> None:
    ring = BroadcastRing(16, name=name, consumers_max=2)
    slow = partner("BroadcastRing", name, "consumer", "wait", "pop:24")
    assert slow.answer() == "ready"
    quick = ring.subscribe()
    slow.stop()
    assert ring.try_push(numbered(0, 16)) == 16
    assert len(quick.pop(16)) == 16
    assert ring.try_push(numbered(16, 8)) == 0
    held = [entry[2] for entry in ring.consumers]
    assert held == [1, 0]
    assert ring.refused == 8
    slow.resume()
    slow.go_on()
    pushed = 16
    while pushed < 24:
        pushed += ring.try_push(numbered(pushed, 24 - pushed))
    assert int(slow.answer()) == sum(range(24))
    assert quick.pop(16)["order_id"].tolist() == list(range(16, 24))


def test_a_stopped_consumer_of_a_dropping_ring_counts_what_it_lost(
    name: str, partner: Callable[..., Partner]
) -> None:
    ring = BroadcastRing(16, name=name, when_full="drop-oldest")
    slow = partner("BroadcastRing", name, "consumer", "wait", "pop:16", "wait")
    assert slow.answer() == "ready"
    slow.stop()
    assert ring.try_push(numbered(0, 1_000)) == 1_000
    slow.resume()
    slow.go_on()
    assert int(slow.answer()) == sum(range(984, 1_000))
    assert ring.consumers[0] == (True, 0, 0, 984)


@pytest.mark.parametrize("kind", [SpscRing, BroadcastRing])
@pytest.mark.parametrize("wait", ["yield", "block"])
def test_a_stopped_consumer_holds_a_blocking_producer_for_its_time_and_no_longer(
    name: str, partner: Callable[..., Partner], kind: type[SpscRing | BroadcastRing], wait: Any
) -> None:
    ring = kind(16, name=name, when_full="block", wait=wait)
    slow = partner(kind.__name__, name, "consumer", "wait", "pop:24")
    assert slow.answer() == "ready"
    slow.stop()
    assert ring.push(numbered(0, 20), timeout_s=0.01) == 16
    assert ring.refused == 4
    assert (ring.held if isinstance(ring, SpscRing) else ring.consumers[0][2]) == 1
    slow.resume()
    slow.go_on()
    assert ring.push(numbered(16, 8), timeout_s=60) == 8
    assert int(slow.answer()) == sum(range(24))


def test_a_stopped_consumer_loses_the_oldest_of_a_dropping_ring_and_says_how_many(
    name: str, partner: Callable[..., Partner]
) -> None:
    ring = SpscRing(16, name=name, when_full="drop-oldest")
    slow = partner("SpscRing", name, "consumer", "wait", "pop:16")
    assert slow.answer() == "ready"
    slow.stop()
    assert ring.push(numbered(0, 1_000)) == 1_000
    slow.resume()
    slow.go_on()
    assert int(slow.answer()) == sum(range(984, 1_000))
    assert (ring.lost, ring.refused) == (984, 0)


def test_a_stopped_producer_holds_nobody_back(name: str, partner: Callable[..., Partner]) -> None:
    ring = MpscRing(64, name=name, producers_max=2)
    slow = partner("MpscRing", name, "producer", "push:7", "wait", "push:2", "wait")
    assert slow.answer() == "ready"
    slow.stop()
    assert ring.producer().push(numbered(0, 5)) == 5
    assert len(ring.pop(99)) == 12
    slow.resume()
    slow.go_on()
    assert slow.answer() == "ready"
    assert ring.pop(99)["order_id"].tolist() == [7, 8]


def test_a_killed_broadcast_consumer_gates_nobody(name: str, partner: Callable[..., Partner]) -> None:
    ring = BroadcastRing(16, name=name, consumers_max=2, when_full="block")
    dead = partner("BroadcastRing", name, "consumer", "wait")
    assert dead.answer() == "ready"
    ring.push(numbered(0, 16))
    dead.kill()
    assert ring.push(numbered(16, 48), timeout_s=60) == 48
    assert [entry[0] for entry in ring.consumers] == [False, False]
    assert ring.subscribe().place == 0


def test_a_killed_mpsc_producer_leaves_no_hole(name: str, partner: Callable[..., Partner]) -> None:
    ring = MpscRing(64, name=name, producers_max=2)
    dead = partner("MpscRing", name, "producer", "push:7", "wait")
    living = partner("MpscRing", name, "producer", "push:5", "close", "wait")
    assert (dead.answer(), living.answer()) == ("ready", "ready")
    with ring_lanes_full(ring):
        dead.kill()
    events = np.concatenate([ring.pop(4), ring.pop(4), ring.pop(99)])
    assert sorted(events["order_id"].tolist()) == sorted([*range(7), *range(5)])
    assert ring.drained
    assert ring.producer().try_push(numbered(0, 1)) == 1


class ring_lanes_full:
    """One lane is closed, one is a living process's: exactly one producer may still join."""

    def __init__(self, ring: MpscRing) -> None:
        self.ring = ring

    def __enter__(self) -> None:
        self.third = self.ring.producer()
        with pytest.raises(OSError, match="all 2 producers"):
            self.ring.producer()

    def __exit__(self, *_: object) -> None:
        self.third.close()


HEADER_BYTES = 80


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(offset=st.integers(0, HEADER_BYTES - 1), bit=st.integers(0, 7))
def test_a_header_with_any_bit_changed_is_refused(name: str, offset: int, bit: int) -> None:
    (SHM / name).unlink(missing_ok=True)
    SpscRing(8, name=name)
    raw = bytearray((SHM / name).read_bytes())
    raw[offset] ^= 1 << bit
    (SHM / name).write_bytes(raw)
    with pytest.raises(ValueError, match=f"ring {name}: "):
        SpscRing.attach(name, "consumer")


def checksummed(raw: bytes, **changes: int) -> bytes:
    """Return a header with fields changed by somebody who knows how to make the checksum fit."""
    names = "magic version kind mode policy wait record_bytes capacity lane_count consumer_count record_type "
    names += "first_cursor total_bytes checksum"
    layout = np.dtype(
        {
            "names": names.split(),
            "formats": ["<u8", *["<u4"] * 6, "<u8", *["<u4"] * 2, *["<u8"] * 4],
        }
    )
    assert layout.itemsize == HEADER_BYTES
    header = np.frombuffer(raw[:HEADER_BYTES], layout).copy()
    for field, value in changes.items():
        header[field] = value
    digest = 0xCBF29CE484222325
    for byte in header.tobytes()[8:72]:
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    header["checksum"] = digest
    return header.tobytes() + raw[HEADER_BYTES:]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"capacity": 2**63}, "power of two up to"),
        ({"capacity": 0}, "power of two up to"),
        ({"capacity": 16}, "total bytes"),
        ({"capacity": 16, "total_bytes": 2_048}, "size must be|total bytes"),
        ({"record_bytes": 0}, "whole words"),
        ({"record_bytes": 2**32 - 8}, "whole words"),
        ({"record_bytes": 44}, "whole words"),
        ({"mode": 2}, "total bytes"),
        ({"mode": 3}, "mode must be"),
        ({"policy": 0}, "policy must be"),
        ({"wait": 9}, "wait must be"),
        ({"kind": 2}, "must be SPSC"),
        ({"kind": 0}, "kind must be"),
        ({"lane_count": 2**32 - 1}, "lanes must be"),
        ({"consumer_count": 2**32 - 1}, "consumers must be"),
        ({"consumer_count": 2}, "only a broadcast ring"),
        ({"version": 2}, "version must be 1"),
        ({"record_type": 1}, "another type"),
        ({"magic": 0}, "magic word missing"),
    ],
    ids=str,
)
def test_a_forged_header_is_refused_by_rule(name: str, changes: dict[str, int], rule: str) -> None:
    SpscRing(8, name=name)
    (SHM / name).write_bytes(checksummed((SHM / name).read_bytes(), **changes))
    with pytest.raises(ValueError, match=rule):
        SpscRing.attach(name, "consumer")


def test_other_sizes_owners_and_cursors_are_refused(name: str) -> None:
    SpscRing(8, name=name)
    whole = (SHM / name).read_bytes()
    for raw in (b"", whole[:100], whole[:-1], whole + b"\0"):
        (SHM / name).write_bytes(raw)
        with pytest.raises(ValueError, match=f"ring {name}: "):
            SpscRing.attach(name, "consumer")
    tail = 3 * 128
    (SHM / name).write_bytes(whole[:tail] + (10**6).to_bytes(8, "little") + whole[tail + 8 :])
    with pytest.raises(ValueError, match="one capacity"):
        SpscRing.attach(name, "consumer")
    (SHM / name).write_bytes(whole)
    for mode in (0o644, 0o640, 0o604, 0o620, 0o602):
        (SHM / name).chmod(mode)
        with pytest.raises(ValueError, match="mode 0600"):
            SpscRing.attach(name, "consumer")


def test_what_is_no_file_of_ours_is_refused(name: str) -> None:
    SpscRing(8, name=f"{name}-real")
    try:
        (SHM / name).symlink_to(SHM / f"{name}-real")
        with pytest.raises(OSError, match="symbolic link"):
            SpscRing.attach(name, "consumer")
        with pytest.raises(FileExistsError):
            SpscRing(8, name=name)
    finally:
        unlink_ring(f"{name}-real")
    (SHM / name).unlink()
    os.mkfifo(SHM / name, 0o600)
    with pytest.raises(ValueError, match="must be a plain file"):
        SpscRing.attach(name, "consumer")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_ring_of_another_user_is_refused(name: str) -> None:
    SpscRing(8, name=name)
    os.chown(SHM / name, 65_534, -1)
    with pytest.raises(ValueError, match="was uid 65534"):
        SpscRing.attach(name, "consumer")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    cursors=st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4),
    mode=st.sampled_from(["index", "stamped"]),
)
def test_cursors_damaged_while_attached_reach_no_other_memory(
    name: str, cursors: list[int], mode: Any
) -> None:
    """Garbage in, garbage out, but never outside the ring; a debug build would stop at its checks."""
    from ext.layout_info import DEBUG_BUILD

    if DEBUG_BUILD:
        pytest.skip("a debug build stops at damaged cursors")
    (SHM / name).unlink(missing_ok=True)
    ring = SpscRing(8, name=name, mode=mode)
    consumer = SpscRing.attach(name, "consumer")
    block = np.memmap(SHM / name, np.uint64, mode="r+")
    line = 128 // 8
    for place, value in zip((3 * line, 3 * line + 1, 4 * line, 4 * line + 1), cursors, strict=True):
        block[place] = value
    for count in (1, 5, 100):
        assert 0 <= ring.try_push(numbered(0, count)) <= 8
        assert len(consumer.pop(count)) <= 8
        assert 0 <= len(consumer) <= 8


def test_names_and_types_are_checked(name: str) -> None:
    for bad in ("", "/x", "a/b", "..", "a b", "x" * 300, "\0"):
        with pytest.raises(ValueError, match="name must be"):
            SpscRing(8, name=bad)
    SpscRing(8, name=name, dtype=ORDER_DTYPE)
    with pytest.raises(ValueError, match="records must be"):
        SpscRing.attach(name, "consumer")
    with pytest.raises(ValueError, match="role must be"):
        SpscRing.attach(name, "both")  # type: ignore[arg-type]
    assert SpscRing.attach(name, "consumer", dtype=ORDER_DTYPE).dtype == ORDER_DTYPE
