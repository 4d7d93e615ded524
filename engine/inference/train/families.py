"""The families of the ladder: what is trained, how long, and the INT8 form each ships in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..forecast_export import ForecastShape
from ..lob_features import FEATURE_COUNT, WINDOW
from .fit import FitConfig

# Six layers of three taps reach back over 95 rows. Each dilation divides the next, so that a file needs to
# compute only every second, fourth, eighth… row of the layers below.
_DILATIONS: Final = (1, 2, 4, 8, 16, 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One architecture.

    Parameters
    ----------
    form : str
        The INT8 form by `quantize_forms.form_named`. Fixed, since a form chosen by its measured speed
        would make a build's files depend on the machine's load; docs/MODELS.md has the measurements.
    """

    name: str
    shape: ForecastShape
    config: FitConfig
    form: str


def _tcn(name: str, width: int, config: FitConfig) -> Family:
    return Family(
        name=name,
        shape=ForecastShape(
            kind="tcn", window=WINDOW, features=FEATURE_COUNT, width=width, dilations=_DILATIONS
        ),
        config=config,
        form="static-u8s8-channel",
    )


FAMILIES: Final = (
    Family(
        name="mlp-tiny",
        shape=ForecastShape(kind="mlp", window=1, features=FEATURE_COUNT, width=64, depth=2),
        config=FitConfig(),
        form="static-u8s8-channel",
    ),
    _tcn("tcn-small", 36, FitConfig()),
    _tcn("tcn-medium", 72, FitConfig()),
    _tcn("tcn-large", 144, FitConfig(epochs=2, learning_rate=1e-3)),
    Family(
        name="encoder",
        shape=ForecastShape(
            kind="encoder",
            window=WINDOW,
            features=FEATURE_COUNT,
            width=192,
            dilations=(1, 2, 4),
            stride=8,
            spans=(5, 5),
        ),
        config=FitConfig(epochs=2, learning_rate=1e-3),
        form="static-u8s8-channel",
    ),
)
