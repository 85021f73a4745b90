"""The command line."""

from titer.cli.app import main

__all__ = ["main"]
