"""What a study says: a typed value made from traces, and the sentence made from it."""

from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["ModelVerdict", "Verdict"]
