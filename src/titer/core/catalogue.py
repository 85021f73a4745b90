"""The folder is the catalogue: ``attacks/finetune.py`` *is* the attack ``finetune``.

Listing reads file names and the literal parts of the source, so it imports no method and no torch;
``card`` imports one file. Installed packages add methods by an entry point in ``titer.attacks``,
``titer.defences`` or ``titer.measures`` that names a module with a ``CARD``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.records import Card, Kind, Preset, Target, content_key

__all__ = [
    "FOLDERS",
    "Summary",
    "access",
    "build",
    "card",
    "families",
    "names",
    "outside",
    "preset",
    "presets",
    "repairs",
    "speaks",
    "summaries",
    "target",
]

FOLDERS: dict[Kind, str] = {"attack": "attacks", "defence": "defences", "measure": "measures"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a listing shows of a method, read without importing it. ``presets`` maps the name of
    each to its family."""

    name: str
    summary: str
    source: str
    family: str
    access: str
    version: int
    settings: tuple[str, ...]
    presets: Mapping[str, str]
    repairs: bool = False
    plugin: str = ""


@cache
def _folder(kind: Kind) -> Path:
    if kind not in FOLDERS:
        raise UnknownName(
            f"there is no kind {kind!r} of method.{nearest(str(kind), FOLDERS)} "
            f"There are {', '.join(FOLDERS)}."
        )
    return Path(__file__).parent.parent / FOLDERS[kind]


def _own(kind: Kind) -> frozenset[str]:
    folder = _folder(kind)
    return _files(folder, folder.stat().st_mtime_ns)


