"""Models as subjects of a study: found, checked, measured, and named apart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from titer.core import modelfolder
from titer.core.errors import NotFinite
from titer.core.interface import differences
from titer.core.study import Role, Subject
from titer.nn.scales import rescaled
from titer.trial import presets
from titer.trial.immunise import account
from titer.worlds.hub import fetch, resolve_model

__all__ = ["compared", "distinct", "is_testbed", "open_subject", "open_tested", "short_name"]


def is_testbed(subject: Subject) -> bool:
    """True for models so small that a method's testbed settings apply."""
    return presets.is_testbed(subject.parameters)


def open_subject(source: str, role: Role, *, name: str | None = None) -> Subject:
    """Find a model, check its folder, and say how large it is; grows an organism if need be.

    Raises:
        BadInput: no such model, or a folder that cannot be loaded.
    """
    found = resolve_model(source)
    folder = fetch(found)
    course, doubts = account(folder)
    return Subject(
        name=name or short_name(source),
        source=source,
        folder=str(folder),
        digest=found.digest,
        role=role,
        parameters=_parameters(folder),
        revision=found.revision,
        course=course,
        doubts=doubts,
    )


def _parameters(folder: Path) -> int:
    return sum(math.prod(shape) for shape in modelfolder.tensor_shapes(folder).values())


def open_tested(source: str, role: Role, *, name: str | None = None) -> Subject:
    """As :func:`open_subject`; but a model under test whose weights are not finite is taken in, so
    that the report says what became of it, and is not attacked.

    Raises:
        BadInput: any other fault, or a reference that is broken: nothing could be measured.
    """
    try:
        return open_subject(source, role, name=name)
    except NotFinite as error:
        folder = Path(source).expanduser()
        if role != "defended" or not folder.is_dir():
            raise
        return Subject(
            name=name or short_name(source),
            source=source,
            folder=str(folder),
            digest=modelfolder.folder_digest(folder),
            role=role,
            parameters=_parameters(folder),
            # Without the path, which is nobody's business but the user's.
            unusable=error.faults[0].removeprefix(str(folder)).split(": ", 1)[-1].split(";")[0],
        )


def compared(subject: Subject, undefended: Subject, *, scales: bool = True) -> Subject:
    """A model, the never-learned one as well, with what an attacker replaces before anything else:
    what of its interface is not the undefended model's, and ``scales`` of weights far from that
    one's.

    Raises:
        BadInput: its tokenizer or its configuration cannot be read.
    """
    if subject.role == "undefended" or subject.unusable or subject.digest == undefended.digest:
        return subject
    folders = Path(subject.folder), Path(undefended.folder)
    far = rescaled(*folders, (subject.digest, undefended.digest)) if scales else ()
    return replace(subject, differs=(*far, *differences(*folders)))


def short_name(source: str) -> str:
    """A name for a table: the last part of a path, the whole of an id."""
    tail = Path(source).name if Path(source).exists() else source
    return re.sub(r"[\x00-\x1f\x7f]", "?", tail)


def distinct(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """Subjects with names that differ: the second of a name is numbered."""
    names: dict[str, int] = {}
    kept: list[Subject] = []
    for subject in subjects:
        count = names[subject.name] = names.get(subject.name, 0) + 1
        kept.append(subject if count == 1 else replace(subject, name=f"{subject.name} ({count})"))
    return tuple(kept)
