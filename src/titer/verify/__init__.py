"""A run folder held against itself, its data, and the machine at hand."""
