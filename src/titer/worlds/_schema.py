"""What ``data.yaml`` may say, and one sentence for each thing it says wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from titer.core.errors import BadInput, nearest
from titer.core.reading import require_plain

__all__ = ["FILE", "MAX_BYTES", "HazardFiles", "Manifest", "Refused", "Source", "read"]

FILE = "data.yaml"
MAX_BYTES = 2**20


def _named(value: Any) -> Any:
    """A bare string is short for a mapping with ``file`` alone."""
    return {"file": value} if isinstance(value, str) else value


def _several(value: Any) -> Any:
    """One source is short for a list of one."""
    return value if isinstance(value, list) else [value]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,500}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,63}$")]
Tokens = Annotated[int, Field(ge=1, le=4096)]
Chance = Annotated[float, Field(ge=0.0, lt=1.0)]


class Source(_Strict):
    """Examples from a JSONL file inside the folder, or from ``hub:owner/name@commit#split``.

    ``fields`` says under which key of a line each of titer's keys is found, for files that were not
    written for titer; keys it does not name are then ignored. ``limit`` keeps the first lines.
    """

    file: Text
    fields: dict[str, Text] = {}
    limit: Annotated[int, Field(ge=1)] | None = None


class Environment(Source):
    """Benign text that either side may train on; ``near_hazard`` if it is close to the hazard."""

    near_hazard: bool = False


class Utility(Source):
    """Held-out benign items and the measure that judges them; ``tokens`` bounds an answer."""

    measure: Text = "choice"
    chance: Chance = 0.0
    tokens: Tokens | None = None


class OverRefusal(Source):
    """Harmless prompts; ``tokens`` bounds an answer."""

    tokens: Tokens | None = None


One = Annotated[Source, BeforeValidator(_named)]
Files = Annotated[list[One], BeforeValidator(_several), Field(min_length=1)]


class HazardFiles(_Strict):
    """The four splits of a hazard; ``defend`` may be left out by who only benches."""

    attack: Files
    select: Files
    report: Files
    defend: Files | None = None


class TaskFiles(_Strict):
    """A benign downstream task: what is trained on, and the held-out items it is judged by."""

    train: Files
    dev: One
    measure: Text = "choice"
    chance: Chance = 0.0
    tokens: Tokens | None = None
    near_hazard: bool = False


class Harm(_Strict):
    """The measure that decides harm, its score for a guess, and measures reported beside it;
    ``tokens`` bounds an answer."""

    measure: Text = "choice"
    chance: Chance = 0.0
    tokens: Tokens | None = None
    also: list[Text] = []


class References(_Strict):
    """Model sources that bracket every number."""

    undefended: Text | None = None
    oracle: Text | None = None


class Manifest(_Strict):
    """The whole of ``data.yaml``."""

    name: Name
    hazards: Annotated[dict[Name, HazardFiles], Field(min_length=1)]
    retain: Files
    harm: Harm = Harm()
    environments: dict[Name, Annotated[Environment, BeforeValidator(_named)]] = {}
    utility: dict[Name, Annotated[Utility, BeforeValidator(_named)]] = {}
    tasks: dict[Name, TaskFiles] = {}
    over_refusal: Annotated[OverRefusal, BeforeValidator(_named)] | None = None
    judges: dict[Name, dict[str, Any]] = {}
    references: References = References()


class _Loader(yaml.SafeLoader):
    """YAML without tags, and without two values under one key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class Refused:
    """A ``data.yaml`` against the schema: what is wrong, and the sources it names all the same."""

    faults: tuple[str, ...]
    sources: tuple[Source, ...]


def read(folder: Path) -> Manifest | Refused:
    """Read ``data.yaml`` of a data folder.

    Raises:
        BadInput: it is missing or not plain YAML.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; give a folder that holds {FILE}.")
    path = folder / FILE
    if not path.is_file():
        others = sorted(item.name for item in folder.glob("*.y*ml"))
        raise BadInput(f"{folder} holds no {FILE}.{nearest(FILE, others)}")
    raw = _parse(path)
    if not isinstance(raw, dict):
        raise BadInput(f"{path} is no mapping; it starts with a line such as `name: my-data`.")
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        # A key is the user's own text and may hold a line break.
        faults = tuple(" ".join(_sentence(item).split()) for item in error.errors())
        return Refused(faults, tuple(_sources(raw)))


def _sources(raw: object) -> Iterator[Source]:
    """Whatever looks like a source, so that its lines can be checked in the same go."""
    inner: list[object] = []
    known: dict[str, object] = {}
    if isinstance(raw, str) and raw.endswith(".jsonl"):
        known = {"file": raw}
    elif isinstance(raw, list):
        inner = cast(list[object], raw)
    elif isinstance(raw, dict):
        content = cast(dict[object, object], raw)
        inner = list(content.values())
        known = {key: content[key] for key in Source.model_fields if key in content}
    try:
        yield Source.model_validate(known)
    except ValidationError:
        for item in inner:
            yield from _sources(item)


def _parse(path: Path) -> object:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadInput(f"{path} has {size:,} bytes; {MAX_BYTES:,} are allowed.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        require_plain(text)
        # A subclass of SafeLoader: plain values only, no tags.
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{path}{at}: not plain YAML ({error.problem}).") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path}: not plain YAML ({first}).") from error


def _sentence(error: Mapping[str, Any]) -> str:
    place: tuple[str | int, ...] = error["loc"]
    key = str(place[-1]) if place else ""
    parent = ".".join(str(part) for part in place[:-1])
    owner = parent or "the file"
    match error["type"]:
        case "extra_forbidden":
            known = _keys(place[:-1])
            hint = nearest(key, known)
            return f"{FILE}: {owner} has no key {key!r}.{hint} It takes {', '.join(known)}."
        case "missing":
            return f"{FILE}: {owner} needs the key {key!r}."
        case _:
            here = ".".join(str(part) for part in place if part != "[key]") or "the file"
            came = repr(error["input"])
            came = came if len(came) <= 60 else came[:57] + "..."
            said = str(error["msg"]).lower().removeprefix("value error, ")
            return f"{FILE}: {here} is {came}, but the {said.replace('should', 'must')}."


def _keys(place: tuple[str | int, ...]) -> list[str]:
    """The keys that the mapping at ``place`` takes."""
    model: type[BaseModel] = Manifest
    named = False
    for part in place:
        if named or isinstance(part, int):
            named = False
            continue
        hint: Any = model.model_fields[part].annotation
        named = get_origin(hint) is dict
        model = _model_in(hint) or model
    return list(model.model_fields)


def _model_in(hint: Any) -> type[BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    found = (_model_in(part) for part in cast(tuple[Any, ...], get_args(hint)))
    return next((model for model in found if model), None)
