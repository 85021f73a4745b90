"""Attacks, one file each: ``(LM, Run) -> LM``."""
