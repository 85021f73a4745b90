"""What is done to a model's insides: which weights train, and what is read by hooks."""

from typing import TYPE_CHECKING

from titer.core.lazy import lazily

if TYPE_CHECKING:
    from titer.nn.adapterfile import load_adapter, save_adapter, write_adapter
    from titer.nn.edits import linears
    from titer.nn.hooks import blocks, residual, residual_after, residual_stream
    from titer.nn.locked import plain
    from titer.nn.sealed import Layout, Sealed
    from titer.nn.trainable import Parameters, Trainable
    from titer.nn.weights import Weights

__all__ = [
    "Layout",
    "Parameters",
    "Sealed",
    "Trainable",
    "Weights",
    "blocks",
    "linears",
    "load_adapter",
    "plain",
    "residual",
    "residual_after",
    "residual_stream",
    "save_adapter",
    "write_adapter",
]

__getattr__ = lazily(
    __name__,
    {
        "adapterfile": "load_adapter save_adapter write_adapter",
        "edits": "linears",
        "hooks": "blocks residual residual_after residual_stream",
        "locked": "plain",
        "sealed": "Layout Sealed",
        "trainable": "Parameters Trainable",
        "weights": "Weights",
    },
)
