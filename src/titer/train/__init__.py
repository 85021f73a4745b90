"""The one training loop and the mathematics that plugs into it."""
