"""The networks of the ladder in torch, each with one head per horizon.

All are causal: the answer at a row depends on that row and earlier ones only. So one pass over a stretch
of n rows gives n answers to learn from, where a pass over one window would give one; per answer, training
costs a hundredth. The exported graph (`forecast_export.py`) answers for the last row of a window.

A convolution's reach is at most the window, hence both forms see the same rows. The encoder is trained
on stretches of exactly one window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..forecast_export import ForecastShape
from ..graph import CLASS_COUNT


class Standardise(nn.Module):
    """(x − center) · inverse_scale, clipped; constants from the training days."""

    center: Tensor
    inverse_scale: Tensor

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__()
        self.clip = shape.clip
        self.register_buffer("center", torch.zeros(shape.features))
        self.register_buffer("inverse_scale", torch.ones(shape.features))

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows - self.center) * self.inverse_scale).clamp(-self.clip, self.clip)


class Perceptron(nn.Module):
    """Dense layers over one row."""

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__()
        self.standardise = Standardise(shape)
        widths = (shape.features, *([shape.width] * shape.depth))
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(shape.width, CLASS_COUNT * shape.heads_out)

    def forward(self, rows: Tensor) -> Tensor:
        current = self.standardise(rows)
        for layer in self.dense:
            current = torch.relu(layer(current))
        return self.head(current)


class CausalConvolutions(nn.Module):
    """Residual blocks of dilated causal convolutions (van den Oord et al. 2016; Bai et al. 2018)."""

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__()
        self.standardise = Standardise(shape)
        self.kernel = shape.kernel
        self.dilations = shape.dilations
        self.lift = nn.Conv1d(shape.features, shape.width, 1)
        self.conv = nn.ModuleList(
            nn.Conv1d(shape.width, shape.width, shape.kernel, dilation=dilation)
            for dilation in shape.dilations
        )
        self.head = nn.Linear(shape.width, CLASS_COUNT * shape.heads_out)

    def forward(self, rows: Tensor) -> Tensor:
        current = torch.relu(self.lift(self.standardise(rows).transpose(1, 2)))
        for layer, dilation in zip(self.conv, self.dilations, strict=True):
            padded = functional.pad(current, ((self.kernel - 1) * dilation, 0))
            current = current + torch.relu(layer(padded))
        return self.head(current.transpose(1, 2))


class Attention(nn.Module):
    """One pre-norm block: causal self-attention, then a dense layer of four times the width."""

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__()
        width = shape.width
        self.attention_heads = shape.attention_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mix = nn.Linear(width, width)
        self.norm_dense = nn.LayerNorm(width)
        self.rise = nn.Linear(width, 4 * width)
        self.fall = nn.Linear(4 * width, width)

    def forward(self, current: Tensor) -> Tensor:
        batch, rows, width = current.shape

        def split(values: Tensor) -> Tensor:
            return values.reshape(batch, rows, self.attention_heads, -1).transpose(1, 2)

        normed = self.norm_attention(current)
        seen = functional.scaled_dot_product_attention(
            split(self.query(normed)), split(self.key(normed)), split(self.value(normed)), is_causal=True
        )
        current = current + self.mix(seen.transpose(1, 2).reshape(batch, rows, width))
        return current + self.fall(torch.relu(self.rise(self.norm_dense(current))))


class Encoder(nn.Module):
    """A transformer over the rows of a window with learnt positions."""

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__()
        self.standardise = Standardise(shape)
        self.lift = nn.Linear(shape.features, shape.width)
        self.position = nn.Parameter(0.02 * torch.randn(shape.window, shape.width))
        self.block = nn.ModuleList(Attention(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, CLASS_COUNT * shape.heads_out)

    def forward(self, rows: Tensor) -> Tensor:
        current = self.lift(self.standardise(rows)) + self.position
        for block in self.block:
            current = block(current)
        return self.head(self.norm(current))


_KINDS: Final[dict[str, Callable[[ForecastShape], nn.Module]]] = {
    "mlp": Perceptron,
    "tcn": CausalConvolutions,
    "encoder": Encoder,
}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A torch module and the shape it was made from."""

    shape: ForecastShape
    module: Any

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return every trained number and constant by its name in the module."""
        return {name: value.detach().numpy().copy() for name, value in self.module.state_dict().items()}

    def load(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Take over weights of the same shape."""
        self.module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def make_network(shape: ForecastShape, *, seed: int) -> Network:
    """Return a network with fresh weights, a pure function of shape and seed."""
    torch.manual_seed(seed)
    return Network(shape=shape, module=_KINDS[shape.kind](shape))
