"""From a strategy's name on the command line to one that is sized to the data, with its limits and model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data.events import EventSource
    from engine.inference.session import InferenceSession
    from engine.risk import RiskLimits
    from engine.strategy import Strategy

Maker = Callable[[], "Strategy"]


def open_model(path: Path) -> InferenceSession:
    """Open an ONNX file on the fastest tier that runs it."""
    from engine.inference.model_file import read_model
    from engine.inference.tiers import open_session

    return open_session(read_model(path), source=path, batch_max=1)


def load_strategy(text: str) -> type[Strategy]:
    """Return the strategy class that ``FILE.py:Class`` names.

    Raises
    ------
    ConfigError
        There is no such file or class, or it is no strategy.
    StrategyError
        The file does not compile or raises.
    """
    import importlib.util
    import sys

    from data.errors import ConfigError
    from engine.strategy import Strategy, StrategyError

    file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"a strategy must be a known name or an existing FILE.py:Class, was {text!r}")
    spec = importlib.util.spec_from_file_location(f"strategy_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: expected a readable Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up here.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise StrategyError(f"{path} cannot be loaded", error) from error
    found = getattr(module, name, None)
    if not isinstance(found, type) or not issubclass(found, Strategy):
        raise ConfigError(f"{path}: expected a class {name} derived from engine.Strategy, was {found!r}")
    return found


def strategy_makers(names: Sequence[str], *, lots: int, has_model: bool = False) -> dict[str, Maker]:
    """Return what makes each strategy, by its class, or by its whole text where two share that name.

    Raises
    ------
    ConfigError
        A strategy would have to do without the forecast that it follows.
    """
    from data.errors import ConfigError

    texts = list(dict.fromkeys(names))
    if "signal_taker" in texts and not has_model:
        raise ConfigError("signal_taker trades on a forecast: expected backtest --model ONNX, was none")
    short = [text.rpartition(":")[2] or text for text in texts]
    return {
        text if short.count(name) > 1 else name: strategy_maker(text, lots=lots)
        for text, name in zip(texts, short, strict=True)
    }


def strategy_maker(text: str, *, lots: int) -> Maker:
    """Return what makes a fresh strategy of a name or of ``FILE.py:Class``, sized by `lots`."""
    from engine.strategies import MarketMaker, SignalTaker, Twap

    known: dict[str, Maker] = {
        "market_maker": lambda: MarketMaker(
            size_lots=lots, position_lots_max=10 * lots, requote_ns=250_000_000
        ),
        "twap": lambda: Twap(size_lots=100 * lots),
        "signal_taker": lambda: SignalTaker(size_lots=lots),
    }
    return known[text] if text in known else _guarded(load_strategy(text), text)


def _guarded(kind: type[Strategy], text: str) -> Maker:
    """Return what makes a user's strategy, and calls an error of its constructor the user's."""
    from engine.strategy import StrategyError

    def make() -> Strategy:
        try:
            return kind()
        except Exception as error:
            raise StrategyError(f"{text} cannot be made", error) from error

    return make


def typical_lots(source: EventSource) -> int:
    """Return the median size of the first events that show one: what one quote is worth here."""
    import numpy as np

    first = next(source.blocks(4_096))
    sizes = first["size_lots"][first["size_lots"] > 0]
    return max(1, int(np.median(sizes))) if len(sizes) else 1


def limits_for(lots: int, source: EventSource) -> RiskLimits:
    """Return the default limits, widened where strategies of this size need more."""
    from dataclasses import replace

    from ..api import default_limits

    limits = default_limits(source.instrument)
    return replace(
        limits,
        order_size_lots_max=max(limits.order_size_lots_max, 20 * lots),
        position_lots_max=max(limits.position_lots_max, 200 * lots),
    )
