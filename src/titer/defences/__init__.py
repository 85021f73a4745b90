"""Defences, one file each: ``(LM, Run) -> LM``."""
