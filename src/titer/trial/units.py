"""Whom an example is about: what a share is taken of, and what varies as one."""

from __future__ import annotations

from titer.core.data import Example

__all__ = ["unit"]


def unit(example: Example) -> str:
    """The entity, where the world knows it, else the fact, else the example itself."""
    return example.entity or example.fact or example.id
