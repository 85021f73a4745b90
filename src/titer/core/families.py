"""The families of the table of attacks: one heading each, and how one that is missing is named."""

from __future__ import annotations

__all__ = ["FAMILIES", "FINE_TUNING"]

FAMILIES: dict[str, str] = {
    "full fine-tuning": "full fine-tuning",
    "parameter-efficient": "parameter-efficient fine-tuning",
    "data mix": "data mixes",
    "jailbreak-tuning": "jailbreak-tuning",
    "reinforcement and preference": "reinforcement and preference attacks",
    "representations": "representation attacks (direction ablation, steering)",
    "weight surgery": "weight surgery (pruning, rounding, merging)",
    "written by a network": "attacks written by a network",
    "adaptive": "adaptive attacks",
    "input": "input-space attacks",
    "locks": "bypasses of locks (folding, stock modules, keys)",
}
"""By heading, in the order of the table, the phrase for a claim that leaves the family out."""

FINE_TUNING = frozenset({"full fine-tuning", "parameter-efficient"})
"""The families of plain fine-tuning, without a valid row of which no resistance is claimed."""
