"""A language model small enough for float64 and finite differences."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn


class Toy(nn.Module):
    """Embedding, one causal mean, a tanh and a head; every operation in float64.

    Stock transformers compute norms and the softmax in float32 even for float64 weights, which
    finite differences would see.
    """

    def __init__(self, vocabulary: int = 11, width: int = 6) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.embed = nn.Parameter(torch.randn(vocabulary, width, generator=draw).double())
        self.mix = nn.Parameter(torch.randn(width, width, generator=draw).double() / 2)
        self.head = nn.Parameter(torch.randn(width, vocabulary, generator=draw).double())

    def hidden(self, input_ids: Tensor) -> Tensor:
        seen = self.embed[input_ids].cumsum(1)
        place = torch.arange(1, input_ids.shape[1] + 1).double()
        return torch.tanh((seen / place[:, None]) @ self.mix)

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.hidden(input_ids) @ self.head)


@pytest.fixture
def toy() -> Toy:
    return Toy()
