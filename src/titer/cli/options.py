"""Options that several commands have, each written once, and what they come to."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from titer.cli.guard import Writes
from titer.core.errors import BadInput
from titer.core.trying import TIMEOUT, VARIABLE
from titer.executors.listing import DEFAULT

__all__ = [
    "AsJson",
    "DataFolder",
    "Device",
    "Domain",
    "DryRun",
    "OneModel",
    "Out",
    "Quiet",
    "Running",
    "Seed",
    "Settings",
    "ShowAnswers",
    "Telling",
    "Where",
    "Workers",
    "bytes_of",
    "few_threads",
    "grouped",
    "loading",
    "settings_of",
    "use_device",
]

Out = Annotated[Path, typer.Option("--out", help="Where to write."), Writes()]
DataFolder = Annotated[
    str,
    typer.Option(
        "--data", help="A folder with a data.yaml, fabula, almanac, or one of `list data`."
    ),
]
Domain = Annotated[str | None, typer.Option("--domain", help="Which hazard.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, as in --set lr=1e-3; repeatable.")
]
Seed = Annotated[int, typer.Option("--seed", help="Decides every draw.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes, one thread each; default one a core.")
]
Where = Annotated[
    str, typer.Option("--executor", help="Where trials run: processes, or inline, one by one.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a trial may take.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where models run: cpu, cuda, cuda:1; default TITER_DEVICE."),
]
LoadTimeout = Annotated[
    float | None,
    typer.Option(
        "--load-timeout",
        help="Seconds of computing that reading a model or data may take; default "
        f"{VARIABLE}, else {TIMEOUT:g}.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line at every checkpoint: loss, rate, harm.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and estimate; run nothing.")
]
ShowAnswers = Annotated[
    bool | None,
    typer.Option(
        "--show-answers/--no-show-answers",
        help="Show prompts and answers on answers.html, or hashes; as before, or text on Fabula.",
    ),
]


class Held(StrEnum):
    """How weights are held."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    auto = "auto"


class Attention(StrEnum):
    """Kernels of attention."""

    sdpa = "sdpa"
    eager = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneModel:
    """Work on one model: where the result goes, on which hazard, with which budget and settings."""

    out: Out
    data: DataFolder = "fabula"
    domain: Domain = None
    steps: Annotated[int | None, typer.Option("--steps", help="The budget in steps.")] = None
    settings: Settings = None
    seed: Seed = 0
    device: Device = None
    dtype: Annotated[
        Held, typer.Option("--dtype", help="How weights are held; saved as they came.")
    ] = Held.float32
    attention: Annotated[
        Attention | None, typer.Option("--attention", help="The kernel; default torch's choice.")
    ] = None
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="As 6GB: batches go in parts that fit, with one gradient."),
    ] = None
    save_every: Annotated[
        int | None,
        typer.Option("--save-every", help="Keep what is reached every so many steps; resumes."),
    ] = None

    def how_held(self) -> dict[str, Any]:
        """What :func:`titer.load` is told."""
        return {
            "dtype": self.dtype.value,
            "attention": self.attention.value if self.attention else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a study is run; no number depends on it."""

    executor: Where = DEFAULT
    workers: Workers = None
    timeout: Timeout = 3600.0
    device: Device = None
    show_answers: ShowAnswers = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a command tells."""

    as_json: AsJson = False
    quiet: Quiet = False
    verbose: Verbose = False
    dry_run: DryRun = False


def grouped(
    command: Callable[..., None], more: Sequence[inspect.Parameter] = ()
) -> Callable[..., None]:
    """The command with an option for each field of the dataclasses that it takes. ``more`` are
    options beside, which it takes by name."""
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for one in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(one.annotation):
            groups[one.name] = one.annotation
            options += _options(one.annotation)
        elif one.kind is one.VAR_KEYWORD:
            options += more
        else:
            options.append(one.replace(kind=one.KEYWORD_ONLY))

    @wraps(command)
    def called(**given: Any) -> None:
        made = {
            name: kind(**{spec.name: given.pop(spec.name) for spec in fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in options}
    return called


def loading(command: Callable[..., None]) -> Callable[..., None]:
    """The command with ``--load-timeout``: it reads a model or data."""

    @wraps(command)
    def called(*, load_timeout: float | None, **given: Any) -> None:
        if load_timeout is not None:
            os.environ[VARIABLE] = str(load_timeout)
        command(**given)

    own = inspect.signature(command, eval_str=True).parameters.values()
    last = inspect.Parameter(
        "load_timeout", inspect.Parameter.KEYWORD_ONLY, annotation=LoadTimeout, default=None
    )
    options = [*(one.replace(kind=one.KEYWORD_ONLY) for one in own), last]
    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in options}
    return called


def _options(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            spec.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[spec.name],
            default=inspect.Parameter.empty if spec.default is MISSING else spec.default,
        )
        for spec in fields(kind)
    ]


def use_device(asked: str | None) -> None:
    """Have this process and its workers put models on a device; None leaves it as it is.

    Raises:
        BadInput: there is no such device here.
    """
    if asked is None and "TITER_DEVICE" not in os.environ:
        return  # torch need not be loaded to know that there is a CPU
    from titer.core.lm import place

    os.environ["TITER_DEVICE"] = str(place(asked))


def few_threads(parameters: int) -> None:
    """A small model on several threads is slower than on one, and far slower on a busy machine."""
    import torch

    from titer.trial.presets import is_testbed

    if is_testbed(parameters):
        torch.set_num_threads(1)


def bytes_of(text: str | None) -> int | None:
    """What ``--memory 6GB`` allows, in bytes; GB and MB are powers of ten, GiB and MiB of two.

    Raises:
        BadInput: it is no size.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*([MG])(i?)B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise BadInput(f"--memory {text!r} is no size; write 6GB or 4096MiB.")
    number, letter, binary = found.groups()
    return round(float(number) * (1024 if binary else 1000) ** (2 if letter in "mM" else 3))


def settings_of(items: list[str] | None) -> dict[str, str]:
    """What ``--set name=value`` asks for, by name.

    Raises:
        BadInput: one of them is no setting.
    """
    found: dict[str, str] = {}
    for item in items or []:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise BadInput(f"--set {item!r} is no setting; write --set name=value.")
        found[key.strip()] = value.strip()
    return found
