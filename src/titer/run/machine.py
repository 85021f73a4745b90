"""What a machine is: versions, processor, memory, and how it computes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from titer import __version__
from titer.core.files import write_atomic
from titer.core.reading import load_json

__all__ = ["machine", "write_machine"]


def machine() -> dict[str, Any]:
    """Versions, processor, cores, memory, free disk and caches of this machine."""
    from titer.core.files import cache_root

    versions: dict[str, str] = {}
    for name in ("torch", "transformers", "peft", "safetensors", "numpy", "scipy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    cache = cache_root()
    at = next(folder for folder in (cache, *cache.parents) if folder.exists())
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "titer": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "arithmetic": _arithmetic(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * size / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(at).free / 2**30, 1),
        "cache": str(cache),
        "packages": versions,
        "device": os.environ.get("TITER_DEVICE", "cpu"),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set; workers use one each"),
    }


def write_machine(root: Path, environment: Mapping[str, Any], *, shared: bool) -> None:
    """Write down on what machine a run folder is filled. Where other processes are at work in it
    (``shared``), one that differs from theirs stands ``beside``."""
    path, found = root / "env.json", dict(environment)
    if shared and path.is_file():
        first = load_json(path.read_text(encoding="utf-8"))
        beside = first.pop("beside", [])
        if _computes(found) not in map(_computes, (first, *beside)):
            beside = [*beside, found]
        found = {**first, "beside": beside} if beside else first
    write_atomic(path, json.dumps(found, indent=1, sort_keys=True))


def _computes(environment: Mapping[str, Any]) -> list[Any]:
    """What of a machine results hang on; its free disk is none of that."""
    return [environment.get(name) for name in ("titer", "arithmetic", "device", "packages")]


def _arithmetic() -> str | None:
    """How this machine computes; None where torch does not run. Asked of another process where this
    one has not loaded torch: looking at a machine must work on one on which torch does not."""
    if "torch" in sys.modules:
        from titer.nn.arithmetic import arithmetic

        return arithmetic()
    code = "from titer.nn.arithmetic import arithmetic; print(arithmetic())"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()


def _processor() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
