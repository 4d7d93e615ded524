"""`backtest`: one strategy over any recording, in one call."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import ConfigError
from data.instrument import Instrument
from data.schema import REPORT_DTYPE, Reason
from engine.inference.profile import load_profile
from engine.inference.session import InferenceSession, source_of
from engine.journal import JournalWriter
from engine.order_ids import run_id_of
from engine.risk import RiskLimits, make_gate
from engine.strategy import Strategy, StrategyError, is_users, make_agent
from ext.compiled_agent import CompiledAgent
from ext.event_loop import EventLoop
from ext.features import FEATURE_NAMES
from ext.journal import JournalBuffer
from ext.loop_records import EQUITY_DTYPE
from ext.order_book import OrderBook
from ext.python_agent import PythonAgent
from ext.ring_buffer import SpscRing
from ext.sim_venue import SimulatedVenue

from .console import RunProgress, run_progress
from .engines import RING_EVENTS, Engine, EnginePool
from .equity import equity_of, interval_ns, max_drawdown, sharpe_of, shortfall_bps
from .memory import PeakMemory
from .result import LatencyHistogram, Performance, Result
from .sources import VENUE_LIMIT, DataLike, Feed, checked_blocks, open_feed, place_of
from .venue_config import VenueConfig

DECISION_NS: Final = 2_000
"""Our own time from tick to order in a backtest, without the model."""

_JOURNAL_RECORDS: Final = 65_536


def backtest(
    strategy: Strategy,
    data: DataLike,
    *,
    seed: int = 1,
    instrument: Instrument | None = None,
    venue: VenueConfig | Sequence[VenueConfig] | None = None,
    limits: RiskLimits | None = None,
    equity_interval: str | int = "1min",
    session: InferenceSession | None = None,
    journal: str | PathLike[str] | None = None,
    name: str | None = None,
    start_ns: int | None = None,
    stop_ns: int | None = None,
    quiet: bool = True,
) -> Result:
    """Run a strategy over a recording and return what came of it.

    Equal arguments give equal results, down to the journal's hash.

    Parameters
    ----------
    strategy : Strategy
        Fresh: what it remembers of an earlier run is its own affair.
    data : path, array of EVENT_DTYPE or EventSource
        Quotes or trades as Parquet or CSV, a LOBSTER zip, a tick store, an ``.npy`` of events.
    seed : int
        Of latency jitter, modelled flow and the intervals.
    instrument : Instrument, optional
        Instead of what the recording tells.
    venue : VenueConfig or a sequence of them, optional
        A single one serves every venue of a store, else every one that occurs in the first 4,096 events.
    limits : RiskLimits, optional
        By default those of `RiskLimits`, the price band counted in the instrument's tick sizes.
    equity_interval : str or int
        Between points of the equity curve, such as ``"1min"``; ns as a number.
    session : InferenceSession, optional
        Of the model behind ``ctx.signal``; its latency comes from the stored profile.
    journal : path, optional
        Where the journal goes; it is hashed either way.
    name : str, optional
        Of this result; by default the strategy's class.
    start_ns, stop_ns : int, optional
        Run over events from `start_ns` on and before `stop_ns` only.
    quiet : bool
        Show no progress.

    Returns
    -------
    Result

    Raises
    ------
    DataError, ConfigError
        Before anything is run, as far as that can be told before.
    StrategyError
        The strategy raised; what it raised is the `__cause__`.
    """
    started = time.perf_counter()
    feed = open_feed(data, instrument)
    traded = instrument or feed.source.instrument
    venues = _venues(venue, feed)
    limits = limits or default_limits(traded)
    every_ns = interval_ns(equity_interval)
    model = _model(session)
    config = {
        "strategy": {"class": type(strategy).__qualname__, **_parameters(strategy)},
        "instrument": json.loads(json.dumps(asdict(traded), default=str)),
        "venues": [asdict(each) | {"queue": _queue(each, feed)} for each in venues],
        "limits": asdict(limits),
        "equity_interval_ns": every_ns,
        "decision_ns": DECISION_NS,
        "model": model,
        "start_ns": start_ns,
        "stop_ns": stop_ns,
    }
    config_hash = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    run_id = run_id_of(config_hash, seed=seed)
    agent = make_agent(strategy, instrument=traded, run_id=run_id)
    loop = _loop(agent, traded, venues, feed, limits, seed=seed, run_id=run_id)
    loop.configure(equity_interval_ns=every_ns, record_fills=True)
    if session is not None and model is not None:
        loop.configure(source=source_of(session), model_ns=model["latency_ns"])
    blocks = checked_blocks(feed.source, venue_count=len(venues), place=place_of(data))
    if start_ns is not None or stop_ns is not None:
        blocks = between(blocks, start_ns, stop_ns)
    memory = PeakMemory()
    with JournalWriter(journal, buffer=loop.journal, config_hash=config_hash, seed=seed) as writer:
        engine = Engine(name=name or type(strategy).__name__, loop=loop, writer=writer)
        with run_progress(0, description=engine.name, quiet=quiet) as progress:
            try:
                _drive(engine, agent, blocks, progress, memory)
            except Exception as error:
                if error is agent.error and is_users(strategy):
                    raise StrategyError(f"strategy {type(strategy).__name__} failed", error) from error
                raise
        journal_hash = writer.commit()
    return _result(
        engine,
        feed,
        traded,
        session,
        seed=seed,
        config=config,
        config_hash=config_hash,
        journal_hash=journal_hash,
        journal_path=None if journal is None else Path(journal),
        performance=_performance(loop, time.perf_counter() - started, memory),
    )


def default_limits(instrument: Instrument) -> RiskLimits:
    """Return the default limits, with the price band counted in the instrument's tick sizes."""
    return RiskLimits(price_band_ticks=RiskLimits().price_band_ticks * instrument.tick_size_ticks)


