"""Hostile and mistaken input: one sentence, exit code 2, nothing written, nothing lost."""
