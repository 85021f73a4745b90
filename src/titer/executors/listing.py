"""The folder is the list: ``executors/processes.py`` *is* the executor ``processes``.

An executor's module holds ``SAYS``, what it is for in a few words, and ``start(workers, timeout)``,
a ``with`` block inside which jobs run there. ``workers`` is how many were asked for, None where
that is left to it, and ``timeout`` the seconds that a job may take.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import AbstractContextManager
from typing import Any

import titer.executors
from titer.core.errors import UnknownName, nearest
from titer.core.jobs import Executor

__all__ = ["DEFAULT", "listed", "start"]

DEFAULT = "processes"
"""Where jobs run unless something else is said."""


def listed() -> dict[str, str]:
    """Every executor by name, with what it is for."""
    names = sorted(one.name for one in pkgutil.iter_modules(titer.executors.__path__))
    modules: dict[str, Any] = {name: _module(name) for name in names}
    return {name: one.SAYS for name, one in modules.items() if hasattr(one, "SAYS")}


def start(
    name: str, workers: int | None, timeout: float | None
) -> AbstractContextManager[Executor]:
    """The executor of that name, ready inside the ``with`` block.

    Raises:
        UnknownName: there is none.
        BadInput: it cannot have so many workers.
    """
    known = listed()
    if name not in known:
        raise UnknownName(
            f"no executor named {name!r}.{nearest(name, known)} There are {', '.join(known)}."
        )
    return _module(name).start(workers, timeout)


def _module(name: str) -> Any:
    return importlib.import_module(f"{titer.executors.__name__}.{name}")
