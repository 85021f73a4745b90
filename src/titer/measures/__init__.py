"""Measures, one file each: collect what the model says, then judge it."""