def between(
    blocks: Iterator[NDArray[np.void]], start_ns: int | None, stop_ns: int | None
) -> Iterator[NDArray[np.void]]:
    """Yield the events from `start_ns` on and before `stop_ns`."""
    for events in blocks:
        first = 0 if start_ns is None else int(np.searchsorted(events["ts_ns"], start_ns))
        last = len(events) if stop_ns is None else int(np.searchsorted(events["ts_ns"], stop_ns))
        if first < last:
            yield events[first:last]
        if last < len(events):
            return


def _parameters(strategy: Strategy) -> dict[str, Any]:
    """Return what the strategy says distinguishes it, once it is known to be JSON."""
    try:
        found = strategy.parameters()
        json.dumps(found, sort_keys=True)
    except Exception as error:
        if not is_users(strategy):
            raise
        what = f"parameters() of strategy {type(strategy).__name__} failed"
        raise StrategyError(what, error) from error
    return found


def _queue(venue: VenueConfig, feed: Feed) -> str:
    return feed.queue if venue.queue == "auto" else venue.queue


def _venues(venue: VenueConfig | Sequence[VenueConfig] | None, feed: Feed) -> tuple[VenueConfig, ...]:
    if venue is None or isinstance(venue, VenueConfig):
        return (venue or VenueConfig(),) * feed.venue_count
    if not 1 <= len(venue) <= VENUE_LIMIT:
        raise ConfigError(f"a backtest has 1 to {VENUE_LIMIT} venues, was {len(venue)}")
    return tuple(venue)


def _model(session: InferenceSession | None) -> dict[str, Any] | None:
    if session is None:
        return None
    if math.prod(session.row_shape) != len(FEATURE_NAMES):
        raise ConfigError(
            f"a model behind ctx.signal must read the {len(FEATURE_NAMES)} features of ext.features, "
            f"was one that reads {' by '.join(map(str, session.row_shape))}"
        )
    return {
        "sha256": session.sha256,
        "precision": session.precision,
        "latency_ns": load_profile().latency_ns(session.precision),
    }