@cache
def _files(folder: Path, changed: int) -> frozenset[str]:
    """Read once for as long as no file is added or taken away."""
    return frozenset(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _plugins(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    """Installed plug-ins by name. One that bears the name of a method of titer's does not count:
    no package may change what ``finetune`` means."""
    own = _own(kind)
    found = importlib.metadata.entry_points(group=f"titer.{FOLDERS[kind]}")
    return {entry.name: entry for entry in found if entry.name not in own}


def outside(kind: Kind, name: str) -> str:
    """A hash of the package that brings a plug-in and of the file that holds it; empty for a method
    of titer's own. Nothing is imported but the package around it."""
    if (plugin := _plugins(kind).get(name)) is None:
        return ""
    try:
        found = importlib.util.find_spec(plugin.module)
    except (ImportError, ValueError):  # what is wrong with it is said where it is built
        found = None
    path = Path(found.origin) if found and found.origin else None
    code = path.read_bytes() if path and path.is_file() else b""
    bearer = plugin.dist
    of = [bearer.name, bearer.version] if bearer else []
    return content_key([plugin.value, of, hashlib.sha256(code).hexdigest()])


def names(kind: Kind) -> list[str]:
    """Every method of a kind, in alphabetical order: titer's own and installed plug-ins."""
    return sorted({*_own(kind), *_plugins(kind)})


def card(kind: Kind, name: str) -> Card:
    """The card of one method; imports its file.

    Raises:
        UnknownName: no such method; the message names the nearest.
        BadInput: a plug-in that does not import or holds no card.
    """
    if name in _own(kind):
        return importlib.import_module(f"titer.{FOLDERS[kind]}.{name}").CARD
    known = names(kind)
    if name not in known:
        raise UnknownName(
            f"no {kind} named {name!r}.{nearest(name, known)} "
            f"`titer list {FOLDERS[kind]}` prints all {len(known)}."
        )
    plugin = _plugins(kind)[name]
    try:
        found = getattr(plugin.load(), "CARD", None)
    except Exception as error:
        raise BadInput(
            f"the plug-in {kind} {name!r} does not import ({error}); uninstall or mend it."
        ) from error
    if not isinstance(found, Card):
        raise BadInput(f"the plug-in {kind} {name!r} has no CARD; give its module one.")
    if found.kind != kind:
        raise BadInput(
            f"the plug-in {kind} {name!r} has the card of a {found.kind}; "
            f"register it under titer.{FOLDERS[found.kind]}."
        )
    return found


def presets(kind: Kind) -> dict[str, str]:
    """Every preset name of titer's own methods and the method that holds it, nothing imported."""
    return {row: name for name in sorted(_own(kind)) for row in _own_summary(kind, name).presets}


def preset(kind: Kind, name: str) -> tuple[str, Preset]:
    """A preset by its name, with the method it belongs to.

    Raises:
        UnknownName: no such preset.
    """
    table = presets(kind)
    if name not in table:
        raise UnknownName(f"no {kind} preset named {name!r}.{nearest(name, table)}")
    return table[name], card(kind, table[name]).presets[name]


def families(kind: Kind) -> dict[str, str]:
    """The family of every preset of titer's own methods, nothing imported."""
    return {
        row: family
        for name in sorted(_own(kind))
        for row, family in _own_summary(kind, name).presets.items()
    }


def access(kind: Kind, name: str) -> str:
    """What a method gets at: its card's ``access``. Empty for one that is not installed here."""
    if name in _own(kind):
        return _own_summary(kind, name).access
    return card(kind, name).access if name in _plugins(kind) else ""


def repairs(name: str) -> bool:
    """Whether an attack mends what it broke, as its card says; False for one that is not installed
    here."""
    if name in _own("attack"):
        return _own_summary("attack", name).repairs
    return name in _plugins("attack") and card("attack", name).repairs


def target(measure: str) -> Target:
    """What a study asks whose harm is this measure."""
    return "refusal" if card("measure", measure).family in ("refusal", "judge") else "knowledge"


def speaks(measure: str) -> bool:
    """Whether a measure has the model speak, so that the tokens of an answer are bounded."""
    return any(spec.name == "max_new_tokens" for spec in fields(card("measure", measure).build))


def build(kind: Kind, name: str, settings: dict[str, Any] | None = None) -> Any:
    """A method object by name, with some fields set; texts are read by the field's type. A setting
    of a method that a field holds is named with that field before it: ``base.lr``.

    Raises:
        UnknownName: no such method or field.
        BadInput: a value that does not fit its field.
    """
    method = card(kind, name).build
    own, within = _divided(settings or {})
    made = _made(name, method, method, own)
    return _with_inner(name, made, within)


def _made(name: str, make: Any, method: type[Any], own: Mapping[str, Any]) -> Any:
    """``make`` called with fields of the class ``method``, read by their types."""
    known = {spec.name for spec in fields(method)}
    chosen: dict[str, Any] = {}
    for key, value in own.items():
        if key not in known:
            raise UnknownName(
                f"{name} has no setting {key!r}.{nearest(key, known)} "
                f"It has {', '.join(sorted(known)) or 'none'}.{_inside(method, key)}"
            )
        chosen[key] = _fit_value(method, name, key, value)
    try:
        return make(**chosen)
    except (TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{name}: {error}") from error


def _divided(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A method's own settings, and those of the methods in its fields."""
    own: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        if dot:
            within.setdefault(head, {})[rest] = value
        else:
            own[key] = value
    return own, within


def _with_inner(name: str, made: Any, within: Mapping[str, Mapping[str, Any]]) -> Any:
    for head, settings in within.items():
        inner: Any = getattr(made, head, None)
        if not _is_method(inner):
            holders = [spec.name for spec in fields(made) if _is_method(getattr(made, spec.name))]
            there = f"a method is in {', '.join(holders)}" if holders else "none of its fields does"
            raise UnknownName(
                f"{name}: {head!r} holds no method whose settings could be given; {there}."
            )
        own, deeper = _divided(settings)
        label = f"{name}.{head}"
        settled = _made(label, partial(replace, inner), inner.__class__, own)
        whole = {head: _with_inner(label, settled, deeper)}
        made = _made(name, partial(replace, made, **whole), made.__class__, {})
    return made


def _is_method(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type) and callable(value)


def _inside(method: type[Any], key: str) -> str:
    """Where a setting that a method has not is one of a method in its fields."""
    try:
        made = method()
    except (TypeError, ValueError):
        return ""
    for spec in fields(method):
        inner: Any = getattr(made, spec.name)
        if _is_method(inner) and key in {one.name for one in fields(inner)}:
            return f" The method in its {spec.name} has one: {spec.name}.{key}."
    return ""


@cache
def _hints(method: type[Any]) -> dict[str, Any]:
    return get_type_hints(method)


@cache
def _adapter(method: type[Any], key: str) -> Any:
    """Making one takes far longer than using it. By field and not by type: ``int | float`` equals
    ``float | int`` and reads otherwise."""
    from pydantic import TypeAdapter

    return TypeAdapter(_hints(method)[key])


def _fit_value(method: type[Any], name: str, key: str, value: Any) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(method, key)
    if isinstance(value, str) and value.lower() in {"none", "null"}:
        value = None
    try:
        if isinstance(value, str) and get_origin(_hints(method)[key]) in (Mapping, dict):
            return adapter.validate_json(value)
        fitted = adapter.validate_python(value)
        if isinstance(fitted, float) and not math.isfinite(fitted):
            raise BadInput(f"{name}: {key}={value!r} is no finite number; give one.")
        return fitted
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise BadInput(f"{name}: {key}={value!r} does not fit: {said}.") from error


def summaries(kind: Kind) -> list[Summary]:
    """One line a method, for listings."""
    plugins = _plugins(kind)
    return [
        _plugin_summary(name, plugins[name]) if name in plugins else _own_summary(kind, name)
        for name in names(kind)
    ]


def _plugin_summary(name: str, entry: importlib.metadata.EntryPoint) -> Summary:
    return Summary(
        name=name,
        summary=f"plug-in from {entry.value}",
        source="",
        family="",
        access="",
        version=0,
        settings=(),
        presets={},
        plugin=entry.value,
    )


def _own_summary(kind: Kind, name: str) -> Summary:
    path = _folder(kind) / f"{name}.py"
    return _parsed(name, path, path.stat().st_mtime_ns)


@cache
def _parsed(name: str, path: Path, changed: int) -> Summary:
    """Read once for as long as the file stays as it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    built = ""
    rows: dict[str, str] = {}
    for node in tree.body:
        target, value = _assignment(node)
        if target == "CARD" and isinstance(value, ast.Call):
            for keyword in value.keywords:
                if keyword.arg == "build":
                    built = ast.unparse(keyword.value)
                elif isinstance(keyword.value, ast.Constant):
                    values[str(keyword.arg)] = keyword.value.value
        elif target == "PRESETS" and isinstance(value, ast.Dict):
            rows = {
                str(key.value): _family(row)
                for key, row in zip(value.keys, value.values, strict=True)
                if isinstance(key, ast.Constant)
            }
    return Summary(
        name=name,
        summary=values.get("summary", ""),
        source=values.get("source", ""),
        family=values.get("family", ""),
        access=values.get("access", "gradient"),
        version=values.get("version", 1),
        settings=_settings(tree, built),
        presets=rows,
        repairs=values.get("repairs", False),
    )


def _family(row: ast.expr) -> str:
    given = row.keywords if isinstance(row, ast.Call) else ()
    found = (one.value for one in given if one.arg == "family")
    return next((str(one.value) for one in found if isinstance(one, ast.Constant)), "")


def _assignment(node: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return "", None


def _settings(tree: ast.Module, built: str) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == built:
            lines = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            return tuple(
                ast.unparse(line.target) + (f"={ast.unparse(line.value)}" if line.value else "")
                for line in lines
            )
    return ()
