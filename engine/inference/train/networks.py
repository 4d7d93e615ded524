"""The networks of the ladder in torch, each with one head per horizon.

All are causal: the answer at a row depends on that row and earlier ones only. So one pass over a stretch
of n rows gives n answers to learn from, where a pass over one window would give one; per answer, training
costs a hundredth. The exported graph (`forecast_export.py`) answers for the last row of a window.

A network's reach is at most the window, hence both forms see the same rows. In the encoder every token sees
a fixed number of tokens before it, so its reach is bounded as a convolution's is.
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

    def seen(self, rows: Tensor) -> Tensor:
        """Return (batch, rows, width): what the convolutions make of every row and its past."""
        current = torch.relu(self.lift(self.standardise(rows).transpose(1, 2)))
        for layer, dilation in zip(self.conv, self.dilations, strict=True):
            padded = functional.pad(current, ((self.kernel - 1) * dilation, 0))
            current = current + torch.relu(layer(padded))
        return current.transpose(1, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.seen(rows))


class Attention(nn.Module):
    """One pre-norm block: self-attention over the last tokens, then a dense layer of four times the width.

    A bias per head and distance says where a token stands.
    """

    def __init__(self, shape: ForecastShape, span: int) -> None:
        super().__init__()
        width = shape.width
        self.attention_heads = shape.attention_heads
        self.span = span
        self.norm_attention = nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.distance = nn.Parameter(torch.zeros(shape.attention_heads, span + 1))
        self.mix = nn.Linear(width, width)
        self.norm_dense = nn.LayerNorm(width)
        self.rise = nn.Linear(width, 4 * width)
        self.fall = nn.Linear(4 * width, width)

    def forward(self, current: Tensor) -> Tensor:
        batch, tokens, width = current.shape

        def split(values: Tensor) -> Tensor:
            return values.reshape(batch, tokens, self.attention_heads, -1).transpose(1, 2)

        back = torch.arange(tokens)[:, None] - torch.arange(tokens)
        outside = (back < 0) | (back > self.span)
        bias = self.distance[:, back.clamp(0, self.span)].masked_fill(outside, float("-inf"))
        normed = self.norm_attention(current)
        seen = functional.scaled_dot_product_attention(
            split(self.query(normed)), split(self.key(normed)), split(self.value(normed)), attn_mask=bias
        )
        current = current + self.mix(seen.transpose(1, 2).reshape(batch, tokens, width))
        return current + self.fall(torch.relu(self.rise(self.norm_dense(current))))


class Encoder(CausalConvolutions):
    """Convolutions, then a transformer over every `stride`-th of the rows they saw.

    A row's tokens are those a multiple of `stride` before it. A stretch holds `stride` such series, which
    are answered as if they were a batch.
    """

    def __init__(self, shape: ForecastShape) -> None:
        super().__init__(shape)
        self.stride = shape.stride
        self.block = nn.ModuleList(Attention(shape, span) for span in shape.spans)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, rows: Tensor) -> Tensor:
        current = self.seen(rows)
        batch, length, width = current.shape
        # Rows before the first are nobody's past: answers that count stand a reach behind them.
        current = functional.pad(current, (0, 0, -length % self.stride, 0))
        current = current.reshape(batch, -1, self.stride, width).transpose(1, 2).flatten(0, 1)
        for block in self.block:
            current = block(current)
        current = current.reshape(batch, self.stride, -1, width).transpose(1, 2).flatten(1, 2)
        return self.head(self.norm(current[:, -length:]))


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