def _loop(
    agent: PythonAgent | CompiledAgent,
    instrument: Instrument,
    venues: tuple[VenueConfig, ...],
    feed: Feed,
    limits: RiskLimits,
    *,
    seed: int,
    run_id: int,
) -> EventLoop:
    return EventLoop(
        ring=SpscRing(RING_EVENTS),
        venues=[
            SimulatedVenue(
                each.rules(queue=feed.queue, tick_size_ticks=instrument.tick_size_ticks),
                venue_id=index,
                tick_value=instrument.tick_value,
                seed=seed,
                book=OrderBook(),
            )
            for index, each in enumerate(venues)
        ],
        agent=agent,
        gate=make_gate(limits, instrument),
        journal=JournalBuffer(_JOURNAL_RECORDS, run_id=run_id),
        instrument_id=instrument.instrument_id,
        decision_ns=DECISION_NS,
        seed=seed,
    )


def _drive(
    engine: Engine,
    agent: PythonAgent | CompiledAgent,
    blocks: Iterator[NDArray[np.void]],
    progress: RunProgress,
    memory: PeakMemory,
) -> None:
    """Stream the blocks through the engine, end the run, tell the strategy."""

    def tick() -> None:
        progress.update(engine.loop.events)
        memory.look()

    agent.set_relieve(engine.collect)
    EnginePool([engine], threads=1).run_segment(blocks, tick=tick)
    agent.close()
    engine.finish()
    agent.stop()
    engine.collect()
    tick()


def _performance(loop: EventLoop, seconds: float, memory: PeakMemory) -> Performance:
    upper_ns, counts = loop.tick_to_order.occupied()
    return Performance(
        seconds=seconds,
        events_per_second=loop.events / seconds,
        peak_memory_bytes=memory.peak_bytes,
        tick_to_order=LatencyHistogram(upper_ns=upper_ns, counts=counts, max_ns=loop.tick_to_order.maximum),
        stage_seconds={},
    )


def _result(
    engine: Engine, feed: Feed, instrument: Instrument, session: InferenceSession | None, **known: Any
) -> Result:
    loop = engine.loop
    samples = _joined(engine.equity, EQUITY_DTYPE)
    fills = _joined([raw.view(REPORT_DTYPE) for raw in engine.fills], REPORT_DTYPE)
    equity = equity_of(samples, tick_value=instrument.tick_value)
    ts_ns = samples["ts_ns"].astype(np.int64)
    totals = loop.totals
    return Result(
        name=engine.name,
        headline=f"{engine.name} on {feed.source.source}",
        instrument=instrument.symbol,
        currency=instrument.currency,
        source=feed.source.source,
        events=loop.events,
        equity_ts_ns=ts_ns,
        equity=equity,
        position_lots=samples["position_lots"].astype(np.int64),
        fills=fills,
        pnl=float(equity[-1]) if equity.size else 0.0,
        fees=totals["fee_nano"] * 1e-9,
        sharpe=sharpe_of(ts_ns, equity, seed=known["seed"]),
        max_drawdown=max_drawdown(equity),
        shortfall_bps=shortfall_bps(
            fills, arrival_mid_x2=int(samples["mid_x2"][0]) if samples.size else 0, instrument=instrument
        ),
        orders=totals["orders"],
        rejections={Reason(code).name: count for code, count in loop.refusals.items()},
        data_hash=feed.source.data_hash,
        notes=(*feed.source.notes, *_model_notes(feed), *_forecast_notes(session)),
        **known,
    )


def _model_notes(feed: Feed) -> tuple[str, ...]:
    common = "the recorded market does not react to our orders beyond what they take"
    if feed.queue == "flow":
        return (common, "quotes tell nothing of the queue: how resting orders fill is modelled")
    return (common, "our orders queue behind the recorded ones")


def _forecast_notes(session: InferenceSession | None) -> tuple[str, ...]:
    # Outside the configuration, whose digest names the run: the instruction set is the machine's.
    return (
        () if session is None else (f"forecasts came from {getattr(session, 'runtime', 'a Python session')}",)
    )


def _joined(pieces: list[NDArray[np.void]], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    return np.concatenate(pieces) if pieces else np.empty(0, dtype)
