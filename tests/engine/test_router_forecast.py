"""Quantiles, pressure, breakers and drift: what the router believes about time and models."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_samples import COSTS

from data.errors import ConfigError
from engine.inference.serving.breaker import BreakerLimits, BreakerState, CircuitBreaker
from engine.inference.serving.drift import DriftMonitor, _chi2_quantile
from engine.inference.serving.forecast import LatencyForecast, QuantileTracker
from engine.inference.serving.pressure import PressureGauge
from engine.inference.serving.readers import RunDelayReader, StallReader

MILLISECOND = 1_000_000


@given(
    st.lists(st.floats(1.0, 50.0), min_size=1, max_size=400),
    st.sampled_from((0.5, 0.9, 0.95)),
    st.sampled_from((0.02, 0.08, 0.3)),
)
def test_no_sequence_beats_the_coverage_bound(times: list[float], share: float, gain: float) -> None:
    tracker, above = QuantileTracker(share, start=1.0, gain=gain), 0
    for time in times:
        above += time > tracker.value
        tracker.update(time)
    # Gibbs and Candès, proposition 4.1, in the log domain.
    bound = (log(50.0) + gain) / (gain * len(times))
    assert abs(above / len(times) - (1.0 - share)) <= bound + 1e-9


def test_a_tail_follows_a_heavy_tailed_stream() -> None:
    random = np.random.default_rng(5)
    tracker = QuantileTracker(0.95, start=1.0)
    times = random.lognormal(0.0, 0.5, 20_000)
    hits = 0
    for time in times:
        hits += time <= tracker.value
        tracker.update(time)
    assert hits / len(times) == pytest.approx(0.95, abs=0.005)


def test_what_one_load_teaches_stays_with_that_load() -> None:
    forecast = LatencyForecast(COSTS)
    quiet_ns = forecast.tail_ns(3, 1, 1.0)
    for _ in range(100):
        forecast.observe(3, 1, 2.5, 10 * COSTS.batch_ns(3, 1))
    assert forecast.tail_ns(3, 1, 1.0) == quiet_ns
    assert forecast.tail_ns(3, 1, 2.5) > 2 * 2.5 * COSTS.batch_ns(3, 1)


def test_batches_between_measured_sizes_lie_between_measured_times() -> None:
    for variant in range(len(COSTS)):
        times = [COSTS.batch_ns(variant, count) for count in range(1, 65)]
        assert times == sorted(times)
        assert COSTS.batch_ns(variant, 16) == COSTS.times_ns[variant][4]


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf"), -1.0])
def test_impossible_times_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="times must be positive"):
        type(COSTS)([[bad] * 7])


def runs(gauge: PressureGauge, start_ns: int, *, share: float, span_ms: int, work_ms: float = 1.5) -> int:
    """Feed runs of `work_ms` whose thread had `share` of a core; return the end."""
    now_ns, end_ns = start_ns, start_ns + span_ms * MILLISECOND
    while now_ns < end_ns:
        took_ns = work_ms * MILLISECOND / share
        now_ns += int(took_ns)
        gauge.observe(now_ns, span_ns=took_ns, run_delay_ns=took_ns * (1 - share), table_ns=took_ns * share)
    return now_ns


def time_to(gauge: PressureGauge, now_ns: int, *, share: float, reached: float, rising: bool) -> int:
    for step in range(1, 1_000):
        now_ns = runs(gauge, now_ns, share=share, span_ms=1)
        if (gauge.slowdown >= reached) is rising:
            return step
    raise AssertionError("never reached")


def test_pressure_is_believed_within_forty_milliseconds_and_ten_times_sooner_than_its_end() -> None:
    gauge = PressureGauge()
    now_ns = runs(gauge, 0, share=1.0, span_ms=50)
    assert gauge.slowdown == 1.0
    before_ns = now_ns
    down = time_to(gauge, now_ns, share=0.5, reached=1.6, rising=True)
    assert down * 3 * MILLISECOND <= 40 * MILLISECOND
    now_ns = runs(gauge, before_ns, share=0.5, span_ms=200)
    assert gauge.slowdown == pytest.approx(2.0, abs=0.05)
    up = time_to(gauge, now_ns, share=1.0, reached=1.4, rising=False)
    assert up * 1.5 >= 5 * down * 3


def test_a_full_queue_and_the_kernels_account_hold_recovery_back() -> None:
    for held in ({"queue_share": 0.95}, {"psi_share": 1.0}):
        gauge = PressureGauge()
        now_ns = runs(gauge, 0, share=0.5, span_ms=100)
        free = PressureGauge()
        assert runs(free, 0, share=0.5, span_ms=100) == now_ns
        for _ in range(50):
            now_ns += MILLISECOND
            free.observe(now_ns, span_ns=MILLISECOND, run_delay_ns=0.0, table_ns=MILLISECOND)
            gauge.observe(now_ns, span_ns=MILLISECOND, run_delay_ns=0.0, table_ns=MILLISECOND, **held)
        assert 1.0 < free.slowdown < gauge.slowdown < 2.0


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e9), st.floats(-1e9, 1e10), st.floats(0, 1e6), st.floats(0, 2), st.floats(0, 2)
        ),
        max_size=60,
    )
)
def test_no_sample_makes_the_slowdown_impossible(samples: list[tuple[float, ...]]) -> None:
    gauge = PressureGauge()
    for step, (span, delay, ratio, queue, stall) in enumerate(samples):
        slowdown = gauge.observe(
            step, span_ns=span, run_delay_ns=delay, table_ns=ratio, queue_share=queue, psi_share=stall
        )
        assert 1.0 <= slowdown <= 8.0


def test_idle_time_forgets() -> None:
    gauge = PressureGauge()
    now_ns = runs(gauge, 0, share=0.5, span_ms=100)
    before = gauge.slowdown
    assert gauge.idle(now_ns + 150 * MILLISECOND) == pytest.approx(1 + (before - 1) * exp(-1))


def test_the_readers_read_this_thread_and_never_run_backwards() -> None:
    reader, stalls = RunDelayReader(), StallReader()
    first, first_stall = reader.read_ns(), stalls.read_ns()
    assert reader.read_ns() >= first >= 0
    assert stalls.read_ns() >= first_stall >= 0
    for one in (reader, stalls):
        one.close()
        one.close()
        assert one.read_ns() == 0


def test_a_machine_without_the_files_reads_as_quiet() -> None:
    assert RunDelayReader(thread_id=0).read_ns() == 0
    assert StallReader("no-such-folder/cpu").read_ns() == 0


def test_only_a_quiet_machine_corrects_the_table() -> None:
    forecast = LatencyForecast(COSTS)
    before_ns = forecast.table_ns(0, 1)
    for _ in range(200):
        forecast.observe(0, 1, 1.5, 4.0 * before_ns)
    assert forecast.table_ns(0, 1) == before_ns
    for _ in range(200):
        forecast.observe(0, 1, 1.0, 2.0 * before_ns)
    assert forecast.table_ns(0, 1) == pytest.approx(2.0 * before_ns, rel=0.1)


def test_a_tail_is_per_slowdown_and_never_below_it() -> None:
    forecast = LatencyForecast(COSTS)
    table_ns = COSTS.batch_ns(0, 1)
    for _ in range(500):
        forecast.observe(0, 1, 3.0, 3.0 * table_ns)
    assert 3.0 * table_ns <= forecast.tail_ns(0, 1, 3.0) < 3.5 * table_ns
    for _ in range(500):
        forecast.observe(0, 1, 3.0, table_ns)
    assert forecast.tail_ns(0, 1, 3.0) == 3.0 * table_ns


def test_the_pace_forgets_what_was_slower() -> None:
    forecast = LatencyForecast(COSTS)
    forecast_ns = 2.0 * COSTS.batch_ns(0, 64)
    rounds = int(2_000 * MILLISECOND / forecast_ns)
    for _ in range(rounds):
        forecast.observe(0, 64, 2.0, 2.0 * forecast_ns)
    assert forecast.pace(2.0) == pytest.approx(4.0, rel=0.05)
    for _ in range(2 * rounds):
        forecast.observe(0, 64, 2.0, forecast_ns)
    assert forecast.pace(2.0) == pytest.approx(2.0, rel=0.05)


def test_a_model_that_gives_nan_is_out_within_ten_answers() -> None:
    breaker, asked = CircuitBreaker(), 0
    while breaker.allows(0):
        breaker.record(0, ok=False)
        asked += 1
    assert asked == 3


@given(st.lists(st.booleans(), max_size=200))
def test_a_breaker_opens_exactly_at_its_limit(oks: list[bool]) -> None:
    limits = BreakerLimits(failures_max=3, window=10)
    breaker, window = CircuitBreaker(limits), []
    for ok in oks:
        window = [*window, ok][-10:]
        tripped = breaker.record(0, ok=ok)
        assert tripped == (not ok and window.count(False) >= 3)
        if tripped:
            return
        assert breaker.state is BreakerState.CLOSED


@given(st.lists(st.lists(st.sampled_from([True, True, True, False]), max_size=30), max_size=30))
def test_a_runs_answers_count_as_one_after_the_other(runs: list[list[bool]]) -> None:
    limits = BreakerLimits(open_ns=2)
    whole, single = CircuitBreaker(limits), CircuitBreaker(limits)
    for now_ns, good in enumerate(runs):
        assert whole.allows(now_ns) == single.allows(now_ns)
        tripped = [single.record(now_ns, ok=ok) for ok in good]
        assert whole.record_all(now_ns, good) == any(tripped)
        assert (whole.state, whole.trips) == (single.state, single.trips)


def test_a_breaker_tries_again_later_and_each_time_later() -> None:
    breaker = CircuitBreaker(BreakerLimits(open_ns=100))
    for _ in range(3):
        breaker.record(0, ok=False)
    assert not breaker.allows(99)
    assert breaker.allows(100)
    assert breaker.record(100, ok=False)
    assert not breaker.allows(299)
    assert breaker.allows(300)
    assert not breaker.record(300, ok=True)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.trips == 2
    # What closed it made it forget how long it was out.
    for _ in range(3):
        breaker.record(300, ok=False)
    assert not breaker.allows(399)
    assert breaker.allows(400)


def test_failures_further_apart_than_the_window_open_nothing() -> None:
    breaker = CircuitBreaker(BreakerLimits(failures_max=2, window=10))
    assert not any(breaker.record(0, ok=answer % 10 != 0) for answer in range(201))
    assert breaker.record(0, ok=False)


def drift_monitor() -> tuple[DriftMonitor, np.random.Generator]:
    random = np.random.default_rng(2)
    reference = random.standard_normal((5_000, 3)).astype(np.float32)
    return DriftMonitor(reference, random.integers(0, 3, 5_000), window=1_000), random


def test_drift_is_told_from_noise_in_inputs_and_answers() -> None:
    monitor, random = drift_monitor()
    rows = random.standard_normal((1_000, 3)).astype(np.float32)
    report = monitor.observe(rows, random.integers(0, 3, 1_000))
    assert report is not None
    assert report.drifted == ()
    rows[:, 1] += 1.0
    assert monitor.observe(rows[:400], np.full(400, 2)) is None
    report = monitor.observe(rows[400:], np.full(600, 2))
    assert report is not None
    assert report.drifted == (1, 3)


def test_the_chi_square_quantile_is_the_textbooks() -> None:
    assert _chi2_quantile(0.999, 9) == pytest.approx(27.877, rel=0.01)
