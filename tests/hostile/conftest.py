"""The command line, run in this process, as its own tests run it."""

from tests.cli.conftest import _wide, titer

__all__ = ["_wide", "titer"]
